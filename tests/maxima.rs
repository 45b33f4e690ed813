//! Maximum lengths: the same for the same field in every dialect (docs/api.md).

use doorward::{
    domain::Medium,
    route::Function,
    token::{DeviceProof, PageCursor, RefreshToken},
};
use e2e::{NORDIC, World, event};
use http::Method;
use serde_json::{Value, json};

use crate::{MARCUS, NEW_PASSWORD};

const HEX_USER: &str = "5a62be07de34500146d9c544";

/// Whether the parser rejects the request. Later checks have other outcomes.
async fn is_rejected(world: &World, method: Method, function: Function, path: &str, body: &Value) -> bool {
    let event = event(&method, path, NORDIC, None, Some(body));
    world.send(function, &event.to_string()).await.unwrap();
    world.audit.last()["outcome"] == "VALIDATION"
}

// docs/design/security.md#rule-1
#[tokio::test]
async fn password_has_the_same_maximum_in_every_dialect() {
    let world = World::start().await.unwrap();
    // The maximum counts bytes in NFC: the second text has 512 bytes as sent.
    for (password, is_too_long) in [
        ("x".repeat(256), false),
        ("e\u{301}".repeat(128), false),
        ("x".repeat(257), true),
        ("é".repeat(129), true),
    ] {
        let password = password.as_str();
        let own = json!({ "username": "u", "password": password, "tenantKey": "k", "tenantSecret": "s" });
        for (method, function, path, body) in [
            (Method::POST, Function::CreateSession, "/api/v2.1/customer/individual/c/users/u/sessions", own),
            (
                Method::PUT,
                Function::UpdateCredentials,
                "/api/v2.1/admin/users/u/credentials",
                json!({ "password": password }),
            ),
            (
                Method::PUT,
                Function::UpdateCredentials,
                "/api/v2.1/admin/users/u/credentials",
                json!({ "currentPassword": password }),
            ),
            (
                Method::POST,
                Function::UpdateCredentials,
                "/v2/users/u/password",
                json!({ "newPassword": { "password": password } }),
            ),
            (
                Method::POST,
                Function::UpdateCredentials,
                "/v2/users/u/password",
                json!({ "newPassword": { "password": NEW_PASSWORD }, "currentPassword": password }),
            ),
            (
                Method::POST,
                Function::ManageUsers,
                "/v2/users/new",
                json!({
                    "organizationId": "o", "username": "u", "human": { "password": { "password": password } },
                }),
            ),
            (
                Method::POST,
                Function::UpdateCredentials,
                &format!("/v1/users/{HEX_USER}/reset-password"),
                json!({ "new_password": password }),
            ),
        ] {
            let rejected = is_rejected(&world, method, function, path, &body).await;
            assert_eq!(rejected, is_too_long, "{path} {}", password.len());
        }
    }
}

#[tokio::test]
async fn code_is_accepted_with_blanks_and_hyphens() {
    let world = World::start().await.unwrap();
    let user = world.actor(MARCUS).unwrap().user.user_id;
    let path = format!("/v2/users/{user}/password");
    let set = |code: &str| json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
    for code in
        [String::new(), "- -".to_owned(), "A".repeat(21), "-".repeat(41), format!("A{}", " ".repeat(40))]
    {
        let body = set(&code);
        assert!(
            is_rejected(&world, Method::POST, Function::UpdateCredentials, &path, &body).await,
            "{code:?}"
        );
    }
    let code = world.queue_code(NORDIC, &user, Medium::Text, None).await.unwrap().code;
    let (first, last) = code.expose().split_at(4);
    let typed = format!(" {}-{}\u{a0}", first.to_lowercase(), last.to_lowercase());
    let answer = world.request(&Method::POST, &path, NORDIC, None, Some(&set(&typed))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

// The maximum of each text is the length of the longest one that Doorward issues.
#[tokio::test]
async fn issued_texts_have_the_same_maximum_on_every_route() {
    let world = World::start().await.unwrap();
    let sessions = "/api/v2.1/customer/individual/c/users/u/sessions";
    let login = |proof: &str| json!({ "username": "u", "password": "p", "tenantKey": "k", "tenantSecret": "s", "deviceProof": proof });
    for too_long in [false, true] {
        let text = |longest: usize| "x".repeat(longest + usize::from(too_long));
        for owner in ["customer/individual/c", "customer/organization/c", "admin/organization/o"] {
            let path = format!("/api/v2.1/{owner}/users/u/sessions");
            let body = login(&text(DeviceProof::CHARS));
            let rejected = is_rejected(&world, Method::POST, Function::CreateSession, &path, &body).await;
            assert_eq!(rejected, too_long, "{path}");
        }
        let body = json!({ "refreshToken": text(RefreshToken::MAX_CHARS) });
        for (method, path) in [
            (Method::POST, "/api/v2.1/admin/sessions/s/refresh".to_owned()),
            (Method::PUT, format!("{sessions}/s")),
        ] {
            let rejected = is_rejected(&world, method, Function::RefreshSession, &path, &body).await;
            assert_eq!(rejected, too_long, "{path}");
        }
        let mut list = event(&Method::GET, sessions, NORDIC, None, None);
        list["rawQueryString"] = json!(format!("cursor={}", text(PageCursor::MAX_CHARS)));
        world.send(Function::ListSessions, &list.to_string()).await.unwrap();
        assert_eq!(world.audit.last()["outcome"] == "VALIDATION", too_long);
    }
}

#[tokio::test]
async fn documented_maxima_are_those_of_the_issued_texts() {
    let document = include_str!("../docs/openapi.yaml");
    for (name, longest) in [
        ("deviceProof: {type: [string, 'null'], maxLength: ", DeviceProof::CHARS),
        ("refreshToken: {type: string, minLength: 1, maxLength: ", RefreshToken::MAX_CHARS),
        ("nextCursor: {type: string, minLength: 1, maxLength: ", PageCursor::MAX_CHARS),
    ] {
        assert!(document.contains(&format!("{name}{longest}")), "{name}{longest}");
    }
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    assert_eq!(login.device_proof.len(), DeviceProof::CHARS);
}
