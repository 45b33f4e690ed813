//! Rotating a tenant's secret, as an operator or a rotation function does.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use doorward::{
    rotation::Rotations,
    runtime::SystemEntropy,
    secrets::{Rotator, Step},
};
use local::SECRET_PREFIX;
use serde_json::{Value, json};

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

    /// What makes and installs versions of secrets, as an operator's command has it.
    pub fn rotator(&self) -> Rotator {
        let client = self.counted_secrets.clone();
        Rotator::new(client, SECRET_PREFIX.to_owned(), self.clock.clone(), Arc::new(SystemEntropy))
    }

    /// Switches the rotation of a tenant's secret on.
    ///
    /// # Errors
    /// When Secrets Manager refuses.
    pub async fn switch_rotation_on(&self, tenant: &str) -> Result<()> {
        self.secrets.rotate_secret().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        // The emulator rotates at once, to a version of the same text.
        self.retire_previous_secret(tenant).await
    }

    /// Begins a rotation as Secrets Manager does: a version at `AWSPENDING` without a value.
    ///
    /// # Errors
    /// When Secrets Manager refuses.
    pub async fn begin_rotation(&self, tenant: &str, version: &str) -> Result<()> {
        self.secrets
            .put_secret_value()
            .secret_id(format!("{SECRET_PREFIX}{tenant}"))
            .client_request_token(version)
            .version_stages("AWSPENDING")
            .send()
            .await?;
        Ok(())
    }

    /// Asks the rotation function for a step.
    ///
    /// # Errors
    /// What the function fails with.
    pub async fn rotation_step(&self, step: Step, tenant: &str, version: &str) -> Result<Value> {
        self.send_rotation(&json!({
            "Step": step.name(),
            "SecretId": format!("{SECRET_PREFIX}{tenant}"),
            "ClientRequestToken": version,
        }))
        .await
    }

    /// Sends an event to the rotation function.
    ///
    /// # Errors
    /// What the function fails with.
    pub async fn send_rotation(&self, event: &Value) -> Result<Value> {
        let rotations = Rotations::new(self.rotator());
        rotations.answer(&event.to_string(), "e2e-request").await.map_err(|error| anyhow!("{error}"))
    }

    /// The ARN of a tenant's secret.
    ///
    /// # Errors
    /// When there is none.
    pub async fn secret_arn(&self, tenant: &str) -> Result<String> {
        let secret =
            self.secrets.describe_secret().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        secret.arn.context("no ARN")
    }

    /// The text of a version of a tenant's secret; empty while it has none.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn secret_text(&self, tenant: &str, version: &str) -> Result<String> {
        let found = self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}"));
        Ok(found.version_id(version).send().await?.secret_string.unwrap_or_default())
    }
}
