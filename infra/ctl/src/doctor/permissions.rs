//! Checks that the credentials permit the calls that `doorwardctl` makes. Reads use a key that does not
//! exist, and writes have a condition that always fails, so that the check changes nothing.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, ConditionCheck, KeysAndAttributes, TransactWriteItem},
};

use super::{
    Deployment,
    findings::{CallFailure, Findings},
};

/// A condition that always fails.
const NEVER: &str = "attribute_exists(pk) AND attribute_not_exists(pk)";

/// Result of the test call for one action.
type ProbeResult = Result<(), CallFailure>;

/// Makes one test call per action.
pub(super) async fn examine(deployment: &Deployment, findings: &mut Findings) {
    let (dynamodb, table) = (&deployment.dynamodb, &deployment.config.table);
    let probes = [
        ("dynamodb:GetItem", probed(dynamodb.get_item().table_name(table).set_key(Some(key())).send().await)),
        ("dynamodb:BatchGetItem", batch(deployment, key()).await),
        ("dynamodb:Query", query(deployment).await),
        (
            "dynamodb:PutItem",
            probed(
                dynamodb
                    .put_item()
                    .table_name(table)
                    .set_item(Some(key()))
                    .condition_expression(NEVER)
                    .send()
                    .await,
            ),
        ),
        (
            "dynamodb:UpdateItem",
            probed(
                dynamodb
                    .update_item()
                    .table_name(table)
                    .set_key(Some(key()))
                    .update_expression("REMOVE probe")
                    .condition_expression(NEVER)
                    .send()
                    .await,
            ),
        ),
        (
            "dynamodb:DeleteItem",
            probed(
                dynamodb
                    .delete_item()
                    .table_name(table)
                    .set_key(Some(key()))
                    .condition_expression(NEVER)
                    .send()
                    .await,
            ),
        ),
        ("dynamodb:ConditionCheckItem", condition_check(deployment, key()).await),
    ];
    let asked = probes.len();
    let mut allowed = 0;
    for (action, probe) in probes {
        match probe {
            Ok(()) => allowed += 1,
            Err(trouble) => findings.call_failed("permissions", action, table, trouble),
        }
    }
    if deployment.config.is_local {
        findings.not_checked("permissions", "the local stack does not check permissions");
    } else if allowed == asked {
        findings.ok("permissions", "the credentials can read and write the items of the table");
    }
}

/// Key that no item has.
fn key() -> HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([("pk".to_owned(), text("DOCTOR")), ("sk".to_owned(), text("PROBE"))])
}

/// Treats a failed condition as success, because the call was permitted.
fn probed<T, E, R>(answer: Result<T, SdkError<E, R>>) -> ProbeResult
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("ConditionalCheckFailedException" | "TransactionCanceledException") => Ok(()),
            _ => Err(CallFailure::of("DynamoDB", &error)),
        },
    }
}

/// Queries the table, then its index of users. The index needs its own permission.
async fn query(deployment: &Deployment) -> ProbeResult {
    let query = |partition: &str| {
        let query = deployment.dynamodb.query().table_name(&deployment.config.table);
        let query = query.key_condition_expression(format!("{partition} = :of"));
        query.expression_attribute_values(":of", AttributeValue::S("DOCTOR".to_owned()))
    };
    probed(query("pk").send().await)?;
    probed(query("users_of").index_name("users").send().await)
}

/// Returns whether the credentials permit batch reads.
pub(super) async fn allows_batch_reads(deployment: &Deployment) -> bool {
    !matches!(batch(deployment, key()).await, Err(CallFailure::Denied))
}

async fn batch(deployment: &Deployment, key: HashMap<String, AttributeValue>) -> ProbeResult {
    let keys = KeysAndAttributes::builder().keys(key).build();
    let keys = keys.map_err(|error| CallFailure::Other(error.to_string()))?;
    probed(deployment.dynamodb.batch_get_item().request_items(&deployment.config.table, keys).send().await)
}

async fn condition_check(deployment: &Deployment, key: HashMap<String, AttributeValue>) -> ProbeResult {
    let check = ConditionCheck::builder()
        .table_name(&deployment.config.table)
        .set_key(Some(key))
        .condition_expression(NEVER)
        .build()
        .map_err(|error| CallFailure::Other(error.to_string()))?;
    let write = TransactWriteItem::builder().condition_check(check).build();
    probed(deployment.dynamodb.transact_write_items().transact_items(write).send().await)
}
