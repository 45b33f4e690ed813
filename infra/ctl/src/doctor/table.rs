//! Whether the table is as deployment makes it: `infra/table.json`.

use aws_sdk_dynamodb::types::{
    BillingMode, KeySchemaElement, KeyType, PointInTimeRecoveryStatus, SseStatus, TableDescription,
    TableStatus, TimeToLiveStatus,
};
use serde::Deserialize;

use super::{
    Patient,
    report::{Report, Trouble},
};

const DESCRIPTION: &str = include_str!("../../../table.json");

/// What of it is looked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    key_schema: Keys,
    billing_mode: String,
    ttl_attribute: String,
    stream: String,
    encryption: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    partition_key: Key,
    sort_key: Key,
}

#[derive(Debug, Deserialize)]
struct Key {
    name: String,
}

/// The table; `None` when it cannot be looked at.
pub(super) async fn describe(patient: &Patient, report: &mut Report) -> Option<TableDescription> {
    let table = &patient.site.table;
    match patient.dynamodb.describe_table().table_name(table).send().await {
        Ok(answer) => answer.table,
        Err(error) => {
            match Trouble::of("DynamoDB", &error) {
                Trouble::Missing => report.fault(
                    "table",
                    format!("there is no table {table} in this Region and account"),
                    "everything is kept in it",
                    "name it (--table or DOORWARD_TABLE), or its Region (AWS_REGION); `cdk deploy` makes it",
                ),
                trouble => report.trouble("table", "dynamodb:DescribeTable", table, trouble),
            }
            None
        }
    }
}

/// Looks at all that deployment sets.
pub(super) async fn examine(patient: &Patient, found: &TableDescription, report: &mut Report) {
    let wanted: Wanted = match serde_json::from_str(DESCRIPTION) {
        Ok(wanted) => wanted,
        Err(error) => {
            return report.not_checked("table", format!("infra/table.json is not in its form: {error}"));
        }
    };
    let table = &patient.site.table;
    let update = format!("aws dynamodb update-table --table-name {table}");
    match found.table_status() {
        Some(TableStatus::Active | TableStatus::Updating) => report.ok("table", format!("{table} is there")),
        other => report.fault(
            "table",
            format!("{table} is {}", other.map_or("in no state", TableStatus::as_str)),
            "requests fail until it is ACTIVE",
            format!("wait for it: aws dynamodb wait table-exists --table-name {table}"),
        ),
    }
    keys(&wanted, found, report);
    match found.billing_mode_summary().and_then(|summary| summary.billing_mode()) {
        Some(mode) if mode.as_str() == wanted.billing_mode => report.ok("table.billing", mode.as_str()),
        other => report.fault(
            "table.billing",
            other.map_or("PROVISIONED", BillingMode::as_str),
            "more requests than were provisioned are throttled: logins answer 503",
            format!("{update} --billing-mode {}", wanted.billing_mode),
        ),
    }
    stream(&wanted, found, &update, report);
    if found.deletion_protection_enabled() == Some(true) {
        report.ok("table.protection", "on");
    } else {
        report.fault(
            "table.protection",
            "off",
            "one wrong call deletes every user and tenant",
            format!("{update} --deletion-protection-enabled"),
        );
    }
    time_to_live(patient, &wanted, report).await;
    if patient.site.is_local {
        report.not_checked("table.encryption", "the local stack has none");
        report.not_checked("table.recovery", "the local stack has none");
        return;
    }
    match found.sse_description() {
        Some(known)
            if matches!(known.status(), Some(SseStatus::Enabled | SseStatus::Updating))
                && known.sse_type().is_some_and(|kind| kind.as_str() == wanted.encryption) =>
        {
            report.ok("table.encryption", wanted.encryption);
        }
        _ => report.fault(
            "table.encryption",
            "by a key of AWS's own, which no trail shows the use of",
            "nobody can tell who decrypted the table, or take that away",
            format!("{update} --sse-specification Enabled=true,SSEType={}", wanted.encryption),
        ),
    }
    recovery(patient, report).await;
}

fn keys(wanted: &Wanted, found: &TableDescription, report: &mut Report) {
    let Keys { partition_key, sort_key } = &wanted.key_schema;
    let of = |kind: &KeyType| {
        let is_it = |element: &&KeySchemaElement| element.key_type() == kind;
        found.key_schema().iter().find(is_it).map(KeySchemaElement::attribute_name)
    };
    let (partition, sort) = (of(&KeyType::Hash), of(&KeyType::Range));
    if (partition, sort) == (Some(&partition_key.name), Some(&sort_key.name)) {
        report.ok("table.keys", format!("{}, {}", partition_key.name, sort_key.name));
    } else {
        report.fault(
            "table.keys",
            format!("{}, {}", partition.unwrap_or("none"), sort.unwrap_or("none")),
            "it is another program's table: nothing of Doorward's can be in it",
            "name the right one: --table or DOORWARD_TABLE",
        );
    }
}

/// A stream that is switched on again is another one, and a deployment of what did not change changes nothing.
const REMAPPED: &str = "name the table with its new LatestStreamArn as existingTable in the stack's settings and \
                        deploy: the sender reads the stream that it was deployed with";

fn stream(wanted: &Wanted, found: &TableDescription, update: &str, report: &mut Report) {
    let known = found.stream_specification().filter(|stream| stream.stream_enabled());
    let on = format!("{update} --stream-specification StreamEnabled=true,StreamViewType={}", wanted.stream);
    match known.and_then(|stream| stream.stream_view_type()) {
        Some(view) if view.as_str() == wanted.stream => report.ok("table.stream", view.as_str()),
        Some(view) => report.fault(
            "table.stream",
            view.as_str(),
            "hashes of passwords travel in it",
            format!("{update} --stream-specification StreamEnabled=false, then {on}, then {REMAPPED}"),
        ),
        None => report.fault(
            "table.stream",
            "off",
            "nothing is sent: no reset code arrives",
            format!("{on}, then {REMAPPED}"),
        ),
    }
}

async fn time_to_live(patient: &Patient, wanted: &Wanted, report: &mut Report) {
    let (table, attribute) = (&patient.site.table, &wanted.ttl_attribute);
    let found = match patient.dynamodb.describe_time_to_live().table_name(table).send().await {
        Ok(answer) => answer.time_to_live_description,
        Err(error) => {
            let trouble = Trouble::of("DynamoDB", &error);
            return report.trouble("table.ttl", "dynamodb:DescribeTimeToLive", table, trouble);
        }
    };
    let status = found.as_ref().and_then(|known| known.time_to_live_status());
    let by = found.as_ref().and_then(|known| known.attribute_name()).unwrap_or_default();
    let is_on = matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
    if is_on && by == attribute {
        report.ok("table.ttl", format!("on, by {attribute}"));
    } else {
        report.fault(
            "table.ttl",
            if is_on { format!("on, by {by}") } else { "off".to_owned() },
            "ended sessions, codes and messages stay for good: they cost, and are people's data",
            format!(
                "aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification \
                 Enabled=true,AttributeName={attribute}"
            ),
        );
    }
}

async fn recovery(patient: &Patient, report: &mut Report) {
    let table = &patient.site.table;
    let found = match patient.dynamodb.describe_continuous_backups().table_name(table).send().await {
        Ok(answer) => answer.continuous_backups_description,
        Err(error) => {
            let trouble = Trouble::of("DynamoDB", &error);
            return report.trouble("table.recovery", "dynamodb:DescribeContinuousBackups", table, trouble);
        }
    };
    let status = found
        .and_then(|known| known.point_in_time_recovery_description)
        .and_then(|known| known.point_in_time_recovery_status);
    if status == Some(PointInTimeRecoveryStatus::Enabled) {
        report.ok("table.recovery", "to any second of the kept days");
    } else {
        report.fault(
            "table.recovery",
            "off",
            "what is deleted or spoiled by mistake is gone",
            format!(
                "aws dynamodb update-continuous-backups --table-name {table} \
                 --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
            ),
        );
    }
}
