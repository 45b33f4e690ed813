//! Authentication of clients with secrets: indistinguishable failures, budgets, rotations.

use std::time::Duration;

use doorward::{
    domain::{ApiClient, ClientProof, ClientStatus},
    port::Clock,
    route::Function,
    secrets::{Old, Renewal},
    token::new_client_secret,
};
use e2e::{Answer, NORDIC, RegisteredClient, World, oauth_event};
use secrecy::ExposeSecret;

use super::{GRANT, world_with_client};

/// A request that is rejected, and the calls that it makes.
async fn rejected(world: &World, client: &RegisteredClient) -> (Answer, Vec<String>) {
    world.calls.take();
    let answer = world.oauth(client, "token", &[GRANT]).await.unwrap();
    (answer, world.calls.take())
}

// docs/design/security.md#rule-27
#[tokio::test]
async fn unknown_client_wrong_secret_and_disabled_client_get_one_answer_with_equal_calls() {
    let (world, client) = world_with_client().await;
    let disabled = world.register_client(NORDIC, &[], |client| client.status = ClientStatus::Disabled);
    let disabled = disabled.await.unwrap();
    world.client_token(&client).await.unwrap();
    let wrong = RegisteredClient { secret: "dws1_wrong".to_owned(), ..client.clone() };
    let unknown = RegisteredClient { id: "dwc_unknown".to_owned(), ..client.clone() };
    let not_an_id = RegisteredClient { id: "not a client ID: \u{e9}".to_owned(), ..client.clone() };
    let mut found = Vec::new();
    for (client, reason) in [
        (&wrong, "WRONG_SECRET"),
        (&unknown, "UNKNOWN_CLIENT"),
        (&not_an_id, "UNKNOWN_CLIENT"),
        (&disabled, "CLIENT_DISABLED"),
    ] {
        let (answer, calls) = rejected(&world, client).await;
        assert_eq!(world.audit.verdict(), format!("INVALID_CLIENT {reason}"));
        let mut headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        headers.sort();
        found.push((answer.status, answer.text, headers, calls));
    }
    assert_eq!(found[0].0, 401);
    assert_eq!(found[0].3, ["BatchGetItem", "UpdateItem", "UpdateItem"], "the client and two budgets");
    assert!(found.iter().all(|it| *it == found[0]), "{found:#?}");
}

// docs/design/security.md#rule-10
#[tokio::test]
async fn failures_of_clients_count_in_the_budgets_of_address_and_tenant() {
    for of_address in [true, false] {
        let (world, client) = world_with_client().await;
        world
            .change_policy(NORDIC, |policy| {
                if of_address {
                    policy.failures_per_ip = 4;
                } else {
                    policy.failures_per_tenant = 4;
                }
            })
            .await
            .unwrap();
        let wrong = RegisteredClient { secret: "dws1_wrong".to_owned(), ..client.clone() };
        let mut statuses = Vec::new();
        for attempt in 0..6 {
            let form = [GRANT];
            let mut event = oauth_event(NORDIC, "token", Some(&wrong.basic()), &form);
            if !of_address {
                event["requestContext"]["http"]["sourceIp"] = serde_json::json!(format!("192.0.2.{attempt}"));
            }
            statuses.push(world.send(Function::Oauth, &event.to_string()).await.unwrap().status);
        }
        assert_eq!(statuses, [401, 401, 401, 401, 429, 429], "address: {of_address}");
        let answer = world.oauth(&client, "token", &[GRANT]).await.unwrap();
        assert_eq!((answer.status, answer.body["error"].as_str()), (429, Some("temporarily_unavailable")));
        world.clock.advance(Duration::from_secs(60 * 60));
        world.client_token(&client).await.unwrap();
    }
}

#[tokio::test]
async fn successes_leave_the_budgets_unchanged() {
    let (world, client) = world_with_client().await;
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 2).await.unwrap();
    let wrong = RegisteredClient { secret: "dws1_wrong".to_owned(), ..client.clone() };
    assert_eq!(world.oauth(&wrong, "token", &[GRANT]).await.unwrap().status, 401);
    // Half of the budget is used: each attempt takes a unit, and a success returns it.
    for _ in 0..5 {
        world.client_token(&client).await.unwrap();
    }
}

// docs/design/security.md#rule-27
#[tokio::test]
async fn both_secrets_work_during_a_rotation_and_the_old_one_until_its_retirement() {
    let (world, old) = world_with_client().await;
    let now = world.clock.now();
    let secret = new_client_secret(&doorward::function::SystemEntropy).unwrap();
    let id = doorward::domain::ClientId::parse(&old.id).unwrap();
    let hash = world.keys(NORDIC).await.unwrap().client_secret_hash(&id, &secret).unwrap();
    world.change_client(&old, |client| client.with_secret(hash, false, now).unwrap()).await.unwrap();
    let new = RegisteredClient { secret: secret.expose_secret().to_owned(), ..old.clone() };
    for client in [&old, &new] {
        world.client_token(client).await.unwrap();
    }
    world.change_client(&old, |client| client.without(1, now).unwrap()).await.unwrap();
    assert_eq!(world.oauth(&old, "token", &[GRANT]).await.unwrap().status, 401);
    world.client_token(&new).await.unwrap();
}

fn key_version(client: &ApiClient) -> Option<u32> {
    match &client.credentials[0].proof {
        ClientProof::Secret(hash) => Some(hash.key_version),
        ClientProof::Key(_) => None,
    }
}

// docs/design/security.md#rule-27: after a rotation of the root key, the next use computes the hash again.
#[tokio::test]
async fn client_secret_outlives_a_rotation_of_the_root_key() {
    let (world, client) = world_with_client().await;
    let before = key_version(&world.stored_client(&client).await.unwrap());
    let tenant = doorward::domain::TenantId::parse(NORDIC).unwrap();
    let renewal = Renewal { root_key: true, ..Renewal::default() };
    world.rotator().rotate(&tenant, renewal).await.unwrap();
    world.clock.advance(Duration::from_secs(16));
    world.client_token(&client).await.unwrap();
    let after = world.stored_client(&client).await.unwrap();
    assert!(key_version(&after) > before, "{before:?} {:?}", key_version(&after));
    world.calls.take();
    world.client_token(&client).await.unwrap();
    assert_eq!(world.calls.take(), ["BatchGetItem"], "the hash is up to date, and its use is recorded");
    // A removed root key ends the use of the secrets whose hashes it made.
    let leaked = Renewal { root_key: true, old: Old::Dropped, ..Renewal::default() };
    let other = world.register_client(NORDIC, &[], |_| ()).await.unwrap();
    world.rotator().rotate(&tenant, leaked).await.unwrap();
    world.rotator().retire_previous(&tenant).await.unwrap();
    world.clock.advance(Duration::from_secs(16));
    assert_eq!(world.oauth(&other, "token", &[GRANT]).await.unwrap().status, 401, "its root key was removed");
}

// docs/design/storage.md#api-clients
#[tokio::test]
async fn last_use_of_a_client_is_recorded_once_a_minute() {
    let (world, client) = world_with_client().await;
    let mut writes = Vec::new();
    for seconds in [0, 1, 58, 1, 60] {
        world.clock.advance(Duration::from_secs(seconds));
        world.calls.take();
        world.client_token(&client).await.unwrap();
        let used = world.stored_client(&client).await.unwrap().last_used_at.unwrap();
        let age = world.clock.now().duration_since(used).as_secs();
        writes.push((world.calls.take().iter().any(|call| call == "UpdateItem"), age));
    }
    assert_eq!(writes, [(true, 0), (false, 1), (false, 59), (true, 0), (true, 0)]);
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn client_connects_only_from_its_networks() {
    let world = World::start().await.unwrap();
    let restrict = |client: &mut ApiClient| client.ip_allow = vec!["192.0.2.0/24".parse().unwrap()];
    let client =
        world.register_client(NORDIC, &[doorward::domain::ClientScope::UsersRead], restrict).await.unwrap();
    let mut event = oauth_event(NORDIC, "token", Some(&client.basic()), &[GRANT]);
    let refused = world.send(Function::Oauth, &event.to_string()).await.unwrap();
    assert_eq!((refused.status, refused.body["error"].as_str()), (400, Some("unauthorized_client")));
    assert_eq!(world.audit.verdict(), "IP_NOT_ALLOWED");
    event["requestContext"]["http"]["sourceIp"] = serde_json::json!("192.0.2.7");
    assert_eq!(world.send(Function::Oauth, &event.to_string()).await.unwrap().status, 200);
}

// docs/design/security.md#rule-20
#[tokio::test]
async fn client_of_one_tenant_is_unknown_in_another() {
    let (world, client) = world_with_client().await;
    let elsewhere = RegisteredClient { tenant: "tenant_cloudvault".to_owned(), ..client.clone() };
    assert_eq!(world.oauth(&elsewhere, "token", &[GRANT]).await.unwrap().status, 401);
    assert_eq!(world.audit.verdict(), "INVALID_CLIENT UNKNOWN_CLIENT");
}
