//! Steps of a secret rotation, called by Secrets Manager.
//!
//! This function writes no audit events, because it decides no request of a user. CloudTrail records its calls.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::Instrument;

use super::{Config, Error, SystemClock, SystemEntropy, catch_panic, run, start_logs};
use crate::{
    aws,
    route::Function,
    secrets::{Rotator, StepRequest},
    store::DynamoStore,
};

/// Builds the function's clients and serves its steps.
///
/// # Errors
/// The configuration is incomplete, or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    start_logs();
    let config = Config::from_env()?;
    let sdk = aws::sdk_config().await;
    let client = aws_sdk_secretsmanager::Client::new(&sdk);
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), config.table));
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let rotator = Rotator::new(client, config.secret_prefix, store, clock, entropy);
    let rotations = Rotations::new(rotator);
    run(rotations, |rotations, event, request_id| async move { rotations.answer(&event, &request_id).await })
        .await
}

/// The function with its client. `main` and the tests share it.
#[derive(Clone)]
pub struct Rotations(Rotator);

impl Rotations {
    /// A function that rotates with `rotator`.
    pub fn new(rotator: Rotator) -> Self {
        Self(rotator)
    }

    /// Takes one step. Secrets Manager only checks whether the response is an error.
    ///
    /// # Errors
    /// The step failed. Secrets Manager retries the rotation later from the first step.
    pub async fn answer(&self, event: &str, request_id: &str) -> Result<Value, Error> {
        let step = async {
            // The inner result is the step's own error, the outer one a panic.
            let result: Result<Value, Error> = catch_panic(async { Ok(self.take(event).await) })
                .await
                .unwrap_or_else(|panic| Err(panic.into()));
            result.inspect_err(|cause| tracing::error!(%cause, "secret.not_rotated"))
        };
        let span = tracing::info_span!("rotation", request_id, function = Function::RotateSecret.name());
        step.instrument(span).await
    }

    async fn take(&self, event: &str) -> Result<Value, Error> {
        let request: StepRequest = serde_json::from_str(event).map_err(
            |_| "the event is not a rotation step: it must have Step, SecretId and ClientRequestToken",
        )?;
        // Boxed, because the futures of three calls with retries are large.
        let done = Box::pin(self.0.step(&request)).await?;
        let (step, version) = (request.step.name(), &request.client_request_token);
        tracing::info!(tenant = %done.tenant, step, version, was_current = done.was_current, "secret.step_taken");
        Ok(json!({ "tenant": done.tenant, "step": step, "wasCurrent": done.was_current }))
    }
}
