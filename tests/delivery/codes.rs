//! Reset codes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn reset_code_is_sent_once_with_a_link_to_the_hosted_page() -> Result<()> {
    let (world, user) = start().await?;
    let Queued { key, code } = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(world.deliver(&batch(std::slice::from_ref(&key))).await, json!({ "batchItemFailures": [] }));
    let sent = world.courier.take();
    let [Sent::Mail { from, to, subject, text, html }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((from.as_str(), to.as_str()), (MAIL_FROM, MARCUS));
    assert!(subject.contains("Nordic"), "{subject}");
    assert!(text.contains(&link_to_hosted_page(&user, code.expose())), "{text}");
    assert!(text.contains("60 minutes") && text.contains("2030-03-17 18:46 UTC"), "{text}");
    assert!(html.as_ref().unwrap().contains(code.expose()));
    assert!(!is_waiting(&world, &key).await?);
    // The stream delivers the record twice.
    assert_eq!(world.deliver_all(&[key.clone(), key]).await, 0);
    assert_eq!(world.courier.take(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn text_message_contains_the_code_and_a_link_without_it() -> Result<()> {
    let (world, user) = start().await?;
    let Queued { key, code } = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    world.deliver_all(&[key]).await;
    let sent = world.courier.take();
    let [Sent::Text { number, text }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(number, "+4512345678");
    assert_eq!(code.expose().len(), 8);
    assert_eq!(text.matches(code.expose()).count(), 1, "the link must not contain the code: {text}");
    assert!(text.ends_with(&link_to_hosted_page(&user, "").replace("&code=", "")), "{text}");
    Ok(())
}

// docs/design/security.md#rule-19: only the newest code is sent, regardless of the order of delivery.
#[tokio::test(flavor = "multi_thread")]
async fn older_code_is_never_sent() -> Result<()> {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (world, user) = start().await?;
        let mut queued = Vec::new();
        for _ in 0..3 {
            queued.push(world.queue_code(NORDIC, &user, Medium::Mail, None).await?);
            world.clock.advance(Duration::from_millis(1));
        }
        let keys = order.map(|place| queued[place].key.clone());
        // Delivers each record once, and then all records again.
        for key in &keys {
            assert_eq!(world.deliver_all(std::slice::from_ref(key)).await, 0);
        }
        assert_eq!(world.deliver_all(&keys).await, 0);
        let sent = world.courier.take();
        assert_eq!(sent.len(), 1, "{order:?}: {sent:?}");
        assert!(sent[0].text().contains(queued[2].code.expose()));
        assert_eq!(world.outbox_keys(NORDIC, &user).await?, []);
    }
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn used_code_is_not_sent() -> Result<()> {
    let (world, user) = start().await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    let path = format!("/v2/users/{user}/password");
    let body = json!({
        "newPassword": { "password": NEW_PASSWORD },
        "verificationCode": queued.code.expose(),
    });
    let mut event = e2e::event(&http::Method::POST, &path, NORDIC, None, Some(&body));
    event["requestContext"]["http"]["sourceIp"] = json!("192.0.2.1");
    let function = doorward::route::Function::UpdateCredentials;
    assert_eq!(world.send(function, &event.to_string()).await?.status, 200);
    assert_eq!(world.deliver_all(&[queued.key]).await, 0);
    assert_eq!(world.courier.take(), []);
    // The password change sends a notification.
    let news = world.outbox_keys(NORDIC, &user).await?;
    assert_eq!(world.deliver_all(&news).await, 0);
    let sent = world.courier.take();
    let [Sent::Mail { subject, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert!(subject.contains("password was changed"), "{subject}");
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn invalidated_code_is_not_sent() -> Result<()> {
    let (world, user) = start().await?;
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(world.update(&admin, &user, &json!({ "password": NEW_PASSWORD })).await?.status, 200);
    assert_eq!(world.deliver_all(std::slice::from_ref(&queued.key)).await, 0);
    assert_eq!(world.audit.last()["reason"], "SUPERSEDED");
    assert_eq!(world.courier.take(), []);
    assert!(!is_waiting(&world, &queued.key).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn link_host_is_checked_when_the_message_is_sent() -> Result<()> {
    let (world, user) = start().await?;
    let asked = "https://app.nordic.example/reset/{{.Code}}";
    let own = "https://nordic.example/own?c={{.Code}}";
    let text = async |medium, link| -> Result<(String, String)> {
        let Queued { key, code } = world.queue_code(NORDIC, &user, medium, link).await?;
        world.deliver_all(&[key]).await;
        Ok((world.courier.take()[0].text(), code.expose().to_owned()))
    };
    let hosts = ["app.nordic.example", "nordic.example"].map(|host| LinkHost::parse(host).unwrap());
    world
        .change_policy(NORDIC, |policy| {
            policy.link_hosts = hosts.to_vec();
            policy.link_template = Some(LinkTemplate::parse(own, &hosts).unwrap());
        })
        .await?;
    for medium in [Medium::Mail, Medium::Text] {
        let (message, code) = text(medium, Some(asked)).await?;
        assert!(message.contains(&format!("https://app.nordic.example/reset/{code}")), "{message}");
        let (message, code) = text(medium, None).await?;
        assert!(message.contains(&format!("https://nordic.example/own?c={code}")), "{message}");
    }
    // The host was removed from the policy after the request.
    world
        .change_policy(NORDIC, |policy| {
            policy.link_hosts.remove(0);
        })
        .await?;
    let (message, code) = text(Medium::Mail, Some(asked)).await?;
    assert!(message.contains(&format!("https://nordic.example/own?c={code}")), "{message}");
    world
        .change_policy(NORDIC, |policy| {
            policy.link_hosts.clear();
            policy.link_template = None;
        })
        .await?;
    let (message, code) = text(Medium::Mail, Some(asked)).await?;
    assert!(message.contains(&link_to_hosted_page(&user, &code)), "{message}");
    Ok(())
}

// docs/design/security.md#rule-19: a stored message contains no readable code.
#[tokio::test(flavor = "multi_thread")]
async fn stored_items_contain_no_readable_code() -> Result<()> {
    let (world, user) = start().await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, Some("https://app.example/{{.Code}}")).await?;
    let table = world.dynamodb.scan().table_name(local::TABLE).consistent_read(true).send().await?;
    let shown = format!("{:?}", table.items());
    assert!(shown.contains(&format!("OUT#{}", queued.key.id)));
    let code = queued.code.expose();
    let as_bytes = code.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    assert!(!shown.contains(code) && !shown.contains(&as_bytes));
    Ok(())
}
