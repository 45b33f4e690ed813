//! Mail addresses and phone numbers, and the codes that verify them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{NORDIC, delivery::Sent};
use http::Method;
use serde_json::{Value, json};

use super::{PASSWORD, Scene, address, person, try_login};

impl Scene {
    /// Creates a user whose mail address is not verified. Returns the code.
    async fn create_unverified(&self) -> String {
        let mut body = person("ada");
        body["human"]["email"] = json!({ "email": address("ada"), "returnCode": {} });
        let created = self.post("/v2/users/new", &body).await.unwrap();
        created.body["emailCode"].as_str().unwrap().to_owned()
    }

    async fn verify(&self, kind: &str, code: &str) -> (i64, Value) {
        let body = json!({ "verificationCode": code });
        let answer = self.post(&format!("/v2/users/ada/{kind}/verify"), &body).await.unwrap();
        (answer.status, answer.body["code"].clone())
    }

    async fn human(&self) -> Value {
        self.read("ada").await.unwrap().body["user"]["human"].clone()
    }

    /// Delivers the queued messages of the user. Returns the recipient and the text of each.
    async fn messages(&self) -> Vec<(String, String)> {
        let keys = self.world.outbox_keys(NORDIC, "ada").await.unwrap();
        assert_eq!(self.world.deliver_all(&keys).await, 0);
        let sent = self.world.courier.take().into_iter().map(|sent| match sent {
            Sent::Mail { to, text, .. } => (to, text),
            Sent::Text { number, text } => (number, text),
            Sent::Event { detail_type, .. } => (detail_type, String::new()),
        });
        sent.collect()
    }
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn code_verifies_its_address_once() {
    let scene = Scene::start().await.unwrap();
    let code = scene.create_unverified().await;
    assert_eq!(scene.human().await["email"], json!({ "email": address("ada") }));
    assert_eq!(scene.verify("email", "AAAAAAAA").await, (400, json!(3)));
    assert_eq!(scene.verify("phone", &code).await, (400, json!(3)), "a code serves one purpose");
    let reset = json!({ "newPassword": { "password": "another good passphrase" }, "verificationCode": code });
    assert_eq!(scene.post("/v2/users/ada/password", &reset).await.unwrap().status, 400);
    assert_eq!(scene.verify("email", &code.to_lowercase()).await.0, 200);
    assert_eq!(scene.human().await["email"], json!({ "email": address("ada"), "isVerified": true }));
    assert_eq!(scene.verify("email", &code).await, (400, json!(3)), "the code works once");
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_code_has_five_tries() {
    let scene = Scene::start().await.unwrap();
    let code = scene.create_unverified().await;
    for _ in 0..5 {
        assert_eq!(scene.verify("email", "AAAAAAAA").await.0, 400);
    }
    assert_eq!(scene.verify("email", &code).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_code_and_other_address_invalidate_a_code() {
    let scene = Scene::start().await.unwrap();
    let first = scene.create_unverified().await;
    let sent = scene.post("/v2/users/ada/email/resend", &json!({ "returnCode": {} })).await.unwrap();
    let second = sent.body["verificationCode"].as_str().unwrap().to_owned();
    assert_eq!(scene.verify("email", &first).await.0, 400);
    let body = json!({ "email": "other@new.example", "returnCode": {} });
    let changed = scene.post("/v2/users/ada/email", &body).await.unwrap();
    let third = changed.body["verificationCode"].as_str().unwrap().to_owned();
    assert_eq!(scene.verify("email", &second).await.0, 400);
    assert_eq!(scene.verify("email", &third).await.0, 200);
    assert_eq!(scene.human().await["email"]["email"], "other@new.example");
    let again = scene.post("/v2/users/ada/email/send", &json!({})).await.unwrap();
    assert_eq!((again.status, &again.body["code"]), (400, &json!(9)), "no address waits for verification");
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn codes_are_sent_to_the_address_that_they_verify_and_resets_only_to_verified_ones() {
    let scene = Scene::start().await.unwrap();
    let mut body = person("ada");
    body["human"]["email"] = json!({ "email": address("ada") });
    body["human"]["phone"] = json!({ "phone": "+4512345678", "sendCode": {} });
    assert_eq!(scene.post("/v2/users/new", &body).await.unwrap().status, 200);
    let messages = scene.messages().await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    for (kind, recipient) in [("email", address("ada")), ("phone", "+4512345678".to_owned())] {
        let text = &messages.iter().find(|(to, _)| *to == recipient).unwrap().1;
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        let code = words.find(|word| word.len() == 8 && *word == word.to_uppercase()).unwrap();
        if kind == "email" {
            // A reset code goes to a verified address only.
            let ask = json!({ "sendLink": {} });
            assert_eq!(scene.post("/v2/users/ada/password_reset", &ask).await.unwrap().status, 200);
            assert_eq!(scene.messages().await, []);
        }
        assert_eq!(scene.verify(kind, code).await.0, 200, "{text}");
    }
    let ask = json!({ "sendLink": {} });
    assert_eq!(scene.post("/v2/users/ada/password_reset", &ask).await.unwrap().status, 200);
    assert_eq!(scene.messages().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_is_set_verified_and_removed() {
    let scene = Scene::start().await.unwrap();
    scene.create("ada").await.unwrap();
    let set = scene
        .post("/v2/users/ada/phone", &json!({ "phone": "+4512345678", "returnCode": {} }))
        .await
        .unwrap();
    assert_eq!(scene.human().await["phone"], json!({ "phone": "+4512345678" }));
    assert_eq!(scene.verify("phone", set.body["verificationCode"].as_str().unwrap()).await.0, 200);
    assert_eq!(scene.human().await["phone"], json!({ "phone": "+4512345678", "isVerified": true }));
    assert_eq!(scene.call(&Method::DELETE, "/v2/users/ada/phone", &json!({})).await.unwrap().status, 200);
    assert_eq!(scene.human().await["phone"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_requests_and_uses_the_code_of_its_own_address() {
    let scene = Scene::start().await.unwrap();
    scene.create_unverified().await;
    let login = try_login(&scene.world, "ada", PASSWORD).await.unwrap();
    let token = login.data("token").to_owned();
    let post = async |path: &str, body: Value| {
        scene.world.request(&Method::POST, path, NORDIC, Some(&token), Some(&body)).await.unwrap()
    };
    let returned = post("/v2/users/ada/email/send", json!({ "returnCode": {} })).await;
    assert_eq!((returned.status, scene.world.audit.verdict()), (403, "FORBIDDEN OWN_ACCOUNT".to_owned()));
    assert_eq!(post("/v2/users/ada/email/send", json!({})).await.status, 200);
    let messages = scene.messages().await;
    let code = messages[0].1.split_whitespace().find(|word| word.len() == 8 && *word == word.to_uppercase());
    let verified = post("/v2/users/ada/email/verify", json!({ "verificationCode": code.unwrap() })).await;
    assert_eq!(verified.status, 200, "{}", verified.text);
    assert_eq!(scene.human().await["email"]["isVerified"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn link_of_a_verification_mail_leads_to_a_host_of_the_tenant() {
    let scene = Scene::start().await.unwrap();
    scene.create_unverified().await;
    let send = async |link: &str| {
        scene.post("/v2/users/ada/email/send", &json!({ "sendCode": { "urlTemplate": link } })).await.unwrap()
    };
    for link in ["https://evil.example/{{.Code}}", "https://app.nordic.example/verify"] {
        assert_eq!(send(link).await.status, 400, "{link}");
    }
    let with_link = send("https://app.nordic.example/{{.UserID}}/{{.Code}}").await;
    assert_eq!(with_link.status, 200, "{}", with_link.text);
    let text = scene.messages().await[0].1.clone();
    let link =
        text.split_whitespace().find(|word| word.starts_with("https://app.nordic.example/ada/")).unwrap();
    assert_eq!(scene.verify("email", link.rsplit('/').next().unwrap()).await.0, 200);
}

// docs/design/security.md#rule-30
#[tokio::test(flavor = "multi_thread")]
async fn message_waits_until_the_user_and_its_address_can_be_read() {
    let scene = Scene::start().await.unwrap();
    let mut body = person("ada");
    body["human"]["email"] = json!({ "email": address("ada") });
    assert_eq!(scene.post("/v2/users/new", &body).await.unwrap().status, 200);
    let keys = scene.world.outbox_keys(NORDIC, "ada").await.unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let key = HashMap::from([
        ("pk".to_owned(), text(&format!("T#{NORDIC}#U#ada"))),
        ("sk".to_owned(), text("USER")),
    ]);
    let dynamodb = &scene.world.dynamodb;
    let read = dynamodb.get_item().table_name(local::TABLE).set_key(Some(key.clone()));
    let user = read.send().await.unwrap().item.unwrap();
    let mut earlier = user.clone();
    earlier.insert("unverified_email".to_owned(), text("earlier@new.example"));
    // A read that is older than the transaction of the message returns no user, or an earlier address.
    dynamodb.delete_item().table_name(local::TABLE).set_key(Some(key)).send().await.unwrap();
    for stored in [earlier, user] {
        assert_eq!(scene.world.deliver_all(&keys).await, 1);
        assert_eq!(scene.world.audit.last()["outcome"], "CODE_NOT_READABLE");
        assert!(scene.world.courier.take().is_empty());
        dynamodb.put_item().table_name(local::TABLE).set_item(Some(stored)).send().await.unwrap();
    }
    let sent = scene.messages().await;
    assert_eq!(sent.iter().map(|(to, _)| to).collect::<Vec<_>>(), [&address("ada")]);
}
