//! Rotation of a tenant's secret, by an operator or by the rotation function.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::TenantId,
    function::SystemEntropy,
    function::secret_rotation::Rotations,
    port::Clock,
    secrets::{Rotator, Step},
};
use local::{SECRET_PREFIX, TABLE};
use serde_json::{Value, json};

use crate::World;

/// The stage of the previous version, which is accepted until it is retired.
const PREVIOUS: &str = "AWSPREVIOUS";

impl World {
    /// A tenant's current secret document.
    ///
    /// # Errors
    /// When the user does not exist.
    pub async fn secret_document(&self, tenant: &str) -> Result<Value> {
        let found =
            self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        Ok(serde_json::from_str(found.secret_string().context("no text")?)?)
    }

    /// Makes `document` the current version and the current version the previous one, and writes it to the
    /// tenant's record. Returns the new version's ID.
    ///
    /// # Errors
    /// When Secrets Manager rejects the call.
    pub async fn rotate_secret(&self, tenant: &str, document: &Value) -> Result<String> {
        self.retire_previous_secret(tenant).await?;
        let version = self.put_secret(tenant, document, "AWSCURRENT").await?;
        self.store.activate_secret(&TenantId::parse(tenant)?, &version, self.clock.now()).await?;
        Ok(version)
    }

    /// Adds a version of the secret at this stage and returns its ID.
    ///
    /// # Errors
    /// When Secrets Manager rejects the call.
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

    /// Removes the stage of the previous version.
    ///
    /// # Errors
    /// When Secrets Manager rejects the call.
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

    /// The ID of the version at this stage.
    ///
    /// # Errors
    /// When the user does not exist.
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

    /// The rotator that `doorwardctl` uses.
    pub fn rotator(&self) -> Rotator {
        let client = self.counted_secrets.clone();
        let (store, entropy) = (Arc::clone(&self.store), Arc::new(SystemEntropy));
        Rotator::new(client, SECRET_PREFIX.to_owned(), store, self.clock.clone(), entropy)
    }

    /// Publishes a tenant's public keys, as `doorwardctl tenant publish-keys` does.
    ///
    /// # Errors
    /// When the tenant has no usable secret.
    pub async fn publish_keys(&self, tenant: &str) -> Result<bool> {
        Ok(self.rotator().publish(&TenantId::parse(tenant)?).await?)
    }

    /// Deletes a tenant's published keys, which earlier versions did not have.
    ///
    /// # Errors
    /// When the table does not respond.
    pub async fn unpublish_keys(&self, tenant: &str) -> Result<()> {
        let key =
            self.dynamodb.delete_item().table_name(TABLE).key("sk", AttributeValue::S("KEYS".to_owned()));
        key.key("pk", AttributeValue::S(format!("T#{tenant}#P#KEYS"))).send().await?;
        Ok(())
    }

    /// Enables the rotation of a tenant's secret.
    ///
    /// # Errors
    /// When Secrets Manager rejects the call.
    pub async fn switch_rotation_on(&self, tenant: &str) -> Result<()> {
        self.secrets.rotate_secret().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        // The emulator rotates immediately, to a version with the same text.
        self.retire_previous_secret(tenant).await
    }

    /// Starts a rotation like Secrets Manager: creates a version at `AWSPENDING` without a value.
    ///
    /// # Errors
    /// When Secrets Manager rejects the call.
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

    /// Sends a step to the rotation function.
    ///
    /// # Errors
    /// The function's error.
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
    /// The function's error.
    pub async fn send_rotation(&self, event: &Value) -> Result<Value> {
        let rotations = Rotations::new(self.rotator());
        rotations.answer(&event.to_string(), "e2e-request").await.map_err(|error| anyhow!("{error}"))
    }

    /// The ARN of a tenant's secret.
    ///
    /// # Errors
    /// When the user does not exist.
    pub async fn secret_arn(&self, tenant: &str) -> Result<String> {
        let secret =
            self.secrets.describe_secret().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        secret.arn.context("no ARN")
    }

    /// The text of a version of a tenant's secret; empty if it has no value yet.
    ///
    /// # Errors
    /// When the version does not exist.
    pub async fn secret_text(&self, tenant: &str, version: &str) -> Result<String> {
        let found = self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}"));
        Ok(found.version_id(version).send().await?.secret_string.unwrap_or_default())
    }
}
