//! A tenant's secret and its keys while they change (docs/design/security.md#rule-17 and #rule-18).

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::{Clock, Store},
    route::Function,
};
use e2e::{Actor, Login, NORDIC, World, as_tenant, event};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NORDIC_ADMIN};

const TENANT: &str = "tenant_cloudvault";
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
    let decoded = URL_SAFE_NO_PAD.decode(header).unwrap();
    let changed = String::from_utf8(decoded).unwrap().replace("root-1", "root-9");
    let header = URL_SAFE_NO_PAD.encode(changed);
    let unknown = e2e::Login { token: format!("{header}.{rest}"), ..login.clone() };
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (401, "INVALID_TOKEN"));
    // Within the minute it might exist: try again instead of logging in again.
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (503, "UNAVAILABLE"));
    assert!(world.refreshed(&login).await.is_ok());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.refresh(&unknown).await.unwrap().verdict(), (401, "INVALID_TOKEN"));
}

/// A user as it logs in with another secret of its tenant.
fn with_secret(actor: &Actor, secret: &str) -> Actor {
    let mut changed = actor.clone();
    secret.clone_into(&mut changed.tenant.tenant_secret);
    changed
}

/// When each version of the tenant's secret was last used.
async fn uses(world: &World) -> Result<HashMap<String, Timestamp>> {
    let found = world.store.secret_uses(&TenantId::parse(TENANT)?).await?;
    Ok(found.into_iter().map(|last| (last.version, last.at)).collect())
}

const NEXT: &str = "the next tenant secret";

// docs/design/security.md#rule-18: both open until the previous is retired, and each use is told apart.
#[tokio::test]
async fn an_operator_sees_which_version_is_still_used() -> Result<()> {
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
    // A refused guess proves the tenant, so it counts; what proves nothing does not.
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

// A rotation of the keys alone leaves both versions with one pair: it is the current one's.
#[tokio::test]
async fn a_pair_of_both_versions_is_the_current_ones() -> Result<()> {
    let world = World::start().await?;
    let document = world.secret_document(TENANT).await?;
    let second = world.rotate_secret(TENANT, &document).await?;
    world.login(&world.actor(ADMIN)?).await?;
    assert_eq!(uses(&world).await?, HashMap::from([(second, world.clock.now())]));
    Ok(())
}

/// How often the table was asked to change one item since the last time.
fn updates(world: &World) -> usize {
    world.calls.take().iter().filter(|call| *call == "UpdateItem").count()
}

// At most one write a minute; a login has two of its own.
#[tokio::test]
async fn a_use_is_noted_once_a_minute() -> Result<()> {
    let mut world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    for (wait, noted) in [(0, 1), (59_999, 0), (1, 1), (0, 0), (60_000, 1)] {
        world.clock.advance(Duration::from_millis(wait));
        world.calls.take();
        world.login(&actor).await?;
        assert_eq!(updates(&world), 2 + noted, "after {wait} ms");
    }
    // Another process does not know, and the table does not take it.
    let before = uses(&world).await?;
    world.clock.advance(Duration::from_secs(30));
    world.start_another(Function::CreateSession)?;
    world.calls.take();
    world.login(&actor).await?;
    assert_eq!((updates(&world), uses(&world).await?), (3, before));
    Ok(())
}

/// Asks for a code as the tenant, which writes nothing but one transaction.
async fn ask(world: &World, user: &str) -> Result<i64> {
    let path = format!("/v2/users/{user}/password_reset");
    let event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({}))));
    Ok(world.send(Function::ResetLogin, &event.to_string()).await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_notes_the_use() -> Result<()> {
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
async fn a_use_that_cannot_be_noted_harms_nothing() -> Result<()> {
    let world = World::start().await?;
    world.calls.lose_answer("UpdateItem");
    assert_eq!(ask(&world, "somebody").await?, 200);
    assert_eq!(updates(&world), 1, "it was tried");
    assert_eq!(ask(&world, "somebody").await?, 200);
    assert_eq!(updates(&world), 0, "and not again within the minute");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&world, "somebody").await?, 200);
    let noted = world.store.secret_uses(&TenantId::parse(NORDIC)?).await?;
    assert_eq!(noted.iter().map(|last| last.at).collect::<Vec<_>>(), [world.clock.now()]);
    Ok(())
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn a_pending_secret_never_opens() -> Result<()> {
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

/// What a token's header names as its key.
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

// Issue 4: signing keys rotate with overlap. The previous one verifies where it is second in the
// current document, or in the previous document alone.
#[tokio::test]
async fn a_token_of_the_previous_signing_key_verifies_until_it_ends_or_the_key_is_gone() -> Result<()> {
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
        assert_eq!(key_id(&refreshed)?, key_id(&new)?, "nobody logs in again for it");
        // It ends when it would have ended.
        world.clock.advance(Duration::from_secs(60 * 60) - CACHE_LIFE - Duration::from_millis(975));
        assert!(world.opens(&old).await?);
        world.clock.advance(Duration::from_secs(6));
        assert!(!world.opens(&old).await?);

        // Removed altogether, it verifies nothing more, however young the token.
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

// docs/design/security.md#rule-18: no stampede; a wrong pair is looked for once a minute; what is not there costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_manager_is_asked_as_seldom_as_can_be() -> Result<()> {
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
    assert_eq!(world.secret_calls.take(), both, "thirty first requests load it once");
    assert_eq!(at_once("not the tenant's").await, [403; 30]);
    assert_eq!(world.secret_calls.take(), both, "perhaps it was rotated");
    assert_eq!(at_once("not the tenant's").await, [403; 30]);
    assert_eq!(world.secret_calls.take(), [""; 0], "it was not, for a minute");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(at_once("not the tenant's").await, [403; 30]);
    assert_eq!(world.secret_calls.take(), both);

    // An unknown tenant costs a look at the table in five seconds, and no secret.
    let mut nowhere = actor.clone();
    nowhere.tenant.tenant_id = "no_such_tenant".into();
    world.calls.take();
    for _ in 0..5 {
        assert_eq!(world.try_login(&nowhere, "x").await?.status, 403);
    }
    assert_eq!((world.calls.take(), world.secret_calls.take()), (vec!["GetItem".to_owned()], vec![]));

    // A tenant whose secret is not there is asked for once in half a minute.
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

// docs/design/security.md#rule-18: a transient failure serves what is known up to a hard limit, then 503.
#[tokio::test]
async fn a_secret_outlives_its_source_for_an_hour() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    world.login(&actor).await?;
    world.secret_calls.set_down(true);
    world.clock.advance(Duration::from_secs(60 * 60) - Duration::from_millis(1));
    assert!(world.login(&actor).await.is_ok(), "until the last millisecond");
    world.clock.advance(Duration::from_millis(1));
    let refused = world.try_login(&actor, &actor.user.password).await?;
    assert_eq!(refused.verdict(), (503, "UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), "2");
    // Nothing is known of the other tenant: 503, and never that its credentials are wrong.
    let other = world.actor(NORDIC_ADMIN)?;
    assert_eq!(world.try_login(&other, &other.user.password).await?.verdict(), (503, "UNAVAILABLE"));
    world.secret_calls.set_down(false);
    assert!(world.login(&actor).await.is_ok() && world.login(&other).await.is_ok());
    Ok(())
}

// docs/design/security.md#rule-17: what callers send is never a key, and the item that notes its use holds nothing of it.
#[tokio::test]
async fn the_note_of_a_use_holds_an_id_and_times_alone() -> Result<()> {
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
