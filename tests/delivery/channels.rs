//! Templates, event buses and the AWS clients.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tenant_templates_and_sender_are_used() -> Result<()> {
    let (world, user) = start().await?;
    put_words(&world, &words("da", "Hej {{ username }}: {{ link }}")).await?;
    world
        .change_policy(NORDIC, |policy| {
            policy.locale = "da-DK".into();
            policy.mail_from = Some("hej@nordic.example".into());
        })
        .await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    world.deliver_all(&[queued.key]).await;
    let sent = world.courier.take();
    let [Sent::Mail { from, subject, text, html, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((from.as_str(), subject.as_str(), html), ("hej@nordic.example", "Own", &None));
    assert_eq!(*text, format!("Hej {MARCUS}: {}", link_to_hosted_page(&user, queued.code.expose())));

    // One template has an unknown value, and one has an unknown format.
    for item in [json!({ "da": { "reset_code": { "text": "{{ secret }}" } } }), json!("nonsense")] {
        put_words(&world, &item).await?;
        world.clock.advance(Duration::from_secs(60));
        let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
        assert_eq!(world.deliver_all(&[queued.key]).await, 0);
        let sent = world.courier.take();
        assert!(sent[0].text().starts_with(&format!("Hello {MARCUS}")), "{sent:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_with_an_event_bus_receives_events_instead_of_messages() -> Result<()> {
    let (world, user) = start().await?;
    world
        .change_policy(NORDIC, |policy| policy.delivery = MessageDelivery::EventBus("their-bus".into()))
        .await?;
    let Queued { key, code } = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    let news = world.queue(NORDIC, CUSTOMER, CodeKind::Link, |_, _| Notification::Nothing).await?;
    assert_eq!(world.deliver_all(&[key.clone(), news.key]).await, 0);
    let sent = world.courier.take();
    let [Sent::Event { bus, detail_type, detail }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((bus.as_str(), detail_type.as_str()), ("their-bus", "doorward.reset_code"));
    let expected = json!({
        "id": key.id.to_string(),
        "tenantId": NORDIC,
        "userId": user,
        "kind": "reset_code",
        "medium": "text",
        "email": MARCUS,
        "phone": "+4512345678",
        "locale": null,
        "expiresAt": detail["expiresAt"],
        "code": code.expose(),
        "link": link_to_hosted_page(&user, "").replace("&code=", ""),
    });
    assert_eq!(*detail, expected);
    assert!(detail["expiresAt"].as_str().unwrap().starts_with("2030-03-17T18:46:"), "{detail}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_clients_send_mails_text_messages_and_events() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    let by_mail = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &by_mail.key).await, 0);
    let by_text = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    assert_eq!(hand_over(&deliveries, &by_text.key).await, 0);
    world
        .change_policy(NORDIC, |policy| policy.delivery = MessageDelivery::EventBus("their-bus".into()))
        .await?;
    let by_event = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &by_event.key).await, 0);

    let kept = mail.mailbox().messages();
    let [first, second, third] = kept.as_slice() else { panic!("{kept:?}") };
    let (Content::Mail(sent), Content::TextMessage(text), Content::Event(event)) =
        (&first.content, &second.content, &third.content)
    else {
        panic!("{kept:?}")
    };
    assert_eq!((sent.from.as_str(), sent.to.as_slice()), (MAIL_FROM, &[MARCUS.to_owned()][..]));
    assert_eq!(
        sent.links,
        [link_to_hosted_page(&user, by_mail.code.expose())],
        "both parts of the mail must contain the same link"
    );
    assert!(sent.html.is_some() && sent.headers.iter().any(|(name, _)| name == "Auto-Submitted"));
    assert_eq!(text.phone_number, "+4512345678");
    assert!(text.text.contains(by_text.code.expose()));
    assert_eq!((event.bus.as_str(), event.source.as_str()), ("their-bus", "doorward"));
    assert_eq!(event.detail["code"], by_event.code.expose());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn international_senders_and_domains_are_sent_in_ascii() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    world
        .change_policy(NORDIC, |policy| policy.mail_from = Some("Büro Müller <no-reply@example.com>".into()))
        .await?;
    // An earlier version stored the domain as written.
    change_user(&world, &user, |user| user.email = Some("ida@bücher.example".into())).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    let kept = mail.mailbox().messages();
    let [Content::Mail(sent)] = &kept.iter().map(|kept| &kept.content).collect::<Vec<_>>()[..] else {
        panic!("{kept:?}")
    };
    assert_eq!(sent.from, "=?UTF-8?B?QsO8cm8gTcO8bGxlcg==?= <no-reply@example.com>");
    assert_eq!(sent.to, ["ida@xn--bcher-kva.example"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_aws_failures_drop_the_message_and_temporary_ones_keep_it() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    for medium in [Medium::Mail, Medium::Text] {
        let queued = world.queue_code(NORDIC, &user, medium, None).await?;
        // The number of attempts that the SDK makes.
        mail.mailbox().fail_next(3, Fault::Unavailable);
        assert_eq!(hand_over(&deliveries, &queued.key).await, 1, "{medium:?}");
        assert!(is_waiting(&world, &queued.key).await?);
        assert_eq!(hand_over(&deliveries, &queued.key).await, 0, "{medium:?}");
    }
    assert_eq!(mail.mailbox().messages().len(), 2);
    // The sender identity is not verified yet, which an operator can change.
    let unverified = format!("no-reply@{UNVERIFIED_DOMAIN}");
    world.change_policy(NORDIC, |policy| policy.mail_from = Some(unverified)).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 1);
    world.change_policy(NORDIC, |policy| policy.mail_from = None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    assert_eq!(mail.mailbox().messages().len(), 3);
    change_user(&world, &user, |user| {
        user.email = Some(format!("marcus@{REFUSED_DOMAIN}"));
        user.phone = Some(REFUSED_NUMBER.into());
    })
    .await?;
    for medium in [Medium::Mail, Medium::Text] {
        let queued = world.queue_code(NORDIC, &user, medium, None).await?;
        assert_eq!(hand_over(&deliveries, &queued.key).await, 0, "{medium:?}");
        assert!(!is_waiting(&world, &queued.key).await?, "{medium:?}");
    }
    world
        .change_policy(NORDIC, |policy| policy.delivery = MessageDelivery::EventBus(REFUSED_BUS.into()))
        .await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    assert!(!is_waiting(&world, &queued.key).await?);
    assert_eq!(mail.mailbox().messages().len(), 3);
    // The endpoint does not respond.
    world
        .change_policy(NORDIC, |policy| policy.delivery = MessageDelivery::EventBus("their-bus".into()))
        .await?;
    mail.stop().await;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn event_bus_receives_events_for_users_without_contacts() -> Result<()> {
    let (world, user) = start().await?;
    world
        .change_policy(NORDIC, |policy| policy.delivery = MessageDelivery::EventBus("their-bus".into()))
        .await?;
    change_user(&world, &user, |user| user.email = None).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(world.deliver_all(&[queued.key]).await, 0);
    let sent = world.courier.take();
    let [Sent::Event { detail, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&detail["email"], &detail["code"]), (&json!(null), &json!(queued.code.expose())));
    Ok(())
}
