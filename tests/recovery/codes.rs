//! Use, life and scope of a reset code.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn reset_code_from_request_to_login() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let before = world.login(&actor).await?;
    for _ in 0..5 {
        world.try_login(&actor, "not the password").await?;
    }
    let code = mailed_code(&world, &actor.user.user_id).await?;
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(code.len(), 20);
    assert!(world.opens(&before).await?, "a code request ended a session");
    assert_eq!(world.try_login(&actor, &actor.user.password).await?.verdict(), (401, "ACCOUNT_LOCKED"));

    let answer = set(&world, &actor.user.user_id, &code, NEW_PASSWORD).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["details"]["resourceOwner"], actor.user.organization_id);
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?, "the new password must end the lockout");
    assert!(!logs_in(&world, &actor, &actor.user.password).await?);
    assert!(!world.opens(&before).await?, "the new password must end earlier sessions");
    let told: Vec<_> =
        world.outbox(NORDIC, &actor.user.user_id).await?.iter().map(Notification::name).collect();
    assert_eq!(told, ["reset_code", "password_changed"]);
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn login_reset_issues_the_code_that_completes_it() -> Result<()> {
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
async fn only_the_newest_code_is_valid_and_only_once() -> Result<()> {
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
async fn one_of_twenty_concurrent_uses_of_a_code_succeeds() -> Result<()> {
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

// docs/design/security.md#rule-19: five wrong attempts invalidate a typed code, also when they are
// concurrent.
#[tokio::test(flavor = "multi_thread")]
async fn typed_code_is_invalid_after_five_wrong_attempts() -> Result<()> {
    let world = World::start().await?;
    let (admin, actor) = (world.login(&world.actor(NORDIC_ADMIN)?).await?, world.actor(MARCUS)?);
    let user = &actor.user.user_id;

    let code = returned_code(&world, &admin, user).await?;
    assert_eq!(code.len(), 8);
    for _ in 0..4 {
        assert!(is_invalid_code(&set(&world, user, "AAAAAAAA", NEW_PASSWORD).await?));
    }
    // A rejected password does not count as a wrong code.
    for _ in 0..8 {
        let answer = set(&world, user, &code, "short").await?;
        assert!(answer.status == 400 && !is_invalid_code(&answer), "{answer:?}");
    }
    assert_eq!(set(&world, user, &code, NEW_PASSWORD).await?.status, 200, "the fifth attempt must succeed");

    let code = returned_code(&world, &admin, user).await?;
    let wrong = join_all((0..20).map(|_| set(&world, user, "BBBBBBBB", NEW_PASSWORD))).await;
    for answer in wrong {
        assert!(is_invalid_code(&answer?));
    }
    assert!(
        is_invalid_code(&set(&world, user, &code, "yet another passphrase").await?),
        "the code must be invalid"
    );
    let code = returned_code(&world, &admin, user).await?;
    assert_eq!(
        set(&world, user, &code, "yet another passphrase").await?.status,
        200,
        "a new code must be valid"
    );
    Ok(())
}

// docs/design/security.md#rule-19: wrong attempts cannot invalidate another person's link.
#[tokio::test(flavor = "multi_thread")]
async fn link_code_remains_valid_after_wrong_attempts() -> Result<()> {
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
async fn wrong_codes_are_limited_per_address() -> Result<()> {
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

    // Other addresses are not limited, and correct codes do not count.
    for password in ["short", "short", "short", "short", NEW_PASSWORD] {
        let answer = set_from(&world, "2001:db8::7", user, &code, password).await?;
        assert_eq!(answer.status == 200, password == NEW_PASSWORD, "{answer:?}");
    }
    world.clock.advance(Duration::from_secs(wait));
    assert!(
        is_invalid_code(&set(&world, user, &code, NEW_PASSWORD).await?),
        "the limit must end with the hour"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn code_expires() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    world.clock.advance(Duration::from_secs(3_600) - Duration::from_millis(1));
    assert!(
        !is_invalid_code(&set(&world, user, &code, "short").await?),
        "the code must be valid until the last millisecond"
    );
    world.clock.advance(Duration::from_millis(1));
    assert!(is_invalid_code(&set(&world, user, &code, NEW_PASSWORD).await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn password_change_invalidates_earlier_codes() -> Result<()> {
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

// docs/design/security.md#rule-15, #rule-19
#[tokio::test(flavor = "multi_thread")]
async fn code_of_a_disabled_user_or_a_suspended_tenant_is_rejected() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    world.change_tenant(NORDIC, true, None).await?;
    let answer = set(&world, user, &code, NEW_PASSWORD).await?;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!(7)), "{answer:?}");
    assert_eq!(world.audit.verdict(), "TENANT_SUSPENDED");
    assert!(
        is_invalid_code(&set(&world, user, "AAAAAAAA", NEW_PASSWORD).await?),
        "a wrong code must not reveal that the user is disabled"
    );
    world.change_tenant(NORDIC, false, None).await?;

    // Sets the attribute directly, without the other changes of the command that disables a user.
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
async fn code_is_valid_only_for_its_user() -> Result<()> {
    let world = World::start().await?;
    let code = mailed_code(&world, &world.actor(MARCUS)?.user.user_id).await?;
    let other = world.actor("ingrid.larsen@example.com")?.user.user_id;
    mailed_code(&world, &other).await?;
    assert!(is_invalid_code(&set(&world, &other, &code, NEW_PASSWORD).await?));
    assert!(is_invalid_code(&set(&world, &world.actor(CUSTOMER)?.user.user_id, &code, NEW_PASSWORD).await?));
    Ok(())
}

// docs/design/security.md#rule-18: the root key rotates after one function issued the code and before
// another reads it.
#[tokio::test(flavor = "multi_thread")]
async fn code_of_a_newer_root_key_is_accepted() -> Result<()> {
    let mut world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    assert!(is_invalid_code(&set(&world, &user, "AAAAAAAA", NEW_PASSWORD).await?), "keys are cached");
    let name = format!("{}{NORDIC}", local::SECRET_PREFIX);
    let secret = world.secrets.get_secret_value().secret_id(&name).send().await?;
    let mut document = SecretDocument::parse(&secret.secret_string.unwrap_or_default().into())?;
    document.root_keys.push(RootKey { version: 2, key: "A".repeat(43).into(), retired_at: None });
    let document = document.to_text();
    world.secrets.put_secret_value().secret_id(&name).secret_string(document.expose_secret()).send().await?;
    world.clock.advance(Duration::from_secs(5 * 60));
    world.start_another(Function::ResetLogin)?;
    let code = mailed_code(&world, &user).await?;
    assert_eq!(set(&world, &user, &code, NEW_PASSWORD).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-5: a current password that is not checked is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn current_password_is_accepted_only_for_the_callers_own_user() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let own = &admin.actor.user.user_id;
    let body = |current: Option<&str>| json!({ "newPassword": { "password": NEW_PASSWORD }, "currentPassword": current });
    let send = async |of: &str, body: &Value| {
        call(&world, NORDIC, By::Bearer(&admin), &format!("/v2/users/{of}/password"), "192.0.2.1", body).await
    };
    for (of, current, status, audited) in [
        (user.as_str(), Some("not the password"), 400, "VALIDATION currentPassword"),
        (own, None, 403, "FORBIDDEN OWN_ACCOUNT"),
        (own, Some("not the password"), 401, "AUTHENTICATION WRONG_PASSWORD"),
        (user.as_str(), None, 200, "SUCCESS"),
    ] {
        let answer = send(of, &body(current)).await?;
        assert_eq!(answer.status, status, "{current:?} of {of}: {answer:?}");
        assert_eq!(world.audit.verdict(), audited, "{current:?} of {of}");
    }
    Ok(())
}

// Replacing a user's password or address invalidates the code sent before.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_user_invalidates_its_code() -> Result<()> {
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

// docs/design/security.md#rule-19: the SDK repeats the write that reserves the try.
#[tokio::test]
async fn typed_code_sets_the_password_if_the_answer_to_its_last_try_is_lost() -> Result<()> {
    use e2e::fault_proxy::{Effect, Fault, Operation};
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let code = returned_code(&world, &admin, &actor.user.user_id).await?;
    for _ in 0..4 {
        assert!(is_invalid_code(&set(&world, &actor.user.user_id, "AAAAAAAA", NEW_PASSWORD).await?));
    }
    let lost = world.faults.inject(Fault::on(Operation::UpdateItem, Effect::LoseAnswer).sk("CODE#password"));
    assert_eq!(set(&world, &actor.user.user_id, &code, NEW_PASSWORD).await?.status, 200);
    assert_eq!(lost.applied(), 1);
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?);
    Ok(())
}
