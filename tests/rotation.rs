//! Rotation of a tenant's secret by Secrets Manager and by an operator, also interrupted, repeated and
//! concurrent. A rotation ends no session (docs/design/security.md#rule-17 and #rule-18).

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::Clock,
    route::Function,
    secrets::{Old, Renewal, RotationError, SigningKeys, Step},
};
use e2e::{
    Actor, NORDIC, World,
    fault_proxy::{Effect, Fault, Operation},
};
use secrecy::ExposeSecret;
use serde_json::json;
use strum::IntoEnumIterator;
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// Life of a cached secret.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);
/// Life of a cached tenant record.
const RECORD_LIFE: Duration = Duration::from_secs(5);
const VERSION: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const OTHER_VERSION: &str = "aaaaaaaa-0000-4000-8000-000000000002";

fn nordic() -> TenantId {
    TenantId::parse(NORDIC).unwrap()
}

/// The user with the tenant credentials of a version of the secret.
async fn with_pair_of(world: &World, actor: &Actor, version: &str) -> Result<Actor> {
    let text = world.secret_text(&actor.tenant.tenant_id, version).await?;
    let document: serde_json::Value = serde_json::from_str(&text)?;
    let mut changed = actor.clone();
    document["tenantKey"].as_str().unwrap().clone_into(&mut changed.tenant.tenant_key);
    document["tenantSecret"].as_str().unwrap().clone_into(&mut changed.tenant.tenant_secret);
    Ok(changed)
}

async fn started() -> Result<World> {
    let world = World::start().await?;
    world.switch_rotation_on(NORDIC).await?;
    world.begin_rotation(NORDIC, VERSION).await?;
    Ok(world)
}

async fn take(world: &World, step: Step) -> Result<()> {
    world.rotation_step(step, NORDIC, VERSION).await.map(|_| ())
}

/// The error of a rejected step.
async fn refused(world: &World, step: Step, version: &str) -> String {
    world.rotation_step(step, NORDIC, version).await.unwrap_err().to_string()
}

async fn stages(world: &World) -> Result<[Option<String>; 3]> {
    let mut found = [None, None, None];
    for (found, stage) in found.iter_mut().zip(["AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"]) {
        *found = world.secret_version(NORDIC, stage).await.ok();
    }
    Ok(found)
}

// docs/design/security.md#rule-18: new credentials are accepted once they are current, old ones until
// they are retired, and pending ones never.
#[tokio::test]
async fn rotation_activates_the_new_secret_and_accepts_the_old_one_until_retirement() -> Result<()> {
    let world = started().await?;
    let old = world.actor(MARCUS)?;
    let before = world.secret_version(NORDIC, "AWSCURRENT").await?;
    let session = world.login(&old).await?;
    take(&world, Step::CreateSecret).await?;
    let new = with_pair_of(&world, &old, VERSION).await?;
    assert_ne!(new.tenant.tenant_secret, old.tenant.tenant_secret);
    assert_eq!(new.tenant.tenant_key, old.tenant.tenant_key);
    for step in [Step::SetSecret, Step::TestSecret] {
        take(&world, step).await?;
        world.clock.advance(CACHE_LIFE);
        let pending = world.try_login(&new, &new.user.password).await?;
        assert_eq!(pending.verdict(), (403, "INVALID_TENANT_CREDENTIALS"), "{}", step.name());
        assert!(world.login(&old).await.is_ok());
        assert_eq!(stages(&world).await?, [Some(before.clone()), None, Some(VERSION.to_owned())]);
    }
    take(&world, Step::FinishSecret).await?;
    assert_eq!(stages(&world).await?, [Some(VERSION.to_owned()), Some(before), None]);
    world.clock.advance(CACHE_LIFE);
    assert!(world.login(&new).await.is_ok() && world.login(&old).await.is_ok());
    let session = world.refreshed(&session).await?;

    assert!(world.rotator().retire_previous(&nordic()).await?.is_some());
    assert!(world.rotator().retire_previous(&nordic()).await?.is_none());
    world.clock.advance(CACHE_LIFE);
    let retired = world.try_login(&old, &old.user.password).await?;
    assert_eq!(retired.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
    assert!(world.login(&new).await.is_ok() && world.opens(&session).await?);
    assert_eq!(world.refresh(&session).await?.status, 200, "the rotation ended a session");
    Ok(())
}

// After an interruption, Secrets Manager restarts with the first step and may repeat every step.
#[tokio::test]
async fn rotation_interrupted_after_any_step_ends_in_the_same_version() -> Result<()> {
    for taken in 0..=Step::iter().count() {
        let world = started().await?;
        let before = world.secret_version(NORDIC, "AWSCURRENT").await?;
        let mut text = String::new();
        for step in Step::iter().take(taken) {
            take(&world, step).await?;
            take(&world, step).await?;
            let now = world.secret_text(NORDIC, VERSION).await?;
            assert!(text.is_empty() || text == now, "{} wrote it again", step.name());
            text = now;
        }
        world.clock.advance(Duration::from_secs(60 * 60));
        for step in Step::iter() {
            take(&world, step).await?;
        }
        if taken > 0 {
            assert_eq!(world.secret_text(NORDIC, VERSION).await?, text, "after {taken} steps");
        }
        assert_eq!(stages(&world).await?, [Some(VERSION.to_owned()), Some(before), None]);
        let actor = with_pair_of(&world, &world.actor(MARCUS)?, VERSION).await?;
        assert!(world.login(&actor).await.is_ok());
    }
    Ok(())
}

// The SDK repeats a call whose response was lost, and the repetition finds its own result.
#[tokio::test]
async fn rotation_with_a_lost_response_changes_nothing() -> Result<()> {
    for lost in [
        Operation::DescribeSecret,
        Operation::GetSecretValue,
        Operation::PutSecretValue,
        Operation::UpdateSecretVersionStage,
    ] {
        let world = started().await?;
        for step in Step::iter() {
            world.secret_faults.inject(Fault::on(lost, Effect::LoseAnswer));
            // The step may fail; Secrets Manager then repeats it.
            if take(&world, step).await.is_err() {
                take(&world, step).await?;
            }
        }
        assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION, "{lost:?}");
        let actor = with_pair_of(&world, &world.actor(MARCUS)?, VERSION).await?;
        assert!(world.login(&actor).await.is_ok(), "{lost:?}");
    }
    Ok(())
}

/// Version in the tenant's record.
async fn active(world: &World) -> Result<Option<String>> {
    let tenant = world.store.tenant(&nordic()).await?.context("the tenant does not exist")?;
    Ok(tenant.active_secret.map(|secret| secret.version))
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn new_secret_is_accepted_when_the_cached_record_expires() -> Result<()> {
    let world = World::start().await?;
    let old = world.actor(MARCUS)?;
    // The forced reload that unknown keys and secrets once caused must not be needed.
    let mut wrong = old.clone();
    "not the tenant's".clone_into(&mut wrong.tenant.tenant_secret);
    world.login(&old).await?;
    assert_eq!(world.try_login(&wrong, "x").await?.status, 403);
    let made = world.rotator().rotate(&nordic(), Renewal::SCHEDULED).await?;
    assert!(made.activated.is_ok());
    assert_eq!(active(&world).await?, Some(made.id.clone()));
    let new = with_pair_of(&world, &old, &made.id).await?;
    world.secret_calls.take();
    world.clock.advance(RECORD_LIFE);
    assert!(world.login(&new).await.is_ok() && world.login(&old).await.is_ok());
    assert_eq!(world.secret_calls.take(), ["GetSecretValue"; 2]);
    Ok(())
}

// docs/design/security.md#rule-18: Secrets Manager is eventually consistent.
#[tokio::test]
async fn load_that_misses_the_version_in_the_record_is_repeated() -> Result<()> {
    let world = started().await?;
    let old = world.actor(MARCUS)?;
    for step in [Step::CreateSecret, Step::SetSecret, Step::TestSecret] {
        take(&world, step).await?;
    }
    world.store.activate_secret(&nordic(), VERSION, world.clock.now()).await?;
    world.login(&old).await?;
    take(&world, Step::FinishSecret).await?;
    let new = with_pair_of(&world, &old, VERSION).await?;
    assert_eq!(world.try_login(&new, &new.user.password).await?.status, 403, "the first load is cached");
    world.clock.advance(Duration::from_secs(10));
    assert!(world.login(&new).await.is_ok() && world.login(&old).await.is_ok());
    Ok(())
}

// docs/design/security.md#rule-18: no function signs with a new key before every other function can know it.
#[tokio::test]
async fn token_of_a_new_instance_is_valid_in_an_instance_with_the_earlier_record() -> Result<()> {
    for username in [MARCUS, ADMIN] {
        let mut world = World::start().await?;
        let actor = world.actor(username)?;
        let tenant = TenantId::parse(&actor.tenant.tenant_id)?;
        let session = world.login(&actor).await?;
        let first = world.session(&session).await?.key_version;
        world.rotator().rotate(&tenant, Renewal::SCHEDULED).await?;
        world.start_another(Function::CreateSession)?;
        let login = world.login(&actor).await?;
        assert_eq!(world.session(&login).await?.key_version, first, "the previous version must sign");
        let refreshed = world.refreshed(&login).await?;
        assert!(world.opens(&refreshed).await?);
        world.clock.advance(Duration::from_secs(10));
        let login = world.login(&actor).await?;
        assert_eq!(world.session(&login).await?.key_version, first + 1);
        assert!(world.opens(&world.refreshed(&login).await?).await?);
    }
    Ok(())
}

// docs/design/security.md#rule-18: a rotation that was interrupted between Secrets Manager and the record.
#[tokio::test]
async fn rotation_interrupted_before_the_record_is_completed_by_the_next_step() -> Result<()> {
    for next_step in Step::iter() {
        let mut world = started().await?;
        let old = world.actor(MARCUS)?;
        let session = world.login(&old).await?;
        for step in [Step::CreateSecret, Step::SetSecret, Step::TestSecret] {
            take(&world, step).await?;
        }
        let before = active(&world).await?;
        // The step writes the record at its start, which changes nothing, and at its end.
        let lost = Fault::on(Operation::UpdateItem, Effect::LoseRequest).sk("TENANT").nth(2).times(3);
        world.faults.inject(lost);
        assert!(take(&world, Step::FinishSecret).await.is_err());
        assert_eq!(
            (active(&world).await?, world.secret_version(NORDIC, "AWSCURRENT").await?),
            (before, VERSION.to_owned())
        );
        // A new instance accepts both secrets, and signs with the version that the others know.
        world.start_another(Function::CreateSession)?;
        let new = with_pair_of(&world, &old, VERSION).await?;
        let login = world.login(&new).await?;
        assert_eq!(world.session(&login).await?.key_version, world.session(&session).await?.key_version);
        assert!(world.opens(&world.refreshed(&login).await?).await?);

        take(&world, next_step).await?;
        assert_eq!(active(&world).await?, Some(VERSION.to_owned()), "{}", next_step.name());
        world.clock.advance(Duration::from_secs(10));
        let login = world.login(&new).await?;
        assert_eq!(world.session(&login).await?.key_version, world.session(&session).await?.key_version + 1);
        assert!(world.opens(&world.refreshed(&login).await?).await?);
    }
    Ok(())
}

#[tokio::test]
async fn rotation_step_out_of_order_is_rejected_and_changes_nothing() -> Result<()> {
    let world = started().await?;
    let before = stages(&world).await?;
    for step in [Step::TestSecret, Step::FinishSecret] {
        assert!(refused(&world, step, VERSION).await.contains("run createSecret first"));
        assert_eq!(stages(&world).await?, before);
    }
    take(&world, Step::SetSecret).await?;
    take(&world, Step::CreateSecret).await?;
    // The last step also tests the version, if the test step was skipped.
    take(&world, Step::FinishSecret).await?;
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    for step in Step::iter() {
        take(&world, step).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_rotation_steps_create_one_version() -> Result<()> {
    let world = Arc::new(started().await?);
    let mut texts = JoinSet::new();
    for _ in 0..12 {
        let world = Arc::clone(&world);
        texts.spawn(async move {
            take(&world, Step::CreateSecret).await.unwrap();
            world.secret_text(NORDIC, VERSION).await.unwrap()
        });
    }
    let mut texts = texts.join_all().await;
    texts.dedup();
    assert_eq!(texts.len(), 1, "only the first step must create a value");
    let mut finished = JoinSet::new();
    for _ in 0..12 {
        let world = Arc::clone(&world);
        finished.spawn(async move { take(&world, Step::FinishSecret).await.unwrap() });
    }
    finished.join_all().await;
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    Ok(())
}

// Only one of two rotations from the same version completes, because the keys of the other would lack
// those that sessions use by then.
#[tokio::test(flavor = "multi_thread")]
async fn rotation_does_not_undo_a_concurrent_one() -> Result<()> {
    let world = Arc::new(started().await?);
    take(&world, Step::CreateSecret).await?;
    let between = world.rotator().rotate(&nordic(), Renewal::SCHEDULED).await?;
    for step in [Step::TestSecret, Step::FinishSecret] {
        let refused = refused(&world, step, VERSION).await;
        assert!(
            refused.contains("another rotation has replaced it") || refused.contains("no version"),
            "{refused}"
        );
    }
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, between.id);

    world.begin_rotation(NORDIC, OTHER_VERSION).await?;
    world.rotation_step(Step::CreateSecret, NORDIC, OTHER_VERSION).await?;
    let document = world.secret_document(NORDIC).await?;
    let by_hand = world.rotate_secret(NORDIC, &document).await?;
    let refused = refused(&world, Step::FinishSecret, OTHER_VERSION).await;
    assert!(
        refused.contains("no longer current") && refused.contains("--version-stage AWSPENDING"),
        "{refused}"
    );
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, by_hand);

    let mut rotations = JoinSet::new();
    for _ in 0..6 {
        let world = Arc::clone(&world);
        rotations.spawn(async move { world.rotator().rotate(&nordic(), Renewal::SCHEDULED).await });
    }
    let results = rotations.join_all().await;
    let done: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert!(!done.is_empty(), "{results:?}");
    let current = world.secret_version(NORDIC, "AWSCURRENT").await?;
    assert!(done.iter().any(|version| version.id == current));
    // Each completed rotation derives from the version before, so that no keys are missing.
    let roots = world.secret_document(NORDIC).await?["rootKeys"].as_array().unwrap().len();
    assert_eq!(roots, document["rootKeys"].as_array().unwrap().len() + done.len());
    Ok(())
}

// Requests that violate the protocol change nothing, and no error message contains part of a secret.
#[tokio::test]
async fn invalid_rotation_event_is_rejected() -> Result<()> {
    let world = World::start().await?;
    assert!(refused(&world, Step::CreateSecret, VERSION).await.contains("is disabled"));
    world.switch_rotation_on(NORDIC).await?;
    assert!(refused(&world, Step::CreateSecret, VERSION).await.contains("has no version"));
    world.begin_rotation(NORDIC, VERSION).await?;
    let previous = world.rotate_secret(NORDIC, &world.secret_document(NORDIC).await?).await?;
    let document = world.secret_document(NORDIC).await?;
    world.rotate_secret(NORDIC, &document).await?;
    assert!(refused(&world, Step::CreateSecret, &previous).await.contains("not at AWSPENDING"));

    world.secrets.create_secret().name("elsewhere/x").secret_string("PLANTED").send().await?;
    let event =
        |secret: &str, step: &str| json!({ "Step": step, "SecretId": secret, "ClientRequestToken": VERSION });
    let name = format!("doorward/tenants/{NORDIC}");
    for (event, says) in [
        (event("elsewhere/x", "createSecret"), "does not belong to a tenant"),
        (event("doorward/tenants/nobody", "createSecret"), "does not exist"),
        (event(&name, "dropSecret"), "not a rotation step"),
        (json!({ "Step": "createSecret" }), "not a rotation step"),
        (json!(null), "not a rotation step"),
    ] {
        let refused = world.send_rotation(&event).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{event}: {refused}");
    }

    // An unreadable document is not rotated, and an unusable one never becomes current.
    for (bad, says) in [("PLANTED", "not a JSON document"), (r#"{"tenantKey":"PLANTED"}"#, "shorter than 16")]
    {
        let world = World::start().await?;
        world.secrets.put_secret_value().secret_id(&name).secret_string(bad).send().await?;
        world.switch_rotation_on(NORDIC).await?;
        world.begin_rotation(NORDIC, VERSION).await?;
        let mut told = String::new();
        for step in Step::iter() {
            if let Err(error) = world.rotation_step(step, NORDIC, VERSION).await {
                told = format!("{told}{error}\n");
            }
        }
        assert!(told.contains(says) && !told.contains("PLANTED"), "{told}");
        assert_ne!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    }
    Ok(())
}

// A pending version without a key for the current signing algorithm is rejected before it becomes current.
#[tokio::test]
async fn secret_without_a_usable_signing_key_is_not_installed() -> Result<()> {
    let world = started().await?;
    let mut document = world.secret_document(NORDIC).await?;
    document["signingKeys"] = json!([]);
    document["madeFrom"] = json!(world.secret_version(NORDIC, "AWSCURRENT").await?);
    let put = world.secrets.put_secret_value().secret_id(format!("doorward/tenants/{NORDIC}"));
    let put = put.client_request_token(VERSION).version_stages("AWSPENDING");
    put.secret_string(document.to_string()).send().await?;
    let refused = refused(&world, Step::TestSecret, VERSION).await;
    assert!(refused.contains("no signing key for ES256"), "{refused}");
    // It is rejected without the test step too.
    let refused = self::refused(&world, Step::FinishSecret, VERSION).await;
    assert!(refused.contains("no signing key for ES256"), "{refused}");
    assert_ne!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    Ok(())
}

/// The kinds of rotation that keep the existing keys.
const GENTLE: [Renewal; 4] = [
    Renewal::SCHEDULED,
    Renewal {
        tenant_key: true,
        tenant_secret: true,
        root_key: false,
        signing_keys: SigningKeys::AsTheyAre,
        old: Old::Kept,
    },
    Renewal {
        tenant_key: false,
        tenant_secret: false,
        root_key: true,
        signing_keys: SigningKeys::AsTheyAre,
        old: Old::Kept,
    },
    Renewal {
        tenant_key: false,
        tenant_secret: false,
        root_key: false,
        signing_keys: SigningKeys::EachListed,
        old: Old::Kept,
    },
];

// docs/design/security.md#rule-17 and #rule-18: sessions and codes stay valid through every rotation
// and through the retirement of the previous version.
#[tokio::test(flavor = "multi_thread")]
async fn rotation_ends_no_session() -> Result<()> {
    for renewal in GENTLE {
        let world = Arc::new(World::start().await?);
        let marcus = world.actor(MARCUS)?;
        let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
        let mut logins = Vec::new();
        for _ in 0..4 {
            logins.push(world.login(&marcus).await?);
        }
        let path = format!("/v2/users/{}/password_reset", marcus.user.user_id);
        let asked = json!({ "returnCode": {} });
        let asked =
            world.request(&http::Method::POST, &path, NORDIC, Some(&admin.token), Some(&asked)).await?;
        let code = asked.body["verificationCode"].as_str().unwrap().to_owned();

        // Refreshes and logins during the rotation.
        let mut under_way = JoinSet::new();
        for login in logins {
            let (world, marcus) = (Arc::clone(&world), marcus.clone());
            under_way.spawn(async move {
                let mut login = login;
                for _ in 0..5 {
                    login = world.refreshed(&login).await.unwrap();
                    world.login(&marcus).await.unwrap();
                }
                login
            });
        }
        let made = world.rotator().rotate(&nordic(), renewal).await?;
        let logins = under_way.join_all().await;
        world.clock.advance(CACHE_LIFE);
        let mut refreshed = Vec::new();
        for login in &logins {
            assert!(world.opens(login).await?, "{renewal:?}");
            refreshed.push(world.refreshed(login).await?);
        }
        world.rotator().retire_previous(&nordic()).await?;
        world.clock.advance(CACHE_LIFE);
        for login in &refreshed {
            assert!(world.opens(login).await?, "{renewal:?}");
            assert!(world.opens(&world.refreshed(login).await?).await?, "{renewal:?}");
        }
        let new = with_pair_of(&world, &marcus, &made.id).await?;
        assert_eq!(new.tenant.tenant_secret, made.tenant_secret.expose_secret());
        assert!(world.login(&new).await.is_ok());
        if renewal.tenant_secret {
            let old = world.try_login(&marcus, &marcus.user.password).await?;
            assert_eq!(old.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
        }
        let path = format!("/v2/users/{}/password", marcus.user.user_id);
        let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
        let set = world.request(&http::Method::POST, &path, NORDIC, None, Some(&body)).await?;
        assert_eq!(set.status, 200, "{renewal:?}: {}", set.text);
        assert_eq!(world.try_login(&new, NEW_PASSWORD).await?.status, 200);
    }
    Ok(())
}

// docs/design/security.md#rule-17: tokens of a removed key are rejected once no process has the key in
// its cache.
#[tokio::test]
async fn tokens_of_a_leaked_key_are_rejected_after_its_removal() -> Result<()> {
    let root = Renewal { root_key: true, old: Old::Dropped, ..Renewal::default() };
    let signing = Renewal { signing_keys: SigningKeys::EachListed, old: Old::Dropped, ..Renewal::default() };
    // CloudVault signs access tokens with its root key, Nordic Bank with its signing key.
    for (username, renewal, opens) in [(ADMIN, root, false), (MARCUS, root, true), (MARCUS, signing, false)] {
        let world = World::start().await?;
        let actor = world.actor(username)?;
        let tenant = TenantId::parse(&actor.tenant.tenant_id)?;
        let login = world.login(&actor).await?;
        world.rotator().rotate(&tenant, renewal).await?;
        world.rotator().retire_previous(&tenant).await?;
        world.clock.advance(CACHE_LIFE);
        assert_eq!(world.opens(&login).await?, opens, "{renewal:?}");
        // Within a minute of the last reload, the key could be a new one.
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.refresh(&login).await?.status, 401, "{renewal:?}");
        assert!(world.login(&actor).await.is_ok());
    }
    Ok(())
}

// Every process knows the next signing key before its first use, so that no token has an unknown key.
#[tokio::test]
async fn next_rotation_signs_with_the_published_key() -> Result<()> {
    let world = World::start().await?;
    let of = Renewal { signing_keys: SigningKeys::Of(SigningAlgorithm::Es256), ..Renewal::default() };
    world.rotator().rotate(&nordic(), of).await?;
    let standby = world.secret_document(NORDIC).await?["signingKeys"].as_array().unwrap().last().cloned();
    world.rotator().rotate(&nordic(), of).await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    let signs = world.secret_document(NORDIC).await?["signingKeys"][0]["id"].clone();
    assert_eq!(signs, standby.unwrap()["id"]);
    assert!(world.opens(&login).await?);
    Ok(())
}

// docs/design/security.md#rule-20: the first secret of a tenant shares no key with a leftover secret of
// the same name.
#[tokio::test]
async fn first_secret_keeps_no_key_of_an_existing_secret() -> Result<()> {
    let world = World::start().await?;
    let gone = TenantId::parse("tenant_gone")?;
    let first = world.rotator().create_first(&gone, SigningAlgorithm::Es256).await?;
    let before = world.secret_document("tenant_gone").await?;
    let again = world.rotator().create_first(&gone, SigningAlgorithm::EdDsa).await;
    assert!(matches!(again, Err(RotationError::Exists(_))), "{again:?}");
    assert_eq!(
        world.secret_document("tenant_gone").await?,
        before,
        "a secret that may belong to another stack was changed"
    );
    let second = world.rotator().replace(&gone, SigningAlgorithm::EdDsa).await?;
    world.rotator().retire_previous(&gone).await?;
    let after = world.secret_document("tenant_gone").await?;
    assert_ne!(first.id, second.id);
    assert_ne!(first.tenant_key.expose_secret(), second.tenant_key.expose_secret());
    assert_ne!(first.tenant_secret.expose_secret(), second.tenant_secret.expose_secret());
    assert_eq!(after["rootKeys"].as_array().unwrap().len(), 1);
    assert_ne!(after["rootKeys"][0]["key"], before["rootKeys"][0]["key"]);
    assert_ne!(
        after["rootKeys"][0]["version"], before["rootKeys"][0]["version"],
        "a root key version was reused"
    );
    let algorithms = after["signingKeys"].as_array().unwrap().iter().map(|key| key["algorithm"].clone());
    assert_eq!(algorithms.collect::<Vec<_>>(), ["EdDSA", "EdDSA"]);
    assert!(world.secret_version("tenant_gone", "AWSPREVIOUS").await.is_err());

    assert!(world.rotator().delete(&gone, 30).await?);
    assert!(!world.rotator().delete(&gone, 30).await?, "once");
    let refused = world.rotator().create_first(&gone, SigningAlgorithm::Es256).await;
    assert!(matches!(refused, Err(RotationError::Deleted(_))), "{refused:?}");
    Ok(())
}
