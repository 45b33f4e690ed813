//! Clock of AWS, which the functions use too.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
};
use doorward::{function::SystemClock, port::Clock};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// Clock of AWS: the time of this machine, corrected by the header `Date` of the last response. The functions compare
/// stored times with their own clocks. A time in their past would make them refuse valid tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwsClock(Arc<Mutex<Option<SignedDuration>>>);

impl AwsClock {
    /// Returns how far this machine's clock is ahead of AWS; `None` before the first response with a date.
    pub(crate) fn skew(&self) -> Option<SignedDuration> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for AwsClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        now.checked_sub(self.skew().unwrap_or_default()).unwrap_or(now)
    }
}

impl Intercept for AwsClock {
    fn name(&self) -> &'static str {
        "clock of AWS"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let message = context.response().headers().get("date").and_then(|date| rfc2822::parse(date).ok());
        if let Some(message) = message {
            let skew = SystemClock.now().duration_since(message.timestamp());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
        Ok(())
    }
}
