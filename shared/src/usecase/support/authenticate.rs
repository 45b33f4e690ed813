//! Authentication of a caller by its bearer token, and of the session behind the token.

use super::tenant_request::TenantRequest;
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, Collection, Denial, Failure, ResetCode, Session, SessionId, TenantId, TokenFault,
        User, UserId,
    },
    store::{CallerItems, ExtraItem, StoredResult},
    token::{AccessToken, Bearer, Unverified},
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
    /// The session or client behind the token is not checked, and an expired token is accepted: the use case decides
    /// about both.
    pub(in crate::usecase) async fn verify_token<'r>(
        &self,
        context: &'r RequestContext,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
    ) -> Result<(TenantRequest<'r>, AccessToken), Failure> {
        if token.tenant() != tenant {
            return Err(Failure::TenantMismatch);
        }
        let request = TenantRequest::find(&self.tenants, context, tenant).await?;
        let request = request.ok_or(Failure::InvalidToken(TokenFault::UnknownKey))?;
        let token = token.verify(&request.keys, &request.tenant, context.now)?;
        match &token {
            AccessToken::User(bearer) => {
                context.record_caller(&bearer.user, &request.keys.session_digest(&bearer.session));
            }
            AccessToken::Client(bearer) => context.record_client_id(&bearer.client),
        }
        request.admit(ip)?;
        Ok((request, token))
    }

    /// Verifies the bearer token of a user, as [`Self::verify_token`].
    ///
    /// # Errors
    /// Also `Forbidden` for the token of an API client.
    pub(in crate::usecase) async fn verify_bearer<'r>(
        &self,
        context: &'r RequestContext,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
    ) -> Result<(TenantRequest<'r>, Bearer), Failure> {
        match self.verify_token(context, tenant, token, ip).await? {
            (request, AccessToken::User(bearer)) => Ok((request, bearer)),
            (_, AccessToken::Client(_)) => Err(Failure::Forbidden(Denial::ClientToken)),
        }
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
        if bearer.expired {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        let items = self.live_items(request, (&bearer.user, &bearer.session), other, extra).await?;
        let (LiveCaller { session, user }, CallerItems { other, code, asked, stored, .. }) = items;
        Ok(Caller { session, user, other, code, asked, stored, collection: bearer.collection })
    }

    /// Reads a session and its user, and checks that the session is live and that the user need not change its password.
    ///
    /// # Errors
    /// `InvalidToken(SessionGone)`, `Forbidden`, `Unavailable`.
    pub(in crate::usecase) async fn live_session(
        &self,
        request: &TenantRequest<'_>,
        ids: (&UserId, &SessionId),
    ) -> Result<(Session, User), Failure> {
        let (LiveCaller { session, user }, _) = self.live_items(request, ids, None, ExtraItem::None).await?;
        if user.change_required {
            return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
        }
        Ok((session, user))
    }

    async fn live_items(
        &self,
        request: &TenantRequest<'_>,
        ids: (&UserId, &SessionId),
        other: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<(LiveCaller, CallerItems), Failure> {
        let read = || self.store.caller(&request.tenant.id, ids, other, extra);
        let mut items = read().await?;
        let asked_of = items.other.as_ref().or(items.user.as_ref());
        if is_torn(items.session.as_ref(), items.user.as_ref()) || is_torn(items.asked.as_ref(), asked_of) {
            items = read().await?;
        }
        let gone = Failure::InvalidToken(TokenFault::SessionGone);
        let (Some(session), Some(user)) = (items.session.take(), items.user.take()) else {
            return Err(gone);
        };
        let fault = session.fault(request.now(), user.session_epoch, request.tenant.session_epoch);
        if fault.is_some() || !user.is_active() {
            return Err(gone);
        }
        Ok((LiveCaller { session, user }, items))
    }
}

/// A live session and its user.
struct LiveCaller {
    session: Session,
    user: User,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{OrganizationId, Role},
        token::tests::{at, session, user},
    };

    /// Another user of the organization.
    fn other(organization: &str) -> User {
        User {
            id: UserId::parse("other").unwrap(),
            organization: OrganizationId::parse(organization).unwrap(),
            roles: vec![Role::User],
            ..user()
        }
    }

    fn caller(role: Role, collection: Collection, other: Option<User>) -> Caller {
        let user = User { roles: vec![role], ..user() };
        Caller { session: session(), user, other, code: None, asked: None, stored: None, collection }
    }

    fn must_change(caller: Caller) -> Caller {
        Caller { user: User { change_required: true, ..caller.user }, ..caller }
    }

    fn bearer(collection: Collection, expired: bool) -> Bearer {
        Bearer {
            tenant: user().tenant,
            user: user().id,
            session: session().id,
            collection,
            owner: "o".to_owned(),
            token_id: "token".to_owned(),
            issued_at: at(0),
            expires_at: at(0),
            expired,
        }
    }

    // docs/design/security.md#rule-21
    #[test]
    fn administration_needs_the_role_the_token_the_organization_and_no_pending_change() {
        let admin = || caller(Role::Admin, Collection::Admin, None);
        assert!(admin().may_administer(&other("o")) && admin().is_administrator());
        assert!(!admin().may_administer(&other("p")), "other organization");
        assert!(!must_change(admin()).may_administer(&other("o")), "password change is pending");
        for collection in [Collection::Individual, Collection::Organization] {
            let of_customer = caller(Role::Admin, collection, None);
            assert!(!of_customer.may_administer(&other("o")) && !of_customer.is_administrator());
        }
        let without_role = caller(Role::User, Collection::Admin, None);
        assert!(!without_role.may_administer(&other("o")) && !without_role.is_administrator());
    }

    // docs/design/security.md#rule-20, docs/design/security.md#rule-21
    #[test]
    fn caller_acts_on_itself_and_on_users_that_it_administers() {
        let (own, of_other) = (user().id, UserId::parse("other").unwrap());
        let admin = |found| caller(Role::Admin, Collection::Admin, found);
        assert_eq!(admin(None).target(&own).unwrap().id, own);
        assert_eq!(must_change(admin(None)).target(&own).unwrap().id, own);
        assert_eq!(admin(Some(other("o"))).target(&of_other).unwrap().id, of_other);
        for missing in
            [admin(None), admin(Some(other("p"))), caller(Role::User, Collection::Admin, Some(other("o")))]
        {
            assert!(matches!(missing.target(&of_other), Err(Failure::UserNotFound)));
        }
        for found in [None, Some(other("o"))] {
            let pending = must_change(admin(found));
            assert!(matches!(
                pending.target(&of_other),
                Err(Failure::Forbidden(Denial::PasswordChangeRequired))
            ));
        }
    }

    // docs/design/security.md#rule-21
    #[test]
    fn sessions_of_a_user_need_the_path_of_the_user_and_no_pending_change() {
        let own = user().id;
        let admin = || caller(Role::Admin, Collection::Admin, None);
        assert_eq!(admin().owner_of_sessions(&own, Collection::Admin, "o").unwrap().id, own);
        let wrong_path = admin();
        assert!(matches!(
            wrong_path.owner_of_sessions(&own, Collection::Admin, "p"),
            Err(Failure::UserNotFound)
        ));
        let pending = must_change(admin());
        assert!(matches!(
            pending.owner_of_sessions(&own, Collection::Admin, "o"),
            Err(Failure::Forbidden(_))
        ));
    }

    // docs/design/security.md#rule-21
    #[test]
    fn customer_token_is_rejected_on_admin_routes() {
        for (route, token, is_admitted) in [
            (Collection::Admin, Collection::Admin, true),
            (Collection::Admin, Collection::Individual, false),
            (Collection::Admin, Collection::Organization, false),
            (Collection::Individual, Collection::Admin, true),
            (Collection::Individual, Collection::Individual, true),
        ] {
            let result = admits(route, &bearer(token, false));
            let is_expected = if is_admitted {
                result.is_ok()
            } else {
                matches!(result, Err(Failure::Forbidden(Denial::CustomerToken)))
            };
            assert!(is_expected, "{route:?} {token:?}");
            let expired = admits(route, &bearer(token, true));
            assert!(
                matches!(expired, Err(Failure::InvalidToken(TokenFault::Expired))),
                "{route:?} {token:?}"
            );
        }
    }

    // docs/design/security.md#rule-15
    #[test]
    fn live_session_of_an_older_epoch_is_read_again() {
        let (session, user) = (session(), user());
        assert!(!is_torn(Some(&session), Some(&user)));
        let older = Session { user_epoch: user.session_epoch - 1, ..session.clone() };
        assert!(is_torn(Some(&older), Some(&user)));
        let ended =
            Session { ended: Some(crate::domain::Ended { at: at(0), reuse: false }), ..older.clone() };
        assert!(!is_torn(Some(&ended), Some(&user)), "an ended session stays ended");
        let newer = Session { user_epoch: user.session_epoch + 1, ..session };
        assert!(
            !is_torn(Some(&newer), Some(&user))
                && !is_torn(None, Some(&user))
                && !is_torn(Some(&older), None)
        );
    }
}
