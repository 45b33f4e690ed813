//! No secret reaches a log (docs/design/security.md#rule-24).

#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use doorward::{
    domain::{ClientScope, Medium},
    route::Function,
};
use e2e::{
    Actor, BROWSER_COOKIE, LINK_COOKIE, Login, NORDIC, RegisteredClient, Visitor, World, as_tenant,
    authorizer_event,
    delivery::Fate,
    event,
    fault_proxy::{Effect, Fault, Operation},
    oauth_event,
};
use http::Method;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

const ADMIN: &str = "admin@cloudvault.example";
const NORDIC_ADMIN: &str = "admin@nordic.example";
const MARCUS: &str = "marcus.jensen@example.com";
const NEW_PASSWORD: &str = "a brand new passphrase";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn no_secret_is_logged_and_every_decision_is() {
    let captured = Captured::default();
    let lines = doorward::function::log_lines(captured.clone(), tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(lines);

    let world = World::start().await.unwrap();
    let admin = world.actor(ADMIN).unwrap();
    let mut planted = vec![
        admin.user.password.clone(),
        admin.tenant.tenant_secret.clone(),
        admin.tenant.tenant_key.clone(),
        NEW_PASSWORD.to_owned(),
        "PLANTED".to_owned(),
        "$argon2".to_owned(),
    ];
    let login = world.login(&admin).await.unwrap();
    let refreshed = world.refreshed(&login).await.unwrap();
    for tokens in [&login, &refreshed] {
        planted.extend([tokens.token.clone(), tokens.refresh.clone(), tokens.session.clone()]);
        planted.extend(tokens.token.split('.').map(str::to_owned));
    }
    planted.push(login.device_proof.clone());
    // Marked secrets, correct and wrong, in every field, and every kind of failure.
    world.try_login(&admin, "PLANTED password").await.unwrap();
    for proof in [login.device_proof.as_str(), "dwd2_PLANTED", &"PLANTED".repeat(20)] {
        world.try_login_from(&admin, "PLANTED password", "192.0.2.1", Some(proof)).await.unwrap();
    }
    let mut wrong = admin.clone();
    wrong.tenant.tenant_key = "PLANTED tenant key".into();
    wrong.tenant.tenant_secret = "PLANTED tenant secret".into();
    world.try_login(&wrong, "PLANTED").await.unwrap();
    world.refresh(&e2e::Login { refresh: "dwr1_PLANTED".into(), ..refreshed.clone() }).await.unwrap();
    world
        .refresh(&e2e::Login { token: "PLANTED.PLANTED.PLANTED".into(), ..refreshed.clone() })
        .await
        .unwrap();
    let id = admin.user.user_id.clone();
    for body in [
        json!({ "password": "PLANTED", "currentPassword": "PLANTED" }),
        json!({ "password": NEW_PASSWORD, "currentPassword": "PLANTED" }),
        json!({ "password": NEW_PASSWORD, "newPassword": "PLANTED", "currentPassword": 1 }),
        json!({ "password": NEW_PASSWORD, "currentPassword": admin.user.password }),
    ] {
        world.update(&refreshed, &id, &body).await.unwrap();
    }
    world.logout(&refreshed).await.unwrap();
    let nordic = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    world
        .reset(&nordic, &json!({ "userId": marcus.user.user_id, "reason": "asked by phone" }))
        .await
        .unwrap();
    let (tenant, user) = (&marcus.tenant.tenant_id, &marcus.user.user_id);
    planted.push(world.newest_code(tenant, user).await.unwrap());
    let keys = world.outbox_keys(tenant, user).await.unwrap();
    for fate in [Fate::Failed, Fate::Refused] {
        world.courier.set_fate(fate);
        world.deliver_all(&keys).await;
    }
    world.courier.set_fate(Fate::Taken);
    for medium in [Medium::Mail, Medium::Text] {
        let link = "https://PLANTED.example/{{.Code}}";
        let queued = world.queue_code(tenant, user, medium, Some(link)).await.unwrap();
        planted.push(queued.code.expose().to_owned());
        assert_eq!(world.deliver_all(&[queued.key]).await, 0);
    }
    let marked = mark_everything(&world, &nordic, &mut planted).await;
    planted.extend(["+4512345678".to_owned(), "https://login.example.com".to_owned()]);
    assert_eq!(world.courier.take().len(), 2);
    // After a minute, the use of the secret is stored again.
    world.clock.advance(Duration::from_secs(61));
    let note = Fault::on(Operation::UpdateItem, Effect::FailInternally).sk_prefix("SECRET#");
    let _failing = world.faults.inject(note.always());
    let wrong = marked_headers(login_event(&nordic.actor, "PLANTED"));
    assert_eq!(world.send(Function::CreateSession, &wrong.to_string()).await.unwrap().status, 422);
    world.stop_dynamodb().await;
    let unavailable = marked_headers(login_event(&nordic.actor, "PLANTED"));
    assert_eq!(world.send(Function::CreateSession, &unavailable.to_string()).await.unwrap().status, 503);

    let text = captured.text();
    let audit = world.audit.lines().join("\n");
    for secret in planted.iter().filter(|secret| secret.len() >= 6) {
        assert!(!text.contains(secret.as_str()), "a log contains {secret}");
        assert!(!audit.contains(secret.as_str()), "the audit log contains {secret}");
    }
    check_events(&world, tenant, user, &id, 18 + marked);
    check_lines(&text);
    assert!(!audit.contains("DynamoDB"), "the audit log contains the cause of a server error");
}

fn login_event(actor: &Actor, password: &str) -> Value {
    let body = actor.credentials(password);
    event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body))
}

/// Adds marked texts to every header that accepts free text.
fn marked_headers(mut event: Value) -> Value {
    for (name, value) in [
        ("idempotency-key", "PLANTED key of a request"),
        ("origin", "https://PLANTED.example"),
        ("x-forwarded-for", "PLANTED, 192.0.2.7, PLANTED"),
    ] {
        event["headers"][name] = json!(value);
    }
    event
}

/// Sends marked texts in every part of a request outside of its body fields. Returns the number of
/// requests.
async fn mark_everything(world: &World, login: &Login, planted: &mut Vec<String>) -> usize {
    // The functions read `X-Forwarded-For`.
    let trust = |policy: &mut doorward::domain::Policy| {
        policy.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    world.change_policy(NORDIC, trust).await.unwrap();
    let (actor, sessions) = (&login.actor, login.actor.sessions());
    let ask = |method: &Method, path: &str, bearer: &str| event(method, path, NORDIC, Some(bearer), None);
    let by_path = |method: Method, rest: &str| ask(&method, &format!("{sessions}{rest}"), &login.token);
    let mut strange_proof = login_event(actor, &actor.user.password);
    let mut body = actor.credentials(&actor.user.password);
    body["deviceProof"] = json!({ "PLANTED": ["PLANTED"] });
    strange_proof["body"] = json!(body.to_string());
    // A person may type the password in place of the name.
    let mut unknown_name = login_event(actor, "PLANTED password");
    let mut body = actor.credentials("PLANTED password");
    body["username"] = json!("PLANTED name");
    unknown_name["rawPath"] = json!(actor.named_sessions());
    unknown_name["requestContext"]["http"]["path"] = json!(actor.named_sessions());
    unknown_name["body"] = json!(body.to_string());
    let mut long_key = login_event(actor, &actor.user.password);
    long_key["headers"]["idempotency-key"] = json!("PLANTED".repeat(100));
    let mut requests = vec![
        // A success, its replay, a mismatch and an invalid key.
        (Function::CreateSession, marked_headers(login_event(actor, &actor.user.password)), 200),
        (Function::CreateSession, marked_headers(login_event(actor, &actor.user.password)), 200),
        (Function::CreateSession, marked_headers(login_event(actor, "PLANTED password")), 422),
        (Function::CreateSession, unknown_name, 401),
        (Function::CreateSession, long_key, 400),
        (Function::CreateSession, strange_proof, 400),
        (Function::ListSessions, marked_headers(by_path(Method::GET, "?PLANTED=PLANTED")), 200),
        (Function::ListSessions, by_path(Method::GET, "?cursor=PLANTED"), 400),
        (Function::ListSessions, by_path(Method::GET, "?cursor=PLANTED&cursor=PLANTED"), 400),
        (Function::ListSessions, by_path(Method::GET, "?limit=PLANTED"), 400),
        (Function::ListSessions, by_path(Method::GET, "/PLANTED"), 404),
        (Function::DeleteSession, by_path(Method::DELETE, "?except=PLANTED"), 400),
        (Function::DeleteSession, by_path(Method::DELETE, "/PLANTED"), 404),
    ];
    for bearer in ["PLANTED", "PLANTED.PLANTED.PLANTED", &format!("{}PLANTED", login.token)] {
        requests.extend([
            (Function::ListSessions, marked_headers(ask(&Method::GET, &sessions, bearer)), 401),
            (Function::ListSessions, marked_headers(ask(&Method::GET, &login.path(), bearer)), 401),
            (Function::DeleteSession, marked_headers(ask(&Method::DELETE, &sessions, bearer)), 401),
        ]);
    }
    for path in [
        "/v2/users/somebody/password_reset".to_owned(),
        "/zitadel.user.v2.UserService/PasswordReset".to_owned(),
    ] {
        let body = json!({ "userId": "somebody" });
        for marked in [&["x-tenant-key"][..], &["x-tenant-secret"], &["x-tenant-key", "x-tenant-secret"]] {
            let mut event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&body)));
            for name in marked {
                event["headers"][*name] = json!("PLANTED credential");
            }
            requests.push((Function::ResetLogin, marked_headers(event), 403));
        }
    }
    let first_page = by_path(Method::GET, "?limit=1");
    let page = world.send(Function::ListSessions, &first_page.to_string()).await.unwrap();
    assert_eq!(page.status, 200, "{page:?}");
    for (function, event, status) in &requests {
        let answer = world.send(*function, &event.to_string()).await.unwrap();
        assert_eq!(answer.status, *status, "{event}: {}", answer.text);
        for secret in ["token", "refreshToken", "deviceProof", "sessionId"] {
            planted.push(answer.data(secret).to_owned());
        }
    }
    // A valid cursor and a modified one.
    let page = world.send(Function::ListSessions, &first_page.to_string()).await.unwrap();
    let cursor = page.data("nextCursor").to_owned();
    assert!(cursor.len() > 20, "{page:?}");
    for (cursor, status) in [(cursor.clone(), 200), (format!("{cursor}PLANTED"), 400)] {
        let next = by_path(Method::GET, &format!("?limit=1&cursor={cursor}"));
        assert_eq!(world.send(Function::ListSessions, &next.to_string()).await.unwrap().status, status);
    }
    planted.push(cursor);
    let end = marked_headers(by_path(Method::DELETE, "?except=current"));
    assert_eq!(world.send(Function::DeleteSession, &end.to_string()).await.unwrap().status, 200);
    requests.len() + 5
}

/// Asserts that each decision has one audit event with its request ID, tenant, function and outcome.
fn check_events(world: &World, tenant: &str, user: &str, id: &str, decisions: usize) {
    let (delivered, decided): (Vec<_>, Vec<_>) =
        world.audit.events().into_iter().partition(|event| event["action"] == "message.deliver");
    let outcomes: Vec<_> = delivered.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["UNAVAILABLE", "REFUSED", "SUCCESS", "SUCCESS"]);
    for event in &delivered {
        assert_eq!((&event["tenant"], &event["user"]), (&json!(tenant), &json!(user)));
        assert_eq!(event["kind"], "reset_code");
    }
    assert_eq!(decided.len(), decisions);
    for event in delivered.iter().chain(&decided) {
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(event["request_id"], "e2e-request");
        assert!(event["tenant"].is_string() || event["claimed_tenant"].is_string(), "{event}");
        assert!(event["function"].is_string() && event["outcome"].is_string(), "{event}");
        assert!(event["milliseconds"].is_number());
    }
    let login = &decided[0];
    assert_eq!((&login["outcome"], &login["user"]), (&json!("SUCCESS"), &json!(id)));
    assert!(login["session"].as_str().unwrap().len() >= 16);
    assert_eq!(login["session"], decided[1]["session"], "one session must have one digest");
    let reset = decided.iter().find(|event| event["function"] == "reset-login").unwrap();
    assert_eq!(reset["admin_reason"], "asked by phone");
}

/// Asserts that each log line has the request ID, the function and the tenant.
fn check_lines(text: &str) {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own: Vec<_> = lines
        .iter()
        .filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("doorward")))
        .collect();
    for line in &own {
        assert_eq!(line["span"]["request_id"], "e2e-request", "{line}");
        assert!(line["span"]["function"].is_string() && line["span"]["tenant"].is_string(), "{line}");
    }
    let names: Vec<_> = own.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(names, ["message.failed", "message.failed", "secret.use_not_noted", "request.failed"]);
    assert!(own[3]["cause"].as_str().unwrap().contains("DynamoDB"), "the log must contain the cause");
}

// docs/design/security.md#rule-24
#[tokio::test(flavor = "current_thread")]
async fn no_secret_of_the_hosted_page_is_logged() {
    let captured = Captured::default();
    let lines = doorward::function::log_lines(captured.clone(), tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(lines);

    let world = World::start().await.unwrap();
    let nordic = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (marcus.tenant.tenant_id.as_str(), marcus.user.user_id.as_str());
    world.reset(&nordic, &json!({ "userId": user })).await.unwrap();
    let code = world.newest_code(tenant, user).await.unwrap();

    let mut visitor = Visitor::new(tenant);
    let mut typing = visitor.clone();
    for query in
        ["userId=PLANTED&code=PLANTED-CODE", "code=PLANTED-CODE", "PLANTED", "userId=%ff&code=PLANTED"]
    {
        visitor.open(&world, query).await.unwrap();
    }
    visitor.cookies = vec!["__Host-doorward-reset=PLANTED.PLANTED.PLANTED".to_owned()];
    visitor.open(&world, "").await.unwrap();
    let token = visitor.follow(&world, user, Some(&code)).await.unwrap();
    let cookie = visitor.cookie(LINK_COOKIE).cloned().unwrap();
    let browser = visitor.cookie(BROWSER_COOKIE).cloned().unwrap();
    let typed_token = typing.follow(&world, user, None).await.unwrap();
    for password in ["PLANTED", "PLANTED PLANTED PLANTED"] {
        let fields = [("token", typed_token.as_str()), ("password", password), ("repeated", password)];
        typing.submit(&world, &fields).await.unwrap();
        typing.submit(&world, &[fields[0], fields[1], fields[2], ("code", "PLANTEDC")]).await.unwrap();
    }
    for (token, password, repeated) in [
        ("PLANTED", NEW_PASSWORD, NEW_PASSWORD),
        (token.as_str(), "PLANTED", "PLANTED"),
        (token.as_str(), "PLANTED", "PLANTED too"),
        (token.as_str(), NEW_PASSWORD, NEW_PASSWORD),
        (token.as_str(), NEW_PASSWORD, NEW_PASSWORD),
    ] {
        let fields = [("token", token), ("password", password), ("repeated", repeated)];
        visitor.submit(&world, &fields).await.unwrap();
    }
    world.stop_dynamodb().await;
    visitor
        .submit(&world, &[("token", token.as_str()), ("password", "PLANTED it"), ("repeated", "PLANTED it")])
        .await
        .unwrap();

    let text = captured.text() + &world.audit.lines().join("\n");
    let cookie = cookie.split_once('=').unwrap().1;
    let browser = browser.split_once('=').unwrap().1;
    let encoded_code = cookie.rsplit('.').next().unwrap();
    let found = [code.as_str(), token.as_str(), typed_token.as_str(), cookie, browser, encoded_code];
    for secret in found.into_iter().chain(["PLANTED", NEW_PASSWORD, "$argon2"]) {
        assert!(!text.contains(secret), "a log contains {secret}");
    }
    let pages = world.audit.events();
    let pages =
        pages.iter().filter(|event| event["function"] == "password-page" && event["tenant"] == tenant);
    let outcomes: Vec<_> = pages.map(|event| event["outcome"].as_str().unwrap()).collect();
    // The log contains the reason of each rejected form.
    for outcome in ["SUCCESS", "FORBIDDEN", "VALIDATION", "PASSWORD_POLICY", "INVALID_CODE", "UNAVAILABLE"] {
        assert!(outcomes.contains(&outcome), "{outcome} in {outcomes:?}");
    }
}

// docs/design/security.md#rule-24, #rule-30
#[tokio::test(flavor = "current_thread")]
async fn no_secret_of_the_user_api_is_logged() {
    let captured = Captured::default();
    let lines = doorward::function::log_lines(captured.clone(), tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(lines);

    let world = World::start().await.unwrap();
    let scopes = [ClientScope::UsersRead, ClientScope::UsersWrite];
    let client = world.register_client(NORDIC, &scopes, |_| ()).await.unwrap();
    let token = world.client_token(&client).await.unwrap();
    let post = async |path: &str, body: Value| {
        world.request(&Method::POST, path, NORDIC, Some(&token), Some(&body)).await.unwrap()
    };
    let organization = world.actor(MARCUS).unwrap().user.organization_id;
    let person = |human: Value| json!({ "organizationId": organization, "userId": "ada", "human": human });
    let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "PLANTED");
    let email = json!({ "email": "planted@new.example", "returnCode": {} });
    for (human, status) in [
        (json!({ "email": email, "hashedPassword": { "hash": "PLANTED" } }), 400),
        (json!({ "email": email, "password": { "password": "PLANTED" } }), 400),
        (json!({ "email": "PLANTED", "profile": { "givenName": "PLANTED\n" } }), 400),
        (
            json!({
                "email": email,
                "profile": { "givenName": "PLANTED", "nickName": "PLANTED" },
                "password": { "password": "PLANTED passphrase" },
                "metadata": [{ "key": "PLANTED", "value": value }],
            }),
            200,
        ),
    ] {
        let answer = post("/v2/users/new", person(human)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let queries = json!([{ "userNameQuery": { "userName": "PLANTED" } }, { "PLANTED": {} }]);
    assert_eq!(post("/v2/users", json!({ "queries": queries })).await.status, 400);
    let wrong = post("/v2/users/ada/email/verify", json!({ "verificationCode": "PLANTEDX" })).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    let issued = post("/v2/users/ada/email/send", json!({ "returnCode": {} })).await;
    let code = issued.body["verificationCode"].as_str().unwrap();
    let verified = post("/v2/users/ada/email/verify", json!({ "verificationCode": code })).await;
    assert_eq!(verified.status, 200, "{}", verified.text);

    let text = captured.text() + &world.audit.lines().join("\n");
    for secret in ["PLANTED", "planted", value.as_str(), code, token.as_str(), "$argon2"] {
        assert!(!text.contains(secret), "a log contains {secret}");
    }
    assert!(text.contains("user.create") && text.contains("email.verify"), "each call has its audit event");
}

// docs/design/security.md#rule-24, #rule-27
#[tokio::test(flavor = "current_thread")]
async fn no_secret_of_an_api_client_is_logged() {
    let captured = Captured::default();
    let lines = doorward::function::log_lines(captured.clone(), tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(lines);

    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let client = world.register_client(NORDIC, &[ClientScope::Introspect], |_| ()).await.unwrap();
    let token = world.client_token(&client).await.unwrap();
    let tenant = &login.actor.tenant;
    let mut planted = vec!["PLANTED".to_owned(), client.secret.clone(), client.basic(), token.clone()];
    planted.extend([login.token.clone(), login.refresh.clone(), login.session.clone()]);
    planted.extend([tenant.tenant_key.clone(), tenant.tenant_secret.clone()]);
    planted.extend([&login.token, &token].into_iter().flat_map(|token| token.split('.')).map(str::to_owned));

    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let own = RegisteredClient {
        id: tenant.tenant_key.clone(),
        secret: tenant.tenant_secret.clone(),
        ..client.clone()
    };
    let wrong = RegisteredClient { secret: "PLANTED".to_owned(), ..client.clone() };
    let unknown = RegisteredClient { id: "PLANTED".to_owned(), ..client.clone() };
    for endpoint in ["token", "introspect", "revoke"] {
        for by in [&client, &own, &wrong, &unknown] {
            for token in [token.as_str(), &login.refresh, "PLANTED.PLANTED.PLANTED", "dwr1_PLANTED"] {
                let form = [("grant_type", "client_credentials"), ("token", token), ("scope", "PLANTED")];
                world.oauth(by, endpoint, &form).await.unwrap();
                world.oauth(by, endpoint, &form[..2]).await.unwrap();
            }
        }
        for form in [
            [("client_assertion_type", kind), ("client_assertion", "PLANTED.PLANTED.PLANTED")],
            [("client_id", client.id.as_str()), ("client_secret", "PLANTED")],
            [("client_id", "PLANTED"), ("client_secret", client.secret.as_str())],
        ] {
            let event = marked_headers(oauth_event(NORDIC, endpoint, None, &form));
            world.send(Function::Oauth, &event.to_string()).await.unwrap();
        }
    }
    world.stop_dynamodb().await;
    world.clock.advance(Duration::from_secs(5));
    let failed = world.oauth(&client, "introspect", &[("token", &login.token)]).await.unwrap();
    assert_eq!(failed.status, 503);

    let text = captured.text();
    assert!(text.contains("request.failed"), "no request.failed");
    let text = text + &world.audit.lines().join("\n");
    assert!(text.contains(&client.id), "the audit log names the client");
    for secret in planted.iter().filter(|secret| secret.len() >= 6) {
        assert!(!text.contains(secret.as_str()), "a log contains {secret}");
    }
}

// docs/design/security.md#rule-24
#[tokio::test(flavor = "current_thread")]
async fn no_secret_is_logged_by_the_authorizer_and_the_public_routes() {
    let captured = Captured::default();
    let lines = doorward::function::log_lines(captured.clone(), tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(lines);

    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let document = world.secret_document(NORDIC).await.unwrap();
    let of_document = [&document["rootKeys"][0]["key"], &document["signingKeys"][0]["privateKey"]];
    let mut planted =
        vec!["PLANTED".to_owned(), login.token.clone(), login.refresh.clone(), login.session.clone()];
    planted.extend(of_document.map(|secret| secret.as_str().unwrap().to_owned()));
    planted.extend(login.token.split('.').map(str::to_owned));

    let tampered = format!("{}PLANTED", login.token);
    let bearers = [&login.token, &login.refresh, &tampered, "PLANTED", "PLANTED.PLANTED.PLANTED"];
    let ask = |bearer: &str| {
        let mut event = marked_headers(authorizer_event(Some(bearer)));
        event["rawPath"] = json!("/PLANTED");
        event["rawQueryString"] = json!("PLANTED=PLANTED");
        event["cookies"] = json!(["PLANTED=PLANTED"]);
        event["pathParameters"] = json!({ "order": "PLANTED" });
        event
    };
    for bearer in bearers {
        let answer = world.authorize(&ask(bearer)).await.unwrap();
        assert_eq!(answer["isAuthorized"], bearer == login.token, "{bearer}");
    }
    for path in ["openid-configuration", "jwks.json"] {
        let path = format!("/tenants/{NORDIC}/.well-known/{path}?PLANTED=PLANTED");
        let event = marked_headers(event(&Method::GET, &path, NORDIC, Some("PLANTED"), None));
        assert_eq!(world.send(Function::Discovery, &event.to_string()).await.unwrap().status, 200);
    }
    world.stop_dynamodb().await;
    assert!(world.authorize(&ask(&login.token)).await.is_err());
    let health = marked_headers(event(&Method::GET, "/healthz?PLANTED", "", Some("PLANTED"), None));
    assert_eq!(world.send(Function::Discovery, &health.to_string()).await.unwrap().status, 503);

    let text = captured.text();
    for line in ["request.failed", "table.unreachable"] {
        assert!(text.contains(line), "no {line}");
    }
    let text = text + &world.audit.lines().join("\n");
    for secret in planted.iter().filter(|secret| secret.len() >= 6) {
        assert!(!text.contains(secret.as_str()), "a log contains {secret}");
    }
    let asked = world.audit.events().into_iter().filter(|event| event["action"] == "session.authorize");
    let outcomes: Vec<_> = asked.map(|event| event["outcome"].as_str().unwrap().to_owned()).collect();
    let refused = ["INVALID_TOKEN"; 4];
    assert_eq!(outcomes, [&["SUCCESS"][..], &refused, &["UNAVAILABLE"]].concat());
}
