//! Tenant records and secrets: loading, caching and rotation.

mod error;
mod manager;
mod publication;
mod renewal;
mod retirement;
mod rotation;
mod step;
mod tenants;
mod versions;

pub use error::RotationError;
pub use manager::{DEFAULT_PREFIX, SecretVersion, SecretsManager, TenantSecret};
pub use renewal::{Old, Renewal, SigningKeys};
pub use rotation::{NewVersion, Rotator};
pub use step::{Step, StepDone, StepRequest};
pub use tenants::{LoadedKeys, SecretUse, Tenants};
