//! The client address of requests through proxies (docs/design/security.md#rule-22).

use doorward::route::Function;
use e2e::{Answer, Login, NORDIC, World, event};
use http::Method;
use serde_json::json;

use crate::{MARCUS, NEW_PASSWORD};

const PROXY: &str = "10.1.2.3";

async fn behind_proxies(world: &World, allowed: &[&str]) {
    world
        .change_policy(NORDIC, |policy| {
            policy.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
            policy.ip_allow = allowed.iter().map(|net| net.parse().unwrap()).collect();
            policy.wrong_codes_per_ip = 2;
        })
        .await
        .unwrap();
}

async fn login(world: &World, source: &str, forwarded: Option<&str>) -> Answer {
    let marcus = world.actor(MARCUS).unwrap();
    let body = marcus.credentials(&marcus.user.password);
    let mut event = event(&Method::POST, &marcus.sessions(), NORDIC, None, Some(&body));
    event["requestContext"]["http"]["sourceIp"] = json!(source);
    if let Some(chain) = forwarded {
        event["headers"]["x-forwarded-for"] = json!(chain);
    }
    world.send(Function::CreateSession, &event.to_string()).await.unwrap()
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn allowed_networks_apply_to_the_address_reported_by_a_trusted_proxy() {
    let world = World::start().await.unwrap();
    behind_proxies(&world, &["192.0.2.0/24"]).await;
    for (source, forwarded, verdict) in [
        (PROXY, Some("192.0.2.7"), (200, "NONE")),
        (PROXY, Some("::ffff:192.0.2.7"), (200, "NONE")),
        ("::ffff:10.1.2.3", Some("192.0.2.7"), (200, "NONE")),
        (PROXY, Some("198.51.100.1, 192.0.2.7, 10.9.9.9"), (200, "NONE")),
        ("192.0.2.9", None, (200, "NONE")),
        // Addresses that the client itself sends are ignored, with and without a proxy.
        (PROXY, Some("192.0.2.7, 198.51.100.1"), (403, "IP_NOT_ALLOWED")),
        ("198.51.100.1", Some("192.0.2.7"), (403, "IP_NOT_ALLOWED")),
        (PROXY, None, (403, "IP_NOT_ALLOWED")),
        (PROXY, Some("192.0.2.7, no address"), (403, "IP_NOT_ALLOWED")),
        // Text outside ASCII makes one hop unknown. It does not hide the others.
        (PROXY, Some("é, 192.0.2.7"), (200, "NONE")),
        (PROXY, Some("192.0.2.7, é"), (403, "IP_NOT_ALLOWED")),
        ("192.0.2.9", Some("é"), (200, "NONE")),
    ] {
        assert_eq!(login(&world, source, forwarded).await.verdict(), verdict, "{source} {forwarded:?}");
    }
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn session_stores_the_client_address() {
    let world = World::start().await.unwrap();
    behind_proxies(&world, &[]).await;
    let marcus = world.actor(MARCUS).unwrap();
    for (source, forwarded, kept) in [
        (PROXY, Some("198.51.100.1, 192.0.2.7"), "192.0.2.7"),
        ("::ffff:10.1.2.3", Some("::ffff:192.0.2.8"), "192.0.2.8"),
        (PROXY, Some("2001:db8::7"), "2001:db8::7"),
        ("198.51.100.1", Some("192.0.2.7"), "198.51.100.1"),
    ] {
        let granted = Login::from_answer(&marcus, &login(&world, source, forwarded).await).unwrap();
        let ip = world.session(&granted).await.unwrap().device.ip;
        assert_eq!(ip, Some(kept.parse().unwrap()), "{source} {forwarded:?}");
    }
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn wrong_codes_count_for_the_client_and_not_for_the_proxy() {
    let world = World::start().await.unwrap();
    behind_proxies(&world, &[]).await;
    let user = world.actor(MARCUS).unwrap().user.user_id;
    let path = format!("/v2/users/{user}/password");
    let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": "A".repeat(20) });
    let try_code = async |source: &str, forwarded: &str| {
        let mut event = event(&Method::POST, &path, NORDIC, None, Some(&body));
        event["requestContext"]["http"]["sourceIp"] = json!(source);
        event["headers"]["x-forwarded-for"] = json!(forwarded);
        world.send(Function::UpdateCredentials, &event.to_string()).await.unwrap().status
    };
    assert_eq!(try_code(PROXY, "192.0.2.7").await, 400);
    assert_eq!(try_code("10.9.9.9", "198.51.100.1, ::ffff:192.0.2.7").await, 400);
    assert_eq!(try_code(PROXY, "192.0.2.7").await, 429, "the client has used its budget");
    assert_eq!(
        try_code(PROXY, "192.0.2.8").await,
        400,
        "another client of the same proxy has its own budget"
    );
    // Sending other addresses does not give a client a new budget.
    for (tried, status) in [("192.0.2.20", 400), ("192.0.2.21", 400), ("192.0.2.22", 429)] {
        assert_eq!(try_code("203.0.113.5", tried).await, status);
    }
}
