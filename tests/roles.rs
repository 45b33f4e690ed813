//! Authorization on every route that acts on another user (docs/design/contract.md#authorization).

use std::collections::BTreeSet;

use doorward::{
    domain::{OrganizationId, Role, TenantId, User, UserId, Username},
    port::Clock,
    route::{self, Function, Route, Router},
};
use e2e::{Actor, Login, NORDIC, World};
use http::Method;
use serde_json::{Value, json};

use crate::{MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN, sessions};

const NORDIC_CUSTOMER: &str = "freja.holm@example.com";

/// Outcomes in the audit log of requests about users and sessions that the caller may not see.
const HIDDEN: [&str; 2] = ["USER_NOT_FOUND", "SESSION_NOT_FOUND"];

/// The routes that act on another user: name and request for `target`.
fn routes(target: &Actor, session: &str) -> Vec<(&'static str, Method, String, Option<Value>)> {
    let id = &target.user.user_id;
    let rpc = |name: &str| format!("/zitadel.user.v2.UserService/{name}");
    let set = json!({ "newPassword": { "password": NEW_PASSWORD } });
    let mut routes = vec![
        ("logout", Method::DELETE, format!("{}/{session}", target.sessions()), None),
        (
            "update",
            Method::PUT,
            format!("/api/v2.1/admin/users/{id}/credentials"),
            Some(json!({ "changeRequired": false })),
        ),
        ("ask", Method::POST, format!("/v2/users/{id}/password_reset"), Some(json!({}))),
        (
            "ask for a code",
            Method::POST,
            format!("/v2/users/{id}/password_reset"),
            Some(json!({ "returnCode": {} })),
        ),
        ("ask by rpc", Method::POST, rpc("PasswordReset"), Some(json!({ "userId": id }))),
        ("set", Method::POST, format!("/v2/users/{id}/password"), Some(set.clone())),
        (
            "set by rpc",
            Method::POST,
            rpc("SetPassword"),
            Some(json!({ "userId": id, "newPassword": set["newPassword"] })),
        ),
        (
            "ocariot",
            Method::POST,
            format!("/v1/users/{id}/reset-password"),
            Some(json!({ "new_password": NEW_PASSWORD })),
        ),
        (
            "reset",
            Method::POST,
            "/api/v2.1/admin/users/login/reset".to_owned(),
            Some(json!({ "userId": id })),
        ),
    ];
    for (name, method, rest, body) in user_calls() {
        let mut with_user = body.clone();
        with_user["userId"] = json!(id);
        let path = if name == "UpdateHumanUser" {
            format!("/v2/users/human/{id}")
        } else {
            format!("/v2/users/{id}{rest}")
        };
        routes.push((name, method, path, Some(body)));
        routes.push((name, Method::POST, rpc(name), Some(with_user)));
    }
    routes
}

/// The calls of the user API that act on a user: name, method, rest of the path and body.
fn user_calls() -> Vec<(&'static str, Method, &'static str, Value)> {
    let email = json!({ "email": "other@new.example", "isVerified": true });
    let phone = json!({ "phone": "+4512345678", "isVerified": true });
    let code = json!({ "verificationCode": "AAAAAAAA" });
    vec![
        ("GetUserByID", Method::GET, "", json!({})),
        ("UpdateUser", Method::PATCH, "", json!({ "human": { "profile": { "nickName": "x" } } })),
        ("UpdateHumanUser", Method::PUT, "", json!({ "profile": { "nickName": "x" } })),
        ("SetEmail", Method::POST, "/email", email),
        ("SendEmailCode", Method::POST, "/email/send", json!({})),
        ("ResendEmailCode", Method::POST, "/email/resend", json!({})),
        ("VerifyEmail", Method::POST, "/email/verify", code.clone()),
        ("SetPhone", Method::POST, "/phone", phone),
        ("RemovePhone", Method::DELETE, "/phone", json!({})),
        ("VerifyPhone", Method::POST, "/phone/verify", code),
        ("DeactivateUser", Method::POST, "/deactivate", json!({})),
        ("ReactivateUser", Method::POST, "/reactivate", json!({})),
        ("LockUser", Method::POST, "/lock", json!({})),
        ("UnlockUser", Method::POST, "/unlock", json!({})),
        ("DeleteUser", Method::DELETE, "", json!({})),
    ]
}

/// Creates a user with this role and the password of `model`.
pub(crate) async fn create(world: &World, model: &str, id: &str, role: Role, organization: &str) -> Actor {
    let model = world.actor(model).unwrap();
    let (user, username) = (world.user(&model).await.unwrap(), format!("{id}@nordic.example"));
    let user = User {
        id: UserId::parse(id).unwrap(),
        username: Username::parse(&username).unwrap(),
        organization: OrganizationId::parse(organization).unwrap(),
        roles: vec![role],
        ..user
    };
    world.store.create_user(&user, world.clock.now()).await.unwrap();
    let mut actor = model;
    id.clone_into(&mut actor.user.user_id);
    actor.user.username = username;
    organization.clone_into(&mut actor.user.organization_id);
    actor
}

async fn refuse_everywhere(
    world: &World,
    by: &Login,
    target: &Login,
    status: impl Fn(&str) -> i64,
    why: &str,
    audited: &[&str],
) {
    let tenant = &by.actor.tenant.tenant_id;
    for (name, method, path, body) in routes(&target.actor, &target.session) {
        let answer = world.request(&method, &path, tenant, Some(&by.token), body.as_ref()).await.unwrap();
        assert_eq!(answer.status, status(name), "{why}: {name}: {}", answer.text);
        let found = world.audit.verdict();
        assert!(audited.contains(&found.as_str()), "{why}: {name}: {found}");
    }
    assert!(world.opens(target).await.unwrap(), "{why}: the rejected request ended the session");
}

// docs/design/security.md#rule-21; docs/design/contract.md#authorization
#[tokio::test]
async fn authorization_is_the_same_on_every_route() {
    let world = World::start().await.unwrap();
    let home = world.actor(NORDIC_ADMIN).unwrap().user.organization_id;
    let chief = create(&world, NORDIC_ADMIN, "aaaaaaaaaaaaaaaaaaaaaaaa", Role::TenantAdmin, &home).await;
    let chief = world.login(&chief).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let other_admin = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();
    let user = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let freja = world.login(&world.actor(NORDIC_CUSTOMER).unwrap()).await.unwrap();
    let business = Actor { collection: "organization".to_owned(), ..freja.actor.clone() };
    let business = world.login(&business).await.unwrap();

    // Users that the caller may not access get 404; customers may not act on other users.
    let customer = |name: &str| if name == "logout" { 404 } else { 403 };
    for target in [&freja, &business] {
        let audited = ["FORBIDDEN CUSTOMER_TOKEN", "FORBIDDEN NO_ADMINISTRATOR", "SESSION_NOT_FOUND"];
        refuse_everywhere(&world, &user, target, customer, "a user towards another", &audited).await;
        let why = "an administrator of another organization";
        refuse_everywhere(&world, &other_admin, target, |_| 404, why, &HIDDEN).await;
    }
    refuse_everywhere(&world, &admin, &chief, |_| 404, "an administrator towards the tenant's", &HIDDEN)
        .await;

    // Authorized callers succeed on every route.
    let elsewhere = create(
        &world,
        OTHER_ADMIN,
        "bbbbbbbbbbbbbbbbbbbbbbbb",
        Role::Admin,
        &other_admin.actor.user.organization_id,
    )
    .await;
    let mut called = BTreeSet::new();
    for (by, target) in [(&admin, freja.actor), (&admin, business.actor), (&chief, elsewhere)] {
        for at in 0..routes(&target, "").len() {
            let (id, record) =
                (UserId::parse(&target.user.user_id).unwrap(), world.user(&target).await.unwrap());
            let session = world.login(&target).await.unwrap();
            let (name, method, path, body) = routes(&target, &session.session).swap_remove(at);
            let answer = world.request(&method, &path, NORDIC, Some(&by.token), body.as_ref()).await.unwrap();
            // Some calls do not apply to an active user without a code. They fail after the authorization.
            let is_authorized = ["USER_STATUS_CONFLICT", "INVALID_CODE"].contains(&&*world.audit.verdict());
            assert!(is_authorized || (200..300).contains(&answer.status), "{name}: {}", answer.text);
            called.insert(route(&method, &path));
            // Restores the user for the next route.
            let tenant = TenantId::parse(NORDIC).unwrap();
            match world.store.user(&tenant, &id).await.unwrap() {
                Some(changed) => world.store.replace_user(&changed, &record).await.unwrap(),
                None => world.store.create_user(&record, world.clock.now()).await.unwrap(),
            }
        }
    }
    // tests/sessions/access.rs covers the session routes.
    let of_sessions = sessions::paths(&user.actor).into_iter();
    let of_sessions = of_sessions.flat_map(|path| sessions::routes(&path, &user.session));
    called.extend(of_sessions.map(|(method, path)| route(&method, &path)));
    let expected = route::table().map(|(_, route)| route).filter(|route| acts_on_another(route));
    let expected: BTreeSet<_> = expected.map(|route| (route.method.to_string(), route.path)).collect();
    let astray: Vec<_> = called.symmetric_difference(&expected).collect();
    assert!(astray.is_empty(), "not called for another user, or not to be: {astray:?}");
}

/// The route of a request.
fn route(method: &Method, path: &str) -> (String, &'static str) {
    let found =
        Function::all().find_map(|function| Router::new(function.routes()).unwrap().find(method, path));
    (method.to_string(), found.unwrap().0.path)
}

/// Whether the route can act on another user.
fn acts_on_another(route: &Route) -> bool {
    // A password, a token or a code authorizes these actions, not the caller's role. Public documents, client tokens
    // and preflight requests have no user. tests/users covers creations and lists.
    let others = [
        "session.create",
        "user.create",
        "users.list",
        "session.refresh",
        "page.show",
        "page.submit",
        "token.issue",
        "token.introspect",
        "token.revoke",
        "configuration.show",
        "keys.show",
        "health.show",
        "preflight",
    ];
    !others.contains(&route.action)
}

// docs/design/contract.md#ocariot-v1: an administrator changes its own password with the current one, on another route.
#[tokio::test]
async fn ocariot_route_rejects_the_callers_own_password() {
    let world = World::start().await.unwrap();
    let home = world.actor(NORDIC_ADMIN).unwrap().user.organization_id;
    let admin = create(&world, NORDIC_ADMIN, "aaaaaaaaaaaaaaaaaaaaaaaa", Role::Admin, &home).await;
    let admin = world.login(&admin).await.unwrap();
    let own = routes(&admin.actor, &admin.session).into_iter().find(|(name, ..)| *name == "ocariot");
    let (_, method, path, body) = own.unwrap();
    let answer = world.request(&method, &path, NORDIC, Some(&admin.token), body.as_ref()).await.unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text);
    assert_eq!(world.audit.verdict(), "FORBIDDEN OWN_ACCOUNT");
    assert!(world.opens(&admin).await.unwrap());
}

// docs/design/contract.md#authorization: each decision reads the stored roles, not the token's claims.
#[tokio::test]
async fn removed_role_grants_nothing() {
    let world = World::start().await.unwrap();
    let freja = world.login(&world.actor(NORDIC_CUSTOMER).unwrap()).await.unwrap();
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    let before = world.login(&admin).await.unwrap();
    let known = world.user(&admin).await.unwrap();
    world.store.replace_user(&known, &User { roles: vec![Role::User], ..known.clone() }).await.unwrap();
    let why = "an administrator that is none any more";
    refuse_everywhere(&world, &before, &freja, |_| 401, why, &["INVALID_TOKEN SESSION_GONE"]).await;
    assert_eq!(
        world.try_login(&admin, &admin.user.password).await.unwrap().verdict(),
        (401, "AUTHENTICATION")
    );
}
