//! Delivery of messages from the outbox: at least once, never an outdated code, and only to the user's
//! verified contacts (docs/design/security.md#rule-19).

mod channels;
mod codes;
mod retries;
mod throttling;
mod unreadable;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use doorward::{
    courier::AwsCourier,
    domain::{
        CodeKind, LinkHost, LinkTemplate, Medium, MessageDelivery, Notification, TenantId, UserId, UserStatus,
    },
    function::stream::Deliveries,
    store::OutboxKey,
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

/// A world and a user with a mail address and a phone number.
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
    let old = world.store.user(&tenant, &user).await?.context("the user does not exist")?;
    let mut new = old.clone();
    change(&mut new);
    world.store.replace_user(&old, &new).await?;
    Ok(())
}

fn link_to_hosted_page(user: &str, code: &str) -> String {
    format!("{PUBLIC_URL}/tenants/{NORDIC}/password/change?userId={user}&code={code}")
}

fn words(locale: &str, text: &str) -> Value {
    json!({ locale: { "reset_code": { "subject": "Own", "text": text } } })
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
