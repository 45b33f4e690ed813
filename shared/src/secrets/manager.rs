//! Tenants' secret documents in AWS Secrets Manager: one secret per tenant, `{prefix}{tenant}`.

use async_trait::async_trait;
use aws_sdk_secretsmanager::{Client, operation::get_secret_value::GetSecretValueError};

use crate::{
    aws::unavailable,
    domain::{Failure, TenantId},
    port::{SecretSource, SecretVersion, TenantSecret},
};

/// Where tenants' secrets are unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "doorward/tenants/";

/// Reads tenants' secrets.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
    prefix: String,
}

impl SecretsManager {
    /// A source of the secrets under `prefix`.
    pub fn new(client: Client, prefix: String) -> Self {
        Self { client, prefix }
    }

    /// The version at a stage. `AWSPENDING` is never asked for: nothing signs or opens with a secret that its
    /// rotation has not finished (docs/design/security.md#rule-18).
    async fn stage(&self, tenant: &TenantId, stage: Stage) -> Result<Option<SecretVersion>, Failure> {
        let answer = self
            .client
            .get_secret_value()
            .secret_id(format!("{}{tenant}", self.prefix))
            .version_stage(stage.label())
            .send()
            .await;
        match answer {
            Ok(found) => Ok(Some(SecretVersion {
                id: found.version_id.unwrap_or_default(),
                text: found.secret_string.unwrap_or_default().into(),
            })),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(unavailable("Secrets Manager", &error)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Current,
    Previous,
}

impl Stage {
    fn label(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

#[async_trait]
impl SecretSource for SecretsManager {
    async fn secret(&self, tenant: &TenantId) -> Result<Option<TenantSecret>, Failure> {
        let (current, previous) =
            tokio::try_join!(self.stage(tenant, Stage::Current), self.stage(tenant, Stage::Previous))?;
        Ok(current.map(|current| TenantSecret { current, previous }))
    }
}
