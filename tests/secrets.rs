//! Changes of a tenant's secret and of its keys (docs/design/security.md#rule-17 and #rule-18).

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::Clock,
    route::Function,
};
use e2e::{
    Actor, Login, NORDIC, World, as_tenant, event,
    fault_proxy::{Effect, Fault, Operation},
};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NORDIC_ADMIN};

const TENANT: &str = "tenant_cloudvault";
const HOME: &str = "doorward/tenants/tenant_cloudvault";
/// Life of a cached secret.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);

async fn document(world: &World) -> Value {
    let found = world.secrets.get_secret_value().secret_id(HOME).send().await.unwrap();
    serde_json::from_str(found.secret_string().unwrap()).unwrap()
}

async fn put(world: &World, document: &str) {
    world.secrets.put_secret_value().secret_id(HOME).secret_string(document).send().await.unwrap();
}

#[tokio::test]
async fn secret_changed_by_hand_is_accepted_after_the_life_of_the_cache() {
    let world = World::start().await.unwrap();
    let old = world.actor(ADMIN).unwrap();
    let session = world.login(&old).await.unwrap();
    let mut next = document(&world).await;
    next["tenantSecret"] = json!("the next tenant secret");
    next["rootKeys"].as_array_mut().unwrap().push(json!({ "version": 2, "key": "A".repeat(43) }));
    put(&world, &next.to_string()).await;
    world.clock.advance(CACHE_LIFE);

    let mut new = old.clone();
    new.tenant.tenant_secret = "the next tenant secret".into();
    let made_with_new = world.login(&new).await.unwrap();
    assert!(world.login(&old).await.is_ok());
    // Sessions stay live, and new tokens use the new key.
    let refreshed = world.refreshed(&session).await.unwrap();
    assert_eq!(world.session(&refreshed).await.unwrap().key_version, 2);
    assert!(world.opens(&refreshed).await.unwrap() && world.opens(&made_with_new).await.unwrap());
}

#[tokio::test]
async fn unusable_secret_affects_only_its_tenant() {
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

// While the tenant's algorithm has no key, no token is rotated and no failure counts.
#[tokio::test]
async fn algorithm_without_a_key_returns_503_and_counts_no_failure() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let login = world.login(&actor).await.unwrap();
    let id = TenantId::parse(&actor.tenant.tenant_id).unwrap();
    let known = world.store.tenant(&id).await.unwrap().unwrap();
    let mut tenant = known.clone();
    tenant.policy.algorithm = SigningAlgorithm::Es256;
    world.store.replace_tenant(&known, &tenant, world.clock.now()).await.unwrap();
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
    // The old token is still valid with the key that it names; the new token has the new algorithm.
    let refreshed = world.refreshed(&login).await.unwrap();
    assert_eq!(world.session(&login).await.unwrap().generation, 1);
    assert!(world.opens(&refreshed).await.unwrap() && world.login(&actor).await.is_ok());
}

/// A token with a changed header and payload, and the old signature.
fn with_parts(login: &Login, change: impl Fn(&str) -> String) -> Login {
    let mut parts: Vec<_> = login.token.split('.').map(str::to_owned).collect();
    for part in &mut parts[..2] {
        let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(&*part).unwrap()).unwrap();
        *part = URL_SAFE_NO_PAD.encode(change(&decoded));
    }
    Login { token: parts.join("."), ..login.clone() }
}

// docs/design/security.md#rule-16: a token with an unknown key is refused without a server error, and the
// response does not show whether its tenant exists.
#[tokio::test]
async fn token_with_an_unknown_key_is_refused_like_a_token_of_an_unknown_tenant() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let forged = with_parts(&login, |part| part.replace("root-1", "root-9"));
    let mut elsewhere = with_parts(&forged, |part| part.replace(TENANT, "no_such_tenant"));
    elsewhere.actor.tenant.tenant_id = "no_such_tenant".to_owned();
    for wait in [0, 0, 59, 1, 0] {
        world.clock.advance(Duration::from_secs(wait));
        let answers = [world.refresh(&forged).await.unwrap(), world.refresh(&elsewhere).await.unwrap()];
        for answer in &answers {
            assert_eq!(answer.verdict(), (401, "INVALID_TOKEN"), "after {wait} s");
        }
        assert_eq!(answers[0].bytes, answers[1].bytes);
        assert_eq!(answers[0].headers, answers[1].headers);
        for token in [&forged, &elsewhere] {
            assert_eq!(world.refresh(token).await.unwrap().status, 401);
            assert_eq!(world.audit.last()["reason"], "UNKNOWN_KEY");
            assert_eq!(world.passes(token).await, Ok(false));
            assert_eq!(world.audit.last()["reason"], "UNKNOWN_KEY");
        }
    }
    assert!(world.refreshed(&login).await.is_ok());
}

/// The user with another tenant secret.
fn with_secret(actor: &Actor, secret: &str) -> Actor {
    let mut changed = actor.clone();
    secret.clone_into(&mut changed.tenant.tenant_secret);
    changed
}

/// Time of the last use of each version of the tenant's secret.
async fn uses(world: &World) -> Result<HashMap<String, Timestamp>> {
    let found = world.store.secret_uses(&TenantId::parse(TENANT)?).await?;
    Ok(found.into_iter().map(|last| (last.version, last.at)).collect())
}

const NEXT: &str = "the next tenant secret";

// docs/design/security.md#rule-18: both versions are accepted until the previous one is retired, and
// the uses of each are stored separately.
#[tokio::test]
async fn tenant_item_shows_the_secret_version_in_use() -> Result<()> {
    let world = World::start().await?;
    let old = world.actor(ADMIN)?;
    let new = with_secret(&old, NEXT);
    world.login(&old).await?;
    let first = world.secret_version(TENANT, "AWSCURRENT").await?;
    let begin = world.clock.now();
    assert_eq!(uses(&world).await?, HashMap::from([(first.clone(), begin)]));
    let mut next = world.secret_document(TENANT).await?;
    next["tenantSecret"] = json!(NEXT);
    let second = world.rotate_secret(TENANT, &next).await?;
    assert_eq!(world.secret_version(TENANT, "AWSPREVIOUS").await?, first);

    world.clock.advance(Duration::from_secs(61));
    world.login(&new).await?;
    let rotated = world.clock.now();
    assert_eq!(uses(&world).await?, HashMap::from([(first.clone(), begin), (second.clone(), rotated)]));
    world.clock.advance(Duration::from_secs(61));
    world.login(&old).await?;
    let last = world.clock.now();
    assert_eq!(uses(&world).await?, HashMap::from([(first.clone(), last), (second.clone(), rotated)]));
    // A wrong password with valid tenant credentials counts as a use; invalid credentials do not.
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.try_login(&new, "wrong").await?.status, 401);
    assert_eq!(world.try_login(&with_secret(&old, "neither of them"), "wrong").await?.status, 403);
    let guessed = world.clock.now();
    assert_eq!(uses(&world).await?, HashMap::from([(first, last), (second, guessed)]));

    world.retire_previous_secret(TENANT).await?;
    assert!(world.login(&old).await.is_ok(), "until the cache's life is over");
    world.clock.advance(CACHE_LIFE);
    let retired = world.try_login(&old, &old.user.password).await?;
    assert_eq!(retired.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
    assert!(world.login(&new).await.is_ok());
    Ok(())
}

// If a rotation changes only the keys, both versions have the same credentials, which count as the
// current version.
#[tokio::test]
async fn credentials_valid_in_both_versions_count_as_the_current_version() -> Result<()> {
    let world = World::start().await?;
    let document = world.secret_document(TENANT).await?;
    let second = world.rotate_secret(TENANT, &document).await?;
    world.login(&world.actor(ADMIN)?).await?;
    assert_eq!(uses(&world).await?, HashMap::from([(second, world.clock.now())]));
    Ok(())
}

/// Number of updates since the last call.
fn updates(world: &World) -> usize {
    world.calls.take().iter().filter(|call| *call == "UpdateItem").count()
}

// At most one write per minute, besides the login's own two.
#[tokio::test]
async fn secret_use_is_stored_once_a_minute() -> Result<()> {
    let mut world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    for (wait, noted) in [(0, 1), (59_999, 0), (1, 1), (0, 0), (60_000, 1)] {
        world.clock.advance(Duration::from_millis(wait));
        world.calls.take();
        world.login(&actor).await?;
        assert_eq!(updates(&world), 2 + noted, "after {wait} ms");
    }
    // Another process tries the write, and its condition fails.
    let before = uses(&world).await?;
    world.clock.advance(Duration::from_secs(30));
    world.start_another(Function::CreateSession)?;
    world.calls.take();
    world.login(&actor).await?;
    assert_eq!((updates(&world), uses(&world).await?), (3, before));
    Ok(())
}

/// Requests a code as the tenant, which writes only one transaction.
async fn ask(world: &World, user: &str) -> Result<i64> {
    let path = format!("/v2/users/{user}/password_reset");
    let event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({}))));
    Ok(world.send(Function::ResetLogin, &event.to_string()).await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_requests_stores_the_secret_use() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { ask(&world, &format!("user {index}")).await.unwrap() });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(updates(&world), 1);
    Ok(())
}

#[tokio::test]
async fn request_succeeds_if_the_secret_use_cannot_be_stored() -> Result<()> {
    let world = World::start().await?;
    world.faults.inject(Fault::on(Operation::UpdateItem, Effect::LoseRequest).times(3));
    assert_eq!(ask(&world, "somebody").await?, 200);
    assert_eq!(updates(&world), 3, "the SDK must try the write three times");
    assert_eq!(ask(&world, "somebody").await?, 200);
    assert_eq!(updates(&world), 0, "the write was repeated within the minute");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&world, "somebody").await?, 200);
    let noted = world.store.secret_uses(&TenantId::parse(NORDIC)?).await?;
    assert_eq!(noted.iter().map(|last| last.at).collect::<Vec<_>>(), [world.clock.now()]);
    Ok(())
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn pending_secret_is_never_accepted() -> Result<()> {
    let world = World::start().await?;
    let old = world.actor(ADMIN)?;
    let mut next = world.secret_document(TENANT).await?;
    next["tenantSecret"] = json!(NEXT);
    world.put_secret(TENANT, &next, "AWSPENDING").await?;
    for wait in [0, 60, 5 * 60] {
        world.clock.advance(Duration::from_secs(wait));
        let refused = world.try_login(&with_secret(&old, NEXT), &old.user.password).await?;
        assert_eq!(refused.verdict(), (403, "INVALID_TENANT_CREDENTIALS"), "after {wait} s");
        assert!(world.login(&old).await.is_ok());
    }
    Ok(())
}

/// The key ID in a token's header.
fn key_id(login: &Login) -> Result<String> {
    let header = login.token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    Ok(header["kid"].as_str().unwrap_or_default().to_owned())
}

fn signing_key(id: &str) -> Result<Value> {
    let key = doorward::token::new_signing_key(SigningAlgorithm::Es256)?;
    let key = secrecy::ExposeSecret::expose_secret(&key);
    Ok(json!({ "id": id, "algorithm": "ES256", "privateKey": key }))
}

// Signing keys overlap during a rotation. The previous key is accepted from the second position of the
// current document, and from the previous document.
#[tokio::test]
async fn token_of_the_previous_signing_key_is_valid_until_expiry_or_key_removal() -> Result<()> {
    for keeps_the_old_one in [true, false] {
        let world = World::start().await?;
        let actor = world.actor(MARCUS)?;
        let old = world.login(&actor).await?;
        let before = world.secret_document(NORDIC).await?;
        let mut next = before.clone();
        next["signingKeys"] = json!([signing_key("rotated")?]);
        if keeps_the_old_one {
            let kept = before["signingKeys"].as_array().cloned().unwrap_or_default();
            next["signingKeys"].as_array_mut().unwrap().extend(kept);
        }
        world.rotate_secret(NORDIC, &next).await?;
        if keeps_the_old_one {
            world.retire_previous_secret(NORDIC).await?;
        }
        world.clock.advance(CACHE_LIFE);
        let new = world.login(&actor).await?;
        assert_eq!(key_id(&new)?, format!("{NORDIC}.rotated"));
        assert_ne!(key_id(&old)?, key_id(&new)?);
        assert!(world.opens(&old).await? && world.opens(&new).await?);
        let refreshed = world.refreshed(&old).await?;
        assert_eq!(key_id(&refreshed)?, key_id(&new)?, "the refresh must return a token with the new key");
        // The token expires at its original time.
        world.clock.advance(Duration::from_secs(60 * 60) - CACHE_LIFE - Duration::from_millis(975));
        assert!(world.opens(&old).await?);
        world.clock.advance(Duration::from_secs(6));
        assert!(!world.opens(&old).await?);

        // Once the key is removed, its tokens are rejected regardless of their age.
        let young = world.login(&actor).await?;
        next["signingKeys"] = json!([signing_key("the third")?]);
        world.rotate_secret(NORDIC, &next).await?;
        world.retire_previous_secret(NORDIC).await?;
        world.clock.advance(CACHE_LIFE);
        assert!(!world.opens(&young).await?);
        assert!(world.opens(&world.login(&actor).await?).await?);
    }
    Ok(())
}

// docs/design/security.md#rule-18: concurrent requests load a secret once. Wrong credentials, unknown keys and
// unknown tenants load nothing.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_manager_calls_are_minimal() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let actor = world.actor(ADMIN)?;
    let both = ["GetSecretValue"; 2];
    let at_once = async |secret: &str| {
        let mut tasks = JoinSet::new();
        for index in 0..30 {
            let (world, mut actor) = (Arc::clone(&world), with_secret(&actor, secret));
            actor.user.user_id = format!("nobody {index}");
            tasks.spawn(async move { world.try_login(&actor, "x").await.unwrap().status });
        }
        tasks.join_all().await
    };
    let right = actor.tenant.tenant_secret.clone();
    assert_eq!(at_once(&right).await, [401; 30]);
    assert_eq!(world.secret_calls.take(), both, "30 concurrent first requests must load the secret once");
    assert_eq!(at_once("not the tenant's").await, [403; 30]);
    assert_eq!(world.secret_calls.take(), [""; 0], "wrong credentials must not load the secret");
    let login = world.login(&actor).await?;
    for index in 0..1_000 {
        let forged = with_parts(&login, |part| part.replace("root-1", &format!("root-{}", index + 2)));
        assert_eq!(world.refresh(&forged).await?.verdict(), (401, "INVALID_TOKEN"));
    }
    assert_eq!(world.secret_calls.take(), [""; 0], "unknown keys must not load the secret");

    // An unknown tenant costs one read of the table in five seconds, and no call of Secrets Manager.
    let mut nowhere = actor.clone();
    nowhere.tenant.tenant_id = "no_such_tenant".into();
    world.calls.take();
    for _ in 0..5 {
        assert_eq!(world.try_login(&nowhere, "x").await?.status, 403);
    }
    assert_eq!((world.calls.take(), world.secret_calls.take()), (vec!["GetItem".to_owned()], vec![]));

    // A missing secret is requested at most once in 30 seconds.
    let gone = "tenant_without_a_secret";
    let mut record = world.store.tenant(&TenantId::parse(TENANT)?).await?.unwrap();
    record.id = TenantId::parse(gone)?;
    world.store.create_tenant(&record, world.clock.now()).await?;
    nowhere.tenant.tenant_id = gone.into();
    for _ in 0..5 {
        assert_eq!(world.try_login(&nowhere, "x").await?.verdict(), (503, "UNAVAILABLE"));
    }
    assert_eq!(world.secret_calls.take(), both);
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.try_login(&nowhere, "x").await?.status, 503);
    assert_eq!(world.secret_calls.take(), both);
    Ok(())
}

// docs/design/security.md#rule-18: during a failure of Secrets Manager, the cached secret is used for
// an hour; after that, requests get 503.
#[tokio::test]
async fn cached_secret_is_used_for_an_hour_without_secrets_manager() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    world.login(&actor).await?;
    world.secret_faults.set_down(true);
    world.clock.advance(Duration::from_secs(60 * 60) - Duration::from_millis(1));
    assert!(world.login(&actor).await.is_ok(), "the cached secret must be used until the last millisecond");
    world.clock.advance(Duration::from_millis(1));
    let refused = world.try_login(&actor, &actor.user.password).await?;
    assert_eq!(refused.verdict(), (503, "UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), "2");
    // The other tenant's secret is not cached, so requests get 503 instead of wrong credentials.
    let other = world.actor(NORDIC_ADMIN)?;
    assert_eq!(world.try_login(&other, &other.user.password).await?.verdict(), (503, "UNAVAILABLE"));
    world.secret_faults.set_down(false);
    assert!(world.login(&actor).await.is_ok() && world.login(&other).await.is_ok());
    Ok(())
}

// docs/design/security.md#rule-17: a caller's credentials are never used as a key, and the stored use
// contains no part of them.
#[tokio::test]
async fn stored_secret_use_contains_only_an_id_and_times() -> Result<()> {
    let world = World::start().await?;
    world.login(&world.actor(ADMIN)?).await?;
    let found = world
        .dynamodb
        .query()
        .table_name(local::TABLE)
        .key_condition_expression("pk = :pk AND begins_with(sk, :uses)")
        .expression_attribute_values(":pk", AttributeValue::S(format!("T#{TENANT}")))
        .expression_attribute_values(":uses", AttributeValue::S("SECRET#".into()))
        .send()
        .await?;
    let mut names: Vec<_> = found.items()[0].keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["expires_at", "last_used_at", "pk", "sk", "version_id"]);
    Ok(())
}
