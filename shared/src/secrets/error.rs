//! Errors of secret rotations.

use crate::{
    domain::{Failure, TenantId},
    token::{InvalidSecret, MalformedDocument},
};

/// Error of a secret rotation. The message states what to do and contains no secret value.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The secret's name is not that of a tenant.
    #[error(
        "secret {0} does not belong to a tenant: its name must be DOORWARD_SECRET_PREFIX followed by the tenant ID"
    )]
    NotATenants(String),
    /// The secret does not exist.
    #[error("secret {0} does not exist: check the tenant ID and the prefix of the secret names")]
    Missing(String),
    /// The secret is scheduled for deletion.
    #[error(
        "secret {0} is scheduled for deletion: restore it (aws secretsmanager restore-secret), or wait until it is \
         deleted"
    )]
    Deleted(String),
    /// Rotation is disabled.
    #[error("rotation of secret {0} is disabled")]
    RotationOff(String),
    /// The version does not exist.
    #[error("secret {0} has no version {1}")]
    NoVersion(String, String),
    /// The version is not at `AWSPENDING`.
    #[error("version {1} of secret {0} is not at AWSPENDING: another rotation has replaced it")]
    NotPending(String, String),
    /// The version has no value.
    #[error("version {1} of secret {0} has no value: run createSecret first")]
    NotCreated(String, String),
    /// The current version changed after the pending version was created.
    #[error(
        "version {1} of secret {0} was created from a version that is no longer current: remove AWSPENDING from it \
         (aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id {1}), \
         then rotate again"
    )]
    Stale(String, String),
    /// The stages of the secret are not those that were read.
    #[error(
        "the stages of secret {0} were changed, or Secrets Manager returned earlier ones: wait one minute, then try again"
    )]
    Outdated(String),
    /// The previous version is retired in Secrets Manager, but the functions may not know it.
    #[error(
        "secret {0} has no previous version in Secrets Manager any more, but functions may accept it for up to 5 min: \
         {1}. Correct this, then run `doorwardctl tenant secret retire` again"
    )]
    Incomplete(String, #[source] Box<RotationError>),
    /// The secret already exists.
    #[error(
        "secret {0} already exists, but the tenant is not in this table: the secret may belong to another stack with \
         the same prefix, or remain from an interrupted creation"
    )]
    Exists(String),
    /// The secret is not a secret document.
    #[error("the secret is not a JSON document of the expected structure: correct it before you rotate it")]
    Malformed,
    /// The next document would exceed the maximum size of a secret.
    #[error(
        "the next document would exceed 64 KiB: rotate less often, or remove keys that are no longer needed"
    )]
    TooLarge,
    /// The document has an invalid value.
    #[error(transparent)]
    Unusable(#[from] InvalidSecret),
    /// The new version failed its test.
    #[error("the new version of the secret of tenant {0} {1}")]
    Unproven(TenantId, String),
    /// A service is unavailable or rejected the request.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<MalformedDocument> for RotationError {
    fn from(_: MalformedDocument) -> Self {
        Self::Malformed
    }
}
