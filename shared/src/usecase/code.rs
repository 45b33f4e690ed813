//! Making reset codes and messages, for every endpoint that does (docs/design/security.md#rule-19).

use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{
        CODE_WINDOW, Code, CodeKind, CodeMessage, CodeProof, Failure, Limit, Medium, Notification, ResetCode,
        TenantId, User, UserId, recent,
    },
    port::{NewCode, OutboxKey, Sealed, random},
    secrets::TenantContext,
};

/// How often a change is tried because caller, target or code changed at the same moment. Each time
/// one of those that collide gets through, and the budget of codes ends soon after.
pub(super) const TRIES: usize = 8;
/// How long news of a change are worth delivering.
const NEWS_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most times that a code item remembers: of more within an hour, the oldest are forgotten.
const MAX_REMEMBERED: usize = 60;

/// How a code is sent.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) medium: Medium,
    /// The link's template that the request named.
    pub(super) link: Option<String>,
}

impl Sending {
    /// The usual: a link by mail, from the tenant's own template.
    pub(super) const MAIL: Self = Self { medium: Medium::Mail, link: None };
}

impl Service {
    /// A new code for `user`, in the place of `before`; for a user that does not exist, everything
    /// but what it says. A try at that code costs what a try at a real one does, and nobody was ever
    /// told it.
    ///
    /// # Errors
    /// `Internal`, `Unavailable`.
    pub(super) fn new_code(
        &self,
        context: &TenantContext,
        (id, user): (&UserId, Option<&User>),
        before: Option<&ResetCode>,
        sending: Option<&Sending>,
        now: Timestamp,
    ) -> Result<(NewCode, Code), Failure> {
        let tenant = &context.tenant.id;
        let kind = match sending {
            Some(Sending { medium: Medium::Mail, .. }) => CodeKind::Link,
            Some(Sending { medium: Medium::Text, .. }) | None => CodeKind::Typed,
        };
        let code = Code::from_random(kind, &random(&*self.entropy)?);
        let proof = CodeProof::of(&code, tenant, id, &context.keys)
            .ok_or_else(|| Failure::Unavailable("the tenant's root key is gone".into()))?;
        let code_id = self.attempt_id(now)?;
        let ends_at = now.checked_add(context.tenant.policy.code_life).unwrap_or(Timestamp::MAX);
        let mut sent = before.map_or_else(Vec::new, |before| recent(&before.sent, now));
        let message = match sending {
            Some(Sending { medium, link }) => {
                sent.push(now);
                let excess = sent.len().saturating_sub(MAX_REMEMBERED);
                sent.drain(..excess);
                let message =
                    CodeMessage { code: code.clone(), id: code_id, medium: *medium, link: link.clone() };
                let message = user.map_or(Notification::Nothing, |_| Notification::ResetCode(message));
                Some(self.seal(context, id, &message, ends_at, now)?)
            }
            None => None,
        };
        let new = NewCode {
            tenant: tenant.clone(),
            user: id.clone(),
            replaces: before.map(|before| before.id),
            code: ResetCode { id: code_id, proof: Some(proof), ends_at, sent, spent: None },
            message,
            once: None,
        };
        Ok((new, code))
    }

    /// News for a user, to be queued with what they are about.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn message(
        &self,
        context: &TenantContext,
        user: &UserId,
        news: &Notification,
        now: Timestamp,
    ) -> Result<Sealed, Failure> {
        self.seal(context, user, news, now.checked_add(NEWS_LIFE).unwrap_or(Timestamp::MAX), now)
    }

    fn seal(
        &self,
        context: &TenantContext,
        user: &UserId,
        message: &Notification,
        ends_at: Timestamp,
        now: Timestamp,
    ) -> Result<Sealed, Failure> {
        let tenant: &TenantId = &context.tenant.id;
        let key = OutboxKey { tenant: tenant.clone(), user: user.clone(), id: self.attempt_id(now)? };
        context.keys.seal_notification(key, message, ends_at, &*self.entropy)
    }
}

/// Whether one more code may be sent (docs/design/contract.md#zitadel-v2: mails per user and hour).
///
/// # Errors
/// `RateLimited` until the oldest of those sent counts no more.
pub(super) fn within_budget(
    before: Option<&ResetCode>,
    per_hour: usize,
    now: Timestamp,
) -> Result<(), Failure> {
    let sent = before.map_or_else(Vec::new, |before| recent(&before.sent, now));
    let Some(oldest) = sent.len().checked_sub(per_hour).and_then(|at| sent.get(at)) else {
        return Ok(());
    };
    let counts_until = oldest.checked_add(CODE_WINDOW).unwrap_or(Timestamp::MAX);
    Err(Failure::RateLimited(Limit::Codes, counts_until.duration_since(now).unsigned_abs()))
}
