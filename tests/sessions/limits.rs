//! The limit on the number of sessions of a user.

use std::pin::Pin;

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::route::Function;
use e2e::{
    event,
    fault_proxy::{Effect, Fault, Operation, Random},
};
use local::TABLE;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_concurrent_logins_leave_a_single_session() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 1, WhenFull::Single).await;
    let marcus = world.actor(MARCUS).unwrap();
    let epoch = world.user(&marcus).await.unwrap().session_epoch;
    let answers = logins(&world, &marcus, 20).await;
    // Each session was the newest when it was written.
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 20)]));
    assert_eq!(live(&world, &marcus).await.len(), 1);
    assert_tokens_follow(&world, &marcus, &granted(&marcus, &answers)).await;
    assert_eq!(world.user(&marcus).await.unwrap().session_epoch, epoch + 20);
    // Sessions of other users are not affected.
    let ingrid = world.login(&world.actor(INGRID).unwrap()).await.unwrap();
    world.login(&marcus).await.unwrap();
    assert!(world.opens(&ingrid).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_concurrent_logins_leave_as_many_sessions_as_the_limit() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 3, WhenFull::Oldest).await;
    let marcus = world.actor(MARCUS).unwrap();
    let answers = logins(&world, &marcus, 20).await;
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 20)]));
    assert_eq!(live(&world, &marcus).await.len(), 3);
    assert_tokens_follow(&world, &marcus, &granted(&marcus, &answers)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_logins_succeed_only_up_to_the_session_limit() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 5, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let answers = logins(&world, &marcus, 50).await;
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 5), ((409, "SESSION_LIMIT"), 45)]));
    // docs/design/security.md#rule-24: the audit event of a rejected login contains no session.
    let told = world.audit.events();
    assert!(told.iter().all(|event| (event["outcome"] == "SUCCESS") == event["session"].is_string()));
    let granted = granted(&marcus, &answers);
    assert_tokens_follow(&world, &marcus, &granted).await;
    // Each ended session allows exactly one new login.
    for login in &granted {
        assert_eq!(world.logout(login).await.unwrap().status, 200);
        assert!(world.login(&marcus).await.is_ok());
        let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
        assert_eq!(refused.verdict(), (409, "SESSION_LIMIT"));
    }
    assert_eq!(live(&world, &marcus).await.len(), 5);
}

#[tokio::test]
async fn full_session_limit_evicts_the_oldest_session() {
    let world = World::start().await.unwrap();
    limit(&world, 3, WhenFull::Oldest).await;
    let marcus = world.actor(MARCUS).unwrap();
    let mut kept = Vec::new();
    for _ in 0..6 {
        world.clock.advance(Duration::from_millis(1));
        kept.push(world.login(&marcus).await.unwrap());
        // A refresh does not change a session's age.
        kept[0] = match world.refreshed(&kept[0]).await {
            Ok(refreshed) => refreshed,
            Err(_) => kept[0].clone(),
        };
        let newest: BTreeSet<_> = kept.iter().rev().take(3).map(|login| login.session.clone()).collect();
        assert_eq!(live(&world, &marcus).await, newest);
    }
    assert_tokens_follow(&world, &marcus, &kept).await;
    // Requests with an evicted session get the same response as with any ended session.
    let gone = ask(&world, &kept[0], Method::GET, &marcus.sessions()).await;
    assert_eq!(gone.verdict(), (401, "INVALID_TOKEN"));
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN SESSION_GONE");
    assert!(!world.session(&kept[0]).await.unwrap().ended.unwrap().reuse);
}

// docs/design/security.md#rule-13, #rule-15
#[tokio::test]
async fn ended_and_expired_sessions_do_not_count_against_the_limit() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let full = async || {
        world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict() == (409, "SESSION_LIMIT")
    };

    let ended = world.login(&marcus).await.unwrap();
    assert!(full().await);
    world.logout(&ended).await.unwrap();
    // Idle timeout, exact to the millisecond.
    world.login(&marcus).await.unwrap();
    world.clock.advance(8 * HOUR - Duration::from_millis(1));
    assert!(full().await);
    world.clock.advance(Duration::from_millis(1));
    // Absolute timeout: 24 hours after the login, regardless of refreshes.
    let mut kept = world.login(&marcus).await.unwrap();
    for _ in 0..3 {
        world.clock.advance(7 * HOUR);
        kept = world.refreshed(&kept).await.unwrap();
    }
    world.clock.advance(3 * HOUR - Duration::from_millis(1));
    assert!(full().await);
    world.clock.advance(Duration::from_millis(1));
    // The user's epoch, which ends all sessions of the user.
    let last = world.login(&marcus).await.unwrap();
    assert!(full().await);
    assert_eq!(ask(&world, &last, Method::DELETE, &marcus.sessions()).await.status, 200);
    world.login(&marcus).await.unwrap();
    assert!(full().await);
    // The tenant's epoch, which ends all sessions of the tenant.
    end_tenants_sessions(&world).await;
    world.login(&marcus).await.unwrap();
    assert!(full().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_session_limit_counts_existing_sessions() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.max_attempts = 100).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    // Ten logins at a time, because a busy machine did not answer all of 70 parallel logins with 200.
    let mut earlier = Vec::new();
    for _ in 0..7 {
        let answers = logins(&world, &marcus, 10).await;
        assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 10)]));
        earlier.extend(granted(&marcus, &answers));
    }
    world.clock.advance(Duration::from_secs(1));
    earlier.push(world.login(&marcus).await.unwrap());
    limit(&world, 71, WhenFull::Reject).await;
    let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(refused.verdict(), (409, "SESSION_LIMIT"));
    assert_eq!(live(&world, &marcus).await.len(), 71);
    // A transaction has too few slots: 69 sessions end, 19 of them before the transaction.
    limit(&world, 3, WhenFull::Oldest).await;
    let newest = world.login(&marcus).await.unwrap();
    let left = live(&world, &marcus).await;
    assert_eq!(left.len(), 3);
    assert!(left.contains(&newest.session) && left.contains(&earlier[70].session));
    earlier.push(newest);
    assert_tokens_follow(&world, &marcus, &earlier).await;
}

// docs/design/security.md#rule-7: a correct password that the session limit rejects neither counts as a
// failure nor clears earlier failures.
#[tokio::test]
async fn login_rejected_by_the_session_limit_releases_its_attempt_slot() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    world.change_policy(NORDIC, |policy| policy.max_attempts = 5).await.unwrap();
    world.login(&marcus).await.unwrap();
    for _ in 0..4 {
        assert_eq!(world.try_login(&marcus, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));
        let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
        assert_eq!(refused.verdict(), (409, "SESSION_LIMIT"));
    }
    assert_eq!(world.try_login(&marcus, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));
    let locked = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
}

// docs/design/security.md#rule-9: without the correct password, neither the response nor the DynamoDB
// calls reveal the limit.
#[tokio::test]
async fn session_limit_costs_one_query_and_is_visible_only_with_the_correct_password() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let nobody = {
        let mut nobody = marcus.clone();
        nobody.user.user_id = "nobody".into();
        nobody
    };
    let calls = async |actor: &Actor, password: &str| {
        world.calls.take();
        let answer = world.try_login(actor, password).await.unwrap();
        (answer.verdict().0, world.calls.take())
    };
    let right = marcus.user.password.as_str();
    world.login(&marcus).await.unwrap();
    let written = |calls: &[&str]| -> Vec<String> { calls.iter().map(ToString::to_string).collect() };
    let unlimited = written(&["BatchGetItem", "PutItem", "UpdateItem", "UpdateItem"]);
    assert_eq!(calls(&marcus, right).await, (200, unlimited));
    // After a failure, a correct password costs one more write, which clears the failure.
    let (status, mut wrong) = calls(&world.actor(INGRID).unwrap(), "wrong").await;
    assert!(status == 401 && !wrong.contains(&"Query".to_owned()), "{wrong:?}");

    let limit = SessionLimit { max: 3, when_full: WhenFull::Reject };
    world.change_policy(NORDIC, |policy| policy.session_limit = Some(limit)).await.unwrap();
    world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let limited = written(&["BatchGetItem", "Query", "TransactWriteItems", "UpdateItem", "UpdateItem"]);
    assert_eq!(calls(&marcus, right).await, (200, limited));
    let refused = written(&["BatchGetItem", "Query", "UpdateItem", "UpdateItem"]);
    assert_eq!(calls(&marcus, right).await, (409, refused));
    wrong.push("Query".to_owned());
    wrong.sort();
    assert_eq!(calls(&marcus, "wrong").await, (401, wrong.clone()));
    assert_eq!(calls(&nobody, right).await, (401, wrong));

    // `single` ends all other sessions, so that no query is needed.
    let limit = SessionLimit { max: 1, when_full: WhenFull::Single };
    world.change_policy(NORDIC, |policy| policy.session_limit = Some(limit)).await.unwrap();
    world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let (status, single) = calls(&marcus, right).await;
    assert!(status == 200 && !single.contains(&"Query".to_owned()), "{single:?}");
}

// In every interleaving of logins, logouts, refreshes and a password change, the sessions stay within
// the limit and exactly the tokens of stored live sessions are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn session_limit_holds_during_concurrent_logouts_refreshes_and_password_changes() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 2, WhenFull::Oldest).await;
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut password = marcus.user.password.clone();
    for round in 0..4 {
        world.clock.advance(Duration::from_secs(1));
        let mut marcus = marcus.clone();
        marcus.user.password.clone_from(&password);
        let held = [world.login(&marcus).await.unwrap(), world.login(&marcus).await.unwrap()];
        let next = format!("passphrase of round {round}");
        let mut tasks = JoinSet::new();
        for index in 0..14 {
            let (world, marcus, held, admin) =
                (Arc::clone(&world), marcus.clone(), held.clone(), admin.clone());
            let body = json!({ "password": next, "changeRequired": false });
            tasks.spawn(async move {
                match index {
                    0 => world.logout(&held[0]).await.unwrap(),
                    1 if round % 2 == 1 => world.update(&admin, &marcus.user.user_id, &body).await.unwrap(),
                    1..=4 => world.refresh(&held[index % 2]).await.unwrap(),
                    _ => world.try_login(&marcus, &marcus.user.password).await.unwrap(),
                }
            });
        }
        let answers = tasks.join_all().await;
        for answer in &answers {
            let expected = [200, 401, 503].contains(&answer.status);
            assert!(expected && (answer.status != 503 || round % 2 == 1), "round {round}: {}", answer.text);
        }
        let live = live(&world, &marcus).await;
        let least = if round % 2 == 1 { 0 } else { 2 };
        assert!(live.len() <= 2, "round {round}: {live:?}");
        assert!(live.len() >= least, "round {round}: {live:?}");
        let opened = granted(&marcus, &answers);
        assert_tokens_follow(&world, &marcus, &opened).await;
        if round % 2 == 1 {
            password = next;
        }
    }
}

// docs/design/security.md#rule-15: a change of the own password keeps the session that set it, also
// within a limit.
#[tokio::test]
async fn session_kept_by_a_password_change_counts_against_the_limit() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let body = json!({ "password": NEW_PASSWORD, "currentPassword": marcus.user.password });
    assert_eq!(world.update(&login, &marcus.user.user_id, &body).await.unwrap().status, 200);
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().verdict(), (409, "SESSION_LIMIT"));
    assert_eq!(
        ids(&listed(&world, &login, &marcus.sessions(), 20).await),
        std::slice::from_ref(&login.session)
    );
}

// docs/design/contract.md#create-session: the answer to the transaction is lost, and the session exists.
#[tokio::test]
async fn login_under_a_session_limit_succeeds_if_the_answer_of_its_write_is_lost() {
    for (when_full, keyed) in [(WhenFull::Reject, false), (WhenFull::Oldest, false), (WhenFull::Reject, true)]
    {
        let world = World::start().await.unwrap();
        limit(&world, 1, when_full).await;
        let marcus = world.actor(MARCUS).unwrap();
        // The SDK sends the transaction three times.
        let lost = Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer).times(3);
        let lost = world.faults.inject(lost);
        let body = marcus.credentials(&marcus.user.password);
        let mut event = event(&Method::POST, &marcus.sessions(), NORDIC, None, Some(&body));
        if keyed {
            event["headers"]["idempotency-key"] = json!("key");
        }
        let answer = world.send(Function::CreateSession, &event.to_string()).await.unwrap();
        assert_eq!((lost.applied(), answer.verdict()), (3, (200, "NONE")));
        let login = Login::from_answer(&marcus, &answer).unwrap();
        assert_tokens_follow(&world, &marcus, std::slice::from_ref(&login)).await;
        assert_eq!(live(&world, &marcus).await, BTreeSet::from([login.session]));
    }
}

// docs/design/storage.md#session-limits: the fault that lost the answer also affects the first read of the session.
#[tokio::test]
async fn login_under_a_session_limit_reads_its_session_until_storage_responds() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer).times(3));
    // The SDK sends each read three times.
    let throttled = Fault::on(Operation::BatchGetItem, Effect::Throttle).sk_prefix("S#").times(7);
    let throttled = world.faults.inject(throttled);
    let login = world.login(&marcus).await.unwrap();
    assert_eq!(throttled.applied(), 7);
    assert_eq!(live(&world, &marcus).await, BTreeSet::from([login.session]));
}

// A login whose write never reached DynamoDB is not reported as a success.
#[tokio::test]
async fn login_under_a_session_limit_fails_if_its_write_is_lost() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseRequest).times(3));
    let failed = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(failed.verdict(), (503, "UNAVAILABLE"));
    assert!(live(&world, &marcus).await.is_empty());
    assert!(world.login(&marcus).await.is_ok());
}

// docs/design/storage.md#session-limits: a conflict means that another login of the user is committing.
#[tokio::test]
async fn login_under_a_session_limit_reads_the_sessions_again_after_a_conflict() {
    for when_full in [WhenFull::Reject, WhenFull::Oldest, WhenFull::Single] {
        let world = World::start().await.unwrap();
        limit(&world, 1, when_full).await;
        let marcus = world.actor(MARCUS).unwrap();
        let conflict = Fault::on(Operation::TransactWriteItems, Effect::Conflict).sk("USER").times(8);
        let conflict = world.faults.inject(conflict);
        let login = world.login(&marcus).await.unwrap();
        assert_eq!(conflict.applied(), 8, "{when_full:?}");
        assert_eq!(live(&world, &marcus).await, BTreeSet::from([login.session]), "{when_full:?}");
    }
}

// A cancelled transaction stored nothing, so that there is nothing to read back.
#[tokio::test]
async fn cancelled_write_of_a_login_is_not_read_back() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let body = marcus.credentials(&marcus.user.password);
    let mut event = event(&Method::POST, &marcus.sessions(), NORDIC, None, Some(&body));
    event["headers"]["idempotency-key"] = json!("key");
    let conflict = Fault::on(Operation::TransactWriteItems, Effect::Conflict).sk("KEY").always();
    let conflict = world.faults.inject(conflict);
    world.login(&world.actor(INGRID).unwrap()).await.unwrap();
    world.calls.take();
    let failed = world.send(Function::CreateSession, &event.to_string()).await.unwrap();
    assert_eq!((conflict.applied(), failed.verdict()), (13, (503, "UNAVAILABLE")));
    let calls = world.calls.take();
    assert_eq!(calls.iter().filter(|call| *call == "BatchGetItem").count(), 1, "{calls:?}");
}

// Every limit holds if transactions conflict, answers are lost and calls are throttled.
#[tokio::test(flavor = "multi_thread")]
async fn session_limits_hold_with_conflicts_lost_answers_and_throttles() {
    for (max, when_full) in [(1, WhenFull::Single), (3, WhenFull::Oldest), (3, WhenFull::Reject)] {
        for seed in 0..4 {
            let world = Arc::new(World::start().await.unwrap());
            limit(&world, max, when_full).await;
            let marcus = world.actor(MARCUS).unwrap();
            world.faults.set_conflicts(true);
            let random = Random::new(seed).every_chance(0.0).chance(Effect::LoseAnswer, 0.2);
            let random = random.chance(Effect::DeliverLate, 0.05).chance(Effect::Throttle, 0.1);
            world.faults.set_random(Some(random));
            let answers = logins(&world, &marcus, 12).await;
            world.faults.set_random(None);
            world.faults.settle().await;
            let granted = granted(&marcus, &answers);
            assert!(!granted.is_empty(), "{when_full:?}, seed {seed}: {:?}", verdicts(&answers));
            let expected = |answer: &Answer| match when_full {
                WhenFull::Reject => matches!(answer.status, 200 | 409 | 429 | 503),
                WhenFull::Oldest | WhenFull::Single => matches!(answer.status, 200 | 429 | 503),
            };
            assert!(answers.iter().all(expected), "{when_full:?}, seed {seed}: {:?}", verdicts(&answers));
            let live = live(&world, &marcus).await;
            assert!(live.len() <= max as usize, "{when_full:?}, seed {seed}: {live:?}");
            if when_full == WhenFull::Reject {
                assert_eq!(live.len(), granted.len(), "{when_full:?}, seed {seed}: {:?}", verdicts(&answers));
            }
            assert_tokens_follow(&world, &marcus, &granted).await;
        }
    }
}

/// Adds ended sessions to the table, as copies of an ended session. Each has 100 KB, so that ten of them fill a page
/// of a query.
async fn add_ended_sessions(world: &World, of: &Login, count: usize) {
    let Actor { tenant, user, .. } = &of.actor;
    let text = |text: String| AttributeValue::S(text);
    let pk = text(format!("T#{}#U#{}", tenant.tenant_id, user.user_id));
    let key = [("pk", pk.clone()), ("sk", text(format!("S#{}", of.session)))];
    let key = key.map(|(name, value)| (name.to_owned(), value)).into();
    let read = world.dynamodb.get_item().table_name(TABLE).set_key(Some(key)).send().await.unwrap();
    let ended = read.item.unwrap();
    assert!(ended.contains_key("ended_at"));
    for index in 0..count {
        let id = format!("00000000-0000-4000-8000-{index:012}");
        let mut copy = ended.clone();
        copy.insert("sk".to_owned(), text(format!("S#{id}")));
        copy.insert("session_id".to_owned(), text(id));
        copy.insert("user_agent".to_owned(), text("x".repeat(100_000)));
        world.dynamodb.put_item().table_name(TABLE).set_item(Some(copy)).send().await.unwrap();
    }
    let query = world.dynamodb.query().table_name(TABLE).key_condition_expression("pk = :pk");
    let pages = query.expression_attribute_values(":pk", pk).into_paginator().send();
    let pages: Vec<_> = pages.try_collect().await.unwrap();
    assert!(pages.len() > 5, "{} pages", pages.len());
}

// docs/design/storage.md#session-limits: a login under `single` ends every other session, however many items the user
// has. IDs of the ended sessions sort first and fill several pages.
#[tokio::test]
async fn login_under_single_ends_sessions_beyond_the_first_page() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let ended = world.login(&marcus).await.unwrap();
    world.logout(&ended).await.unwrap();
    add_ended_sessions(&world, &ended, 60).await;
    let old = world.login(&marcus).await.unwrap();
    limit(&world, 1, WhenFull::Single).await;
    let new = world.login(&marcus).await.unwrap();
    assert!(world.opens(&new).await.unwrap());
    assert!(!world.opens(&old).await.unwrap(), "another session survived the login");
    assert_eq!(world.refresh(&old).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
}

// docs/design/contract.md#routes: a number is returned only if all sessions were counted.
#[tokio::test]
async fn sessions_are_not_counted_beyond_the_first_page() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let ended = world.login(&marcus).await.unwrap();
    world.logout(&ended).await.unwrap();
    let by = world.login(&marcus).await.unwrap();
    let all = ask(&world, &by, Method::DELETE, &marcus.sessions()).await;
    assert_eq!(all.body["data"]["sessionsTerminated"], 1, "{}", all.text);
    add_ended_sessions(&world, &ended, 60).await;
    let by = world.login(&marcus).await.unwrap();
    let all = ask(&world, &by, Method::DELETE, &marcus.sessions()).await;
    assert_eq!((all.status, all.body["data"].get("sessionsTerminated")), (200, None), "{}", all.text);
    assert!(!world.opens(&by).await.unwrap());
    let by = world.login(&marcus).await.unwrap();
    let change = json!({ "password": NEW_PASSWORD, "currentPassword": marcus.user.password });
    let changed = world.update(&by, &marcus.user.user_id, &change).await.unwrap();
    assert_eq!(
        (changed.status, changed.body["data"].get("sessionsRevoked")),
        (200, None),
        "{}",
        changed.text
    );
}

// docs/design/security.md#rule-15: a login under `single` that verified the old password creates no live session.
#[tokio::test(flavor = "multi_thread")]
async fn login_under_single_fails_if_the_password_changes_before_its_commit() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 1, WhenFull::Single).await;
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let commit = world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::HoldRequest));
    let login = tokio::spawn({
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        async move { world.try_login(&marcus, &marcus.user.password).await.unwrap() }
    });
    commit.reached().await;
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": false });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
    commit.release();
    assert_eq!(login.await.unwrap().verdict(), (503, "UNAVAILABLE"));
    assert!(live(&world, &marcus).await.is_empty());
}

/// The event of a login with an idempotency key.
fn keyed_login(actor: &Actor) -> String {
    let body = actor.credentials(&actor.user.password);
    let mut event = event(&Method::POST, &actor.sessions(), NORDIC, None, Some(&body));
    event["headers"]["idempotency-key"] = json!("key");
    event.to_string()
}

// docs/design/contract.md#every-request: the stored result has the epoch of the new session.
#[tokio::test]
async fn login_under_single_is_replayed_until_another_login_ends_its_session() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Single).await;
    let marcus = world.actor(MARCUS).unwrap();
    let event = keyed_login(&marcus);
    let first = world.send(Function::CreateSession, &event).await.unwrap();
    let again = world.send(Function::CreateSession, &event).await.unwrap();
    assert_eq!((first.status, again.status), (200, 200), "{}", again.text);
    assert_eq!(first.data("sessionId"), again.data("sessionId"));
    assert_eq!(first.data("refreshToken"), again.data("refreshToken"));
    world.login(&marcus).await.unwrap();
    let expired = world.send(Function::CreateSession, &event).await.unwrap();
    assert_eq!(expired.verdict(), (409, "IDEMPOTENCY_EXPIRED"));
}

// docs/design/storage.md#session-limits: the first try of a login is committed and its answer is lost. Another login
// commits before the next try. The first login succeeded, also with an idempotency key, and the second ended its session.
#[tokio::test(flavor = "multi_thread")]
async fn login_with_a_key_succeeds_if_another_login_commits_after_its_lost_answer() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Single).await;
    let marcus = world.actor(MARCUS).unwrap();
    let event = keyed_login(&marcus);
    world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer));
    world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::Conflict).sk("USER"));
    // The first read is that of the password hash.
    let reads_again = Fault::on(Operation::BatchGetItem, Effect::HoldRequest).sk("USER").nth(2);
    let reads_again = world.faults.inject(reads_again);
    let (first, second) = tokio::join!(world.send(Function::CreateSession, &event), async {
        reads_again.reached().await;
        let second = world.login(&marcus).await;
        reads_again.release();
        second
    });
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.verdict(), (200, "NONE"));
    let first = Login::from_answer(&marcus, &first).unwrap();
    assert_eq!(live(&world, &marcus).await, BTreeSet::from([second.session.clone()]));
    assert_tokens_follow(&world, &marcus, &[first, second]).await;
    let repeated = world.send(Function::CreateSession, &event).await.unwrap();
    assert_eq!(repeated.verdict(), (409, "IDEMPOTENCY_EXPIRED"));
}

// docs/design/storage.md#session-limits: a request reads a bounded number of pages.
#[tokio::test]
async fn ended_sessions_do_not_add_calls_to_requests() {
    for when_full in [WhenFull::Reject, WhenFull::Oldest] {
        let world = World::start().await.unwrap();
        limit(&world, 4, when_full).await;
        let marcus = world.actor(MARCUS).unwrap();
        let first = world.login(&marcus).await.unwrap();
        world.logout(&first).await.unwrap();
        let calls = async |request: Pin<Box<dyn Future<Output = Answer> + '_>>| {
            world.calls.take();
            let answer = request.await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            (answer, world.calls.take())
        };
        let mut counted = Vec::new();
        for ended in [0, 60] {
            if ended > 0 {
                add_ended_sessions(&world, &first, ended).await;
            }
            let mut marcus = marcus.clone();
            if ended > 0 {
                marcus.user.password = NEW_PASSWORD.to_owned();
            }
            let body = json!({ "password": NEW_PASSWORD, "currentPassword": marcus.user.password });
            let (answer, login) =
                calls(Box::pin(async { world.try_login(&marcus, &marcus.user.password).await.unwrap() }))
                    .await;
            let by = Login::from_answer(&marcus, &answer).unwrap();
            let (_, list) =
                calls(Box::pin(async { ask(&world, &by, Method::GET, &marcus.sessions()).await })).await;
            let id = &marcus.user.user_id;
            let (_, change) = calls(Box::pin(async { world.update(&by, id, &body).await.unwrap() })).await;
            let (_, end) =
                calls(Box::pin(async { ask(&world, &by, Method::DELETE, &marcus.sessions()).await })).await;
            counted.push((login, change, end));
            let queries = list.iter().filter(|call| *call == "Query").count();
            assert!(queries <= 4, "{list:?}");
        }
        assert_eq!(counted[0], counted[1]);
    }
}
