//! Access to tenant secrets in AWS Secrets Manager. Each tenant has one secret, named `{prefix}{tenant}`.

use aws_sdk_secretsmanager::{Client, error::ProvideErrorMetadata};
use secrecy::SecretString;

use crate::{
    aws::unavailable,
    domain::{Failure, TenantId},
};

/// Default prefix of secret names.
pub const DEFAULT_PREFIX: &str = "doorward/tenants/";

/// Versions of a tenant's secret.
#[derive(Debug, Clone)]
pub struct TenantSecret {
    /// Current version. Its credentials are accepted, and its keys verify. Its keys sign, except in the first seconds
    /// after a rotation.
    pub current: SecretVersion,
    /// Previous version until it is retired. Its credentials are accepted, and its keys verify. Its keys sign in the
    /// first seconds after a rotation.
    pub previous: Option<SecretVersion>,
}

/// One version of a tenant's secret.
#[derive(Debug, Clone)]
pub struct SecretVersion {
    /// Version ID in Secrets Manager.
    pub id: String,
    /// Document text.
    pub text: SecretString,
}

/// Reads tenant secrets.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
    prefix: String,
}

impl SecretsManager {
    /// Creates a reader of the secrets whose names start with `prefix`.
    pub fn new(client: Client, prefix: String) -> Self {
        Self { client, prefix }
    }

    /// Reads the secret of a tenant; `None` if it has none.
    ///
    /// # Errors
    /// `Unavailable` if either version could not be read. Without the previous version, tokens that it signed
    /// would be rejected as if it were retired.
    pub async fn secret(&self, tenant: &TenantId) -> Result<Option<TenantSecret>, Failure> {
        let (current, previous) =
            tokio::try_join!(self.version(tenant, "AWSCURRENT"), self.version(tenant, "AWSPREVIOUS"))?;
        Ok(current.map(|current| TenantSecret { current, previous }))
    }

    /// Reads the version at a stage. `AWSPENDING` is never read, because a version must not be used before its
    /// rotation is finished (docs/design/security.md#rule-18).
    async fn version(&self, tenant: &TenantId, stage: &str) -> Result<Option<SecretVersion>, Failure> {
        let answer = self
            .client
            .get_secret_value()
            .secret_id(format!("{}{tenant}", self.prefix))
            .version_stage(stage)
            .send()
            .await;
        match answer {
            Ok(found) => Ok(Some(SecretVersion {
                id: found.version_id.unwrap_or_default(),
                text: found.secret_string.unwrap_or_default().into(),
            })),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(unavailable("Secrets Manager", &error)),
        }
    }
}
