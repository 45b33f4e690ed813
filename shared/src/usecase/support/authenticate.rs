//! Authentication of a caller by its bearer token, and of the session behind the token.

use super::tenant_request::TenantRequest;
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, Collection, Denial, Failure, ResetCode, Session, TenantId, TokenFault, User, UserId,
        UserStatus,
    },
    store::{CallerItems, ExtraItem, StoredResult},
    token::{Bearer, Unverified},
    usecase::Service,
};

/// A caller with a live session, and the other items that were read together with them.
pub(in crate::usecase) struct Caller {
    pub(in crate::usecase) session: Session,
    pub(in crate::usecase) user: User,
    /// The other user that the request acts on; `None` if it does not exist or is the caller.
    pub(in crate::usecase) other: Option<User>,
    /// The newest reset code of the other user, or of the caller if there is no other; if requested.
    pub(in crate::usecase) code: Option<ResetCode>,
    /// The session that the request acts on; if requested.
    pub(in crate::usecase) asked: Option<Session>,
    /// The result stored for the request's idempotency key; if requested.
    pub(in crate::usecase) stored: Option<StoredResult>,
    collection: Collection,
}

impl Caller {
    /// Whether the caller may act on `other` (docs/design/contract.md#authorization): it is an administrator,
    /// uses an administrator's token, and has no pending password change (docs/design/security.md#rule-21).
    pub(in crate::usecase) fn may_administer(&self, other: &User) -> bool {
        self.is_administrator() && !self.user.change_required && self.user.administers(other)
    }

    /// Whether the caller is an administrator and uses an administrator's token.
    pub(in crate::usecase) fn is_administrator(&self) -> bool {
        self.collection == Collection::Admin && self.user.is_administrator()
    }

    /// The user with that id, if it is the caller or a user that the caller may administer.
    ///
    /// # Errors
    /// `UserNotFound`; `Forbidden` for a caller that must change its password first.
    pub(in crate::usecase) fn target(&self, id: &UserId) -> Result<&User, Failure> {
        match &self.other {
            _ if self.user.id == *id => Ok(&self.user),
            Some(other) if self.may_administer(other) => Ok(other),
            _ if self.user.change_required => Err(Failure::Forbidden(Denial::PasswordChangeRequired)),
            _ => Err(Failure::UserNotFound),
        }
    }

    /// The user with that id, if the caller may list and end its sessions and the path leads to it.
    ///
    /// # Errors
    /// `UserNotFound`; `Forbidden` for a caller that must change its password first
    /// (docs/design/security.md#rule-21).
    pub(in crate::usecase) fn owner_of_sessions(
        &self,
        id: &UserId,
        collection: Collection,
        owner: &str,
    ) -> Result<&User, Failure> {
        if self.user.change_required {
            return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
        }
        let target = self.target(id)?;
        if target.is_under(collection, owner) { Ok(target) } else { Err(Failure::UserNotFound) }
    }
}

impl Service {
    /// Verifies a bearer token and finds its tenant. The tenant named by the request must be the token's: that
    /// is compared before any key is tried (docs/design/security.md#rule-18).
    ///
    /// The session behind the token is not checked, and an expired token is accepted: the use case decides
    /// about both.
    pub(in crate::usecase) async fn verify_bearer<'r>(
        &self,
        context: &'r RequestContext,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
    ) -> Result<(TenantRequest<'r>, Bearer), Failure> {
        if token.tenant() != tenant {
            return Err(Failure::TenantMismatch);
        }
        let request = TenantRequest::find(&self.tenants, context, tenant).await?;
        let request = request.ok_or(Failure::InvalidToken(TokenFault::UnknownKey))?;
        let bearer = token.verify(&request.keys, &request.tenant, context.now)?;
        context.record_caller(&bearer.user, &request.keys.session_digest(&bearer.session));
        request.admit(ip)?;
        Ok((request, bearer))
    }

    /// Reads the caller, its session, another user and an extra item in one call
    /// (docs/design/storage.md#calls-per-request), and checks the caller's session.
    pub(in crate::usecase) async fn authenticate(
        &self,
        request: &TenantRequest<'_>,
        bearer: &Bearer,
        other: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<Caller, Failure> {
        let read = || self.store.caller(&bearer.tenant, (&bearer.user, &bearer.session), other, extra);
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
        let fault = session.fault(request.now(), user.session_epoch, request.tenant.session_epoch);
        if fault.is_some() || user.status == UserStatus::Disabled {
            return Err(gone);
        }
        let CallerItems { other, code, asked, stored, .. } = items;
        Ok(Caller { session, user, other, code, asked, stored, collection: bearer.collection })
    }
}

/// Checks that a token may be used on a collection's routes.
///
/// # Errors
/// `InvalidToken` for an expired token; `Forbidden` for a customer's token on an admin route
/// (docs/design/security.md#rule-21).
pub(in crate::usecase) fn admits(collection: Collection, bearer: &Bearer) -> Result<(), Failure> {
    if bearer.expired {
        return Err(Failure::InvalidToken(TokenFault::Expired));
    }
    if collection == Collection::Admin && bearer.collection != Collection::Admin {
        return Err(Failure::Forbidden(Denial::CustomerToken));
    }
    Ok(())
}

/// Whether session and user may come from different moments: the session from before a transaction that
/// changed the epochs of both, the user from after it. The caller then reads both again
/// (docs/design/storage.md#epochs).
pub(in crate::usecase) fn is_torn(session: Option<&Session>, user: Option<&User>) -> bool {
    session
        .zip(user)
        .is_some_and(|(session, user)| session.ended.is_none() && session.user_epoch < user.session_epoch)
}
