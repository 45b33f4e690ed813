//! Consecutive failures, which disable a password.

use super::*;

// docs/design/security.md#rule-8: exactly 100 consecutive failures, regardless of time, disable the
// password. Later attempts hash nothing.
#[tokio::test]
async fn hundred_consecutive_failures_disable_the_password_until_it_is_reset() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_user = 500).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let nobody = {
        let mut nobody = marcus.clone();
        nobody.user.user_id = "nobody".to_owned();
        nobody
    };
    let proof = world.login(&marcus).await.unwrap().device_proof;
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut answers = Vec::new();
    for actor in [&marcus, &nobody] {
        let before = world.passwords.verified();
        for window in 0..20 {
            assert!(fail(&world, actor, None, 5).await.iter().all(|verdict| verdict.1 == "AUTHENTICATION"));
            assert_eq!(number(&world, actor, "failures").await, Some((window + 1) * 5));
            world.clock.advance(LOCKOUT);
        }
        assert_eq!(world.passwords.verified() - before, 100);
        let disabled = login_from(&world, actor, None).await;
        assert_eq!(disabled.verdict(), (401, "ACCOUNT_LOCKED"));
        assert!(disabled.body["data"]["lockoutTime"].is_null() && disabled.header("retry-after").is_empty());
        assert_eq!(world.passwords.verified() - before, 100, "a disabled password was hashed");
        answers.push(disabled.text);
    }
    assert_eq!(answers[0], answers[1], "docs/design/security.md#rule-9");
    // Other counters do not clear the state.
    let forever = Some(253_402_300_799);
    assert_eq!(number(&world, &marcus, "expires_at").await, forever);
    fail(&world, &marcus, Some(&proof), 2).await;
    assert_eq!(
        login_from(&world, &marcus, Some(&proof)).await.status,
        200,
        "the trusted device was rejected"
    );
    assert!(number(&world, &marcus, "expires_at").await >= forever);
    world.clock.advance(Duration::from_secs(100 * 24 * 3_600));
    assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
    // A new password enables logins again.
    let admin = world.login(&admin.actor).await.unwrap();
    let set = json!({ "password": NEW_PASSWORD });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &set).await.unwrap().status, 200);
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
}

// docs/design/security.md#rule-8: failures are consecutive without a success in between. Each of them is remembered for
// its share of half a year.
#[tokio::test]
async fn consecutive_failures_end_with_a_success_and_not_with_time() {
    let world = World::start().await.unwrap();
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.disable_after = 7;
        policy.failures_per_user = 500;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    fail(&world, &marcus, None, 5).await;
    let kept = number(&world, &marcus, "expires_at").await.unwrap() - world.clock.now().as_second();
    assert!(kept > 5 * 181 * 86_400 / 7, "{kept}");
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "failures").await, Some(6));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
    assert_eq!(number(&world, &marcus, "failures").await, None);
    // Counting restarts: six failures do not disable the password, the seventh does, 29 days later.
    fail(&world, &marcus, None, 5).await;
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    world.clock.advance(Duration::from_secs(29 * 86_400));
    assert_eq!(fail(&world, &marcus, None, 2).await[1].1, "ACCOUNT_LOCKED");
    assert_eq!(number(&world, &marcus, "failures").await, Some(7));
    let disabled = login_from(&world, &marcus, None).await;
    assert!(disabled.body["data"]["lockoutTime"].is_null(), "{disabled:?}");
}

// docs/design/security.md#rule-8: the policy disables the password after one failure.
#[tokio::test]
async fn one_failure_disables_the_password_if_the_policy_says_one() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 1).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "expires_at").await, Some(253_402_300_799));
    world.clock.advance(LOCKOUT);
    assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
    assert_eq!(world.passwords.verified(), 2);
}

// docs/design/security.md#rule-8: concurrent calls never exceed the limit of consecutive failures.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_attempts_never_exceed_the_limit_of_consecutive_failures() {
    let world = Arc::new(World::start().await.unwrap());
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.disable_after = 7;
        policy.failures_per_user = 500;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [marcus, nobody] {
        let before = world.passwords.verified();
        for round in 0..3 {
            let answers = together(&world, 50, |_| (actor.clone(), WRONG.to_owned(), None)).await;
            assert!(answers.iter().all(|answer| answer.status == 401), "{round}");
            world.clock.advance(LOCKOUT);
        }
        assert_eq!(world.passwords.verified() - before, 7);
        assert_eq!(number(&world, &actor, "failures").await, Some(7));
        assert_eq!(number(&world, &actor, "expires_at").await, Some(253_402_300_799));
    }
}

// docs/design/security.md#rule-8: a failure counts once even if its write is repeated, and a late
// success of another attempt does not undo it.
#[tokio::test]
async fn failure_counts_once_even_if_its_write_is_repeated() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let now = world.clock.now();
    let known = TrustedDevice { id: TrustedDeviceId::from_random([3; 16]), user_epoch: u64::MAX };
    for device in [None, Some(known)] {
        let key = |n| AttemptKey { tenant: &tenant, user: &user, device, id: AttemptId::new(now, [n; 16]) };
        let failures = match device {
            None => "failures".to_owned(),
            Some(device) => format!("failures#{}", device.id),
        };
        for n in 1..=3 {
            let granted = world.store.reserve_attempt(&key(n), budget, now).await.unwrap();
            assert!(matches!(granted, Reservation::Granted(_)));
            for _ in 0..3 {
                world
                    .store
                    .settle_attempt(&key(n), &Verdict::Failed { budget, now, is_expired: false })
                    .await
                    .unwrap();
            }
            assert_eq!(number(&world, &marcus, &failures).await, Some(n.into()));
        }
        // The slot of this attempt never existed or was released.
        for verdict in
            [Verdict::Failed { budget, now, is_expired: false }, Verdict::Succeeded(&[]), Verdict::Unused]
        {
            world.store.settle_attempt(&key(9), &verdict).await.unwrap();
        }
        assert_eq!(number(&world, &marcus, &failures).await, Some(3));
        // An unused attempt changes nothing; a success clears the consecutive failures.
        for (n, verdict, left) in [(4, Verdict::Unused, Some(3)), (5, Verdict::Succeeded(&[]), None)] {
            world.store.reserve_attempt(&key(n), budget, now).await.unwrap();
            world.store.settle_attempt(&key(n), &verdict).await.unwrap();
            assert_eq!(number(&world, &marcus, &failures).await, left, "{verdict:?}");
        }
    }
}

// docs/design/security.md#rule-8: an attempt whose process died counts as a consecutive failure after
// its lockout.
#[tokio::test]
async fn attempts_of_a_dead_process_count_as_consecutive_failures() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 100, disable_after: 12, lockout_millis: 1_800_000 };
    let mut granted = 0;
    for lockout in 0..4 {
        for n in 0..5 {
            let now = world.clock.now();
            let id = AttemptId::new(now, [lockout * 5 + n; 16]);
            let key = AttemptKey { tenant: &tenant, user: &user, device: None, id };
            match world.store.reserve_attempt(&key, budget, now).await.unwrap() {
                Reservation::Granted(_) => granted += 1,
                Reservation::Busy | Reservation::Disabled(_) => {}
                other => panic!("{other:?}"),
            }
        }
        world.clock.advance(LOCKOUT);
    }
    assert_eq!(granted, 12);
}

// docs/design/security.md#rule-8: attempts at an unused user ID do not lock a user who is created with
// it later.
#[tokio::test]
async fn new_user_is_not_locked_by_attempts_before_its_creation() {
    let world = World::start().await.unwrap();
    let mut actor = world.actor(MARCUS).unwrap();
    let record = world.user(&actor).await.unwrap();
    actor.user.user_id = "born-later".to_owned();
    actor.user.username = "born.later@example.com".to_owned();
    let last = fail(&world, &actor, None, 6).await.pop().unwrap();
    assert_eq!(last, (401, "ACCOUNT_LOCKED".to_owned()));
    let user = User {
        id: UserId::parse(&actor.user.user_id).unwrap(),
        username: Username::parse(&actor.user.username).unwrap(),
        ..record
    };
    world.store.create_user(&user, world.clock.now()).await.unwrap();
    assert!(world.login(&actor).await.is_ok());
}
