//! Publication of public keys: copies them from the secret to the table, so that `discovery` needs no secret
//! (docs/design/decisions/public-keys.md).

use super::{
    error::RotationError,
    rotation::Rotator,
    versions::{CURRENT, Moved, PREVIOUS},
};
use crate::{
    domain::{Failure, PublishedKeys, TenantId},
    token::{SecretDocument, TenantKeys},
};

/// Maximum number of writes of one publication. Each further one follows a concurrent publication.
const TRIES: usize = 5;

impl Rotator {
    /// Publishes the public keys of the tenant's current and previous secret. Returns `false` if they were already
    /// published.
    ///
    /// Reads the table before the secret, and writes only if the table has not changed. A publication that was
    /// interrupted or delayed therefore never replaces a later one.
    ///
    /// # Errors
    /// [`RotationError`] when the secret does not exist or is invalid, or when the keys cannot be written.
    pub async fn publish(&self, tenant: &TenantId) -> Result<bool, RotationError> {
        self.publish_moved(tenant, Moved::default()).await
    }

    /// Publishes the public keys after stages were moved.
    pub(super) async fn publish_moved(
        &self,
        tenant: &TenantId,
        moved: Moved<'_>,
    ) -> Result<bool, RotationError> {
        for _ in 0..TRIES {
            let before = self.store.published_keys(tenant).await?;
            let versions = self.versions(&self.name_of(tenant)).await?.corrected(moved);
            let Some(version) = versions.at(CURRENT) else {
                return Err(RotationError::Missing(self.name_of(tenant)));
            };
            let previous = versions.at(PREVIOUS);
            let is_published = before.as_ref().is_some_and(|before| {
                before.keys.version == version && before.keys.previous.as_deref() == previous
            });
            if is_published {
                return Ok(false);
            }
            let missing = || RotationError::Missing(versions.name.clone());
            let text = self.value(&versions, version).await?.ok_or_else(missing)?;
            let current = SecretDocument::parse(&text)?;
            let (created_at, made_from) = (current.created_at, current.made_from.clone());
            let mut documents = vec![current];
            if let Some(previous) = previous
                && let Some(text) = self.value(&versions, previous).await?
            {
                // A malformed previous document has no keys.
                documents.extend(SecretDocument::parse(&text));
            }
            let keys = TenantKeys::from_documents(tenant, &documents)?.public_keys()?;
            let published = PublishedKeys {
                version: version.to_owned(),
                previous: previous.map(str::to_owned),
                made_from,
                created_at,
                keys,
            };
            if self.store.publish_keys(tenant, before.as_ref(), &published).await? {
                return Ok(true);
            }
        }
        let problem = format!("the public keys of tenant {tenant} kept changing: try again");
        Err(RotationError::Failed(Failure::Unavailable(problem.into())))
    }
}
