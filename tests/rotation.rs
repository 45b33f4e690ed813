//! Rotating a tenant's secret: step by step as Secrets Manager asks for it, interrupted, repeated and at
//! once, and by an operator; and that nobody is logged out by it (docs/design/security.md#rule-17 and #rule-18).

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    secrets::{Old, Renewal, RotationError, SigningKeys, Step},
};
use e2e::{Actor, NORDIC, World};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// How long a secret is believed.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);
const VERSION: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const OTHER_VERSION: &str = "aaaaaaaa-0000-4000-8000-000000000002";

fn nordic() -> TenantId {
    TenantId::parse(NORDIC).unwrap()
}

/// A user as it logs in with the pair of a version of its tenant's secret.
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

/// What a step that is refused says.
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

// docs/design/security.md#rule-18: the new pair opens once it is current, the old one until it is retired, AWSPENDING never.
#[tokio::test]
async fn step_by_step_the_new_secret_takes_over_and_the_old_one_opens_until_it_is_retired() -> Result<()> {
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
    assert_eq!(world.refresh(&session).await?.status, 200, "nobody is logged out");
    Ok(())
}

// Secrets Manager begins again from the first step after an interruption, and may repeat any.
#[tokio::test]
async fn interrupted_after_any_step_and_repeated_it_ends_in_the_same_version() -> Result<()> {
    for taken in 0..=Step::ALL.len() {
        let world = started().await?;
        let before = world.secret_version(NORDIC, "AWSCURRENT").await?;
        let mut text = String::new();
        for step in Step::ALL.into_iter().take(taken) {
            take(&world, step).await?;
            take(&world, step).await?;
            let now = world.secret_text(NORDIC, VERSION).await?;
            assert!(text.is_empty() || text == now, "{} wrote it again", step.name());
            text = now;
        }
        world.clock.advance(Duration::from_secs(60 * 60));
        for step in Step::ALL {
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

// A call whose answer is lost is sent again by the SDK, and meets what it did itself.
#[tokio::test]
async fn an_answer_that_is_lost_changes_nothing() -> Result<()> {
    for lost in ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"] {
        let world = started().await?;
        for step in Step::ALL {
            world.secret_calls.lose_answer(lost);
            // The step itself may fail; Secrets Manager then takes it again.
            if take(&world, step).await.is_err() {
                take(&world, step).await?;
            }
        }
        assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION, "{lost}");
        let actor = with_pair_of(&world, &world.actor(MARCUS)?, VERSION).await?;
        assert!(world.login(&actor).await.is_ok(), "{lost}");
    }
    Ok(())
}

#[tokio::test]
async fn a_step_out_of_order_is_refused_and_changes_nothing() -> Result<()> {
    let world = started().await?;
    let before = stages(&world).await?;
    for step in [Step::TestSecret, Step::FinishSecret] {
        assert!(refused(&world, step, VERSION).await.contains("createSecret comes first"));
        assert_eq!(stages(&world).await?, before);
    }
    take(&world, Step::SetSecret).await?;
    take(&world, Step::CreateSecret).await?;
    // What nobody asked to test is tested by the finish.
    take(&world, Step::FinishSecret).await?;
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    for step in Step::ALL {
        take(&world, step).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_version() -> Result<()> {
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
    assert_eq!(texts.len(), 1, "the first decides");
    let mut finished = JoinSet::new();
    for _ in 0..12 {
        let world = Arc::clone(&world);
        finished.spawn(async move { take(&world, Step::FinishSecret).await.unwrap() });
    }
    finished.join_all().await;
    assert_eq!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    Ok(())
}

// Of two rotations from one version, one is done; the other's keys would not be those of the sessions
// that are made by then.
#[tokio::test(flavor = "multi_thread")]
async fn no_rotation_undoes_another() -> Result<()> {
    let world = Arc::new(started().await?);
    take(&world, Step::CreateSecret).await?;
    let between = world.rotator().rotate(&nordic(), Renewal::SCHEDULED).await?;
    for step in [Step::TestSecret, Step::FinishSecret] {
        let refused = refused(&world, step, VERSION).await;
        assert!(
            refused.contains("another rotation took its place") || refused.contains("no version"),
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
        refused.contains("not current any more") && refused.contains("--version-stage AWSPENDING"),
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
    // Each that was done was made from the one before: none is missing its keys.
    let roots = world.secret_document(NORDIC).await?["rootKeys"].as_array().unwrap().len();
    assert_eq!(roots, document["rootKeys"].as_array().unwrap().len() + done.len());
    Ok(())
}

// Nothing is done where anything is not as the protocol has it, and no error tells what is in a secret.
#[tokio::test]
async fn what_is_no_step_of_a_rotation_is_refused() -> Result<()> {
    let world = World::start().await?;
    assert!(refused(&world, Step::CreateSecret, VERSION).await.contains("not switched on"));
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
        (event("elsewhere/x", "createSecret"), "no tenant's"),
        (event("doorward/tenants/nobody", "createSecret"), "there is no secret"),
        (event(&name, "dropSecret"), "no rotation's"),
        (json!({ "Step": "createSecret" }), "no rotation's"),
        (json!(null), "no rotation's"),
    ] {
        let refused = world.send_rotation(&event).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{event}: {refused}");
    }

    // A document that cannot be read is not rotated; one that cannot be used never becomes current.
    for (bad, says) in [("PLANTED", "not a JSON document"), (r#"{"tenantKey":"PLANTED"}"#, "shorter than 16")]
    {
        let world = World::start().await?;
        world.secrets.put_secret_value().secret_id(&name).secret_string(bad).send().await?;
        world.switch_rotation_on(NORDIC).await?;
        world.begin_rotation(NORDIC, VERSION).await?;
        let mut told = String::new();
        for step in Step::ALL {
            if let Err(error) = world.rotation_step(step, NORDIC, VERSION).await {
                told = format!("{told}{error}\n");
            }
        }
        assert!(told.contains(says) && !told.contains("PLANTED"), "{told}");
        assert_ne!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    }
    Ok(())
}

// What a pending version lacks shows before it is current: an algorithm that the current one signs by.
#[tokio::test]
async fn a_version_that_could_not_sign_is_not_installed() -> Result<()> {
    let world = started().await?;
    let mut document = world.secret_document(NORDIC).await?;
    document["signingKeys"] = json!([]);
    document["madeFrom"] = json!(world.secret_version(NORDIC, "AWSCURRENT").await?);
    let put = world.secrets.put_secret_value().secret_id(format!("doorward/tenants/{NORDIC}"));
    let put = put.client_request_token(VERSION).version_stages("AWSPENDING");
    put.secret_string(document.to_string()).send().await?;
    let refused = refused(&world, Step::TestSecret, VERSION).await;
    assert!(refused.contains("no signing key for ES256"), "{refused}");
    // Nor where nobody asked for the test.
    let refused = self::refused(&world, Step::FinishSecret, VERSION).await;
    assert!(refused.contains("no signing key for ES256"), "{refused}");
    assert_ne!(world.secret_version(NORDIC, "AWSCURRENT").await?, VERSION);
    Ok(())
}

/// Every kind of rotation that keeps what was.
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

// docs/design/security.md#rule-17 and #rule-18: logins, refreshes and codes that are under way outlive every rotation, and the
// retirement of the version before.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_out_by_a_rotation() -> Result<()> {
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

        // Refreshes and logins while it rotates.
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

// docs/design/security.md#rule-17: of a leaked key nothing opens any more, once no process believes in it.
#[tokio::test]
async fn nothing_of_a_leaked_key_opens() -> Result<()> {
    let root = Renewal { root_key: true, old: Old::Dropped, ..Renewal::default() };
    let signing = Renewal { signing_keys: SigningKeys::EachListed, old: Old::Dropped, ..Renewal::default() };
    // CloudVault's access tokens are of its root key, Nordic Bank's of its signing key.
    for (username, renewal, opens) in [(ADMIN, root, false), (MARCUS, root, true), (MARCUS, signing, false)] {
        let world = World::start().await?;
        let actor = world.actor(username)?;
        let tenant = TenantId::parse(&actor.tenant.tenant_id)?;
        let login = world.login(&actor).await?;
        world.rotator().rotate(&tenant, renewal).await?;
        world.rotator().retire_previous(&tenant).await?;
        world.clock.advance(CACHE_LIFE);
        assert_eq!(world.opens(&login).await?, opens, "{renewal:?}");
        // Within a minute of the last look it might yet be a new key.
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.refresh(&login).await?.status, 401, "{renewal:?}");
        assert!(world.login(&actor).await.is_ok());
    }
    Ok(())
}

// A key that signs next is known to every process before it signs: no token of it is ever unknown.
#[tokio::test]
async fn the_next_rotation_signs_with_the_key_that_was_published() -> Result<()> {
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

// docs/design/security.md#rule-20: the first secret of a tenant shares nothing with one that was left there before.
#[tokio::test]
async fn a_first_secret_keeps_nothing_of_one_that_is_there() -> Result<()> {
    let world = World::start().await?;
    let gone = TenantId::parse("tenant_gone")?;
    let first = world.rotator().create_first(&gone, SigningAlgorithm::Es256).await?;
    let before = world.secret_document("tenant_gone").await?;
    let again = world.rotator().create_first(&gone, SigningAlgorithm::EdDsa).await;
    assert!(matches!(again, Err(RotationError::Exists(_))), "{again:?}");
    assert_eq!(world.secret_document("tenant_gone").await?, before, "it may be another stack's");
    let second = world.rotator().replace(&gone, SigningAlgorithm::EdDsa).await?;
    world.rotator().retire_previous(&gone).await?;
    let after = world.secret_document("tenant_gone").await?;
    assert_ne!(first.id, second.id);
    assert_ne!(first.tenant_key.expose_secret(), second.tenant_key.expose_secret());
    assert_ne!(first.tenant_secret.expose_secret(), second.tenant_secret.expose_secret());
    assert_eq!(after["rootKeys"].as_array().unwrap().len(), 1);
    assert_ne!(after["rootKeys"][0]["key"], before["rootKeys"][0]["key"]);
    assert_ne!(after["rootKeys"][0]["version"], before["rootKeys"][0]["version"], "no number is used again");
    let algorithms = after["signingKeys"].as_array().unwrap().iter().map(|key| key["algorithm"].clone());
    assert_eq!(algorithms.collect::<Vec<_>>(), ["EdDSA", "EdDSA"]);
    assert!(world.secret_version("tenant_gone", "AWSPREVIOUS").await.is_err());

    assert!(world.rotator().delete(&gone, 30).await?);
    assert!(!world.rotator().delete(&gone, 30).await?, "once");
    let refused = world.rotator().create_first(&gone, SigningAlgorithm::Es256).await;
    assert!(matches!(refused, Err(RotationError::Deleted(_))), "{refused:?}");
    Ok(())
}
