//! Cross-origin requests: which origins may send them and read the responses
//! (docs/design/contract.md#every-request).

use std::{collections::BTreeSet, time::Duration};

use doorward::{
    dialect::CrossOrigin,
    domain::TenantId,
    port::Clock,
    route::{self, Function},
    store::TenantChange,
};
use e2e::{Answer, NORDIC, World, event};
use http::Method;
use serde_json::{Value, json};

use crate::{ADMIN, MARCUS};

const APP: &str = "https://app.nordic.example";
const OTHER_APP: &str = "https://app.cloudvault.example";
const CLOUDVAULT: &str = "tenant_cloudvault";
const LOGIN: &str = "/api/v2.1/customer/individual/c/users/u/sessions";

async fn name(world: &World, tenant: &str, origins: &[&str]) {
    let policy = [("cors_origins".to_owned(), Some(json!(origins)))].into();
    let change = TenantChange { name: None, policy };
    world
        .store
        .update_tenant(&TenantId::parse(tenant).unwrap(), &change, world.clock.now())
        .await
        .unwrap()
        .unwrap();
    world.clock.advance(Duration::from_secs(5));
}

async fn preflight(world: &World, path: &str, origin: &str) -> Answer {
    let mut event = event(&Method::OPTIONS, path, "", None, None);
    event["headers"] = json!({ "origin": origin, "access-control-request-method": "POST" });
    world.send(Function::Preflight, &event.to_string()).await.unwrap()
}

/// A login from a page of this origin.
async fn login(world: &World, username: &str, origin: &str, change: impl FnOnce(&mut Value)) -> Answer {
    let actor = world.actor(username).unwrap();
    let body = actor.credentials(&actor.user.password);
    let mut event = event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body));
    event["headers"]["origin"] = json!(origin);
    change(&mut event);
    world.send(Function::CreateSession, &event.to_string()).await.unwrap()
}

fn shared_with(answer: &Answer) -> Option<&str> {
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    answer.headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap())
}

#[tokio::test]
async fn preflight_allows_configured_origins_only() {
    let world = World::start().await.unwrap();
    let refused = preflight(&world, LOGIN, APP).await;
    assert_eq!((refused.status, shared_with(&refused), refused.header("vary")), (204, None, "Origin"));

    name(&world, NORDIC, &[APP, "http://localhost:3000"]).await;
    let allowed = preflight(&world, LOGIN, APP).await;
    assert_eq!((allowed.status, shared_with(&allowed), allowed.text.as_str()), (204, Some(APP), ""));
    let methods: Vec<_> = allowed.header("access-control-allow-methods").split(", ").collect();
    assert!(
        methods.contains(&"POST") && !methods.contains(&"OPTIONS") && !methods.contains(&"PUT"),
        "{methods:?}"
    );
    assert_eq!((allowed.header("access-control-max-age"), allowed.header("vary")), ("600", "Origin"));
    for header in
        ["Authorization", "Content-Type", "X-Tenant-ID", "Idempotency-Key", "X-Device-Id", "X-Grpc-Web"]
    {
        assert!(
            allowed.header("access-control-allow-headers").split(", ").any(|named| named == header),
            "{header}"
        );
    }
    for strange in [
        "https://app.nordic.example.evil.example",
        "https://APP.nordic.example",
        "http://app.nordic.example",
        "null",
        "*",
        "https://app.nordic.example:444",
        "https://app.nordic.example, https://x.example",
        "",
    ] {
        let refused = preflight(&world, LOGIN, strange).await;
        assert_eq!((refused.status, shared_with(&refused)), (204, None), "{strange}");
        assert!(!refused.headers.contains_key("access-control-allow-methods"));
    }
    let mut no_preflight = event(&Method::OPTIONS, LOGIN, "", None, None);
    no_preflight["headers"] = json!({ "origin": APP });
    let answer = world.send(Function::Preflight, &no_preflight.to_string()).await.unwrap();
    assert_eq!((answer.status, shared_with(&answer)), (204, None));
}

#[test]
fn every_api_path_has_a_preflight_route_and_no_page_does() {
    let routes: Vec<_> = route::table().map(|(_, route)| route).collect();
    for route in routes.iter().filter(|route| route.method != Method::OPTIONS) {
        let preflights =
            routes.iter().filter(|it| it.method == Method::OPTIONS && it.path == route.path).count();
        assert_eq!(
            preflights,
            usize::from(route.dialect.cross_origin == CrossOrigin::Listed),
            "{}",
            route.path
        );
    }
}

#[tokio::test]
async fn preflight_allows_the_methods_of_its_path() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    for preflight in &route::PREFLIGHT {
        let expected: BTreeSet<_> = route::table()
            .filter(|(_, it)| it.path == preflight.path && it.method != Method::OPTIONS)
            .map(|(_, it)| it.method.as_str())
            .collect();
        let answer = self::preflight(&world, preflight.path, APP).await;
        let allowed: BTreeSet<_> = answer.header("access-control-allow-methods").split(", ").collect();
        assert_eq!(allowed, expected, "{}", preflight.path);
    }
}

#[tokio::test]
async fn preflight_allows_an_origin_while_any_tenant_lists_it() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    name(&world, CLOUDVAULT, &[APP, OTHER_APP]).await;
    name(&world, NORDIC, &[]).await;
    assert_eq!(
        shared_with(&preflight(&world, LOGIN, APP).await),
        Some(APP),
        "another tenant still lists the origin"
    );
    name(&world, CLOUDVAULT, &[OTHER_APP]).await;
    assert_eq!(shared_with(&preflight(&world, LOGIN, APP).await), None);
    assert_eq!(shared_with(&preflight(&world, LOGIN, OTHER_APP).await), Some(OTHER_APP));
}

#[tokio::test]
async fn response_allows_only_the_origins_of_its_tenant() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    name(&world, CLOUDVAULT, &[OTHER_APP]).await;
    let unchanged = |_: &mut Value| {};
    let wrong = |event: &mut Value| {
        let body = event["body"].as_str().unwrap().replace(local::demo::PASSWORD, "not the password");
        event["body"] = json!(body);
    };
    let answer = login(&world, MARCUS, APP, unchanged).await;
    assert_eq!((answer.status, shared_with(&answer), answer.header("vary")), (200, Some(APP), "Origin"));
    assert_eq!(answer.header("access-control-expose-headers"), "X-Request-Id, Retry-After, WWW-Authenticate");
    let answer = login(&world, MARCUS, APP, wrong).await;
    assert_eq!((answer.verdict(), shared_with(&answer)), ((401, "AUTHENTICATION"), Some(APP)), "errors, too");
    // A page of another tenant, whose preflight succeeded.
    for change in [unchanged, wrong] {
        let answer = login(&world, MARCUS, OTHER_APP, change).await;
        assert_eq!((shared_with(&answer), answer.header("vary")), (None, "Origin"));
    }
    let answer = login(&world, ADMIN, OTHER_APP, unchanged).await;
    assert_eq!((answer.status, shared_with(&answer)), (200, Some(OTHER_APP)));
    // A request without an origin gets no CORS headers.
    let answer = world.try_login(&world.actor(MARCUS).unwrap(), "x").await.unwrap();
    assert!(shared_with(&answer).is_none() && !answer.headers.contains_key("vary"));
    // The change takes effect within 5 s.
    name(&world, NORDIC, &[]).await;
    assert_eq!(shared_with(&login(&world, MARCUS, APP, unchanged).await), None);
}

// docs/design/contract.md#create-session: an unknown tenant, a wrong key and a wrong secret get the
// same response, including the headers.
#[tokio::test]
async fn headers_reveal_no_tenant_before_the_tenant_is_authenticated() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    name(&world, CLOUDVAULT, &[OTHER_APP]).await;
    for origin in [APP, OTHER_APP, "https://nobodys.example"] {
        let wrong_key = login(&world, MARCUS, origin, |event| {
            event["body"] =
                json!(event["body"].as_str().unwrap().replace(local::demo::TENANT_KEY, "not the key"));
        });
        let unknown =
            login(&world, MARCUS, origin, |event| event["headers"]["x-tenant-id"] = json!("nobody"));
        let (wrong_key, unknown) = (wrong_key.await, unknown.await);
        assert_eq!(wrong_key.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
        assert_eq!((&wrong_key.text, &wrong_key.headers), (&unknown.text, &unknown.headers), "{origin}");
        let expected = (origin != "https://nobodys.example").then_some(origin);
        assert_eq!(shared_with(&unknown), expected, "a page must be able to read the error");
    }
}

#[tokio::test]
async fn access_token_authenticates_its_tenant_and_the_hosted_page_allows_no_origin() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    name(&world, CLOUDVAULT, &[OTHER_APP]).await;
    let marcus = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let path = format!("/v2/users/{}/password_reset", marcus.actor.user.user_id);
    for (origin, shared) in [(APP, Some(APP)), (OTHER_APP, None)] {
        let mut asked = event(&Method::POST, &path, NORDIC, Some(&marcus.token), Some(&json!({})));
        asked["headers"]["origin"] = json!(origin);
        let answer = world.send(Function::ResetLogin, &asked.to_string()).await.unwrap();
        assert_eq!((answer.status, shared_with(&answer)), (200, shared));
    }
    let mut page = event(&Method::GET, &format!("/tenants/{NORDIC}/password/change"), "", None, None);
    page["headers"]["origin"] = json!(APP);
    let answer = world.send(Function::PasswordPage, &page.to_string()).await.unwrap();
    assert_eq!((answer.status, shared_with(&answer)), (200, None));
    assert!(!answer.headers.contains_key("vary"));
}

#[tokio::test]
async fn preflight_succeeds_without_storage() {
    let world = World::start().await.unwrap();
    name(&world, NORDIC, &[APP]).await;
    assert_eq!(shared_with(&preflight(&world, LOGIN, APP).await), Some(APP));
    world.stop_dynamodb().await;
    world.clock.advance(Duration::from_secs(6));
    let known = preflight(&world, LOGIN, APP).await;
    assert_eq!(
        (known.status, shared_with(&known)),
        (204, Some(APP)),
        "a page must be able to read the response"
    );
    let unknown = preflight(&world, LOGIN, OTHER_APP).await;
    assert_eq!((unknown.status, shared_with(&unknown)), (204, None));
}

// docs/design/contract.md#every-request: verifiers in browsers read the keys.
#[tokio::test]
async fn every_page_may_read_public_documents() {
    let world = World::start().await.unwrap();
    for (path, status) in [
        (format!("/tenants/{NORDIC}/.well-known/jwks.json"), 200),
        (format!("/tenants/{NORDIC}/.well-known/openid-configuration"), 200),
        ("/tenants/unknown/.well-known/jwks.json".to_owned(), 404),
    ] {
        let mut event = event(&Method::GET, &path, "", None, None);
        event["headers"] = json!({ "origin": "https://anywhere.example" });
        let answer = world.send(Function::Discovery, &event.to_string()).await.unwrap();
        assert_eq!((answer.status, shared_with(&answer)), (status, Some("*")), "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{path}");
    }
}
