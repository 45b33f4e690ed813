//! From the creation of a user to its deletion.

use e2e::NORDIC;
use http::Method;
use serde_json::json;

use super::{PASSWORD, Scene, address, try_login};

#[tokio::test(flavor = "multi_thread")]
async fn user_is_created_read_changed_and_deleted() {
    let scene = Scene::start().await.unwrap();
    let created = scene.create("ada").await.unwrap();
    assert_eq!((created.status, &created.body["id"]), (200, &json!("ada")), "{}", created.text);
    assert_eq!(scene.world.audit.verdict(), "SUCCESS");

    let read = scene.read("ada").await.unwrap();
    assert_eq!(read.status, 200, "{}", read.text);
    let user = &read.body["user"];
    assert_eq!(read.body["details"]["sequence"], "1");
    assert_eq!(user["username"], address("ada"));
    assert_eq!(user["preferredLoginName"], address("ada"));
    assert_eq!(user["state"], "USER_STATE_ACTIVE");
    let human = &user["human"];
    assert_eq!(
        human["profile"],
        json!({ "givenName": "Ada", "familyName": "Byron", "preferredLanguage": "en" })
    );
    assert_eq!(human["email"], json!({ "email": address("ada"), "isVerified": true }));
    assert_eq!(try_login(&scene.world, "ada", PASSWORD).await.unwrap().status, 200);

    let body = json!({
        "username": "countess", "human": { "profile": { "nickName": "Countess", "familyName": "Lovelace" } },
    });
    let updated = scene.call(&Method::PATCH, "/v2/users/ada", &body).await.unwrap();
    assert_eq!(updated.status, 200, "{}", updated.text);
    let user = scene.read("ada").await.unwrap().body["user"].clone();
    assert_eq!(user["username"], "countess");
    let profile = &user["human"]["profile"];
    assert_eq!((&profile["givenName"], &profile["familyName"]), (&json!("Ada"), &json!("Lovelace")));
    assert_eq!(user["details"]["sequence"], "2");
    // The earlier form replaces the whole profile.
    let body = json!({ "username": address("ada"), "profile": { "givenName": "Ada", "familyName": "King" } });
    let updated = scene.call(&Method::PUT, "/v2/users/human/ada", &body).await.unwrap();
    assert_eq!(updated.status, 200, "{}", updated.text);
    let profile = scene.read("ada").await.unwrap().body["user"]["human"]["profile"].clone();
    assert_eq!(profile, json!({ "givenName": "Ada", "familyName": "King" }));

    let deleted = scene.call(&Method::DELETE, "/v2/users/ada", &json!({})).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(scene.read("ada").await.unwrap().status, 404);
    assert_eq!(try_login(&scene.world, "ada", PASSWORD).await.unwrap().status, 401);
    let again = scene.call(&Method::DELETE, "/v2/users/ada", &json!({})).await.unwrap();
    assert_eq!((again.status, &again.body["code"]), (404, &json!(5)));
    // Name and ID are free again.
    assert_eq!(scene.create("ada").await.unwrap().status, 200);
}

// docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_deactivation_the_lock_and_the_deletion() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    for (end, undo, state) in [
        ("deactivate", Some("reactivate"), "USER_STATE_INACTIVE"),
        ("lock", Some("unlock"), "USER_STATE_LOCKED"),
        ("", None, ""),
    ] {
        let login = try_login(&scene.world, "ada", PASSWORD).await.unwrap();
        assert_eq!(login.status, 200, "{end}: {}", login.text);
        let token = login.data("token").to_owned();
        let own =
            async || scene.world.request(&Method::GET, "/v2/users/ada", NORDIC, Some(&token), None).await;
        assert_eq!(own().await.unwrap().status, 200, "{end}");
        let path = format!("/v2/users/ada/{end}");
        let (method, path) =
            if end.is_empty() { (Method::DELETE, "/v2/users/ada") } else { (Method::POST, path.as_str()) };
        let ended = scene.call(&method, path, &json!({})).await.unwrap();
        assert_eq!(ended.status, 200, "{end}: {}", ended.text);
        assert_eq!(own().await.unwrap().status, 401, "{end}");
        assert_eq!(try_login(&scene.world, "ada", PASSWORD).await.unwrap().status, 401, "{end}");
        let Some(undo) = undo else { continue };
        assert_eq!(scene.read("ada").await.unwrap().body["user"]["state"], state);
        let again = scene.post(path, &json!({})).await.unwrap();
        assert_eq!((again.status, &again.body["code"]), (400, &json!(9)), "{end}: {}", again.text);
        let undone = scene.post(&format!("/v2/users/ada/{undo}"), &json!({})).await.unwrap();
        assert_eq!(undone.status, 200, "{undo}: {}", undone.text);
        assert_eq!(own().await.unwrap().status, 401, "an ended session stays ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_changes_apply_only_to_the_right_status() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    let change =
        async |name: &str| scene.post(&format!("/v2/users/ada/{name}"), &json!({})).await.unwrap().status;
    for (name, status) in [
        ("reactivate", 400),
        ("unlock", 400),
        ("lock", 200),
        ("lock", 400),
        ("reactivate", 400),
        ("deactivate", 200),
        ("lock", 400),
        ("unlock", 400),
        ("reactivate", 200),
    ] {
        assert_eq!(change(name).await, status, "{name}");
    }
}
