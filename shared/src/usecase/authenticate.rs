//! Who a bearer token speaks for, and whether its session still lives.

use jiff::Timestamp;

use super::{Service, admit};
use crate::{
    domain::{
        ClientAddress, Collection, Failure, ResetCode, Session, TenantId, TokenFault, User, UserId,
        UserStatus,
    },
    port::{CodeIs, Once},
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
    /// What the request's key remembers.
    pub(super) once: Option<Once>,
    collection: Collection,
}

impl Caller {
    /// Whether it may act on `other` (contract, "Who may"): an administrator, on an administrator's
    /// token, without a pending change of its password (security 21).
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
}

impl Service {
    /// The tenant and the verified token. The token's tenant must be the one in the header: that is
    /// known before any key is tried (security 18).
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

    /// The caller, its session and another user in one read (storage, "acting on another").
    pub(super) async fn authenticate(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        other: Option<&UserId>,
        code: CodeIs<'_>,
        now: Timestamp,
    ) -> Result<Caller, Failure> {
        if bearer.expired {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        let read = || self.store.caller(&bearer.tenant, (&bearer.user, &bearer.session), other, code);
        let mut items = read().await?;
        if is_torn(items.session.as_ref(), items.user.as_ref()) {
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
        let (other, code, once) = (items.other, items.code, items.once);
        Ok(Caller { session, user, other, code, once, collection: bearer.collection })
    }
}

/// Whether a session may have been read just before, and its user just after, one transaction that
/// moved the epochs of both: a second reading tells.
pub(super) fn is_torn(session: Option<&Session>, user: Option<&User>) -> bool {
    session
        .zip(user)
        .is_some_and(|(session, user)| session.ended.is_none() && session.user_epoch < user.session_epoch)
}
