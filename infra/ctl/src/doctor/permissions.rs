//! Whether these credentials may make the calls that the commands make. Each is asked for something that
//! cannot happen: nothing is read that is there, and nothing is written.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, ConditionCheck, KeysAndAttributes, TransactWriteItem},
};

use super::{
    Patient,
    report::{Report, Trouble},
};

/// What never holds, whatever there is.
const NEVER: &str = "attribute_exists(pk) AND attribute_not_exists(pk)";

/// What a probe of one action found.
type Probe = Result<(), Trouble>;

/// Asks for each of them.
pub(super) async fn examine(patient: &Patient, report: &mut Report) {
    let (dynamodb, table) = (&patient.dynamodb, &patient.site.table);
    let key = || {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        HashMap::from([("pk".to_owned(), text("DOCTOR")), ("sk".to_owned(), text("PROBE"))])
    };
    let probes = [
        ("dynamodb:GetItem", probed(dynamodb.get_item().table_name(table).set_key(Some(key())).send().await)),
        ("dynamodb:BatchGetItem", batch(patient, key()).await),
        (
            "dynamodb:Query",
            probed(
                dynamodb
                    .query()
                    .table_name(table)
                    .key_condition_expression("pk = :pk")
                    .expression_attribute_values(":pk", AttributeValue::S("DOCTOR".to_owned()))
                    .send()
                    .await,
            ),
        ),
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
        ("dynamodb:ConditionCheckItem", condition_check(patient, key()).await),
    ];
    let asked = probes.len();
    let mut allowed = 0;
    for (action, probe) in probes {
        match probe {
            Ok(()) => allowed += 1,
            Err(trouble) => report.trouble("permissions", action, table, trouble),
        }
    }
    if patient.site.is_local {
        report.not_checked("permissions", "the local stack allows everything");
    } else if allowed == asked {
        report.ok("permissions", "the table's items may be read and written");
    }
}

/// A condition that failed is an answer.
fn probed<T, E, R>(answer: Result<T, SdkError<E, R>>) -> Probe
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("ConditionalCheckFailedException" | "TransactionCanceledException") => Ok(()),
            _ => Err(Trouble::of("DynamoDB", &error)),
        },
    }
}

async fn batch(patient: &Patient, key: HashMap<String, AttributeValue>) -> Probe {
    let keys = KeysAndAttributes::builder().keys(key).build();
    let keys = keys.map_err(|error| Trouble::Other(error.to_string()))?;
    probed(patient.dynamodb.batch_get_item().request_items(&patient.site.table, keys).send().await)
}

async fn condition_check(patient: &Patient, key: HashMap<String, AttributeValue>) -> Probe {
    let check = ConditionCheck::builder()
        .table_name(&patient.site.table)
        .set_key(Some(key))
        .condition_expression(NEVER)
        .build()
        .map_err(|error| Trouble::Other(error.to_string()))?;
    let write = TransactWriteItem::builder().condition_check(check).build();
    probed(patient.dynamodb.transact_write_items().transact_items(write).send().await)
}
