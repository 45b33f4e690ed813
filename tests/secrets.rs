//! A tenant's secret and its keys while they change (security 17 and 18).

use std::time::Duration;

use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::Store,
};
use e2e::World;
use serde_json::{Value, json};

use crate::{ADMIN, NORDIC_ADMIN};

const HOME: &str = "doorward/tenants/tenant_cloudvault";
/// How long a secret is believed.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);

async fn document(world: &World) -> Value {
    let found = world.secrets.get_secret_value().secret_id(HOME).send().await.unwrap();
    serde_json::from_str(found.secret_string().unwrap()).unwrap()
}

async fn put(world: &World, document: &str) {
    world.secrets.put_secret_value().secret_id(HOME).secret_string(document).send().await.unwrap();
}

#[tokio::test]
async fn a_rotated_secret_opens_at_once_and_the_previous_one_until_it_is_retired() {
    let world = World::start().await.unwrap();
    let old = world.actor(ADMIN).unwrap();
    let session = world.login(&old).await.unwrap();
    let mut next = document(&world).await;
    next["tenantSecret"] = json!("the next tenant secret");
    next["rootKeys"].as_array_mut().unwrap().push(json!({ "version": 2, "key": "A".repeat(43) }));
    put(&world, &next.to_string()).await;

    let mut new = old.clone();
    new.tenant.tenant_secret = "the next tenant secret".into();
    let made_with_new = world.login(&new).await.unwrap();
    assert!(world.login(&old).await.is_ok());
    // Nobody is logged out by it, and what is made from now on is made with the new key.
    let refreshed = world.refreshed(&session).await.unwrap();
    assert_eq!(world.session(&refreshed).await.unwrap().key_version, 2);
    assert!(world.opens(&refreshed).await.unwrap() && world.opens(&made_with_new).await.unwrap());
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_closes_its_tenant_alone() {
    let world = World::start().await.unwrap();
    let (actor, other) = (world.actor(ADMIN).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let login = world.login(&actor).await.unwrap();
    let good = document(&world).await.to_string();
    for bad in ["", "{}", "not json", &good.replace("tenantSecret", "tenant_secret")] {
        put(&world, bad).await;
        world.clock.advance(CACHE_LIFE);
        let refused = world.try_login(&actor, &actor.user.password).await.unwrap();
        assert_eq!(refused.verdict(), (503, "UNAVAILABLE"), "{bad}");
        assert_eq!(world.refresh(&login).await.unwrap().verdict(), (503, "UNAVAILABLE"));
        assert!(world.login(&other).await.is_ok());
    }
    put(&world, &good).await;
    world.clock.advance(Duration::from_secs(60));
    assert!(world.refreshed(&login).await.is_ok() && world.login(&actor).await.is_ok());
}

// Nothing is rotated or counted while the tenant's algorithm has no key.
#[tokio::test]
async fn an_algorithm_without_a_key_answers_503_and_costs_nobody_anything() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let login = world.login(&actor).await.unwrap();
    let id = TenantId::parse(&actor.tenant.tenant_id).unwrap();
    let known = world.store.tenant(&id).await.unwrap().unwrap();
    let mut tenant = known.clone();
    tenant.policy.algorithm = SigningAlgorithm::Es256;
    world.store.replace_tenant(&known, &tenant).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    for _ in 0..6 {
        assert_eq!(world.try_login(&actor, "x").await.unwrap().verdict(), (503, "UNAVAILABLE"));
        assert_eq!(world.refresh(&login).await.unwrap().verdict(), (503, "UNAVAILABLE"));
    }
    let mut document = document(&world).await;
    let key = doorward::token::new_signing_key(SigningAlgorithm::Es256).unwrap();
    document["signingKeys"] = json!([{
        "id": "es256-1",
        "algorithm": "ES256",
        "privateKey": secrecy::ExposeSecret::expose_secret(&key),
    }]);
    put(&world, &document.to_string()).await;
    world.clock.advance(Duration::from_secs(60));
    // The old token still verifies, with the key that it names; the new one is of the new kind.
    let refreshed = world.refreshed(&login).await.unwrap();
    assert_eq!(world.session(&login).await.unwrap().generation, 1);
    assert!(world.opens(&refreshed).await.unwrap() && world.login(&actor).await.is_ok());
}

// A token that names a key nobody has heard of yet: asked for once, then certain.
#[tokio::test]
async fn an_unknown_key_is_asked_for_once_a_minute() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let (header, rest) = login.token.split_once('.').unwrap();
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    let changed = String::from_utf8(decoded).unwrap().replace("root-1", "root-9");
    let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, changed);
    let unknown = e2e::Login { token: format!("{header}.{rest}"), ..login.clone() };
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (401, "INVALID_TOKEN"));
    // Within the minute it might exist: try again instead of logging in again.
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (503, "UNAVAILABLE"));
    assert!(world.refreshed(&login).await.is_ok());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (401, "INVALID_TOKEN"));
}
