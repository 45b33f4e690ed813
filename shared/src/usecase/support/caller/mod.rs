//! The caller of a request: a user with a live session, or an API client (docs/design/contract.md#authorization).
//!
//! Use cases ask what the caller may do. They do not distinguish users and clients.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{
    domain::{
        ApiClient, ClientScope, Collection, Denial, Failure, OrganizationId, ResetCode, Role, Session,
        SessionId, TokenFault, User, UserId,
    },
    store::{CallerItems, GuardedChange, StoredResult},
    token::{AccessToken, Bearer, ClientBearer, KeyOwner},
};

/// A verified access token, and the address that sent it. The session or client behind the token is not checked.
pub(in crate::usecase) struct CallerToken {
    pub(in crate::usecase) token: AccessToken,
    /// Client address, if it is known.
    pub(in crate::usecase) address: Option<IpAddr>,
}

impl CallerToken {
    /// Checks that the token may be used on a collection's routes.
    ///
    /// # Errors
    /// `InvalidToken` for an expired token; `Forbidden` for a customer's token on an admin route
    /// (docs/design/security.md#rule-21).
    pub(in crate::usecase) fn admit_to(&self, collection: Collection) -> Result<(), Failure> {
        let is_expired = match &self.token {
            AccessToken::User(bearer) => bearer.expired,
            AccessToken::Client(bearer) => bearer.expired,
        };
        if is_expired {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        if collection == Collection::Admin && self.is_of_customer() {
            return Err(Failure::Forbidden(Denial::CustomerToken));
        }
        Ok(())
    }

    /// Whether the token belongs to a session of a customer route.
    pub(in crate::usecase) fn is_of_customer(&self) -> bool {
        matches!(&self.token, AccessToken::User(bearer) if bearer.collection != Collection::Admin)
    }

    /// The user of the token. A client is no user.
    pub(in crate::usecase) fn user(&self) -> Option<&UserId> {
        match &self.token {
            AccessToken::User(bearer) => Some(&bearer.user),
            AccessToken::Client(_) => None,
        }
    }

    /// The content of the token if it belongs to a session of this user.
    pub(in crate::usecase) fn own(&self, user: &UserId) -> Option<&Bearer> {
        match &self.token {
            AccessToken::User(bearer) if bearer.user == *user => Some(bearer),
            _ => None,
        }
    }

    /// The session of the token. A client has none.
    pub(in crate::usecase) fn session(&self) -> Option<&SessionId> {
        match &self.token {
            AccessToken::User(bearer) => Some(&bearer.session),
            AccessToken::Client(_) => None,
        }
    }

    /// The caller that an idempotency key belongs to.
    pub(in crate::usecase) fn key_owner(&self) -> KeyOwner<'_> {
        match &self.token {
            AccessToken::User(bearer) => KeyOwner::User(&bearer.user),
            AccessToken::Client(bearer) => KeyOwner::Client(&bearer.client),
        }
    }
}

/// A caller that was checked, and the other items that were read together with it.
pub(in crate::usecase) struct Caller {
    identity: Identity,
    /// The other user that the request acts on; `None` if it does not exist or is the caller.
    other: Option<User>,
    /// The newest reset code of the other user, or of the caller if there is no other; if requested.
    pub(in crate::usecase) code: Option<ResetCode>,
    /// The session that the request acts on; if requested.
    pub(in crate::usecase) asked: Option<Session>,
    /// The result stored for the request's idempotency key; if requested.
    pub(in crate::usecase) stored: Option<StoredResult>,
}

enum Identity {
    User(Box<LiveUser>),
    Client(LiveClient),
}

/// A user with a live session.
pub(super) struct LiveUser {
    pub(super) session: Session,
    pub(super) user: User,
}

/// An API client whose token is valid.
pub(in crate::usecase) struct LiveClient {
    /// Scopes of the token that the client still has.
    pub(in crate::usecase) scopes: Vec<ClientScope>,
    /// Organization whose users the client may act on; `None` for all.
    organization: Option<OrganizationId>,
}

impl LiveClient {
    /// Checks the stored client of a token, as the authorizer and the introspection do
    /// (docs/design/security.md#rule-27). `found` is `None` for a deleted client and for a revoked token.
    ///
    /// # Errors
    /// `InvalidToken`; `IpNotAllowed`.
    pub(in crate::usecase) fn check(
        bearer: &ClientBearer,
        found: Option<ApiClient>,
        sender: Sender,
    ) -> Result<Self, Failure> {
        let client = found.filter(|client| client.honours(bearer.credential));
        let client = client.ok_or(Failure::InvalidToken(TokenFault::ClientGone))?;
        if let Sender::Address(address) = sender
            && !client.admits(address)
        {
            return Err(Failure::IpNotAllowed);
        }
        let mut scopes = bearer.scopes.clone();
        scopes.retain(|scope| client.scopes.contains(scope));
        Ok(Self { scopes, organization: client.organization })
    }
}

/// The sender of a client's token.
#[derive(Clone, Copy)]
pub(in crate::usecase) enum Sender {
    /// The caller of this request, with its address, if that is known.
    Address(Option<IpAddr>),
    /// Another host, which showed the token to the caller of this request.
    Elsewhere,
}

impl Caller {
    /// A user with a live session, as its items were read.
    pub(super) fn user(LiveUser { session, user }: LiveUser, items: CallerItems) -> Self {
        Self::new(Identity::User(Box::new(LiveUser { session, user })), items)
    }

    /// An API client, with the items that were read together with it.
    pub(super) fn client(client: LiveClient, items: CallerItems) -> Self {
        Self::new(Identity::Client(client), items)
    }

    fn new(identity: Identity, items: CallerItems) -> Self {
        let CallerItems { other, code, asked, stored, .. } = items;
        Self { identity, other, code, asked, stored }
    }

    /// Whether the caller has a scope. A user's session has all of them: its roles decide.
    pub(in crate::usecase) fn has(&self, scope: ClientScope) -> bool {
        match &self.identity {
            Identity::User(_) => true,
            Identity::Client(client) => client.scopes.contains(&scope),
        }
    }

    /// Checks that a client has a scope, and that a user need not change its password first.
    ///
    /// # Errors
    /// `Forbidden` (docs/design/security.md#rule-21, docs/design/security.md#rule-29).
    pub(in crate::usecase) fn require(&self, scope: ClientScope) -> Result<(), Failure> {
        self.require_scope(scope)?;
        self.require_full_token()
    }

    /// Checks that a user need not change its password first.
    ///
    /// # Errors
    /// `Forbidden` (docs/design/security.md#rule-21).
    pub(in crate::usecase) fn require_full_token(&self) -> Result<(), Failure> {
        if self.must_change_password() {
            return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
        }
        Ok(())
    }

    fn require_scope(&self, scope: ClientScope) -> Result<(), Failure> {
        if self.has(scope) { Ok(()) } else { Err(Failure::Forbidden(Denial::MissingScope)) }
    }

    /// Whether the caller is a user whose token permits only a change of the user's password.
    pub(in crate::usecase) fn must_change_password(&self) -> bool {
        matches!(&self.identity, Identity::User(live) if live.user.change_required)
    }

    /// Whether the caller has authority over other users: a client, or an administrator with an administrator's token.
    pub(in crate::usecase) fn is_administrator(&self) -> bool {
        match &self.identity {
            Identity::User(live) => {
                live.session.collection == Collection::Admin && live.user.is_administrator()
            }
            Identity::Client(_) => true,
        }
    }

    /// Whether the caller may act on `other` (docs/design/contract.md#authorization). A user is an administrator, uses
    /// an administrator's token, and has no pending password change (docs/design/security.md#rule-21). A client that is
    /// restricted to an organization has the authority of an `ADMIN` there: a `TENANT_ADMIN` could lift the restriction.
    pub(in crate::usecase) fn may_administer(&self, other: &User) -> bool {
        match &self.identity {
            Identity::User(live) => {
                self.is_administrator() && !self.must_change_password() && live.user.administers(other)
            }
            Identity::Client(client) => client.organization.as_ref().is_none_or(|organization| {
                *organization == other.organization && !other.roles.contains(&Role::TenantAdmin)
            }),
        }
    }

    /// The user with that id, if it is the caller, or a user that the caller may administer and has the scope for.
    ///
    /// # Errors
    /// `UserNotFound`; `Forbidden` for a client without the scope, and for a user that must change its password first.
    pub(in crate::usecase) fn target(&self, scope: ClientScope, id: &UserId) -> Result<&User, Failure> {
        self.require_scope(scope)?;
        if let Some(found) = self.within_authority(id) {
            return Ok(found);
        }
        self.require(scope)?;
        Err(Failure::UserNotFound)
    }

    /// The user with that id, if it is the caller or a user that the caller may administer. Scopes are not checked.
    pub(in crate::usecase) fn within_authority(&self, id: &UserId) -> Option<&User> {
        match &self.identity {
            Identity::User(live) if live.user.id == *id => Some(&live.user),
            _ => self.other.as_ref().filter(|other| other.id == *id && self.may_administer(other)),
        }
    }

    /// The user with that id, if the caller may act on its sessions and the path leads to it.
    ///
    /// # Errors
    /// As [`Self::target`]; also `Forbidden` for a caller that must change its password first
    /// (docs/design/security.md#rule-21).
    pub(in crate::usecase) fn owner_of_sessions(
        &self,
        scope: ClientScope,
        id: &UserId,
        (collection, owner): (Collection, &str),
    ) -> Result<&User, Failure> {
        self.require(scope)?;
        let target = self.target(scope, id)?;
        if target.is_under(collection, owner) { Ok(target) } else { Err(Failure::UserNotFound) }
    }

    /// Whether the caller may give a role to a user that it may administer. A caller cannot grant what it does not have.
    pub(in crate::usecase) fn may_grant(&self, role: Role) -> bool {
        match &self.identity {
            Identity::User(live) => {
                self.is_administrator()
                    && (role != Role::TenantAdmin || live.user.roles.contains(&Role::TenantAdmin))
            }
            Identity::Client(client) => role != Role::TenantAdmin || client.organization.is_none(),
        }
    }

    /// The organization to whose users the caller's authority is limited; `None` for all users of the tenant.
    ///
    /// # Errors
    /// `Forbidden` for a caller without authority over other users, and as [`Self::require`].
    pub(in crate::usecase) fn authority(
        &self,
        scope: ClientScope,
    ) -> Result<Option<&OrganizationId>, Failure> {
        if !self.is_administrator() {
            return Err(Failure::Forbidden(Denial::NoAdministrator));
        }
        self.require(scope)?;
        Ok(match &self.identity {
            Identity::User(live) if live.user.roles.contains(&Role::TenantAdmin) => None,
            Identity::User(live) => Some(&live.user.organization),
            Identity::Client(client) => client.organization.as_ref(),
        })
    }

    /// Checks that the caller may create a user with these roles in an organization.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(in crate::usecase) fn may_create_in(
        &self,
        organization: &OrganizationId,
        roles: &[Role],
    ) -> Result<(), Failure> {
        if self.authority(ClientScope::UsersWrite)?.is_some_and(|own| own != organization) {
            return Err(Failure::Forbidden(Denial::AnotherOrganization));
        }
        if !roles.iter().all(|role| self.may_grant(*role)) {
            return Err(Failure::Forbidden(Denial::HigherRole));
        }
        Ok(())
    }

    /// The caller's session, if the caller is a user.
    pub(in crate::usecase) fn session(&self) -> Option<&Session> {
        match &self.identity {
            Identity::User(live) => Some(&live.session),
            Identity::Client(_) => None,
        }
    }

    /// A change of `target`, which the caller may make. A change of the caller's own account also checks its session.
    pub(in crate::usecase) fn change<'a>(&'a self, target: &'a User, now: Timestamp) -> GuardedChange<'a> {
        let own_session = self.session().filter(|session| session.user == target.id);
        GuardedChange { own_session, target, now }
    }
}

#[cfg(test)]
mod tests;
