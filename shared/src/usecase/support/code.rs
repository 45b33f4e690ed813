//! Creation of codes and of messages to users (docs/design/security.md#rule-19).

use std::time::Duration;

use jiff::Timestamp;

use super::tenant_request::TenantRequest;
use crate::{
    domain::{
        CODE_WINDOW, Code, CodeKind, CodeMessage, CodeProof, CodePurpose, Failure, Limit, Medium,
        Notification, ResetCode, User, UserId, after, recent,
    },
    port::random,
    store::{NewCode, OutboxKey, Sealed},
    usecase::Service,
};

/// Maximum number of tries of a change whose caller, target or code changes at the same moment. In each
/// round of colliding changes one succeeds, and the hourly limit of codes ends the collisions.
pub(in crate::usecase) const TRIES: usize = 8;
/// How long the notification of a change is worth delivering.
const NOTIFICATION_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of sending times in a code item. The oldest are dropped.
const MAX_SENT_TIMES: usize = 60;

/// How a code is sent.
#[derive(Debug, Clone)]
pub(in crate::usecase) struct Sending {
    pub(in crate::usecase) medium: Medium,
    /// Link template that the request named; `None` for the tenant's own.
    pub(in crate::usecase) link: Option<String>,
}

impl Sending {
    /// By mail, with a link from the tenant's own template.
    pub(in crate::usecase) const MAIL: Self = Self { medium: Medium::Mail, link: None };
}

impl Service {
    /// A new code for a purpose that replaces `before`.
    ///
    /// For a user that does not exist, the same items are created with a code that is never sent. A try at
    /// such a code costs the same as a try at a real one.
    ///
    /// # Errors
    /// `Internal`; `Unavailable`.
    pub(in crate::usecase) fn new_code(
        &self,
        request: &TenantRequest<'_>,
        (id, user): (&UserId, Option<&User>),
        purpose: CodePurpose,
        before: Option<&ResetCode>,
        sending: Option<&Sending>,
    ) -> Result<(NewCode, Code), Failure> {
        let (tenant, now) = (&request.tenant.id, request.now());
        let kind = match sending {
            // A mail without a link of the request has a link to the hosted page, which only sets passwords.
            Some(Sending { medium: Medium::Mail, link })
                if link.is_some() || purpose == CodePurpose::Password =>
            {
                CodeKind::Link
            }
            Some(_) | None => CodeKind::Typed,
        };
        let code = Code::from_random(kind, &random(&*self.entropy)?);
        let proof = CodeProof::of(&code, purpose, (tenant, id), &request.keys)?;
        let code_id = self.attempt_id(ResetCode::id_time(before, now))?;
        let ends_at = after(now, request.policy().code_life);
        let mut sent = before.map_or_else(Vec::new, |before| recent(&before.sent, now));
        let message = match sending {
            Some(Sending { medium, link }) => {
                sent.push(now);
                let excess = sent.len().saturating_sub(MAX_SENT_TIMES);
                sent.drain(..excess);
                let message = |user: &User| {
                    let verifies = match purpose {
                        CodePurpose::Password => None,
                        CodePurpose::Email => user.unverified_email.clone(),
                        CodePurpose::Phone => user.unverified_phone.clone(),
                    };
                    let (code, medium, link) = (code.clone(), *medium, link.clone());
                    let message = CodeMessage { code, id: code_id, medium, link, verifies };
                    Notification::of_code(message, purpose)
                };
                let message = user.map_or(Notification::Nothing, message);
                Some(self.seal(request, id, &message, ends_at)?)
            }
            None => None,
        };
        let new = NewCode {
            tenant: tenant.clone(),
            user: id.clone(),
            purpose,
            replaces: before.map(|before| before.id),
            code: ResetCode { id: code_id, proof: Some(proof), ends_at, sent, spent: None },
            message,
            result: None,
        };
        Ok((new, code))
    }

    /// The sealed notification of a change, to be queued in the transaction of the change.
    ///
    /// # Errors
    /// `Internal`.
    pub(in crate::usecase) fn sealed_notification(
        &self,
        request: &TenantRequest<'_>,
        user: &UserId,
        notification: &Notification,
    ) -> Result<Sealed, Failure> {
        let ends_at = after(request.now(), NOTIFICATION_LIFE);
        self.seal(request, user, notification, ends_at)
    }

    fn seal(
        &self,
        request: &TenantRequest<'_>,
        user: &UserId,
        notification: &Notification,
        ends_at: Timestamp,
    ) -> Result<Sealed, Failure> {
        let id = self.attempt_id(request.now())?;
        let key = OutboxKey { tenant: request.tenant.id.clone(), user: user.clone(), id };
        request.keys.seal_notification(key, notification, ends_at, &*self.entropy)
    }
}

/// Checks that one more code may be sent to the user this hour (docs/design/contract.md#zitadel-v2).
///
/// # Errors
/// `RateLimited` until the oldest counted sending is an hour old.
pub(in crate::usecase) fn check_code_limit(
    before: Option<&ResetCode>,
    request: &TenantRequest<'_>,
) -> Result<(), Failure> {
    let now = request.now();
    let sent = before.map_or_else(Vec::new, |before| recent(&before.sent, now));
    let Some(oldest) = sent.len().checked_sub(request.policy().codes_per_hour).and_then(|at| sent.get(at))
    else {
        return Ok(());
    };
    let counts_until = after(*oldest, CODE_WINDOW);
    Err(Failure::RateLimited(Limit::Codes, counts_until.duration_since(now).unsigned_abs()))
}
