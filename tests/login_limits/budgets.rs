//! Hourly budgets of failures.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;

// docs/design/security.md#rule-10: the hourly limit of a user's failures is exact across lockouts and
// successes.
#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_user_are_limited_per_hour() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_user = 12).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [&marcus, &nobody] {
        let before = world.passwords.verified();
        for _ in 0..2 {
            fail(&world, actor, None, 5).await;
            world.clock.advance(LOCKOUT - Duration::from_secs(300));
            // The lockout is still active; the password is not verified.
            assert_eq!(fail(&world, actor, None, 1).await[0].1, "ACCOUNT_LOCKED");
            world.clock.advance(Duration::from_secs(300));
        }
        // The first five failures are an hour old now: 7 of 12 attempts are left, 5 of them concurrently.
        let answers = together(&world, 50, |_| (actor.clone(), WRONG.to_owned(), None)).await;
        assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 5);
        assert_eq!(world.passwords.verified() - before, 15);
    }
    // A success releases attempt slots, but not the hourly limit.
    let marcus = world.actor(NORDIC_ADMIN).unwrap();
    let mut guesses = 0;
    for _ in 0..4 {
        guesses += fail(&world, &marcus, None, 4).await.iter().filter(|it| it.1 == "AUTHENTICATION").count();
        let answer = login_from(&world, &marcus, None).await;
        assert_eq!(answer.status, if guesses < 12 { 200 } else { 429 }, "{guesses}");
    }
    assert_eq!(guesses, 12);
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "3600"));
    assert_eq!(world.audit.last()["reason"], "USER");
    world.clock.advance(Duration::from_secs(3_599));
    assert_eq!(login_from(&world, &marcus, None).await.header("retry-after"), "1");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
}

// docs/design/security.md#rule-10: the hourly budget is exact for 50 concurrent attempts at 50 users.
#[tokio::test(flavor = "multi_thread")]
async fn address_budget_is_exact_for_concurrent_attempts() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 20).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let guessed = users(&world, &marcus, 40).await;
    // Half of the users exist (docs/design/security.md#rule-9).
    let whom = |index: usize| {
        let mut actor = guessed[index % 40].clone();
        if index >= 40 || index.is_multiple_of(2) {
            actor.user.user_id = format!("nobody-{index}");
        }
        actor
    };
    let proof = world.login(&marcus).await.unwrap().device_proof;
    for index in 0..10 {
        assert_eq!(fail(&world, &whom(index), None, 1).await[0].1, "AUTHENTICATION");
    }
    let before = world.passwords.verified();
    let answers = together(&world, 50, |index| (whom(index), WRONG.to_owned(), None)).await;
    let count = |error| answers.iter().filter(|answer| answer.verdict().1 == error).count();
    assert_eq!((count("AUTHENTICATION"), count("RATE_LIMITED")), (10, 40));
    assert_eq!(world.passwords.verified() - before, 10);
    // The hour ends 800 s after the clock's start; the policy change took 5 s.
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "795"));
    assert_eq!(world.audit.last()["reason"], "ADDRESS");
    // Other addresses, other tenants and trusted devices are not affected.
    assert!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status == 200);
    assert_eq!(login_from(&world, &world.actor(ADMIN).unwrap(), None).await.status, 200);
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    // Failures of a trusted device do not use the budget.
    assert_eq!(fail(&world, &marcus, Some(&proof), 1).await[0].1, "AUTHENTICATION");
    world.clock.advance(Duration::from_secs(795));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
}

// docs/design/security.md#rule-10, #rule-22: IPv6 addresses count by /64 network; IPv4 addresses have
// one spelling.
#[tokio::test]
async fn addresses_of_one_ipv6_network_share_a_budget() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 2).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for [first, second, third, other] in [
        ["2001:db8:7:7::1", "2001:db8:7:7:ffff::2", "2001:db8:7:7::3", "2001:db8:7:8::1"],
        ["192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"],
    ] {
        for (ip, status) in [(first, 401), (second, 401), (third, 429)] {
            assert_eq!(world.try_login_from(&marcus, WRONG, ip, None).await.unwrap().status, status, "{ip}");
        }
        let right = &marcus.user.password;
        assert_eq!(world.try_login_from(&marcus, right, third, None).await.unwrap().status, 429);
        assert_eq!(world.try_login_from(&marcus, right, other, None).await.unwrap().status, 200);
    }
}

// docs/design/security.md#rule-10: correct passwords return their part of the budget, so that an
// address shared by many users is never limited by successful logins.
#[tokio::test(flavor = "multi_thread")]
async fn successful_logins_use_no_budget() {
    let world = Arc::new(World::start().await.unwrap());
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.failures_per_ip = 30;
        policy.failures_per_tenant = 30;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let guessed = users(&world, &marcus, 15).await;
    for actor in &guessed {
        fail(&world, actor, None, 1).await;
    }
    for _ in 0..4 {
        let right = together(&world, 15, |index| {
            (guessed[index].clone(), guessed[index].user.password.clone(), None)
        })
        .await;
        assert!(right.iter().all(|answer| answer.status == 200));
    }
    // 15 of 30 failures are still left.
    let answers = together(&world, 50, |index| {
        let mut nobody = marcus.clone();
        nobody.user.user_id = format!("nobody-{index}");
        (nobody, WRONG.to_owned(), None)
    })
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 15);
}

// docs/design/security.md#rule-10: an attack on one tenant affects neither other tenants nor trusted
// devices.
#[tokio::test(flavor = "multi_thread")]
async fn tenant_budget_does_not_affect_other_tenants_or_trusted_devices() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_tenant = 20).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let proof = world.login(&marcus).await.unwrap().device_proof;
    // The attack comes from many addresses and tries many users.
    let guess = |index: usize| {
        let (world, mut nobody) = (Arc::clone(&world), marcus.clone());
        nobody.user.user_id = format!("nobody-{index}");
        let ip = format!("192.0.2.{}", index % 200);
        async move { world.try_login_from(&nobody, WRONG, &ip, None).await.unwrap() }
    };
    for index in 0..10 {
        assert_eq!(guess(index).await.verdict(), (401, "AUTHENTICATION"));
    }
    let mut attack = JoinSet::new();
    for index in 10..60 {
        attack.spawn(guess(index));
    }
    let answers = attack.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 10);
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "RATE_LIMITED").count(), 40);
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "795"));
    assert_eq!(world.audit.last()["reason"], "TENANT");
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    let other = world.actor(ADMIN).unwrap();
    assert_eq!(world.login(&other).await.unwrap().actor.user.user_id, other.user.user_id);
    let touched = world.dynamodb.scan().table_name(local::TABLE).send().await.unwrap();
    let budgets = touched.items().iter().map(|item| item["pk"].as_s().unwrap().as_str());
    let strange: Vec<_> =
        budgets.filter(|pk| pk.contains("#F#") && !pk.starts_with(&format!("T#{NORDIC}#"))).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

// docs/design/security.md#rule-10: nobody can compute which users share a part of the tenant's budget.
#[tokio::test]
async fn parts_of_the_tenant_budget_differ_between_tenants() {
    let world = World::start().await.unwrap();
    let mut used = Vec::new();
    for name in [MARCUS, ADMIN] {
        let actor = world.actor(name).unwrap();
        let tenant = &actor.tenant.tenant_id;
        let policy = |policy: &mut doorward::domain::Policy| policy.failures_per_tenant = 16_000;
        world.change_policy(tenant, policy).await.unwrap();
        for index in 0..24 {
            let mut nobody = actor.clone();
            nobody.user.user_id = format!("nobody-{index}");
            assert_eq!(fail(&world, &nobody, None, 1).await[0].1, "AUTHENTICATION");
        }
        let items = world.dynamodb.scan().table_name(local::TABLE).send().await.unwrap();
        let prefix = format!("T#{tenant}#F#");
        let part = |item: &HashMap<String, AttributeValue>| {
            let part = item["pk"].as_s().unwrap().strip_prefix(&prefix)?.to_owned();
            Some((part, item["used"].as_n().unwrap().parse::<u32>().unwrap()))
        };
        used.push(items.items().iter().filter_map(part).collect::<BTreeMap<_, _>>());
    }
    assert!(used.iter().all(|parts| parts.values().sum::<u32>() == 24), "{used:?}");
    assert_ne!(used[0], used[1], "the same user IDs have the same parts in both tenants");
}

// docs/design/security.md#rule-10: operators notice an attack before the budget is used up.
#[tokio::test]
async fn audit_event_counts_logins_after_half_of_the_tenant_budget() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_tenant = 4).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let proof = world.login(&marcus).await.unwrap().device_proof;
    let counted = || world.audit.last()["TenantBudgetHalfUsed"] == 1;
    for (error, expected) in [
        ("AUTHENTICATION", false),
        ("AUTHENTICATION", false),
        ("AUTHENTICATION", true),
        ("AUTHENTICATION", true),
        ("RATE_LIMITED", true),
    ] {
        assert_eq!((fail(&world, &marcus, None, 1).await[0].1.as_str(), counted()), (error, expected));
    }
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    assert!(!counted(), "the budget does not apply to a trusted device");
}

// docs/design/storage.md#calls-per-request
#[tokio::test]
async fn login_makes_the_documented_dynamodb_calls() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 4).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let steady = ["BatchGetItem", "PutItem", "UpdateItem", "UpdateItem"];
    let first = world.login(&marcus).await.unwrap();
    world.calls.take();
    for proof in [None, Some(first.device_proof.as_str()), None] {
        assert_eq!(
            world.try_login_from(&marcus, &marcus.user.password, "127.0.0.1", proof).await.unwrap().status,
            200
        );
        assert_eq!(world.calls.take(), steady, "{proof:?}");
    }
    // A wrong password writes the attempt slot twice and two budgets, for known and unknown users.
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [&marcus, &nobody] {
        assert_eq!(world.try_login(actor, WRONG).await.unwrap().status, 401);
        assert_eq!(
            world.calls.take(),
            ["BatchGetItem", "UpdateItem", "UpdateItem", "UpdateItem", "UpdateItem"]
        );
    }
    // Half of the address budget is used: the login reserves a part before hashing and returns it
    // afterwards.
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    assert_eq!(world.try_login(&admin, &admin.user.password).await.unwrap().status, 200);
    assert_eq!(world.calls.take(), [steady.as_slice(), &["UpdateItem"; 2]].concat());
    let proof = Some(first.device_proof.as_str());
    assert_eq!(
        world.try_login_from(&marcus, &marcus.user.password, "127.0.0.1", proof).await.unwrap().status,
        200
    );
    assert_eq!(world.calls.take(), steady, "a trusted device uses no budget");
}
