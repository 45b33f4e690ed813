//! Rotation of a tenant's secret in the four steps of Secrets Manager's protocol
//! (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html>).
//! The rotation function performs one requested step at a time. `doorwardctl` performs all steps.
//!
//! Each step may be repeated, interrupted or run twice concurrently. Secrets Manager resolves conflicts: the
//! value of a version is written only once, and `AWSCURRENT` moves only from the version that the new version was
//! created from. Therefore no rotation reverts another.

use std::sync::Arc;

use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use secrecy::{ExposeSecret, SecretString};
use strum::IntoEnumIterator;
use uuid::{Builder, Uuid};

use super::{
    error::RotationError,
    renewal::{Old, Renewal, Source, renewed},
    step::{Step, StepDone, StepRequest},
    versions::{CURRENT, Moved, PENDING, Versions},
};
use crate::{
    aws::unavailable,
    domain::{Failure, SigningAlgorithm, TenantId},
    port::{Clock, Entropy, random},
    store::DynamoStore,
    token::{SecretDocument, TenantKeys},
};

/// Maximum number of writes of the record for one rotation. Each further one follows a concurrent rotation.
const ACTIVATIONS: usize = 5;

// Error codes of Secrets Manager.
const NOT_FOUND: &str = "ResourceNotFoundException";
const EXISTS: &str = "ResourceExistsException";
const INVALID_REQUEST: &str = "InvalidRequestException";
const INVALID_PARAMETER: &str = "InvalidParameterException";

/// New current version of a secret, with the new tenant credentials.
#[derive(Debug)]
pub struct NewVersion {
    /// Version ID.
    pub id: String,
    /// `tenantKey`.
    pub tenant_key: SecretString,
    /// `tenantSecret`.
    pub tenant_secret: SecretString,
    /// ID of the version that was current before; `None` for the first one.
    pub replaced: Option<String>,
    /// Whether the tenant's record names the version. The version is current also after an error.
    pub activated: Result<(), RotationError>,
}

/// Creates, tests and installs new versions of tenant secrets.
#[derive(Clone)]
pub struct Rotator {
    pub(super) client: Client,
    prefix: String,
    pub(super) store: Arc<DynamoStore>,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Rotator {
    /// Creates a rotator for the secrets whose names start with `prefix`.
    pub fn new(
        client: Client,
        prefix: String,
        store: Arc<DynamoStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { client, prefix, store, clock, entropy }
    }

    /// Performs one step that Secrets Manager requests.
    ///
    /// # Errors
    /// [`RotationError`] when the step does not fit the state of the secret, or fails.
    pub async fn step(&self, request: &StepRequest) -> Result<StepDone, RotationError> {
        let StepRequest { step, secret_id, client_request_token: token } = request;
        let versions = self.versions(secret_id).await?;
        if !versions.rotation_enabled {
            return Err(RotationError::RotationOff(versions.name));
        }
        if !versions.stages.contains_key(token) {
            return Err(RotationError::NoVersion(versions.name, token.clone()));
        }
        // An earlier rotation may have been interrupted before it wrote the record.
        self.activate(&versions, Moved::default()).await?;
        let was_current = versions.has(token, CURRENT);
        // A version that is already current was finished by an earlier or concurrent request.
        if !was_current {
            if !versions.has(token, PENDING) {
                return Err(RotationError::NotPending(versions.name, token.clone()));
            }
            match step {
                Step::CreateSecret => Box::pin(self.create(&versions, token, Renewal::SCHEDULED)).await?,
                // No other service stores a copy: Doorward reads the secret, and operators inform the callers.
                Step::SetSecret => {}
                Step::TestSecret => drop(self.test(&versions, token, Renewal::SCHEDULED).await?),
                Step::FinishSecret => {
                    let replaced = self.finish(&versions, token, Renewal::SCHEDULED).await?;
                    let moved = Moved { current: Some((token, &replaced)), retired: None };
                    self.activate(&self.versions(secret_id).await?.corrected(moved), moved).await?;
                }
            }
        }
        Ok(StepDone { tenant: versions.tenant, was_current })
    }

    /// Rotates a tenant's secret by performing all steps for a new version.
    ///
    /// An interrupted call has either changed nothing for callers or has completed the rotation. It may leave a
    /// version at `AWSPENDING`. The next call replaces that version, but a scheduled rotation of Secrets Manager
    /// waits until the stage is removed. A failed call removes the stage itself.
    ///
    /// # Errors
    /// [`RotationError`] when the secret does not exist or is invalid, or another rotation ran concurrently.
    pub async fn rotate(&self, tenant: &TenantId, renewal: Renewal) -> Result<NewVersion, RotationError> {
        let versions = self.versions(&self.name_of(tenant)).await?;
        let token = self.new_version_id()?;
        let made = self.install(&versions, &token, renewal).await;
        if made.is_err() {
            let given_up = self
                .client
                .update_secret_version_stage()
                .secret_id(&versions.name)
                .version_stage(PENDING)
                .remove_from_version_id(&token)
                .send();
            // A failure here is ignored because the first error is the one to report.
            drop(given_up.await);
        }
        made
    }

    /// Creates and installs a version. Reads the credentials before the version becomes current, because a later
    /// error would hide credentials that are already in use.
    async fn install(
        &self,
        versions: &Versions,
        token: &str,
        renewal: Renewal,
    ) -> Result<NewVersion, RotationError> {
        self.create(versions, token, renewal).await?;
        let text = self.created(versions, token).await?;
        let SecretDocument { tenant_key, tenant_secret, .. } = SecretDocument::parse(&text)?;
        let replaced = self.finish(versions, token, renewal).await?;
        let moved = Moved { current: Some((token, &replaced)), retired: None };
        let activated = async {
            let versions = self.versions(&versions.name).await?.corrected(moved);
            self.activate(&versions, moved).await
        };
        let activated = activated.await;
        Ok(NewVersion {
            id: token.to_owned(),
            tenant_key,
            tenant_secret,
            replaced: Some(replaced),
            activated,
        })
    }

    /// Writes the current version to the tenant's record, so that the functions load it. A concurrent rotation may
    /// make another version current, so the current version is read again after the write.
    pub(super) async fn activate(&self, versions: &Versions, moved: Moved<'_>) -> Result<(), RotationError> {
        let mut current = versions.at(CURRENT).map(str::to_owned);
        for _ in 0..ACTIVATIONS {
            let Some(version) = &current else {
                return Ok(());
            };
            // The keys are published before they sign.
            self.publish_moved(&versions.tenant, moved).await?;
            self.store.activate_secret(&versions.tenant, version, self.clock.now()).await?;
            let now = self.versions(&versions.name).await?.corrected(moved).at(CURRENT).map(str::to_owned);
            if now == current {
                return Ok(());
            }
            current = now;
        }
        let problem = format!("secret {} kept changing: try again", versions.name);
        Err(RotationError::Failed(Failure::Unavailable(problem.into())))
    }

    /// Creates a tenant's secret.
    ///
    /// # Errors
    /// `Exists` or `Deleted` when a secret of this name exists; other errors when the creation fails.
    pub async fn create_first(
        &self,
        tenant: &TenantId,
        algorithm: SigningAlgorithm,
    ) -> Result<NewVersion, RotationError> {
        let name = self.name_of(tenant);
        let renewal = Renewal::first(algorithm);
        let first = Source { document: None, version: None, active_since: None, others: &[] };
        let text = renewed(&first, renewal, self.clock.now(), &*self.entropy)?;
        let document = prove(tenant, &text)?;
        let made = self
            .client
            .create_secret()
            .name(&name)
            .description("Secrets of a Doorward tenant. Rotate them with doorwardctl.")
            .client_request_token(self.new_version_id()?)
            .secret_string(text.expose_secret())
            .send()
            .await;
        let SecretDocument { tenant_key, tenant_secret, .. } = document;
        match made {
            Ok(made) => {
                let id = made.version_id.unwrap_or_default();
                Ok(NewVersion { id, tenant_key, tenant_secret, replaced: None, activated: Ok(()) })
            }
            Err(error) if error.code() == Some(EXISTS) => {
                // Reports `Deleted` if the existing secret is scheduled for deletion.
                self.versions(&name).await?;
                Err(RotationError::Exists(name))
            }
            Err(error) if error.code() == Some(INVALID_REQUEST) => Err(RotationError::Deleted(name)),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Replaces all values of a tenant's secret, so that the previous values are useless for a new tenant of the
    /// same ID. The previous version stays at `AWSPREVIOUS` until it is retired.
    ///
    /// # Errors
    /// The errors of [`Rotator::rotate`].
    pub async fn replace(
        &self,
        tenant: &TenantId,
        algorithm: SigningAlgorithm,
    ) -> Result<NewVersion, RotationError> {
        self.rotate(tenant, Renewal::first(algorithm)).await
    }

    /// Schedules the deletion of a tenant's secret. The secret becomes unreadable at once and can be restored for
    /// `recovery_days` days. Returns `false` if the secret does not exist or is already scheduled for deletion.
    ///
    /// # Errors
    /// `Failed` when Secrets Manager rejects the request.
    pub async fn delete(&self, tenant: &TenantId, recovery_days: i64) -> Result<bool, RotationError> {
        let deleted = self
            .client
            .delete_secret()
            .secret_id(self.name_of(tenant))
            .recovery_window_in_days(recovery_days)
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(false),
            // The secret is already scheduled for deletion, or cannot be deleted, for example because of replicas.
            Err(error) => match self.versions(&self.name_of(tenant)).await {
                Err(RotationError::Deleted(_)) => Ok(false),
                _ => Err(failed(&error)),
            },
        }
    }

    /// Writes the value of a version unless an earlier or concurrent request has written it.
    async fn create(&self, versions: &Versions, token: &str, renewal: Renewal) -> Result<(), RotationError> {
        if self.value(versions, token).await?.is_some() {
            return Ok(());
        }
        let missing = || RotationError::Missing(versions.name.clone());
        let current = versions.at(CURRENT).ok_or_else(missing)?;
        let document = self.value(versions, current).await?.ok_or_else(missing)?;
        let mut others = Vec::new();
        for other in versions.stages.keys().filter(|id| *id != current && *id != token) {
            others.extend(self.value(versions, other).await?);
        }
        let active_since = self.store.secret_active_since(&versions.tenant, current).await?;
        let source =
            Source { document: Some(&document), version: Some(current), active_since, others: &others };
        let text = renewed(&source, renewal, self.clock.now(), &*self.entropy)?;
        let put = self
            .client
            .put_secret_value()
            .secret_id(&versions.name)
            .client_request_token(token)
            .secret_string(text.expose_secret())
            .version_stages(PENDING)
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            // A concurrent request has written a value for this version. That value is equally valid.
            Err(error) if error.code() == Some(EXISTS) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Tests that the new version has every capability of the current version, so that the rotation locks out no
    /// caller. Returns the tested text.
    async fn test(
        &self,
        versions: &Versions,
        token: &str,
        renewal: Renewal,
    ) -> Result<SecretString, RotationError> {
        let text = self.created(versions, token).await?;
        let document = prove(&versions.tenant, &text)?;
        if renewal.old == Old::Forgotten {
            return Ok(text);
        }
        let tenant = &versions.tenant;
        let next = TenantKeys::from_documents(tenant, &[document])?;
        let current = match versions.at(CURRENT) {
            Some(current) => self.value(versions, current).await?,
            None => None,
        };
        // An invalid current version has no capabilities to preserve.
        let current = current.and_then(|text| SecretDocument::parse(&text).ok());
        let current = current.and_then(|document| TenantKeys::from_documents(tenant, &[document]).ok());
        for algorithm in SigningAlgorithm::iter() {
            if current.as_ref().is_some_and(|current| current.can_sign(algorithm))
                && !next.can_sign(algorithm)
            {
                let problem =
                    format!("has no signing key for {}, but the current version has one", algorithm.name());
                return Err(RotationError::Unproven(tenant.clone(), problem));
            }
        }
        Ok(text)
    }

    /// Moves `AWSCURRENT` to the new version if it is still at the version that the new one was created from.
    /// Secrets Manager then moves `AWSPREVIOUS` to that version. Returns that version.
    async fn finish(
        &self,
        versions: &Versions,
        token: &str,
        renewal: Renewal,
    ) -> Result<String, RotationError> {
        let text = self.test(versions, token, renewal).await?;
        let stale = || RotationError::Stale(versions.name.clone(), token.to_owned());
        let made_from = SecretDocument::parse(&text)?.made_from.ok_or_else(stale)?;
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&versions.name)
            .version_stage(CURRENT)
            .move_to_version_id(token)
            .remove_from_version_id(&made_from)
            .send()
            .await;
        match moved {
            Ok(_) => Ok(made_from),
            Err(error) if is_refused(&error) => {
                // A concurrent request for the same version may have moved the stage.
                let is_done = self.versions(&versions.name).await?.has(token, CURRENT);
                if is_done { Ok(made_from) } else { Err(stale()) }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Returns the text of a version that must have one.
    async fn created(&self, versions: &Versions, token: &str) -> Result<SecretString, RotationError> {
        let text = self.value(versions, token).await?;
        text.ok_or_else(|| RotationError::NotCreated(versions.name.clone(), token.to_owned()))
    }

    /// Returns the text of a version, or `None` if it has none.
    pub(super) async fn value(
        &self,
        versions: &Versions,
        version: &str,
    ) -> Result<Option<SecretString>, RotationError> {
        let found = self.client.get_secret_value().secret_id(&versions.name).version_id(version).send().await;
        match found {
            Ok(found) => Ok(found.secret_string.filter(|text| !text.is_empty()).map(SecretString::from)),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    pub(super) async fn versions(&self, secret_id: &str) -> Result<Versions, RotationError> {
        let found = self.client.describe_secret().secret_id(secret_id).send().await;
        let found = found.map_err(|error| {
            if error.code() == Some(NOT_FOUND) {
                RotationError::Missing(secret_id.to_owned())
            } else {
                failed(&error)
            }
        })?;
        let name = found.name.unwrap_or_default();
        let tenant = name.strip_prefix(&self.prefix).and_then(|id| TenantId::parse(id).ok());
        let tenant = tenant.ok_or_else(|| RotationError::NotATenants(name.clone()))?;
        if found.deleted_date.is_some() {
            return Err(RotationError::Deleted(name));
        }
        Ok(Versions {
            name,
            tenant,
            rotation_enabled: found.rotation_enabled.unwrap_or_default(),
            stages: found.version_ids_to_stages.unwrap_or_default(),
        })
    }

    pub(super) fn name_of(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}", self.prefix)
    }

    /// Creates a version ID in the format of Secrets Manager.
    fn new_version_id(&self) -> Result<String, RotationError> {
        let uuid: Uuid = Builder::from_random_bytes(random(&*self.entropy)?).into_uuid();
        Ok(uuid.to_string())
    }
}

/// Tests that a document accepts its own credentials and verifies its own signatures for each algorithm.
fn prove(tenant: &TenantId, text: &SecretString) -> Result<SecretDocument, RotationError> {
    let document = SecretDocument::parse(text)?;
    let keys = TenantKeys::from_documents(tenant, std::slice::from_ref(&document))?;
    let SecretDocument { tenant_key, tenant_secret, .. } = &document;
    if keys.open_with(tenant_key, tenant_secret).is_none() {
        let problem = "does not accept its own tenantKey and tenantSecret".to_owned();
        return Err(RotationError::Unproven(tenant.clone(), problem));
    }
    keys.prove_signing()?;
    Ok(document)
}

/// Returns whether Secrets Manager rejected a request because a stage is at another version.
pub(super) fn is_refused(error: &impl ProvideErrorMetadata) -> bool {
    matches!(error.code(), Some(INVALID_PARAMETER | INVALID_REQUEST))
}

pub(super) fn failed<E, R>(error: &SdkError<E, R>) -> RotationError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    RotationError::Failed(unavailable("Secrets Manager", error))
}
