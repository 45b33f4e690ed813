//! Requests of Secrets Manager for one step of a rotation.

use serde::Deserialize;
use strum::{EnumIter, IntoStaticStr};

use crate::domain::TenantId;

/// Step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, EnumIter, IntoStaticStr)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Step {
    /// Creates the new version at `AWSPENDING`.
    CreateSecret,
    /// Sets the new credentials in the service that checks them.
    SetSecret,
    /// Tests the new version.
    TestSecret,
    /// Makes the new version current.
    FinishSecret,
}

impl Step {
    /// Returns the name in the protocol.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Request of Secrets Manager for one step.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepRequest {
    /// Requested step.
    pub step: Step,
    /// ARN or name of the secret.
    pub secret_id: String,
    /// ID of the new version.
    pub client_request_token: String,
}

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDone {
    /// Tenant of the secret.
    pub tenant: TenantId,
    /// Whether the new version was already current, so that the step changed nothing.
    pub was_current: bool,
}
