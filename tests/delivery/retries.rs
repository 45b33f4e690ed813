//! Notifications, retries and undeliverable messages.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn credential_changes_send_a_notification() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(NORDIC_ADMIN)?;
    let user = &actor.user.user_id;
    let login = world.login(&actor).await?;
    let body = json!({
        "password": NEW_PASSWORD, "username": "new.name@nordic.example", "currentPassword": actor.user.password,
    });
    assert_eq!(world.update(&login, user, &body).await?.status, 200);
    change_user(&world, user, |user| user.locale = Some("de-AT".into())).await?;
    let keys = world.outbox_keys(NORDIC, user).await?;
    assert!(!keys.is_empty());
    assert_eq!(world.deliver_all(&keys).await, 0);
    let sent = world.courier.take();
    assert_eq!(sent.len(), keys.len());
    for mail in &sent {
        let Sent::Mail { to, subject, text, .. } = mail else { panic!("{mail:?}") };
        assert_eq!(to, NORDIC_ADMIN, "the mail must go to the verified address");
        assert!(subject.contains("wurde geändert") && text.contains("2030-03-17"), "{mail:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_died_after_sending_sends_again() -> Result<()> {
    let (world, user) = start().await?;
    let Queued { key, code } = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.courier.set_fate(Fate::Unanswered);
    tokio::select! {
        answer = world.deliver_all(std::slice::from_ref(&key)) => panic!("{answer}"),
        () = world.courier.is_given() => {}
    }
    assert!(world.courier.take()[0].text().contains(code.expose()));
    assert!(is_waiting(&world, &key).await?);
    world.courier.set_fate(Fate::Taken);
    assert_eq!(world.deliver_all(std::slice::from_ref(&key)).await, 0);
    assert!(world.courier.take()[0].text().contains(code.expose()));
    assert!(!is_waiting(&world, &key).await?);

    // The message is not sent again if a newer one exists.
    let older = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.courier.set_fate(Fate::Unanswered);
    tokio::select! {
        answer = world.deliver_all(std::slice::from_ref(&older.key)) => panic!("{answer}"),
        () = world.courier.is_given() => {}
    }
    world.courier.take();
    world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.courier.set_fate(Fate::Taken);
    assert_eq!(world.deliver_all(&[older.key]).await, 0);
    assert_eq!(world.courier.take(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_message_is_retried_without_delaying_other_users() -> Result<()> {
    let (world, user) = start().await?;
    let other = world.actor(NORDIC_ADMIN)?.user.user_id;
    let first = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.courier.set_fate(Fate::Failed);
    assert_eq!(
        world.deliver(&batch(std::slice::from_ref(&first.key))).await,
        json!({ "batchItemFailures": [{ "itemIdentifier": "100" }] })
    );
    assert_eq!(world.courier.tries(), 1);
    assert!(is_waiting(&world, &first.key).await?);
    world.courier.set_fate(Fate::Taken);

    // The keys of one tenant cannot be loaded; those of the other two can.
    let second = world.queue_code(NORDIC, &other, Medium::Mail, None).await?;
    let foreign = world.actor(ADMIN)?;
    let dead = world.queue_code(&foreign.tenant.tenant_id, &foreign.user.user_id, Medium::Mail, None).await?;
    world
        .secrets
        .put_secret_value()
        .secret_id(format!("{}{}", local::SECRET_PREFIX, foreign.tenant.tenant_id))
        .secret_string("{}")
        .send()
        .await?;
    let keys = [first.key, dead.key.clone(), second.key];
    assert_eq!(
        world.deliver(&batch(&keys)).await,
        json!({ "batchItemFailures": [{ "itemIdentifier": "101" }] })
    );
    assert_eq!(world.courier.take().len(), 2);
    assert!(is_waiting(&world, &dead.key).await?);
    // The message has expired.
    world.clock.advance(LIFE);
    assert_eq!(world.deliver_all(std::slice::from_ref(&dead.key)).await, 0);
    assert!(!is_waiting(&world, &dead.key).await?);
    assert_eq!(world.courier.take(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn undeliverable_message_is_dropped() -> Result<()> {
    let (world, user) = start().await?;
    let dropped = async |why: &str, key: OutboxKey, tries: usize| -> Result<()> {
        let before = world.courier.tries();
        assert_eq!(world.deliver_all(std::slice::from_ref(&key)).await, 0, "{why}");
        assert!(!is_waiting(&world, &key).await?, "{why}");
        assert_eq!(world.courier.take(), [], "{why}");
        assert_eq!(world.courier.tries() - before, tries, "{why}");
        Ok(())
    };
    world.courier.set_fate(Fate::Refused);
    dropped("refused", world.queue_code(NORDIC, &user, Medium::Mail, None).await?.key, 1).await?;
    world.courier.set_fate(Fate::Taken);

    let nothing = world.queue(NORDIC, "nobody-at-all", CodeKind::Link, |_, _| Notification::Nothing).await?;
    dropped("nothing", nothing.key, 0).await?;
    let nobody = world.queue_code(NORDIC, "nobody-at-all", Medium::Mail, None).await?;
    dropped("no user", nobody.key, 0).await?;

    let late = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.clock.advance(LIFE);
    dropped("expired", late.key, 0).await?;

    let suspended = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.change_tenant(NORDIC, true, None).await?;
    dropped("suspended", suspended.key, 0).await?;
    world.change_tenant(NORDIC, false, None).await?;

    let without_phone = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    change_user(&world, &user, |user| user.phone = None).await?;
    dropped("no address", without_phone.key, 0).await?;

    let disabled = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    change_user(&world, &user, |user| user.status = UserStatus::Disabled).await?;
    dropped("disabled", disabled.key, 0).await?;
    Ok(())
}

// The message is logged and kept. Retries would delay the records behind it.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_message_does_not_block_later_messages() -> Result<()> {
    use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
    let (world, user) = start().await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world
        .dynamodb
        .update_item()
        .table_name(local::TABLE)
        .key("pk", AttributeValue::S(format!("T#{NORDIC}#U#{user}")))
        .key("sk", AttributeValue::S(format!("OUT#{}", queued.key.id)))
        .update_expression("SET message = :broken")
        .expression_attribute_values(":broken", AttributeValue::B(Blob::new([7; 64])))
        .send()
        .await?;
    assert_eq!(world.deliver_all(std::slice::from_ref(&queued.key)).await, 0);
    assert!(world.courier.take().is_empty());
    assert!(is_waiting(&world, &queued.key).await?);
    Ok(())
}
