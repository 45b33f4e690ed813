//! From "forgot" to "logged in": reset codes, in the ZITADEL dialect's JSON, over the embedded
//! services. What a mail would carry is read from the outbox with the tenant's own key.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Medium, Notification},
    route::Function,
    secrets::{RootKey, SecretDocument},
};
use e2e::{Actor, Answer, Login, NORDIC, World, as_tenant, event};
use futures_util::future::join_all;
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN};

const NOBODY: &str = "nobody-at-all";

/// Who asks.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The tenant itself.
    Tenant,
    /// Whoever holds that token.
    Bearer(&'a Login),
    /// Nobody in particular.
    Nobody,
}

async fn call(
    world: &World,
    tenant: &str,
    by: By<'_>,
    path: &str,
    from: &str,
    body: &Value,
) -> Result<Answer> {
    let bearer = match by {
        By::Bearer(login) => Some(login.token.as_str()),
        By::Tenant | By::Nobody => None,
    };
    let mut event = event(&Method::POST, path, tenant, bearer, Some(body));
    if let By::Tenant = by {
        event = as_tenant(event);
    }
    event["requestContext"]["http"]["sourceIp"] = json!(from);
    let function =
        if path.ends_with("password_reset") { Function::ResetLogin } else { Function::UpdateCredentials };
    world.send(function, &event.to_string()).await
}

async fn ask(world: &World, by: By<'_>, user: &str, body: Value) -> Result<Answer> {
    call(world, NORDIC, by, &format!("/v2/users/{user}/password_reset"), "192.0.2.1", &body).await
}

async fn set_from(world: &World, from: &str, user: &str, code: &str, password: &str) -> Result<Answer> {
    let body = json!({ "newPassword": { "password": password }, "verificationCode": code });
    call(world, NORDIC, By::Nobody, &format!("/v2/users/{user}/password"), from, &body).await
}

async fn set(world: &World, user: &str, code: &str, password: &str) -> Result<Answer> {
    set_from(world, "192.0.2.1", user, code, password).await
}

/// A code in a mail's link, asked for by the tenant.
async fn mailed_code(world: &World, user: &str) -> Result<String> {
    let answer = ask(world, By::Tenant, user, json!({})).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    world.newest_code(NORDIC, user).await
}

/// A code that an administrator is given.
async fn returned_code(world: &World, admin: &Login, user: &str) -> Result<String> {
    let answer = ask(world, By::Bearer(admin), user, json!({ "returnCode": {} })).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(answer.body["verificationCode"].as_str().unwrap().to_owned())
}

fn is_invalid_code(answer: &Answer) -> bool {
    let message = answer.body["message"].as_str().unwrap_or_default();
    answer.status == 400 && answer.body["code"] == 3 && message.starts_with("The code is wrong")
}

async fn logs_in(world: &World, actor: &Actor, password: &str) -> Result<bool> {
    Ok(world.try_login(actor, password).await?.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_forgotten_to_logged_in() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let before = world.login(&actor).await?;
    for _ in 0..5 {
        world.try_login(&actor, "not the password").await?;
    }
    let code = mailed_code(&world, &actor.user.user_id).await?;
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(code.len(), 20);
    assert!(world.opens(&before).await?, "asking changes nothing");
    assert_eq!(world.try_login(&actor, &actor.user.password).await?.verdict(), (401, "ACCOUNT_LOCKED"));

    let answer = set(&world, &actor.user.user_id, &code, NEW_PASSWORD).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["details"]["resourceOwner"], actor.user.organization_id);
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?, "the lockout ended with it");
    assert!(!logs_in(&world, &actor, &actor.user.password).await?);
    assert!(!world.opens(&before).await?, "and every session from before");
    let told: Vec<_> =
        world.outbox(NORDIC, &actor.user.user_id).await?.iter().map(Notification::name).collect();
    assert_eq!(told, ["reset_code", "password_changed"]);
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn a_login_reset_issues_a_code_that_completes_it() -> Result<()> {
    let world = World::start().await?;
    let (admin, actor) = (world.login(&world.actor(NORDIC_ADMIN)?).await?, world.actor(MARCUS)?);
    world.reset(&admin, &json!({ "userId": actor.user.user_id })).await?;
    assert_eq!(
        world.try_login(&actor, &actor.user.password).await?.verdict(),
        (401, "CREDENTIALS_RESET_REQUIRED")
    );
    let code = world.newest_code(NORDIC, &actor.user.user_id).await?;
    assert_eq!(set(&world, &actor.user.user_id, &code, NEW_PASSWORD).await?.status, 200);
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?);
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_code_works_and_only_once() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let older = mailed_code(&world, user).await?;
    world.clock.advance(Duration::from_millis(1));
    let newer = mailed_code(&world, user).await?;
    assert_ne!(older, newer);
    assert!(is_invalid_code(&set(&world, user, &older, NEW_PASSWORD).await?));
    let lower = newer.to_lowercase();
    assert_eq!(set(&world, user, &lower, NEW_PASSWORD).await?.status, 200);
    assert!(is_invalid_code(&set(&world, user, &newer, "yet another passphrase").await?));
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?);
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_use_one_code_at_once_one_does() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    let passwords: Vec<_> = (0..20).map(|n| format!("another fine passphrase {n}")).collect();
    let answers = join_all(passwords.iter().map(|password| set(&world, user, &code, password))).await;
    let mut winners = Vec::new();
    for (answer, password) in answers.into_iter().zip(&passwords) {
        let answer = answer?;
        if answer.status == 200 {
            winners.push(password);
        } else {
            assert!(is_invalid_code(&answer), "{answer:?}");
        }
    }
    assert_eq!(winners.len(), 1);
    assert!(logs_in(&world, &actor, winners[0]).await?);
    Ok(())
}

// docs/design/security.md#rule-19: whatever arrives at once, five wrong tries kill a typed code.
#[tokio::test(flavor = "multi_thread")]
async fn a_typed_code_is_dead_after_five_wrong_tries() -> Result<()> {
    let world = World::start().await?;
    let (admin, actor) = (world.login(&world.actor(NORDIC_ADMIN)?).await?, world.actor(MARCUS)?);
    let user = &actor.user.user_id;

    let code = returned_code(&world, &admin, user).await?;
    assert_eq!(code.len(), 8);
    for _ in 0..4 {
        assert!(is_invalid_code(&set(&world, user, "AAAAAAAA", NEW_PASSWORD).await?));
    }
    // Too short a password is no wrong code: it costs no try.
    for _ in 0..8 {
        let answer = set(&world, user, &code, "short").await?;
        assert!(answer.status == 400 && !is_invalid_code(&answer), "{answer:?}");
    }
    assert_eq!(set(&world, user, &code, NEW_PASSWORD).await?.status, 200, "the fifth try is its own");

    let code = returned_code(&world, &admin, user).await?;
    let wrong = join_all((0..20).map(|_| set(&world, user, "BBBBBBBB", NEW_PASSWORD))).await;
    for answer in wrong {
        assert!(is_invalid_code(&answer?));
    }
    assert!(is_invalid_code(&set(&world, user, &code, "yet another passphrase").await?), "it is dead");
    let code = returned_code(&world, &admin, user).await?;
    assert_eq!(set(&world, user, &code, "yet another passphrase").await?.status, 200, "a new one lives");
    Ok(())
}

// docs/design/security.md#rule-19: nobody kills another's link by guessing.
#[tokio::test(flavor = "multi_thread")]
async fn a_links_code_survives_wrong_tries() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    for length in [20, 8] {
        let wrong = "A".repeat(length);
        let wrong = join_all((0..20).map(|_| set(&world, user, &wrong, NEW_PASSWORD))).await;
        assert!(wrong.into_iter().all(|answer| is_invalid_code(&answer.unwrap())));
    }
    assert_eq!(set(&world, user, &code, NEW_PASSWORD).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-10, #rule-19
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_budget_of_wrong_codes() -> Result<()> {
    let world = World::start().await?;
    world.change_policy(NORDIC, |policy| policy.wrong_codes_per_ip = 3).await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    for wrong in ["AAAAAAAA", "AAAAAAAAAAAAAAAAAAAA", "A"] {
        assert!(is_invalid_code(&set(&world, NOBODY, wrong, NEW_PASSWORD).await?));
    }
    let limited = set(&world, user, &code, NEW_PASSWORD).await?;
    assert_eq!((limited.status, &limited.body["code"]), (429, &json!(8)));
    assert_eq!(world.audit.last()["reason"], "ADDRESS");
    let wait: u64 = limited.header("retry-after").parse()?;
    assert!(wait <= 3_600);
    assert_eq!(world.passwords.verified(), 0);

    // Another address is not concerned, and what is right is not counted.
    for password in ["short", "short", "short", "short", NEW_PASSWORD] {
        let answer = set_from(&world, "2001:db8::7", user, &code, password).await?;
        assert_eq!(answer.status == 200, password == NEW_PASSWORD, "{answer:?}");
    }
    world.clock.advance(Duration::from_secs(wait));
    assert!(is_invalid_code(&set(&world, user, &code, NEW_PASSWORD).await?), "the next hour is a new one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_with_its_life() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    world.clock.advance(Duration::from_secs(3_600) - Duration::from_millis(1));
    assert!(!is_invalid_code(&set(&world, user, &code, "short").await?), "until the last millisecond");
    world.clock.advance(Duration::from_millis(1));
    assert!(is_invalid_code(&set(&world, user, &code, NEW_PASSWORD).await?));
    Ok(())
}

// docs/design/security.md#rule-19: asking tells nobody whether there is such a user, or what the user has.
#[tokio::test(flavor = "multi_thread")]
async fn asking_looks_the_same_whoever_it_is_for() -> Result<()> {
    let world = World::start().await?;
    let known = world.actor(MARCUS)?.user.user_id;
    let mut seen = Vec::new();
    ask(&world, By::Tenant, "somebody-else", json!({})).await?;
    for user in [known.as_str(), NOBODY] {
        let mut answers = Vec::new();
        for _ in 0..6 {
            world.calls.take();
            let answer = ask(&world, By::Tenant, user, json!({ "sendLink": {} })).await?;
            let retry_after = answer.header("retry-after").to_owned();
            answers.push((answer.status, answer.text, retry_after, world.calls.take()));
        }
        seen.push((answers, items(&world, user).await?));
    }
    assert_eq!(seen[0], seen[1], "answers, budgets, what is asked of storage and what is written");
    assert_eq!(seen[0].0[0].3, ["BatchGetItem", "TransactWriteItems"]);
    assert_eq!(
        seen[0].0.iter().map(|(status, ..)| *status).collect::<Vec<_>>(),
        [200, 200, 200, 200, 200, 429]
    );
    assert!(world.outbox(NORDIC, NOBODY).await?.iter().all(|message| message.name() == "nothing"));

    let code = world.newest_code(NORDIC, &known).await?;
    let mut refusals = BTreeSet::new();
    for (user, code) in [
        (known.as_str(), "AAAAAAAA"),
        (known.as_str(), "AAAAAAAAAAAAAAAAAAAA"),
        (NOBODY, code.as_str()),
        (NOBODY, "AAAAAAAA"),
    ] {
        world.calls.take();
        let answer = set(&world, user, code, NEW_PASSWORD).await?;
        let expected: &[&str] = if code.len() == 20 {
            &["BatchGetItem", "UpdateItem"]
        } else {
            &["BatchGetItem", "UpdateItem", "UpdateItem"]
        };
        assert_eq!(world.calls.take(), expected, "for {user} with {} characters", code.len());
        refusals.insert((answer.status, answer.text));
    }
    assert_eq!(world.passwords.verified(), 0, "and nothing is hashed (docs/design/security.md#rule-11)");
    // A typed code that lives is compared, one that does not exist is not: outside it is the same.
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    returned_code(&world, &admin, &known).await?;
    for user in [known.as_str(), NOBODY] {
        world.calls.take();
        let answer = set(&world, user, "AAAAAAAA", NEW_PASSWORD).await?;
        assert_eq!(world.calls.take(), ["BatchGetItem", "UpdateItem", "UpdateItem"], "for {user}");
        refusals.insert((answer.status, answer.text));
    }
    let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
    let path = format!("/v2/users/{known}/password");
    for tenant in ["tenant_cloudvault", "no_such_tenant"] {
        let answer = call(&world, tenant, By::Nobody, &path, "192.0.2.1", &body).await?;
        refusals.insert((answer.status, answer.text));
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    Ok(())
}

/// How many items of which kind a user's partition has.
async fn items(world: &World, user: &str) -> Result<Vec<String>> {
    let found = world
        .dynamodb
        .query()
        .table_name(local::TABLE)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(format!("T#{NORDIC}#U#{user}")))
        .send()
        .await?;
    let kinds = found.items().iter().filter_map(|item| item.get("sk")?.as_s().ok());
    let kinds = kinds.filter_map(|sk| sk.split_once('#')).map(|(kind, _)| kind.to_owned());
    Ok(kinds.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_for_a_code() -> Result<()> {
    let world = World::start().await?;
    let (admin, customer) =
        (world.login(&world.actor(NORDIC_ADMIN)?).await?, world.login(&world.actor(MARCUS)?).await?);
    let other_admin = world.login(&world.actor(OTHER_ADMIN)?).await?;
    let foreign = world.login(&world.actor(ADMIN)?).await?;
    let (user, own) = (customer.actor.user.user_id.as_str(), admin.actor.user.user_id.as_str());
    let (send, give) = (json!({ "sendLink": {} }), json!({ "returnCode": {} }));
    for (by, of, body, status, code) in [
        (By::Bearer(&customer), user, &send, 200, 0),
        (By::Bearer(&admin), user, &send, 200, 0),
        (By::Bearer(&admin), user, &give, 200, 0),
        (By::Bearer(&admin), own, &send, 200, 0),
        (By::Tenant, user, &send, 200, 0),
        // A stolen administrator's token must not become its password.
        (By::Bearer(&admin), own, &give, 403, 7),
        (By::Bearer(&customer), user, &give, 403, 7),
        (By::Bearer(&customer), own, &send, 403, 7),
        (By::Tenant, user, &give, 403, 7),
        (By::Bearer(&other_admin), user, &send, 404, 5),
        (By::Bearer(&other_admin), user, &give, 404, 5),
        (By::Bearer(&admin), NOBODY, &send, 404, 5),
        (By::Bearer(&foreign), user, &send, 403, 7),
        (By::Nobody, user, &send, 401, 16),
    ] {
        let answer = ask(&world, by, of, body.clone()).await?;
        assert_eq!(answer.status, status, "{body} of {of}: {answer:?}");
        assert_eq!(answer.body["code"].as_i64().unwrap_or_default(), code, "{answer:?}");
    }
    world.update(&admin, user, &json!({ "password": NEW_PASSWORD })).await?;
    let restricted =
        Login::from_answer(&customer.actor, &world.try_login(&customer.actor, NEW_PASSWORD).await?)?;
    let answer = ask(&world, By::Bearer(&restricted), user, send).await?;
    assert_eq!(answer.status, 403, "docs/design/security.md#rule-21: {answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_password_ends_the_code_asked_for_before() -> Result<()> {
    let world = World::start().await?;
    let customer = world.login(&world.actor(MARCUS)?).await?;
    let user = &customer.actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    world.clock.advance(Duration::from_millis(1));
    let change = json!({ "password": NEW_PASSWORD, "currentPassword": customer.actor.user.password });
    assert_eq!(world.update(&customer, user, &change).await?.status, 200);
    assert!(is_invalid_code(&set(&world, user, &code, "yet another passphrase").await?));
    let told: Vec<_> = world.outbox(NORDIC, user).await?.iter().map(Notification::name).collect();
    assert_eq!(told, ["reset_code", "password_changed"]);
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn codes_are_sent_at_most_so_often_an_hour_and_a_login_reset_always() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    for _ in 0..5 {
        assert_eq!(ask(&world, By::Tenant, &user, json!({})).await?.status, 200);
        world.clock.advance(Duration::from_secs(60));
    }
    let limited = ask(&world, By::Tenant, &user, json!({})).await?;
    assert_eq!((limited.status, limited.header("retry-after")), (429, "3300"));
    assert_eq!(world.audit.last()["reason"], "CODES");
    assert_eq!(ask(&world, By::Bearer(&admin), &user, json!({})).await?.status, 429);
    let returned = ask(&world, By::Bearer(&admin), &user, json!({ "returnCode": {} })).await?;
    assert_eq!(returned.status, 200, "nothing is sent");
    assert_eq!(world.reset(&admin, &json!({ "userId": user })).await?.status, 200);
    // The reset counts, too: two of the others have to be an hour old.
    world.clock.advance(Duration::from_secs(3_360));
    assert_eq!(ask(&world, By::Tenant, &user, json!({})).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-19: the budget holds however many ask at once, and nobody is turned away for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_ask_at_once_five_are_sent_a_code() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let answers = join_all((0..20).map(|_| ask(&world, By::Tenant, &user, json!({})))).await;
    let statuses: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert_eq!(world.outbox(NORDIC, &user).await?.len(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_message_carries_a_code_to_type() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let body = json!({ "sendLink": { "notificationType": "NOTIFICATION_TYPE_SMS" } });
    assert_eq!(ask(&world, By::Tenant, &user, body).await?.status, 200);
    let messages = world.outbox(NORDIC, &user).await?;
    let Some(Notification::ResetCode(message)) = messages.first() else { panic!("{messages:?}") };
    assert_eq!((message.medium, message.code.expose().len()), (Medium::Text, 8));
    assert_eq!(set(&world, &user, message.code.expose(), NEW_PASSWORD).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-15, #rule-19
#[tokio::test(flavor = "multi_thread")]
async fn a_code_opens_nothing_for_a_disabled_user_or_a_suspended_tenant() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    world.change_tenant(NORDIC, true, None).await?;
    let answer = set(&world, user, &code, NEW_PASSWORD).await?;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!(7)), "{answer:?}");
    assert!(is_invalid_code(&set(&world, user, "AAAAAAAA", NEW_PASSWORD).await?), "only after a right code");
    world.change_tenant(NORDIC, false, None).await?;

    // As an operator's own hand would do it, without all else that disabling a user does.
    world
        .dynamodb
        .update_item()
        .table_name(local::TABLE)
        .key("pk", AttributeValue::S(format!("T#{NORDIC}#U#{user}")))
        .key("sk", AttributeValue::S("USER".to_owned()))
        .update_expression("SET disabled = :yes")
        .expression_attribute_values(":yes", AttributeValue::Bool(true))
        .send()
        .await?;
    assert!(is_invalid_code(&set(&world, user, &code, NEW_PASSWORD).await?));
    Ok(())
}

// docs/design/security.md#rule-20
#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_its_own_users_alone() -> Result<()> {
    let world = World::start().await?;
    let code = mailed_code(&world, &world.actor(MARCUS)?.user.user_id).await?;
    let other = world.actor("ingrid.larsen@example.com")?.user.user_id;
    mailed_code(&world, &other).await?;
    assert!(is_invalid_code(&set(&world, &other, &code, NEW_PASSWORD).await?));
    assert!(is_invalid_code(&set(&world, &world.actor(CUSTOMER)?.user.user_id, &code, NEW_PASSWORD).await?));
    Ok(())
}

// docs/design/security.md#rule-18: the root key rotates between the function that issues a code and the one that takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_made_with_a_newer_root_key_is_not_taken_for_a_wrong_one() -> Result<()> {
    let mut world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    assert!(is_invalid_code(&set(&world, &user, "AAAAAAAA", NEW_PASSWORD).await?), "keys are cached");
    let name = format!("{}{NORDIC}", local::SECRET_PREFIX);
    let secret = world.secrets.get_secret_value().secret_id(&name).send().await?;
    let mut document = SecretDocument::parse(&secret.secret_string.unwrap_or_default().into())?;
    document.root_keys.push(RootKey { version: 2, key: "A".repeat(43).into() });
    let document = document.to_text();
    world.secrets.put_secret_value().secret_id(&name).secret_string(document.expose_secret()).send().await?;
    // Past the minute in which one forced reload was spent on nothing.
    world.clock.advance(Duration::from_secs(61));
    world.start_another(Function::ResetLogin)?;
    let code = mailed_code(&world, &user).await?;
    assert_eq!(set(&world, &user, &code, NEW_PASSWORD).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_mail_needs_its_code() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let template = "https://app.nordic.example/reset?user={{.UserID}}";
    let host = doorward::domain::LinkHost::parse("app.nordic.example")?;
    world.change_policy(NORDIC, |policy| policy.link_hosts = vec![host]).await?;
    let with = |kind: &str| json!({ "sendLink": { "urlTemplate": template, "notificationType": kind } });
    let refused = ask(&world, By::Tenant, &user, with("NOTIFICATION_TYPE_Email")).await?;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!(3)), "{refused:?}");
    assert_eq!(ask(&world, By::Tenant, &user, with("NOTIFICATION_TYPE_SMS")).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-19: what was sent within the hour counts also after a change of password.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_password_is_no_new_budget() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    for _ in 0..5 {
        mailed_code(&world, &user).await?;
    }
    assert_eq!(world.update(&admin, &user, &json!({ "password": NEW_PASSWORD })).await?.status, 200);
    assert_eq!(ask(&world, By::Tenant, &user, json!({})).await?.status, 429);
    Ok(())
}

// docs/design/security.md#rule-5: a proof that nobody looks at must not pass for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_present_password_is_for_ones_own_alone() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let own = &admin.actor.user.user_id;
    let body = |current: Option<&str>| json!({ "newPassword": { "password": NEW_PASSWORD }, "currentPassword": current });
    let send = async |of: &str, body: &Value| {
        call(&world, NORDIC, By::Bearer(&admin), &format!("/v2/users/{of}/password"), "192.0.2.1", body).await
    };
    for (of, current, status) in [
        (user.as_str(), Some("not the password"), 400),
        (own, None, 403),
        (own, Some("not the password"), 401),
        (user.as_str(), None, 200),
    ] {
        let answer = send(of, &body(current)).await?;
        assert_eq!(answer.status, status, "{current:?} of {of}: {answer:?}");
    }
    Ok(())
}

// An operator who gives a user another password or address ends the code that was sent before.
#[tokio::test(flavor = "multi_thread")]
async fn replacing_a_user_ends_its_code() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let code = mailed_code(&world, &actor.user.user_id).await?;
    let known = world.user(&actor).await?;
    let moved = doorward::domain::User {
        email: Some("marcus@elsewhere.example".to_owned()),
        sequence: known.sequence + 1,
        ..known.clone()
    };
    world.store.replace_user(&known, &moved).await.unwrap();
    assert!(is_invalid_code(&set(&world, &actor.user.user_id, &code, NEW_PASSWORD).await?));
    Ok(())
}
