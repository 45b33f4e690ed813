//! Public documents: tenants' keys, their configuration, and the health check.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    route::Function,
    secrets::{Old, Renewal, SigningKeys},
    token::new_signing_key,
};
use e2e::{
    Answer, NORDIC, PUBLIC_URL, World, event,
    fault_proxy::{Effect, Fault, Operation},
};
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{ADMIN, MARCUS, NORDIC_ADMIN};

const HARBOUR: &str = "tenant_harbour";
const LIGHTHOUSE: &str = "tenant_lighthouse";
/// Life of a cached tenant record.
const RECORD_LIFE: Duration = Duration::from_secs(5);
/// Life of a cached secret.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);

async fn get(world: &World, path: &str) -> Result<Answer> {
    let mut event = event(&Method::GET, path, "", None, None);
    event["headers"] = json!({ "host": "attacker.example", "x-forwarded-host": "attacker.example" });
    world.send(Function::Discovery, &event.to_string()).await
}

async fn configuration(world: &World, tenant: &str) -> Result<Answer> {
    get(world, &format!("/tenants/{tenant}/.well-known/openid-configuration")).await
}

async fn keys(world: &World, tenant: &str) -> Result<Answer> {
    get(world, &format!("/tenants/{tenant}/.well-known/jwks.json")).await
}

/// IDs of the keys that a tenant publishes.
async fn ids(world: &World, tenant: &str) -> Result<Vec<String>> {
    let answer = keys(world, tenant).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let keys = answer.body["keys"].as_array().context("no keys")?;
    Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn tenant_publishes_issuer_and_keys() -> Result<()> {
    let world = World::start().await?;
    for (tenant, username, issuer, algorithm) in [
        (NORDIC, NORDIC_ADMIN, "bff", "ES256"),
        (HARBOUR, "admin@harbour.example", "https://login.example.com/tenants/tenant_harbour", "RS256"),
        (
            LIGHTHOUSE,
            "admin@lighthouse.example",
            "https://login.example.com/tenants/tenant_lighthouse",
            "EdDSA",
        ),
    ] {
        let told = configuration(&world, tenant).await?;
        assert_eq!((told.status, told.header("content-type")), (200, "application/json"));
        let expected = json!({
            "issuer": issuer,
            "jwks_uri": format!("{PUBLIC_URL}/tenants/{tenant}/.well-known/jwks.json"),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
        });
        for (name, value) in expected.as_object().context("no object")? {
            assert_eq!(told.body[name], *value, "{name}");
        }
        for (name, path) in [
            ("token_endpoint", "token"),
            ("introspection_endpoint", "introspect"),
            ("revocation_endpoint", "revoke"),
        ] {
            assert_eq!(told.body[name], format!("{PUBLIC_URL}/tenants/{tenant}/oauth/{path}"));
        }
        let same = get(&world, &format!("/tenants/{tenant}/.well-known/oauth-authorization-server")).await?;
        assert_eq!((same.status, &same.text), (200, &told.text), "RFC 8414 names the same document");
        let set = keys(&world, tenant).await?;
        assert_eq!((set.status, set.header("content-type")), (200, "application/jwk-set+json"));
        for answer in [told, set] {
            assert_eq!(answer.header("cache-control"), "public, max-age=300");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        let login = world.login(&world.actor(username)?).await?;
        let header = login.token.split('.').next().context("no header")?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
        assert_eq!(header["alg"], algorithm);
        assert_eq!(json!(ids(&world, tenant).await?), json!([header["kid"]]));
    }
    Ok(())
}

// docs/design/contract.md#public-documents: unknown tenants, suspended tenants and tenants without
// asymmetric keys get the same 404.
#[tokio::test]
async fn tenants_without_public_keys_get_the_same_response() -> Result<()> {
    let world = World::start().await?;
    world.change_tenant(HARBOUR, true, None).await?;
    for ask in ["openid-configuration", "oauth-authorization-server", "jwks.json"] {
        let mut answers = BTreeSet::new();
        for tenant in ["no_such_tenant", "tenant_cloudvault", HARBOUR, "tenant_suspended", "no%20id", "%ff"] {
            let answer = get(&world, &format!("/tenants/{tenant}/.well-known/{ask}")).await?;
            assert_eq!((answer.status, answer.header("cache-control")), (404, "no-store"), "{tenant}");
            answers.insert((answer.text, format!("{:?}", answer.headers)));
        }
        assert_eq!(answers.len(), 1, "{answers:#?}");
    }
    world.change_tenant(HARBOUR, false, None).await?;
    assert_eq!(keys(&world, HARBOUR).await?.status, 200);
    Ok(())
}

// A 503 makes verifiers try again; a 404 would make them discard the tenant's keys.
#[tokio::test]
async fn failed_tenant_lookup_returns_503_instead_of_404() -> Result<()> {
    let world = World::start().await?;
    assert_eq!(keys(&world, "tenant_unusable").await?.status, 503);
    world.faults.set_down(true);
    let answer = keys(&world, NORDIC).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    Ok(())
}

// docs/design/security.md#rule-17, #rule-18
#[tokio::test]
async fn key_is_published_from_activation_to_retirement() -> Result<()> {
    let world = World::start().await?;
    let id = |key: &str| format!("{NORDIC}.{key}");
    assert_eq!(ids(&world, NORDIC).await?, [id("es256-1")]);
    let mut next = world.secret_document(NORDIC).await?;
    let key = |id: &str, algorithm: SigningAlgorithm| -> Result<Value> {
        let key = new_signing_key(algorithm)?;
        Ok(json!({ "id": id, "algorithm": algorithm.name(), "privateKey": key.expose_secret() }))
    };
    next["signingKeys"] =
        json!([key("es256-2", SigningAlgorithm::Es256)?, key("ed-1", SigningAlgorithm::EdDsa)?]);
    world.put_secret(NORDIC, &next, "AWSPENDING").await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(
        ids(&world, NORDIC).await?,
        [id("es256-1")],
        "a key must not be published before its rotation is complete"
    );
    world.rotate_secret(NORDIC, &next).await?;
    world.publish_keys(NORDIC).await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(ids(&world, NORDIC).await?, [id("ed-1"), id("es256-1"), id("es256-2")]);
    let told = configuration(&world, NORDIC).await?;
    assert_eq!(told.body["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
    world.retire_previous_secret(NORDIC).await?;
    world.publish_keys(NORDIC).await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(ids(&world, NORDIC).await?, [id("ed-1"), id("es256-2")]);

    // A tenant that signs with HS256 still publishes the keys of its earlier tokens.
    world.change_policy(NORDIC, |policy| policy.algorithm = SigningAlgorithm::Hs256).await?;
    assert_eq!(ids(&world, NORDIC).await?, [id("ed-1"), id("es256-2")]);
    next["signingKeys"] = json!([]);
    world.rotate_secret(NORDIC, &next).await?;
    world.retire_previous_secret(NORDIC).await?;
    world.publish_keys(NORDIC).await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(keys(&world, NORDIC).await?.status, 404);
    Ok(())
}

// docs/design/security.md#rule-20
#[tokio::test]
async fn published_keys_belong_to_their_tenant_only() -> Result<()> {
    let world = World::start().await?;
    let mut seen = BTreeSet::new();
    for tenant in [NORDIC, HARBOUR, LIGHTHOUSE, "tenant_shortlived", "tenant_restricted"] {
        // The second request reads the tenant's cached document.
        for first in [true, false] {
            let set = keys(&world, tenant).await?.body;
            for key in set["keys"].as_array().context("no keys")? {
                let kid = key["kid"].as_str().context("no id")?;
                assert_eq!(kid.split_once('.').map(|(named, _)| named), Some(tenant));
                let material = [&key["x"], &key["n"]].map(ToString::to_string).concat();
                assert_eq!(seen.insert(material), first, "{tenant}");
            }
        }
    }
    assert_eq!(seen.len(), 5);
    Ok(())
}

// docs/design/security.md#rule-18: repeated requests for an unknown tenant cost one read in five seconds.
#[tokio::test]
async fn public_documents_make_the_documented_calls() -> Result<()> {
    let world = World::start().await?;
    world.calls.take();
    for _ in 0..20 {
        assert_eq!(keys(&world, "no_such_tenant").await?.status, 404);
        assert_eq!(keys(&world, "no id").await?.status, 404);
    }
    assert_eq!(world.calls.take(), ["GetItem"]);
    assert_eq!(world.secret_calls.take(), [""; 0]);
    for _ in 0..20 {
        assert_eq!(keys(&world, NORDIC).await?.status, 200);
        assert_eq!(configuration(&world, NORDIC).await?.status, 200);
    }
    // The tenant's record and its public keys.
    assert_eq!(world.calls.take(), ["GetItem"; 2]);
    assert_eq!(world.secret_calls.take(), [""; 0]);
    Ok(())
}

// docs/design/security.md#rule-17: the function that publishes keys reads no secret.
#[tokio::test]
async fn keys_are_published_without_the_secret() -> Result<()> {
    let world = World::start().await?;
    world.secret_faults.set_down(true);
    for tenant in [NORDIC, HARBOUR, LIGHTHOUSE] {
        assert_eq!(keys(&world, tenant).await?.status, 200);
        assert_eq!(configuration(&world, tenant).await?.status, 200);
    }
    assert_eq!(world.secret_calls.take(), [""; 0]);
    Ok(())
}

// A tenant of an earlier version gets 503, which makes verifiers try again.
#[tokio::test]
async fn tenant_without_published_keys_returns_503_until_they_are_published() -> Result<()> {
    let world = World::start().await?;
    world.unpublish_keys(NORDIC).await?;
    assert_eq!(keys(&world, NORDIC).await?.status, 503);
    assert_eq!(configuration(&world, NORDIC).await?.status, 503);
    assert!(world.login(&world.actor(MARCUS)?).await.is_ok());
    // The next rotation publishes the keys too.
    world.rotator().rotate(&TenantId::parse(NORDIC)?, Renewal::SCHEDULED).await?;
    world.clock.advance(RECORD_LIFE);
    assert_eq!(ids(&world, NORDIC).await?.len(), 3);
    assert!(!world.publish_keys(NORDIC).await?, "the keys are already published");
    Ok(())
}

// docs/design/security.md#rule-17
#[tokio::test]
async fn retired_key_is_published_until_its_last_token_has_expired() -> Result<()> {
    let world = World::start().await?;
    let tenant = TenantId::parse(NORDIC)?;
    let first = format!("{NORDIC}.es256-1");
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.rotator().retire_previous(&tenant).await?;
    // A function without Secrets Manager may sign for 1 h and 10 s, and a token lives for 1 h.
    world.clock.advance(Duration::from_secs(2 * 60 * 60 + 9));
    assert!(ids(&world, NORDIC).await?.contains(&first));
    world.clock.advance(Duration::from_secs(1));
    assert!(!ids(&world, NORDIC).await?.contains(&first));
    Ok(())
}

// docs/design/security.md#rule-17: replaced keys stay retired in a version that an operator edited.
#[tokio::test]
async fn retired_key_of_an_edited_secret_is_not_published_for_longer() -> Result<()> {
    let world = World::start().await?;
    let tenant = TenantId::parse(NORDIC)?;
    let first = format!("{NORDIC}.es256-1");
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.rotator().retire_previous(&tenant).await?;
    let mut edited = world.secret_document(NORDIC).await?;
    edited["note"] = json!("edited by hand");
    world.put_secret(NORDIC, &edited, "AWSCURRENT").await?;
    world.publish_keys(NORDIC).await?;
    assert!(ids(&world, NORDIC).await?.contains(&first));
    world.clock.advance(Duration::from_secs(2 * 60 * 60 + 10));
    assert!(!ids(&world, NORDIC).await?.contains(&first));
    Ok(())
}

// docs/design/security.md#rule-17, #rule-18
#[tokio::test]
async fn leaked_key_is_not_published_when_the_cached_record_expires() -> Result<()> {
    let world = World::start().await?;
    let tenant = TenantId::parse(NORDIC)?;
    let before = ids(&world, NORDIC).await?;
    let leaked = Renewal { signing_keys: SigningKeys::EachListed, old: Old::Dropped, ..Renewal::default() };
    world.rotator().rotate(&tenant, leaked).await?;
    world.rotator().retire_previous(&tenant).await?;
    world.clock.advance(RECORD_LIFE);
    let after = ids(&world, NORDIC).await?;
    assert!(after.len() == 2 && before.iter().all(|key| !after.contains(key)), "{before:?} {after:?}");
    Ok(())
}

// docs/design/security.md#rule-18: a publication that was interrupted or delayed.
#[tokio::test]
async fn publication_is_completed_by_the_next_call_and_never_replaces_a_later_one() -> Result<()> {
    let world = World::start().await?;
    let tenant = TenantId::parse(NORDIC)?;
    let read = world.store.published_keys(&tenant).await?.context("not published")?;
    for lost in [Operation::GetItem, Operation::PutItem] {
        world.faults.inject(Fault::on(lost, Effect::LoseRequest).sk("KEYS").times(3));
        let made = world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
        assert!(made.activated.is_err());
        // The record does not name the version, so that its keys do not sign before they are published.
        let record = world.store.tenant(&tenant).await?.context("no tenant")?;
        assert_ne!(record.active_secret.map(|secret| secret.version).as_ref(), Some(&made.id));
        world.rotator().retire_previous(&tenant).await?;
        let stored = world.store.published_keys(&tenant).await?.context("not published")?;
        assert_eq!((&stored.keys.version, stored.keys.previous), (&made.id, None));
    }
    assert!(!world.store.publish_keys(&tenant, Some(&read), &read.keys).await?);
    assert!(!world.store.publish_keys(&tenant, None, &read.keys).await?);
    Ok(())
}

#[tokio::test]
async fn health_check_reports_the_table_and_is_cached() -> Result<()> {
    let world = World::start().await?;
    world.calls.take();
    let well = async |status: i64| -> Result<Answer> {
        let mut last = None;
        for _ in 0..20 {
            let answer = get(&world, "/healthz").await?;
            ensure!(answer.status == status, "{answer:?}");
            last = Some(answer);
        }
        last.context("never asked")
    };
    let answer = well(200).await?;
    assert_eq!((answer.text.as_str(), answer.header("cache-control")), (r#"{"status":"ok"}"#, "no-store"));
    assert_eq!(world.calls.take(), ["GetItem"]);
    world.faults.set_down(true);
    well(200).await?;
    world.clock.advance(Duration::from_secs(5));
    let answer = well(503).await?;
    assert_eq!((answer.text.as_str(), answer.header("retry-after")), (r#"{"status":"unavailable"}"#, "2"));
    let tries = world.calls.take();
    assert!((1..=3).contains(&tries.len()), "one check, including the SDK's retries: {tries:?}");
    world.faults.set_down(false);
    world.clock.advance(Duration::from_secs(2));
    well(200).await?;
    Ok(())
}

// docs/design/security.md#rule-24: public routes decide nothing about a user, so they must not fill the
// audit log.
#[tokio::test]
async fn public_routes_write_no_audit_event() -> Result<()> {
    let world = World::start().await?;
    for path in ["/healthz", "/tenants/no_such_tenant/.well-known/jwks.json"] {
        get(&world, path).await?;
    }
    keys(&world, NORDIC).await?;
    configuration(&world, NORDIC).await?;
    assert_eq!(world.audit.lines(), [""; 0]);
    world.login(&world.actor(ADMIN)?).await?;
    assert_eq!(world.audit.lines().len(), 1);
    Ok(())
}
