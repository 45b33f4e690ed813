//! Requests with an `Idempotency-Key` (docs/design/contract.md#every-request).
//!
//! The result of a request is stored in the transaction that produces it, on condition that its key is free. Of
//! several identical requests at once, each does its work and one commits; the others find the key taken and
//! return the stored result. No client waits, and a crash leaves no lock behind.

use std::time::Duration;

use super::tenant_request::TenantRequest;
use crate::{
    domain::{Failure, TenantId},
    store::{NewStoredResult, ResultKey, StoredResult, Success},
    token::{KeyOwner, KeyedRequest},
};

/// How long a stored result is replayed (docs/design/contract.md#every-request).
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Reason in the audit event of a replayed request.
const REPLAYED: &str = "REPEATED";

/// A request with an idempotency key, and the place of its stored result.
pub(in crate::usecase) struct IdempotentRequest {
    request: KeyedRequest,
    key: ResultKey,
}

impl IdempotentRequest {
    /// The request as sent by `caller`.
    pub(in crate::usecase) fn of(
        request: Option<KeyedRequest>,
        tenant: &TenantId,
        caller: KeyOwner<'_>,
    ) -> Option<Self> {
        request.map(|request| Self { key: request.key(tenant, caller), request })
    }

    /// The storage key of the result.
    pub(in crate::usecase) fn key(&self) -> &ResultKey {
        &self.key
    }

    /// The record of `success`, to be written in the same transaction.
    ///
    /// # Errors
    /// `Unavailable` if the tenant's root key is missing.
    pub(in crate::usecase) fn record(
        &self,
        success: Success,
        request: &TenantRequest<'_>,
    ) -> Result<NewStoredResult, Failure> {
        let (fingerprint, key_version) = self.request.fingerprint(&request.keys)?;
        let now = request.now();
        let ends_at = now.checked_add(LIFE).unwrap_or(jiff::Timestamp::MAX);
        let result = StoredResult { fingerprint, key_version, success, ends_at };
        Ok(NewStoredResult { key: self.key.clone(), result, now })
    }
}

/// The stored result of an identical earlier request; `None` if there is none.
///
/// # Errors
/// - `IdempotencyMismatch`: the key was used for a different request.
/// - `IdempotencyExpired`: the root key of the fingerprint no longer exists.
pub(in crate::usecase) fn stored_success(
    request: &TenantRequest<'_>,
    idempotent: Option<&IdempotentRequest>,
    stored: Option<StoredResult>,
) -> Result<Option<Success>, Failure> {
    let stored = stored.filter(|stored| request.now() < stored.ends_at);
    let Some((idempotent, StoredResult { fingerprint, key_version, success, ends_at: _ })) =
        idempotent.zip(stored)
    else {
        return Ok(None);
    };
    if !request.keys.has_root(key_version) {
        return Err(Failure::IdempotencyExpired);
    }
    if !idempotent.request.is(&fingerprint, key_version, &request.keys) {
        return Err(Failure::IdempotencyMismatch);
    }
    request.context.record_reason(REPLAYED);
    Ok(Some(success))
}
