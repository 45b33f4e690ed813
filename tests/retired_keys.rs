//! Retired versions of a secret, retired keys and replaced algorithms. The owner of a stolen key chooses every claim of
//! a token.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{Policy, SessionId, SigningAlgorithm, Tenant, TenantId},
    port::Clock,
    route::Function,
    secrets::{Old, Renewal, SigningKeys, Step},
    token::{Claims, TenantKeys},
};
use e2e::{
    Actor, Login, NORDIC, World,
    fault_proxy::{Effect, Fault, Operation},
};
use jiff::Timestamp;
use local::stack;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{ADMIN, MARCUS};

/// Time after a retirement for which a function may sign with the key: the life of a cached secret while Secrets Manager
/// is unavailable, and the activation of the new version.
const MAY_SIGN: Duration = Duration::from_secs(60 * 60 + 10);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Life of a session.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of a cached tenant record.
const RECORD_LIFE: Duration = Duration::from_secs(5);
const VERSION: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// Renewal of all keys. The credentials of the demo users stay valid.
const KEYS: Renewal = Renewal {
    tenant_key: false,
    tenant_secret: false,
    root_key: true,
    signing_keys: SigningKeys::EachListed,
    old: Old::Kept,
};

async fn record(world: &World, login: &Login) -> Result<Tenant> {
    let id = TenantId::parse(&login.actor.tenant.tenant_id)?;
    world.store.tenant(&id).await?.context("the tenant does not exist")
}

/// The session with a token that the owner of `keys` made.
async fn with_token(
    world: &World,
    login: &Login,
    (keys, policy): (&TenantKeys, &Policy),
    (issued_at, life): (Timestamp, Duration),
) -> Result<Login> {
    let (session, user) = (world.session(login).await?, world.user(&login.actor).await?);
    let mut claims = Claims::new(&session, &user, policy, issued_at, &SessionId::from_random([5; 16]));
    claims.exp = issued_at.as_second() + i64::try_from(life.as_secs())?;
    let token = claims.sign(keys, policy)?.expose_secret().to_owned();
    Ok(Login { token, ..login.clone() })
}

/// Why the token is rejected on every route; `None` if it is accepted.
async fn fault(world: &World, login: &Login) -> Result<Option<String>> {
    let accepted = world.passes(login).await?;
    let reason = world.audit.last()["reason"].as_str().map(str::to_owned);
    assert_eq!(world.opens(login).await?, accepted);
    assert_eq!(world.audit.last()["reason"].as_str(), reason.as_deref());
    Ok(reason)
}

/// Why a refresh with the token is rejected; `None` if it is accepted.
async fn fault_of_refresh(world: &World, login: &Login) -> Result<Option<String>> {
    let answer = world.refresh(login).await?;
    let reason = world.audit.last()["reason"].as_str().map(str::to_owned);
    assert_eq!(answer.status, if reason.is_some() { 401 } else { 200 }, "{}", answer.text);
    Ok(reason)
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with an optional reason")]
fn reason(name: &str) -> Option<String> {
    Some(name.to_owned())
}

// docs/design/security.md#rule-17: CloudVault signs access tokens with its root key, Nordic Bank with a signing key.
#[tokio::test]
async fn retired_key_signs_no_later_tokens() -> Result<()> {
    for username in [ADMIN, MARCUS] {
        let world = World::start().await?;
        let actor = world.actor(username)?;
        let tenant = TenantId::parse(&actor.tenant.tenant_id)?;
        let stolen = world.keys(&actor.tenant.tenant_id).await?;
        world.rotator().rotate(&tenant, KEYS).await?;
        let retired_at = world.clock.now();
        world.rotator().retire_previous(&tenant).await?;
        world.clock.advance(Duration::from_secs(2) + MAY_SIGN);
        let login = world.login(&actor).await?;
        let policy = record(&world, &login).await?.policy;
        let last = retired_at + MAY_SIGN;
        let forged = async |issued_at: Timestamp, life: Duration| {
            with_token(&world, &login, (&stolen, &policy), (issued_at, life)).await
        };
        // A function without Secrets Manager may have signed until then.
        assert_eq!(fault(&world, &forged(last, HOUR).await?).await?, None, "{username}");
        let late = forged(last + Duration::from_secs(1), HOUR).await?;
        assert_eq!(fault(&world, &late).await?, reason("RETIRED_KEY"), "{username}");
        assert_eq!(fault_of_refresh(&world, &late).await?, reason("RETIRED_KEY"), "{username}");
        assert_eq!(fault(&world, &login).await?, None, "the current key signs");

        // An earlier time of issue does not help: the policy bounds the life of a token.
        let long = forged(last, 100 * SESSION_LIFE).await?;
        world.clock.advance(HOUR);
        assert_eq!(fault(&world, &long).await?, reason("EXPIRED"), "{username}");
        // A refresh needs the token of an older key, until the last of its sessions has ended.
        world.clock.advance(SESSION_LIFE - 2 * HOUR);
        let login = world.login(&actor).await?;
        let long = with_token(&world, &login, (&stolen, &policy), (last, 100 * SESSION_LIFE)).await?;
        assert_eq!(fault(&world, &long).await?, reason("EXPIRED"), "{username}");
        let refreshed = world.refreshed(&long).await?;
        world.clock.advance(HOUR);
        let after = Login { token: long.token, ..refreshed.clone() };
        assert_eq!(fault_of_refresh(&world, &after).await?, reason("RETIRED_KEY"), "{username}");
        assert!(world.refreshed(&refreshed).await.is_ok());
    }
    Ok(())
}

// docs/design/security.md#rule-17: the old key signs until the new version is active, however long ago that was made.
#[tokio::test]
async fn key_is_retired_when_its_successor_becomes_active() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    world.switch_rotation_on(NORDIC).await?;
    world.begin_rotation(NORDIC, VERSION).await?;
    world.rotation_step(Step::CreateSecret, NORDIC, VERSION).await?;
    world.clock.advance(3 * HOUR);
    let login = world.login(&actor).await?;
    let id = |login: &Login| -> Result<String> {
        let header = login.token.split('.').next().context("no header")?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
        Ok(header["kid"].as_str().context("no key ID")?.to_owned())
    };
    world.rotation_step(Step::FinishSecret, NORDIC, VERSION).await?;
    let tenant = TenantId::parse(NORDIC)?;
    world.rotator().retire_previous(&tenant).await?;
    world.clock.advance(RECORD_LIFE);
    let document = world.secret_document(NORDIC).await?;
    let actor = Actor { tenant: with_secret(&actor.tenant, &document), ..actor };
    assert_ne!(id(&login)?, id(&world.login(&actor).await?)?, "the token is not of the retired key");
    assert_eq!(fault(&world, &login).await?, None);
    // The next version has the time of the activation too.
    world.clock.advance(2 * HOUR);
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.rotator().retire_previous(&tenant).await?;
    world.clock.advance(RECORD_LIFE);
    assert_eq!(fault(&world, &login).await?, reason("EXPIRED"));
    let roots = world.secret_document(NORDIC).await?["rootKeys"].clone();
    let retired: Timestamp = roots[0]["retiredAt"].as_str().context("not retired")?.parse()?;
    let activated = world.clock.now() - 2 * HOUR - 2 * RECORD_LIFE;
    assert_eq!(retired.as_second(), activated.as_second());
    assert_eq!(fault_of_refresh(&world, &login).await?, None);
    Ok(())
}

// docs/design/security.md#rule-16
#[tokio::test]
async fn token_needs_the_algorithm_that_the_tenant_had_at_its_issue() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let tenant = TenantId::parse(NORDIC)?;
    let add = Renewal { signing_keys: SigningKeys::Of(SigningAlgorithm::EdDsa), ..Renewal::default() };
    world.rotator().rotate(&tenant, add).await?;
    let keys = world.keys(NORDIC).await?;
    world.clock.advance(Duration::from_secs(10));
    let old = world.login(&actor).await?;
    let before = record(&world, &old).await?.policy;
    // The tenant does not sign with the new algorithm yet.
    let after = Policy { algorithm: SigningAlgorithm::EdDsa, ..before.clone() };
    let now = world.clock.now();
    let early = with_token(&world, &old, (&keys, &after), (now, HOUR)).await?;
    assert_eq!(fault(&world, &early).await?, reason("WRONG_ALGORITHM"));
    world.change_policy(NORDIC, |policy| policy.algorithm = SigningAlgorithm::EdDsa).await?;
    let changed_at = world.clock.now() - RECORD_LIFE;
    assert_eq!(fault(&world, &early).await?, None);
    assert_eq!(fault(&world, &old).await?, None, "a token from before the change");
    // A function may use the earlier record for a moment.
    let last = changed_at + Duration::from_secs(10);
    world.clock.advance(Duration::from_secs(10));
    for (issued_at, expected) in [(last, None), (last + Duration::from_secs(1), reason("WRONG_ALGORITHM"))] {
        let forged = with_token(&world, &old, (&keys, &before), (issued_at, HOUR)).await?;
        assert_eq!(fault(&world, &forged).await?, expected);
    }
    // Expired tokens of the old algorithm refresh their sessions.
    world.clock.advance(2 * HOUR);
    assert_eq!(fault(&world, &old).await?, reason("EXPIRED"));
    let refreshed = world.refreshed(&old).await?;
    assert_eq!(fault(&world, &refreshed).await?, None);
    world.clock.advance(SESSION_LIFE);
    let login = world.login(&actor).await?;
    let late = with_token(&world, &login, (&keys, &before), (last, HOUR)).await?;
    assert_eq!(fault_of_refresh(&world, &late).await?, reason("WRONG_ALGORITHM"));
    Ok(())
}

// docs/design/security.md#rule-17: the limits hold for a document that no rotation has cleaned up.
#[tokio::test]
async fn limits_of_retired_keys_hold_when_a_secret_is_loaded() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let login = world.login(&actor).await?;
    let mut document = world.secret_document(NORDIC).await?;
    let retired_at = |age: i64| {
        let age = Duration::from_secs(u64::try_from(age).unwrap_or_default());
        format!("{:.0}", world.clock.now() - age)
    };
    let day = 24 * 60 * 60;
    let mut next = document["rootKeys"][0].clone();
    next["version"] = json!(2);
    next["key"] = json!("A".repeat(43));
    document["rootKeys"].as_array_mut().context("no keys")?.push(next);
    for (age, status) in [(day / 2, 200), (2 * day, 401)] {
        document["rootKeys"][0]["retiredAt"] = json!(retired_at(age));
        world.rotate_secret(NORDIC, &document).await?;
        world.retire_previous_secret(NORDIC).await?;
        world.clock.advance(RECORD_LIFE);
        assert_eq!(world.refresh(&login).await?.status, status, "retired {age} s ago");
    }
    // The oldest keys of too many are not used either.
    document["rootKeys"][0]["retiredAt"] = json!(retired_at(day / 2));
    document["rootKeys"][1]["version"] = json!(1_000);
    for (newer, status) in [(127, 200), (128, 401)] {
        let mut many = document.clone();
        let keys = many["rootKeys"].as_array_mut().context("no keys")?;
        for version in 2..newer + 2 {
            let mut key = document["rootKeys"][0].clone();
            key["version"] = json!(version);
            key["retiredAt"] = json!(retired_at(day / 2 - version));
            keys.push(key);
        }
        world.rotate_secret(NORDIC, &many).await?;
        world.retire_previous_secret(NORDIC).await?;
        world.clock.advance(RECORD_LIFE);
        assert_eq!(world.refresh(&login).await?.status, status, "{newer} newer keys are retired");
    }
    Ok(())
}

/// The tenant with the secret of a document.
fn with_secret(tenant: &stack::Tenant, document: &Value) -> stack::Tenant {
    let tenant_secret = document["tenantSecret"].as_str().unwrap_or_default().to_owned();
    stack::Tenant { tenant_secret, ..tenant.clone() }
}

/// Whether the tenant accepts the credentials of the demo user.
async fn accepts(world: &World, actor: &Actor) -> Result<bool> {
    let answer = world.try_login(actor, &actor.user.password).await?;
    assert!(answer.status == 200 || answer.verdict() == (403, "INVALID_TENANT_CREDENTIALS"));
    Ok(answer.status == 200)
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn retired_version_is_rejected_when_the_cached_record_expires() -> Result<()> {
    let world = World::start().await?;
    let (old, tenant) = (world.actor(MARCUS)?, TenantId::parse(NORDIC)?);
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    let activated_at = world.clock.now();
    world.clock.advance(Duration::from_secs(10));
    assert!(accepts(&world, &old).await?);
    world.rotator().retire_previous(&tenant).await?;
    let retired_at = world.clock.now();
    world.clock.advance(RECORD_LIFE);
    assert!(!accepts(&world, &old).await?);
    // The record keeps the time of the activation, at which the keys were retired.
    world.rotator().retire_previous(&tenant).await?;
    let secret = world.store.tenant(&tenant).await?.and_then(|tenant| tenant.active_secret);
    let secret = secret.context("the record names no version")?;
    assert_eq!((secret.since, secret.previous_retired_at), (activated_at, Some(retired_at)));
    Ok(())
}

// docs/design/security.md#rule-18: Secrets Manager is eventually consistent, so that a load may return the stage of a
// retired version.
#[tokio::test]
async fn retired_version_stays_rejected_when_secrets_manager_returns_it() -> Result<()> {
    let mut world = World::start().await?;
    let (old, tenant) = (world.actor(MARCUS)?, TenantId::parse(NORDIC)?);
    let first = world.secret_version(NORDIC, "AWSCURRENT").await?;
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.rotator().retire_previous(&tenant).await?;
    let name = format!("{}{NORDIC}", local::SECRET_PREFIX);
    let stage = world.secrets.update_secret_version_stage().secret_id(name);
    stage.version_stage("AWSPREVIOUS").move_to_version_id(&first).send().await?;
    world.start_another(Function::CreateSession)?;
    assert!(!accepts(&world, &old).await?);
    // The mark does not concern the version in the record, when an operator makes another one current by hand.
    let mut next = world.secret_document(NORDIC).await?;
    let new = Actor { tenant: with_secret(&old.tenant, &next), ..old };
    next["tenantSecret"] = json!("another tenant secret");
    world.retire_previous_secret(NORDIC).await?;
    world.put_secret(NORDIC, &next, "AWSCURRENT").await?;
    world.start_another(Function::CreateSession)?;
    assert!(accepts(&world, &new).await?);
    Ok(())
}

// docs/design/security.md#rule-18: Secrets Manager is eventually consistent, so that a load may return the retired version
// as the current one.
#[tokio::test]
async fn retired_version_is_rejected_when_secrets_manager_returns_it_as_current() -> Result<()> {
    let world = World::start().await?;
    let (old, tenant) = (world.actor(MARCUS)?, TenantId::parse(NORDIC)?);
    world.login(&old).await?;
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    let new =
        Actor { tenant: with_secret(&old.tenant, &world.secret_document(NORDIC).await?), ..old.clone() };
    world.rotator().retire_previous(&tenant).await?;
    world.secret_faults.inject(Fault::on(Operation::GetSecretValue, Effect::AnswerEarlier).always());
    world.clock.advance(RECORD_LIFE);
    for actor in [&old, &new] {
        let answer = world.try_login(actor, &actor.user.password).await?;
        assert_eq!(answer.verdict(), (503, "UNAVAILABLE"));
    }
    world.secret_faults.clear();
    // The load is repeated after 2 s.
    world.clock.advance(Duration::from_secs(2));
    assert!(!accepts(&world, &old).await? && accepts(&world, &new).await?);
    Ok(())
}

// docs/design/security.md#rule-18: every function knows a new key before another function signs with it.
#[tokio::test]
async fn load_that_misses_a_new_version_is_repeated_before_its_keys_sign() -> Result<()> {
    let mut world = World::start().await?;
    let (actor, tenant) = (world.actor(MARCUS)?, TenantId::parse(NORDIC)?);
    let login = world.login(&actor).await?;
    assert!(world.opens(&login).await?);
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.secret_faults.inject(Fault::on(Operation::GetSecretValue, Effect::AnswerEarlier).always());
    world.clock.advance(RECORD_LIFE);
    assert!(world.opens(&login).await?, "the load returns the earlier stages");
    world.secret_faults.clear();
    world.clock.advance(Duration::from_secs(5));
    // A process that has loaded the new version signs with its key, 10 s after the rotation.
    world.start_another(Function::CreateSession)?;
    let login = world.login(&actor).await?;
    assert!(world.opens(&login).await?);
    Ok(())
}

// docs/design/security.md#rule-18: a retirement that was interrupted between Secrets Manager and the record.
#[tokio::test]
async fn interrupted_retirement_is_completed_by_the_next_one() -> Result<()> {
    let world = World::start().await?;
    let (old, tenant) = (world.actor(MARCUS)?, TenantId::parse(NORDIC)?);
    world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
    world.clock.advance(Duration::from_secs(10));
    assert!(accepts(&world, &old).await?);
    // The first write changes nothing, because the record names the version.
    let lost = Fault::on(Operation::UpdateItem, Effect::LoseRequest).sk("TENANT").nth(2).times(3);
    world.faults.inject(lost);
    assert!(world.rotator().retire_previous(&tenant).await.is_err());
    assert!(world.secret_version(NORDIC, "AWSPREVIOUS").await.is_err());
    world.clock.advance(RECORD_LIFE);
    assert!(accepts(&world, &old).await?, "until the cache's life is over");
    assert_eq!(world.rotator().retire_previous(&tenant).await?, None);
    world.clock.advance(RECORD_LIFE);
    assert!(!accepts(&world, &old).await?);
    Ok(())
}
