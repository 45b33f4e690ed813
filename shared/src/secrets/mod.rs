//! Tenants' records and secrets, cached.

mod document;
mod manager;
mod renewal;
mod rotation;
mod tenants;

pub use document::{RootKey, SecretDocument, SigningKey};
pub use manager::{DEFAULT_PREFIX, SecretsManager};
pub use renewal::{Old, Renewal, SigningKeys};
pub use rotation::{NewVersion, RotationError, Rotator, Step, StepDone, StepRequest};
pub use tenants::{SecretUse, TenantContext, Tenants};
