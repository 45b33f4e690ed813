//! Requests that are sent again under one `Idempotency-Key`: what they do is done once, however many
//! there are and whatever breaks in between.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Notification, SessionLimit, User, UserStatus, WhenFull},
    port::{Clock, SessionsOf, Store},
    route::{Function, Router},
};
use e2e::{Actor, Answer, Login, NORDIC, World, as_tenant, event};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN, SECOND_ADMIN};

const KEY: &str = "a key of the client's own";
const NOBODY: &str = "nobody-at-all";
const RPC: &str = "/zitadel.user.v2.UserService/PasswordReset";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a secret is believed.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);

/// Sends an event to whichever function it is for, under a key.
async fn send(world: &World, mut event: Value, key: &str) -> Result<Answer> {
    event["headers"]["idempotency-key"] = json!(key);
    let path = event["rawPath"].as_str().context("no path")?.to_owned();
    let answers = |function: &Function| {
        Router::new(*function).is_ok_and(|router| router.find(&Method::POST, &path).is_some())
    };
    let function = Function::ALL.into_iter().find(answers).context("no such route")?;
    world.send(function, &event.to_string()).await
}

fn login_event(actor: &Actor, password: &str) -> Value {
    let body = actor.credentials(password);
    event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body))
}

async fn log_in(world: &World, actor: &Actor, password: &str, key: &str) -> Result<Answer> {
    send(world, login_event(actor, password), key).await
}

/// Logs in with its own password.
async fn own(world: &World, actor: &Actor, key: &str) -> Result<Answer> {
    log_in(world, actor, &actor.user.password, key).await
}

/// A reset code, asked for by somebody, or by the tenant.
fn code_event(by: Option<&Login>, user: &str, body: &Value) -> Value {
    let path = format!("/v2/users/{user}/password_reset");
    match by {
        Some(login) => event(&Method::POST, &path, NORDIC, Some(&login.token), Some(body)),
        None => as_tenant(event(&Method::POST, &path, NORDIC, None, Some(body))),
    }
}

fn reset_event(by: &Login, body: &Value) -> Value {
    let path = "/api/v2.1/admin/users/login/reset";
    event(&Method::POST, path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body))
}

/// Sends the same event that often at once.
async fn at_once(world: &Arc<World>, count: usize, event: &Value, key: &str) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (world, event, key) = (Arc::clone(world), event.clone(), key.to_owned());
        tasks.spawn(async move { send(&world, event, &key).await.unwrap() });
    }
    tasks.join_all().await
}

/// How many requests the audit log tells of as sent again.
fn repeated(world: &World) -> usize {
    world.audit.events().iter().filter(|event| event["reason"] == "REPEATED").count()
}

/// How many sessions of the user live.
async fn live(world: &World, actor: &Actor) -> Result<usize> {
    let user = world.user(actor).await?;
    let tenant = world.store.tenant(&user.tenant).await?.context("no such tenant")?;
    let of = SessionsOf::user(&user, tenant.session_epoch, world.clock.now());
    Ok(world.store.live_sessions(&of).await?.len())
}

/// How many keys the table remembers.
async fn remembered(world: &World) -> Result<usize> {
    let found = world
        .dynamodb
        .scan()
        .table_name(local::TABLE)
        .filter_expression("sk = :key")
        .expression_attribute_values(":key", AttributeValue::S("KEY".into()))
        .send()
        .await?;
    Ok(found.items().len())
}

async fn codes_sent(world: &World, user: &str) -> Result<usize> {
    let messages = world.outbox(NORDIC, user).await?;
    Ok(messages.iter().filter(|message| matches!(message, Notification::ResetCode(_))).count())
}

async fn change_user(world: &World, actor: &Actor, change: impl FnOnce(&mut User)) -> Result<()> {
    let old = world.user(actor).await?;
    let mut new = User { sequence: old.sequence + 1, ..old.clone() };
    change(&mut new);
    Ok(world.store.replace_user(&old, &new).await?)
}

fn expired(answer: &Answer) -> bool {
    answer.verdict() == (409, "IDEMPOTENCY_EXPIRED")
}

// docs/design/contract.md#every-request: the same key with the same body gives the first success again.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicates_of_a_login_are_one_session() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let actor = world.actor(ADMIN)?;
    // As many as may guess at once are past the first look at the key when the first commits.
    world.passwords.close();
    let answers = tokio::spawn({
        let (world, event) = (Arc::clone(&world), login_event(&actor, &actor.user.password));
        async move { at_once(&world, 20, &event, KEY).await }
    });
    world.passwords.until_more_than(4).await;
    world.passwords.open();
    let answers = answers.await?;
    let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{verdicts:?}");
    let one = |name: &str| answers.iter().map(|answer| answer.data(name)).collect::<HashSet<_>>().len();
    assert_eq!((one("sessionId"), one("refreshToken")), (1, 1));
    assert_eq!(live(&world, &actor).await?, 1, "and nothing else was created");
    assert_eq!(remembered(&world).await?, 1);
    let told: HashSet<_> = world.audit.events().iter().map(|event| event["session"].to_string()).collect();
    assert_eq!((told.len(), repeated(&world)), (1, 19), "docs/design/security.md#rule-24");
    for answer in &answers {
        assert!(world.opens(&Login::from_answer(&actor, answer)?).await?);
    }
    // Every place was given back: five more may guess, and no sixth.
    for _ in 0..5 {
        assert_eq!(world.try_login(&actor, "wrong").await?.verdict(), (401, "AUTHENTICATION"));
    }
    assert_eq!(world.try_login(&actor, "wrong").await?.verdict(), (401, "ACCOUNT_LOCKED"));
    Ok(())
}

#[tokio::test]
async fn a_repeated_login_costs_no_hash_and_no_session() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(CUSTOMER)?;
    let first = own(&world, &actor, KEY).await?;
    let verified = world.passwords.verified();
    world.calls.take();
    let again = own(&world, &actor, KEY).await?;
    assert_eq!(world.passwords.verified(), verified);
    assert_eq!(world.calls.take(), ["BatchGetItem", "BatchGetItem", "UpdateItem", "UpdateItem"]);
    for name in ["sessionId", "refreshToken", "sessionExpiresAt", "userId"] {
        assert_eq!(first.data(name), again.data(name));
    }
    assert_ne!(first.data("token"), again.data("token"), "no token is kept: it is signed anew");
    let login = Login::from_answer(&actor, &again)?;
    assert!(world.refreshed(&login).await.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicates_of_a_password_reset_are_one_code_and_one_mail() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    for (by, key) in [(None, "the tenant's"), (Some(&admin), "the administrator's")] {
        let event = code_event(by, &user, &json!({ "sendLink": {} }));
        let before = codes_sent(&world, &user).await?;
        let answers = at_once(&world, 20, &event, key).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        assert_eq!(answers.iter().map(|answer| &answer.text).collect::<HashSet<_>>().len(), 1);
        assert_eq!(codes_sent(&world, &user).await? - before, 1);
        // Later too, whatever the record says by then.
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(send(&world, event, key).await?.text, answers[0].text);
    }
    // Two of five an hour are spent, and no more than that.
    for index in 0..4 {
        let event = code_event(None, &user, &json!({}));
        let expected = if index < 3 { 200 } else { 429 };
        assert_eq!(send(&world, event, &format!("fresh {index}")).await?.status, expected);
    }
    // What succeeded before is told even now: a repetition is not charged.
    let event = code_event(None, &user, &json!({ "sendLink": {} }));
    assert_eq!(send(&world, event, "the tenant's").await?.status, 200);
    assert_eq!(repeated(&world), 19 + 1 + 19 + 1 + 1, "docs/design/security.md#rule-24");
    Ok(())
}

// docs/design/security.md#rule-9, #rule-19: a key tells nobody whether there is such a user.
#[tokio::test]
async fn a_key_works_the_same_for_a_user_that_does_not_exist() -> Result<()> {
    let world = World::start().await?;
    let known = world.actor(MARCUS)?.user.user_id;
    let warm = code_event(None, "somebody-else", &json!({}));
    send(&world, warm, "warm").await?;
    let mut seen = Vec::new();
    for user in [known.as_str(), NOBODY] {
        let mut answers = Vec::new();
        for body in [json!({}), json!({}), json!({ "sendLink": {} })] {
            world.calls.take();
            let answer = send(&world, code_event(None, user, &body), user).await?;
            answers.push((answer.status, answer.text, world.calls.take()));
        }
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1]);
    let statuses: Vec<_> = seen[0].iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [200, 200, 400]);
    assert_eq!(seen[0][0].2, ["BatchGetItem", "TransactWriteItems"]);
    assert_eq!(seen[0][1].2, ["BatchGetItem"], "and a repetition writes nothing");
    assert_eq!(remembered(&world).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicates_of_a_login_reset_are_one() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    // The second is its own: that ends the caller's session with the rest, and a duplicate is told of
    // it all the same.
    for target in [&world.actor(MARCUS)?, &admin.actor] {
        let before = world.user(target).await?;
        let event = reset_event(&admin, &json!({ "userId": target.user.user_id }));
        let answers = at_once(&world, 20, &event, &target.user.user_id).await;
        let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
        assert!(answers.iter().all(|answer| answer.status == 200), "{verdicts:?}");
        assert_eq!(world.user(target).await?.session_epoch, before.session_epoch + 1);
        assert_eq!(codes_sent(&world, &target.user.user_id).await?, 1);
    }
    assert_eq!(repeated(&world), 19 + 19, "docs/design/security.md#rule-24");
    Ok(())
}

// An ended session is told of the reset that ended it, and of nothing else.
#[tokio::test]
async fn the_session_that_a_reset_ended_learns_of_that_reset_alone() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(NORDIC_ADMIN)?;
    let (by, other) = (world.login(&actor).await?, world.login(&actor).await?);
    let event = reset_event(&by, &json!({}));
    assert_eq!(send(&world, event.clone(), KEY).await?.status, 200);
    assert_eq!(send(&world, event.clone(), KEY).await?.status, 200);
    let gone = (401, "INVALID_TOKEN");
    assert_eq!(send(&world, event.clone(), "another key").await?.verdict(), gone);
    assert_eq!(send(&world, reset_event(&other, &json!({})), KEY).await?.verdict(), gone);
    let marcus = world.actor(MARCUS)?.user.user_id;
    assert_eq!(send(&world, reset_event(&by, &json!({ "userId": marcus })), KEY).await?.verdict(), gone);
    assert_eq!(send(&world, reset_event(&by, &json!({ "reason": "x" })), KEY).await?.status, 422);
    change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?;
    assert_eq!(send(&world, event, KEY).await?.verdict(), gone);
    Ok(())
}

// contract: scoped to tenant, route and caller.
#[tokio::test]
async fn one_key_of_another_tenant_route_or_caller_is_another() -> Result<()> {
    let world = World::start().await?;
    for username in [ADMIN, CUSTOMER, NORDIC_ADMIN, MARCUS] {
        assert_eq!(own(&world, &world.actor(username)?, KEY).await?.status, 200, "{username}");
    }
    // Another user of the same tenant and route is another request of the same caller.
    for username in [SECOND_ADMIN, OTHER_ADMIN] {
        let refused = own(&world, &world.actor(username)?, KEY).await?;
        assert_eq!(refused.verdict(), (422, "IDEMPOTENCY_MISMATCH"), "{username}");
    }
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let marcus = world.login(&world.actor(MARCUS)?).await?;
    let user = &marcus.actor.user.user_id;
    for by in [None, Some(&admin), Some(&marcus)] {
        assert_eq!(send(&world, code_event(by, user, &json!({})), KEY).await?.status, 200);
    }
    assert_eq!(codes_sent(&world, user).await?, 3);
    assert_eq!(send(&world, reset_event(&admin, &json!({ "userId": user })), KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, user).await?, 4);
    Ok(())
}

// The call's forms are one route: a key is not free again in another.
#[tokio::test]
async fn a_key_is_one_in_every_form_of_a_call() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    assert_eq!(send(&world, code_event(None, &user, &json!({})), KEY).await?.status, 200);
    let rpc = as_tenant(event(&Method::POST, RPC, NORDIC, None, Some(&json!({ "userId": user }))));
    let refused = send(&world, rpc.clone(), KEY).await?;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("invalid_argument")));
    assert_eq!(send(&world, rpc.clone(), "of its own").await?.status, 200);
    assert_eq!(send(&world, rpc, "of its own").await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 2);
    Ok(())
}

// docs/design/security.md#rule-7, #rule-9: else the key would tell whether that is the password.
#[tokio::test]
async fn a_mismatch_counts_as_a_failure_and_tells_nothing_of_the_password() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    let verified = world.passwords.verified();
    let mut with_the_right_one = login_event(&actor, &actor.user.password);
    with_the_right_one["body"] = json!(format!("{} ", with_the_right_one["body"].as_str().unwrap()));
    let mut refusals = HashSet::new();
    for event in [login_event(&actor, "wrong"), with_the_right_one, login_event(&actor, "also wrong")] {
        world.calls.take();
        let answer = send(&world, event, KEY).await?;
        assert_eq!(answer.verdict(), (422, "IDEMPOTENCY_MISMATCH"));
        refusals.insert((answer.text, world.calls.take()));
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    for password in ["3", "4"] {
        assert_eq!(log_in(&world, &actor, password, KEY).await?.status, 422);
    }
    assert_eq!(world.passwords.verified(), verified);
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (401, "ACCOUNT_LOCKED"), "even the first request");
    Ok(())
}

// Without the tenant's credentials nobody looks at the key.
#[tokio::test]
async fn a_key_is_looked_at_behind_the_tenants_credentials() -> Result<()> {
    let world = World::start().await?;
    let mut actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    actor.tenant.tenant_secret = "not the tenant's secret".into();
    for _ in 0..6 {
        assert_eq!(own(&world, &actor, KEY).await?.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
    }
    assert!(world.login(&world.actor(ADMIN)?).await.is_ok(), "nothing was counted");
    Ok(())
}

// contract: only successes are kept.
#[tokio::test]
async fn a_refusal_is_not_remembered() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(log_in(&world, &actor, "wrong", KEY).await?.verdict(), (401, "AUTHENTICATION"));
    assert_eq!(remembered(&world).await?, 0);
    change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (401, "AUTHENTICATION"));
    change_user(&world, &actor, |user| user.status = UserStatus::Active).await?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    Ok(())
}

// contract: a login's replay re-checks user, tenant and session.
#[tokio::test]
async fn a_login_is_told_again_while_everything_is_as_it_was() -> Result<()> {
    for change in [
        "refresh",
        "logout",
        "own password",
        "password by an administrator",
        "reset",
        "disabled",
        "renamed",
        "elsewhere",
        "idle",
    ] {
        let world = World::start().await?;
        let actor = world.actor(SECOND_ADMIN)?;
        let login = Login::from_answer(&actor, &own(&world, &actor, KEY).await?)?;
        let (admin, id) = (world.login(&world.actor(ADMIN)?).await?, actor.user.user_id.clone());
        match change {
            "refresh" => drop(world.refreshed(&login).await?),
            "logout" => assert_eq!(world.logout(&login).await?.status, 200),
            "own password" => {
                let body = json!({ "password": NEW_PASSWORD, "currentPassword": actor.user.password });
                assert_eq!(world.update(&login, &id, &body).await?.status, 200);
                // It lives on, but the old password must not open it.
                assert!(world.opens(&login).await?);
            }
            "password by an administrator" => {
                assert_eq!(
                    world.update(&admin, &id, &json!({ "password": NEW_PASSWORD })).await?.status,
                    200
                );
            }
            "reset" => assert_eq!(world.reset(&admin, &json!({ "userId": id })).await?.status, 200),
            "disabled" => change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?,
            "renamed" => {
                let body = json!({ "username": "somebody@else.example" });
                assert_eq!(world.update(&admin, &id, &body).await?.status, 200);
            }
            "elsewhere" => {
                let organization = doorward::domain::OrganizationId::parse("elsewhere")?;
                change_user(&world, &actor, |user| user.organization = organization).await?;
            }
            _ => world.clock.advance(Duration::from_secs(8 * 60 * 60)),
        }
        let sessions = live(&world, &actor).await?;
        assert!(expired(&own(&world, &actor, KEY).await?), "{change}");
        assert_eq!(live(&world, &actor).await?, sessions, "{change}");
        // A replay is no guess: it took no place for good.
        for _ in 0..6 {
            assert!(expired(&own(&world, &actor, KEY).await?), "{change}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_suspended_tenant_tells_nothing_again() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    world.change_tenant(&actor.tenant.tenant_id, true, None).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (403, "TENANT_SUSPENDED"));
    // Its sessions ended with it, and stay dead.
    world.change_tenant(&actor.tenant.tenant_id, false, None).await?;
    assert!(expired(&own(&world, &actor, KEY).await?));
    Ok(())
}

// TTL may lag: what is over is over, and its key is free.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_day_the_key_is_free_again() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let (actor, user) = (world.actor(ADMIN)?, world.actor(MARCUS)?.user.user_id);
    let first = own(&world, &actor, KEY).await?;
    let code = code_event(None, &user, &json!({}));
    send(&world, code.clone(), KEY).await?;
    world.clock.advance(DAY - Duration::from_millis(1));
    assert!(expired(&own(&world, &actor, KEY).await?), "its session has ended");
    assert_eq!(send(&world, code.clone(), KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 1);
    world.clock.advance(Duration::from_millis(1));
    let answers = at_once(&world, 10, &login_event(&actor, &actor.user.password), KEY).await;
    let sessions: HashSet<_> = answers.iter().map(|answer| answer.data("sessionId")).collect();
    assert!(sessions.len() == 1 && !sessions.contains(first.data("sessionId")), "{sessions:?}");
    assert_eq!(send(&world, code, KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 2);
    assert_eq!(remembered(&world).await?, 2, "in the place of the ones before");
    Ok(())
}

/// Rotates the tenant's root keys to those versions, the first being what it was, and leaves none of
/// the document before.
async fn rotate_roots(world: &World, tenant: &str, versions: &[u32]) -> Result<()> {
    let mut document = world.secret_document(tenant).await?;
    let first = document["rootKeys"][0]["key"].clone();
    let roots = versions.iter().enumerate().map(|(at, version)| match at {
        0 if document["rootKeys"][0]["version"] == *version => json!({ "version": version, "key": first }),
        _ => json!({ "version": version, "key": format!("{version}{}", "A".repeat(42)) }),
    });
    document["rootKeys"] = roots.collect();
    world.rotate_secret(tenant, &document).await?;
    world.retire_previous_secret(tenant).await
}

#[tokio::test]
async fn a_key_outlives_a_rotation_and_ends_with_its_root_key() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let tenant = actor.tenant.tenant_id.as_str();
    let first = own(&world, &actor, KEY).await?;
    rotate_roots(&world, tenant, &[1, 2]).await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(own(&world, &actor, KEY).await?.data("refreshToken"), first.data("refreshToken"));
    assert_eq!(log_in(&world, &actor, "wrong", KEY).await?.verdict(), (422, "IDEMPOTENCY_MISMATCH"));
    let second = own(&world, &actor, "made with the second").await?;
    rotate_roots(&world, tenant, &[2]).await?;
    world.clock.advance(CACHE_LIFE);
    assert!(expired(&own(&world, &actor, KEY).await?));
    let again = own(&world, &actor, "made with the second").await?;
    assert_eq!(again.data("refreshToken"), second.data("refreshToken"));
    Ok(())
}

// A process that has not heard of a root key asks for it before it judges what was made with that.
#[tokio::test]
async fn a_key_made_with_a_newer_root_key_is_not_taken_for_an_old_one() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    let made_with = async |version: u32| -> Result<()> {
        let found = world
            .dynamodb
            .scan()
            .table_name(local::TABLE)
            .filter_expression("sk = :key")
            .expression_attribute_values(":key", AttributeValue::S("KEY".into()))
            .send()
            .await?;
        let mut item = found.items()[0].clone();
        item.insert("key_version".to_owned(), AttributeValue::N(version.to_string()));
        world.dynamodb.put_item().table_name(local::TABLE).set_item(Some(item)).send().await?;
        Ok(())
    };
    rotate_roots(&world, &actor.tenant.tenant_id, &[1, 2]).await?;
    made_with(2).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (422, "IDEMPOTENCY_MISMATCH"), "it was judged");
    // One that cannot be asked for within the minute may exist; after it, it is certain that it does not.
    made_with(9).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (503, "UNAVAILABLE"));
    world.clock.advance(Duration::from_secs(60));
    assert!(expired(&own(&world, &actor, KEY).await?));
    Ok(())
}

// The faults table: DynamoDB commits and its answer is lost; the retry converges.
#[tokio::test]
async fn an_answer_lost_after_the_commit_is_told_by_the_retry() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    world.calls.lose_answer("TransactWriteItems");
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (503, "UNAVAILABLE"));
    assert_eq!(live(&world, &actor).await?, 1, "it was done");
    let told = own(&world, &actor, KEY).await?;
    assert_eq!(told.status, 200);
    assert_eq!(live(&world, &actor).await?, 1);
    assert!(world.refreshed(&Login::from_answer(&actor, &told)?).await.is_ok());

    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let marcus = world.actor(MARCUS)?;
    let user = &marcus.user.user_id;
    let mailed = async || -> Result<usize> {
        Ok(codes_sent(&world, user).await? + codes_sent(&world, &admin.actor.user.user_id).await?)
    };
    for (key, event) in [
        ("of the tenant's", code_event(None, user, &json!({}))),
        ("of an administrator's", code_event(Some(&admin), user, &json!({}))),
        ("of a reset", reset_event(&admin, &json!({ "userId": user }))),
        ("of its own reset", reset_event(&admin, &json!({}))),
    ] {
        let codes = mailed().await?;
        world.calls.lose_answer("TransactWriteItems");
        assert_eq!(send(&world, event.clone(), key).await?.status, 503, "{key}");
        let (done, epoch) = (mailed().await?, world.user(&marcus).await?.session_epoch);
        assert_eq!(done, codes + 1, "{key}");
        assert_eq!(send(&world, event, key).await?.status, 200, "{key}");
        assert_eq!((mailed().await?, world.user(&marcus).await?.session_epoch), (done, epoch), "{key}");
    }
    Ok(())
}

// The faults table: killed at an await; nothing is half done, and there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_died_before_its_commit_holds_nobody_up() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let actor = world.actor(ADMIN)?;
    world.passwords.close();
    let dying = tokio::spawn({
        let (world, actor) = (Arc::clone(&world), actor.clone());
        async move { own(&world, &actor, KEY).await.map(drop) }
    });
    world.passwords.until_more_than(0).await;
    dying.abort();
    assert!(dying.await.is_err_and(|error| error.is_cancelled()));
    world.passwords.open();
    assert_eq!((live(&world, &actor).await?, remembered(&world).await?), (0, 0));
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    assert_eq!((live(&world, &actor).await?, remembered(&world).await?), (1, 1));
    Ok(())
}

// The twin that comes second finds the tenant's last place taken by the first.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_do_not_spend_the_session_limit_on_each_other() -> Result<()> {
    for when_full in [WhenFull::Reject, WhenFull::Oldest, WhenFull::Single] {
        let world = Arc::new(World::start().await?);
        let actor = world.actor(ADMIN)?;
        let limit = Some(SessionLimit { max: 1, when_full });
        world.change_policy(&actor.tenant.tenant_id, |policy| policy.session_limit = limit).await?;
        let answers = at_once(&world, 10, &login_event(&actor, &actor.user.password), KEY).await;
        let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
        assert!(answers.iter().all(|answer| answer.status == 200), "{when_full:?} {verdicts:?}");
        assert_eq!(answers.iter().map(|answer| answer.data("sessionId")).collect::<HashSet<_>>().len(), 1);
        assert_eq!(live(&world, &actor).await?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_returned_code_is_told_once() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let event = code_event(Some(&admin), &user, &json!({ "returnCode": {} }));
    let first = send(&world, event.clone(), KEY).await?;
    assert!(first.body["verificationCode"].is_string());
    let again = send(&world, event, KEY).await?;
    assert_eq!((again.status, &again.body["code"]), (400, &json!(9)));
    // The one that was told is still good.
    let body = json!({
        "newPassword": { "password": NEW_PASSWORD },
        "verificationCode": first.body["verificationCode"],
    });
    let path = format!("/v2/users/{user}/password");
    assert_eq!(world.request(&Method::POST, &path, NORDIC, None, Some(&body)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn what_a_key_may_be() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let longest = "k".repeat(255);
    // Sent twice, it arrives joined: that is just another key.
    for key in ["!", "~ ~", longest.as_str(), "one, two"] {
        assert_eq!(own(&world, &actor, key).await?.status, 200, "{key}");
        assert_eq!(own(&world, &actor, key).await?.status, 200, "{key}");
    }
    assert_eq!((remembered(&world).await?, live(&world, &actor).await?), (4, 4));
    let too_long = "k".repeat(256);
    for key in ["", " ", "a\tb", "k\u{e9}", too_long.as_str()] {
        let refused = own(&world, &actor, key).await?;
        assert_eq!(refused.verdict(), (400, "VALIDATION"), "{key}");
        assert_eq!(refused.body["data"]["errors"][0]["field"], "Idempotency-Key");
    }
    Ok(())
}

// docs/design/security.md#rule-12, #rule-24, #rule-25: what is kept opens nothing, and says nothing of the request.
#[tokio::test]
async fn nothing_of_the_request_is_kept() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let answer = own(&world, &actor, KEY).await?;
    let found = world.dynamodb.scan().table_name(local::TABLE).send().await?;
    let kept = format!("{:?}", found.items());
    assert!(kept.contains(answer.data("sessionId")));
    for secret in [KEY, actor.user.password.as_str(), answer.data("refreshToken"), answer.data("token")] {
        assert!(!kept.contains(secret));
    }
    Ok(())
}
