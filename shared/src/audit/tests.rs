use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    id::{day_of, hash},
    *,
};
use crate::{
    context::Facts,
    domain::{AttemptCount, Failure, Invalid, Limit, TenantId, TokenFault, UserId},
    port::{Clock, Entropy},
};

/// 2026-01-13T21:21:48.974Z
const NOW: i64 = 1_768_339_308_974;
const DAY: i64 = 24 * 60 * 60 * 1_000;

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Sink for Kept {
    fn write(&self, line: &str) -> io::Result<()> {
        self.0.lock().unwrap().push(line.strip_suffix('\n').unwrap().to_owned());
        Ok(())
    }
}

struct At(i64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        at(self.0)
    }
}

struct Seed(u8);

impl Entropy for Seed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
        bytes.fill(self.0);
        Ok(())
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn log(seed: u8) -> (Audit, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    (Audit::new(kept.clone(), &At(NOW), &Seed(seed)).unwrap(), kept)
}

fn decision<'a>(millis: i64, whose: Option<&str>, outcome: Outcome<'a>) -> Decision<'a> {
    Decision {
        at: at(millis),
        request_id: "JKJaXmPLvHcESHA=",
        function: "create-session",
        action: "session.create",
        outcome,
        status: Some(200),
        elapsed: Duration::from_micros(21_700),
        facts: Facts {
            tenant: whose.map(tenant),
            user: Some(UserId::parse("ü \"quoted\" \\").unwrap()),
            admin_reason: Some("she called,\n\"twice\"".to_owned()),
            ..Facts::default()
        },
    }
}

fn lines(kept: &Kept) -> Vec<String> {
    kept.0.lock().unwrap().clone()
}

/// Verifies one chain as docs/audit.md describes, without the code under test.
fn is_complete(chain: &[String]) -> bool {
    let mut previous = "0".repeat(64);
    chain.iter().zip(1..).all(|(line, sequence)| {
        let (text, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
        let hash = hash.strip_suffix("\"}").unwrap();
        let digest = digest(&SHA256, format!("{text}}}").as_bytes());
        let number = |part: &[u8]| u128::from_be_bytes(part.try_into().unwrap());
        let (high, low) = digest.as_ref().split_at(16);
        let digits = format!("{:032x}{:032x}", number(high), number(low));
        let event: Value = serde_json::from_str(line).unwrap();
        let fits = event["previous"] == previous && event["sequence"] == sequence && digits == hash;
        previous = hash.to_owned();
        fits
    })
}

#[test]
fn first_line_matches_the_documentation() {
    let (audit, kept) = log(7);
    let failure = Failure::InvalidToken(TokenFault::Expired);
    let mut refused = decision(NOW, Some("t_1"), Outcome::from(&failure));
    refused.status = Some(401);
    audit.tell(&refused);
    let expected = concat!(
        r#"{"audit":1,"time":"2026-01-13T21:21:48.974Z","tenant":"t_1","request_id":"JKJaXmPLvHcESHA=","#,
        r#""function":"create-session","action":"session.create","user":"ü \"quoted\" \\","#,
        r#""outcome":"INVALID_TOKEN","reason":"EXPIRED","admin_reason":"she called,\n\"twice\"","#,
        r#""status":401,"milliseconds":21,"instance":"01KEWKS0DE0W3GE1R70W3GE1R7","#,
        r#""chain":"01KEWKS0DE0W3GE1R70W3GE1R8","sequence":1,"#,
        r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","#,
        r#""_aws":{"Timestamp":1768339308974,"CloudWatchMetrics":[{"Namespace":"Doorward","#,
        r#""Dimensions":[["function"]],"Metrics":[{"Name":"Requests","Unit":"Count"},"#,
        r#"{"Name":"Refused","Unit":"Count"},{"Name":"ColdStart","Unit":"Count"},"#,
        r#"{"Name":"Latency","Unit":"Milliseconds"}]}]},"#,
        r#""Requests":1,"Latency":21,"Refused":1,"ColdStart":1,"hash":""#,
    );
    let line = lines(&kept).remove(0);
    assert_eq!(line.split_at(expected.len()).0, expected);
    let read = Line::read(&format!("2026-01-13T21:21:49.001Z {line}\r")).unwrap().unwrap();
    assert!(read.is_intact);
    let read = read.event;
    assert_eq!((read.chain.began_at(), read.at), (at(NOW), at(NOW)));
    assert_eq!((read.tenant.unwrap(), read.function.as_str()), (tenant("t_1"), "create-session"));
}

#[test]
fn each_tenant_and_day_has_a_separate_chain() {
    let (audit, kept) = log(7);
    let tells = [Some("a"), None, Some("b"), Some("a"), Some("b"), Some("a"), None];
    for (whose, millis) in tells.into_iter().zip([0, 1, 2, 3, DAY, 4, 5]) {
        audit.tell(&decision(NOW + millis, whose, Outcome::SUCCESS));
    }
    let mut chains: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for line in lines(&kept) {
        let read = Line::read(&line).unwrap().unwrap();
        assert!(read.is_intact && read.is_of_its_day());
        let whose = read.event.tenant.as_ref().map_or("", TenantId::as_str).to_owned();
        chains.entry((whose, read.event.chain)).or_default().push(line);
    }
    let found: Vec<_> = chains.iter().map(|((whose, _), chain)| (whose.as_str(), chain.len())).collect();
    assert_eq!(found, [("", 2), ("a", 3), ("b", 1), ("b", 1)]);
    assert!(chains.values().all(|chain| is_complete(chain)));
}

#[test]
fn least_recently_used_chain_is_closed_at_capacity() {
    let (audit, kept) = log(7);
    let audit = audit.with_capacity(2);
    for whose in ["a", "b", "a", "c", "a", "b"] {
        audit.tell(&decision(NOW, Some(whose), Outcome::SUCCESS));
    }
    let places: Vec<_> =
        lines(&kept).iter().map(|line| Line::read(line).unwrap().unwrap().event.sequence).collect();
    // `c` evicts `b`, the least recently used chain. The next event of `b` starts a new chain.
    assert_eq!(places, [1, 1, 2, 1, 3, 1]);
}

#[test]
fn failed_write_uses_up_its_sequence_number() {
    struct Full(Mutex<usize>);
    impl Sink for Full {
        fn write(&self, _: &str) -> io::Result<()> {
            *self.0.lock().unwrap() += 1;
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let full = Arc::new(Full(Mutex::new(0)));
    let audit = Audit::new(full.clone(), &At(NOW), &Seed(1)).unwrap();
    audit.tell(&decision(NOW, None, Outcome::SUCCESS));
    audit.tell(&decision(NOW, None, Outcome::SUCCESS));
    assert_eq!(*full.0.lock().unwrap(), 2, "a failed write does not fail the request");
}

/// Returns the metrics of a line after checking it against the specification of CloudWatch's embedded
/// metric format.
fn metrics_of(line: &str) -> BTreeMap<String, (String, f64)> {
    const UNITS: [&str; 2] = ["Count", "Milliseconds"];
    let document: Value = serde_json::from_str(line).unwrap();
    let metadata = document["_aws"].as_object().expect("`_aws` is an object");
    let names: Vec<_> = metadata.keys().map(String::as_str).collect();
    assert_eq!(names, ["Timestamp", "CloudWatchMetrics"]);
    let timestamp = metadata["Timestamp"].as_i64().unwrap();
    assert!((946_684_800_000..4_102_444_800_000).contains(&timestamp), "milliseconds since 1970");
    assert!(line.len() <= 256 * 1024);
    let mut found = BTreeMap::new();
    for directive in metadata["CloudWatchMetrics"].as_array().unwrap() {
        let namespace = directive["Namespace"].as_str().unwrap();
        assert!((1..=256).contains(&namespace.len()) && !namespace.starts_with("AWS/"));
        for set in directive["Dimensions"].as_array().unwrap() {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 30);
            for dimension in set {
                let value = document[dimension.as_str().unwrap()].as_str().expect("a string at the root");
                assert!((1..=1_024).contains(&value.len()));
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap();
            let unit = metric["Unit"].as_str().unwrap();
            assert!((1..=1_024).contains(&name.len()) && UNITS.contains(&unit));
            let value = document[name].as_f64().expect("a number at the root");
            let before = found.insert(name.to_owned(), (unit.to_owned(), value));
            assert_eq!(before, None, "{name} is defined twice");
        }
    }
    found
}

#[test]
fn metrics_follow_the_embedded_metric_format() {
    let (audit, kept) = log(7);
    let count = AttemptCount { failed: 5, max: 5, locked_until: Some(at(NOW)) };
    let cases: [(Option<Failure>, &[&str]); 8] = [
        (None, &["Succeeded", "ColdStart"]),
        (Some(Failure::Authentication(count)), &["Refused"]),
        (Some(Failure::AccountLocked(count)), &["Refused", "LockedOut"]),
        (Some(Failure::PasswordDisabled(count)), &["Refused", "LockedOut"]),
        (Some(Failure::RateLimited(Limit::Busy, Duration::from_secs(1))), &["Refused", "RateLimited"]),
        (Some(Failure::RefreshTokenReused), &["Refused", "RefreshReuse"]),
        (Some(Failure::Unavailable("down".into())), &["Failed"]),
        (Some(Failure::Internal("a defect".into())), &["Failed"]),
    ];
    for (failure, _) in &cases {
        let outcome = failure.as_ref().map_or(Outcome::SUCCESS, Outcome::from);
        audit.tell(&decision(NOW, Some("t"), outcome));
    }
    for (line, (failure, expected)) in lines(&kept).iter().zip(&cases) {
        let mut found = metrics_of(line);
        assert_eq!(found.remove("Latency").unwrap(), ("Milliseconds".to_owned(), 21.0));
        let counts: Vec<_> = found.iter().map(|(name, it)| (name.as_str(), it.0.as_str(), it.1)).collect();
        let mut expected: Vec<_> =
            expected.iter().chain([&"Requests"]).map(|name| (*name, "Count", 1.0)).collect();
        expected.sort_unstable_by_key(|(name, ..)| *name);
        assert_eq!(counts, expected, "{failure:?}");
        assert!(
            !line.contains("down") && !line.contains("defect"),
            "the cause belongs only in the operational log"
        );
    }
}

#[test]
fn concurrent_events_are_written_in_sequence_order() {
    let (audit, kept) = log(7);
    let audit = Arc::new(audit);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let audit = Arc::clone(&audit);
            std::thread::spawn(move || {
                for _ in 0..100 {
                    audit.tell(&decision(NOW, Some("t"), Outcome::SUCCESS));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(is_complete(&lines(&kept)));
    assert_eq!(lines(&kept).len(), 800);
}

fn verified(lines: &[String], anchors: &[Anchor], due_before: Timestamp) -> Report {
    let mut verifier = Verifier::new(Scope::default(), due_before, later());
    let of = |partition: &Partition| {
        let of = anchors.iter().filter(|anchor| anchor.partition == *partition);
        of.cloned().collect::<Vec<_>>()
    };
    for anchor in anchors {
        verifier.anchored(&anchor.partition, of(&anchor.partition));
    }
    for line in lines {
        if let Some(line) = verifier.read(line) {
            verifier.take(line);
        }
    }
    verifier.finish()
}

fn anchors(lines: &[String]) -> Vec<Anchor> {
    let heads = read(lines.iter().map(String::as_str)).heads.into_iter();
    heads
        .map(|head| Anchor {
            partition: head.partition(),
            chain: head.chain,
            head: Some(head),
            broken_at: None,
        })
        .collect()
}

/// Generates the log of two processes with several tenants and two days.
fn a_log() -> impl Strategy<Value = Vec<String>> {
    let event = (0..2_usize, prop::option::of(0..3_usize), 0..2_i64);
    prop::collection::vec(event, 1..60).prop_map(|events| {
        let (one, two) = (log(1), log(2));
        for (place, (process, whose, day)) in (0_i64..).zip(events) {
            let whose = whose.and_then(|place| ["a", "b", "c"].get(place).copied());
            let told = decision(NOW + day * DAY + place, whose, Outcome::SUCCESS);
            [&one, &two][process].0.tell(&told);
        }
        let mut lines = lines(&one.1);
        lines.extend(self::lines(&two.1));
        lines
    })
}

fn later() -> Timestamp {
    at(NOW + 30 * DAY)
}

fn names(report: &Report) -> Vec<&'static str> {
    report.faults.iter().map(|fault| fault.kind.name()).collect()
}

proptest! {
    #[test]
    fn complete_log_is_verified_in_any_order((log, seed) in (a_log(), any::<u64>())) {
        let mut shuffled = log.clone();
        // Sorting by a seeded hash shuffles reproducibly.
        shuffled.sort_by_key(|line| hash(&format!("{seed}{line}")));
        let report = verified(&shuffled, &anchors(&log), later());
        prop_assert!(report.is_whole(), "{report:?}");
        prop_assert_eq!(report.events, log.len() as u64);
    }

    #[test]
    fn altered_byte_is_detected((log, line, byte, to) in (a_log(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 32_u8..127)) {
        let known = anchors(&log);
        let mut altered = log.clone();
        let line = line.get_mut(&mut altered);
        let mut bytes = line.clone().into_bytes();
        let place = byte.index(bytes.len());
        prop_assume!(bytes[place] != to && bytes[place].is_ascii());
        bytes[place] = to;
        *line = String::from_utf8(bytes).unwrap();
        prop_assert!(!verified(&altered, &known, later()).is_whole());
    }

    #[test]
    fn missing_event_is_detected((log, gone) in (a_log(), any::<prop::sample::Index>())) {
        let mut altered = log.clone();
        altered.remove(gone.index(log.len()));
        let report = verified(&altered, &anchors(&log), later());
        prop_assert!(!report.is_whole());
    }

    #[test]
    fn missing_end_is_detected_only_by_the_anchors((log, rest) in (a_log(), any::<prop::sample::Index>())) {
        let rest = &log[..rest.index(log.len())];
        prop_assert!(!verified(rest, &anchors(&log), later()).is_whole());
        // Without the later anchors, a log that lacks only the ends of its chains is valid.
        prop_assert!(verified(rest, &anchors(rest), later()).is_whole());
    }

    #[test]
    fn exchanged_contents_are_detected((log, one, two) in (a_log(), any::<prop::sample::Index>(), any::<prop::sample::Index>())) {
        let (one, two) = (one.index(log.len()), two.index(log.len()));
        prop_assume!(one != two);
        let known = anchors(&log);
        let mut altered = log;
        // Each event keeps its sequence number and hash and gets the other event's time, tenant and so on.
        let cut = |line: &str| {
            let at = line.find("\"instance\"").unwrap();
            let (head, rest) = line.split_at(at);
            (head.to_owned(), rest.to_owned())
        };
        let ((first, first_link), (second, second_link)) = (cut(&altered[one]), cut(&altered[two]));
        prop_assume!(first != second);
        altered[one] = second + &first_link;
        altered[two] = first + &second_link;
        prop_assert!(!verified(&altered, &known, later()).is_whole());
    }

    #[test]
    fn added_event_is_detected((log, place, kind) in (a_log(), any::<prop::sample::Index>(), 0..3_usize)) {
        let known = anchors(&log);
        let like = place.get(&log).clone();
        let read = Line::read(&like).unwrap().unwrap().event;
        let text = match kind {
            // A duplicate of an event.
            0 => like.clone(),
            // A correctly hashed event after the last event of the chain.
            1 => {
                let head = known.iter().find(|it| it.chain == read.chain).unwrap().head.clone().unwrap();
                forged(&like, head.sequence + 1, &head.hash)
            }
            // A different event with the same sequence number.
            _ => forged(&like, read.sequence, &hash("another")),
        };
        let mut altered = log.clone();
        altered.push(text);
        let report = verified(&altered, &known, later());
        prop_assert!(!report.is_whole());
        if kind == 1 {
            prop_assert_eq!(names(&report), ["NOT_ANCHORED"]);
            // While the event may still be anchored, it is counted but is not a fault.
            let report = verified(&altered, &known, at(NOW - 1));
            prop_assert!(report.is_whole() && report.not_yet_anchored == 1);
        }
    }

    #[test]
    fn rewritten_chain_is_detected_by_its_anchor((log, line) in (a_log(), any::<prop::sample::Index>())) {
        let known = anchors(&log);
        let from = Line::read(&log[line.index(log.len())]).unwrap().unwrap();
        let mut altered = log.clone();
        let Line { event: from, mut previous, .. } = from;
        // An attacker with write access to the log can recompute every hash.
        for line in &mut altered {
            let read = Line::read(line).unwrap().unwrap().event;
            if read.chain == from.chain && read.sequence >= from.sequence {
                *line = forged(&line.replace("session.create", "session.refresh"), read.sequence, &previous);
                previous = Line::read(line).unwrap().unwrap().event.hash;
            }
        }
        prop_assert_eq!(names(&verified(&altered, &known, later())), ["REWRITTEN"]);
    }
}

/// Returns a copy of an event with another sequence number and a correct hash.
fn forged(like: &str, sequence: u64, previous: &str) -> String {
    let (head, rest) = like.split_once("\"sequence\":").unwrap();
    let (_, rest) = rest.split_once(",\"_aws\"").unwrap();
    let (rest, _) = rest.rsplit_once(",\"hash\"").unwrap();
    let text = format!("{head}\"sequence\":{sequence},\"previous\":\"{previous}\",\"_aws\"{rest}}}");
    format!("{},\"hash\":\"{}\"}}", text.strip_suffix('}').unwrap(), hash(&text))
}

#[test]
fn each_fault_is_reported_with_its_kind() {
    let (audit, kept) = log(7);
    for n in 0..5 {
        audit.tell(&decision(NOW + n, Some("t"), Outcome::SUCCESS));
    }
    let log = lines(&kept);
    let known = anchors(&log);
    let without = |places: &[usize]| {
        let kept = log.iter().enumerate().filter(|(place, _)| !places.contains(place));
        kept.map(|(_, line)| line.clone()).collect::<Vec<_>>()
    };
    let kinds = |lines: &[String], known: &[Anchor]| {
        verified(lines, known, later()).faults.into_iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&without(&[1, 2]), &known), [FaultKind::Missing { from: 2, to: 3 }]);
    assert_eq!(kinds(&without(&[0]), &known), [FaultKind::Missing { from: 1, to: 1 }]);
    assert_eq!(kinds(&without(&[4]), &known), [FaultKind::Truncated { last: 4, anchored: 5 }]);
    assert_eq!(kinds(&[], &known), [FaultKind::Truncated { last: 0, anchored: 5 }]);
    assert_eq!(kinds(&log, &[]), [FaultKind::NotAnchored { from: 1, to: 5 }]);
    let altered: Vec<_> = log.iter().map(|line| line.replace("\"sequence\":3", "\"sequence\": 3")).collect();
    assert_eq!(kinds(&altered, &known), [FaultKind::Altered { line: 3, sequence: 3 }]);
    let mut cut = log.clone();
    cut[2].truncate(100);
    assert_eq!(
        kinds(&cut, &known),
        [
            FaultKind::Unreadable { line: 3, problem: Invalid::new("the end of the line is missing") },
            FaultKind::Missing { from: 3, to: 3 },
        ]
    );
    let mut broken = known.clone();
    broken[0].broken_at = Some(at(NOW));
    assert_eq!(kinds(&log, &broken), [FaultKind::BrokenBefore { seen_at: at(NOW) }]);
    let another = forged(&log[2], 3, &hash("another"));
    let forked = [log.clone(), vec![another]].concat();
    assert_eq!(kinds(&forked, &known), [FaultKind::Repeated { sequence: 3 }]);
    let strange = forged(
        &log[3].replace("\"tenant\":\"t\"", "\"tenant\":\"u\""),
        4,
        &Line::read(&log[2]).unwrap().unwrap().event.hash,
    );
    let moved = [log[..3].to_vec(), vec![strange], log[4..].to_vec()].concat();
    assert_eq!(
        kinds(&moved, &known),
        [FaultKind::Strange { sequence: 4 }, FaultKind::Unlinked { sequence: 5 }]
    );
    let (audit, kept) = self::log(8);
    for millis in [30 * DAY, 30 * DAY + 1] {
        audit.tell(&decision(NOW + millis, Some("t"), Outcome::SUCCESS));
    }
    let early = lines(&kept);
    assert_eq!(
        kinds(&early, &[]),
        [FaultKind::FromTheFuture { sequence: 2 }],
        "the event is not overdue, but its time is after the newest allowed time"
    );
    assert_eq!(kinds(&early, &anchors(&early)), [FaultKind::FromTheFuture { sequence: 2 }]);
    let noise = ["START RequestId: 1 Version: $LATEST".to_owned(), String::new(), "{}".to_owned()];
    let report = verified(&[log.clone(), noise.to_vec()].concat(), &known, later());
    assert!(report.is_whole() && report.passed_over == 2);
}

#[test]
fn scope_limits_verification_to_tenant_and_days() {
    let (audit, kept) = log(7);
    for (whose, day) in [("a", 0), ("b", 0), ("a", 1), ("a", 2)] {
        audit.tell(&decision(NOW + day * DAY, Some(whose), Outcome::SUCCESS));
    }
    let day = |day: i64| day_of(at(NOW + day * DAY));
    let scope = Scope { tenant: Some(tenant("a")), from: Some(day(1)), to: Some(day(1)) };
    let mut verifier = Verifier::new(scope, at(NOW), later());
    for line in lines(&kept) {
        if let Some(line) = verifier.read(&line) {
            assert_eq!(line.event.partition(), Partition { tenant: Some(tenant("a")), day: day(1) });
            verifier.take(line);
        }
    }
    let report = verifier.finish();
    assert_eq!((report.events, report.passed_over, report.not_yet_anchored), (1, 3, 1));
    assert!(report.is_whole());
}

#[test]
fn batch_contains_heads_and_broken_chains() {
    let (audit, kept) = log(7);
    for n in 0..4 {
        audit.tell(&decision(NOW + n, Some("t"), Outcome::SUCCESS));
    }
    let mut log = lines(&kept);
    log.rotate_left(2);
    let reading = read(log.iter().map(String::as_str).chain(["REPORT RequestId: 1"]));
    assert_eq!((reading.events, reading.faulty, reading.broken.len()), (4, 0, 0));
    assert_eq!(reading.heads.len(), 1);
    assert_eq!(reading.heads[0].sequence, 4);
    let altered = log[1].replace("session.create", "session.crEate");
    let reading = read([log[0].as_str(), &altered, "{\"audit\":1,"]);
    assert_eq!((reading.events, reading.faulty, reading.heads[0].sequence), (1, 2, 3));
    assert_eq!(reading.broken, [(reading.heads[0].partition(), reading.heads[0].chain)]);
}
