//! Administrators whose session ends, and administrators who change many users at once
//! (docs/design/decisions/ended-callers.md).

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{SessionLimit, User, UserId, Username, WhenFull},
    port::Clock,
};
use e2e::{
    Actor, Answer, Login, NORDIC, World,
    fault_proxy::{Effect, Fault, Operation},
};
use http::Method;
use serde_json::{Value, json};
use strum::{EnumIter, IntoEnumIterator};
use tokio::task::JoinSet;

use crate::{MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// Request of an administrator that changes another user.
#[derive(Debug, Clone, Copy, EnumIter)]
enum Change {
    ResetLogin,
    SetPassword,
    SetUsername,
    ExpirePassword,
    SendCode,
    ReturnCode,
    EndSessions,
    EndSession,
}

impl Change {
    async fn send(self, world: &World, admin: &Login, target: &Login) -> Answer {
        let user = target.actor.user.user_id.as_str();
        let update = async |body: Value| world.update(admin, user, &body).await;
        let code = async |body: Value| {
            let path = format!("/v2/users/{user}/password_reset");
            world.request(&Method::POST, &path, NORDIC, Some(&admin.token), Some(&body)).await
        };
        let delete = async |path: String| {
            world.request(&Method::DELETE, &path, NORDIC, Some(&admin.token), None).await
        };
        let answer = match self {
            Self::ResetLogin => world.reset(admin, &json!({ "userId": user })).await,
            Self::SetPassword => update(json!({ "password": NEW_PASSWORD })).await,
            Self::SetUsername => update(json!({ "username": "renamed@example.com" })).await,
            Self::ExpirePassword => update(json!({ "changeRequired": true })).await,
            Self::SendCode => code(json!({})).await,
            Self::ReturnCode => code(json!({ "returnCode": {} })).await,
            Self::EndSessions => delete(target.actor.sessions()).await,
            Self::EndSession => delete(target.path()).await,
        };
        answer.unwrap()
    }
}

/// Sends a change in another task.
fn spawn(
    world: &Arc<World>,
    change: Change,
    admin: &Login,
    target: &Login,
) -> tokio::task::JoinHandle<Answer> {
    let (world, admin, target) = (Arc::clone(world), admin.clone(), target.clone());
    tokio::spawn(async move { change.send(&world, &admin, &target).await })
}

/// All items in the partition of a user.
async fn items(world: &World, actor: &Actor) -> BTreeMap<String, String> {
    let partition = format!("T#{}#U#{}", actor.tenant.tenant_id, actor.user.user_id);
    let query = world.dynamodb.query().table_name(local::TABLE).key_condition_expression("pk = :pk");
    let found = query.expression_attribute_values(":pk", AttributeValue::S(partition)).send().await.unwrap();
    let text = |item: &std::collections::HashMap<String, AttributeValue>| {
        let attributes: BTreeMap<_, _> = item.iter().collect();
        (item["sk"].as_s().unwrap().clone(), format!("{attributes:?}"))
    };
    found.items().iter().map(text).collect()
}

/// Ends all sessions of a user with another session of the user.
async fn end_sessions(world: &World, actor: &Actor) {
    let other = world.login(actor).await.unwrap();
    let ended = world.request(&Method::DELETE, &actor.sessions(), NORDIC, Some(&other.token), None).await;
    assert_eq!(ended.unwrap().status, 200);
}

/// The next read of the session waits.
fn held_read(login: &Login) -> Fault {
    let fault = Fault::on(Operation::BatchGetItem, Effect::HoldBefore);
    fault.sk(format!("S#{}", login.session))
}

/// Asserts that the last request was rejected because the caller's session has ended.
fn assert_ended(world: &World, answer: &Answer, what: impl std::fmt::Debug) {
    assert_eq!(
        (answer.status, world.audit.last()["reason"].as_str()),
        (401, Some("SESSION_GONE")),
        "{what:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_parallel_login_resets_by_one_administrator_succeed() {
    let world = Arc::new(World::start().await.unwrap());
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let model = world.user(&world.actor(MARCUS).unwrap()).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..50 {
        let id = format!("reset-{number:02}");
        let user = User {
            id: UserId::parse(&id).unwrap(),
            username: Username::parse(&format!("{id}@example.com")).unwrap(),
            ..model.clone()
        };
        world.store.create_user(&user, world.clock.now()).await.unwrap();
        ids.push(id);
    }
    world.faults.set_conflicts(true);
    // The first transaction stays in progress. Each of the others would conflict with it if both used one item.
    let commit = world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::HoldBefore));
    let reset = |id: &String| {
        let (world, admin, body) = (Arc::clone(&world), admin.clone(), json!({ "userId": id }));
        async move { world.reset(&admin, &body).await.unwrap().status }
    };
    let first = tokio::spawn(reset(&ids[0]));
    commit.reached().await;
    let others: JoinSet<_> = ids[1..].iter().map(reset).collect();
    let statuses = others.join_all().await;
    commit.release();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(first.await.unwrap(), 200);
    for id in &ids {
        let user = world.store.user(&model.tenant, &UserId::parse(id).unwrap()).await.unwrap().unwrap();
        assert!(user.reset_required, "{id}");
    }
}

// docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_ends_before_the_read_changes_nothing() {
    let world = Arc::new(World::start().await.unwrap());
    let (actor, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let target = world.login(&actor).await.unwrap();
    for by_logout in [true, false] {
        for change in Change::iter() {
            let caller = world.login(&admin).await.unwrap();
            let before = items(&world, &actor).await;
            let read = world.faults.inject(held_read(&caller));
            let changing = spawn(&world, change, &caller, &target);
            read.reached().await;
            if by_logout {
                assert_eq!(world.logout(&caller).await.unwrap().status, 200);
            } else {
                end_sessions(&world, &admin).await;
            }
            read.release();
            let answer = changing.await.unwrap();
            assert_ended(&world, &answer, change);
            assert_eq!(items(&world, &actor).await, before, "{change:?}");
        }
    }
}

// docs/design/security.md#rule-15: no caller can end unnoticed while a password is hashed.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_ends_during_hashing_changes_nothing() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.password_history = 1).await.unwrap();
    let (actor, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let target = world.login(&actor).await.unwrap();
    for by_logout in [true, false] {
        let caller = world.login(&admin).await.unwrap();
        let other = world.login(&admin).await.unwrap();
        let before = items(&world, &actor).await;
        world.passwords.close();
        let verified = world.passwords.verified();
        let changing = spawn(&world, Change::SetPassword, &caller, &target);
        world.passwords.until_more_than(verified).await;
        if by_logout {
            assert_eq!(world.logout(&caller).await.unwrap().status, 200);
        } else {
            let path = admin.sessions();
            let ended = world.request(&Method::DELETE, &path, NORDIC, Some(&other.token), None).await;
            assert_eq!(ended.unwrap().status, 200);
        }
        world.passwords.open();
        let answer = changing.await.unwrap();
        assert_ended(&world, &answer, by_logout);
        assert_eq!(items(&world, &actor).await, before);
    }
}

// docs/design/security.md#rule-15: the caller's own account has no such window.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_ends_before_the_commit_does_not_change_its_own_account() {
    let world = Arc::new(World::start().await.unwrap());
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    for change in [Change::ResetLogin, Change::ExpirePassword, Change::SendCode, Change::EndSessions] {
        let caller = world.login(&admin).await.unwrap();
        let commit = Fault::on(Operation::TransactWriteItems, Effect::HoldRequest);
        let commit = world.faults.inject(commit.sk(format!("S#{}", caller.session)));
        let changing = spawn(&world, change, &caller, &caller);
        commit.reached().await;
        assert_eq!(world.logout(&caller).await.unwrap().status, 200, "{change:?}");
        let before = items(&world, &admin).await;
        commit.release();
        let answer = changing.await.unwrap();
        assert_ended(&world, &answer, change);
        assert_eq!(items(&world, &admin).await, before, "{change:?}");
    }
}

// docs/design/security.md#rule-15: a change that keeps the caller's session does not restore an ended one.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_ends_before_the_commit_keeps_no_session() {
    let world = Arc::new(World::start().await.unwrap());
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    let password = json!({ "password": NEW_PASSWORD, "currentPassword": admin.user.password });
    let credentials = format!("/api/v2.1/admin/users/{}/credentials", admin.user.user_id);
    let others = format!("{}?except=current", admin.sessions());
    for (method, path, body) in [(Method::PUT, credentials, Some(password)), (Method::DELETE, others, None)] {
        let caller = world.login(&admin).await.unwrap();
        let session = format!("S#{}", caller.session);
        let commit = Fault::on(Operation::TransactWriteItems, Effect::HoldRequest).sk(session.as_str());
        let commit = world.faults.inject(commit);
        let (shared, token) = (Arc::clone(&world), caller.token.clone());
        let (sent, target) = (method.clone(), path.clone());
        let changing = tokio::spawn(async move {
            shared.request(&sent, &target, NORDIC, Some(&token), body.as_ref()).await.unwrap()
        });
        commit.reached().await;
        assert_eq!(world.logout(&caller).await.unwrap().status, 200, "{method} {path}");
        let before = items(&world, &admin).await;
        commit.release();
        assert_ended(&world, &changing.await.unwrap(), &path);
        let after = items(&world, &admin).await;
        for item in ["USER", session.as_str()] {
            assert_eq!(after[item], before[item], "{method} {path}");
        }
    }
}

// docs/design/security.md#rule-15: a login under the limit `single` ends a caller as any other end does.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_a_login_ends_before_the_commit_does_not_change_its_own_account() {
    let world = Arc::new(World::start().await.unwrap());
    let limit = SessionLimit { max: 1, when_full: WhenFull::Single };
    world.change_policy(NORDIC, |policy| policy.session_limit = Some(limit)).await.unwrap();
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    let password = json!({ "password": NEW_PASSWORD, "currentPassword": admin.user.password });
    let credentials = format!("/api/v2.1/admin/users/{}/credentials", admin.user.user_id);
    for (method, path, body) in [
        (Method::PUT, credentials.clone(), Some(password)),
        (Method::PUT, credentials, Some(json!({ "changeRequired": true }))),
        (Method::DELETE, admin.sessions(), None),
        (Method::DELETE, format!("{}?except=current", admin.sessions()), None),
    ] {
        let caller = world.login(&admin).await.unwrap();
        let commit = Fault::on(Operation::TransactWriteItems, Effect::HoldRequest);
        let commit = world.faults.inject(commit.sk(format!("S#{}", caller.session)));
        let (shared, token) = (Arc::clone(&world), caller.token.clone());
        let (sent, target, body) = (method.clone(), path.clone(), body.clone());
        let changing = tokio::spawn(async move {
            shared.request(&sent, &target, NORDIC, Some(&token), body.as_ref()).await.unwrap()
        });
        commit.reached().await;
        let next = world.login(&admin).await.unwrap();
        let before = world.user(&admin).await.unwrap();
        commit.release();
        assert_ended(&world, &changing.await.unwrap(), &path);
        let after = world.user(&admin).await.unwrap();
        assert_eq!(after.session_epoch, before.session_epoch, "{method} {path}");
        assert_eq!(after.sequence, before.sequence, "{method} {path}");
        assert!(!world.opens(&caller).await.unwrap() && world.opens(&next).await.unwrap(), "{method} {path}");
    }
}

// The transaction does not contain the caller's items. A change whose transaction is in progress is committed, and
// is the last one.
#[tokio::test(flavor = "multi_thread")]
async fn change_in_progress_is_the_last_one_of_a_caller_that_ends() {
    let world = Arc::new(World::start().await.unwrap());
    let (actor, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let target = world.login(&actor).await.unwrap();
    let caller = world.login(&admin).await.unwrap();
    let commit = world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::HoldBefore));
    let changing = spawn(&world, Change::ExpirePassword, &caller, &target);
    commit.reached().await;
    assert_eq!(world.logout(&caller).await.unwrap().status, 200);
    let before = items(&world, &actor).await;
    let later = Change::SetUsername.send(&world, &caller, &target).await;
    assert_ended(&world, &later, "a later request");
    assert_eq!(items(&world, &actor).await, before);
    commit.release();
    assert_eq!(changing.await.unwrap().status, 200);
    assert!(world.user(&actor).await.unwrap().change_required);
}
