//! Repeated logins, login resets and reset codes.

use super::*;

// docs/design/contract.md#every-request: the same key with the same body returns the first success.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicate_logins_create_one_session() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let actor = world.actor(ADMIN)?;
    // When the first login commits, five logins (the limit of concurrent attempts) have already read
    // the key.
    world.passwords.close();
    let answers = tokio::spawn({
        let (world, event) = (Arc::clone(&world), login_event(&actor, &actor.user.password));
        async move { at_once(&world, 20, &event, KEY).await }
    });
    world.passwords.until_more_than(4).await;
    world.passwords.open();
    let answers = answers.await?;
    let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{verdicts:?}");
    let one = |name: &str| answers.iter().map(|answer| answer.data(name)).collect::<HashSet<_>>().len();
    assert_eq!((one("sessionId"), one("refreshToken")), (1, 1));
    assert_eq!(live(&world, &actor).await?, 1, "more than one session was created");
    assert_eq!(remembered(&world).await?, 1);
    let told: HashSet<_> = world.audit.events().iter().map(|event| event["session"].to_string()).collect();
    assert_eq!((told.len(), repeated(&world)), (1, 19), "docs/design/security.md#rule-24");
    for answer in &answers {
        assert!(world.opens(&Login::from_answer(&actor, answer)?).await?);
    }
    // Every attempt slot was released: five more attempts are verified, the sixth is not.
    for _ in 0..5 {
        assert_eq!(world.try_login(&actor, "wrong").await?.verdict(), (401, "AUTHENTICATION"));
    }
    assert_eq!(world.try_login(&actor, "wrong").await?.verdict(), (401, "ACCOUNT_LOCKED"));
    Ok(())
}

#[tokio::test]
async fn repeated_login_hashes_no_password_and_creates_no_session() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(CUSTOMER)?;
    let first = own(&world, &actor, KEY).await?;
    let verified = world.passwords.verified();
    world.calls.take();
    let again = own(&world, &actor, KEY).await?;
    assert_eq!(world.passwords.verified(), verified);
    assert_eq!(world.calls.take(), ["BatchGetItem", "BatchGetItem", "UpdateItem", "UpdateItem"]);
    for name in ["sessionId", "refreshToken", "sessionExpiresAt", "userId"] {
        assert_eq!(first.data(name), again.data(name));
    }
    assert_ne!(
        first.data("token"),
        again.data("token"),
        "the access token must be signed again, because it is not stored"
    );
    let login = Login::from_answer(&actor, &again)?;
    assert!(world.refreshed(&login).await.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicate_password_resets_create_one_code_and_one_mail() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    for (by, key) in [(None, "the tenant's"), (Some(&admin), "the administrator's")] {
        let event = code_event(by, &user, &json!({ "sendLink": {} }));
        let before = codes_sent(&world, &user).await?;
        let answers = at_once(&world, 20, &event, key).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        assert_eq!(answers.iter().map(|answer| &answer.text).collect::<HashSet<_>>().len(), 1);
        assert_eq!(codes_sent(&world, &user).await? - before, 1);
        // The same result is returned later, even if the user has changed.
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(send(&world, event, key).await?.text, answers[0].text);
    }
    // Two of five codes per hour are used.
    for index in 0..4 {
        let event = code_event(None, &user, &json!({}));
        let expected = if index < 3 { 200 } else { 429 };
        assert_eq!(send(&world, event, &format!("fresh {index}")).await?.status, expected);
    }
    // A success is replayed even after the limit, because a repetition does not count.
    let event = code_event(None, &user, &json!({ "sendLink": {} }));
    assert_eq!(send(&world, event, "the tenant's").await?.status, 200);
    assert_eq!(repeated(&world), 19 + 1 + 19 + 1 + 1, "docs/design/security.md#rule-24");
    Ok(())
}

// docs/design/security.md#rule-9, #rule-19: an idempotency key does not reveal whether a user exists.
#[tokio::test]
async fn idempotency_key_does_not_reveal_whether_a_user_exists() -> Result<()> {
    let world = World::start().await?;
    let known = world.actor(MARCUS)?.user.user_id;
    let warm = code_event(None, "somebody-else", &json!({}));
    send(&world, warm, "warm").await?;
    let mut seen = Vec::new();
    for user in [known.as_str(), NOBODY] {
        let mut answers = Vec::new();
        for body in [json!({}), json!({}), json!({ "sendLink": {} })] {
            world.calls.take();
            let answer = send(&world, code_event(None, user, &body), user).await?;
            answers.push((answer.status, answer.text, world.calls.take()));
        }
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1]);
    let statuses: Vec<_> = seen[0].iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [200, 200, 400]);
    assert_eq!(seen[0][0].2, ["BatchGetItem", "TransactWriteItems"]);
    assert_eq!(seen[0][1].2, ["BatchGetItem"], "a repetition wrote to the table");
    assert_eq!(remembered(&world).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_duplicate_login_resets_reset_once() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    // The second reset is the caller's own. It ends the caller's session too, and duplicates still
    // return its result.
    for target in [&world.actor(MARCUS)?, &admin.actor] {
        let before = world.user(target).await?;
        let event = reset_event(&admin, &json!({ "userId": target.user.user_id }));
        let answers = at_once(&world, 20, &event, &target.user.user_id).await;
        let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
        assert!(answers.iter().all(|answer| answer.status == 200), "{verdicts:?}");
        assert_eq!(world.user(target).await?.session_epoch, before.session_epoch + 1);
        assert_eq!(codes_sent(&world, &target.user.user_id).await?, 1);
    }
    assert_eq!(repeated(&world), 19 + 19, "docs/design/security.md#rule-24");
    Ok(())
}

// A session ended by a login reset can replay only that reset.
#[tokio::test]
async fn session_ended_by_a_login_reset_gets_only_the_result_of_that_reset() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(NORDIC_ADMIN)?;
    let (by, other) = (world.login(&actor).await?, world.login(&actor).await?);
    let event = reset_event(&by, &json!({}));
    assert_eq!(send(&world, event.clone(), KEY).await?.status, 200);
    assert_eq!(send(&world, event.clone(), KEY).await?.status, 200);
    let gone = (401, "INVALID_TOKEN");
    assert_eq!(send(&world, event.clone(), "another key").await?.verdict(), gone);
    assert_eq!(send(&world, reset_event(&other, &json!({})), KEY).await?.verdict(), gone);
    let marcus = world.actor(MARCUS)?.user.user_id;
    assert_eq!(send(&world, reset_event(&by, &json!({ "userId": marcus })), KEY).await?.verdict(), gone);
    assert_eq!(send(&world, reset_event(&by, &json!({ "reason": "x" })), KEY).await?.status, 422);
    change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?;
    assert_eq!(send(&world, event.clone(), KEY).await?.verdict(), gone);
    change_user(&world, &actor, |user| user.status = UserStatus::Active).await?;
    assert_eq!(send(&world, event.clone(), KEY).await?.status, 200);
    assert_eq!(world.logout(&by).await?.status, 200);
    assert_eq!(send(&world, event, KEY).await?.verdict(), gone);
    let rejected = world.audit.events().into_iter().filter(|event| event["outcome"] == "INVALID_TOKEN");
    let reasons: Vec<_> = rejected.map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, ["SESSION_GONE"; 5]);
    Ok(())
}

// The second duplicate finds the last session of the limit used by the first.
#[tokio::test(flavor = "multi_thread")]
async fn duplicate_logins_use_one_session_of_the_limit() -> Result<()> {
    for when_full in [WhenFull::Reject, WhenFull::Oldest, WhenFull::Single] {
        let world = Arc::new(World::start().await?);
        let actor = world.actor(ADMIN)?;
        let limit = Some(SessionLimit { max: 1, when_full });
        world.change_policy(&actor.tenant.tenant_id, |policy| policy.session_limit = limit).await?;
        let answers = at_once(&world, 10, &login_event(&actor, &actor.user.password), KEY).await;
        let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
        assert!(answers.iter().all(|answer| answer.status == 200), "{when_full:?} {verdicts:?}");
        assert_eq!(answers.iter().map(|answer| answer.data("sessionId")).collect::<HashSet<_>>().len(), 1);
        assert_eq!(live(&world, &actor).await?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn returned_reset_code_is_not_replayed() -> Result<()> {
    let world = World::start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let user = world.actor(MARCUS)?.user.user_id;
    let event = code_event(Some(&admin), &user, &json!({ "returnCode": {} }));
    let first = send(&world, event.clone(), KEY).await?;
    assert!(first.body["verificationCode"].is_string());
    let again = send(&world, event, KEY).await?;
    assert_eq!((again.status, &again.body["code"]), (400, &json!(9)));
    // The returned code is still valid.
    let body = json!({
        "newPassword": { "password": NEW_PASSWORD },
        "verificationCode": first.body["verificationCode"],
    });
    let path = format!("/v2/users/{user}/password");
    assert_eq!(world.request(&Method::POST, &path, NORDIC, None, Some(&body)).await?.status, 200);
    Ok(())
}
