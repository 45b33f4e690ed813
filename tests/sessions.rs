//! A user's sessions together: limits, lists, and their end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use doorward::{
    domain::{Collection, Role, SessionLimit, TenantId, User, UserId, WhenFull},
    port::{Clock, SessionsOf, Store},
};
use e2e::{Actor, Answer, Login, NORDIC, World};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN};

const HOUR: Duration = Duration::from_secs(3_600);
const INGRID: &str = "ingrid.larsen@example.com";

/// Limits the sessions of the demo bank's users; more of them may log in at once than by default.
async fn limit(world: &World, max: u32, when_full: WhenFull) {
    let limit = SessionLimit { max, when_full };
    let policy = world.change_policy(NORDIC, |policy| {
        policy.session_limit = Some(limit);
        policy.max_attempts = 100;
    });
    policy.await.unwrap();
}

/// Logs in that often at once.
async fn logins(world: &Arc<World>, actor: &Actor, count: usize) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (world, actor) = (Arc::clone(world), actor.clone());
        tasks.spawn(async move { world.try_login(&actor, &actor.user.password).await.unwrap() });
    }
    tasks.join_all().await
}

/// The user's live sessions, as the table has them.
async fn live(world: &World, actor: &Actor) -> BTreeSet<String> {
    let user = world.user(actor).await.unwrap();
    let tenant = world.store.tenant(&user.tenant).await.unwrap().unwrap();
    let of = SessionsOf::user(&user, tenant.session_epoch, world.clock.now());
    let live = world.store.live_sessions(&of).await.unwrap();
    live.into_iter().map(|session| session.id.as_str().to_owned()).collect()
}

/// Those of the answers that logged in.
fn granted(actor: &Actor, answers: &[Answer]) -> Vec<Login> {
    answers.iter().filter_map(|answer| Login::from_answer(actor, answer).ok()).collect()
}

fn verdicts(answers: &[Answer]) -> BTreeMap<(i64, &str), usize> {
    answers.iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry(answer.verdict()).or_default() += 1;
        counts
    })
}

/// That the tokens of these logins open what their sessions' being live says, and nothing else.
async fn assert_tokens_follow(world: &World, actor: &Actor, logins: &[Login]) {
    let live = live(world, actor).await;
    for login in logins {
        let is_live = live.contains(&login.session);
        assert_eq!(world.opens(login).await.unwrap(), is_live, "{}", login.session);
        let refreshed = world.refresh(login).await.unwrap();
        let expected = if is_live { (200, "NONE") } else { (401, "SESSION_TERMINATED") };
        assert_eq!(refreshed.verdict(), expected);
    }
}

async fn change_user(world: &World, actor: &Actor, change: impl FnOnce(&mut User)) {
    let user = world.user(actor).await.unwrap();
    let mut changed = User { sequence: user.sequence + 1, ..user.clone() };
    change(&mut changed);
    world.store.replace_user(&user, &changed).await.unwrap();
}

/// Ends every session of the demo bank: suspended once, they stay dead.
async fn end_tenants_sessions(world: &World) {
    world.change_tenant(NORDIC, true, None).await.unwrap();
    world.change_tenant(NORDIC, false, None).await.unwrap();
}

async fn ask(world: &World, by: &Login, method: Method, path: &str) -> Answer {
    world.request(&method, path, &by.actor.tenant.tenant_id, Some(&by.token), None).await.unwrap()
}

/// All pages of a list, in its order.
async fn listed(world: &World, by: &Login, path: &str, limit: usize) -> Vec<Value> {
    let mut sessions = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ask(world, by, Method::GET, &format!("{path}?limit={limit}{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let found = page.body["data"]["sessions"].as_array().unwrap();
        assert!(found.len() <= limit);
        sessions.extend(found.iter().cloned());
        match page.data("nextCursor") {
            "" => return sessions,
            next => cursor = format!("&cursor={next}"),
        }
    }
}

/// A user's sessions, by each path that names them: as they are, by the other customer collection, and
/// by the organization.
pub(crate) fn paths(actor: &Actor) -> [String; 3] {
    let own = actor.sessions();
    let organization = format!(
        "/api/v2.1/admin/organization/{}/users/{}/sessions",
        actor.user.organization_id, actor.user.user_id
    );
    [own.clone(), own.replace("/individual/", "/organization/"), organization]
}

/// How sessions are seen and ended by such a path: all of them, one, and the end of all.
pub(crate) fn routes(path: &str, session: &str) -> [(Method, String); 3] {
    [
        (Method::GET, path.to_owned()),
        (Method::GET, format!("{path}/{session}")),
        (Method::DELETE, path.to_owned()),
    ]
}

fn ids(sessions: &[Value]) -> Vec<String> {
    sessions.iter().map(|session| session["sessionId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_logins_at_once_leave_a_single_session() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 1, WhenFull::Single).await;
    let marcus = world.actor(MARCUS).unwrap();
    let answers = logins(&world, &marcus, 20).await;
    // Each was the newest when it was kept.
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 20)]));
    assert_eq!(live(&world, &marcus).await.len(), 1);
    assert_tokens_follow(&world, &marcus, &granted(&marcus, &answers)).await;
    assert_eq!(world.user(&marcus).await.unwrap().sessions_revision, 20);
    // Nobody else's sessions are touched by it.
    let ingrid = world.login(&world.actor(INGRID).unwrap()).await.unwrap();
    world.login(&marcus).await.unwrap();
    assert!(world.opens(&ingrid).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_logins_at_once_leave_as_many_sessions_as_there_may_be() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 3, WhenFull::Oldest).await;
    let marcus = world.actor(MARCUS).unwrap();
    let answers = logins(&world, &marcus, 20).await;
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 20)]));
    assert_eq!(live(&world, &marcus).await.len(), 3);
    assert_tokens_follow(&world, &marcus, &granted(&marcus, &answers)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_logins_at_once_as_many_get_in_as_there_is_room_for() {
    let world = Arc::new(World::start().await.unwrap());
    limit(&world, 5, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let answers = logins(&world, &marcus, 50).await;
    assert_eq!(verdicts(&answers), BTreeMap::from([((200, "NONE"), 5), ((409, "SESSION_LIMIT"), 45)]));
    // docs/design/security.md#rule-24: a login that got none is told of without a session.
    let told = world.audit.events();
    assert!(told.iter().all(|event| (event["outcome"] == "SUCCESS") == event["session"].is_string()));
    let granted = granted(&marcus, &answers);
    assert_tokens_follow(&world, &marcus, &granted).await;
    // One that ends makes room for one, as often as it is done.
    for login in &granted {
        assert_eq!(world.logout(login).await.unwrap().status, 200);
        assert!(world.login(&marcus).await.is_ok());
        let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
        assert_eq!(refused.verdict(), (409, "SESSION_LIMIT"));
    }
    assert_eq!(live(&world, &marcus).await.len(), 5);
}

#[tokio::test]
async fn the_oldest_goes_first() {
    let world = World::start().await.unwrap();
    limit(&world, 3, WhenFull::Oldest).await;
    let marcus = world.actor(MARCUS).unwrap();
    let mut kept = Vec::new();
    for _ in 0..6 {
        world.clock.advance(Duration::from_millis(1));
        kept.push(world.login(&marcus).await.unwrap());
        // Refreshing makes nothing younger.
        kept[0] = match world.refreshed(&kept[0]).await {
            Ok(refreshed) => refreshed,
            Err(_) => kept[0].clone(),
        };
        let newest: BTreeSet<_> = kept.iter().rev().take(3).map(|login| login.session.clone()).collect();
        assert_eq!(live(&world, &marcus).await, newest);
    }
    assert_tokens_follow(&world, &marcus, &kept).await;
    // Over HTTP, an evicted session is one that ended like any other.
    let gone = ask(&world, &kept[0], Method::GET, &marcus.sessions()).await;
    assert_eq!(gone.verdict(), (401, "INVALID_TOKEN"));
    assert!(!world.session(&kept[0]).await.unwrap().ended.unwrap().reuse);
}

// docs/design/security.md#rule-13, #rule-15
#[tokio::test]
async fn what_is_dead_takes_no_room() {
    let world = World::start().await.unwrap();
    limit(&world, 1, WhenFull::Reject).await;
    let marcus = world.actor(MARCUS).unwrap();
    let full = async || {
        world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict() == (409, "SESSION_LIMIT")
    };

    let ended = world.login(&marcus).await.unwrap();
    assert!(full().await);
    world.logout(&ended).await.unwrap();
    // Idle: to the instant.
    world.login(&marcus).await.unwrap();
    world.clock.advance(8 * HOUR - Duration::from_millis(1));
    assert!(full().await);
    world.clock.advance(Duration::from_millis(1));
    // Absolute: 24 hours after login, however often it was refreshed.
    let mut kept = world.login(&marcus).await.unwrap();
    for _ in 0..3 {
        world.clock.advance(7 * HOUR);
        kept = world.refreshed(&kept).await.unwrap();
    }
    world.clock.advance(3 * HOUR - Duration::from_millis(1));
    assert!(full().await);
    world.clock.advance(Duration::from_millis(1));
    // By an epoch: all of the user's sessions ended at once.
    let last = world.login(&marcus).await.unwrap();
    assert!(full().await);
    assert_eq!(ask(&world, &last, Method::DELETE, &marcus.sessions()).await.status, 200);
    world.login(&marcus).await.unwrap();
    assert!(full().await);
    // Or all of the tenant's.
    end_tenants_sessions(&world).await;
    world.login(&marcus).await.unwrap();
    assert!(full().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_comes_later_counts_what_was_there_before() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.max_attempts = 100).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut earlier = granted(&marcus, &logins(&world, &marcus, 70).await);
    assert_eq!(earlier.len(), 70);
    world.clock.advance(Duration::from_secs(1));
    earlier.push(world.login(&marcus).await.unwrap());
    limit(&world, 71, WhenFull::Reject).await;
    let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(refused.verdict(), (409, "SESSION_LIMIT"));
    assert_eq!(live(&world, &marcus).await.len(), 71);
    // More than one transaction takes: 69 end, 19 of them before it.
    limit(&world, 3, WhenFull::Oldest).await;
    let newest = world.login(&marcus).await.unwrap();
    let left = live(&world, &marcus).await;
    assert_eq!(left.len(), 3);
    assert!(left.contains(&newest.session) && left.contains(&earlier[70].session));
    earlier.push(newest);
    assert_tokens_follow(&world, &marcus, &earlier).await;
}

// docs/design/security.md#rule-7: a right password that a limit refuses is no failure, and forgives none.
#[tokio::test]
async fn a_refused_login_gives_its_place_back() {
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

// docs/design/security.md#rule-9: whoever may not log in learns nothing of the limit, neither by the answer nor by what is
// asked of the table.
#[tokio::test]
async fn a_limit_costs_a_query_and_shows_only_to_who_knows_the_password() {
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
    // Somebody else's failure: what a right password then forgives costs a write.
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
}

// However logins, logouts, refreshes and a change of password interleave: never more than the limit,
// and what the tokens open is what the table says.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_beside_logouts_refreshes_and_a_change_of_password() {
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

// docs/design/security.md#rule-15, storage "Epoch, not time"
#[tokio::test(flavor = "multi_thread")]
async fn a_login_held_over_the_end_of_all_sessions_does_not_survive_it() {
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
        // Where there is a limit, it is known before the session is written, and nothing is evicted.
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
async fn an_end_of_all_sessions_beside_refreshes_leaves_the_excepted_one() {
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
async fn ending_all_counts_once_and_ends_no_password() {
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

    // An administrator's own session is none of another's: `except` spares nothing.
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let again = world.login(&marcus).await.unwrap();
    let all = ask(&world, &admin, Method::DELETE, &format!("{path}?except=current")).await;
    assert_eq!((all.status, &all.body["data"]["sessionsTerminated"]), (200, &json!(2)));
    assert!(!world.opens(&first).await.unwrap() && !world.opens(&again).await.unwrap());
    assert!(world.opens(&admin).await.unwrap());
    let none = ask(&world, &admin, Method::DELETE, &path).await;
    assert_eq!((none.status, &none.body["data"]["sessionsTerminated"]), (200, &json!(0)));

    // All of one's own: the token that asked for it opens nothing from then on.
    let own = admin.actor.sessions();
    let all = ask(&world, &admin, Method::DELETE, &own).await;
    assert_eq!((all.status, &all.body["data"]["sessionsTerminated"]), (200, &json!(1)));
    assert_eq!(ask(&world, &admin, Method::DELETE, &own).await.verdict(), (401, "INVALID_TOKEN"));
    assert!(world.login(&marcus).await.is_ok());
}

#[tokio::test]
async fn a_list_shows_what_is_live() {
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

    // docs/design/security.md#rule-13: what is over is over, whether its item is there or not.
    world.clock.advance(8 * HOUR - Duration::from_millis(1));
    let current = world.refreshed(&second).await.unwrap();
    assert_eq!(listed(&world, &current, &marcus.sessions(), 20).await.len(), 2);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(
        ids(&listed(&world, &current, &marcus.sessions(), 20).await),
        std::slice::from_ref(&second.session)
    );
    assert_eq!(ask(&world, &current, Method::GET, &first.path()).await.text, absent.text);
    // docs/design/security.md#rule-15: and so is what an epoch ended.
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
async fn pages_have_every_session_once() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.max_attempts = 100).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let held = granted(&marcus, &logins(&world, &marcus, 45).await);
    // A third of them ended: a page has as many as it may nevertheless.
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

// Among very many dead ones the work of one call ends, and the cursor goes on from there.
#[tokio::test]
async fn a_page_looks_at_so_many_and_no_more() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let template = world.session(&login).await.unwrap();
    let ended = doorward::domain::Ended { at: world.clock.now(), reuse: false };
    for index in 0..1_100_u32 {
        let mut random = [0; 16];
        random[..4].copy_from_slice(&index.to_be_bytes());
        let id = doorward::domain::SessionId::from_random(random);
        let session = doorward::domain::Session { id, ended: Some(ended), ..template.clone() };
        world.store.insert_session(&doorward::port::NewSession::alone(&session)).await.unwrap();
    }
    world.calls.take();
    let first = ask(&world, &login, Method::GET, &marcus.sessions()).await;
    let queries = world.calls.take().iter().filter(|call| *call == "Query").count();
    assert_eq!(queries, 10);
    assert_eq!(first.body["data"]["sessions"], json!([]));
    let path = format!("{}?cursor={}", marcus.sessions(), first.data("nextCursor"));
    let second = ask(&world, &login, Method::GET, &path).await;
    assert_eq!(ids(second.body["data"]["sessions"].as_array().unwrap()), [login.session]);
    assert_eq!(second.data("nextCursor"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_lose_and_repeat_nothing_beside_logins_and_logouts() {
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
async fn a_cursor_opens_one_list_and_only_whole() {
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
    // Whoever may see the list may go on with it.
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
    // Nor does one of another tenant, for a user of the same id there.
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

// docs/design/security.md#rule-17: a cursor that another process made under a root key which this one has not heard of.
#[tokio::test]
async fn a_cursor_survives_a_rotation_of_the_root_key() {
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

    let stale = world.keys(NORDIC).await.unwrap();
    assert_eq!(stale.root_version(), 2);
    let place = doorward::token::PageCursor {
        tenant: &TenantId::parse(NORDIC).unwrap(),
        user: &UserId::parse(&marcus.user.user_id).unwrap(),
        collection: Collection::Individual,
        owner: marcus.user.customer_id.as_deref().unwrap(),
    };
    let smallest = doorward::domain::SessionId::parse("0").unwrap();
    let new = place.make(&smallest, &stale).unwrap();
    let found = ask(&world, &login, Method::GET, &format!("{path}?cursor={new}")).await;
    assert_eq!((found.status, found.body["data"]["sessions"].as_array().unwrap().len()), (200, 2));
    // A process that starts with both goes on with the old one's.
    world.start_another(doorward::route::Function::ListSessions).unwrap();
    let path = format!("{path}?cursor={}", old.data("nextCursor"));
    let found = ask(&world, &login, Method::GET, &path).await;
    assert_eq!((found.status, found.body["data"]["sessions"].as_array().unwrap().len()), (200, 1));
}

// docs/design/security.md#rule-15, #rule-20, #rule-21: docs/design/contract.md#authorization.
#[tokio::test]
async fn who_may_see_and_end_whose_sessions() {
    let world = World::start().await.unwrap();
    let (marcus, ingrid) = (world.actor(MARCUS).unwrap(), world.actor(INGRID).unwrap());
    let tenant_admin = world.actor("second.admin@nordic.example").unwrap();
    change_user(&world, &tenant_admin, |user| user.roles = vec![Role::TenantAdmin]).await;
    let customer = world.login(&marcus).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let other_admin = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();
    let above = world.login(&tenant_admin).await.unwrap();
    let foreign = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let theirs = world.login(&ingrid).await.unwrap();
    let [own, other_customer_path, by_organization] = paths(&marcus);
    let organization = |actor: &Actor| paths(actor)[2].clone();
    let nobody = marcus.sessions().replace(&marcus.user.user_id, "nobody");
    let elsewhere = marcus.sessions().replace("/individual/", "/individual/x");
    let wrong_organization = organization(&marcus).replace("/organization/", "/organization/x");

    let (hidden, forbidden) = ((404, "USER_NOT_FOUND"), (403, "FORBIDDEN"));
    let ok = (200, "");
    let rows = [
        ("a user, itself", &customer, own, ok),
        ("by the other customer path", &customer, other_customer_path, ok),
        ("a user, another", &customer, ingrid.sessions(), hidden),
        ("a user, nobody", &customer, nobody.clone(), hidden),
        ("a user, by another customer's path", &customer, elsewhere.clone(), hidden),
        ("a user on the admin route, itself", &customer, organization(&marcus), forbidden),
        ("a user on the admin route, another", &customer, organization(&admin.actor), forbidden),
        ("an administrator, its organization's customer", &admin, marcus.sessions(), ok),
        ("by the organization", &admin, by_organization, ok),
        ("by another organization", &admin, wrong_organization, hidden),
        ("by another customer", &admin, elsewhere, hidden),
        ("an administrator, itself", &admin, admin.actor.sessions(), ok),
        ("an administrator, nobody", &admin, nobody.clone(), hidden),
        ("an administrator, one above it", &admin, above.actor.sessions(), hidden),
        ("an administrator, another organization's", &admin, other_admin.actor.sessions(), hidden),
        ("another organization's administrator", &other_admin, marcus.sessions(), hidden),
        ("the same by the organization", &other_admin, organization(&marcus), hidden),
        ("a tenant's administrator, a customer", &above, marcus.sessions(), ok),
        ("a tenant's administrator, another organization's", &above, other_admin.actor.sessions(), ok),
        ("a tenant's administrator, itself", &above, above.actor.sessions(), ok),
        ("another tenant's administrator", &foreign, marcus.sessions(), hidden),
        ("the same, by its own organization", &foreign, organization(&marcus), hidden),
    ];
    let text = |answer: &Answer, hidden: &mut BTreeSet<String>| {
        if answer.status == 404 {
            hidden.insert(answer.text.clone());
        }
    };
    let (mut lists, mut sessions) = (BTreeSet::new(), BTreeSet::new());
    for (who, by, path, expected) in &rows {
        // The sessions of the path's user, whoever that is: its one login of before.
        let of = |login: &&&Login| path.contains(&format!("/users/{}/", login.actor.user.user_id));
        let all = [&customer, &theirs, &admin, &other_admin, &above];
        let session = all.iter().find(of).map_or("none", |login| &login.session);
        let [list, one, end] = routes(path, session);
        let list = ask(&world, by, list.0, &list.1).await;
        assert_eq!(list.verdict(), *expected, "{who}: {}", list.text);
        text(&list, &mut lists);
        let one = ask(&world, by, one.0, &one.1).await;
        let seen = expected.0 != 200
            || ids(list.body["data"]["sessions"].as_array().unwrap()).contains(&session.to_owned());
        match expected.0 {
            404 => assert_eq!(one.verdict(), (404, "SESSION_NOT_FOUND"), "{who}"),
            200 if !seen => assert_eq!(one.verdict(), (404, "SESSION_NOT_FOUND"), "{who}"),
            _ => assert_eq!(one.verdict(), *expected, "{who}: {}", one.text),
        }
        text(&one, &mut sessions);
        let refused = expected.0 != 200;
        if refused {
            let end = ask(&world, by, end.0, &end.1).await;
            assert_eq!(end.verdict(), *expected, "{who}: {}", end.text);
            text(&end, &mut lists);
        }
    }
    assert_eq!((lists.len(), sessions.len()), (1, 1), "what may not be seen is what does not exist");
    for login in [&customer, &theirs, &admin, &other_admin, &above] {
        assert!(world.opens(login).await.unwrap(), "and nothing ended by a refusal");
    }
    // A token of one tenant is none in another.
    for method in [Method::GET, Method::DELETE] {
        let path = marcus.sessions();
        let answer = world.request(&method, &path, NORDIC, Some(&foreign.token), None).await.unwrap();
        assert_eq!(answer.verdict(), (403, "TENANT_MISMATCH"));
        let without = world.request(&method, &path, NORDIC, None, None).await.unwrap();
        assert_eq!(without.verdict(), (401, "INVALID_TOKEN"));
    }
    // A change of its roles ends an administrator's sessions; the next ones have the roles of then.
    change_user(&world, &admin.actor, |user| user.roles = vec![Role::User]).await;
    assert_eq!(ask(&world, &admin, Method::GET, &marcus.sessions()).await.verdict(), (401, "INVALID_TOKEN"));
    // And those who may, may end.
    for (by, of) in [(&above, &other_admin), (&customer, &customer), (&above, &above)] {
        assert_eq!(ask(&world, by, Method::DELETE, &of.actor.sessions()).await.status, 200);
        assert!(!world.opens(of).await.unwrap());
    }
}

// docs/design/security.md#rule-21
#[tokio::test]
async fn a_password_that_must_change_opens_no_sessions() {
    let world = World::start().await.unwrap();
    let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    for actor in [&marcus, &admin] {
        let login = world.login(actor).await.unwrap();
        change_user(&world, actor, |user| user.change_required = true).await;
        for (method, path) in [
            (Method::GET, actor.sessions()),
            (Method::GET, login.path()),
            (Method::GET, marcus.sessions()),
            (Method::DELETE, actor.sessions()),
            (Method::DELETE, format!("{}?except=current", actor.sessions())),
        ] {
            assert_eq!(ask(&world, &login, method, &path).await.verdict(), (403, "FORBIDDEN"), "{path}");
        }
        assert_eq!(world.logout(&login).await.unwrap().status, 200);
    }
}

// A path shows what it can end: sessions of the other customer collection are that one's.
#[tokio::test]
async fn a_list_has_what_its_path_can_end() {
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
    // All of a user's sessions are all, by whichever path.
    let ended = ask(&world, &logins[1], Method::DELETE, &organization.sessions()).await;
    assert_eq!(ended.body["data"]["sessionsTerminated"], json!(2));
    // A user that logs in through one alone has nothing under the other.
    change_user(&world, &individual, |user| user.customer_kind = Some(Collection::Organization)).await;
    let again = world.login(&organization).await.unwrap();
    let refused = ask(&world, &again, Method::GET, &individual.sessions()).await;
    assert_eq!(refused.verdict(), (404, "USER_NOT_FOUND"));
}

// storage, "Cost of one request"
#[tokio::test]
async fn what_the_routes_ask_of_the_table() {
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

// docs/design/security.md#rule-15: one's own new password keeps the session that set it, within a limit too.
#[tokio::test]
async fn a_session_that_was_carried_over_counts() {
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
