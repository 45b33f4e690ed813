//! From the outbox to people: at least once, never an old code, and nobody is told what is not
//! theirs (docs/design/security.md#rule-19).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use doorward::{
    courier::AwsCourier,
    domain::{
        CodeKind, Delivery, Failure, LinkHost, LinkTemplate, Medium, MessageTemplate, Notification,
        Templates, TenantId, UserId, UserStatus,
    },
    port::{OutboxKey, Store},
    stream::Deliveries,
};
use e2e::{
    NORDIC, PUBLIC_URL, World,
    delivery::{Fate, LIFE, MAIL_FROM, Queued, Sent, batch},
};
use local::{
    clients,
    mail::{EmbeddedMail, REFUSED_BUS, REFUSED_DOMAIN, REFUSED_NUMBER, UNVERIFIED_DOMAIN},
    mailbox::{Content, Fault, Mailbox},
};
use serde_json::{Value, json};

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// A stack, and somebody with mail address and telephone.
async fn start() -> Result<(World, String)> {
    let world = World::start().await?;
    let user = world.actor(MARCUS)?.user.user_id;
    Ok((world, user))
}

async fn is_waiting(world: &World, key: &OutboxKey) -> Result<bool> {
    Ok(world.store.outbox(key).await?.sealed.is_some())
}

async fn change_user(
    world: &World,
    user: &str,
    change: impl FnOnce(&mut doorward::domain::User),
) -> Result<()> {
    let (tenant, user) = (TenantId::parse(NORDIC)?, UserId::parse(user)?);
    let old = world.store.user(&tenant, &user).await?.context("no such user")?;
    let mut new = old.clone();
    change(&mut new);
    world.store.replace_user(&old, &new).await?;
    Ok(())
}

fn link_to_hosted_page(user: &str, code: &str) -> String {
    format!("{PUBLIC_URL}/tenants/{NORDIC}/password/change?userId={user}&code={code}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_arrives_once_with_a_link_to_the_hosted_page() -> Result<()> {
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
    // The stream delivers twice.
    assert_eq!(world.deliver_all(&[key.clone(), key]).await, 0);
    assert_eq!(world.courier.take(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_message_has_the_code_and_a_page_that_asks_for_it() -> Result<()> {
    let (world, user) = start().await?;
    let Queued { key, code } = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    world.deliver_all(&[key]).await;
    let sent = world.courier.take();
    let [Sent::Text { number, text }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(number, "+4512345678");
    assert_eq!(code.expose().len(), 8);
    assert_eq!(text.matches(code.expose()).count(), 1, "not in the link too: {text}");
    assert!(text.ends_with(&link_to_hosted_page(&user, "").replace("&code=", "")), "{text}");
    Ok(())
}

// docs/design/security.md#rule-19: the newest code wins, whatever the order.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_code_is_never_sent() -> Result<()> {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (world, user) = start().await?;
        let mut queued = Vec::new();
        for _ in 0..3 {
            queued.push(world.queue_code(NORDIC, &user, Medium::Mail, None).await?);
            world.clock.advance(Duration::from_millis(1));
        }
        let keys = order.map(|place| queued[place].key.clone());
        // One by one, and all of them once more.
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
async fn a_used_code_is_not_sent() -> Result<()> {
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
    // What it was used for is told.
    let news = world.outbox_keys(NORDIC, &user).await?;
    assert_eq!(world.deliver_all(&news).await, 0);
    let sent = world.courier.take();
    let [Sent::Mail { subject, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert!(subject.contains("password was changed"), "{subject}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_credentials_are_told() -> Result<()> {
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
        assert_eq!(to, NORDIC_ADMIN, "to the verified address, not to the name");
        assert!(subject.contains("wurde geändert") && text.contains("2030-03-17"), "{mail:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_after_sending_sends_again() -> Result<()> {
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

    // Unless there is a newer one by then.
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
async fn what_fails_is_tried_again_and_keeps_nobody_elses_back() -> Result<()> {
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

    // A tenant whose keys cannot be had, between two whose can.
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
    // And after a while it is of no use any more.
    world.clock.advance(LIFE);
    assert_eq!(world.deliver_all(std::slice::from_ref(&dead.key)).await, 0);
    assert!(!is_waiting(&world, &dead.key).await?);
    assert_eq!(world.courier.take(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_or_may_not_be_sent_is_dropped() -> Result<()> {
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

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_where_the_tenant_allows_when_they_are_sent() -> Result<()> {
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
    // The host was taken away since it was asked for.
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

fn words(locale: &str, text: &str) -> Templates {
    let template = MessageTemplate { subject: Some("Own".into()), text: text.into(), html: None };
    Templates(BTreeMap::from([(locale.into(), BTreeMap::from([("reset_code".into(), template)]))]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sends_its_own_words_under_its_own_name() -> Result<()> {
    let (world, user) = start().await?;
    let tenant = TenantId::parse(NORDIC)?;
    world.store.put_templates(&tenant, &words("da", "Hej {{ username }}: {{ link }}")).await?;
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

    for bad in ["{{ link", "{{ secret }}", "{% for i in [1] %}{{ i }}{% endfor %}"] {
        let refused = world.store.put_templates(&tenant, &words("da", bad)).await;
        assert!(matches!(refused, Err(Failure::Validation(_))), "{bad}");
    }
    // One that got there by another way, and one that no version wrote.
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

async fn put_words(world: &World, words: &Value) -> Result<()> {
    use aws_sdk_dynamodb::types::AttributeValue;
    fn attribute(value: &Value) -> AttributeValue {
        match value {
            Value::Object(members) => AttributeValue::M(
                members.iter().map(|(name, value)| (name.clone(), attribute(value))).collect(),
            ),
            other => AttributeValue::S(other.as_str().unwrap_or_default().to_owned()),
        }
    }
    world
        .dynamodb
        .put_item()
        .table_name(local::TABLE)
        .item("pk", AttributeValue::S(format!("T#{NORDIC}")))
        .item("sk", AttributeValue::S("TEMPLATES".into()))
        .item("templates", attribute(words))
        .send()
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_bus_gets_events_instead() -> Result<()> {
    let (world, user) = start().await?;
    world.change_policy(NORDIC, |policy| policy.delivery = Delivery::EventBus("their-bus".into())).await?;
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

// docs/design/security.md#rule-19: what waits shows nobody a code.
#[tokio::test(flavor = "multi_thread")]
async fn no_item_of_the_table_shows_a_code() -> Result<()> {
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

fn over_aws(world: &World, mail: &EmbeddedMail) -> Deliveries {
    let courier = AwsCourier::of(
        clients::ses(mail.ses_url()),
        clients::sns(mail.sns_url()),
        clients::eventbridge(mail.events_url()),
    );
    world.deliveries(Arc::new(courier)).unwrap()
}

async fn hand_over(deliveries: &Deliveries, key: &OutboxKey) -> usize {
    let batch = batch(std::slice::from_ref(key)).to_string();
    deliveries.answer(&batch, "e2e-request").await["batchItemFailures"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_clients_carry_it_all() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    let by_mail = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &by_mail.key).await, 0);
    let by_text = world.queue_code(NORDIC, &user, Medium::Text, None).await?;
    assert_eq!(hand_over(&deliveries, &by_text.key).await, 0);
    world.change_policy(NORDIC, |policy| policy.delivery = Delivery::EventBus("their-bus".into())).await?;
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
    assert_eq!(sent.links, [link_to_hosted_page(&user, by_mail.code.expose())], "one link in both parts");
    assert!(sent.html.is_some() && sent.headers.iter().any(|(name, _)| name == "Auto-Submitted"));
    assert_eq!(text.phone_number, "+4512345678");
    assert!(text.text.contains(by_text.code.expose()));
    assert_eq!((event.bus.as_str(), event.source.as_str()), ("their-bus", "doorward"));
    assert_eq!(event.detail["code"], by_event.code.expose());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_for_good_is_dropped_and_what_it_fails_at_stays() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    for medium in [Medium::Mail, Medium::Text] {
        for fault in [Fault::Unavailable, Fault::Throttled] {
            let queued = world.queue_code(NORDIC, &user, medium, None).await?;
            // As often as the SDK tries by itself.
            mail.mailbox().fail_next(3, fault);
            assert_eq!(hand_over(&deliveries, &queued.key).await, 1, "{medium:?} {fault:?}");
            assert!(is_waiting(&world, &queued.key).await?);
            assert_eq!(hand_over(&deliveries, &queued.key).await, 0, "{medium:?} {fault:?}");
        }
    }
    assert_eq!(mail.mailbox().messages().len(), 4);
    // A sender that nobody verified yet: somebody sees to it.
    let unverified = format!("no-reply@{UNVERIFIED_DOMAIN}");
    world.change_policy(NORDIC, |policy| policy.mail_from = Some(unverified)).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 1);
    world.change_policy(NORDIC, |policy| policy.mail_from = None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    assert_eq!(mail.mailbox().messages().len(), 5);
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
    world.change_policy(NORDIC, |policy| policy.delivery = Delivery::EventBus(REFUSED_BUS.into())).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    assert!(!is_waiting(&world, &queued.key).await?);
    assert_eq!(mail.mailbox().messages().len(), 5);
    // Nobody answers at all.
    world.change_policy(NORDIC, |policy| policy.delivery = Delivery::EventBus("their-bus".into())).await?;
    mail.stop().await;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(hand_over(&deliveries, &queued.key).await, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_bus_gets_events_for_users_without_an_address() -> Result<()> {
    let (world, user) = start().await?;
    world.change_policy(NORDIC, |policy| policy.delivery = Delivery::EventBus("their-bus".into())).await?;
    change_user(&world, &user, |user| user.email = None).await?;
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    assert_eq!(world.deliver_all(&[queued.key]).await, 0);
    let sent = world.courier.take();
    let [Sent::Event { detail, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&detail["email"], &detail["code"]), (&json!(null), &json!(queued.code.expose())));
    Ok(())
}

// Tried again, it would hold up what is behind it: it is told of, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_holds_nobody_up() -> Result<()> {
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
