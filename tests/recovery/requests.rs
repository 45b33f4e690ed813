//! Requests for a reset code.

use super::*;

// docs/design/security.md#rule-19: a code request reveals neither whether a user exists nor its contacts.
#[tokio::test(flavor = "multi_thread")]
async fn code_request_does_not_reveal_whether_a_user_exists() -> Result<()> {
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
    assert_eq!(seen[0], seen[1], "responses, budgets, DynamoDB calls and writes must be equal");
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
    assert_eq!(world.passwords.verified(), 0, "a password was hashed (docs/design/security.md#rule-11)");
    // Only an existing typed code is compared; the response is the same without one.
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

#[tokio::test(flavor = "multi_thread")]
async fn code_requests_are_authorized_by_role_and_organization() -> Result<()> {
    let world = World::start().await?;
    let (admin, customer) =
        (world.login(&world.actor(NORDIC_ADMIN)?).await?, world.login(&world.actor(MARCUS)?).await?);
    let other_admin = world.login(&world.actor(OTHER_ADMIN)?).await?;
    let foreign = world.login(&world.actor(ADMIN)?).await?;
    let (user, own) = (customer.actor.user.user_id.as_str(), admin.actor.user.user_id.as_str());
    let (send, give) = (json!({ "sendLink": {} }), json!({ "returnCode": {} }));
    for (by, of, body, status, code, audited) in [
        (By::Bearer(&customer), user, &send, 200, 0, "SUCCESS"),
        (By::Bearer(&admin), user, &send, 200, 0, "SUCCESS"),
        (By::Bearer(&admin), user, &give, 200, 0, "SUCCESS"),
        (By::Bearer(&admin), own, &send, 200, 0, "SUCCESS"),
        (By::Tenant, user, &send, 200, 0, "SUCCESS"),
        // A stolen access token of an administrator must not allow a change of its password.
        (By::Bearer(&admin), own, &give, 403, 7, "FORBIDDEN OWN_ACCOUNT"),
        (By::Bearer(&customer), user, &give, 403, 7, "FORBIDDEN OWN_ACCOUNT"),
        (By::Bearer(&customer), own, &send, 403, 7, "FORBIDDEN CUSTOMER_TOKEN"),
        (By::Tenant, user, &give, 403, 7, "FORBIDDEN TENANT_CREDENTIALS"),
        (By::Bearer(&other_admin), user, &send, 404, 5, "USER_NOT_FOUND"),
        (By::Bearer(&other_admin), user, &give, 404, 5, "USER_NOT_FOUND"),
        (By::Bearer(&admin), NOBODY, &send, 404, 5, "USER_NOT_FOUND"),
        (By::Bearer(&foreign), user, &send, 403, 7, "TENANT_MISMATCH"),
        (By::Nobody, user, &send, 401, 16, "INVALID_TOKEN MISSING"),
    ] {
        let answer = ask(&world, by, of, body.clone()).await?;
        assert_eq!(answer.status, status, "{body} of {of}: {answer:?}");
        assert_eq!(answer.body["code"].as_i64().unwrap_or_default(), code, "{answer:?}");
        assert_eq!(world.audit.verdict(), audited, "{answer:?}");
    }
    world.update(&admin, user, &json!({ "password": NEW_PASSWORD })).await?;
    let restricted =
        Login::from_answer(&customer.actor, &world.try_login(&customer.actor, NEW_PASSWORD).await?)?;
    let answer = ask(&world, By::Bearer(&restricted), user, send).await?;
    assert_eq!(answer.status, 403, "docs/design/security.md#rule-21: {answer:?}");
    assert_eq!(world.audit.verdict(), "FORBIDDEN PASSWORD_CHANGE_REQUIRED");
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn codes_are_limited_per_hour_except_for_login_resets() -> Result<()> {
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
    assert_eq!(returned.status, 200, "a returned code does not count as sent");
    assert_eq!(world.reset(&admin, &json!({ "userId": user })).await?.status, 200);
    // The login reset counts too: two earlier codes must be an hour old.
    world.clock.advance(Duration::from_secs(3_360));
    assert_eq!(ask(&world, By::Tenant, &user, json!({})).await?.status, 200);
    Ok(())
}

// docs/design/security.md#rule-19: the hourly limit is exact for concurrent requests.
#[tokio::test(flavor = "multi_thread")]
async fn five_of_twenty_concurrent_requests_send_a_code() -> Result<()> {
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
async fn text_message_contains_a_typed_code() -> Result<()> {
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

#[tokio::test(flavor = "multi_thread")]
async fn mail_link_without_a_code_placeholder_is_rejected() -> Result<()> {
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

// docs/design/security.md#rule-19: codes sent within the hour count also after a password change.
#[tokio::test(flavor = "multi_thread")]
async fn password_change_does_not_reset_the_hourly_code_limit() -> Result<()> {
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

// docs/design/security.md#rule-19: the second function's clock is one minute behind.
#[tokio::test(flavor = "multi_thread")]
async fn code_of_a_slow_clock_replaces_the_code_before() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    mailed_code(&world, &user).await?;
    let older = world.outbox_keys(NORDIC, &user).await?;
    world.clock.set(world.clock.now() - Duration::from_secs(60));
    let newer = mailed_code(&world, &user).await?;
    assert_eq!(world.deliver_all(&older).await, 0, "the replaced code must not be retried");
    assert_eq!(world.courier.take(), []);
    let waiting = world.outbox_keys(NORDIC, &user).await?;
    assert_eq!(world.deliver_all(&waiting).await, 0);
    assert!(world.courier.take()[0].text().contains(&newer));
    assert_eq!(set(&world, &user, &newer, NEW_PASSWORD).await?.status, 200);
    Ok(())
}
