//! Replays after a change, and after a fault.

use e2e::fault_proxy::{Effect, Fault, Operation};

use super::*;

// docs/design/contract.md#every-request: a replayed login checks user, tenant and session again.
#[tokio::test]
async fn login_is_replayed_only_while_user_tenant_and_session_are_unchanged() -> Result<()> {
    for change in [
        "refresh",
        "logout",
        "own password",
        "password by an administrator",
        "reset",
        "disabled",
        "renamed",
        "elsewhere",
        "idle",
    ] {
        let world = World::start().await?;
        let actor = world.actor(SECOND_ADMIN)?;
        let login = Login::from_answer(&actor, &own(&world, &actor, KEY).await?)?;
        let (admin, id) = (world.login(&world.actor(ADMIN)?).await?, actor.user.user_id.clone());
        match change {
            "refresh" => drop(world.refreshed(&login).await?),
            "logout" => assert_eq!(world.logout(&login).await?.status, 200),
            "own password" => {
                let body = json!({ "password": NEW_PASSWORD, "currentPassword": actor.user.password });
                assert_eq!(world.update(&login, &id, &body).await?.status, 200);
                // The session stays live, but the old password must not return its tokens.
                assert!(world.opens(&login).await?);
            }
            "password by an administrator" => {
                assert_eq!(
                    world.update(&admin, &id, &json!({ "password": NEW_PASSWORD })).await?.status,
                    200
                );
            }
            "reset" => assert_eq!(world.reset(&admin, &json!({ "userId": id })).await?.status, 200),
            "disabled" => change_user(&world, &actor, |user| user.status = UserStatus::Disabled).await?,
            "renamed" => {
                let body = json!({ "username": "somebody@else.example" });
                assert_eq!(world.update(&admin, &id, &body).await?.status, 200);
            }
            "elsewhere" => {
                let organization = doorward::domain::OrganizationId::parse("elsewhere")?;
                change_user(&world, &actor, |user| user.organization = organization).await?;
            }
            _ => world.clock.advance(Duration::from_secs(8 * 60 * 60)),
        }
        let sessions = live(&world, &actor).await?;
        assert!(expired(&own(&world, &actor, KEY).await?), "{change}");
        assert_eq!(live(&world, &actor).await?, sessions, "{change}");
        // A replay is not an attempt: it used no attempt slot.
        for _ in 0..6 {
            assert!(expired(&own(&world, &actor, KEY).await?), "{change}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn suspended_tenant_replays_nothing() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    world.change_tenant(&actor.tenant.tenant_id, true, None).await?;
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (403, "TENANT_SUSPENDED"));
    // The suspension ended the sessions permanently.
    world.change_tenant(&actor.tenant.tenant_id, false, None).await?;
    assert!(expired(&own(&world, &actor, KEY).await?));
    Ok(())
}

// DynamoDB commits and the response is lost; the retry returns the committed result.
#[tokio::test]
async fn retry_after_a_lost_response_returns_the_committed_result() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(ADMIN)?;
    world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer).times(3));
    assert_eq!(own(&world, &actor, KEY).await?.verdict(), (503, "UNAVAILABLE"));
    assert_eq!(live(&world, &actor).await?, 1, "the lost request did not commit");
    let told = own(&world, &actor, KEY).await?;
    assert_eq!(told.status, 200);
    assert_eq!(live(&world, &actor).await?, 1);
    assert!(world.refreshed(&Login::from_answer(&actor, &told)?).await.is_ok());

    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let marcus = world.actor(MARCUS)?;
    let user = &marcus.user.user_id;
    let mailed = async || -> Result<usize> {
        Ok(codes_sent(&world, user).await? + codes_sent(&world, &admin.actor.user.user_id).await?)
    };
    for (key, event) in [
        ("of the tenant's", code_event(None, user, &json!({}))),
        ("of an administrator's", code_event(Some(&admin), user, &json!({}))),
        ("of a reset", reset_event(&admin, &json!({ "userId": user }))),
        ("of its own reset", reset_event(&admin, &json!({}))),
    ] {
        let codes = mailed().await?;
        world.faults.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer).times(3));
        assert_eq!(send(&world, event.clone(), key).await?.status, 503, "{key}");
        let (done, epoch) = (mailed().await?, world.user(&marcus).await?.session_epoch);
        assert_eq!(done, codes + 1, "{key}");
        assert_eq!(send(&world, event, key).await?.status, 200, "{key}");
        assert_eq!((mailed().await?, world.user(&marcus).await?.session_epoch), (done, epoch), "{key}");
    }
    Ok(())
}

// A request that is cancelled at an await leaves no partial state and blocks no retry.
#[tokio::test(flavor = "multi_thread")]
async fn request_that_died_before_its_commit_does_not_block_retries() -> Result<()> {
    let world = Arc::new(World::start().await?);
    let actor = world.actor(ADMIN)?;
    world.passwords.close();
    let dying = tokio::spawn({
        let (world, actor) = (Arc::clone(&world), actor.clone());
        async move { own(&world, &actor, KEY).await.map(drop) }
    });
    world.passwords.until_more_than(0).await;
    dying.abort();
    assert!(dying.await.is_err_and(|error| error.is_cancelled()));
    world.passwords.open();
    assert_eq!((live(&world, &actor).await?, remembered(&world).await?), (0, 0));
    assert_eq!(own(&world, &actor, KEY).await?.status, 200);
    assert_eq!((live(&world, &actor).await?, remembered(&world).await?), (1, 1));
    Ok(())
}
