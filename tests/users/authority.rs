//! Authority over users.

use anyhow::Result;
use doorward::domain::{ApiClient, ClientScope, OrganizationId};
use e2e::{Answer, Login, NORDIC};
use http::Method;
use serde_json::{Value, json};

use super::{PASSWORD, Scene, fields, person, try_login};
use crate::{ADMIN, MARCUS, NORDIC_ADMIN};

/// Base64 of the text.
fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A creation of a user with these roles.
fn with_roles(id: &str, roles: &str) -> Value {
    let mut body = person(id);
    body["human"]["metadata"] = json!([{ "key": "doorward:roles", "value": base64(roles) }]);
    body["human"].as_object_mut().unwrap().remove("password");
    body
}

impl Scene {
    async fn call_as(&self, token: &str, method: &Method, path: &str, body: &Value) -> Answer {
        self.world.request(method, path, NORDIC, Some(token), Some(body)).await.unwrap()
    }

    async fn log_in(&self, username: &str) -> Login {
        self.world.login(&self.world.actor(username).unwrap()).await.unwrap()
    }

    async fn client(&self, scopes: &[ClientScope], change: impl FnOnce(&mut ApiClient)) -> Result<String> {
        let client = self.world.register_client(NORDIC, scopes, change).await?;
        self.world.client_token(&client).await
    }
}

/// Every call on one user, with a valid body.
fn calls() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "", json!({})),
        (Method::PATCH, "", json!({ "human": { "profile": { "nickName": "x" } } })),
        (Method::POST, "/email", json!({ "email": "other@new.example" })),
        (Method::POST, "/email/send", json!({})),
        (Method::POST, "/email/resend", json!({})),
        (Method::POST, "/email/verify", json!({ "verificationCode": "AAAAAAAA" })),
        (Method::POST, "/phone", json!({ "phone": "+4512345678" })),
        (Method::DELETE, "/phone", json!({})),
        (Method::POST, "/phone/verify", json!({ "verificationCode": "AAAAAAAA" })),
        (Method::POST, "/lock", json!({})),
        (Method::POST, "/unlock", json!({})),
        (Method::POST, "/deactivate", json!({})),
        (Method::POST, "/reactivate", json!({})),
        (Method::DELETE, "", json!({})),
    ]
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn user_outside_of_the_authority_is_like_an_unknown_one() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    let organization = OrganizationId::parse("org_other").unwrap();
    let scopes = [ClientScope::UsersRead, ClientScope::UsersWrite];
    let restricted = scene.client(&scopes, |client| client.organization = Some(organization)).await.unwrap();
    for (method, path, body) in calls() {
        let ask = async |user: &str| {
            scene.call_as(&restricted, &method, &format!("/v2/users/{user}{path}"), &body).await
        };
        let (foreign, unknown) = (ask("ada").await, ask("nobody").await);
        assert_eq!((foreign.status, &foreign.text), (404, &unknown.text), "{method} {path}");
    }
    let listed = scene.call_as(&restricted, &Method::POST, "/v2/users", &json!({})).await;
    assert_eq!((listed.status, &listed.body["result"]), (200, &Value::Null), "{}", listed.text);
    for query in [
        json!({ "inUserIdsQuery": { "userIds": ["ada"] } }),
        json!({ "userNameQuery": { "userName": "ada@new.example" } }),
        json!({ "emailQuery": { "emailAddress": "ada@new.example" } }),
        json!({ "organizationIdQuery": { "organizationId": super::ORGANIZATION } }),
    ] {
        let listed =
            scene.call_as(&restricted, &Method::POST, "/v2/users", &json!({ "queries": [query] })).await;
        assert_eq!((listed.status, &listed.body["result"]), (200, &Value::Null), "{}", listed.text);
    }
    let of_other = json!({ "organizationIdQuery": { "organizationId": super::ORGANIZATION } });
    for offset in [0, 1, 9] {
        let body = json!({ "query": { "offset": offset, "limit": 1 }, "queries": [of_other] });
        let listed = scene.call_as(&restricted, &Method::POST, "/v2/users", &body).await;
        assert!(
            matches!(listed.body["details"]["totalResult"].as_str(), None | Some("0")),
            "{}",
            listed.text
        );
    }
    let created = scene.call_as(&restricted, &Method::POST, "/v2/users/new", &person("eve")).await;
    assert_eq!(
        (created.status, scene.world.audit.verdict()),
        (403, "FORBIDDEN ANOTHER_ORGANIZATION".to_owned())
    );
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn caller_grants_only_roles_that_it_has() {
    let scene = Scene::start().await.unwrap();
    let organization = OrganizationId::parse(super::ORGANIZATION).unwrap();
    let restricted = scene
        .client(&[ClientScope::UsersWrite], |client| client.organization = Some(organization))
        .await
        .unwrap();
    let create = async |token: &str, id: &str, roles: &str| {
        scene.call_as(token, &Method::POST, "/v2/users/new", &with_roles(id, roles)).await
    };
    assert_eq!(create(&restricted, "a", "USER,ADMIN").await.status, 200);
    let refused = create(&restricted, "b", "ADMIN,TENANT_ADMIN").await;
    assert_eq!((refused.status, scene.world.audit.verdict()), (403, "FORBIDDEN HIGHER_ROLE".to_owned()));
    assert_eq!(create(&scene.token, "c", "TENANT_ADMIN").await.status, 200);
    // The restricted client cannot act on a user with a higher role.
    let hidden = scene.call_as(&restricted, &Method::DELETE, "/v2/users/c", &json!({})).await;
    assert_eq!(hidden.status, 404);
    assert_eq!(create(&restricted, "d", "ROOT").await.status, 400);
}

// docs/design/security.md#rule-29
#[tokio::test(flavor = "multi_thread")]
async fn client_needs_the_scope_of_each_call() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    let reads = scene.client(&[ClientScope::UsersRead], |_| ()).await.unwrap();
    let writes = scene.client(&[ClientScope::UsersWrite], |_| ()).await.unwrap();
    for (method, path, body) in calls() {
        let wrong = if method == Method::GET { &writes } else { &reads };
        let answer = scene.call_as(wrong, &method, &format!("/v2/users/ada{path}"), &body).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
        assert_eq!(scene.world.audit.verdict(), "FORBIDDEN MISSING_SCOPE", "{method} {path}");
    }
    assert_eq!(scene.call_as(&writes, &Method::POST, "/v2/users", &json!({})).await.status, 403);
    assert_eq!(scene.call_as(&reads, &Method::POST, "/v2/users/new", &person("x")).await.status, 403);
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn user_reads_itself_and_changes_only_its_profile() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    let login = try_login(&scene.world, "ada", PASSWORD).await.unwrap();
    let token = login.data("token").to_owned();
    for (method, path, body) in calls() {
        let own = scene.call_as(&token, &method, &format!("/v2/users/ada{path}"), &body).await;
        // The address is verified, and there is no code.
        let expected = match (method.as_str(), path) {
            ("GET" | "PATCH", "") => 200,
            (_, "/email/send" | "/email/resend" | "/email/verify" | "/phone/verify") => 400,
            _ => 403,
        };
        assert_eq!(own.status, expected, "{method} {path}: {}", own.text);
        let other = scene.call_as(&token, &method, &format!("/v2/users/nobody{path}"), &body).await;
        assert_eq!(other.status, 403, "{method} {path}: {}", other.text);
    }
    for body in
        [json!({ "username": "eve" }), json!({ "human": { "email": { "email": "eve@new.example" } } })]
    {
        let refused = scene.call_as(&token, &Method::PATCH, "/v2/users/ada", &body).await;
        assert_eq!((refused.status, scene.world.audit.verdict()), (403, "FORBIDDEN OWN_ACCOUNT".to_owned()));
    }
    assert_eq!(scene.call_as(&token, &Method::POST, "/v2/users", &json!({})).await.status, 403);
    assert_eq!(scene.call_as(&token, &Method::POST, "/v2/users/new", &person("x")).await.status, 403);
    let user = scene.read("ada").await.unwrap().body["user"].clone();
    assert_eq!(
        (&user["human"]["profile"]["nickName"], &user["username"]),
        (&json!("x"), &json!("ada@new.example"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn administrator_acts_on_its_organization() {
    let scene = Scene::start().await.unwrap();
    let admin = scene.log_in(NORDIC_ADMIN).await;
    let marcus = scene.world.actor(MARCUS).unwrap().user.user_id;
    let read = scene.call_as(&admin.token, &Method::GET, &format!("/v2/users/{marcus}"), &json!({})).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let listed = scene.call_as(&admin.token, &Method::POST, "/v2/users", &json!({})).await;
    assert!(listed.text.contains(&marcus), "{}", listed.text);
    // Its own account cannot be locked or deleted.
    let own = format!("/v2/users/{}", admin.actor.user.user_id);
    for (method, path) in [(Method::DELETE, own.clone()), (Method::POST, format!("{own}/lock"))] {
        let refused = scene.call_as(&admin.token, &method, &path, &json!({})).await;
        assert_eq!((refused.status, scene.world.audit.verdict()), (403, "FORBIDDEN OWN_ACCOUNT".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_and_tenant_must_agree() {
    let scene = Scene::start().await.unwrap();
    let other = scene.log_in(ADMIN).await;
    for (method, path, body) in calls() {
        let path = format!("/v2/users/ada{path}");
        let answer = scene.call_as(&other.token, &method, &path, &body).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
        let answer = scene.world.request(&method, &path, NORDIC, None, Some(&body)).await.unwrap();
        assert_eq!((answer.status, fields(&answer)), (401, vec![]), "{method} {path}");
    }
}
