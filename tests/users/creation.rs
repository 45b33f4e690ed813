//! Creation of users.

use std::sync::Arc;

use doorward::{domain::TenantId, port::Clock};
use e2e::{NORDIC, event};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ORGANIZATION, PASSWORD, Scene, address, fields, person, try_login};
use crate::NEW_PASSWORD;

/// bcrypt hash of "hunter2" with cost 4.
const BCRYPT: &str = "$2b$04$PlXrzW8vrJ8F9oXbxkA4dOaU4DNcSVRyjSjtLQ3UmUOFaHqmvH1Ye";

fn changed(id: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut body = person(id);
    change(&mut body);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_50_parallel_creations_of_a_name_wins() {
    let scene = Arc::new(Scene::start().await.unwrap());
    let mut creations = JoinSet::new();
    for at in 0..50 {
        let scene = scene.clone();
        creations.spawn(async move {
            // A hash needs no hashing, so that the creations overlap.
            let body = changed(&format!("u{at}"), |body| {
                body["username"] = json!("ada");
                body["human"].as_object_mut().unwrap().remove("password");
            });
            scene.post("/v2/users/new", &body).await.unwrap()
        });
    }
    let answers = creations.join_all().await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(created.len(), 1);
    for answer in &answers {
        assert!([200, 409, 503].contains(&answer.status), "{}", answer.text);
    }
    let listed = json!({ "queries": [{ "userNameQuery": { "userName": "ADA" } }] });
    let listed = scene.post("/v2/users", &listed).await.unwrap();
    assert_eq!(listed.body["result"][0]["userId"], created[0].body["id"]);
    assert_eq!(listed.body["details"]["totalResult"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_name_and_taken_id_are_rejected() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    for body in [
        changed("other", |body| body["username"] = json!(address("ADA"))),
        changed("ada", |body| body["username"] = json!("other")),
    ] {
        let answer = scene.post("/v2/users/new", &body).await.unwrap();
        assert_eq!((answer.status, &answer.body["code"]), (409, &json!(6)), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_is_repeated_safely_with_an_idempotency_key() {
    let scene = Scene::start().await.unwrap();
    let send = async |body: &Value| {
        let mut event = event(&Method::POST, "/v2/users/new", NORDIC, Some(&scene.token), Some(body));
        event["headers"]["idempotency-key"] = json!("one");
        scene.world.send(doorward::route::Function::ManageUsers, &event.to_string()).await.unwrap()
    };
    let body = changed("ignored", |body| {
        body.as_object_mut().unwrap().remove("userId");
    });
    let (first, second) = (send(&body).await, send(&body).await);
    assert_eq!((first.status, &first.text), (200, &second.text));
    assert_eq!(first.body["id"].as_str().unwrap().len(), 36);
    let other = send(&person("other")).await;
    assert_eq!((other.status, &other.body["code"]), (400, &json!(3)), "{}", other.text);
    // A code is not stored, so that it cannot be replayed.
    let with_code = changed("coded", |body| {
        body["human"]["email"] = json!({ "email": "coded@new.example", "returnCode": {} });
    });
    let send = async |key: &str| {
        let mut event = event(&Method::POST, "/v2/users/new", NORDIC, Some(&scene.token), Some(&with_code));
        event["headers"]["idempotency-key"] = json!(key);
        scene.world.send(doorward::route::Function::ManageUsers, &event.to_string()).await.unwrap()
    };
    assert_eq!(send("two").await.body["emailCode"].as_str().map(str::len), Some(8));
    assert_eq!(send("two").await.body["code"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_form_creates_a_user_too() {
    let scene = Scene::start().await.unwrap();
    let body = json!({
        "organization": { "orgId": ORGANIZATION },
        "profile": { "given_name": "Ada", "familyName": "Byron", "gender": "GENDER_FEMALE" },
        "email": { "email": "ada@new.example", "isVerified": true },
        "phone": { "phone": "+4512345678", "isVerified": true },
    });
    let created = scene.post("/v2/users/human", &body).await.unwrap();
    assert_eq!(created.status, 200, "{}", created.text);
    assert_eq!(created.body["details"]["sequence"], "1");
    assert_eq!(created.body["details"]["resourceOwner"], ORGANIZATION);
    let user = scene.read(created.body["userId"].as_str().unwrap()).await.unwrap().body["user"].clone();
    assert_eq!(user["human"]["profile"]["gender"], "GENDER_FEMALE");
    assert_eq!(user["human"]["phone"], json!({ "phone": "+4512345678", "isVerified": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_without_a_password_sets_one_with_a_code() {
    let scene = Scene::start().await.unwrap();
    let body = changed("ada", |body| {
        body["human"].as_object_mut().unwrap().remove("password");
    });
    assert_eq!(scene.post("/v2/users/new", &body).await.unwrap().status, 200);
    assert_eq!(try_login(&scene.world, "ada", PASSWORD).await.unwrap().status, 401);
    let code = scene.post("/v2/users/ada/password_reset", &json!({ "returnCode": {} })).await.unwrap();
    let code = code.body["verificationCode"].as_str().unwrap().to_owned();
    let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
    let set = scene.post("/v2/users/ada/password", &body).await.unwrap();
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(try_login(&scene.world, "ada", NEW_PASSWORD).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_hash_and_required_change_are_stored() {
    let scene = Scene::start().await.unwrap();
    let hashed = |hash: &str| {
        changed("ada", |body| {
            let human = body["human"].as_object_mut().unwrap();
            human.remove("password");
            human.insert("hashedPassword".to_owned(), json!({ "hash": hash, "changeRequired": true }));
        })
    };
    let answer = scene.post("/v2/users/new", &hashed("no hash")).await.unwrap();
    assert_eq!((answer.status, fields(&answer)), (400, vec!["human.hashedPassword.hash".to_owned()]));
    let answer = scene.post("/v2/users/new", &hashed(BCRYPT)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(scene.read("ada").await.unwrap().body["user"]["human"]["passwordChangeRequired"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_creations_name_their_fields() {
    let scene = Scene::start().await.unwrap();
    let human = |member: &'static str, value: Value| {
        changed("ada", move |body| {
            body["human"][member] = value;
        })
    };
    let entries = |count: usize| -> Vec<Value> {
        (0..count).map(|at| json!({ "key": format!("k{at}"), "value": "dg==" })).collect()
    };
    let entry = |key: &str, value: &str| json!([{ "key": key, "value": value }]);
    let cases = [
        (json!({ "organizationId": ORGANIZATION, "machine": {} }), vec!["machine", "username"]),
        (json!({}), vec!["organizationId", "human", "username"]),
        (changed("a/b", |_| ()), vec!["userId"]),
        (human("profile", json!({ "givenName": "x".repeat(201) })), vec!["human.profile.givenName"]),
        (human("profile", json!({ "gender": 9 })), vec!["human.profile.gender"]),
        (human("email", json!({ "email": "no address" })), vec!["human.email.email", "username"]),
        (human("phone", json!({ "phone": "12" })), vec!["human.phone.phone"]),
        (human("totpSecret", json!("x")), vec!["human.totpSecret"]),
        (human("idpLinks", json!([{}])), vec!["human.idpLinks"]),
        (human("metadata", entry("doorward:other", "dg==")), vec!["human.metadata[0].value"]),
        (human("metadata", entry("doorward:roles", "Uk9PVA==")), vec!["human.metadata[0].value"]),
        (human("metadata", entry("doorward:customerType", "QlVTSU5FU1M=")), vec!["human.metadata"]),
        (human("metadata", json!(entries(51))), vec!["human.metadata"]),
        (human("metadata", entry("k", &"A".repeat(5_600))), vec!["human.metadata"]),
        (human("metadata", entry("k", "not base64!")), vec!["human.metadata[0].value"]),
        (
            human("metadata", json!([{ "key": "k", "value": "dg==" }, { "key": "k", "value": "dg==" }])),
            vec!["human.metadata[1].key"],
        ),
        (human("password", json!({ "password": "password" })), vec!["human.password.password"; 2]),
    ];
    for (body, expected) in cases {
        let answer = scene.post("/v2/users/new", &body).await.unwrap();
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!(3)), "{body}: {}", answer.text);
        assert_eq!(fields(&answer), expected, "{}", answer.text);
    }
    let tenant = TenantId::parse(NORDIC).unwrap();
    let id = doorward::domain::UserId::parse("ada").unwrap();
    assert!(scene.world.store.user(&tenant, &id).await.unwrap().is_none(), "{}", scene.world.clock.now());
}
