//! The audit log: the content of its events, the detection of modified logs, and the anchors, which
//! store the chain heads outside of the log (docs/design/security.md#rule-24).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use doorward::{
    audit::{FaultKind, Line, Partition, Report, Scope},
    domain::{Denial, Failure, Limit, TenantId, TokenFault, UserStatus},
    port::Clock,
    route::Function,
    usecase::verify_audit::{VerifyError, verify},
};
use e2e::{
    Actor, NORDIC, World,
    audit::{batch, packed},
    delivery::Fate,
};
use http::Method;
use serde_json::{Value, json};
use strum::VariantNames as _;
use tokio::task::JoinSet;

use crate::{ADMIN, CUSTOMER, MARCUS, NORDIC_ADMIN};

/// Verifies the log against the anchors, at a time when all events must be anchored.
async fn verified(world: &World, lines: &[String]) -> Report {
    let later = world.clock.now().checked_add(Duration::from_secs(24 * 60 * 60)).unwrap();
    verify(lines.join("\n").as_bytes(), &world.store, Scope::default(), later).await.unwrap()
}

fn kinds(report: Report) -> Vec<FaultKind> {
    report.faults.into_iter().map(|fault| fault.kind).collect()
}

async fn send(world: &World, function: Function, event: &Value) -> Value {
    world.send(function, &event.to_string()).await.unwrap();
    world.audit.last()
}

// docs/design/security.md#rule-24
#[tokio::test]
async fn audit_event_contains_all_known_facts_of_a_decision() {
    let world = World::start().await.unwrap();
    let admin = world.actor(ADMIN).unwrap();
    let login = world.login(&admin).await.unwrap();
    let told = world.audit.last();
    let members: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "audit",
            "time",
            "tenant",
            "request_id",
            "function",
            "action",
            "user",
            "session",
            "ip",
            "outcome",
            "status",
            "milliseconds",
            "instance",
            "chain",
            "sequence",
            "previous",
            "_aws",
            "Requests",
            "Latency",
            "Succeeded",
            "ColdStart",
            "hash",
        ]
    );
    for (name, expected) in [
        ("audit", json!(1)),
        ("time", json!("2030-03-17T17:46:40.974Z")),
        ("tenant", json!(admin.tenant.tenant_id)),
        ("request_id", json!("e2e-request")),
        ("function", json!("create-session")),
        ("action", json!("session.create")),
        ("user", json!(admin.user.user_id)),
        ("ip", json!("127.0.0.1")),
        ("outcome", json!("SUCCESS")),
        ("status", json!(200)),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }
    assert_ne!(told["session"], json!(login.session), "a digest, not the id");

    world.refresh(&login).await.unwrap();
    let refreshed = world.audit.last();
    assert_eq!(refreshed["session"], told["session"]);
    assert_eq!((&refreshed["caller"], &refreshed["caller_session"]), (&told["user"], &told["session"]));
    assert_ne!(refreshed["chain"], told["chain"], "two processes must write two chains");
    assert_eq!(refreshed["sequence"], 1);

    let nordic = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let body = json!({ "userId": marcus.user.user_id, "reason": "asked by phone" });
    world.reset(&nordic, &body).await.unwrap();
    let reset = world.audit.last();
    assert_eq!((&reset["admin_reason"], &reset["action"]), (&json!("asked by phone"), &json!("login.reset")));
    assert_eq!(
        (&reset["user"], &reset["caller"]),
        (&json!(marcus.user.user_id), &json!(nordic.actor.user.user_id))
    );

    let keys = world.outbox_keys(NORDIC, &marcus.user.user_id).await.unwrap();
    for (fate, outcome, reason, count) in [
        (Fate::Failed, "UNAVAILABLE", Value::Null, "Failed"),
        (Fate::Refused, "REFUSED", Value::Null, "Refused"),
        (Fate::Taken, "SUCCESS", json!("GONE"), "Succeeded"),
    ] {
        world.courier.set_fate(fate);
        world.deliver_all(&keys).await;
        let delivered = world.audit.last();
        assert_eq!((&delivered["outcome"], &delivered["reason"]), (&json!(outcome), &reason));
        assert_eq!(
            (&delivered["function"], &delivered["action"]),
            (&json!("deliver-notification"), &json!("message.deliver"))
        );
        assert_eq!(
            (delivered["tenant"] == NORDIC, &delivered[count]),
            (reason.is_null(), &json!(1)),
            "{delivered}"
        );
    }
}

// docs/design/security.md#rule-9 and #rule-24
#[tokio::test]
async fn audit_log_contains_the_reason_of_a_failed_login_and_the_response_does_not() {
    let world = World::start().await.unwrap();
    let actor = world.actor(CUSTOMER).unwrap();
    let wrong = |change: &dyn Fn(&mut Actor)| {
        let mut wrong = actor.clone();
        change(&mut wrong);
        wrong
    };
    let user = world.user(&actor).await.unwrap();
    let right = actor.user.password.clone();
    let mut answers = BTreeSet::new();
    for (actor, password, reason) in [
        (wrong(&|it| it.user.user_id = "nobody".into()), right.as_str(), "UNKNOWN_USER"),
        (actor.clone(), "not the password", "WRONG_PASSWORD"),
        (wrong(&|it| it.user.customer_id = Some("another".into())), &right, "WRONG_PATH"),
        (wrong(&|it| it.user.username = "somebody@example.com".into()), &right, "WRONG_USERNAME"),
    ] {
        let answer = world.try_login(&actor, password).await.unwrap();
        let told = world.audit.last();
        assert_eq!((&told["outcome"], &told["reason"]), (&json!("AUTHENTICATION"), &json!(reason)));
        assert_eq!(told["Refused"], 1);
        answers.insert((answer.status, answer.without_attempts().to_string()));
    }
    let disabled =
        doorward::domain::User { status: UserStatus::Disabled, sequence: user.sequence + 1, ..user.clone() };
    world.store.replace_user(&user, &disabled).await.unwrap();
    let answer = world.try_login(&actor, &right).await.unwrap();
    assert_eq!(world.audit.last()["reason"], "USER_DISABLED");
    answers.insert((answer.status, answer.without_attempts().to_string()));
    assert_eq!(answers.len(), 1, "the responses differ: {answers:?}");
}

#[tokio::test]
async fn audit_event_names_a_tenant_only_after_its_record_was_found() {
    let world = World::start().await.unwrap();
    let admin = world.actor(ADMIN).unwrap();
    let event = |tenant: &str, bearer: Option<&str>, body: &Value| {
        e2e::event(&Method::POST, &admin.sessions(), tenant, bearer, Some(body))
    };
    let credentials = admin.credentials("not the password");
    let told = send(&world, Function::CreateSession, &event("nobody", None, &credentials)).await;
    assert_eq!((&told["tenant"], &told["claimed_tenant"]), (&Value::Null, &json!("nobody")));
    assert_eq!(told["outcome"], "INVALID_TENANT_CREDENTIALS");
    let told = send(&world, Function::CreateSession, &event(&admin.tenant.tenant_id, None, &json!({}))).await;
    assert_eq!(
        (&told["tenant"], &told["reason"]),
        (&Value::Null, &json!("username password tenantKey tenantSecret"))
    );
    let told =
        send(&world, Function::CreateSession, &event(&admin.tenant.tenant_id, None, &credentials)).await;
    assert_eq!((&told["tenant"], &told["claimed_tenant"]), (&json!(admin.tenant.tenant_id), &Value::Null));
    let nowhere = e2e::event(&Method::GET, "/nothing", "nobody", None, None);
    let told = send(&world, Function::RefreshSession, &nowhere).await;
    assert_eq!((&told["action"], &told["outcome"]), (&json!("none"), &json!("ROUTE_NOT_FOUND")));
    let told = send(&world, Function::RefreshSession, &json!([])).await;
    assert_eq!((&told["request_id"], &told["outcome"]), (&json!(""), &json!("MALFORMED")));
    // The address of the connection, because the tenant is not known yet and trusts no proxy.
    let tenant = &admin.tenant.tenant_id;
    world
        .change_policy(tenant, |policy| policy.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()])
        .await
        .unwrap();
    let mut forwarded = event(tenant, None, &credentials);
    forwarded["headers"]["x-forwarded-for"] = json!("198.51.100.7");
    assert_eq!(send(&world, Function::CreateSession, &forwarded).await["ip"], "198.51.100.7");
    forwarded["headers"]["x-tenant-id"] = json!("nobody");
    assert_eq!(send(&world, Function::CreateSession, &forwarded).await["ip"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_logins_form_one_chain_in_write_order() {
    let world = Arc::new(World::start().await.unwrap());
    let actors = [ADMIN, crate::SECOND_ADMIN].map(|name| world.actor(name).unwrap());
    let mut logins = JoinSet::new();
    for place in 0..50 {
        let (world, actor) = (Arc::clone(&world), actors[place % 2].clone());
        logins.spawn(async move { world.try_login(&actor, &actor.user.password).await.unwrap().status });
    }
    let statuses = logins.join_all().await;
    assert_eq!(statuses.len(), 50);
    let lines = world.audit.lines();
    let read: Vec<_> = lines.iter().map(|line| Line::read(line).unwrap().unwrap()).collect();
    assert!(read.iter().all(|line| line.is_intact));
    let sequences: Vec<_> = read.iter().map(|line| line.event.sequence).collect();
    assert_eq!(
        sequences,
        (1..=50).collect::<Vec<_>>(),
        "sequence numbers must be complete, unique and in write order"
    );
    assert!(
        read.windows(2)
            .all(|two| two[1].previous == two[0].event.hash && two[1].event.chain == two[0].event.chain)
    );
    world.anchor_lines(&lines).await.unwrap();
    assert!(verified(&world, &lines).await.is_whole());
}

async fn some_logins(world: &World, count: usize) -> Vec<String> {
    let actor = world.actor(ADMIN).unwrap();
    for _ in 0..count {
        world.login(&actor).await.unwrap();
    }
    world.audit.lines()
}

#[tokio::test]
async fn verification_detects_a_modified_log() {
    let world = World::start().await.unwrap();
    let lines = some_logins(&world, 5).await;
    let anchored = world.anchor_lines(&lines).await.unwrap();
    assert_eq!(anchored, json!({ "events": 5, "chains": 1, "faulty": 0 }));
    assert!(verified(&world, &lines).await.is_whole());
    assert_eq!(kinds(verified(&world, &lines[..4]).await), [FaultKind::Truncated { last: 4, anchored: 5 }]);
    let altered: Vec<_> = lines.iter().map(|line| line.replace("127.0.0.1", "127.0.0.2")).collect();
    assert_eq!(verified(&world, &altered).await.fault_count, 5);
    // The verifier's clock may be at most five minutes slow.
    for (behind, kind) in [(300, None), (301, Some("FROM_THE_FUTURE"))] {
        let now = world.clock.now().checked_sub(Duration::from_secs(behind)).unwrap();
        let report = verify(lines.join("\n").as_bytes(), &world.store, Scope::default(), now).await.unwrap();
        let found: BTreeSet<_> = report.faults.iter().map(|fault| fault.kind.name()).collect();
        assert_eq!(found, kind.into_iter().collect(), "{behind}");
    }
    let without = [&lines[..1], &lines[3..]].concat();
    assert_eq!(kinds(verified(&world, &without).await), [FaultKind::Missing { from: 2, to: 3 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_reordered_and_concurrent_batches_keep_the_latest_chain_head() {
    let world = Arc::new(World::start().await.unwrap());
    let lines = some_logins(&world, 24).await;
    let mut batches = JoinSet::new();
    for turn in 0..3 {
        for part in lines.chunks(2).rev() {
            let (world, mut part) = (Arc::clone(&world), part.to_vec());
            part.rotate_left(turn % 2);
            batches.spawn(async move { world.anchor_lines(&part).await.unwrap() });
        }
    }
    assert_eq!(batches.join_all().await.len(), 36);
    let last = Line::read(&lines[23]).unwrap().unwrap().event;
    let anchors = world.store.anchors(&last.partition()).await.unwrap();
    let [anchor] = anchors.as_slice() else { panic!("{anchors:?}") };
    let head = anchor.head.as_ref().unwrap();
    assert_eq!((head.sequence, &head.hash, anchor.broken_at), (24, &last.hash, None));
    assert_eq!(
        (&head.instance, head.function.as_str(), head.at),
        (&last.instance, "create-session", last.at)
    );
    assert!(verified(&world, &lines).await.is_whole());
}

#[tokio::test]
async fn altered_event_marks_the_anchor_as_broken() {
    let world = World::start().await.unwrap();
    let lines = some_logins(&world, 4).await;
    let altered = lines[1].replace("session.create", "session.refresh");
    let batch = [lines[0].clone(), altered, lines[2].clone()];
    assert_eq!(world.anchor_lines(&batch).await.unwrap(), json!({ "events": 2, "chains": 1, "faulty": 1 }));
    let partition = Line::read(&lines[0]).unwrap().unwrap().event.partition();
    let first = world.store.anchors(&partition).await.unwrap();
    assert_eq!((first[0].broken_at, first[0].head.as_ref().unwrap().sequence), (Some(world.clock.now()), 3));
    // The head moves forward, and the mark remains.
    let seen_at = world.clock.now();
    world.clock.advance(Duration::from_secs(60));
    world.anchor_lines(&lines).await.unwrap();
    let then = world.store.anchors(&partition).await.unwrap();
    assert_eq!((then[0].broken_at, then[0].head.as_ref().unwrap().sequence), (Some(seen_at), 4));
    assert_eq!(kinds(verified(&world, &lines).await), [FaultKind::BrokenBefore { seen_at }]);
}

#[tokio::test]
async fn two_valid_events_with_one_sequence_number_mark_the_anchor_as_broken() {
    let world = World::start().await.unwrap();
    let lines = some_logins(&world, 2).await;
    world.anchor_lines(&lines).await.unwrap();
    let partition = Line::read(&lines[0]).unwrap().unwrap().event.partition();
    // A second event with the same sequence number and a correct hash.
    let (text, _) = lines[1].rsplit_once(",\"hash\"").unwrap();
    let text = text.replace("127.0.0.1", "198.51.100.7") + "}";
    let digest = sha256(&text);
    let forked = format!("{},\"hash\":\"{digest}\"}}", text.strip_suffix('}').unwrap());
    assert_eq!(world.anchor_lines(&[forked]).await.unwrap()["faulty"], 0);
    let anchors = world.store.anchors(&partition).await.unwrap();
    assert_eq!(anchors[0].broken_at, Some(world.clock.now()));
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let number = |part: &[u8]| u128::from_be_bytes(part.try_into().unwrap());
    let (high, low) = digest.as_ref().split_at(16);
    format!("{:032x}{:032x}", number(high), number(low))
}

#[tokio::test]
async fn batch_that_cannot_be_stored_is_retried() {
    let world = World::start().await.unwrap();
    let lines = some_logins(&world, 1).await;
    for odd in [json!({}), json!({ "awslogs": { "data": "?" } }), json!({ "awslogs": { "data": "AAAA" } })] {
        world.anchor(&odd).await.unwrap_err();
    }
    let unknown = packed(&json!({ "messageType": "ANOTHER_MESSAGE", "logEvents": [] })).unwrap();
    world.anchor(&unknown).await.unwrap_err();
    // 40 MiB of zeros, compressed to about 40 KB.
    let bomb = packed(&json!({ "messageType": "DATA_MESSAGE", "logEvents": [], "x": "0".repeat(40 << 20) }))
        .unwrap();
    assert!(bomb.to_string().len() < 100_000);
    assert!(world.anchor(&bomb).await.unwrap_err().to_string().contains("larger"));
    let mut control = batch(&[]);
    control["messageType"] = json!("CONTROL_MESSAGE");
    let answer = world.anchor(&packed(&control).unwrap()).await.unwrap();
    assert_eq!(answer, json!({ "events": 0, "chains": 0, "faulty": 0 }));
    world.stop_dynamodb().await;
    let error = world.anchor_lines(&lines).await.unwrap_err();
    assert!(error.to_string().starts_with("UNAVAILABLE"), "{error}");
}

// docs/design/security.md#rule-20
#[tokio::test]
async fn anchors_are_stored_by_tenant_and_day() {
    let world = World::start().await.unwrap();
    let first = world.clock.now();
    some_logins(&world, 1).await;
    world.clock.advance(Duration::from_secs(24 * 60 * 60));
    world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let lines = some_logins(&world, 1).await;
    send(&world, Function::RefreshSession, &json!({})).await;
    assert_eq!(world.anchor_lines(&world.audit.lines()).await.unwrap()["chains"], 4);
    let day = |at: jiff::Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let admin_tenant = world.actor(ADMIN).unwrap().tenant.tenant_id;
    let admin = TenantId::parse(&admin_tenant).unwrap();
    for (tenant, at, count) in [
        (Some(admin.clone()), first, 1),
        (Some(admin), world.clock.now(), 1),
        (Some(TenantId::parse(NORDIC).unwrap()), first, 0),
        (Some(TenantId::parse(NORDIC).unwrap()), world.clock.now(), 1),
        (None, first, 0),
        (None, world.clock.now(), 1),
    ] {
        let partition = Partition { tenant, day: day(at) };
        let found = world.store.anchors(&partition).await.unwrap();
        assert_eq!(found.len(), count, "{partition:?}");
        assert!(found.iter().all(|anchor| anchor.chain.day() == partition.day));
    }
    assert_eq!(lines.len(), 3);
    // A day whose events are all missing is detected by its anchors, if the day is given.
    let rest = |scope: Scope| {
        let lines = world.audit.lines()[1..].join("\n");
        let (store, now) = (Arc::clone(&world.store), world.clock.now());
        async move { verify(lines.as_bytes(), &store, scope, now).await }
    };
    assert!(rest(Scope::default()).await.unwrap().is_whole());
    let from = Some(day(first));
    let report = rest(Scope { from, ..Scope::default() }).await.unwrap();
    assert_eq!(kinds(report), [FaultKind::Truncated { last: 0, anchored: 1 }]);
    // A tenant without any event is detected if the tenant is given.
    let silenced = || {
        let lines = world.audit.lines();
        let is_silenced = |line: &&String| line.contains(&format!("\"tenant\":\"{NORDIC}\""));
        assert_eq!(lines.iter().filter(is_silenced).count(), 1);
        lines.into_iter().filter(|line| !is_silenced(&line)).collect::<Vec<_>>().join("\n")
    };
    let verify_silenced = |scope: Scope| {
        let (store, now, lines) = (Arc::clone(&world.store), world.clock.now(), silenced());
        async move { verify(lines.as_bytes(), &store, scope, now).await.unwrap() }
    };
    let report = verify_silenced(Scope::default()).await;
    let fault = report.faults.first().unwrap();
    assert_eq!(fault.kind, FaultKind::Truncated { last: 0, anchored: 1 });
    assert_eq!(fault.partition.as_ref().unwrap().tenant, TenantId::parse(NORDIC).ok());
    assert_eq!(report.fault_count, 1);
    let other = Scope { tenant: TenantId::parse(&admin_tenant).ok(), ..Scope::default() };
    assert!(verify_silenced(other).await.is_whole(), "the tenant is outside of the verified scope");
    let nobody = Scope { tenant: TenantId::parse("nobody").ok(), ..Scope::default() };
    assert!(matches!(rest(nobody).await, Err(VerifyError::Nothing)));
}

#[test]
fn documentation_lists_exactly_the_outcomes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let names = |text: &str, quote: &str| -> BTreeSet<String> {
        let quoted = text.split(quote).skip(1).step_by(2);
        quoted
            .filter(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
            .map(str::to_owned)
            .collect()
    };
    let document = read("docs/audit.md");
    let details: BTreeSet<_> = [TokenFault::VARIANTS, Denial::VARIANTS, Limit::VARIANTS]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(details.difference(&names(&document, "`")).next(), None);

    let (_, table) = document.split_once("| `outcome` | what was answered |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let first_cells: Vec<_> = table.lines().filter_map(|row| row.split('|').nth(1)).collect();
    let mut expected: BTreeSet<_> = Failure::VARIANTS.iter().map(|&name| name.to_owned()).collect();
    expected.extend(
        ["SUCCESS", "REFUSED", "BROKEN", "EXPIRED", "THROTTLED", "POSTPONED", "CODE_NOT_READABLE"]
            .map(str::to_owned),
    );
    assert_eq!(names(&first_cells.join(" "), "`"), expected);
}
