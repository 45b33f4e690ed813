//! Logins by username (docs/design/contract.md#log-in-by-name).

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Collection, Role, User, UserId, UserStatus, Username},
    port::Clock,
    route::Function,
};
use e2e::{Actor, Answer, Login, NORDIC, World, event};
use http::Method;
use local::TABLE;
use serde_json::{Value, json};

use crate::{MARCUS, NORDIC_ADMIN};

const WRONG: &str = "not the password";
const ADMINS: &str = "/api/v2.1/admin/sessions";
const CUSTOMERS: &str = "/api/v2.1/customer/sessions";

/// An actor with another username.
fn named(actor: &Actor, username: &str) -> Actor {
    let mut actor = actor.clone();
    username.clone_into(&mut actor.user.username);
    actor
}

async fn log_in(world: &World, actor: &Actor) -> Answer {
    world.try_login_by_name(actor, &actor.user.password).await.unwrap()
}

/// Sends a login by name to either route.
async fn on_route(world: &World, path: &str, actor: &Actor) -> Answer {
    let body = actor.credentials(&actor.user.password);
    world.request(&Method::POST, path, NORDIC, None, Some(&body)).await.unwrap()
}

async fn change_user(world: &World, actor: &Actor, change: impl FnOnce(&mut User)) {
    let user = world.user(actor).await.unwrap();
    let mut changed = User { sequence: user.sequence + 1, ..user.clone() };
    change(&mut changed);
    world.store.replace_user(&user, &changed).await.unwrap();
}

/// Writes the item that says which user has a username.
async fn put_owner(world: &World, folded: &str, user: &str) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let item = world.dynamodb.put_item().table_name(TABLE).item("sk", text("USERNAME"));
    let item = item.item("pk", text(&format!("T#{NORDIC}#N#{folded}"))).item("user_id", text(user));
    item.send().await.unwrap();
}

/// Partition keys of the stored attempts.
async fn attempts(world: &World) -> BTreeSet<String> {
    let items = world.dynamodb.scan().table_name(TABLE).filter_expression("sk = :sk");
    let items = items.expression_attribute_values(":sk", AttributeValue::S("ATTEMPTS".to_owned()));
    let items = items.send().await.unwrap().items.unwrap_or_default();
    items.iter().map(|item| item["pk"].as_s().unwrap().clone()).collect()
}

fn failed(answer: &Answer) -> u64 {
    answer.body["data"]["attempts"].as_u64().unwrap()
}

// docs/design/contract.md#log-in-by-name
#[tokio::test]
async fn answer_has_the_ids_with_which_the_session_is_used() {
    let world = World::start().await.unwrap();
    for (name, kind, user_type) in [
        (NORDIC_ADMIN, None, "ADMIN"),
        (MARCUS, None, "CONSUMER"),
        (MARCUS, Some(Collection::Individual), "CONSUMER"),
        (MARCUS, Some(Collection::Organization), "BUSINESS"),
    ] {
        let mut actor = world.actor(name).unwrap();
        change_user(&world, &actor, |user| user.customer_kind = kind).await;
        if kind == Some(Collection::Organization) {
            "organization".clone_into(&mut actor.collection);
        }
        let answer = log_in(&world, &named(&actor, &name.to_uppercase())).await;
        assert_eq!(answer.verdict(), (200, "NONE"), "{}", answer.text);
        let login = Login::from_answer(&actor, &answer).unwrap();
        assert_eq!(answer.data("userId"), actor.user.user_id);
        assert_eq!(world.audit.last()["user"], json!(actor.user.user_id));
        let collection = world.session(&login).await.unwrap().collection;
        assert_eq!(collection.user_type(), user_type);
        let path = actor.sessions();
        let listed = world.request(&Method::GET, &path, NORDIC, Some(&login.token), None).await;
        assert_eq!(listed.unwrap().status, 200);
        let refreshed = world.refreshed(&login).await.unwrap();
        assert!(world.opens(&refreshed).await.unwrap());
        let proof = Some(login.device_proof.as_str());
        let again = world.try_login_from(&actor, &actor.user.password, "192.0.2.9", proof).await.unwrap();
        assert_eq!(again.status, 200, "{}", again.text);
    }
}

// docs/design/security.md#rule-9
#[tokio::test]
async fn every_refused_login_has_one_response_the_same_calls_and_one_hash() {
    let world = World::start().await.unwrap();
    let (admin, marcus) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(MARCUS).unwrap());
    let disabled = world.actor("ingrid.larsen@example.com").unwrap();
    change_user(&world, &disabled, |user| user.status = UserStatus::Disabled).await;
    let typo = world.actor("oskar.berg@example.com").unwrap();
    let mut wrong = typo.clone();
    WRONG.clone_into(&mut wrong.user.password);
    // Reads the tenant's record and secret, and stores the use of the secret.
    log_in(&world, &world.actor("freja.holm@example.com").unwrap()).await;
    let mut seen: Vec<(Answer, Vec<String>, usize)> = Vec::new();
    for (path, actor, reason) in [
        (CUSTOMERS, &named(&marcus, "nobody@example.com"), "UNKNOWN_USER"),
        (ADMINS, &named(&marcus, "nobody.else@example.com"), "UNKNOWN_USER"),
        (CUSTOMERS, &named(&marcus, "admin@cloudvault.example"), "UNKNOWN_USER"),
        (CUSTOMERS, &wrong, "WRONG_PASSWORD"),
        (CUSTOMERS, &disabled, "USER_DISABLED"),
        (ADMINS, &marcus, "WRONG_PATH"),
        (CUSTOMERS, &admin, "WRONG_PATH"),
    ] {
        world.calls.take();
        let before = world.passwords.verified();
        let answer = on_route(&world, path, actor).await;
        assert_eq!(world.audit.verdict(), format!("AUTHENTICATION {reason}"));
        let is_known = reason != "UNKNOWN_USER";
        assert_eq!(world.audit.last()["user"].is_string(), is_known, "only the ID of a known user is logged");
        seen.push((answer, world.calls.take(), world.passwords.verified() - before));
    }
    let (first, calls, hashes) = &seen[0];
    assert_eq!((first.verdict(), *hashes), ((401, "AUTHENTICATION"), 1));
    assert_eq!(calls.len(), 6, "{calls:?}");
    for (answer, found, hashes) in &seen {
        assert_eq!((&answer.text, &answer.headers), (&first.text, &first.headers));
        assert_eq!((found, *hashes), (calls, 1));
    }
}

// docs/design/security.md#rule-7 and #rule-9
#[tokio::test]
async fn attempts_by_name_and_by_id_count_together() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for (n, by_name) in [true, false, true, false, true].into_iter().enumerate() {
        let answer = if by_name {
            world.try_login_by_name(&marcus, WRONG).await
        } else {
            world.try_login(&marcus, WRONG).await
        };
        assert_eq!(failed(&answer.unwrap()), n as u64 + 1);
    }
    let password = &marcus.user.password;
    let locked = world.try_login(&marcus, password).await.unwrap();
    let locked_by_name = world.try_login_by_name(&marcus, password).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
    assert_eq!(locked_by_name.text, locked.text);
}

// docs/design/security.md#rule-9
#[tokio::test]
async fn equal_histories_of_known_and_unknown_names_give_equal_responses() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 8).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    // Spellings of one unknown name count together, as those of a known name do.
    let spellings = ["nobody@example.com", "Nobody@Example.com", " nobody@example.com\u{200b}"];
    for step in 0..11 {
        let known = world.try_login_by_name(&named(&marcus, &MARCUS.to_uppercase()), WRONG).await.unwrap();
        let verified = world.passwords.verified();
        let unknown = log_in(&world, &named(&marcus, spellings[step % 3])).await;
        assert_eq!((unknown.status, &unknown.text), (known.status, &known.text), "step {step}");
        assert_eq!(unknown.headers, known.headers, "step {step}");
        assert!(world.passwords.verified() - verified <= 1);
        world.clock.advance(if step == 5 { Duration::from_secs(1_800) } else { Duration::from_secs(1) });
    }
    let verdict = log_in(&world, &named(&marcus, spellings[0])).await;
    assert_eq!(verdict.verdict(), (401, "ACCOUNT_LOCKED"));
}

// docs/design/security.md#rule-9: no ID reaches the attempts of an unknown name, and they do not contain the name.
#[tokio::test]
async fn attempts_of_an_unknown_name_are_stored_under_a_digest_that_no_id_equals() {
    let world = World::start().await.unwrap();
    let before = attempts(&world).await;
    let nobody = named(&world.actor(MARCUS).unwrap(), "nobody@example.com");
    let answer = log_in(&world, &nobody).await;
    assert_eq!(answer.verdict(), (401, "AUTHENTICATION"));
    let stored: Vec<_> = attempts(&world).await.difference(&before).cloned().collect();
    let [partition] = stored.as_slice() else { panic!("{stored:?}") };
    let digest = partition.strip_prefix(&format!("T#{NORDIC}#U#%00")).expect("an ID never begins with NUL");
    assert_eq!(digest.len(), 43);
    assert!(!partition.contains("nobody"), "{partition}");
    // The name of another tenant's attempts has another digest.
    let other = {
        let mut other = world.actor("admin@harbour.example").unwrap();
        other.user.username = nobody.user.username.clone();
        other
    };
    world.try_login_by_name(&other, WRONG).await.unwrap();
    let of_other = attempts(&world).await.into_iter().find(|pk| pk.starts_with("T#tenant_harbour#U#%00"));
    assert!(!of_other.unwrap().ends_with(digest));
}

// docs/design/contract.md#log-in-by-name: the owner of a name is read before the user. The user may change in between.
#[tokio::test]
async fn user_item_decides_and_not_the_owner_of_the_name() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let stale = named(&marcus, "renamed@example.com");
    put_owner(&world, "renamed@example.com", &marcus.user.user_id).await;
    let answer = log_in(&world, &stale).await;
    assert_eq!(world.audit.verdict(), "AUTHENTICATION WRONG_USERNAME");
    put_owner(&world, "deleted@example.com", "deleted-user").await;
    let deleted = log_in(&world, &named(&marcus, "deleted@example.com")).await;
    assert_eq!(world.audit.verdict(), "AUTHENTICATION UNKNOWN_USER");
    assert_eq!(answer.text, deleted.text);
    assert_eq!(log_in(&world, &marcus).await.status, 200);
}

// docs/design/contract.md#log-in-by-name
#[tokio::test]
async fn renamed_user_logs_in_by_the_new_name_only() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let renamed = named(&marcus, "m.jensen@example.com");
    assert_eq!(failed(&log_in(&world, &renamed).await), 1);
    let change = json!({ "username": renamed.user.username });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &change).await.unwrap().status, 200);
    assert_eq!(failed(&log_in(&world, &marcus).await), 1);
    assert_eq!(log_in(&world, &renamed).await.status, 200);
    // The failures at a name before it existed do not count for its user.
    assert_eq!(failed(&world.try_login_by_name(&renamed, WRONG).await.unwrap()), 1);
}

// docs/design/contract.md#ids
#[tokio::test]
async fn invisible_characters_and_outer_white_space_are_ignored() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for typed in [
        " marcus.jensen@example.com ",
        "marcus\u{200b}.jensen@example.com",
        "\u{202e}Marcus.Jensen@example.com",
    ] {
        assert_eq!(log_in(&world, &named(&marcus, typed)).await.status, 200, "{typed:?}");
    }
    // A username of an earlier version may contain such characters.
    let old = User {
        id: UserId::parse("old-user").unwrap(),
        username: Username::parse("old\u{200b}user").unwrap(),
        ..world.user(&marcus).await.unwrap()
    };
    world.store.create_user(&old, world.clock.now()).await.unwrap();
    let answer = log_in(&world, &named(&marcus, "Old\u{200b}User")).await;
    assert_eq!(answer.data("userId"), "old-user", "{}", answer.text);
}

// docs/design/contract.md#log-in-by-name
#[tokio::test]
async fn administrator_with_a_customer_may_use_both_routes() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    change_user(&world, &marcus, |user| user.roles = vec![Role::User, Role::Admin]).await;
    for (path, user_type) in [(ADMINS, "ADMIN"), (CUSTOMERS, "CONSUMER")] {
        let answer = on_route(&world, path, &marcus).await;
        let login = Login::from_answer(&marcus, &answer).unwrap();
        assert_eq!(world.session(&login).await.unwrap().collection.user_type(), user_type);
    }
}

fn keyed(actor: &Actor, password: &str, path: &str, key: &str) -> String {
    let mut event = event(&Method::POST, path, NORDIC, None, Some(&actor.credentials(password)));
    event["headers"]["idempotency-key"] = json!(key);
    event.to_string()
}

// docs/design/contract.md#every-request
#[tokio::test]
async fn repeated_login_by_name_returns_its_session_until_the_user_is_renamed() {
    let world = World::start().await.unwrap();
    let (admin, marcus) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(MARCUS).unwrap());
    let admin = world.login(&admin).await.unwrap();
    let password = &marcus.user.password;
    let first = keyed(&marcus, password, CUSTOMERS, "k");
    let send = async |event: &str| world.send(Function::CreateSession, event).await.unwrap();
    let created = send(&first).await;
    let repeated = send(&first).await;
    assert_eq!((created.status, repeated.status), (200, 200), "{}", repeated.text);
    let session = |answer: &Answer| answer.body["data"]["sessionId"].clone();
    assert_eq!(session(&created), session(&repeated));
    assert_eq!(created.data("refreshToken"), repeated.data("refreshToken"));
    // A key belongs to its route.
    let by_id = send(&keyed(&marcus, password, &marcus.sessions(), "k")).await;
    assert_eq!(by_id.status, 200, "{}", by_id.text);
    assert_ne!(session(&created), session(&by_id));
    let mismatch = send(&keyed(&marcus, WRONG, CUSTOMERS, "k")).await;
    assert_eq!(mismatch.verdict(), (422, "IDEMPOTENCY_MISMATCH"));
    let change = json!({ "username": "m.jensen@example.com" });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &change).await.unwrap().status, 200);
    assert_eq!(send(&first).await.verdict(), (409, "IDEMPOTENCY_EXPIRED"));
}

// docs/design/security.md#rule-10
#[tokio::test]
async fn device_proof_works_at_both_kinds_of_login() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let proof = log_in(&world, &marcus).await.data("deviceProof").to_owned();
    for _ in 0..5 {
        world.try_login_by_name(&marcus, WRONG).await.unwrap();
    }
    assert_eq!(log_in(&world, &marcus).await.verdict(), (401, "ACCOUNT_LOCKED"));
    let with_proof = |proof: &str| {
        let mut body = marcus.credentials(&marcus.user.password);
        body["deviceProof"] = Value::from(proof);
        event(&Method::POST, CUSTOMERS, NORDIC, None, Some(&body)).to_string()
    };
    let trusted = world.send(Function::CreateSession, &with_proof(&proof)).await.unwrap();
    assert_eq!(trusted.status, 200, "{}", trusted.text);
}
