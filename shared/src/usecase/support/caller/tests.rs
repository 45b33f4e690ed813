//! Tests of [`super`].

use super::*;
use crate::{
    domain::{ClientId, ClientStatus, SecretHash, TenantId, client_tests, tests::at},
    token::tests::{session, user},
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

fn of_user(user: User, collection: Collection, other: Option<User>) -> Caller {
    let session = Session { collection, ..session() };
    Caller::user(LiveUser { session, user }, CallerItems { other, ..CallerItems::default() })
}

fn caller(role: Role, collection: Collection, other: Option<User>) -> Caller {
    of_user(User { roles: vec![role], ..user() }, collection, other)
}

fn pending(other: Option<User>) -> Caller {
    let user = User { roles: vec![Role::Admin], change_required: true, ..user() };
    of_user(user, Collection::Admin, other)
}

/// A client with the scope `users:write`.
fn client(organization: Option<&str>, other: Option<User>) -> Caller {
    let organization = organization.map(|name| OrganizationId::parse(name).unwrap());
    let client = LiveClient { scopes: vec![ClientScope::UsersWrite], organization };
    Caller::client(client, CallerItems { other, ..CallerItems::default() })
}

fn token(collection: Collection, expired: bool) -> CallerToken {
    let bearer = Bearer {
        tenant: user().tenant,
        user: user().id,
        session: session().id,
        collection,
        owner: "o".to_owned(),
        token_id: "token".to_owned(),
        issued_at: at(0),
        expires_at: at(0),
        expired,
    };
    CallerToken { token: AccessToken::User(bearer), address: None }
}

fn client_bearer() -> ClientBearer {
    ClientBearer {
        tenant: TenantId::parse("t").unwrap(),
        client: ClientId::from_random([7; 16]),
        credential: 1,
        scopes: vec![ClientScope::UsersRead, ClientScope::UsersWrite],
        token_id: "token".to_owned(),
        issued_at: at(0),
        expires_at: at(0),
        expired: false,
    }
}

fn client_token(expired: bool) -> CallerToken {
    CallerToken { token: AccessToken::Client(ClientBearer { expired, ..client_bearer() }), address: None }
}

// docs/design/security.md#rule-21
#[test]
fn administration_needs_the_role_the_token_the_organization_and_no_pending_change() {
    let admin = || caller(Role::Admin, Collection::Admin, None);
    assert!(admin().may_administer(&other("o")) && admin().is_administrator());
    assert!(!admin().may_administer(&other("p")), "other organization");
    assert!(!pending(None).may_administer(&other("o")), "password change is pending");
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
    let scope = ClientScope::UsersWrite;
    let admin = |found| caller(Role::Admin, Collection::Admin, found);
    assert_eq!(admin(None).target(scope, &own).unwrap().id, own);
    assert_eq!(pending(None).target(scope, &own).unwrap().id, own);
    assert_eq!(admin(Some(other("o"))).target(scope, &of_other).unwrap().id, of_other);
    for missing in
        [admin(None), admin(Some(other("p"))), caller(Role::User, Collection::Admin, Some(other("o")))]
    {
        assert!(matches!(missing.target(scope, &of_other), Err(Failure::UserNotFound)));
    }
    for found in [None, Some(other("o"))] {
        assert!(matches!(
            pending(found).target(scope, &of_other),
            Err(Failure::Forbidden(Denial::PasswordChangeRequired))
        ));
    }
}

// docs/design/security.md#rule-21
#[test]
fn sessions_of_a_user_need_the_path_of_the_user_and_no_pending_change() {
    let (own, scope) = (user().id, ClientScope::SessionsRead);
    let admin = caller(Role::Admin, Collection::Admin, None);
    assert_eq!(admin.owner_of_sessions(scope, &own, (Collection::Admin, "o")).unwrap().id, own);
    let wrong_path = admin.owner_of_sessions(scope, &own, (Collection::Admin, "p"));
    assert!(matches!(wrong_path, Err(Failure::UserNotFound)));
    let pending = pending(None);
    let refused = pending.owner_of_sessions(scope, &own, (Collection::Admin, "o"));
    assert!(matches!(refused, Err(Failure::Forbidden(_))));
}

// docs/design/security.md#rule-29
#[test]
fn client_acts_within_its_scopes_and_its_organization() {
    let id = UserId::parse("other").unwrap();
    let scope = ClientScope::UsersWrite;
    for within in [client(None, Some(other("p"))), client(Some("o"), Some(other("o")))] {
        assert_eq!(within.target(scope, &id).unwrap().id, id);
        assert!(matches!(
            within.target(ClientScope::UsersRead, &id),
            Err(Failure::Forbidden(Denial::MissingScope))
        ));
    }
    let tenant_admin = User { roles: vec![Role::TenantAdmin], ..other("o") };
    assert!(client(None, Some(tenant_admin.clone())).target(scope, &id).is_ok());
    for outside in
        [client(None, None), client(Some("o"), Some(other("p"))), client(Some("o"), Some(tenant_admin))]
    {
        assert!(matches!(outside.target(scope, &id), Err(Failure::UserNotFound)));
    }
}

// docs/design/security.md#rule-29
#[test]
fn caller_grants_and_creates_only_what_it_has() {
    let [own, another] = ["o", "p"].map(|name| OrganizationId::parse(name).unwrap());
    let of = |role| caller(role, Collection::Admin, None);
    for (caller, may_cross, may_raise) in [
        (of(Role::TenantAdmin), true, true),
        (of(Role::Admin), false, false),
        (client(None, None), true, true),
        (client(Some("o"), None), false, false),
    ] {
        assert!(caller.may_create_in(&own, &[Role::User, Role::Admin]).is_ok());
        let across = caller.may_create_in(&another, &[Role::User]);
        let raised = caller.may_create_in(&own, &[Role::TenantAdmin]);
        if may_cross {
            assert!(across.is_ok());
        } else {
            assert!(matches!(across, Err(Failure::Forbidden(Denial::AnotherOrganization))));
        }
        if may_raise {
            assert!(raised.is_ok());
        } else {
            assert!(matches!(raised, Err(Failure::Forbidden(Denial::HigherRole))));
        }
    }
    let refused = |caller: Caller| match caller.may_create_in(&own, &[Role::User]) {
        Err(Failure::Forbidden(denial)) => Some(denial),
        _ => None,
    };
    assert_eq!(refused(of(Role::User)), Some(Denial::NoAdministrator));
    assert_eq!(refused(caller(Role::Admin, Collection::Individual, None)), Some(Denial::NoAdministrator));
    assert_eq!(refused(pending(None)), Some(Denial::PasswordChangeRequired));
    let reader = LiveClient { scopes: vec![ClientScope::UsersRead], organization: None };
    let reader = Caller::client(reader, CallerItems::default());
    assert_eq!(refused(reader), Some(Denial::MissingScope));
}

// docs/design/security.md#rule-27
#[test]
fn client_is_live_with_its_credential_and_from_its_networks() {
    let hash = SecretHash { mac: "m".to_owned(), key_version: 1 };
    let stored = client_tests::client().with_secret(hash, false, at(1)).unwrap();
    let check = |found, sender| LiveClient::check(&client_bearer(), found, sender);
    let live = check(Some(stored.clone()), Sender::Address(None)).unwrap();
    assert_eq!(live.scopes, [ClientScope::UsersRead], "a scope that the client lost is gone");
    let disabled = ApiClient { status: ClientStatus::Disabled, ..stored.clone() };
    for gone in [None, Some(disabled), Some(client_tests::client())] {
        let gone = check(gone, Sender::Elsewhere);
        assert!(matches!(gone, Err(Failure::InvalidToken(TokenFault::ClientGone))));
    }
    let networked = || Some(ApiClient { ip_allow: vec!["192.0.2.0/24".parse().unwrap()], ..stored.clone() });
    for (address, is_admitted) in [("192.0.2.9", true), ("198.51.100.1", false)] {
        let checked = check(networked(), Sender::Address(address.parse().ok()));
        assert_eq!(checked.is_ok(), is_admitted, "{address}");
    }
    assert!(matches!(check(networked(), Sender::Address(None)), Err(Failure::IpNotAllowed)));
    assert!(check(networked(), Sender::Elsewhere).is_ok());
}

// docs/design/security.md#rule-29
#[test]
fn token_of_a_client_opens_each_collection_until_it_expires() {
    for route in [Collection::Admin, Collection::Individual, Collection::Organization] {
        assert!(client_token(false).admit_to(route).is_ok());
        let expired = client_token(true).admit_to(route);
        assert!(matches!(expired, Err(Failure::InvalidToken(TokenFault::Expired))));
    }
    assert!(client_token(false).own(&user().id).is_none() && client_token(false).session().is_none());
}

// docs/design/security.md#rule-21
#[test]
fn customer_token_is_rejected_on_admin_routes() {
    for (route, of, is_admitted) in [
        (Collection::Admin, Collection::Admin, true),
        (Collection::Admin, Collection::Individual, false),
        (Collection::Admin, Collection::Organization, false),
        (Collection::Individual, Collection::Admin, true),
        (Collection::Individual, Collection::Individual, true),
    ] {
        let result = token(of, false).admit_to(route);
        let is_expected = if is_admitted {
            result.is_ok()
        } else {
            matches!(result, Err(Failure::Forbidden(Denial::CustomerToken)))
        };
        assert!(is_expected, "{route:?} {of:?}");
        let expired = token(of, true).admit_to(route);
        assert!(matches!(expired, Err(Failure::InvalidToken(TokenFault::Expired))), "{route:?} {of:?}");
    }
}
