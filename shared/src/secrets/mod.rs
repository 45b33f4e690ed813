//! Tenants' records and secrets, cached.

mod document;
mod manager;
mod tenants;

pub use document::{RootKey, SecretDocument, SigningKey};
pub use manager::{DEFAULT_PREFIX, SecretsManager};
pub use tenants::{SecretUse, TenantContext, Tenants};
