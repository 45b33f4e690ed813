//! Scope, form and lifetime of a key.

use super::*;

// docs/design/contract.md#every-request: a key is scoped to tenant, route and caller.
#[tokio::test]
async fn idempotency_key_is_scoped_to_tenant_route_and_caller() -> Result<()> {
    let world = World::start().await?;
    for username in [ADMIN, CUSTOMER, NORDIC_ADMIN, MARCUS] {
        assert_eq!(own(&world, &world.actor(username)?, KEY).await?.status, 200, "{username}");
    }
    // A request about another user is a different request of the same caller.
    for username in [SECOND_ADMIN, OTHER_ADMIN] {
        let refused = own(&world, &world.actor(username)?, KEY).await?;
        assert_eq!(refused.verdict(), (422, "IDEMPOTENCY_MISMATCH"), "{username}");
    }
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let marcus = world.login(&world.actor(MARCUS)?).await?;
    let user = &marcus.actor.user.user_id;
    for by in [None, Some(&admin), Some(&marcus)] {
        assert_eq!(send(&world, code_event(by, user, &json!({})), KEY).await?.status, 200);
    }
    assert_eq!(codes_sent(&world, user).await?, 3);
    assert_eq!(send(&world, reset_event(&admin, &json!({ "userId": user })), KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, user).await?, 4);
    Ok(())
}

// All encodings of a call share one key scope.
#[tokio::test]
async fn idempotency_key_is_shared_by_all_encodings_of_a_call() -> Result<()> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    assert_eq!(send(&world, code_event(None, &user, &json!({})), KEY).await?.status, 200);
    let rpc = as_tenant(event(&Method::POST, RPC, NORDIC, None, Some(&json!({ "userId": user }))));
    let refused = send(&world, rpc.clone(), KEY).await?;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("invalid_argument")));
    assert_eq!(send(&world, rpc.clone(), "of its own").await?.status, 200);
    assert_eq!(send(&world, rpc, "of its own").await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 2);
    Ok(())
}

// docs/design/security.md#rule-7, #rule-9: otherwise the key would reveal whether the password is correct.
#[tokio::test]
async fn mismatched_login_counts_as_a_failure_and_does_not_reveal_the_password() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    let verified = world.passwords.verified();
    let mut with_the_right_one = login_event(&actor, &actor.user.password);
    with_the_right_one["body"] = json!(format!("{} ", with_the_right_one["body"].as_str().unwrap()));
    let mut refusals = HashSet::new();
    for event in [login_event(&actor, "wrong"), with_the_right_one, login_event(&actor, "also wrong")] {
        world.calls.take();
        let answer = send(&world, event, KEY).await?;
        assert_eq!(answer.verdict(), (422, "IDEMPOTENCY_MISMATCH"));
        refusals.insert((answer.text, world.calls.take()));
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    for password in ["3", "4"] {
        assert_eq!(log_in(&world, &actor, password, KEY).await?.status, 422);
    }
    assert_eq!(world.passwords.verified(), verified);
    assert_eq!(
        own(&world, &actor, KEY).await?.verdict(),
        (401, "ACCOUNT_LOCKED"),
        "the lockout must apply to the first request too"
    );
    Ok(())
}

// Without valid tenant credentials, the key is not read.
#[tokio::test]
async fn idempotency_key_is_read_only_after_the_tenant_is_authenticated() -> Result<()> {
    let world = World::start().await?;
    let mut actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    actor.tenant.tenant_secret = "not the tenant's secret".into();
    for _ in 0..6 {
        assert_eq!(own(&world, &actor, KEY).await?.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
    }
    assert!(world.login(&world.actor(ADMIN)?).await.is_ok(), "an attempt was counted");
    Ok(())
}

// docs/design/contract.md#every-request: only successes are stored.
#[tokio::test]
async fn failed_request_is_not_replayed() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(log_in(&world, &actor, "wrong", KEY).await?.verdict(), (401, "AUTHENTICATION"));
    assert_eq!(remembered(&world).await?, 0);
    change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (401, "AUTHENTICATION"));
    change_user(&world, &actor, |user| user.status = UserStatus::Active).await?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    Ok(())
}

// An expired key is free even if TTL has not deleted its item yet.
#[tokio::test(flavor = "multi_thread")]
async fn idempotency_key_expires_after_a_day() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let (actor, user) = (world.actor(ADMIN)?, world.actor(MARCUS)?.user.user_id);
    let first = own(&world, &actor, KEY).await?;
    let code = code_event(None, &user, &json!({}));
    send(&world, code.clone(), KEY).await?;
    world.clock.advance(DAY - Duration::from_millis(1));
    assert!(expired(&own(&world, &actor, KEY).await?), "the session has expired, so nothing can be replayed");
    assert_eq!(send(&world, code.clone(), KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 1);
    world.clock.advance(Duration::from_millis(1));
    let answers = at_once(&world, 10, &login_event(&actor, &actor.user.password), KEY).await;
    let sessions: HashSet<_> = answers.iter().map(|answer| answer.data("sessionId")).collect();
    assert!(sessions.len() == 1 && !sessions.contains(first.data("sessionId")), "{sessions:?}");
    assert_eq!(send(&world, code, KEY).await?.status, 200);
    assert_eq!(codes_sent(&world, &user).await?, 2);
    assert_eq!(remembered(&world).await?, 2, "the new items must replace the old ones");
    Ok(())
}

#[tokio::test]
async fn idempotency_key_remains_valid_until_its_root_key_is_removed() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let tenant = actor.tenant.tenant_id.as_str();
    let first = own(&world, &actor, KEY).await?;
    rotate_roots(&world, tenant, &[1, 2]).await?;
    world.clock.advance(CACHE_LIFE);
    assert_eq!(own(&world, &actor, KEY).await?.data("refreshToken"), first.data("refreshToken"));
    assert_eq!(log_in(&world, &actor, "wrong", KEY).await?.verdict(), (422, "IDEMPOTENCY_MISMATCH"));
    let second = own(&world, &actor, "made with the second").await?;
    rotate_roots(&world, tenant, &[2]).await?;
    world.clock.advance(CACHE_LIFE);
    assert!(expired(&own(&world, &actor, KEY).await?));
    let again = own(&world, &actor, "made with the second").await?;
    assert_eq!(again.data("refreshToken"), second.data("refreshToken"));
    Ok(())
}

// A process with the current record knows every root key. A key that it does not know does not exist.
#[tokio::test]
async fn idempotency_key_of_a_newer_root_key_is_recognised() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    let made_with = async |version: u32| -> Result<()> {
        let found = world
            .dynamodb
            .scan()
            .table_name(local::TABLE)
            .filter_expression("sk = :key")
            .expression_attribute_values(":key", AttributeValue::S("KEY".into()))
            .send()
            .await?;
        let mut item = found.items()[0].clone();
        item.insert("key_version".to_owned(), AttributeValue::N(version.to_string()));
        world.dynamodb.put_item().table_name(local::TABLE).set_item(Some(item)).send().await?;
        Ok(())
    };
    rotate_roots(&world, &actor.tenant.tenant_id, &[1, 2]).await?;
    world.clock.advance(Duration::from_secs(5));
    made_with(2).await?;
    assert_eq!(
        own(&world, &actor, KEY).await?.verdict(),
        (422, "IDEMPOTENCY_MISMATCH"),
        "the key was not recognised"
    );
    made_with(9).await?;
    assert!(expired(&own(&world, &actor, KEY).await?));
    Ok(())
}

#[tokio::test]
async fn idempotency_key_accepts_visible_ascii_up_to_its_maximum_length() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let longest = "k".repeat(255);
    // API Gateway joins two headers with a comma, which makes a different key.
    for key in ["!", "~ ~", longest.as_str(), "one, two"] {
        assert_eq!(own(&world, &actor, key).await?.status, 200, "{key}");
        assert_eq!(own(&world, &actor, key).await?.status, 200, "{key}");
    }
    assert_eq!((remembered(&world).await?, live(&world, &actor).await?), (4, 4));
    let too_long = "k".repeat(256);
    for key in ["", " ", "a\tb", "k\u{e9}", too_long.as_str()] {
        let refused = own(&world, &actor, key).await?;
        assert_eq!(refused.verdict(), (400, "VALIDATION"), "{key}");
        assert_eq!(refused.body["data"]["errors"][0]["field"], "Idempotency-Key");
    }
    Ok(())
}

// docs/design/security.md#rule-12, #rule-24, #rule-25: the stored item contains no credential and
// nothing of the request.
#[tokio::test]
async fn stored_idempotency_item_contains_nothing_of_the_request() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    let answer = own(&world, &actor, KEY).await?;
    let found = world.dynamodb.scan().table_name(local::TABLE).send().await?;
    let kept = format!("{:?}", found.items());
    assert!(kept.contains(answer.data("sessionId")));
    for secret in [KEY, actor.user.password.as_str(), answer.data("refreshToken"), answer.data("token")] {
        assert!(!kept.contains(secret));
    }
    Ok(())
}
