//! The route that ends all sessions of a user.

use e2e::fault_proxy::{Effect, Fault, Operation};

use super::*;

// docs/design/security.md#rule-15, docs/design/storage.md#epochs
#[tokio::test(flavor = "multi_thread")]
async fn login_that_overlaps_the_end_of_all_sessions_is_ended_too() {
    for limited in [false, true] {
        let world = Arc::new(World::start().await.unwrap());
        if limited {
            limit(&world, 2, WhenFull::Oldest).await;
        }
        let marcus = world.actor(MARCUS).unwrap();
        let first = world.login(&marcus).await.unwrap();
        world.passwords.close();
        let before = world.passwords.verified();
        let overlapping = tokio::spawn({
            let (world, marcus) = (Arc::clone(&world), marcus.clone());
            async move { world.try_login(&marcus, &marcus.user.password).await.unwrap() }
        });
        world.passwords.until_more_than(before).await;
        let path = format!("{}?except=current", marcus.sessions());
        assert_eq!(ask(&world, &first, Method::DELETE, &path).await.status, 200);
        world.passwords.open();
        let answer = overlapping.await.unwrap();
        // With a limit, the end is detected before the session is written, so that nothing is evicted.
        let expected = if limited { (503, "UNAVAILABLE") } else { (200, "NONE") };
        assert_eq!(answer.verdict(), expected);
        for login in granted(&marcus, &[answer]) {
            assert!(!world.opens(&login).await.unwrap());
            assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
        }
        assert_eq!(live(&world, &marcus).await, BTreeSet::from([first.session.clone()]));
        assert!(world.opens(&first).await.unwrap());
        assert!(world.login(&marcus).await.is_ok());
    }
}

// docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn ending_all_sessions_during_refreshes_keeps_the_excepted_session() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    for spared in [true, false] {
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(world.login(&marcus).await.unwrap());
        }
        let query = if spared { "?except=current" } else { "" };
        let path = format!("{}{query}", marcus.sessions());
        let mut tasks = JoinSet::new();
        for index in 0..21 {
            let (world, path) = (Arc::clone(&world), path.clone());
            let login = held[index % 20].clone();
            tasks.spawn(async move {
                if index == 20 {
                    ask(&world, &login, Method::DELETE, &path).await
                } else {
                    world.refresh(&login).await.unwrap()
                }
            });
        }
        let answers = tasks.join_all().await;
        assert!(answers.iter().any(|answer| answer.data("status") == "TERMINATED"), "{answers:?}");
        for answer in &answers {
            let refresh = matches!(answer.verdict(), (200, _) | (401, "SESSION_TERMINATED"));
            assert!(refresh, "{:?}", answer.verdict());
        }
        let alive = if spared { BTreeSet::from([held[0].session.clone()]) } else { BTreeSet::new() };
        assert_eq!(live(&world, &marcus).await, alive);
        for login in granted(&marcus, &answers).iter().chain(&held) {
            assert_eq!(world.opens(login).await.unwrap(), alive.contains(&login.session));
        }
        for login in held.iter().filter(|login| alive.contains(&login.session)) {
            assert_eq!(world.logout(login).await.unwrap().status, 200);
        }
    }
}

#[tokio::test]
async fn ending_all_sessions_counts_each_session_once_and_keeps_the_password() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let [first, second, third] = [
        world.login(&marcus).await.unwrap(),
        world.login(&marcus).await.unwrap(),
        world.login(&marcus).await.unwrap(),
    ];
    world.logout(&third).await.unwrap();
    let before = world.user(&marcus).await.unwrap();
    world.clock.advance(Duration::from_secs(5));

    let path = marcus.sessions();
    let refused = ask(&world, &first, Method::DELETE, &format!("{path}?except=others")).await;
    assert_eq!(refused.verdict(), (400, "VALIDATION"));
    assert_eq!(refused.body["data"]["errors"][0]["field"], "except");
    let twice = ask(&world, &first, Method::DELETE, &format!("{path}?except=current&except=current")).await;
    assert_eq!(twice.verdict(), (400, "VALIDATION"));

    let spared = ask(&world, &first, Method::DELETE, &format!("{path}?other=1&except=current")).await;
    let ended_at = format!("{:.3}", world.clock.now());
    let expected = json!({ "success": true, "data": {
        "userId": marcus.user.user_id, "status": "TERMINATED", "sessionsTerminated": 1, "terminatedAt": ended_at,
    }});
    assert_eq!((spared.status, &spared.body), (200, &expected));
    assert!(world.opens(&first).await.unwrap() && !world.opens(&second).await.unwrap());
    let after = world.user(&marcus).await.unwrap();
    assert_eq!((after.session_epoch, after.sequence), (before.session_epoch + 1, before.sequence + 1));
    assert_eq!(after.changed_at, world.clock.now());
    assert_eq!(after.password.as_phc(), before.password.as_phc());
    assert!(world.outbox(NORDIC, &marcus.user.user_id).await.unwrap().is_empty());

    // `except=current` has no effect if an administrator ends the sessions of another user.
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let again = world.login(&marcus).await.unwrap();
    let all = ask(&world, &admin, Method::DELETE, &format!("{path}?except=current")).await;
    assert_eq!((all.status, &all.body["data"]["sessionsTerminated"]), (200, &json!(2)));
    assert!(!world.opens(&first).await.unwrap() && !world.opens(&again).await.unwrap());
    assert!(world.opens(&admin).await.unwrap());
    let none = ask(&world, &admin, Method::DELETE, &path).await;
    assert_eq!((none.status, &none.body["data"]["sessionsTerminated"]), (200, &json!(0)));

    // Ending all sessions ends the caller's session too.
    let own = admin.actor.sessions();
    let all = ask(&world, &admin, Method::DELETE, &own).await;
    assert_eq!((all.status, &all.body["data"]["sessionsTerminated"]), (200, &json!(1)));
    assert_eq!(ask(&world, &admin, Method::DELETE, &own).await.verdict(), (401, "INVALID_TOKEN"));
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN SESSION_GONE");
    assert!(world.login(&marcus).await.is_ok());
}

// docs/design/security.md#rule-15: the number of ended sessions is only information for the client.
#[tokio::test]
async fn sessions_end_if_they_cannot_be_counted() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let counting = world.faults.inject(Fault::on(Operation::Query, Effect::Throttle).always());
    let first = world.login(&marcus).await.unwrap();
    let ended = ask(&world, &admin, Method::DELETE, &marcus.sessions()).await;
    assert_eq!((ended.status, ended.data("status")), (200, "TERMINATED"), "{}", ended.text);
    assert!(ended.body["data"].get("sessionsTerminated").is_none(), "{}", ended.text);
    assert!(!world.opens(&first).await.unwrap());
    let second = world.login(&marcus).await.unwrap();
    let body = json!({ "password": NEW_PASSWORD });
    let changed = world.update(&admin, &marcus.user.user_id, &body).await.unwrap();
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(changed.body["data"].get("sessionsRevoked").is_none(), "{}", changed.text);
    assert!(!world.opens(&second).await.unwrap());
    assert!(counting.applied() >= 2);
}

// docs/design/contract.md#logout
#[tokio::test]
async fn repeated_logout_of_a_session_that_ended_with_all_others_returns_the_first_time() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (first, second) = (world.login(&marcus).await.unwrap(), world.login(&marcus).await.unwrap());
    assert_eq!(ask(&world, &second, Method::DELETE, &marcus.sessions()).await.status, 200);
    world.clock.advance(Duration::from_secs(5));
    let ended = world.logout(&first).await.unwrap();
    assert_eq!(ended.data("terminatedAt"), format!("{:.3}", world.clock.now()));
    world.clock.advance(Duration::from_secs(5));
    let again = world.logout(&first).await.unwrap();
    assert_eq!(again.data("terminatedAt"), ended.data("terminatedAt"));
}

// docs/design/security.md#rule-15: a session that is ahead of its user's epoch would survive the end of all sessions.
#[tokio::test]
async fn change_that_ends_no_session_of_the_caller_leaves_the_callers_epoch() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let (own, other) = (&login.actor.user, world.actor(MARCUS).unwrap().user);
    for (user, change) in [
        (&own.user_id, json!({ "username": "x", "currentPassword": own.password })),
        (&other.user_id, json!({ "password": NEW_PASSWORD })),
    ] {
        let changed = world.update(&login, user, &change).await.unwrap();
        assert_eq!(changed.status, 200, "{changed:?}");
        let epoch = world.user(&login.actor).await.unwrap().session_epoch;
        assert_eq!(world.session(&login).await.unwrap().user_epoch, epoch, "{change}");
    }
}
