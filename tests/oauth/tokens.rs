//! Tokens of API clients.

use std::time::Duration;

use doorward::{
    domain::{ApiClient, ClientId, ClientScope, ClientStatus, TenantId},
    port::Clock,
};
use e2e::{NORDIC, RegisteredClient, World, authorizer_event};
use serde_json::json;
use strum::{EnumIter, IntoEnumIterator};

use super::{GRANT, world_with_client};
use crate::MARCUS;

/// A way in which a client's token ends.
#[derive(Debug, Clone, Copy, EnumIter)]
enum End {
    Disable,
    Retire,
    Leaked,
    Delete,
    Revocation,
    Expiry,
    Suspend,
}

impl End {
    async fn end(self, world: &World, client: &RegisteredClient, token: &str, asks: &RegisteredClient) {
        let now = world.clock.now();
        let hash = world.keys(NORDIC).await.unwrap();
        let secret = secrecy::SecretString::from("dws1_another");
        let hash = hash.client_secret_hash(&ClientId::parse(&client.id).unwrap(), &secret).unwrap();
        match self {
            Self::Disable => {
                let disabled = |client| ApiClient { status: ClientStatus::Disabled, ..client };
                world.change_client(client, disabled).await.unwrap();
            }
            Self::Retire => {
                let rotated = |client: ApiClient| {
                    client.with_secret(hash, false, now).unwrap().without(1, now).unwrap()
                };
                world.change_client(client, rotated).await.unwrap();
            }
            Self::Leaked => {
                let rotated = |client: ApiClient| client.with_secret(hash, true, now).unwrap();
                world.change_client(client, rotated).await.unwrap();
            }
            Self::Delete => {
                let (tenant, id) = (TenantId::parse(NORDIC).unwrap(), ClientId::parse(&client.id).unwrap());
                world.store.delete_client(&tenant, &id).await.unwrap();
            }
            Self::Revocation => {
                assert_eq!(world.oauth(asks, "revoke", &[("token", token)]).await.unwrap().status, 200);
            }
            Self::Expiry => world.clock.advance(Duration::from_secs(15 * 60)),
            Self::Suspend => world.change_tenant(NORDIC, true, None).await.unwrap(),
        }
    }
}

async fn passes(world: &World, token: &str) -> bool {
    world.authorize(&authorizer_event(Some(token))).await.unwrap()["isAuthorized"] == true
}

// docs/design/security.md#rule-27
#[tokio::test(flavor = "multi_thread")]
async fn client_token_is_rejected_at_once_after_each_end() {
    for end in End::iter() {
        let (world, asks) = world_with_client().await;
        let client = world.register_client(NORDIC, &[ClientScope::UsersRead], |_| ()).await.unwrap();
        let token = world.client_token(&client).await.unwrap();
        let other = world.client_token(&asks).await.unwrap();
        assert!(passes(&world, &token).await, "{end:?}: before");
        assert_eq!(world.introspect(&asks, &token).await.unwrap()["active"], true, "{end:?}: before");
        end.end(&world, &client, &token, &asks).await;
        assert!(!passes(&world, &token).await, "{end:?}");
        if matches!(end, End::Suspend) {
            let answer = world.oauth(&asks, "introspect", &[("token", &token)]).await.unwrap();
            assert_eq!(answer.body["error"], "unauthorized_client");
            continue;
        }
        let found = world.introspect(&asks, &token).await.unwrap();
        assert_eq!(found, json!({ "active": false }), "{end:?}");
        if !matches!(end, End::Expiry) {
            assert!(passes(&world, &other).await, "{end:?}: the token of another client");
        }
    }
}

// docs/design/contract.md#oauth-20
#[tokio::test]
async fn client_token_contains_its_client_scopes_and_fifteen_minutes() {
    let (world, client) = world_with_client().await;
    let form = [GRANT, ("scope", "introspect users:read")];
    let answer = world.oauth(&client, "token", &form).await.unwrap();
    assert_eq!(answer.body["expires_in"], 900);
    assert_eq!(answer.body["scope"], "users:read introspect");
    assert_eq!(answer.header("cache-control"), "no-store");
    let token = answer.body["access_token"].as_str().unwrap();
    let found = world.introspect(&client, token).await.unwrap();
    assert_eq!(
        [&found["sub"], &found["client_id"], &found["scope"]],
        [&json!(client.id), &json!(client.id), &json!("users:read introspect")]
    );
    assert!(found.get("username").is_none() && found.get("sid").is_none());
    let allowed = world.authorize(&authorizer_event(Some(token))).await.unwrap();
    assert_eq!(allowed["context"]["clientId"], json!(client.id));
    assert_eq!(allowed["context"]["scope"], "users:read introspect");
    assert!(allowed["context"].get("userId").is_none(), "a client is no user: {allowed}");
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn client_token_works_only_from_the_networks_of_its_client() {
    let world = World::start().await.unwrap();
    let restrict = |client: &mut ApiClient| client.ip_allow = vec!["127.0.0.0/8".parse().unwrap()];
    let client = world.register_client(NORDIC, &[ClientScope::UsersRead], restrict).await.unwrap();
    let token = world.client_token(&client).await.unwrap();
    assert!(passes(&world, &token).await);
    let mut event = authorizer_event(Some(&token));
    event["requestContext"]["http"]["sourceIp"] = json!("192.0.2.1");
    assert_eq!(world.authorize(&event).await.unwrap()["isAuthorized"], false);
    assert_eq!(world.audit.verdict(), "IP_NOT_ALLOWED");
}

// docs/design/security.md#rule-29
#[tokio::test]
async fn client_token_refreshes_no_session() {
    let (world, client) = world_with_client().await;
    let token = world.client_token(&client).await.unwrap();
    let marcus = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let refresh = json!({ "refreshToken": marcus.refresh });
    let (method, path) = marcus.refresh_route();
    let answer = world.request(&method, &path, NORDIC, Some(&token), Some(&refresh)).await.unwrap();
    assert_eq!(
        (answer.verdict(), world.audit.verdict()),
        ((403, "FORBIDDEN"), "FORBIDDEN CLIENT_TOKEN".to_owned())
    );
    assert!(world.opens(&marcus).await.unwrap(), "the session of the user is still live");
}
