//! Who a bearer token speaks for, and whether its session still lives.

use jiff::Timestamp;

use super::{Service, admit};
use crate::{
    domain::{
        ClientAddress, Collection, Failure, ResetCode, Session, SessionId, TenantId, TokenFault, User,
        UserId, UserStatus,
    },
    port::{CallerItems, CodeIs, Once},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, Unverified},
};

/// A caller whose session is live, as read just now.
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) user: User,
    /// The other user asked for, unless it is the caller or there is none.
    pub(super) other: Option<User>,
    /// The newest reset code of that one, or its own; if it was wanted.
    pub(super) code: Option<ResetCode>,
    /// The session asked for, if there is one and one was.
    pub(super) asked: Option<Session>,
    /// What the request's key remembers.
    pub(super) once: Option<Once>,
    collection: Collection,
}

impl Caller {
    /// Whether it may act on `other` (docs/design/contract.md#authorization): an administrator, on an administrator's
    /// token, without a pending change of its password (docs/design/security.md#rule-21).
    pub(super) fn may_administer(&self, other: &User) -> bool {
        self.is_administrator() && !self.user.change_required && self.user.administers(other)
    }

    /// Whether it is an administrator, on an administrator's token.
    pub(super) fn is_administrator(&self) -> bool {
        self.collection == Collection::Admin && self.user.is_administrator()
    }

    /// The user of that id, if it is the caller or one that it may administer.
    ///
    /// # Errors
    /// `UserNotFound`; `Forbidden` where the caller may do nothing to others, whoever they are.
    pub(super) fn target(&self, id: &UserId) -> Result<&User, Failure> {
        match &self.other {
            _ if self.user.id == *id => Ok(&self.user),
            Some(other) if self.may_administer(other) => Ok(other),
            // An administrator whose password must change.
            _ if self.user.change_required => Err(Failure::Forbidden),
            _ => Err(Failure::UserNotFound),
        }
    }

    /// The user of that id, if its sessions are the caller's to see and to end, and the path leads to
    /// it.
    ///
    /// # Errors
    /// `UserNotFound`; `Forbidden` for a caller whose password must change (docs/design/security.md#rule-21).
    pub(super) fn owner_of_sessions(
        &self,
        id: &UserId,
        collection: Collection,
        owner: &str,
    ) -> Result<&User, Failure> {
        if self.user.change_required {
            return Err(Failure::Forbidden);
        }
        let target = self.target(id)?;
        if target.is_under(collection, owner) { Ok(target) } else { Err(Failure::UserNotFound) }
    }
}

impl Service {
    /// The tenant and the verified token. The token's tenant must be the one in the header: that is
    /// known before any key is tried (docs/design/security.md#rule-18).
    ///
    /// Says nothing of the session; a token past its end is passed on for the caller to judge.
    pub(super) async fn verify_bearer(
        &self,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
        now: Timestamp,
    ) -> Result<(TenantContext, Bearer), Failure> {
        if token.tenant() != tenant {
            return Err(Failure::TenantMismatch);
        }
        let unknown = || Failure::InvalidToken(TokenFault::UnknownKey);
        let context = self.tenants.find(tenant, now).await?.ok_or_else(unknown)?;
        let context = self.tenants.with_key(context, now, |keys| token.key_is_known(keys), unknown()).await?;
        let bearer = token.verify(&context.keys, &context.tenant.policy, now)?;
        telemetry::caller(&bearer.user, &context.keys.session_digest(&bearer.session));
        admit(&context, ip)?;
        Ok((context, bearer))
    }

    /// The caller, its session and another user in one read (docs/design/storage.md#calls-per-request).
    pub(super) async fn authenticate(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        other: Option<&UserId>,
        code: CodeIs<'_>,
        now: Timestamp,
    ) -> Result<Caller, Failure> {
        let read = || self.store.caller(&bearer.tenant, (&bearer.user, &bearer.session), other, code);
        self.judge_caller(context, bearer, read, now).await
    }

    /// The same, with a session and its user in that one read.
    pub(super) async fn authenticate_with_session(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        asked: (&UserId, &SessionId),
        now: Timestamp,
    ) -> Result<Caller, Failure> {
        let read = || self.store.caller_and_session(&bearer.tenant, (&bearer.user, &bearer.session), asked);
        self.judge_caller(context, bearer, read, now).await
    }

    async fn judge_caller<F>(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        read: impl Fn() -> F,
        now: Timestamp,
    ) -> Result<Caller, Failure>
    where
        F: Future<Output = Result<CallerItems, Failure>>,
    {
        if bearer.expired {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        let mut items = read().await?;
        let asked_of = items.other.as_ref().or(items.user.as_ref());
        if is_torn(items.session.as_ref(), items.user.as_ref()) || is_torn(items.asked.as_ref(), asked_of) {
            items = read().await?;
        }
        let gone = Failure::InvalidToken(TokenFault::SessionGone);
        let (Some(session), Some(user)) = (items.session, items.user) else {
            return Err(gone);
        };
        let fault = session.fault(now, user.session_epoch, context.tenant.session_epoch);
        if fault.is_some() || user.status == UserStatus::Disabled {
            return Err(gone);
        }
        let CallerItems { other, code, asked, once, .. } = items;
        Ok(Caller { session, user, other, code, asked, once, collection: bearer.collection })
    }
}

/// Whether a token is one for a collection's routes.
///
/// # Errors
/// `InvalidToken` past its end; `Forbidden` for a customer's on an admin route (docs/design/security.md#rule-21).
pub(super) fn admits(collection: Collection, bearer: &Bearer) -> Result<(), Failure> {
    if bearer.expired {
        return Err(Failure::InvalidToken(TokenFault::Expired));
    }
    if collection == Collection::Admin && bearer.collection != Collection::Admin {
        return Err(Failure::Forbidden);
    }
    Ok(())
}

/// Whether a session may have been read just before, and its user just after, one transaction that
/// moved the epochs of both: a second reading tells.
pub(super) fn is_torn(session: Option<&Session>, user: Option<&User>) -> bool {
    session
        .zip(user)
        .is_some_and(|(session, user)| session.ended.is_none() && session.user_epoch < user.session_epoch)
}
