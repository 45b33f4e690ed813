//! Client tokens and the recovery of passwords: codes, idempotency keys, and a client that is disabled during a request.

use std::sync::Arc;

use doorward::domain::{ApiClient, ClientScope, ClientStatus, OrganizationId};
use e2e::{Answer, NORDIC, World, event};
use http::Method;
use serde_json::{Value, json};

use super::world_with_client;
use crate::{ADMIN, MARCUS, NEW_PASSWORD};

async fn post(world: &World, path: &str, token: &str, body: &Value) -> Answer {
    world.request(&Method::POST, path, NORDIC, Some(token), Some(body)).await.unwrap()
}

fn marcus(world: &World) -> String {
    world.actor(MARCUS).unwrap().user.user_id
}

/// The paths of PasswordReset, with the user in the path or the body.
fn paths(user: &str) -> [(String, Value); 2] {
    [
        (format!("/v2/users/{user}/password_reset"), json!({})),
        ("/zitadel.user.v2.UserService/PasswordReset".to_owned(), json!({ "userId": user })),
    ]
}

// docs/design/security.md#rule-29; docs/design/contract.md#zitadel-v2
#[tokio::test]
async fn client_sends_a_code_without_a_scope_and_receives_one_with_recovery() {
    let world = World::start().await.unwrap();
    let user = marcus(&world);
    let scopes: Vec<_> = ClientScope::all().filter(|scope| *scope != ClientScope::Recovery).collect();
    let sender = world.register_client(NORDIC, &scopes, |_| ()).await.unwrap();
    let sender = world.client_token(&sender).await.unwrap();
    let recovery = world.register_client(NORDIC, &[ClientScope::Recovery], |_| ()).await.unwrap();
    let recovery = world.client_token(&recovery).await.unwrap();
    for (path, body) in paths(&user) {
        let mut asks_code = body.clone();
        asks_code["returnCode"] = json!({});
        let queued = world.outbox(NORDIC, &user).await.unwrap().len();
        let sent = post(&world, &path, &sender, &body).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let details = sent.body["details"].as_object().unwrap();
        assert_eq!(details.keys().collect::<Vec<_>>(), ["changeDate"], "nothing about the user");
        assert_eq!(world.outbox(NORDIC, &user).await.unwrap().len(), queued + 1);
        assert_eq!(post(&world, &path, &sender, &asks_code).await.status, 403);
        assert_eq!(world.audit.verdict(), "FORBIDDEN MISSING_SCOPE");

        let sent = post(&world, &path, &recovery, &body).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        assert!(sent.body["details"]["sequence"].is_string(), "{}", sent.text);
        let returned = post(&world, &path, &recovery, &asks_code).await;
        let code = returned.body["verificationCode"].as_str().unwrap();
        let change = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
        let done = post(&world, &format!("/v2/users/{user}/password"), &sender, &change).await;
        assert_eq!(done.status, 200, "{}", done.text);
    }
    for (path, body) in paths("unknown") {
        assert_eq!(post(&world, &path, &sender, &body).await.status, 404);
        assert_eq!(world.audit.verdict(), "USER_NOT_FOUND");
    }
}

// docs/design/security.md#rule-29: nothing of a user of another organization changes.
#[tokio::test]
async fn restricted_client_sends_no_code_to_another_organization() {
    let world = World::start().await.unwrap();
    let user = marcus(&world);
    let another = |client: &mut ApiClient| client.organization = OrganizationId::parse("another").ok();
    let client = world.register_client(NORDIC, &[ClientScope::Recovery], another).await.unwrap();
    let token = world.client_token(&client).await.unwrap();
    let queued = world.outbox(NORDIC, &user).await.unwrap().len();
    for (path, body) in paths(&user) {
        assert_eq!(post(&world, &path, &token, &body).await.status, 404);
        assert_eq!(world.audit.verdict(), "USER_NOT_FOUND");
    }
    assert_eq!(world.outbox(NORDIC, &user).await.unwrap().len(), queued);
}

// docs/design/contract.md#every-request: an idempotency key belongs to tenant, route and caller.
#[tokio::test]
async fn idempotency_key_belongs_to_the_client() {
    let (world, one) = world_with_client().await;
    let user = marcus(&world);
    let scopes: Vec<_> = ClientScope::all().collect();
    let two = world.register_client(NORDIC, &scopes, |_| ()).await.unwrap();
    let one = world.client_token(&one).await.unwrap();
    let two = world.client_token(&two).await.unwrap();
    for (path, body) in [
        (format!("/v2/users/{user}/password_reset"), json!({})),
        ("/api/v2.1/admin/users/login/reset".to_owned(), json!({ "userId": user })),
    ] {
        for (token, is_repeated) in [(&one, false), (&one, true), (&two, false), (&two, true)] {
            let queued = world.outbox(NORDIC, &user).await.unwrap().len();
            let mut event = event(&Method::POST, &path, NORDIC, Some(token), Some(&body));
            event["headers"]["idempotency-key"] = json!("key");
            let function = doorward::route::Function::ResetLogin;
            let answer = world.send(function, &event.to_string()).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert_eq!(world.audit.last()["reason"] == "REPEATED", is_repeated, "{path}");
            let sent = world.outbox(NORDIC, &user).await.unwrap().len() - queued;
            assert_eq!(sent, usize::from(!is_repeated), "{path}");
        }
    }
}

// docs/design/contract.md#login-reset
#[tokio::test]
async fn client_must_name_the_user_of_a_login_reset() {
    let (world, client) = world_with_client().await;
    let token = world.client_token(&client).await.unwrap();
    let answer = post(&world, "/api/v2.1/admin/users/login/reset", &token, &json!({})).await;
    assert_eq!(answer.verdict(), (400, "VALIDATION"));
    assert_eq!(answer.body["data"]["errors"][0]["field"], "userId");
}

// docs/design/contract.md#zitadel-v2: official clients send their bearer and no X-Tenant-ID.
#[tokio::test]
async fn bearer_names_the_tenant_of_a_code() {
    let (world, client) = world_with_client().await;
    let user = marcus(&world);
    let token = world.client_token(&client).await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let foreign = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", signature.chars().rev().collect::<String>());
    let path = format!("/v2/users/{user}/password");
    let set = async |bearer: &str, tenant: Option<&str>| {
        let code = post(&world, &paths(&user)[0].0, &token, &json!({ "returnCode": {} })).await;
        let code = &code.body["verificationCode"];
        let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
        let mut event = event(&Method::POST, &path, "", Some(bearer), Some(&body));
        match tenant {
            Some(tenant) => event["headers"]["x-tenant-id"] = json!(tenant),
            None => {
                event["headers"].as_object_mut().unwrap().remove("x-tenant-id");
            }
        }
        let function = doorward::route::Function::UpdateCredentials;
        let answer = world.send(function, &event.to_string()).await.unwrap();
        (answer.status, world.audit.verdict())
    };
    let done = || (200, "SUCCESS".to_owned());
    for bearer in [&token, &login.token] {
        assert_eq!(set(bearer, None).await, done());
        assert_eq!(set(bearer, Some(NORDIC)).await, done());
        assert_eq!(set(bearer, Some("another")).await, (403, "TENANT_MISMATCH".to_owned()));
    }
    // An invalid token is as no token.
    assert_eq!(set(&forged, Some(NORDIC)).await, done());
    assert_eq!(set(&forged, None).await, (401, "INVALID_TOKEN FORGED".to_owned()));
    assert_eq!(set("no token", None).await.0, 400);
    // A valid token of another tenant names that tenant, which has no such code.
    assert_eq!(set(&foreign.token, None).await, (400, "INVALID_CODE".to_owned()));
    assert_eq!(set(&foreign.token, Some(NORDIC)).await, (403, "TENANT_MISMATCH".to_owned()));
}

// docs/design/decisions/ended-callers.md
#[tokio::test(flavor = "multi_thread")]
async fn client_that_is_disabled_during_hashing_sets_no_password() {
    let (world, client) = world_with_client().await;
    let world = Arc::new(world);
    let token = world.client_token(&client).await.unwrap();
    let before = world.user(&world.actor(MARCUS).unwrap()).await.unwrap();
    let hash = world.passwords.hold_next_hash();
    let (shared, path) = (Arc::clone(&world), format!("/v2/users/{}/password", marcus(&world)));
    let changing = tokio::spawn(async move {
        let body = json!({ "newPassword": { "password": NEW_PASSWORD } });
        post(&shared, &path, &token, &body).await
    });
    hash.reached().await;
    let disable = |client| ApiClient { status: ClientStatus::Disabled, ..client };
    world.change_client(&client, disable).await.unwrap();
    hash.release();
    assert_eq!(changing.await.unwrap().status, 401);
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN CLIENT_GONE");
    assert_eq!(world.user(&world.actor(MARCUS).unwrap()).await.unwrap(), before);
}
