//! Rotating a tenant's secret, by the four steps of Secrets Manager's protocol
//! (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html>).
//! The rotation function takes the steps that it is asked for; an operator's command takes them all.
//!
//! Each step may be repeated, interrupted and taken twice at once. What decides is Secrets Manager itself: a
//! version's value is written once, and `AWSCURRENT` moves only from the version that the new one was
//! made from. So no rotation undoes another.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_secretsmanager::{
    Client,
    error::SdkError,
    operation::{
        create_secret::CreateSecretError, delete_secret::DeleteSecretError,
        describe_secret::DescribeSecretError, get_secret_value::GetSecretValueError,
        put_secret_value::PutSecretValueError, update_secret_version_stage::UpdateSecretVersionStageError,
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::{Builder, Uuid};

use super::{
    SecretDocument,
    document::MalformedDocument,
    renewal::{Old, Renewal, Source, renewed},
};
use crate::{
    aws::unavailable,
    domain::{Failure, SigningAlgorithm, TenantId},
    port::{Clock, Entropy, random},
    token::{InvalidSecret, TenantKeys},
};

const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Why a secret is not rotated. Says what to do, and nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Its name is none of a tenant's.
    #[error("secret {0} is no tenant's: its name must be DOORWARD_SECRET_PREFIX and the tenant's id")]
    NotATenants(String),
    /// There is none.
    #[error("there is no secret {0}: check the tenant's id, and the prefix of the secrets' names")]
    Missing(String),
    /// It is scheduled for deletion.
    #[error(
        "secret {0} is being deleted: restore it (aws secretsmanager restore-secret), or wait until it is gone"
    )]
    Deleted(String),
    /// Rotation is not switched on.
    #[error("rotation of secret {0} is not switched on")]
    RotationOff(String),
    /// The version is not there.
    #[error("secret {0} has no version {1}")]
    NoVersion(String, String),
    /// The version is another than what is rotated to.
    #[error("version {1} of secret {0} is not at AWSPENDING: another rotation took its place")]
    NotPending(String, String),
    /// The version has no value yet.
    #[error("version {1} of secret {0} has no value: createSecret comes first")]
    NotCreated(String, String),
    /// Another version is current than the one that the pending one was made from.
    #[error(
        "version {1} of secret {0} was made from a version that is not current any more: take AWSPENDING from it \
         (aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id {1}), \
         then rotate again"
    )]
    Stale(String, String),
    /// There is one already.
    #[error(
        "there is a secret {0} already, and no such tenant in this table: it may be another stack's with the same \
         prefix, or be left from a creation that was interrupted"
    )]
    Exists(String),
    /// It is no document.
    #[error("the secret is not a JSON document of the expected shape: put it right before it is rotated")]
    Malformed,
    /// The next document would be larger than a secret may be.
    #[error("the next document would exceed 64 KiB: rotate less often, or take keys out that nothing needs")]
    TooLarge,
    /// The document cannot be used.
    #[error(transparent)]
    Unusable(#[from] InvalidSecret),
    /// What the new version is to be able to do, it is not.
    #[error("the new version of the secret of tenant {0} {1}")]
    Unproven(TenantId, String),
    /// A service does not answer, or refuses.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<MalformedDocument> for RotationError {
    fn from(_: MalformedDocument) -> Self {
        Self::Malformed
    }
}

/// A step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Make the new version, at `AWSPENDING`.
    CreateSecret,
    /// Set it where it is checked.
    SetSecret,
    /// Prove that it works.
    TestSecret,
    /// Make it the current one.
    FinishSecret,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 4] = [Self::CreateSecret, Self::SetSecret, Self::TestSecret, Self::FinishSecret];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateSecret => "createSecret",
            Self::SetSecret => "setSecret",
            Self::TestSecret => "testSecret",
            Self::FinishSecret => "finishSecret",
        }
    }
}

/// What Secrets Manager asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepRequest {
    /// Which step.
    pub step: Step,
    /// The secret's ARN or name.
    pub secret_id: String,
    /// The new version's id.
    pub client_request_token: String,
}

/// What a step was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDone {
    /// Whose secret.
    pub tenant: TenantId,
    /// Whether the new version was current before: nothing was left to do.
    pub was_current: bool,
}

/// A version that has become the current one, with what callers send from now on.
#[derive(Debug)]
pub struct NewVersion {
    /// Its id.
    pub id: String,
    /// `tenantKey`.
    pub tenant_key: SecretString,
    /// `tenantSecret`.
    pub tenant_secret: SecretString,
}

/// A secret's versions, by their stages.
struct Versions {
    name: String,
    tenant: TenantId,
    rotation_enabled: bool,
    stages: HashMap<String, Vec<String>>,
}

impl Versions {
    fn has(&self, version: &str, stage: &str) -> bool {
        self.stages.get(version).is_some_and(|stages| stages.iter().any(|known| known == stage))
    }

    fn at(&self, stage: &str) -> Option<&str> {
        self.stages.keys().find(|version| self.has(version, stage)).map(String::as_str)
    }
}

/// Makes, proves and installs new versions of tenants' secrets.
#[derive(Clone)]
pub struct Rotator {
    client: Client,
    prefix: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Rotator {
    /// A rotator of the secrets under `prefix`.
    pub fn new(client: Client, prefix: String, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { client, prefix, clock, entropy }
    }

    /// Takes one step that Secrets Manager asks for.
    ///
    /// # Errors
    /// [`RotationError`] when the step is not for this secret and version now, or cannot be taken.
    pub async fn step(&self, request: &StepRequest) -> Result<StepDone, RotationError> {
        let StepRequest { step, secret_id, client_request_token: token } = request;
        let versions = self.versions(secret_id).await?;
        if !versions.rotation_enabled {
            return Err(RotationError::RotationOff(versions.name));
        }
        if !versions.stages.contains_key(token) {
            return Err(RotationError::NoVersion(versions.name, token.clone()));
        }
        let was_current = versions.has(token, CURRENT);
        // What is current was finished, by whichever of several requests.
        if !was_current {
            if !versions.has(token, PENDING) {
                return Err(RotationError::NotPending(versions.name, token.clone()));
            }
            match step {
                Step::CreateSecret => Box::pin(self.create(&versions, token, Renewal::SCHEDULED)).await?,
                // Nobody else keeps a copy: Doorward reads the secret itself, and callers are told by people.
                Step::SetSecret => {}
                Step::TestSecret => drop(self.test(&versions, token, Renewal::SCHEDULED).await?),
                Step::FinishSecret => self.finish(&versions, token, Renewal::SCHEDULED).await?,
            }
        }
        Ok(StepDone { tenant: versions.tenant, was_current })
    }

    /// Rotates a tenant's secret: all steps, under a version of its own. Where it is interrupted, nothing has
    /// changed for anybody, or all is done. What is left at `AWSPENDING` then gives way to the next call of this,
    /// not to Secrets Manager's own schedule: that waits until the stage is taken away. What fails takes it away.
    ///
    /// # Errors
    /// [`RotationError`] when the secret is not there or unusable, or somebody else rotated it meanwhile.
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
            // As well as it can be: why it failed is what matters.
            drop(given_up.await);
        }
        made
    }

    /// What callers send is read before the version becomes current: nothing after that may keep it from them.
    async fn install(
        &self,
        versions: &Versions,
        token: &str,
        renewal: Renewal,
    ) -> Result<NewVersion, RotationError> {
        self.create(versions, token, renewal).await?;
        let text = self.created(versions, token).await?;
        let SecretDocument { tenant_key, tenant_secret, .. } = SecretDocument::parse(&text)?;
        self.finish(versions, token, renewal).await?;
        Ok(NewVersion { id: token.to_owned(), tenant_key, tenant_secret })
    }

    /// Makes a tenant's secret.
    ///
    /// # Errors
    /// `Exists` where there is one; [`RotationError`] when it cannot be made.
    pub async fn create_first(
        &self,
        tenant: &TenantId,
        algorithm: SigningAlgorithm,
    ) -> Result<NewVersion, RotationError> {
        let name = self.name_of(tenant);
        let renewal = Renewal::first(algorithm);
        let first = Source { document: None, version: None, others: &[] };
        let text = renewed(&first, renewal, self.clock.now(), &*self.entropy)?;
        let document = prove(tenant, &text)?;
        let made = self
            .client
            .create_secret()
            .name(&name)
            .description("The secrets of a Doorward tenant: rotate them with doorwardctl")
            .client_request_token(self.new_version_id()?)
            .secret_string(text.expose_secret())
            .send()
            .await;
        let SecretDocument { tenant_key, tenant_secret, .. } = document;
        match made {
            Ok(made) => Ok(NewVersion { id: made.version_id.unwrap_or_default(), tenant_key, tenant_secret }),
            Err(error)
                if error.as_service_error().is_some_and(CreateSecretError::is_resource_exists_exception) =>
            {
                // It may be waiting for its deletion: then that is what to tell.
                self.versions(&name).await?;
                Err(RotationError::Exists(name))
            }
            Err(error)
                if error.as_service_error().is_some_and(CreateSecretError::is_invalid_request_exception) =>
            {
                Err(RotationError::Deleted(name))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes everything in a tenant's secret anew and keeps nothing of it: who knew it before knows nothing of
    /// the new tenant. The version before is at `AWSPREVIOUS` until it is retired.
    ///
    /// # Errors
    /// As [`Rotator::rotate`].
    pub async fn replace(
        &self,
        tenant: &TenantId,
        algorithm: SigningAlgorithm,
    ) -> Result<NewVersion, RotationError> {
        self.rotate(tenant, Renewal::first(algorithm)).await
    }

    /// Takes the previous version away: it opens and verifies nothing any more. Its id; `None` where there
    /// is none.
    ///
    /// # Errors
    /// [`RotationError`] when the secret is not there, or Secrets Manager refuses.
    pub async fn retire_previous(&self, tenant: &TenantId) -> Result<Option<String>, RotationError> {
        let versions = self.versions(&self.name_of(tenant)).await?;
        let Some(previous) = versions.at(PREVIOUS) else {
            return Ok(None);
        };
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&versions.name)
            .version_stage(PREVIOUS)
            .remove_from_version_id(previous)
            .send()
            .await;
        match moved {
            Ok(_) => Ok(Some(previous.to_owned())),
            Err(error) if is_refused(&error) => Err(RotationError::Failed(Failure::Unavailable(
                format!("secret {} was rotated meanwhile", versions.name).into(),
            ))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Schedules the deletion of a tenant's secret: it cannot be read from now on, and can be restored for so
    /// many days. Whether there was one that was not being deleted before.
    ///
    /// # Errors
    /// `Failed` when Secrets Manager refuses.
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
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteSecretError::is_resource_not_found_exception) =>
            {
                Ok(false)
            }
            // It is being deleted already, or it may not be: where it has replicas, for example.
            Err(error) => match self.versions(&self.name_of(tenant)).await {
                Err(RotationError::Deleted(_)) => Ok(false),
                _ => Err(failed(&error)),
            },
        }
    }

    /// Gives a version its value, once: the first of several requests for one version decides.
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
        let source = Source { document: Some(&document), version: Some(current), others: &others };
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
            // Another request for this version was first; what it wrote is as good.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutSecretValueError::is_resource_exists_exception) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Proves that the new version can do what the current one can: nobody is locked out by it. What was proved.
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
        // A current version that is unusable has nothing to lose.
        let current = current.and_then(|text| SecretDocument::parse(&text).ok());
        let current = current.and_then(|document| TenantKeys::from_documents(tenant, &[document]).ok());
        for algorithm in SigningAlgorithm::ALL {
            if current.as_ref().is_some_and(|current| current.can_sign(algorithm))
                && !next.can_sign(algorithm)
            {
                let problem =
                    format!("has no signing key for {}, which the current one has", algorithm.name());
                return Err(RotationError::Unproven(tenant.clone(), problem));
            }
        }
        Ok(text)
    }

    /// Moves `AWSCURRENT`, if it is where the new version was made from; `AWSPREVIOUS` follows it there.
    async fn finish(&self, versions: &Versions, token: &str, renewal: Renewal) -> Result<(), RotationError> {
        let text = self.test(versions, token, renewal).await?;
        let stale = || RotationError::Stale(versions.name.clone(), token.to_owned());
        let made_from = made_from(&text).ok_or_else(stale)?;
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&versions.name)
            .version_stage(CURRENT)
            .move_to_version_id(token)
            .remove_from_version_id(made_from)
            .send()
            .await;
        match moved {
            Ok(_) => Ok(()),
            Err(error) if is_refused(&error) => {
                // It may be another request for this very version that was first.
                let is_done = self.versions(&versions.name).await?.has(token, CURRENT);
                if is_done { Ok(()) } else { Err(stale()) }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// A version's text, which must be there.
    async fn created(&self, versions: &Versions, token: &str) -> Result<SecretString, RotationError> {
        let text = self.value(versions, token).await?;
        text.ok_or_else(|| RotationError::NotCreated(versions.name.clone(), token.to_owned()))
    }

    /// A version's text; `None` while it has none.
    async fn value(&self, versions: &Versions, version: &str) -> Result<Option<SecretString>, RotationError> {
        let found = self.client.get_secret_value().secret_id(&versions.name).version_id(version).send().await;
        match found {
            Ok(found) => Ok(found.secret_string.filter(|text| !text.is_empty()).map(SecretString::from)),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn versions(&self, secret_id: &str) -> Result<Versions, RotationError> {
        let found = self.client.describe_secret().secret_id(secret_id).send().await;
        let found = found.map_err(|error| {
            let is_missing = |error: &DescribeSecretError| error.is_resource_not_found_exception();
            if error.as_service_error().is_some_and(is_missing) {
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

    fn name_of(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}", self.prefix)
    }

    /// An id as Secrets Manager makes them.
    fn new_version_id(&self) -> Result<String, RotationError> {
        let uuid: Uuid = Builder::from_random_bytes(random(&*self.entropy)?).into_uuid();
        Ok(uuid.to_string())
    }
}

/// That a document opens with its own pair, and verifies what it signs, for each algorithm of its keys.
fn prove(tenant: &TenantId, text: &SecretString) -> Result<SecretDocument, RotationError> {
    let document = SecretDocument::parse(text)?;
    let keys = TenantKeys::from_documents(tenant, std::slice::from_ref(&document))?;
    let SecretDocument { tenant_key, tenant_secret, .. } = &document;
    if keys.open_with(tenant_key, tenant_secret).is_none() {
        let problem = "does not open with its own tenantKey and tenantSecret".to_owned();
        return Err(RotationError::Unproven(tenant.clone(), problem));
    }
    keys.prove_signing()?;
    Ok(document)
}

/// The version that a document was made from.
fn made_from(text: &SecretString) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Origin {
        made_from: Option<String>,
    }
    serde_json::from_str::<Origin>(text.expose_secret()).ok()?.made_from
}

/// Whether a stage is not where the request says that it is.
fn is_refused(error: &SdkError<UpdateSecretVersionStageError>) -> bool {
    error
        .as_service_error()
        .is_some_and(|error| error.is_invalid_parameter_exception() || error.is_invalid_request_exception())
}

fn failed<E, R>(error: &SdkError<E, R>) -> RotationError
where
    E: aws_sdk_secretsmanager::error::ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    RotationError::Failed(unavailable("Secrets Manager", error))
}
