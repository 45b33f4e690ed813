//! The index of users and the items that find them: `doctor`, `doctor --repair`, `user find`, and users by name.

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::domain::{TenantId, UserId, Username};
use e2e::NORDIC;
use local::TABLE;
use serde_json::{Value, json};

use crate::{Done, MARCUS, NORDIC_ADMIN, Stack, doctor::Patient};

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

async fn update(stack: &Stack, (pk, sk): (&str, &str), expression: &str, value: Option<&str>) {
    let update = stack.world.dynamodb.update_item().table_name(TABLE).key("pk", text(pk)).key("sk", text(sk));
    let values = value.map(|value| [(":value".to_owned(), text(value))].into());
    let update = update.set_expression_attribute_values(values);
    update.condition_expression("attribute_exists(pk)").update_expression(expression).send().await.unwrap();
}

async fn delete(stack: &Stack, (pk, sk): (&str, &str)) {
    let delete = stack.world.dynamodb.delete_item().table_name(TABLE).key("pk", text(pk)).key("sk", text(sk));
    delete.condition_expression("attribute_exists(pk)").send().await.unwrap();
}

async fn put(stack: &Stack, (pk, sk): (&str, &str), user: &str) {
    let put = stack.world.dynamodb.put_item().table_name(TABLE).item("pk", text(pk)).item("sk", text(sk));
    put.item("user_id", text(user)).send().await.unwrap();
}

/// Returns the messages of the check of the index in a state.
fn of_index(done: &Done, state: &str) -> Vec<String> {
    let report = done.json();
    let checks = report["checks"].as_array().unwrap().iter();
    let own = checks.filter(|check| check["check"] == "users.index" && check["state"] == state);
    own.map(|check| check["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn inconsistent_items_of_a_user_are_found_and_repaired() {
    let Patient { stack, .. } = Patient::healthy().await;
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let user = format!("T#{NORDIC}#U#{marcus}");
    let name = format!("T#{NORDIC}#N#{MARCUS}");
    let mail = (format!("T#{NORDIC}#M#{MARCUS}"), format!("U#{marcus}"));
    let (user, name, mail) = ((user.as_str(), "USER"), (name.as_str(), "USERNAME"), (&*mail.0, &*mail.1));
    let stray_name = format!("T#{NORDIC}#N#ghost");
    let stray_mail = format!("T#{NORDIC}#M#ghost@example.com");
    for case in ["no index", "other position", "no name", "no mail", "all", "old name", "old mail", "no user"]
    {
        match case {
            "no index" => update(&stack, user, "REMOVE users_of, users_position", None).await,
            "other position" => update(&stack, user, "SET users_position = :value", Some("O#o#U#u")).await,
            "no name" => delete(&stack, name).await,
            "no mail" => delete(&stack, mail).await,
            "old name" => put(&stack, (&stray_name, "USERNAME"), &marcus).await,
            "old mail" => put(&stack, (&stray_mail, mail.1), &marcus).await,
            "no user" => put(&stack, (&stray_mail, "U#ghost"), "ghost").await,
            _ => {
                update(&stack, user, "REMOVE users_of", None).await;
                delete(&stack, name).await;
                delete(&stack, mail).await;
            }
        }
        let found = stack.run(&["--json", "doctor"]).await;
        let faults = of_index(&found, "FAULT");
        let expected = if case == "all" { 3 } else { 1 };
        assert_eq!((found.code, faults.len()), (1, expected), "{case}: {found:?}");
        let whose = if case == "no user" { "\"ghost\"" } else { &marcus };
        assert!(faults.iter().all(|fault| fault.contains(whose)), "{case}: {faults:?}");
        assert_eq!(of_index(&stack.run(&["--json", "doctor"]).await, "FAULT"), faults, "{case}: no write");
        let repaired = stack.run(&["--json", "doctor", "--repair"]).await.succeeded();
        assert_eq!(of_index(&repaired, "OK"), [format!("repaired: {expected}")], "{case}");
        let healthy = stack.run(&["--json", "doctor"]).await.succeeded();
        assert_eq!(of_index(&healthy, "OK").len(), 1, "{case}: {healthy:?}");
        for find in [["--name", MARCUS], ["--email", MARCUS]] {
            let found = stack.run(&["--json", "user", "find", NORDIC, find[0], find[1]]).await.succeeded();
            assert_eq!(found.json()["user"], json!(marcus), "{case}");
        }
    }
}

#[tokio::test]
async fn username_of_two_users_and_unreadable_users_are_reported_and_kept() {
    let Patient { stack, .. } = Patient::healthy().await;
    let [marcus, admin] = [MARCUS, NORDIC_ADMIN].map(|name| stack.world.actor(name).unwrap().user.user_id);
    let name = format!("T#{NORDIC}#N#{MARCUS}");
    put(&stack, (&name, "USERNAME"), &admin).await;
    let repaired = stack.run(&["--json", "doctor", "--repair"]).await;
    assert_eq!(repaired.code, 1);
    // The item finds the administrator, who has another name.
    let faults = of_index(&repaired, "FAULT");
    assert!(faults.len() == 1 && faults[0].contains("belongs to another user"), "{faults:?}");
    stack.run(&["--json", "doctor", "--repair"]).await.succeeded();
    let found = stack.run(&["--json", "user", "find", NORDIC, "--name", MARCUS]).await.succeeded();
    assert_eq!(found.json()["user"], json!(marcus));

    let user = format!("T#{NORDIC}#U#{marcus}");
    update(&stack, (&user, "USER"), "SET created_at = :value", Some("hunter2")).await;
    update(&stack, (&user, "USER"), "REMOVE users_of", None).await;
    let repaired = stack.run(&["--json", "doctor", "--repair"]).await;
    let faults = of_index(&repaired, "FAULT");
    assert!(faults.len() == 1 && faults[0].contains("unreadable"), "{faults:?}");
    assert!(!format!("{repaired:?}").contains("hunter2"));
}

/// Makes the items of a tenant like those of a version without the index.
async fn age(stack: &Stack, tenant: &str) {
    let scan = stack.world.dynamodb.scan().table_name(TABLE).send().await.unwrap();
    for item in scan.items() {
        let [pk, sk] = ["pk", "sk"].map(|name| item[name].as_s().unwrap().as_str());
        if pk.starts_with(&format!("T#{tenant}#M#")) {
            delete(stack, (pk, sk)).await;
        } else if pk.starts_with(&format!("T#{tenant}#U#")) && sk == "USER" {
            update(stack, (pk, sk), "REMOVE users_of, users_position", None).await;
        }
    }
    update(stack, (&format!("T#{tenant}"), "TENANT"), "REMOVE users_indexed", None).await;
}

#[tokio::test]
async fn table_of_an_earlier_version_is_indexed_by_the_repair() {
    let Patient { stack, .. } = Patient::healthy().await;
    let exported = stack.run(&["user", "export", NORDIC]).await.succeeded().stdout;
    age(&stack, NORDIC).await;
    for command in ["list", "export"] {
        let refused = stack.run(&["user", command, NORDIC]).await;
        assert!(refused.code == 1 && refused.stderr.contains("doctor --repair"), "{refused:?}");
    }
    let found = stack.run(&["--json", "doctor"]).await;
    assert_eq!((found.code, of_index(&found, "FAULT").len()), (1, 3), "{found:?}");
    stack.run(&["doctor", "--repair"]).await.succeeded();
    assert_eq!(stack.run(&["user", "export", NORDIC]).await.succeeded().stdout, exported);
    stack.run(&["--json", "doctor"]).await.succeeded();
}

#[tokio::test]
async fn tenant_that_the_index_does_not_list_is_deleted_as_a_whole() {
    let stack = Stack::start().await;
    age(&stack, NORDIC).await;
    stack.run(&["tenant", "suspend", NORDIC, "--yes"]).await.succeeded();
    stack.run(&["tenant", "delete", NORDIC, "--yes"]).await.succeeded();
    let scan = stack.world.dynamodb.scan().table_name(TABLE).send().await.unwrap();
    let left =
        scan.items().iter().filter(|item| item["pk"].as_s().unwrap().starts_with(&format!("T#{NORDIC}#U#")));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn users_are_named_by_id_or_username_and_an_exact_id_wins() {
    let stack = Stack::start().await;
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let shown = async |user: &str| {
        let shown = stack.run(&["--json", "user", "show", NORDIC, user]).await;
        if shown.code == 0 { shown.json()["user"].as_str().unwrap().to_owned() } else { shown.stderr }
    };
    assert_eq!((shown(&marcus).await, shown(&MARCUS.to_uppercase()).await), (marcus.clone(), marcus.clone()));
    assert!(shown("nobody@example.com").await.contains("pass the user ID or the username"));
    // Another user whose ID is the name of Marcus.
    let tenant = TenantId::parse(NORDIC).unwrap();
    let mut other = stack.world.user(&stack.world.actor(MARCUS).unwrap()).await.unwrap();
    other.id = UserId::parse(MARCUS).unwrap();
    other.username = Username::parse("other@example.com").unwrap();
    stack.world.store.create_user(&other, other.created_at).await.unwrap();
    assert_eq!(shown(MARCUS).await, MARCUS);
    let both = stack.run(&["--json", "user", "find", NORDIC, "--email", MARCUS]).await.succeeded().stdout;
    let both: Vec<_> =
        both.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["user"].clone()).collect();
    assert_eq!(both.len(), 2, "{both:?}");

    let name = "other@example.com";
    for command in [
        &["user", "update", NORDIC, name, "--locale", "de"][..],
        &["user", "disable", NORDIC, name],
        &["user", "enable", NORDIC, name],
        &["user", "unlock", NORDIC, name],
        &["session", "list", NORDIC, name],
        &["session", "revoke-all", NORDIC, name, "--yes"],
        &["user", "delete", NORDIC, name, "--yes"],
    ] {
        stack.run(command).await.succeeded();
    }
    assert!(stack.world.store.user(&tenant, &other.id).await.unwrap().is_none());
    assert_eq!(shown(MARCUS).await, marcus, "the name finds Marcus again");
    for (arguments, code) in [
        (&["--email", "nobody@example.com"][..], 1),
        (&["--name", "nobody"], 1),
        (&[], 2),
        (&["--email", "nobody"], 2),
        (&["--email", MARCUS, "--name", MARCUS], 2),
    ] {
        let all: Vec<_> = ["user", "find", NORDIC].iter().chain(arguments).copied().collect();
        assert_eq!(stack.run(&all).await.code, code, "{arguments:?}");
    }
}
