//! Counter of SDK calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
            BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
        },
    },
    error::BoxError,
    operation::{
        batch_get_item::{BatchGetItemInput, BatchGetItemOutput},
        delete_item::{DeleteItemInput, DeleteItemOutput},
        get_item::{GetItemInput, GetItemOutput},
        put_item::{PutItemInput, PutItemOutput},
        query::{QueryInput, QueryOutput},
        transact_write_items::{TransactWriteItemsInput, TransactWriteItemsOutput},
        update_item::{UpdateItemInput, UpdateItemOutput},
    },
    types::{ConsumedCapacity, ReturnConsumedCapacity},
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;

use crate::permissions::Asked;

/// The recorded calls of an SDK client.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sent: Vec<String>,
    asked: Vec<Asked>,
    in_flight: usize,
    cost: Cost,
}

/// Cost of recorded calls.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Cost {
    /// The operations by step. Operations of one step are concurrent; each step begins after the
    /// previous one ended.
    pub steps: Vec<Vec<String>>,
    /// Read units.
    pub read: f64,
    /// Write units.
    pub written: f64,
}

impl Calls {
    /// Takes the operations since the last call, sorted because concurrent ones have no order.
    pub fn take(&self) -> Vec<String> {
        let mut taken = std::mem::take(&mut self.state().sent);
        taken.sort();
        taken
    }

    /// Takes the cost of the calls since the last call.
    pub fn take_cost(&self) -> Cost {
        let mut cost = std::mem::take(&mut self.state().cost);
        for step in &mut cost.steps {
            step.sort();
        }
        cost
    }

    /// Takes the permissions that the calls since the last call required.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
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
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.state();
        let sent = operation(config);
        let body = context.request().body().bytes().unwrap_or_default();
        state.asked.extend(Asked::of(&sent, &serde_json::from_slice(body).unwrap_or_default()));
        state.sent.push(sent.clone());
        match state.cost.steps.len().checked_sub(1) {
            Some(last) if state.in_flight > 0 => state.cost.steps[last].push(sent),
            _ => state.cost.steps.push(vec![sent]),
        }
        state.in_flight += 1;
        Ok(())
    }

    fn read_after_attempt(
        &self,
        _context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        Ok(())
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        macro_rules! ask {
            ($($input:ty),+) => {
                $(if let Some(input) = context.input_mut().downcast_mut::<$input>() {
                    input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
                })+
            };
        }
        ask!(
            BatchGetItemInput,
            DeleteItemInput,
            GetItemInput,
            PutItemInput,
            QueryInput,
            TransactWriteItemsInput,
            UpdateItemInput
        );
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else {
            return Ok(());
        };
        let mut state = self.state();
        macro_rules! count {
            ($total:ident: $($output:ty),+) => {
                $(if let Some(output) = output.downcast_ref::<$output>() {
                    state.cost.$total += output.consumed_capacity.units();
                })+
            };
        }
        count!(read: BatchGetItemOutput, GetItemOutput, QueryOutput);
        count!(written: DeleteItemOutput, PutItemOutput, TransactWriteItemsOutput, UpdateItemOutput);
        Ok(())
    }
}

/// Consumed capacity units of a response, of one or several tables.
trait Used {
    fn units(&self) -> f64;
}

impl Used for Option<ConsumedCapacity> {
    fn units(&self) -> f64 {
        self.as_slice().iter().filter_map(ConsumedCapacity::capacity_units).sum()
    }
}

impl Used for Option<Vec<ConsumedCapacity>> {
    fn units(&self) -> f64 {
        self.iter().flatten().filter_map(ConsumedCapacity::capacity_units).sum()
    }
}
