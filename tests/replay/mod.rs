//! Replay of the recorded events: each event in `events/{function}/` is sent to its function and must get
//! the recorded response. A new file is a new case; events/README.md describes the format.

mod check;
mod recorded;
mod setup;

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    audit::{Anchor, Partition},
    domain::TenantId,
    route::Function,
};
use e2e::{World, delivery::Sent, permissions::Roles};
use flate2::read::GzDecoder;
use futures_util::{StreamExt, future, stream};
use serde_json::{Value, json};

pub(crate) use check::check_common_headers;
use check::{check, same, same_result};
use recorded::{Anchored, Case, Decision, Delivered, Message, Response, RotationStep, StoredAnchor, read};
use setup::{Setup, Values};

use crate::{openapi::Document, route_matrix, rpc::Services};

/// Number of events that are replayed in parallel, each in its own world.
const IN_PARALLEL: usize = 4;

/// What the replay compares responses with.
struct Tools {
    services: Services,
    document: Document,
    roles: Roles,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_event_gets_its_recorded_response() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events");
    let tools = Arc::new(Tools {
        services: Services::load().unwrap(),
        document: Document::load().unwrap(),
        roles: Roles::load().unwrap(),
    });
    let mut cases = Vec::new();
    for function in Function::all() {
        let files: Vec<_> = fs::read_dir(folder.join(function.name()))
            .unwrap_or_else(|error| panic!("events/{}: {error}", function.name()))
            .map(|entry| (function, entry.unwrap().path()))
            .collect();
        assert!(!files.is_empty(), "{} has no recorded event", function.name());
        cases.extend(files);
    }
    let count = cases.len();
    let replayed = cases.into_iter().map(|(function, file)| {
        let name = file.strip_prefix(&folder).unwrap_or(&file).display().to_string();
        let shared = Arc::clone(&tools);
        let replayed = async move { replay(function, &file, &shared).await };
        async move {
            let result = tokio::spawn(replayed).await.unwrap();
            result.err().map(|error| format!("events/{name}: {error:#}\n"))
        }
    });
    let replayed = stream::iter(replayed).buffered(IN_PARALLEL).filter_map(future::ready);
    let failures: Vec<_> = replayed.collect().await;
    assert!(failures.is_empty(), "of {count} events:\n{}", failures.concat());
    assert!(count >= 450, "only {count} events were found");
    tools.document.note_shown(route_matrix::shown());
    tools.document.check_all_shown().unwrap();
    tools.roles.check_all_used().unwrap();
}

async fn replay(function: Function, file: &Path, tools: &Tools) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let recorded: Value = serde_json::from_str(&text).context("the file is not JSON")?;
    let case = Case::of(&recorded)?;
    let world = World::start().await?;
    let mut setup = Setup::new(&world, function, &text);
    setup.take(&case.given).await?;
    if let Some(sends) = &case.sends {
        let decoded = decoded_body(&recorded, &tools.services)?;
        ensure!(decoded == *sends, "the body contains {decoded}");
    }
    let values = &setup.values;
    let event: Value = serde_json::from_str(&values.fill(&text)?)?;
    let expect = values.fill_value(&case.expect)?;
    world.calls.take_asked();
    let logged = world.audit.lines().len();
    let permitted = || tools.roles.check(function, &world.calls.take_asked());
    match function {
        Function::DeliverNotification => {
            let answer = world.deliver(&event).await;
            permitted()?;
            let mut sent: Vec<_> = world.courier.take().iter().map(|sent| message(sent, values)).collect();
            // Users are served in parallel, so that the order of their messages varies.
            sent.sort_by_key(|message| json!(message).to_string());
            let found = serde_json::to_value(Delivered { answer, sent })?;
            same(&found, &serde_json::to_value(read::<Delivered>(&expect)?)?, "delivery")
        }
        Function::Authorize => {
            let decided = world.authorize(&event).await;
            permitted()?;
            let audit = verdict(&world, logged);
            let found = match decided {
                Ok(answer) => Decision { answer: Some(answer), error: None, audit },
                Err(error) => Decision { answer: None, error: Some(error.to_string()), audit },
            };
            let expect: Decision = read(&expect)?;
            same(&serde_json::to_value(found)?, &serde_json::to_value(expect)?, "decision")
        }
        Function::AnchorAudit => anchor(&world, &event, &case, &read(&expect)?, permitted).await,
        Function::RotateSecret => rotate(&world, &event, &case, &read(&expect)?, permitted).await,
        _ => {
            let mut answer = world.send(function, &event.to_string()).await?;
            permitted()?;
            let kind = answer.header("content-type").to_owned();
            if kind.starts_with("application/") && kind != "application/json" && !kind.ends_with("+json") {
                answer.body = tools.services.answer(path(&recorded), &kind, &answer.bytes)?;
            }
            let expect: Response = read(&expect)?;
            check(&answer, &expect)?;
            let found = verdict(&world, logged);
            ensure!(found == expect.audit, "audit {found:?}, not {:?}", expect.audit);
            tools.document.check(function, &event, || decoded_body(&event, &tools.services), &answer)
        }
    }
}

/// Outcome and reason of the request in the audit log; empty for `SUCCESS` without a reason, and without an event after
/// the first `logged` ones.
fn verdict(world: &World, logged: usize) -> String {
    let verdict = if world.audit.lines().len() > logged { world.audit.verdict() } else { String::new() };
    if verdict == "SUCCESS" { String::new() } else { verdict }
}

/// Replays an event of CloudWatch Logs: its content, the result and the stored anchors.
async fn anchor(
    world: &World,
    event: &Value,
    case: &Case,
    expect: &Anchored,
    permitted: impl Fn() -> Result<()>,
) -> Result<()> {
    if let Some(holds) = &case.holds {
        let packed = STANDARD.decode(event["awslogs"]["data"].as_str().context("the event has no data")?)?;
        let content: Value = serde_json::from_reader(GzDecoder::new(packed.as_slice()))?;
        same(&content, holds, "packed content")?;
    }
    let found = world.anchor(event).await;
    permitted()?;
    same_result(found, expect.answer.as_ref(), expect.error.as_deref(), "anchoring")?;
    let mut stored = Vec::new();
    for StoredAnchor { tenant, day, .. } in &expect.anchors {
        let tenant = tenant.as_deref().map(TenantId::parse).transpose()?;
        let partition = Partition { tenant, day: day.parse()? };
        for Anchor { chain, head, broken_at, .. } in world.store.anchors(&partition).await? {
            let (sequence, hash) = head.map(|head| (head.sequence, json!(head.hash))).unzip();
            stored.push(StoredAnchor {
                tenant: partition.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
                day: partition.day.to_string(),
                chain: chain.to_string(),
                sequence,
                hash,
                is_broken: broken_at.is_some(),
            });
        }
    }
    same(&json!(stored), &json!(expect.anchors), "anchors")
}

/// Replays a step of a secret rotation: the result and which version is current afterwards.
async fn rotate(
    world: &World,
    event: &Value,
    case: &Case,
    expect: &RotationStep,
    permitted: impl Fn() -> Result<()>,
) -> Result<()> {
    let found = world.send_rotation(event).await;
    permitted()?;
    same_result(found, expect.answer.as_ref(), expect.error.as_deref(), "rotation")?;
    let Some(expected) = &expect.current else {
        return Ok(());
    };
    let version = case.given[0]["version"].as_str().context("the first step has no version")?;
    let tenant = case.given[0]["rotating"].as_str().context("the first step has no tenant")?;
    let is_current = world.secret_version(tenant, "AWSCURRENT").await? == version;
    ensure!(is_current == (expected == version), "the rotation's version is current: {is_current}");
    Ok(())
}

fn path(recorded: &Value) -> &str {
    recorded["rawPath"].as_str().unwrap_or_default()
}

/// The content of a binary request body.
fn decoded_body(recorded: &Value, services: &Services) -> Result<Value> {
    let body = recorded["body"].as_str().context("the event has no body")?;
    let body = if recorded["isBase64Encoded"] == true { STANDARD.decode(body)? } else { body.into() };
    services.request(path(recorded), recorded["headers"]["content-type"].as_str().unwrap_or_default(), &body)
}

/// Recipient of a message and the name of the reset code in it.
fn message(sent: &Sent, values: &Values) -> Message {
    let (mail, text, event, content) = match sent {
        Sent::Mail { to, text, .. } => (Some(to.clone()), None, None, text.clone()),
        Sent::Text { number, text } => (None, Some(number.clone()), None, text.clone()),
        Sent::Event { bus, detail, .. } => (None, None, Some(bus.clone()), detail.to_string()),
    };
    let mut codes = values.0.iter().filter_map(|(name, code)| Some((name.strip_suffix(".code")?, code)));
    let code = codes.find(|(_, code)| content.contains(code.as_str())).map(|(name, _)| name.to_owned());
    Message { mail, text, event, code }
}
