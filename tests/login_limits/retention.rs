//! How long attempts are stored, for users that exist and for invented user IDs.

use aws_sdk_dynamodb::types::AttributeValue;
use e2e::fault_proxy::{Effect, Fault, Operation};

use super::*;

const DAY: i64 = 24 * 60 * 60;

/// A user ID that does not exist, in requests like those of `actor`.
fn invented(actor: &Actor) -> Actor {
    let mut nobody = actor.clone();
    "nobody".clone_into(&mut nobody.user.user_id);
    nobody
}

/// Time until the attempts item expires, in seconds.
async fn life(world: &World, actor: &Actor) -> Option<i64> {
    let expires_at = number(world, actor, "expires_at").await?;
    Some(expires_at - world.clock.now().as_second())
}

/// Deletes the attempts item of a user, as DynamoDB does some time after its expiry.
async fn delete_attempts(world: &World, actor: &Actor) {
    let pk = format!("T#{}#U#{}", actor.tenant.tenant_id, actor.user.user_id);
    let delete = world.dynamodb.delete_item().table_name(local::TABLE).key("pk", AttributeValue::S(pk));
    delete.key("sk", AttributeValue::S("ATTEMPTS".to_owned())).send().await.unwrap();
}

/// Deletes the attempts item of a user if it has expired. Returns whether an item is left.
async fn sweep(world: &World, actor: &Actor) -> bool {
    let life = life(world, actor).await;
    if life.is_some_and(|life| life <= 0) {
        delete_attempts(world, actor).await;
    }
    life.is_some_and(|life| life > 0)
}

// docs/design/storage.md#attempts: otherwise, each invented user ID would fill the table for half a year.
#[tokio::test]
async fn attempts_of_an_invented_user_are_stored_for_a_few_days() {
    let world = World::start().await.unwrap();
    let nobody = invented(&world.actor(MARCUS).unwrap());
    fail(&world, &nobody, None, 1).await;
    let life = life(&world, &nobody).await.unwrap();
    assert!((2 * DAY..3 * DAY).contains(&life), "{life}");
}

// docs/design/security.md#rule-9: the history of an unknown user is kept exactly as long as that of a known one. The
// known user has logged in, has a trusted device and has changed its password before.
#[tokio::test]
async fn forgotten_attempts_do_not_reveal_whether_a_user_exists() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 12).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let change = json!({ "password": NEW_PASSWORD, "currentPassword": marcus.user.password });
    assert_eq!(world.update(&login, &marcus.user.user_id, &change).await.unwrap().status, 200);
    world.clock.advance(Duration::from_secs(3 * 24 * 3_600));
    let nobody = invented(&marcus);
    let mut forgotten = 0;
    let mut stored = Vec::new();
    for (failures, days) in [(1, 1), (2, 10), (3, 130), (1, 30), (4, 100), (1, 17), (2, 1), (1, 300), (6, 1)]
    {
        for actor in [&marcus, &nobody] {
            stored.push(sweep(&world, actor).await);
        }
        let verdicts =
            [fail(&world, &marcus, None, failures).await, fail(&world, &nobody, None, failures).await];
        assert_eq!(verdicts[0], verdicts[1], "after {days} days");
        assert_eq!(life(&world, &marcus).await, life(&world, &nobody).await, "after {days} days");
        let counted = [number(&world, &marcus, "failures").await, number(&world, &nobody, "failures").await];
        assert_eq!(counted[0], counted[1], "after {days} days");
        forgotten += usize::from(counted[0].is_some_and(|count| usize::try_from(count).unwrap() <= failures));
        world.clock.advance(Duration::from_secs(days * 24 * 3_600));
    }
    assert!(forgotten > 3, "the schedule must forget failures: {stored:?}");
}

// docs/design/security.md#rule-9: an item that has expired and is not deleted yet costs no further calls.
#[tokio::test]
async fn expired_attempts_do_not_reveal_whether_a_user_exists() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    world.login(&marcus).await.unwrap();
    world.clock.advance(Duration::from_secs(3 * 24 * 3_600));
    assert!(life(&world, &marcus).await.unwrap() < 0);
    world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut calls = Vec::new();
    for actor in [&marcus, &invented(&marcus)] {
        world.calls.take();
        fail(&world, actor, None, 1).await;
        calls.push(world.calls.take());
    }
    assert_eq!(calls[0], calls[1]);
}

// docs/design/security.md#rule-8: to wait until failures are forgotten gives no more attempts in the long run.
#[tokio::test]
async fn each_failure_is_remembered_for_its_share_of_half_a_year() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 10).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for actor in [&marcus, &invented(&marcus)] {
        let start = world.clock.now().as_second();
        for failures in [1, 4, 4] {
            fail(&world, actor, None, failures).await;
            world.clock.advance(LOCKOUT);
        }
        let expires_at = number(&world, actor, "expires_at").await.unwrap();
        assert!(expires_at - start >= 9 * 181 * DAY / 10, "{}", expires_at - start);
        // An expired item that DynamoDB has not deleted yet: its failures still count, and the new one is remembered.
        world.clock.advance(Duration::from_secs(u64::try_from(expires_at - start + 40 * DAY).unwrap()));
        assert!(life(&world, actor).await.unwrap() < 0);
        fail(&world, actor, None, 1).await;
        assert_eq!(number(&world, actor, "failures").await, Some(10));
        assert!(life(&world, actor).await.unwrap() > 181 * DAY / 10);
    }
}

/// Reserves slots for `count` attempts whose processes end before they store a result.
async fn abandon(world: &World, actor: &Actor, budget: AttemptBudget, count: u8) {
    let (tenant, user) =
        (TenantId::parse(&actor.tenant.tenant_id).unwrap(), UserId::parse(&actor.user.user_id).unwrap());
    let now = world.clock.now();
    for index in 0..count {
        let key =
            AttemptKey { tenant: &tenant, user: &user, device: None, id: AttemptId::new(now, [index; 16]) };
        let reserved = world.store.reserve_attempt(&key, budget, now).await.unwrap();
        assert!(matches!(reserved, Reservation::Granted(_)), "{reserved:?}");
    }
}

// docs/design/security.md#rule-8: attempts whose process ended are failures, and are remembered like them.
#[tokio::test]
async fn failures_of_ended_processes_are_remembered_for_their_share() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 10).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 10, lockout_millis: 1_800_000 };
    let start = world.clock.now().as_second();
    abandon(&world, &marcus, budget, 4).await;
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "failures").await, Some(5));
    let expires_at = number(&world, &marcus, "expires_at").await.unwrap();
    assert!(expires_at - start >= 5 * 181 * DAY / 10, "{}", expires_at - start);
    // The same in an item that has expired, and that DynamoDB has not deleted yet.
    world.clock.advance(LOCKOUT);
    abandon(&world, &marcus, AttemptBudget { max: 4, ..budget }, 3).await;
    world.clock.advance(Duration::from_secs(u64::try_from(expires_at - start + 40 * DAY).unwrap()));
    assert!(life(&world, &marcus).await.unwrap() < 0);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "failures").await, Some(9));
    assert!(life(&world, &marcus).await.unwrap() >= 4 * 181 * DAY / 10);
}

// docs/design/security.md#rule-8: all devices share the expiry.
#[tokio::test]
async fn expiry_that_another_device_extended_meanwhile_is_not_shortened() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    abandon(&world, &marcus, budget, 2).await;
    world.clock.advance(Duration::from_secs(4 * 24 * 3_600));
    assert!(life(&world, &marcus).await.unwrap() < 0);
    let pk = format!("T#{}#U#{}", marcus.tenant.tenant_id, marcus.user.user_id);
    // The first write is refused because the lockout is over. The second one starts a new one.
    let held = Fault::on(Operation::UpdateItem, Effect::HoldRequest).pk(&pk).sk("ATTEMPTS").nth(2);
    let gate = world.faults.inject(held);
    let later = world.clock.now().as_second() + 100 * DAY;
    tokio::join!(fail(&world, &marcus, None, 1), async {
        gate.reached().await;
        let update = world.dynamodb.update_item().table_name(local::TABLE).key("pk", AttributeValue::S(pk));
        let update = update.key("sk", AttributeValue::S("ATTEMPTS".to_owned()));
        let update = update.update_expression("SET expires_at = :later");
        let update = update.expression_attribute_values(":later", AttributeValue::N(later.to_string()));
        update.send().await.unwrap();
        gate.release();
    });
    assert_eq!(number(&world, &marcus, "failures").await, Some(3));
    assert_eq!(number(&world, &marcus, "expires_at").await, Some(later + 3 * (181 * DAY / 100)));
}

// docs/design/security.md#rule-8: waiting does not enable the password again.
#[tokio::test]
async fn password_that_ended_processes_disabled_stays_disabled() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 10).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 10, lockout_millis: 1_800_000 };
    fail(&world, &marcus, None, 4).await;
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    abandon(&world, &marcus, AttemptBudget { max: 6, ..budget }, 4).await;
    world.clock.advance(LOCKOUT);
    let locked = login_from(&world, &marcus, None).await;
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
    assert!(locked.body["data"]["lockoutTime"].is_null(), "{}", locked.text);
    assert!(life(&world, &marcus).await.unwrap() > 1_000 * 365 * DAY, "the item must not expire");
}

// docs/design/security.md#rule-8
#[tokio::test]
async fn failure_in_an_item_that_expired_during_the_attempt_is_remembered() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    abandon(&world, &marcus, budget, 1).await;
    let (tenant, user) =
        (TenantId::parse(&marcus.tenant.tenant_id).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let id = AttemptId::new(world.clock.now(), [0; 16]);
    let key = AttemptKey { tenant: &tenant, user: &user, device: None, id };
    world.clock.advance(Duration::from_secs(4 * 24 * 3_600));
    let failed = Verdict::Failed { budget, now: world.clock.now(), is_expired: false };
    world.store.settle_attempt(&key, &failed).await.unwrap();
    assert!(life(&world, &marcus).await.unwrap() >= 181 * DAY / 100);
}

// docs/design/security.md#rule-8: a success forgives failures, but does not shorten the time of later ones.
#[tokio::test]
async fn success_does_not_shorten_the_time_of_later_failures() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut earlier = 0;
    for _ in 0..3 {
        fail(&world, &marcus, None, 2).await;
        assert_eq!(number(&world, &marcus, "failures").await, Some(2));
        let expires_at = number(&world, &marcus, "expires_at").await.unwrap();
        assert!(expires_at - earlier >= 2 * 181 * DAY / 100, "{}", expires_at - earlier);
        assert_eq!(login_from(&world, &marcus, None).await.status, 200);
        assert_eq!(number(&world, &marcus, "expires_at").await, Some(expires_at));
        earlier = expires_at;
    }
}

// docs/design/security.md#rule-10: the attempts item expires long before a device proof.
#[tokio::test]
async fn old_device_proof_stays_invalid_after_the_attempts_are_deleted() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let old = world.login(&marcus).await.unwrap().device_proof;
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": false });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
    delete_attempts(&world, &marcus).await;
    fail(&world, &marcus, Some(&old), 5).await;
    let locked = world.try_login_from(&marcus, NEW_PASSWORD, ELSEWHERE, None).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"), "the old proof has its own attempts");
}
