//! `doorwardctl user export-data` and `user erase`.

use std::{collections::HashMap, os::unix::fs::PermissionsExt};

use aws_sdk_dynamodb::types::AttributeValue;
use e2e::NORDIC;
use http::Method;
use local::TABLE;
use serde_json::{Value, json};

use crate::{Done, MARCUS, NORDIC_ADMIN, Stack};

/// Session items of Marcus: more than two pages of a query.
const SESSIONS: usize = 250;

type Item = HashMap<String, AttributeValue>;

/// Returns all items of Marcus: those of its partition, and those that find it.
async fn items(stack: &Stack) -> Vec<Item> {
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let pages = stack.world.dynamodb.scan().table_name(TABLE).into_paginator().items().send();
    let all: Vec<Item> = pages.collect::<Result<_, _>>().await.unwrap();
    let own = |item: &Item| {
        let pk = item["pk"].as_s().unwrap();
        *pk == format!("T#{NORDIC}#U#{marcus}")
            || *pk == format!("T#{NORDIC}#N#{MARCUS}")
            || *pk == format!("T#{NORDIC}#M#{MARCUS}")
    };
    all.into_iter().filter(own).collect()
}

fn sort_key(item: &Item) -> &str {
    item["sk"].as_s().unwrap()
}

/// A stack in which Marcus has sessions, a failed attempt, a code and a waiting message.
async fn used() -> Stack {
    let stack = Stack::start().await;
    let world = &stack.world;
    let marcus = world.actor(MARCUS).unwrap();
    world.login(&marcus).await.unwrap();
    world.try_login(&marcus, "a wrong passphrase").await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let path = format!("/v2/users/{}/password_reset", marcus.user.user_id);
    let link = json!({ "sendLink": {} });
    let sent = world.request(&Method::POST, &path, NORDIC, Some(&admin.token), Some(&link)).await.unwrap();
    assert_eq!(sent.status, 200, "{}", sent.text);
    let session = items(&stack).await.into_iter().find(|item| sort_key(item).starts_with("S#")).unwrap();
    for number in 1..SESSIONS {
        let mut copy = session.clone();
        copy.insert("sk".to_owned(), AttributeValue::S(format!("S#copy-{number}")));
        copy.insert("session_id".to_owned(), AttributeValue::S(format!("copy-{number}")));
        put(&stack, copy).await;
    }
    stack
}

async fn put(stack: &Stack, item: Item) {
    stack.world.dynamodb.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
}

async fn erase(stack: &Stack, user: &str) -> Done {
    stack.run(&["--json", "user", "erase", NORDIC, user, "--yes"]).await
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

// docs/design/security.md#rule-12, #rule-19: nonces, digests, messages and password hashes stay in the table.
#[tokio::test]
async fn export_has_every_item_of_the_user_and_no_secret() {
    let stack = used().await;
    let exported = stack.run(&["user", "export-data", NORDIC, MARCUS]).await.succeeded();
    let all = lines(&exported.stdout);
    let stored = items(&stack).await;
    assert_eq!(all.len(), stored.len());
    let of = |kind: &str| all.iter().filter(|line| line["item"] == kind).collect::<Vec<_>>();
    assert_eq!(of("session").len(), SESSIONS);
    for kind in ["user", "username", "mail", "attempts", "code", "message"] {
        assert_eq!(of(kind).len(), 1, "{kind}");
    }
    assert_eq!(all[0]["email"], json!(MARCUS), "the user is first");
    assert_eq!(of("session")[0]["ip"], json!("127.0.0.1"));
    assert_eq!(of("attempts")[0]["devices"][0]["consecutiveFailures"], json!(1));
    assert_eq!(of("code")[0]["purpose"], json!("password"));
    let mut secrets = 0;
    for item in &stored {
        for name in ["password", "nonce", "digest"] {
            if let Some(secret) = item.get(name) {
                secrets += 1;
                assert!(!exported.stdout.contains(secret.as_s().unwrap()), "{name}");
            }
        }
    }
    assert_eq!(secrets, SESSIONS + 2);
    assert!(!exported.stdout.contains("$argon2"));
    assert!(all.iter().all(|line| line["item"] != "session" || line["notExported"] == json!(["nonce"])));

    let file = stack.path("marcus.ndjson");
    let saved =
        stack.run(&["--json", "user", "export-data", NORDIC, MARCUS, "--out", &file]).await.succeeded();
    assert_eq!(saved.json()["items"], json!(stored.len()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), exported.stdout);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = stack.run(&["user", "export-data", NORDIC, MARCUS, "--out", &file]).await;
    assert!(again.code == 1 && again.stderr.contains("does not overwrite"), "{again:?}");
    let new = stack.path("new.ndjson");
    let unknown = stack.run(&["user", "export-data", NORDIC, "nobody", "--out", &new]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("has no user"), "{unknown:?}");
    assert!(!std::path::Path::new(&new).exists());
}

#[tokio::test]
async fn unreadable_item_is_named_without_its_content() {
    let stack = Stack::start().await;
    let mut item = items(&stack).await.into_iter().find(|item| sort_key(item) == "USER").unwrap();
    item.insert("sk".to_owned(), AttributeValue::S("S#broken".to_owned()));
    item.insert("nonce".to_owned(), AttributeValue::S("hunter2".to_owned()));
    put(&stack, item).await;
    let exported = stack.run(&["user", "export-data", NORDIC, MARCUS]).await;
    assert!(exported.code == 1 && exported.stderr.contains("unreadable: S#broken"), "{exported:?}");
    assert!(exported.stdout.contains("\"sortKey\":\"S#broken\""));
    assert!(!format!("{exported:?}").contains("hunter2"));
}

#[tokio::test]
async fn erased_user_leaves_no_item() {
    let stack = used().await;
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let refused = stack.run(&["user", "erase", NORDIC, &marcus]).await;
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused:?}");
    let before = items(&stack).await.len();
    assert!(before > SESSIONS);
    let by_name = erase(&stack, MARCUS).await.succeeded().json();
    assert_eq!(by_name["changed"], json!(false), "a username names no user");
    assert_eq!(items(&stack).await.len(), before);
    let erased = erase(&stack, &marcus).await.succeeded().json();
    assert_eq!(
        [&erased["user"], &erased["userDeleted"], &erased["sessions"]],
        [&json!(marcus), &json!(true), &json!(SESSIONS)]
    );
    assert_eq!(items(&stack).await, Vec::<Item>::new());
    let again = erase(&stack, &marcus).await.succeeded().json();
    assert_eq!([&again["changed"], &again["sessions"]], [&json!(false), &json!(0)]);
    for (tenant, user) in [(NORDIC, ""), ("tenant_missing", marcus.as_str())] {
        let unknown = stack.run(&["user", "erase", tenant, user, "--yes"]).await;
        assert_ne!(unknown.code, 0, "{unknown:?}");
    }
    // The other users stay.
    let admin = stack.world.actor(NORDIC_ADMIN).unwrap();
    stack.world.login(&admin).await.unwrap();
}

#[tokio::test]
async fn interrupted_erasure_is_completed_by_another_call() {
    let stack = used().await;
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let message = items(&stack).await.into_iter().find(|item| sort_key(item).starts_with("OUT#")).unwrap();
    stack.run(&["user", "delete", NORDIC, MARCUS, "--yes"]).await.succeeded();
    // A request in progress can write an item after the deletion.
    put(&stack, message).await;
    assert_eq!(items(&stack).await.len(), SESSIONS + 1);
    let remaining = stack.run(&["user", "export-data", NORDIC, &marcus]).await.succeeded();
    assert_eq!(lines(&remaining.stdout).len(), SESSIONS + 1);
    let erased = erase(&stack, &marcus).await.succeeded().json();
    assert_eq!(
        [&erased["userDeleted"], &erased["sessions"], &erased["otherItems"]],
        [&json!(false), &json!(SESSIONS), &json!(1)]
    );
    assert_eq!(items(&stack).await, Vec::<Item>::new());
}
