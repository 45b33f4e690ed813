//! `private_key_jwt` (RFC 7523).

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{domain::ClientScope, port::Clock, route::Function, token::client_keys};
use e2e::{Answer, NORDIC, PUBLIC_URL, RegisteredClient, World, oauth_event};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::GRANT;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client with a private key.
struct Signer {
    world: Arc<World>,
    client: RegisteredClient,
    key: EcdsaKeyPair,
}

impl Signer {
    async fn start() -> Self {
        let world = Arc::new(World::start().await.unwrap());
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        let point = key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": part(1..33), "y": part(33..65) });
        let keys = client_keys(jwk.to_string().as_bytes()).unwrap();
        let now = world.clock.now();
        let register = |client: &mut doorward::domain::ApiClient| {
            client.credentials.clear();
            *client = client.clone().with_keys(keys, now).unwrap();
        };
        let scopes = [ClientScope::UsersRead];
        let client = world.register_client(NORDIC, &scopes, register).await.unwrap();
        Self { world, client, key }
    }

    fn claims(&self, id: &str) -> Value {
        let now = self.world.clock.now().as_second();
        json!({
            "iss": self.client.id, "sub": self.client.id, "jti": id, "iat": now, "exp": now + 60,
            "aud": format!("{PUBLIC_URL}/tenants/{NORDIC}/oauth/token"),
        })
    }

    fn signed(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "one" })), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn send(&self, assertion: &str) -> Answer {
        send(&self.world, NORDIC, assertion).await
    }
}

async fn send(world: &World, tenant: &str, assertion: &str) -> Answer {
    let form = [GRANT, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    world.send(Function::Oauth, &oauth_event(tenant, "token", None, &form).to_string()).await.unwrap()
}

// docs/design/security.md#rule-27
#[tokio::test(flavor = "multi_thread")]
async fn assertion_works_once_also_in_parallel() {
    let signer = Signer::start().await;
    let assertion = signer.signed(&signer.claims("one"));
    let mut sent = JoinSet::new();
    for _ in 0..50 {
        let (world, assertion) = (Arc::clone(&signer.world), assertion.clone());
        sent.spawn(async move { send(&world, NORDIC, &assertion).await.status });
    }
    let mut statuses = BTreeMap::<i64, usize>::new();
    while let Some(status) = sent.join_next().await {
        *statuses.entry(status.unwrap()).or_default() += 1;
    }
    assert_eq!(statuses.get(&200), Some(&1), "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), 50);
    assert_eq!(signer.send(&assertion).await.status, 401);
    assert_eq!(signer.world.audit.verdict(), "INVALID_CLIENT ASSERTION_USED");
    let other = signer.send(&signer.signed(&signer.claims("two"))).await;
    assert_eq!(other.status, 200, "{}", other.text);
}

// docs/design/security.md#rule-27
#[tokio::test]
async fn wrong_assertions_get_one_answer_and_use_up_no_id() {
    let signer = Signer::start().await;
    let good = signer.claims("one");
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signer.signed(&claims)
    };
    let (message, _) =
        signer.signed(&good).rsplit_once('.').map(|(m, s)| (m.to_owned(), s.to_owned())).unwrap();
    let mut claims = good.clone();
    claims["iss"] = json!("dwc_unknown");
    claims["sub"] = json!("dwc_unknown");
    let unknown = signer.signed(&claims);
    let mut bodies = Vec::new();
    for (assertion, reason) in [
        (with("aud", json!("https://elsewhere.example/token")), "INVALID_CLIENT WRONG_AUDIENCE"),
        (with("exp", json!(good["iat"])), "INVALID_CLIENT EXPIRED"),
        (with("exp", json!(good["iat"].as_i64().unwrap() + 7_200)), "INVALID_CLIENT EXPIRED"),
        (format!("{message}.{}", URL_SAFE_NO_PAD.encode([7; 64])), "INVALID_CLIENT FORGED"),
        (unknown, "INVALID_CLIENT UNKNOWN_CLIENT"),
        (with("iss", json!("another")), "INVALID_CLIENT"),
    ] {
        let answer = signer.send(&assertion).await;
        assert_eq!(signer.world.audit.verdict(), reason);
        bodies.push((answer.status, answer.text));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(bodies[0].0, 401);
    assert_eq!(signer.send(&signer.signed(&good)).await.status, 200, "a forger cannot use up an ID");
    let elsewhere = send(&signer.world, "tenant_cloudvault", &signer.signed(&signer.claims("two"))).await;
    assert_eq!(elsewhere.status, 401, "another tenant");
}

// docs/design/security.md#rule-27
#[tokio::test]
async fn unknown_client_and_forged_assertion_make_equal_calls() {
    let signer = Signer::start().await;
    signer.send(&signer.signed(&signer.claims("one"))).await;
    let mut calls = Vec::new();
    for id in [signer.client.id.as_str(), "dwc_unknown"] {
        let mut claims = signer.claims("two");
        claims["iss"] = json!(id);
        claims["sub"] = json!(id);
        let text = signer.signed(&claims);
        let (message, _) = text.rsplit_once('.').unwrap();
        signer.world.calls.take();
        signer.send(&format!("{message}.{}", URL_SAFE_NO_PAD.encode([7; 64]))).await;
        calls.push(signer.world.calls.take());
    }
    assert_eq!(calls[0], calls[1]);
    assert_eq!(calls[0], ["BatchGetItem", "UpdateItem", "UpdateItem"]);
}
