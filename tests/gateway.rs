//! Requests as API Gateway's HTTP APIs deliver them: decoded paths, joined headers, cookies, base64 bodies,
//! stages, and text outside ASCII.

use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    domain::{User, UserId, Username},
    port::Clock,
    route::{Function, table},
};
use e2e::{NORDIC, World, event};
use http::Method;
use serde_json::{Value, json};

use crate::{MARCUS, NORDIC_ADMIN};

/// Creates a user of Marcus' organization with this ID.
async fn create_user(world: &World, id: &str) -> User {
    let marcus = world.user(&world.actor(MARCUS).unwrap()).await.unwrap();
    let username = Username::parse(&format!("{id} <before>")).unwrap();
    let user = User { id: UserId::parse(id).unwrap(), username, ..marcus };
    world.store.create_user(&user, world.clock.now()).await.unwrap();
    user
}

/// An administrator changes the username of the user whose ID is in the decoded path. Returns the status.
async fn rename(world: &World, token: &str, decoded_id: &str) -> i64 {
    let path = format!("/api/v2.1/admin/users/{decoded_id}/credentials");
    let body = json!({ "username": format!("{decoded_id} <after>") });
    let mut event = event(&Method::PUT, "/", NORDIC, Some(token), Some(&body));
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["path"] = json!(path);
    world.send(Function::UpdateCredentials, &event.to_string()).await.unwrap().status
}

// docs/design/contract.md#every-request: a second decoding would turn one ID into another.
#[tokio::test]
async fn path_is_not_decoded_again() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    for (decoded, other) in [("a%2Fb", "a/b"), ("john%40x.com", "john@x.com"), ("%61da", "ada"), ("%25", "%")]
    {
        let before = create_user(&world, other).await;
        assert_eq!(rename(&world, &admin.token, decoded).await, 404, "{decoded}");
        let after = world.store.user(&before.tenant, &before.id).await.unwrap().unwrap();
        assert_eq!(after.sequence, before.sequence, "a request for {decoded} must not change {other}");
    }
    for id in ["john+tag@x.com", "jürgen@x.com", "with space", "a&b=c;d", "100%25"] {
        create_user(&world, id).await;
        assert_eq!(rename(&world, &admin.token, id).await, 200, "{id}");
    }
}

/// A login of Marcus through the gateway.
fn login_event(world: &World) -> Value {
    let marcus = world.actor(MARCUS).unwrap();
    let body = marcus.credentials(&marcus.user.password);
    event(&Method::POST, &marcus.sessions(), NORDIC, None, Some(&body))
}

// docs/design/contract.md#every-request
#[tokio::test]
async fn login_works_in_every_form_that_the_gateway_delivers() {
    let world = World::start().await.unwrap();
    let usual = login_event(&world);
    let body = usual["body"].as_str().unwrap().to_owned();
    let path = usual["rawPath"].as_str().unwrap().to_owned();
    let cases: [(&str, Value, i64); 12] = [
        ("default stage", json!({}), 200),
        (
            "named stage",
            json!({ "rawPath": format!("/prod{path}"), "requestContext": { "stage": "prod" } }),
            200,
        ),
        // A custom domain delivers no stage in the path.
        ("named stage without prefix", json!({ "requestContext": { "stage": "prod" } }), 200),
        ("stage like the first segment", json!({ "requestContext": { "stage": "ap" } }), 200),
        ("base64 body", json!({ "body": STANDARD.encode(&body), "isBase64Encoded": true }), 200),
        ("body that is not base64", json!({ "isBase64Encoded": true }), 400),
        ("cookies", json!({ "cookies": ["theme=dark", "é=ü"] }), 200),
        ("repeated header that no rule reads", json!({ "headers": { "accept": "a/b,c/d" } }), 200),
        ("repeated tenant", json!({ "headers": { "x-tenant-id": format!("{NORDIC},{NORDIC}") } }), 403),
        ("user agent outside ASCII", json!({ "headers": { "user-agent": "Gerät/1 ✓" } }), 200),
        ("other header outside ASCII", json!({ "headers": { "x-note": "é" } }), 200),
        ("content type outside ASCII", json!({ "headers": { "content-type": "application/jsön" } }), 415),
    ];
    for (name, changes, status) in cases {
        let mut event = usual.clone();
        merge(&mut event, &changes);
        let answer = world.send(Function::CreateSession, &event.to_string()).await.unwrap();
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
    }
}

/// Replaces members of an event, and members of its objects.
fn merge(event: &mut Value, changes: &Value) {
    for (name, change) in changes.as_object().unwrap() {
        match (&mut event[name], change) {
            (known @ Value::Object(_), Value::Object(_)) => merge(known, change),
            (known, change) => *known = change.clone(),
        }
    }
}

// docs/design/contract.md#every-request
#[tokio::test]
async fn compressed_body_is_rejected_on_every_route_that_reads_a_body() {
    let world = World::start().await.unwrap();
    for (function, path) in [
        (Function::CreateSession, "/api/v2.1/customer/individual/c/users/u/sessions"),
        (Function::ResetLogin, "/api/v2.1/admin/users/login/reset"),
        (Function::ResetLogin, "/v2/users/u/password_reset"),
        (Function::UpdateCredentials, "/v2/users/u/password"),
        (Function::UpdateCredentials, "/v1/users/u/reset-password"),
    ] {
        let mut event = event(&Method::POST, path, NORDIC, None, Some(&json!({})));
        event["headers"]["content-encoding"] = json!("gzip");
        let answer = world.send(function, &event.to_string()).await.unwrap();
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"), "{path}");
        event["headers"]["content-encoding"] = json!("identity");
        let answer = world.send(function, &event.to_string()).await.unwrap();
        assert_ne!(answer.status, 415, "{path}");
        event["headers"]["content-type"] = json!("text/plain");
        let answer = world.send(function, &event.to_string()).await.unwrap();
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, ""), "{path}");
    }
}

// docs/design/contract.md#every-request
#[tokio::test]
async fn head_gets_the_status_and_headers_of_get_without_a_body() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let user = &login.actor.user;
    let mut routes = 0;
    for (function, route) in table().filter(|(_, route)| route.method == Method::GET) {
        let path = route
            .path
            .replace("{tenantId}", NORDIC)
            .replace("{userId}", &user.user_id)
            .replace("{customerId}", user.customer_id.as_deref().unwrap_or_default())
            .replace("{organizationId}", &user.organization_id)
            .replace("{sessionId}", &login.session);
        let send = async |method: Method, path: &str| {
            let event = event(&method, path, NORDIC, Some(&login.token), None);
            world.send(function, &event.to_string()).await.unwrap()
        };
        for path in [path.as_str(), &path.replace(NORDIC, "nobody")] {
            let (get, head) = (send(Method::GET, path).await, send(Method::HEAD, path).await);
            assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
            assert_eq!(head.cookies, get.cookies, "{path}");
            assert!(head.bytes.is_empty() && !get.bytes.is_empty(), "{path}");
        }
        routes += 1;
    }
    assert_eq!(routes, 12);
    let sessions = login.actor.sessions();
    let event = event(&Method::HEAD, &sessions, NORDIC, Some(&login.token), None);
    let answer = world.send(Function::CreateSession, &event.to_string()).await.unwrap();
    assert_eq!(answer.status, 404, "a function without a GET route answers no HEAD");
}

// An event with more headers than `http::HeaderMap` holds panics in the parser. API Gateway delivers no such event.
#[tokio::test]
async fn panic_in_the_parser_of_events_is_a_500_response() {
    let world = World::start().await.unwrap();
    let mut event = login_event(&world);
    for number in 0..40_000 {
        event["headers"][format!("x-{number}")] = json!("1");
    }
    let answer = world.send(Function::CreateSession, &event.to_string()).await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (500, "application/json"), "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(world.audit.last()["outcome"], "INTERNAL");
}
