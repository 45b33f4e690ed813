//! Faults: failed dependencies, lost responses, dead processes and malformed requests.

use doorward::route::Function;
use e2e::{
    NORDIC, World, as_tenant, event,
    fault_proxy::{Effect, Fault, Operation},
};
use http::Method;
use serde_json::json;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

// A failed dependency never causes a 401 for correct credentials, and never a 200.
#[tokio::test]
async fn storage_failure_returns_503_with_retry_after() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    world.stop_dynamodb().await;
    let answers = [
        world.try_login(&login.actor, &login.actor.user.password).await.unwrap(),
        world.refresh(&login).await.unwrap(),
        world.logout(&login).await.unwrap(),
        world.reset(&login, &json!({})).await.unwrap(),
        world.update(&login, &login.actor.user.user_id, &json!({})).await.unwrap(),
    ];
    for answer in answers {
        assert_eq!(answer.verdict(), (503, "UNAVAILABLE"));
        assert_eq!(answer.header("retry-after"), "2");
        assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
}

// An attempt whose process died keeps its slot and counts as a failure.
#[tokio::test]
async fn attempts_of_a_dead_process_count_as_failures() {
    use doorward::{
        domain::{AttemptBudget, AttemptId, Reservation, TenantId, UserId},
        port::Clock,
        store::AttemptKey,
    };
    let world = World::start().await.unwrap();
    let actor = world.actor(MARCUS).unwrap();
    let (tenant, user) =
        (TenantId::parse(&actor.tenant.tenant_id).unwrap(), UserId::parse(&actor.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    for index in 0..5 {
        let id = AttemptId::new(world.clock.now(), [index; 16]);
        let key = AttemptKey { tenant: &tenant, user: &user, device: None, id };
        let first = world.store.reserve_attempt(&key, budget, world.clock.now()).await.unwrap();
        assert!(matches!(&first, Reservation::Granted(slot) if slot.seen.is_empty()), "{first:?}");
        // A repeated write recognises its own slot.
        assert_eq!(world.store.reserve_attempt(&key, budget, world.clock.now()).await.unwrap(), first);
    }
    // The slots are in use and nothing has failed yet, so the client may retry after one second.
    let busy = world.try_login(&actor, &actor.user.password).await.unwrap();
    assert_eq!((busy.verdict(), busy.header("retry-after")), ((429, "RATE_LIMITED"), "1"));
    assert_eq!(world.audit.last()["reason"], "BUSY");
    world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(
        world.try_login(&actor, &actor.user.password).await.unwrap().verdict(),
        (401, "ACCOUNT_LOCKED")
    );
    world.clock.advance(std::time::Duration::from_secs(1_740));
    assert!(world.login(&actor).await.is_ok());
}

// A server error does not count as a failure, so that retries never lock the user out.
#[tokio::test]
async fn attempts_with_an_internal_error_release_their_slot() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let login = world.login(&actor).await.unwrap();
    world.passwords.set_broken(true);
    for _ in 0..6 {
        assert_eq!(world.try_login(&actor, &actor.user.password).await.unwrap().verdict(), (500, "INTERNAL"));
        let body = json!({ "username": "x", "currentPassword": actor.user.password });
        let refused = world.update(&login, &actor.user.user_id, &body).await.unwrap();
        assert_eq!(refused.verdict(), (500, "INTERNAL"));
    }
    world.passwords.set_broken(false);
    world.clock.advance(std::time::Duration::from_secs(61));
    assert!(world.login(&actor).await.is_ok());
}

// A repeated write of a new session must not undo a logout.
#[tokio::test]
async fn late_repetition_of_a_session_write_does_not_revive_the_session() {
    use doorward::store::NewSession;
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let written = world.session(&login).await.unwrap();
    world.logout(&login).await.unwrap();
    assert!(
        world.store.insert_session(&NewSession::alone(&written)).await.is_ok(),
        "the write must recognise its own item"
    );
    assert!(!world.opens(&login).await.unwrap());
    let other = doorward::domain::Session { nonce: doorward::domain::Nonce([7; 32]), ..written };
    assert!(world.store.insert_session(&NewSession::alone(&other)).await.is_err());
}

// A rotation that is sent twice, because the response was lost, counts once.
#[tokio::test]
async fn repeated_session_rotation_recognises_itself_without_grace_period() {
    use doorward::{
        domain::AttemptId,
        port::Clock,
        store::{Rotated, Rotation},
    };
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let session = world.session(&login).await.unwrap();
    let now = world.clock.now();
    let rotation = Rotation {
        tenant: &session.tenant,
        user: &session.user,
        session: &session.id,
        nonce: session.nonce,
        generation: 0,
        key_version: session.key_version,
        id: AttemptId::new(now, [1; 16]),
        now,
        idle_expires_at: session.idle_expires_at,
        grace: std::time::Duration::ZERO,
    };
    for _ in 0..3 {
        let Rotated::Moved(moved) = world.store.rotate_session(&rotation).await.unwrap() else {
            panic!("not moved")
        };
        assert_eq!(moved.generation, 1);
    }
    let another = Rotation { id: AttemptId::new(now, [2; 16]), ..rotation };
    assert!(matches!(world.store.rotate_session(&another).await.unwrap(), Rotated::Kept(_)));
}

// docs/design/storage.md#consistency: all tries of a transaction have the same request token. After a lost answer and a
// conflict, the third try of a committed change must not make the change again, and must not fail.
#[tokio::test]
async fn change_is_made_once_if_its_answer_is_lost_before_a_conflict() {
    for (change, messages, epochs) in [
        ("code", 1, 0),
        ("reset", 1, 1),
        ("own password", 1, 1),
        ("end", 0, 1),
        ("password by an administrator", 1, 1),
    ] {
        let world = World::start().await.unwrap();
        let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
        let (login, admin) = (world.login(&marcus).await.unwrap(), world.login(&admin).await.unwrap());
        let (id, epoch) = (&marcus.user.user_id, world.user(&marcus).await.unwrap().session_epoch);
        let lost = world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer));
        let conflict = world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::Conflict));
        let answer = match change {
            "code" => {
                let path = format!("/v2/users/{id}/password_reset");
                let event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({}))));
                world.send(Function::ResetLogin, &event.to_string()).await
            }
            "reset" => world.reset(&admin, &json!({ "userId": id })).await,
            "own password" => {
                let body = json!({ "password": NEW_PASSWORD, "currentPassword": marcus.user.password });
                world.update(&login, id, &body).await
            }
            "end" => {
                let event = event(&Method::DELETE, &marcus.sessions(), NORDIC, Some(&login.token), None);
                world.send(Function::DeleteSession, &event.to_string()).await
            }
            _ => world.update(&admin, id, &json!({ "password": NEW_PASSWORD })).await,
        };
        let answer = answer.unwrap();
        assert_eq!((lost.applied(), conflict.applied()), (1, 1), "{change}");
        assert_eq!(answer.status, 200, "{change}: {}", answer.text);
        assert_eq!(world.outbox(NORDIC, id).await.unwrap().len(), messages, "{change}");
        assert_eq!(world.user(&marcus).await.unwrap().session_epoch, epoch + epochs, "{change}");
    }
}

// docs/design/contract.md#every-request: no input causes a 5xx.
#[tokio::test]
async fn malformed_requests_return_a_4xx_status() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let good =
        event(&Method::POST, &actor.sessions(), "tenant_cloudvault", None, Some(&actor.credentials("x")));
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut event = good.clone();
        change(&mut event);
        event.to_string()
    };
    let bodies = [
        json!("{"),
        json!(""),
        json!(null),
        json!("\u{0}"),
        json!("[]"),
        json!("{}{}"),
        json!(format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000))),
        json!("x".repeat(100_000)),
        json!(r#"{"username":{},"password":[],"tenantKey":1,"tenantSecret":true}"#),
        json!(r#"{"username":"a","username":"b"}"#),
    ];
    let mut events: Vec<String> =
        bodies.iter().map(|body| with(&|event| event["body"] = body.clone())).collect();
    for body in ["!!!", "AAA", "////", "AA=A", ""] {
        events.push(with(&|event| {
            event["body"] = json!(body);
            event["isBase64Encoded"] = json!(true);
        }));
    }
    for path in [
        "",
        "/",
        "//",
        "/api v2",
        "/%ff",
        "/api/v2.1/admin/organization/\u{1F600}/users/\n/sessions",
        "no-slash",
    ] {
        events.push(with(&|event| event["rawPath"] = json!(path)));
    }
    let long = "x".repeat(3_000);
    for (name, value) in [
        ("x-tenant-id", long.as_str()),
        ("x-tenant-id", "a,b"),
        ("content-type", "text/xml"),
        ("content-type", ";;;"),
        ("authorization", long.as_str()),
    ] {
        events.push(with(&|event| event["headers"][name] = json!(value)));
    }
    events.push(with(&|event| event["headers"] = json!({})));
    events.push(with(&|event| event["headers"]["bad header\n"] = json!("x")));
    events.push(with(&|event| {
        event["requestContext"]["http"]["sourceIp"] = json!("not an address");
    }));
    events.push(with(&|event| {
        event["requestContext"]["http"]["method"] = json!("BREW");
    }));
    events.push(with(&|event| {
        event["rawPath"] = json!(format!("/api/v2.1/admin/organization/{long}/users/{long}/sessions"));
    }));
    events.push("{}".into());
    events.push("[]".into());
    events.push("null".into());
    for event in &events {
        for function in Function::all() {
            let answer = world.send(function, event).await.unwrap();
            assert!((400..500).contains(&answer.status), "{function:?} {} {event:.300}", answer.status);
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    assert_eq!(
        world.passwords.verified(),
        2,
        "only the requests with an unusual address must verify a password"
    );
}

#[tokio::test]
async fn named_stage_is_removed_from_the_path() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let path = format!("/live{}", actor.sessions());
    let body = actor.credentials(&actor.user.password);
    let mut event = event(&Method::POST, &path, &actor.tenant.tenant_id, None, Some(&body));
    assert_eq!(world.send(Function::CreateSession, &event.to_string()).await.unwrap().status, 404);
    event["requestContext"]["stage"] = json!("live");
    assert_eq!(world.send(Function::CreateSession, &event.to_string()).await.unwrap().status, 200);
}
