//! Attempt slots whose result cannot be stored at once, and logins that wait for a slot.

use e2e::fault_proxy::{Effect, Fault, Gate, Operation};

use super::*;

/// Throttles the next `count` writes of the user's attempts.
fn throttle(world: &World, actor: &Actor, count: usize) -> Gate {
    let pk = format!("T#{}#U#{}", actor.tenant.tenant_id, actor.user.user_id);
    let fault = Fault::on(Operation::UpdateItem, Effect::Throttle).pk(pk).sk("ATTEMPTS");
    world.faults.inject(fault.times(count))
}

/// Logs in `count` times in parallel. Every write that stores the result of an attempt is throttled.
async fn log_in_without_settling(world: &Arc<World>, actor: &Actor, count: usize) -> Vec<Answer> {
    world.passwords.close();
    let before = world.passwords.verified();
    let logins = tokio::spawn({
        let (world, actor) = (Arc::clone(world), actor.clone());
        async move { together(&world, count, |_| (actor.clone(), actor.user.password.clone(), None)).await }
    });
    world.passwords.until_more_than(before + count - 1).await;
    let throttled = throttle(world, actor, usize::MAX);
    world.passwords.open();
    let answers = logins.await.unwrap();
    assert!(throttled.applied() >= count, "the settling writes were not throttled");
    world.faults.clear();
    answers
}

// docs/design/security.md#rule-7
#[tokio::test(flavor = "multi_thread")]
async fn successful_logins_without_a_stored_result_do_not_lock_the_user() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    // Four failures before the logins; a fifth one would lock the user.
    world.change_policy(NORDIC, |policy| policy.max_attempts = 9).await.unwrap();
    fail(&world, &marcus, None, 4).await;
    let answers = log_in_without_settling(&world, &marcus, 5).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(login_from(&world, &marcus, None).await.verdict(), (200, "NONE"));
}

// docs/design/security.md#rule-7: unsettled slots block other logins only while their login may still settle them.
#[tokio::test(flavor = "multi_thread")]
async fn successful_logins_without_a_stored_result_do_not_keep_their_slots() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let answers = log_in_without_settling(&world, &marcus, 5).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    world.clock.advance(Duration::from_secs(16));
    // The slots become free for wrong passwords too, and each of those counts.
    let verdicts = fail(&world, &marcus, None, 6).await;
    assert!(verdicts[..5].iter().all(|verdict| verdict.1 == "AUTHENTICATION"), "{verdicts:?}");
    assert_eq!(verdicts[5].1, "ACCOUNT_LOCKED");
}

// docs/design/security.md#rule-7
#[tokio::test(flavor = "multi_thread")]
async fn successful_login_stores_its_result_after_a_burst_of_throttling() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    world.passwords.close();
    let before = world.passwords.verified();
    let login = tokio::spawn({
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        async move { world.try_login(&marcus, &marcus.user.password).await.unwrap() }
    });
    world.passwords.until_more_than(before).await;
    // The SDK sends a throttled write three times.
    let throttled = throttle(&world, &marcus, 7);
    world.passwords.open();
    assert_eq!(login.await.unwrap().status, 200);
    assert_eq!(throttled.applied(), 7);
    assert!(!attempts(&world, &marcus).await.contains_key("attempts"), "the slot was not released");
}

// docs/design/storage.md#attempts: a refused conditional write costs as much as a successful one.
#[tokio::test]
async fn login_that_waits_for_a_slot_reads_the_attempts() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) =
        (TenantId::parse(&marcus.tenant.tenant_id).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let now = world.clock.now();
    let slots = [0, 1, 2, 3, 4].map(|index| AttemptId::new(now, [index; 16]));
    for id in slots {
        let key = AttemptKey { tenant: &tenant, user: &user, device: None, id };
        world.store.reserve_attempt(&key, budget, now).await.unwrap();
    }
    world.calls.take();
    let busy = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(busy.verdict(), (429, "RATE_LIMITED"));
    let calls = world.calls.take();
    let count = |operation: &str| calls.iter().filter(|call| *call == operation).count();
    // The first write reserves a slot, the second records the use of the tenant's secret.
    assert!(count("UpdateItem") <= 2, "{calls:?}");
    assert!(count("BatchGetItem") > 5, "{calls:?}");
    // A waiting login gets a slot as soon as one is free.
    let (answer, ()) = tokio::join!(world.try_login(&marcus, &marcus.user.password), async {
        let key = AttemptKey { tenant: &tenant, user: &user, device: None, id: slots[0] };
        world.store.settle_attempt(&key, &Verdict::Unused).await.unwrap();
    });
    assert_eq!(answer.unwrap().status, 200);
}

// docs/design/storage.md#attempts: an attempt whose process ended is looked up once, and then counts as failed.
#[tokio::test]
async fn sessions_of_attempts_whose_process_ended_are_looked_up_once() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) =
        (TenantId::parse(&marcus.tenant.tenant_id).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let now = world.clock.now();
    for index in 0..5 {
        let key =
            AttemptKey { tenant: &tenant, user: &user, device: None, id: AttemptId::new(now, [index; 16]) };
        world.store.reserve_attempt(&key, budget, now).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(61));
    for expected in [None, Some(["BatchGetItem", "UpdateItem"])] {
        world.calls.take();
        assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        let calls = world.calls.take();
        assert!(expected.is_none_or(|expected| calls == expected), "{calls:?}");
    }
    // Each of them counts once, also after the lockout.
    assert_eq!(number(&world, &marcus, "failures").await, Some(5));
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "failures").await, Some(6));
}
