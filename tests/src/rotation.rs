//! Rotating a tenant's secret, as an operator or a rotation function does.

use anyhow::{Context, Result};
use local::SECRET_PREFIX;
use serde_json::Value;

use crate::World;

/// The stage that opens until it is retired.
const PREVIOUS: &str = "AWSPREVIOUS";

impl World {
    /// A tenant's current secret document.
    ///
    /// # Errors
    /// When there is none.
    pub async fn secret_document(&self, tenant: &str) -> Result<Value> {
        let found =
            self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        Ok(serde_json::from_str(found.secret_string().context("no text")?)?)
    }

    /// Makes `document` the current one, and the one before the previous; the new version's id.
    ///
    /// # Errors
    /// When Secrets Manager refuses.
    pub async fn rotate_secret(&self, tenant: &str, document: &Value) -> Result<String> {
        self.retire_previous_secret(tenant).await?;
        self.put_secret(tenant, document, "AWSCURRENT").await
    }

    /// Adds a version of the secret at that stage; its id.
    ///
    /// # Errors
    /// When Secrets Manager refuses.
    pub async fn put_secret(&self, tenant: &str, document: &Value, stage: &str) -> Result<String> {
        let put = self
            .secrets
            .put_secret_value()
            .secret_id(format!("{SECRET_PREFIX}{tenant}"))
            .secret_string(document.to_string())
            .version_stages(stage)
            .send()
            .await?;
        put.version_id.context("no version")
    }

    /// Takes the previous secret's stage away.
    ///
    /// # Errors
    /// When Secrets Manager refuses.
    pub async fn retire_previous_secret(&self, tenant: &str) -> Result<()> {
        for (version, stages) in self.secret_versions(tenant).await? {
            if stages.iter().any(|stage| stage == PREVIOUS) {
                self.secrets
                    .update_secret_version_stage()
                    .secret_id(format!("{SECRET_PREFIX}{tenant}"))
                    .version_stage(PREVIOUS)
                    .remove_from_version_id(version)
                    .send()
                    .await?;
            }
        }
        Ok(())
    }

    /// The id of the version at that stage.
    ///
    /// # Errors
    /// When there is none.
    pub async fn secret_version(&self, tenant: &str, stage: &str) -> Result<String> {
        let versions = self.secret_versions(tenant).await?;
        let at = versions.into_iter().find(|(_, stages)| stages.iter().any(|known| known == stage));
        Ok(at.with_context(|| format!("no version is {stage}"))?.0)
    }

    async fn secret_versions(&self, tenant: &str) -> Result<Vec<(String, Vec<String>)>> {
        let listed = self
            .secrets
            .list_secret_version_ids()
            .secret_id(format!("{SECRET_PREFIX}{tenant}"))
            .include_deprecated(true)
            .send()
            .await?;
        let versions = listed.versions.unwrap_or_default().into_iter();
        let versions = versions.map(|version| {
            (version.version_id.unwrap_or_default(), version.version_stages.unwrap_or_default())
        });
        Ok(versions.collect())
    }
}
