//! Retirement of the previous version of a secret: its credentials and keys are no longer accepted.
//!
//! Secrets Manager is eventually consistent, so that a read may return earlier stages. Therefore only the call that
//! removes a stage decides whether a version was retired. It fails if the version does not have the stage.

use super::{
    error::RotationError,
    rotation::{NewVersion, Rotator, failed, is_refused},
    versions::{CURRENT, Moved, PREVIOUS, Versions},
};
use crate::{domain::TenantId, token::SecretDocument};

impl Rotator {
    /// Retires the previous version. Returns its version ID, or `None` if there is no previous version. First removes
    /// the stage in Secrets Manager, so that an invalid current version or a failure of the table cannot prevent it.
    /// Then publishes the remaining keys and writes the retirement to the tenant's record, so that every function drops
    /// the version. The next call completes an interrupted one, also of a rotation.
    ///
    /// # Errors
    /// `Outdated` when the stages that Secrets Manager returns are not the present ones. `Incomplete` when the keys or
    /// the record could not be written. Other errors when Secrets Manager rejects a request.
    pub async fn retire_previous(&self, tenant: &TenantId) -> Result<Option<String>, RotationError> {
        let described = self.versions(&self.name_of(tenant)).await?;
        // If the record cannot be read, the last step fails too and reports the reason.
        let record = self.store.tenant_record(tenant).await.ok().flatten();
        let active = record.and_then(|record| record.tenant.active_secret).map(|active| active.version);
        let replaced = match &active {
            Some(active) if !described.has(active, CURRENT) && !described.has(active, PREVIOUS) => {
                self.made_from(&described, active).await.filter(|replaced| described.has(replaced, CURRENT))
            }
            _ => None,
        };
        // The record names the successor of the version that Secrets Manager returns as current.
        let moved = Moved { current: active.as_deref().zip(replaced.as_deref()), retired: None };
        let versions = described.corrected(moved);
        if let Some(previous) = versions.at(PREVIOUS).map(str::to_owned) {
            if !self.remove_previous(&versions.name, &previous).await? {
                return Err(RotationError::Outdated(versions.name));
            }
            self.complete_retirement(versions, moved, Some(&previous)).await?;
            return Ok(Some(previous));
        }
        let source = match versions.at(CURRENT) {
            Some(current) => self.made_from(&versions, current).await,
            None => None,
        };
        let is_removed = match &source {
            Some(source) => self.remove_previous(&versions.name, source).await?,
            None => false,
        };
        self.complete_retirement(versions, moved, source.as_deref()).await?;
        Ok(source.filter(|_| is_removed))
    }

    /// Retires the version that a new one has replaced. Needs no answer of Secrets Manager about its stages.
    ///
    /// # Errors
    /// The errors of [`Rotator::retire_previous`].
    pub async fn retire_replaced(
        &self,
        tenant: &TenantId,
        version: &NewVersion,
    ) -> Result<(), RotationError> {
        let name = self.name_of(tenant);
        let Some(replaced) = version.replaced.as_deref() else {
            return Ok(());
        };
        if !self.remove_previous(&name, replaced).await? {
            return Err(RotationError::Outdated(name));
        }
        let moved = Moved { current: Some((&version.id, replaced)), retired: None };
        let versions = self.versions(&name).await?.corrected(moved);
        self.complete_retirement(versions, moved, Some(replaced)).await
    }

    /// Removes `AWSPREVIOUS` from a version. Returns `false` if the version does not have this stage.
    async fn remove_previous(&self, name: &str, version: &str) -> Result<bool, RotationError> {
        let removed = self
            .client
            .update_secret_version_stage()
            .secret_id(name)
            .version_stage(PREVIOUS)
            .remove_from_version_id(version)
            .send()
            .await;
        match removed {
            Ok(_) => Ok(true),
            Err(error) if is_refused(&error) => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Publishes the keys without the retired version, and writes the current version and the retirement to the tenant's
    /// record. A failed publication does not prevent that a record which already names the version gets the retirement.
    async fn complete_retirement(
        &self,
        versions: Versions,
        moved: Moved<'_>,
        retired: Option<&str>,
    ) -> Result<(), RotationError> {
        let moved = Moved { retired, ..moved };
        let versions = versions.corrected(moved);
        let activated = Box::pin(self.activate(&versions, moved)).await;
        let marked = match versions.at(CURRENT) {
            Some(current) => {
                let now = self.clock.now();
                self.store.retire_previous_secret(&versions.tenant, current, retired, now).await
            }
            None => Ok(()),
        };
        let done = activated.and(marked.map_err(RotationError::from));
        done.map_err(|error| RotationError::Incomplete(versions.name, Box::new(error)))
    }

    /// Returns the version that a version was made from; `None` if its document does not state it or is not readable.
    async fn made_from(&self, versions: &Versions, version: &str) -> Option<String> {
        let text = self.value(versions, version).await.ok().flatten()?;
        SecretDocument::parse(&text).ok()?.made_from
    }
}
