//! The route that lists the sessions of a user.

use super::*;

#[tokio::test]
async fn list_contains_only_live_sessions() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let ended = world.login(&marcus).await.unwrap();
    world.logout(&ended).await.unwrap();
    let mut event = e2e::event(
        &Method::POST,
        &marcus.sessions(),
        NORDIC,
        None,
        Some(&marcus.credentials(&marcus.user.password)),
    );
    event["headers"]["platform"] = json!("macOS");
    event["headers"]["device-id"] = json!("device 7");
    let created = world.clock.now();
    let answer = world.send(doorward::route::Function::CreateSession, &event.to_string()).await.unwrap();
    let first = Login::from_answer(&marcus, &answer).unwrap();
    world.clock.advance(Duration::from_secs(60));
    let second = world.login(&marcus).await.unwrap();
    let first = world.refreshed(&first).await.unwrap();

    let mut found = listed(&world, &second, &marcus.sessions(), 20).await;
    found.sort_by_key(|session| session["createdAt"].to_string());
    let at = |seconds: i64| {
        let at = created.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap())).unwrap();
        json!(format!("{at:.3}"))
    };
    let expected = json!([
        {
            "sessionId": first.session, "status": "ACTIVE", "platform": "macOS", "deviceId": "device 7",
            "userAgent": "e2e/1.0", "ipAddress": "127.0.0.1", "createdAt": at(0), "lastRefreshedAt": at(60),
            "idleExpiresAt": at(60 + 8 * 3_600), "sessionExpiresAt": at(24 * 3_600), "current": false,
        },
        {
            "sessionId": second.session, "status": "ACTIVE", "platform": null, "deviceId": null,
            "userAgent": "e2e/1.0", "ipAddress": "127.0.0.1", "createdAt": at(60), "lastRefreshedAt": at(60),
            "idleExpiresAt": at(60 + 8 * 3_600), "sessionExpiresAt": at(60 + 24 * 3_600), "current": true,
        },
    ]);
    assert_eq!(json!(found), expected);
    for (login, item) in [(&first, &expected[0]), (&second, &expected[1])] {
        let one = ask(&world, &second, Method::GET, &login.path()).await;
        assert_eq!((one.status, &one.body), (200, &json!({ "success": true, "data": item })));
    }
    let absent = ask(&world, &second, Method::GET, &format!("{}/no-such-session", marcus.sessions())).await;
    assert_eq!(absent.verdict(), (404, "SESSION_NOT_FOUND"));
    assert_eq!(ask(&world, &second, Method::GET, &ended.path()).await.text, absent.text);

    // docs/design/security.md#rule-13: expired sessions are not listed, even if their items still exist.
    world.clock.advance(8 * HOUR - Duration::from_millis(1));
    let current = world.refreshed(&second).await.unwrap();
    assert_eq!(listed(&world, &current, &marcus.sessions(), 20).await.len(), 2);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(
        ids(&listed(&world, &current, &marcus.sessions(), 20).await),
        std::slice::from_ref(&second.session)
    );
    assert_eq!(ask(&world, &current, Method::GET, &first.path()).await.text, absent.text);
    // docs/design/security.md#rule-15: sessions ended by an epoch are not listed.
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    assert_eq!(ask(&world, &admin, Method::DELETE, &marcus.sessions()).await.status, 200);
    assert!(listed(&world, &admin, &marcus.sessions(), 20).await.is_empty());
    assert_eq!(ask(&world, &admin, Method::GET, &second.path()).await.text, absent.text);
    let before = world.login(&marcus).await.unwrap();
    end_tenants_sessions(&world).await;
    let current = world.login(&marcus).await.unwrap();
    assert_eq!(
        ids(&listed(&world, &current, &marcus.sessions(), 20).await),
        std::slice::from_ref(&current.session)
    );
    assert_eq!(ask(&world, &current, Method::GET, &before.path()).await.text, absent.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_contain_every_session_once() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.max_attempts = 100).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let held = granted(&marcus, &logins(&world, &marcus, 45).await);
    // A third of the sessions ended; each page is full nevertheless.
    for login in held.iter().step_by(3) {
        world.logout(login).await.unwrap();
    }
    let live = live(&world, &marcus).await;
    assert_eq!(live.len(), 30);
    for limit in [1, 7, 30, 31, 100] {
        let found = ids(&listed(&world, &held[1], &marcus.sessions(), limit).await);
        assert_eq!(found.len(), 30, "{limit}");
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), live, "{limit}");
    }
    let unasked = ask(&world, &held[1], Method::GET, &marcus.sessions()).await;
    assert_eq!(unasked.body["data"]["sessions"].as_array().unwrap().len(), 20);
    let last = ask(&world, &held[1], Method::GET, &format!("{}?limit=30", marcus.sessions())).await;
    assert_eq!(last.body["data"].get("nextCursor"), None);
}

#[tokio::test]
async fn sessions_are_listed_newest_first_on_every_page() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut newest_first = Vec::new();
    for _ in 0..7 {
        newest_first.insert(0, world.login(&marcus).await.unwrap());
        world.clock.advance(Duration::from_secs(1));
    }
    // A refresh does not move a session.
    let refreshed = world.refresh(&newest_first[4]).await.unwrap();
    assert_eq!(refreshed.status, 200);
    let expected: Vec<_> = newest_first.iter().map(|login| login.session.clone()).collect();
    for limit in [1, 2, 3, 7, 20] {
        let found = ids(&listed(&world, &newest_first[0], &marcus.sessions(), limit).await);
        assert_eq!(found, expected, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_lose_nor_repeat_sessions_during_logins_and_logouts() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.max_attempts = 100).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let held = granted(&marcus, &logins(&world, &marcus, 24).await);
    let (steady, leaving) = held.split_at(12);
    let mut tasks = JoinSet::new();
    for login in leaving {
        let (world, marcus, login) = (Arc::clone(&world), marcus.clone(), login.clone());
        tasks.spawn(async move {
            world.login(&marcus).await.unwrap();
            assert_eq!(world.logout(&login).await.unwrap().status, 200);
        });
    }
    let listing = async {
        for _ in 0..4 {
            let found = ids(&listed(&world, &steady[0], &marcus.sessions(), 3).await);
            let distinct: BTreeSet<_> = found.iter().collect();
            assert_eq!(distinct.len(), found.len(), "{found:?}");
            assert!(steady.iter().all(|login| distinct.contains(&login.session)), "{found:?}");
        }
    };
    tokio::join!(listing, async { while tasks.join_next().await.transpose().unwrap().is_some() {} });
    assert_eq!(listed(&world, &steady[0], &marcus.sessions(), 5).await.len(), 24);
}

// docs/design/security.md#rule-20
#[tokio::test]
async fn cursor_is_valid_only_unmodified_and_for_its_own_list() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let ingrid = world.actor(INGRID).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut logins = Vec::new();
    for actor in [&marcus, &marcus, &ingrid, &ingrid] {
        logins.push(world.login(actor).await.unwrap());
    }
    let path = marcus.sessions();
    let first = ask(&world, &logins[0], Method::GET, &format!("{path}?limit=1")).await;
    let cursor = first.data("nextCursor").to_owned();
    assert!(!cursor.contains(&logins[0].session) && !cursor.is_empty());
    let with = |path: &str, cursor: &str| format!("{path}?limit=1&cursor={cursor}");
    // Every caller who may see the list may use its cursor.
    for login in [&logins[0], &logins[1], &admin] {
        assert_eq!(ask(&world, login, Method::GET, &with(&path, &cursor)).await.status, 200);
    }
    let organization = format!(
        "/api/v2.1/admin/organization/{}/users/{}/sessions",
        marcus.user.organization_id, marcus.user.user_id
    );
    let mut forged = cursor.clone();
    let changed = if forged.ends_with('A') { "B" } else { "A" };
    forged.replace_range(forged.len() - 5..forged.len() - 4, changed);
    for (path, cursor) in [
        (ingrid.sessions(), cursor.as_str()),
        (organization, cursor.as_str()),
        (path.replace("/individual/", "/organization/"), cursor.as_str()),
        (path.clone(), "x"),
        (path.clone(), ""),
        (path.clone(), &forged),
        (path.clone(), &format!("{cursor}%3D")),
        (path.clone(), &cursor[1..]),
        (path.clone(), &format!("{cursor}&cursor={cursor}")),
        (path.clone(), "%C3%BC"),
    ] {
        let answer = ask(&world, &admin, Method::GET, &with(&path, cursor)).await;
        assert_eq!(answer.verdict(), (400, "VALIDATION"), "{path} {cursor}");
        assert_eq!(answer.body["data"]["errors"][0]["field"], "cursor", "{path} {cursor}");
    }
    // A cursor of another tenant is rejected even if the user IDs are equal.
    let home = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    world.login(&home.actor).await.unwrap();
    let foreign = ask(&world, &home, Method::GET, &with(&home.actor.sessions(), &cursor)).await;
    assert_eq!(foreign.verdict(), (400, "VALIDATION"));

    for limit in ["0", "101", "-1", "+5", "1.0", "x", "", "99999999999999999999", "5&limit=5"] {
        let answer = ask(&world, &admin, Method::GET, &format!("{path}?limit={limit}")).await;
        assert_eq!(answer.verdict(), (400, "VALIDATION"), "{limit}");
        assert_eq!(answer.body["data"]["errors"][0]["field"], "limit", "{limit}");
    }
    for good in ["1", "100", "007", "5&other=1&other=2&unknown", "%35"] {
        assert_eq!(
            ask(&world, &admin, Method::GET, &format!("{path}?limit={good}")).await.status,
            200,
            "{good}"
        );
    }
    let no_text = ask(&world, &admin, Method::GET, &format!("{path}?limit=%ff")).await;
    assert_eq!(no_text.verdict(), (400, "VALIDATION"));
}

// docs/design/security.md#rule-17: a cursor of a new root key, and one of the earlier root key.
#[tokio::test]
async fn cursor_remains_valid_after_a_root_key_rotation() {
    let mut world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    world.login(&marcus).await.unwrap();
    let path = marcus.sessions();
    let old = ask(&world, &login, Method::GET, &format!("{path}?limit=1")).await;
    let name = format!("doorward/tenants/{NORDIC}");
    let secret = world.secrets.get_secret_value().secret_id(&name).send().await.unwrap();
    let mut document: Value = serde_json::from_str(secret.secret_string().unwrap()).unwrap();
    document["rootKeys"].as_array_mut().unwrap().push(json!({ "version": 2, "key": "A".repeat(43) }));
    world
        .secrets
        .put_secret_value()
        .secret_id(&name)
        .secret_string(document.to_string())
        .send()
        .await
        .unwrap();
    world.clock.advance(std::time::Duration::from_secs(5 * 60));

    let stale = world.keys(NORDIC).await.unwrap();
    assert_eq!(stale.root_version(), 2);
    let place = doorward::token::PageCursor {
        tenant: &TenantId::parse(NORDIC).unwrap(),
        user: &UserId::parse(&marcus.user.user_id).unwrap(),
        collection: Collection::Individual,
        owner: marcus.user.customer_id.as_deref().unwrap(),
    };
    let smallest = doorward::domain::SessionId::parse("0").unwrap();
    let new =
        place.make(&doorward::domain::SessionPosition::new(i64::MAX, smallest.clone()), &stale).unwrap();
    let found = ask(&world, &login, Method::GET, &format!("{path}?cursor={new}")).await;
    assert_eq!((found.status, found.body["data"]["sessions"].as_array().unwrap().len()), (200, 2));
    // A process that starts with both keys accepts the cursor of the old one.
    world.start_another(doorward::route::Function::ListSessions).unwrap();
    let path = format!("{path}?cursor={}", old.data("nextCursor"));
    let found = ask(&world, &login, Method::GET, &path).await;
    assert_eq!((found.status, found.body["data"]["sessions"].as_array().unwrap().len()), (200, 1));
}

// A path lists the sessions that it can end. Sessions of the other customer collection belong to its path.
#[tokio::test]
async fn list_contains_the_sessions_that_its_path_can_end() {
    let world = World::start().await.unwrap();
    let individual = world.actor(MARCUS).unwrap();
    let organization = Actor { collection: "organization".to_owned(), ..individual.clone() };
    let logins = [world.login(&individual).await.unwrap(), world.login(&organization).await.unwrap()];
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    for (own, other) in [(&logins[0], &logins[1]), (&logins[1], &logins[0])] {
        let path = own.actor.sessions();
        assert_eq!(ids(&listed(&world, own, &path, 20).await), std::slice::from_ref(&own.session));
        let hidden = format!("{path}/{}", other.session);
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(ask(&world, own, method, &hidden).await.verdict(), (404, "SESSION_NOT_FOUND"));
        }
    }
    let [_, _, path] = paths(&individual);
    let all: BTreeSet<_> = ids(&listed(&world, &admin, &path, 1).await).into_iter().collect();
    assert_eq!(all, logins.iter().map(|login| login.session.clone()).collect());
    // Ending all sessions of a user ends those of both collections.
    let ended = ask(&world, &logins[1], Method::DELETE, &organization.sessions()).await;
    assert_eq!(ended.body["data"]["sessionsTerminated"], json!(2));
    // A user with sessions of one collection has an empty list in the other.
    change_user(&world, &individual, |user| user.customer_kind = Some(Collection::Organization)).await;
    let again = world.login(&organization).await.unwrap();
    let refused = ask(&world, &again, Method::GET, &individual.sessions()).await;
    assert_eq!(refused.verdict(), (404, "USER_NOT_FOUND"));
}

// docs/design/storage.md#calls-per-request
#[tokio::test]
async fn session_routes_make_the_documented_dynamodb_calls() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (login, other) = (world.login(&marcus).await.unwrap(), world.login(&marcus).await.unwrap());
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    ask(&world, &admin, Method::GET, &marcus.sessions()).await;
    let all = marcus.sessions();
    let spared = format!("{all}?except=current");
    for (by, method, path, calls) in [
        (&login, Method::GET, &all, &["BatchGetItem", "Query"][..]),
        (&admin, Method::GET, &all, &["BatchGetItem", "Query"]),
        (&login, Method::GET, &login.path(), &["BatchGetItem"]),
        (&login, Method::GET, &other.path(), &["BatchGetItem"]),
        (&admin, Method::GET, &other.path(), &["BatchGetItem"]),
        (&login, Method::DELETE, &spared, &["BatchGetItem", "Query", "TransactWriteItems"]),
        (&admin, Method::DELETE, &all, &["BatchGetItem", "Query", "TransactWriteItems"]),
    ] {
        world.calls.take();
        let answer = ask(&world, by, method.clone(), path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(world.calls.take(), calls, "{method} {path}");
    }
}
