//! Every recorded event in `events/{function}/` is sent to its function, and must get the answer it
//! names. Adding a file adds a case; events/README.md has the format.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    audit::{Anchor, Partition},
    domain::{LinkHost, Medium, SessionLimit, TenantId, WebOrigin, WhenFull},
    port::{Anchors, OutboxKey},
    route::Function,
};
use e2e::{
    Answer, Login, Visitor, World,
    delivery::{Fate, Sent, batch},
    permissions::Roles,
};
use flate2::read::GzDecoder;
use futures_util::{StreamExt, future, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{openapi::Document, rpc::Services};

/// What every answer carries (docs/design/contract.md#every-request).
const ALWAYS: [(&str, &str); 4] = [
    ("cache-control", "no-store"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "*"),
];

/// How many events are replayed at once; each has a world of its own.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_event_gets_its_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events");
    let services = Arc::new(Services::load().unwrap());
    let document = Arc::new(Document::load().unwrap());
    let roles = Arc::new(Roles::load().unwrap());
    let mut cases = Vec::new();
    for function in Function::ALL {
        let files: Vec<_> = fs::read_dir(folder.join(function.name()))
            .unwrap_or_else(|error| panic!("events/{}: {error}", function.name()))
            .map(|entry| (function, entry.unwrap().path()))
            .collect();
        assert!(!files.is_empty(), "{} has no recorded event", function.name());
        cases.extend(files);
    }
    let count = cases.len();
    let replayed = cases.into_iter().map(|(function, file)| {
        let tools = (Arc::clone(&services), Arc::clone(&document), Arc::clone(&roles));
        let name = file.strip_prefix(&folder).unwrap_or(&file).display().to_string();
        let replayed = async move {
            let (services, document, roles) = tools;
            replay(function, &file, &services, &document, &roles).await
        };
        async move {
            let result = tokio::spawn(replayed).await.unwrap();
            result.err().map(|error| format!("events/{name}: {error:#}\n"))
        }
    });
    let replayed = stream::iter(replayed).buffered(AT_ONCE).filter_map(future::ready);
    let failures: Vec<_> = replayed.collect().await;
    assert!(failures.is_empty(), "of {count} events:\n{}", failures.concat());
    assert!(count >= 500, "only {count} events");
    document.check_all_shown().unwrap();
    roles.check_all_used().unwrap();
}

async fn replay(
    function: Function,
    file: &Path,
    services: &Services,
    document: &Document,
    roles: &Roles,
) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let recorded: Value = serde_json::from_str(&text).context("is not JSON")?;
    let case = &recorded["doorward"];
    let world = World::start().await?;
    let mut values = BTreeMap::from([
        ("demo.password".to_owned(), local::demo::PASSWORD.to_owned()),
        ("demo.tenantKey".to_owned(), local::demo::TENANT_KEY.to_owned()),
        ("demo.tenantSecret".to_owned(), local::demo::TENANT_SECRET.to_owned()),
        ("filler.64KiB".to_owned(), "x".repeat(64 * 1024)),
    ]);
    let mut logins = BTreeMap::new();
    for step in case["given"].as_array().into_iter().flatten() {
        let step: Value = serde_json::from_str(&fill(&step.to_string(), &values)?)?;
        if step["send"] == "first" {
            send_first(&world, function, &fill(&text, &values)?, &step["with"]).await?;
            continue;
        }
        prepare(&world, &step, &mut logins, &mut values).await.with_context(|| format!("given {step}"))?;
    }
    if !case["sends"].is_null() {
        ensure!(sent(&recorded, services)? == case["sends"], "sends {}", sent(&recorded, services)?);
    }
    let filled = fill(&text, &values)?;
    world.calls.take_asked();
    let asked = || roles.check(function, &world.calls.take_asked());
    if function == Function::DeliverNotification {
        let answer = world.deliver(&serde_json::from_str(&filled)?).await;
        asked()?;
        let mut sent: Vec<_> = world.courier.take().iter().map(|sent| address(sent, &values)).collect();
        // Users are served side by side: which comes first is nobody's promise.
        sent.sort_by_key(ToString::to_string);
        let found = json!({ "answer": answer, "sent": sent });
        return same(&found, &case["expect"], "delivery");
    }
    if function == Function::Authorize {
        let found = match world.authorize(&serde_json::from_str(&filled)?).await {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        asked()?;
        let expected: Value = serde_json::from_str(&fill(&case["expect"].to_string(), &values)?)?;
        return same(&found, &expected, "decision");
    }
    if function == Function::AnchorAudit {
        return anchored(&world, &serde_json::from_str(&filled)?, case, asked).await;
    }
    if function == Function::RotateSecret {
        return rotated(&world, &serde_json::from_str(&filled)?, case, asked).await;
    }
    let mut answer = world.send(function, &filled).await?;
    asked()?;
    let kind = answer.header("content-type").to_owned();
    if kind.starts_with("application/") && kind != "application/json" && !kind.ends_with("+json") {
        answer.body = services.answer(path(&recorded), &kind, &answer.bytes)?;
    }
    check(&answer, &case["expect"], &values)?;
    let event = serde_json::from_str(&filled)?;
    document.check(function, &event, || sent(&event, services), &answer)
}

/// A batch of the audit log: what it holds, how it is answered and which heads are kept then.
async fn anchored(world: &World, event: &Value, case: &Value, asked: impl Fn() -> Result<()>) -> Result<()> {
    if !case["holds"].is_null() {
        let packed = STANDARD.decode(event["awslogs"]["data"].as_str().context("no data")?)?;
        let held: Value = serde_json::from_reader(GzDecoder::new(packed.as_slice()))?;
        same(&held, &case["holds"], "what is packed")?;
    }
    let found = match world.anchor(event).await {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    asked()?;
    let told = json!({ "answer": case["expect"]["answer"], "error": case["expect"]["error"] });
    let known = json!({ "answer": found["answer"], "error": found["error"] });
    same(&known, &told, "anchoring")?;
    let mut kept = Vec::new();
    for anchors in case["expect"]["anchors"].as_array().into_iter().flatten() {
        let tenant = anchors["tenant"].as_str().map(TenantId::parse).transpose()?;
        let partition = Partition { tenant, day: anchors["day"].as_str().context("no day")?.parse()? };
        for Anchor { chain, head, broken_at, .. } in world.store.anchors(&partition).await? {
            let (head, is_broken) = (head.map(|head| (head.sequence, head.hash)), broken_at.is_some());
            let (sequence, hash) = head.unzip();
            kept.push(json!({
                "tenant": partition.tenant.as_ref().map(TenantId::as_str),
                "day": partition.day.to_string(),
                "chain": chain.to_string(),
                "sequence": sequence,
                "hash": hash,
                "isBroken": is_broken,
            }));
        }
    }
    same(&json!(kept), case["expect"].get("anchors").unwrap_or(&json!([])), "anchors")
}

/// A step of a rotation: what Secrets Manager is told, and which version is current then.
async fn rotated(world: &World, event: &Value, case: &Value, asked: impl Fn() -> Result<()>) -> Result<()> {
    let expect = &case["expect"];
    let found = match world.send_rotation(event).await {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    asked()?;
    let told = json!({ "answer": expect["answer"], "error": expect["error"] });
    same(&json!({ "answer": found["answer"], "error": found["error"] }), &told, "rotation")?;
    let Some(expected) = expect["current"].as_str() else {
        return Ok(());
    };
    let version = case["given"][0]["version"].as_str().context("no version")?;
    let tenant = case["given"][0]["rotating"].as_str().context("no tenant")?;
    let is_current = world.secret_version(tenant, "AWSCURRENT").await? == version;
    ensure!(is_current == (expected == version), "the version is current: {is_current}");
    Ok(())
}

fn path(recorded: &Value) -> &str {
    recorded["rawPath"].as_str().unwrap_or_default()
}

/// What the recorded body holds, where nobody reads that with the naked eye.
fn sent(recorded: &Value, services: &Services) -> Result<Value> {
    let body = recorded["body"].as_str().context("no body")?;
    let body = if recorded["isBase64Encoded"] == true { STANDARD.decode(body)? } else { body.into() };
    services.request(path(recorded), recorded["headers"]["content-type"].as_str().unwrap_or_default(), &body)
}

/// How something was sent, to whom, and which of the named codes it holds.
fn address(sent: &Sent, values: &BTreeMap<String, String>) -> Value {
    let (mut told, said) = match sent {
        Sent::Mail { to, text, .. } => (json!({ "mail": to }), text.clone()),
        Sent::Text { number, text } => (json!({ "text": number }), text.clone()),
        Sent::Event { bus, detail, .. } => (json!({ "event": bus }), detail.to_string()),
    };
    let code = values.iter().filter_map(|(name, code)| Some((name.strip_suffix(".code")?, code)));
    if let Some((name, _)) = code.into_iter().find(|(_, code)| said.contains(code.as_str())) {
        told["code"] = json!(name);
    }
    told
}

/// Sends the recorded event itself, with other members where some are named.
async fn send_first(world: &World, function: Function, event: &str, with: &Value) -> Result<()> {
    let mut event: Value = serde_json::from_str(event)?;
    for (name, value) in with.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    let answer = world.send(function, &event.to_string()).await?;
    ensure!(answer.status == 200, "the first was refused: {}", answer.text);
    Ok(())
}

/// One step of `given`: `{"login": "name@…", "as": "admin"}` and what follows from it.
async fn prepare(
    world: &World,
    step: &Value,
    logins: &mut BTreeMap<String, Login>,
    values: &mut BTreeMap<String, String>,
) -> Result<()> {
    let text = |name: &str| step[name].as_str();
    let known = |name: &str| logins.get(name).cloned().with_context(|| format!("nobody logged in as {name}"));
    if let Some(username) = text("login") {
        let mut actor = world.actor(username)?;
        if let Some(collection) = text("collection") {
            actor.collection = collection.to_owned();
        }
        let login = world.login(&actor).await?;
        remember(text("as").unwrap_or("login"), login, logins, values);
    } else if let Some(name) = text("refresh") {
        let mut login = known(name)?;
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            login = world.refreshed(&login).await?;
        }
        remember(text("as").unwrap_or(name), login, logins, values);
    } else if let Some(name) = text("logout") {
        ensure!(world.logout(&known(name)?).await?.status == 200, "was refused");
    } else if let Some(name) = text("endAll") {
        end_all(world, &known(name)?).await?;
    } else if let Some(name) = text("list") {
        let cursor = next_page(world, &known(name)?, &step["limit"]).await?;
        values.insert(text("as").unwrap_or("cursor").to_owned(), cursor);
    } else if let Some(username) = text("fail") {
        let actor = world.actor(username)?;
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            ensure!(world.try_login(&actor, "not the password").await?.status == 401, "was not refused");
        }
    } else if let Some(username) = text("failUpdate") {
        let by = known(text("by").unwrap_or("login"))?;
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            fail_update(world, username, &by).await?;
        }
    } else if let Some(username) = text("reset") {
        let body = json!({ "userId": world.actor(username)?.user.user_id });
        let by = known(text("by").unwrap_or("login"))?;
        ensure!(world.reset(&by, &body).await?.status == 200, "was refused");
    } else if let Some(username) = text("update") {
        let user = world.actor(username)?.user.user_id;
        let by = known(text("by").unwrap_or("login"))?;
        ensure!(world.update(&by, &user, &step["with"]).await?.status == 200, "was refused");
    } else if let Some(username) = text("follow") {
        let actor = world.actor(username)?;
        let (tenant, user) = (&actor.tenant.tenant_id, &actor.user.user_id);
        let code = world.newest_code(tenant, user).await?;
        let mut visitor = Visitor::new(tenant);
        let in_link = (step["typing"] != true).then_some(code.as_str());
        let token = visitor.follow(world, user, in_link).await?;
        values.insert("form.token".to_owned(), token);
        values.insert("form.cookie".to_owned(), visitor.cookie.unwrap_or_default());
        values.insert("form.code".to_owned(), code);
    } else if let Some(username) = text("ask") {
        let by = text("by").map(known).transpose()?;
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            let code = ask(world, username, by.as_ref()).await?;
            values.insert(text("as").unwrap_or("code").to_owned(), code);
        }
    } else if let Some(username) = text("failCode") {
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            fail_code(world, username).await?;
        }
    } else if let Some(username) = text("queue") {
        queue(world, username, step, values).await?;
    } else if let Some(username) = text("queued") {
        let actor = world.actor(username)?;
        let keys = world.outbox_keys(&actor.tenant.tenant_id, &actor.user.user_id).await?;
        name_message(text("as").unwrap_or("queued"), keys.last().context("nothing is queued")?, values);
    } else if let Some(fate) = text("courier") {
        world.courier.set_fate(match fate {
            "failed" => Fate::Failed,
            "refused" => Fate::Refused,
            other => bail!("{other} is nothing that a courier does"),
        });
    } else if let Some(name) = text("forget") {
        world.forget(&known(name)?).await?;
    } else if let Some(milliseconds) = step["advanceMilliseconds"].as_u64() {
        world.clock.advance(Duration::from_millis(milliseconds));
    } else if let (Some(tenant), Some(origin)) = (text("tenant"), text("names")) {
        name_origin(world, tenant, origin).await?;
    } else if let (Some(tenant), Some(host)) = (text("tenant"), text("leadsTo")) {
        let host = LinkHost::parse(host)?;
        world.change_policy(tenant, |policy| policy.link_hosts.push(host)).await?;
    } else if let Some(tenant) = text("tenant") {
        world.change_tenant(tenant, step["status"] == "SUSPENDED", text("admits")).await?;
    } else if let Some(tenant) = text("policy") {
        change_policy(world, tenant, step).await?;
    } else if let Some(tenant) = text("rotating") {
        values.insert("secret.arn".to_owned(), begin_rotation(world, tenant, step).await?);
    } else if text("down") == Some("secrets") {
        world.secret_calls.set_down(true);
    } else if text("down") == Some("dynamodb") {
        world.stop_dynamodb().await;
    } else if text("down") == Some("hashing") {
        world.passwords.set_broken(true);
    } else {
        bail!("is no step that replay knows");
    }
    Ok(())
}

/// Begins the rotation of a tenant's secret, and takes the steps that are named; the secret's ARN.
async fn begin_rotation(world: &World, tenant: &str, step: &Value) -> Result<String> {
    let version = step["version"].as_str().context("no version")?;
    world.switch_rotation_on(tenant).await?;
    world.begin_rotation(tenant, version).await?;
    for step in step["steps"].as_array().into_iter().flatten() {
        world.rotation_step(serde_json::from_value(step.clone())?, tenant, version).await?;
    }
    world.secret_arn(tenant).await
}

/// Puts a code for a user into the outbox, and names it.
async fn queue(
    world: &World,
    username: &str,
    step: &Value,
    values: &mut BTreeMap<String, String>,
) -> Result<()> {
    let actor = world.actor(username)?;
    let medium = if step["medium"] == "text" { Medium::Text } else { Medium::Mail };
    let queued = world.queue_code(&actor.tenant.tenant_id, &actor.user.user_id, medium, None).await?;
    let name = step["as"].as_str().unwrap_or("queued");
    name_message(name, &queued.key, values);
    values.insert(format!("{name}.code"), queued.code.expose().to_owned());
    Ok(())
}

/// Ends all of a user's sessions, as one of them.
async fn end_all(world: &World, login: &Login) -> Result<()> {
    let (path, tenant) = (login.actor.sessions(), &login.actor.tenant.tenant_id);
    let answer = world.request(&Method::DELETE, &path, tenant, Some(&login.token), None).await?;
    ensure!(answer.status == 200, "was refused: {}", answer.text);
    Ok(())
}

/// The cursor after a first page of that many.
async fn next_page(world: &World, login: &Login, limit: &Value) -> Result<String> {
    let path = format!("{}?limit={limit}", login.actor.sessions());
    let tenant = &login.actor.tenant.tenant_id;
    let answer = world.request(&Method::GET, &path, tenant, Some(&login.token), None).await?;
    let cursor = answer.data("nextCursor");
    ensure!(!cursor.is_empty(), "has no next page: {}", answer.text);
    Ok(cursor.to_owned())
}

/// Lets pages of an origin call.
async fn name_origin(world: &World, tenant: &str, origin: &str) -> Result<()> {
    let origin = WebOrigin::parse(origin)?;
    world.change_policy(tenant, |policy| policy.cors_origins.push(origin)).await
}

/// Sets those fields of a tenant's policy that a step names.
async fn change_policy(world: &World, tenant: &str, step: &Value) -> Result<()> {
    let number = |name: &str| step[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let named = [
        "passwordHistory",
        "wrongCodes",
        "disableAfter",
        "failuresPerUser",
        "failuresPerAddress",
        "failuresPerTenant",
        "sessionLimit",
    ]
    .map(number);
    ensure!(named.iter().any(Option::is_some), "names no policy");
    let [last, wrong_codes, disable_after, per_user, per_address, per_tenant, max] = named;
    let when_full = step["whenFull"].as_str().map_or(Some(WhenFull::Reject), WhenFull::from_name);
    let when_full = when_full.context("no such whenFull")?;
    let limit = max.map(|max| SessionLimit { max, when_full });
    world
        .change_policy(tenant, |policy| {
            policy.password_history = last.map_or(policy.password_history, |last| last as usize);
            policy.wrong_codes_per_ip = wrong_codes.unwrap_or(policy.wrong_codes_per_ip);
            policy.disable_after = disable_after.unwrap_or(policy.disable_after);
            policy.failures_per_user = per_user.unwrap_or(policy.failures_per_user);
            policy.failures_per_ip = per_address.unwrap_or(policy.failures_per_ip);
            policy.failures_per_tenant = per_tenant.unwrap_or(policy.failures_per_tenant);
            policy.session_limit = limit.or(policy.session_limit);
        })
        .await
}

/// A code: from the mail that the tenant asks for, or returned to an administrator.
async fn ask(world: &World, username: &str, by: Option<&Login>) -> Result<String> {
    let actor = world.actor(username)?;
    let (tenant, user) = (&actor.tenant.tenant_id, &actor.user.user_id);
    let path = format!("/v2/users/{user}/password_reset");
    let (bearer, body) = match by {
        Some(login) => (Some(login.token.as_str()), json!({ "returnCode": {} })),
        None => (None, json!({})),
    };
    let mut event = e2e::event(&Method::POST, &path, tenant, bearer, Some(&body));
    if by.is_none() {
        event = e2e::as_tenant(event);
    }
    let answer = world.send(Function::ResetLogin, &event.to_string()).await?;
    ensure!(answer.status == 200, "was refused: {}", answer.text);
    match answer.body["verificationCode"].as_str() {
        Some(code) => Ok(code.to_owned()),
        None => world.newest_code(tenant, user).await,
    }
}

/// A change of its own password with a wrong present one.
async fn fail_update(world: &World, username: &str, by: &Login) -> Result<()> {
    let user = world.actor(username)?.user.user_id;
    let body = json!({ "password": crate::NEW_PASSWORD, "currentPassword": "not the password" });
    ensure!(world.update(by, &user, &body).await?.status == 401, "was not refused");
    Ok(())
}

/// A code as a person types it, and wrong.
async fn fail_code(world: &World, username: &str) -> Result<()> {
    let actor = world.actor(username)?;
    let path = format!("/v2/users/{}/password", actor.user.user_id);
    let body = json!({ "newPassword": { "password": crate::NEW_PASSWORD }, "verificationCode": "AAAAAAAA" });
    let answer = world.request(&Method::POST, &path, &actor.tenant.tenant_id, None, Some(&body)).await?;
    ensure!(answer.status == 400, "was not refused: {}", answer.text);
    Ok(())
}

/// `{name}.pk` and `{name}.sk`, as the stream names a message.
fn name_message(name: &str, key: &OutboxKey, values: &mut BTreeMap<String, String>) {
    let record = &batch(std::slice::from_ref(key))["Records"][0]["dynamodb"]["Keys"];
    for part in ["pk", "sk"] {
        values.insert(format!("{name}.{part}"), record[part]["S"].as_str().unwrap_or_default().to_owned());
    }
}

fn remember(
    name: &str,
    login: Login,
    logins: &mut BTreeMap<String, Login>,
    values: &mut BTreeMap<String, String>,
) {
    values.insert(format!("{name}.token"), login.token.clone());
    values.insert(format!("{name}.refreshToken"), login.refresh.clone());
    values.insert(format!("{name}.sessionId"), login.session.clone());
    values.insert(format!("{name}.deviceProof"), login.device_proof.clone());
    logins.insert(name.to_owned(), login);
}

/// Replaces every `{{name}}`.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("an unclosed {{")?;
        filled.push_str(before);
        if name.starts_with('.') {
            // A link's own placeholder.
            filled.extend(["{{", name, "}}"]);
            rest = after;
            continue;
        }
        filled.push_str(values.get(name).with_context(|| format!("no value for {{{{{name}}}}}"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn check(answer: &Answer, expect: &Value, values: &BTreeMap<String, String>) -> Result<()> {
    let expect: Value = serde_json::from_str(&fill(&expect.to_string(), values)?)?;
    ensure!(json!(answer.status) == expect["status"], "status {}, body {}", answer.status, answer.text);
    let named = expect["headers"].as_object().into_iter().flatten();
    let named = named.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let always = ALWAYS.into_iter().filter(|(name, _)| expect["headers"].get(name).is_none());
    for (name, expected) in always.chain(named) {
        let found = answer.header(name);
        ensure!(found == expected || (expected == "*" && !found.is_empty()), "header {name}: {found:?}");
    }
    for name in ["www-authenticate", "retry-after", "access-control-allow-origin", "vary"] {
        let expected = expect["headers"].get(name).is_some();
        ensure!(answer.headers.contains_key(name) == expected, "header {name}: {:?}", answer.header(name));
    }
    ensure!(json!(answer.cookies) == *expect.get("cookies").unwrap_or(&json!([])), "{:?}", answer.cookies);
    let kind = match (&expect["headers"]["content-type"], expect.get("body")) {
        (Value::String(kind), _) => kind,
        (_, None) if answer.status == 204 => "",
        (_, None) => return is_page(answer, &expect),
        (_, Some(_)) => "application/json",
    };
    ensure!(answer.header("content-type") == kind, "content-type {}", answer.header("content-type"));
    ensure!(expect.get("body").is_some() || answer.bytes.is_empty(), "body {}", answer.text);
    same(&answer.body, &expect["body"], "body")
}

/// Whether it is HTML with every text that is expected and none that must not be there; or, where
/// none is, nothing.
fn is_page(answer: &Answer, expect: &Value) -> Result<()> {
    let texts = |name: &str| expect[name].as_array().into_iter().flatten().filter_map(Value::as_str);
    let kind = if expect.get("text").is_some() { "text/html; charset=utf-8" } else { "" };
    ensure!(answer.header("content-type") == kind, "content-type {}", answer.header("content-type"));
    ensure!(kind.is_empty() == answer.text.is_empty(), "body {}", answer.text);
    for text in texts("text") {
        ensure!(answer.text.contains(text), "no {text} in {}", answer.text);
    }
    for text in texts("textWithout") {
        ensure!(!answer.text.contains(text), "{text} in {}", answer.text);
    }
    for name in ["content-security-policy", "referrer-policy", "x-frame-options"] {
        ensure!(answer.headers.contains_key(name), "no header {name}");
    }
    Ok(())
}

/// Whether `found` is what is expected; `<kind>` stands for what varies.
fn same(found: &Value, expected: &Value, at: &str) -> Result<()> {
    match (found, expected) {
        (Value::String(text), Value::String(kind)) if kind.starts_with('<') => {
            let fits = match kind.as_str() {
                "<uuid>" => text.len() == 36 && text.matches('-').count() == 4,
                "<jwt>" => text.split('.').count() == 3 && text.starts_with("eyJ"),
                "<refresh token>" => text.starts_with("dwr1_"),
                "<device proof>" => text.starts_with("dwd1_") && text.len() == 85,
                "<time>" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
                "<code>" => text.len() == 8 && text.bytes().all(|letter| letter.is_ascii_alphanumeric()),
                "<text>" => !text.is_empty(),
                other => bail!("{at}: {other} is no kind that replay knows"),
            };
            ensure!(fits, "{at}: {text} is no {kind}");
        }
        (Value::Object(found), Value::Object(expected)) => {
            for (name, expected) in expected {
                same(found.get(name).unwrap_or(&Value::Null), expected, &format!("{at}.{name}"))?;
            }
            let unexpected: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
            ensure!(unexpected.is_empty(), "{at}: unexpected {unexpected:?}");
        }
        (Value::Array(found), Value::Array(expected)) => {
            ensure!(found.len() == expected.len(), "{at}: {} elements, not {}", found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                same(found, expected, &format!("{at}[{index}]"))?;
            }
        }
        _ => ensure!(found == expected, "{at}: {found}, not {expected}"),
    }
    Ok(())
}
