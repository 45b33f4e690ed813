//! Requests that are sent again (docs/design/contract.md#every-request, `Idempotency-Key`).
//!
//! A success is remembered in the transaction that makes it, on condition that its key is free. Of
//! requests at once each does its work, one commits, and the others find the key taken and tell of
//! that one's success: nobody is sent away to wait, and there is no lease that a crash leaves behind.

use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Failure, TenantId, UserId},
    port::{NewOnce, Once, OnceKey, Success},
    secrets::TenantContext,
    telemetry,
    token::Repeatable,
};

/// How long a success is told again (docs/design/contract.md#every-request).
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What the audit log calls a request that was sent again.
const REPEATED: &str = "REPEATED";

/// A request with a key, at its caller.
pub(super) struct Asked {
    request: Repeatable,
    key: OnceKey,
}

impl Asked {
    /// The request, asked by that user, or by the tenant itself.
    pub(super) fn by(
        request: Option<Repeatable>,
        tenant: &TenantId,
        caller: Option<&UserId>,
    ) -> Option<Self> {
        request.map(|request| Self { key: request.key(tenant, caller), request })
    }

    /// Where its success is kept.
    pub(super) fn key(&self) -> &OnceKey {
        &self.key
    }

    /// What to write beside the success.
    ///
    /// # Errors
    /// `Unavailable` without the tenant's root key.
    pub(super) fn remember(
        &self,
        success: Success,
        context: &TenantContext,
        now: Timestamp,
    ) -> Result<NewOnce, Failure> {
        let (fingerprint, key_version) = self
            .request
            .fingerprint(&context.keys)
            .ok_or_else(|| Failure::Unavailable("the tenant's root key is gone".into()))?;
        let ends_at = now.checked_add(REMEMBERED).unwrap_or(Timestamp::MAX);
        let once = Once { fingerprint, key_version, success, ends_at };
        Ok(NewOnce { key: self.key.clone(), once, now })
    }
}

impl Service {
    /// What the request succeeded in before, as its key remembers, with keys that are known to hold
    /// what it was remembered with; `None` for a request that is new.
    ///
    /// # Errors
    /// `IdempotencyMismatch` for another request; `IdempotencyExpired` when the root key that would
    /// tell is gone; `Unavailable`.
    pub(super) async fn recall(
        &self,
        context: &TenantContext,
        asked: Option<&Asked>,
        known: Option<Once>,
        now: Timestamp,
    ) -> Result<Option<(TenantContext, Success)>, Failure> {
        let known = known.filter(|known| now < known.ends_at);
        let Some((asked, Once { fingerprint, key_version, success, ends_at: _ })) = asked.zip(known) else {
            return Ok(None);
        };
        let has_key = |keys: &crate::token::TenantKeys| keys.has_root(key_version);
        let gone = Failure::IdempotencyExpired;
        let context = self.tenants.with_key(context.clone(), now, has_key, gone).await?;
        if asked.request.is(&fingerprint, key_version, &context.keys) {
            telemetry::detail(REPEATED);
            Ok(Some((context, success)))
        } else {
            Err(Failure::IdempotencyMismatch)
        }
    }
}
