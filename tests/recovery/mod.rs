//! Reset codes, in the JSON form of the ZITADEL dialect. The tests read the codes from the outbox,
//! which they decrypt with the tenant's key.

mod codes;
mod requests;
mod voided;

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Medium, Notification, User},
    port::Clock,
    route::Function,
    token::{RootKey, SecretDocument},
};
use e2e::{Actor, Answer, Login, NORDIC, World, as_tenant, event};
use futures_util::future::join_all;
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN};

const NOBODY: &str = "nobody-at-all";

/// The caller of a request.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The tenant itself.
    Tenant,
    /// The holder of this access token.
    Bearer(&'a Login),
    /// A caller without credentials.
    Nobody,
}

async fn call(
    world: &World,
    tenant: &str,
    by: By<'_>,
    path: &str,
    from: &str,
    body: &Value,
) -> Result<Answer> {
    let bearer = match by {
        By::Bearer(login) => Some(login.token.as_str()),
        By::Tenant | By::Nobody => None,
    };
    let mut event = event(&Method::POST, path, tenant, bearer, Some(body));
    if let By::Tenant = by {
        event = as_tenant(event);
    }
    event["requestContext"]["http"]["sourceIp"] = json!(from);
    let function =
        if path.ends_with("password_reset") { Function::ResetLogin } else { Function::UpdateCredentials };
    world.send(function, &event.to_string()).await
}

async fn ask(world: &World, by: By<'_>, user: &str, body: Value) -> Result<Answer> {
    call(world, NORDIC, by, &format!("/v2/users/{user}/password_reset"), "192.0.2.1", &body).await
}

async fn set_from(world: &World, from: &str, user: &str, code: &str, password: &str) -> Result<Answer> {
    let body = json!({ "newPassword": { "password": password }, "verificationCode": code });
    call(world, NORDIC, By::Nobody, &format!("/v2/users/{user}/password"), from, &body).await
}

async fn set(world: &World, user: &str, code: &str, password: &str) -> Result<Answer> {
    set_from(world, "192.0.2.1", user, code, password).await
}

/// Requests a code as the tenant and returns the code in the mail's link.
async fn mailed_code(world: &World, user: &str) -> Result<String> {
    let answer = ask(world, By::Tenant, user, json!({})).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    world.newest_code(NORDIC, user).await
}

/// Requests a code as an administrator and returns it from the response.
async fn returned_code(world: &World, admin: &Login, user: &str) -> Result<String> {
    let answer = ask(world, By::Bearer(admin), user, json!({ "returnCode": {} })).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(answer.body["verificationCode"].as_str().unwrap().to_owned())
}

fn is_invalid_code(answer: &Answer) -> bool {
    let message = answer.body["message"].as_str().unwrap_or_default();
    answer.status == 400 && answer.body["code"] == 3 && message.starts_with("The code is wrong")
}

async fn logs_in(world: &World, actor: &Actor, password: &str) -> Result<bool> {
    Ok(world.try_login(actor, password).await?.status == 200)
}

/// Kinds of the items in a user's partition.
async fn items(world: &World, user: &str) -> Result<Vec<String>> {
    let found = world
        .dynamodb
        .query()
        .table_name(local::TABLE)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(format!("T#{NORDIC}#U#{user}")))
        .send()
        .await?;
    let kinds = found.items().iter().filter_map(|item| item.get("sk")?.as_s().ok());
    let kinds = kinds.filter_map(|sk| sk.split_once('#')).map(|(kind, _)| kind.to_owned());
    Ok(kinds.collect())
}
