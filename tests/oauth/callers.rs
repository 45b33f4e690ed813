//! Client tokens on every route that acts on a user with an access token (docs/design/contract.md#authorization).

use std::collections::{BTreeMap, btree_map::Entry};

use doorward::{
    domain::{ApiClient, ClientId, ClientScope, ClientStatus, OrganizationId, Role, TenantId, User},
    port::Clock,
    route::table,
};
use e2e::{Answer, Login, NORDIC, RegisteredClient, World, event};
use http::Method;
use serde_json::{Value, json};

use crate::{
    MARCUS, NORDIC_ADMIN, roles,
    route_matrix::{Case, Expected, Request, Row, rows},
};

/// Outcomes in the audit log of requests about users and sessions that the caller may not see.
const HIDDEN: [&str; 2] = ["USER_NOT_FOUND", "SESSION_NOT_FOUND"];

/// The scope that an action needs. The matrix requests a reset code with `returnCode`.
fn scope(action: &str) -> ClientScope {
    match action {
        "sessions.list" | "session.read" => ClientScope::SessionsRead,
        "session.end" | "sessions.end" => ClientScope::SessionsWrite,
        "code.ask" => ClientScope::Recovery,
        "user.read" | "users.list" => ClientScope::UsersRead,
        _ => ClientScope::UsersWrite,
    }
}

/// A route, and a valid request about `target`.
struct Target<'a> {
    row: &'a Row,
    action: &'static str,
    login: Login,
}

impl Target<'_> {
    fn user(&self) -> &str {
        &self.login.actor.user.user_id
    }

    fn name(&self) -> String {
        format!("{} {}", self.row.0, self.row.1)
    }

    /// Sends the request about the user with this ID, after this change of the event.
    async fn send(&self, world: &World, token: &str, user: &str, change: impl FnOnce(&mut Value)) -> Answer {
        let (method, path, request, _) = self.row;
        let known = &self.login.actor.user;
        let path = path
            .replace("{organizationId}", &known.organization_id)
            .replace("{customerId}", known.customer_id.as_deref().unwrap_or_default())
            .replace("{userId}", user)
            .replace("{user_id}", user)
            .replace("{sessionId}", &self.login.session);
        let body = match request {
            Request::Json(body) => Some(serde_json::from_str(&body.replace("USER", user)).unwrap()),
            _ => None,
        };
        let method: Method = method.parse().unwrap();
        let mut event = event(&method, &path, NORDIC, Some(token), body.as_ref());
        change(&mut event);
        let function = table().find(|(_, route)| route.method == method && route.path == self.row.1);
        world.send(function.unwrap().0, &event.to_string()).await.unwrap()
    }
}

/// The routes with an access token, each with a target that its path fits.
async fn targets<'a>(world: &World, rows: &'a [Row]) -> Vec<Target<'a>> {
    let mut logins = BTreeMap::new();
    let mut targets = Vec::new();
    for row in rows {
        let (method, path, request, _) = row;
        if !matches!(request, Request::Sessions | Request::Json(_)) {
            continue;
        }
        let is_admin = path.starts_with("/api/v2.1/admin/organization");
        let is_organization = path.contains("/customer/organization/");
        let is_hexadecimal = path.contains("{user_id}");
        let kind = (is_admin, is_organization, is_hexadecimal);
        if let Entry::Vacant(login) = logins.entry(kind) {
            let mut actor = world.actor(if is_admin { NORDIC_ADMIN } else { MARCUS }).unwrap();
            if is_organization {
                "organization".clone_into(&mut actor.collection);
            }
            if is_hexadecimal {
                let users = actor.tenant.users.clone();
                actor.user = users.into_iter().find(|user| user.user_id.len() == 24).unwrap();
            }
            login.insert(world.login(&actor).await.unwrap());
        }
        let route = table().find(|(_, route)| route.method.as_str() == *method && route.path == *path);
        targets.push(Target { row, action: route.unwrap().1.action, login: logins[&kind].clone() });
    }
    assert!(targets.len() >= 18, "{}", targets.len());
    targets
}

/// Registers a client with all scopes but one, and this restriction.
async fn client(
    world: &World,
    without: Option<ClientScope>,
    change: impl FnOnce(&mut ApiClient),
) -> (RegisteredClient, String) {
    let scopes: Vec<_> = ClientScope::all().filter(|scope| Some(*scope) != without).collect();
    let client = world.register_client(NORDIC, &scopes, change).await.unwrap();
    let token = world.client_token(&client).await.unwrap();
    (client, token)
}

fn in_organization(name: &str) -> impl FnOnce(&mut ApiClient) + use<> {
    let organization = OrganizationId::parse(name).unwrap();
    |client| client.organization = Some(organization)
}

/// Asserts status and audit event of a refused request.
fn assert_refused(world: &World, answer: &Answer, expected: (i64, &str), client: &str, what: &str) {
    assert_eq!((answer.status, world.audit.verdict().as_str()), expected, "{what}: {}", answer.text);
    assert_eq!(world.audit.last()["client"], client, "{what}: the audit event names the client");
    assert!(world.audit.last().get("caller").is_none_or(Value::is_null), "{what}: no user is the caller");
}

// docs/design/security.md#rule-29; docs/design/security.md#rule-27; docs/design/security.md#rule-22
#[tokio::test]
async fn client_token_is_refused_for_its_reason_on_every_route() {
    let world = World::start().await.unwrap();
    let rows = rows();
    let targets = targets(&world, &rows).await;
    let mut without = BTreeMap::new();
    for scope in ClientScope::all() {
        without.insert(scope, client(&world, Some(scope), |_| ()).await);
    }
    let elsewhere = client(&world, None, in_organization("another")).await;
    let disallowed =
        client(&world, None, |client| client.ip_allow = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let [disabled, retired, deleted, revoked] = [
        client(&world, None, |_| ()).await,
        client(&world, None, |_| ()).await,
        client(&world, None, |_| ()).await,
        client(&world, None, |_| ()).await,
    ];
    let live = client(&world, None, |_| ()).await;
    let now = world.clock.now();
    let disable = |client| ApiClient { status: ClientStatus::Disabled, ..client };
    world.change_client(&disabled.0, disable).await.unwrap();
    let secret = secrecy::SecretString::from("dws1_another");
    let hash = world.keys(NORDIC).await.unwrap();
    let hash = hash.client_secret_hash(&ClientId::parse(&retired.0.id).unwrap(), &secret).unwrap();
    let rotate = |client: ApiClient| client.with_secret(hash, false, now).unwrap().without(1, now).unwrap();
    world.change_client(&retired.0, rotate).await.unwrap();
    let (tenant, id) = (TenantId::parse(NORDIC).unwrap(), ClientId::parse(&deleted.0.id).unwrap());
    world.store.delete_client(&tenant, &id).await.unwrap();
    assert_eq!(world.oauth(&live.0, "revoke", &[("token", &revoked.1)]).await.unwrap().status, 200);

    for target in &targets {
        let (name, user) = (target.name(), target.user());
        let (without, token) = &without[&scope(target.action)];
        let answer = target.send(&world, token, user, |_| ()).await;
        assert_refused(&world, &answer, (403, "FORBIDDEN MISSING_SCOPE"), &without.id, &name);

        if let Expected::Is(status, _) = target.row.3.of(Case::OtherTenantsUser) {
            let unknown =
                if target.row.1.contains("{user_id}") { "000000000000000000000000" } else { "unknown" };
            let unknown = target.send(&world, &elsewhere.1, unknown, |_| ()).await;
            let found = target.send(&world, &elsewhere.1, user, |_| ()).await;
            assert_eq!((found.status, &found.text), (i64::from(status), &unknown.text), "{name}");
            assert!(HIDDEN.contains(&world.audit.verdict().as_str()), "{name}: {}", world.audit.verdict());
        }

        for (client, token) in [&disabled, &retired, &deleted, &revoked] {
            let answer = target.send(&world, token, user, |_| ()).await;
            assert_refused(&world, &answer, (401, "INVALID_TOKEN CLIENT_GONE"), &client.id, &name);
        }
        let outside = |event: &mut Value| event["requestContext"]["http"]["sourceIp"] = json!("192.0.2.9");
        let answer = target.send(&world, &disallowed.1, user, outside).await;
        assert_refused(&world, &answer, (403, "IP_NOT_ALLOWED"), &disallowed.0.id, &name);
        let mismatch = |event: &mut Value| event["headers"]["x-tenant-id"] = json!("another");
        let answer = target.send(&world, &live.1, user, mismatch).await;
        assert_eq!((answer.status, world.audit.verdict().as_str()), (403, "TENANT_MISMATCH"), "{name}");
    }
    world.change_tenant(NORDIC, true, None).await.unwrap();
    for target in &targets {
        let answer = target.send(&world, &live.1, target.user(), |_| ()).await;
        let expected = (403, "TENANT_SUSPENDED");
        assert_refused(&world, &answer, expected, &live.0.id, &target.name());
    }
    world.change_tenant(NORDIC, false, None).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(15 * 60));
    for target in &targets {
        let answer = target.send(&world, &live.1, target.user(), |_| ()).await;
        let expected = (401, "INVALID_TOKEN EXPIRED");
        assert_refused(&world, &answer, expected, &live.0.id, &target.name());
    }
}

// docs/design/security.md#rule-29; docs/design/storage.md#calls-per-request
#[tokio::test]
async fn client_token_with_the_scope_is_accepted_with_the_calls_of_an_administrator() {
    let world = World::start().await.unwrap();
    let rows = rows();
    let home = world.actor(MARCUS).unwrap().user.organization_id;
    let chief = roles::create(&world, NORDIC_ADMIN, "chief", Role::TenantAdmin, &home).await;
    let chief = world.login(&chief).await.unwrap();
    let mut clients = BTreeMap::new();
    for scope in ClientScope::all() {
        let client = world.register_client(NORDIC, &[scope], in_organization(&home)).await.unwrap();
        clients.insert(scope, (world.client_token(&client).await.unwrap(), client));
    }
    for at in 0..targets(&world, &rows).await.len() {
        let mut calls = Vec::new();
        for by_client in [false, true] {
            let target = targets(&world, &rows).await.swap_remove(at);
            if target.action == "user.create" {
                // Two creations of one user conflict. tests/users covers both callers.
                continue;
            }
            let before = world.user(&target.login.actor).await.unwrap();
            let (token, client) = &clients[&scope(target.action)];
            let token = if by_client { token } else { &chief.token };
            // Loads the tenant and its keys.
            target
                .send(&world, token, target.user(), |event| event["headers"]["x-tenant-id"] = json!("x"))
                .await;
            world.calls.take();
            let answer = target.send(&world, token, target.user(), |_| ()).await;
            let Expected::Is(status, _) = target.row.3.of(Case::Valid) else { continue };
            assert_eq!(answer.status, i64::from(status), "{}: {}", target.name(), answer.text);
            let mut made = world.calls.take();
            made.sort();
            calls.push(made);
            if by_client {
                assert_eq!(world.audit.last()["client"], client.id, "{}", target.name());
            }
            restore(&world, &before).await;
        }
        assert!(calls.windows(2).all(|pair| pair[0] == pair[1]), "{} {}", rows[at].0, rows[at].1);
    }
}

/// Restores a user for the next route.
async fn restore(world: &World, before: &User) {
    match world.store.user(&before.tenant, &before.id).await.unwrap() {
        Some(changed) => {
            world.store.replace_user(&changed, before).await.unwrap();
        }
        None => {
            world.store.create_user(before, world.clock.now()).await.unwrap();
        }
    }
}
