//! What is asked of the table, counted where the SDK sends it; and answers that get lost on their way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;

/// The operations that a client sent, in order.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sent: Vec<String>,
    losing: Option<String>,
    down: bool,
}

impl Calls {
    /// Those since the last time, sorted: what runs in parallel has no order.
    pub fn take(&self) -> Vec<String> {
        let mut taken = std::mem::take(&mut self.state().sent);
        taken.sort();
        taken
    }

    /// Loses the answer to the next call of that operation, once it is done.
    pub fn lose_answer(&self, operation: &str) {
        self.state().losing = Some(operation.to_owned());
    }

    /// Lets nothing through any more, or everything again.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn operation(config: &ConfigBag) -> String {
    config.load::<Metadata>().map_or_else(String::new, |known| known.name().to_string())
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.state();
        state.sent.push(operation(config));
        if state.down { Err("told to be down".into()) } else { Ok(()) }
    }

    fn read_before_deserialization(
        &self,
        _context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.state();
        if state.losing.as_ref() == Some(&operation(config)) {
            state.losing = None;
            return Err("the answer was lost".into());
        }
        Ok(())
    }
}
