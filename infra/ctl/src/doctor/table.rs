//! Checks that the table has the settings of `infra/table.json`.

use aws_sdk_dynamodb::types::{
    BillingMode, IndexStatus, KeySchemaElement, KeyType, PointInTimeRecoveryStatus, SseStatus,
    TableDescription, TableStatus, TimeToLiveStatus,
};
use serde::Deserialize;

use super::{
    Deployment,
    findings::{CallFailure, Findings},
};

const DESCRIPTION: &str = include_str!("../../../table.json");

/// The settings of `infra/table.json` that are checked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedTable {
    key_schema: ExpectedKeys,
    indexes: Vec<ExpectedIndex>,
    billing_mode: String,
    ttl_attribute: String,
    stream: String,
    encryption: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedIndex {
    name: String,
    partition_key: KeyAttribute,
    sort_key: KeyAttribute,
    projection: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedKeys {
    partition_key: KeyAttribute,
    sort_key: KeyAttribute,
}

#[derive(Debug, Deserialize)]
struct KeyAttribute {
    name: String,
}

/// Describes the table. Returns `None` if that fails.
pub(super) async fn describe(deployment: &Deployment, findings: &mut Findings) -> Option<TableDescription> {
    let table = &deployment.config.table;
    match deployment.dynamodb.describe_table().table_name(table).send().await {
        Ok(answer) => answer.table,
        Err(error) => {
            match CallFailure::of("DynamoDB", &error) {
                CallFailure::Missing => findings.fault(
                    "table",
                    format!("table {table} does not exist in this Region and account"),
                    "all tenants, users and sessions are stored in this table",
                    "check --table or DOORWARD_TABLE, and AWS_REGION; `cdk deploy` creates the table",
                ),
                trouble => findings.call_failed("table", "dynamodb:DescribeTable", table, trouble),
            }
            None
        }
    }
}

/// Compares all settings of the table.
pub(super) async fn examine(deployment: &Deployment, found: &TableDescription, findings: &mut Findings) {
    let expected: ExpectedTable = match serde_json::from_str(DESCRIPTION) {
        Ok(expected) => expected,
        Err(error) => {
            return findings.not_checked("table", format!("infra/table.json is invalid: {error}"));
        }
    };
    let table = &deployment.config.table;
    let update = format!("aws dynamodb update-table --table-name {table}");
    match found.table_status() {
        Some(TableStatus::Active | TableStatus::Updating) => findings.ok("table", format!("{table} exists")),
        other => findings.fault(
            "table",
            format!("{table} is {}", other.map_or("in an unknown state", TableStatus::as_str)),
            "requests fail until it is ACTIVE",
            format!("wait until the table is active: aws dynamodb wait table-exists --table-name {table}"),
        ),
    }
    keys(&expected, found, findings);
    for index in &expected.indexes {
        examine_index(index, found, findings);
    }
    match found.billing_mode_summary().and_then(|summary| summary.billing_mode()) {
        Some(mode) if mode.as_str() == expected.billing_mode => findings.ok("table.billing", mode.as_str()),
        other => findings.fault(
            "table.billing",
            other.map_or("PROVISIONED", BillingMode::as_str),
            "requests beyond the provisioned capacity are throttled, and logins return 503",
            format!("{update} --billing-mode {}", expected.billing_mode),
        ),
    }
    stream(&expected, found, &update, findings);
    if found.deletion_protection_enabled() == Some(true) {
        findings.ok("table.protection", "on");
    } else {
        findings.fault(
            "table.protection",
            "off",
            "a single wrong call can delete the table with all users and tenants",
            format!("{update} --deletion-protection-enabled"),
        );
    }
    time_to_live(deployment, &expected, findings).await;
    if deployment.config.is_local {
        findings.not_checked("table.encryption", "the local stack has no encryption");
        findings.not_checked("table.recovery", "the local stack has no backups");
        return;
    }
    match found.sse_description() {
        Some(known)
            if matches!(known.status(), Some(SseStatus::Enabled | SseStatus::Updating))
                && known.sse_type().is_some_and(|kind| kind.as_str() == expected.encryption) =>
        {
            findings.ok("table.encryption", expected.encryption);
        }
        _ => findings.fault(
            "table.encryption",
            "the table is encrypted with a key that AWS owns",
            "CloudTrail does not record the use of this key, and you cannot revoke access to it",
            format!("{update} --sse-specification Enabled=true,SSEType={}", expected.encryption),
        ),
    }
    recovery(deployment, findings).await;
}

fn keys(expected: &ExpectedTable, found: &TableDescription, findings: &mut Findings) {
    let ExpectedKeys { partition_key, sort_key } = &expected.key_schema;
    let of = |kind: &KeyType| {
        let is_it = |element: &&KeySchemaElement| element.key_type() == kind;
        found.key_schema().iter().find(is_it).map(KeySchemaElement::attribute_name)
    };
    let (partition, sort) = (of(&KeyType::Hash), of(&KeyType::Range));
    if (partition, sort) == (Some(&partition_key.name), Some(&sort_key.name)) {
        findings.ok("table.keys", format!("{}, {}", partition_key.name, sort_key.name));
    } else {
        findings.fault(
            "table.keys",
            format!("{}, {}", partition.unwrap_or("none"), sort.unwrap_or("none")),
            "the table belongs to another program; Doorward cannot use it",
            "select the correct table with --table or DOORWARD_TABLE",
        );
    }
}

fn examine_index(expected: &ExpectedIndex, found: &TableDescription, findings: &mut Findings) {
    let ExpectedIndex { name, partition_key, sort_key, projection } = expected;
    let mut known = found.global_secondary_indexes().iter();
    let Some(known) = known.find(|known| known.index_name() == Some(name)) else {
        return findings.fault(
            "table.index",
            format!("the table has no index {name}"),
            "users cannot be listed, and `tenant delete` does not work",
            "deploy the stack again; if the table is an existingTable, add the index of infra/table.json to it",
        );
    };
    let keys: Vec<_> = known.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    let kind = known.projection().and_then(|known| known.projection_type());
    if keys != [&partition_key.name, &sort_key.name] || kind.is_none_or(|kind| kind.as_str() != projection) {
        findings.fault(
            "table.index",
            format!("the index {name} has other keys or another projection than infra/table.json"),
            "users cannot be listed, and `tenant delete` does not work",
            "delete the index and deploy the stack again",
        );
    } else if known.index_status() == Some(&IndexStatus::Creating) {
        findings.warning(
            "table.index",
            format!("DynamoDB is creating the index {name}"),
            "users cannot be listed until it is active",
            "wait, then run `doorwardctl doctor` again",
        );
    } else {
        findings.ok("table.index", format!("{name}: {}, {}", partition_key.name, sort_key.name));
    }
}

/// A stream that is enabled again has a new ARN, and a deployment without changed settings keeps the old one.
const REMAPPED: &str = "set the table and its new LatestStreamArn as existingTable in the stack's settings \
                        and deploy, because the message sender still reads the old stream";

fn stream(expected: &ExpectedTable, found: &TableDescription, update: &str, findings: &mut Findings) {
    let known = found.stream_specification().filter(|stream| stream.stream_enabled());
    let on = format!("{update} --stream-specification StreamEnabled=true,StreamViewType={}", expected.stream);
    match known.and_then(|stream| stream.stream_view_type()) {
        Some(view) if view.as_str() == expected.stream => findings.ok("table.stream", view.as_str()),
        Some(view) => findings.fault(
            "table.stream",
            view.as_str(),
            "the stream contains password hashes",
            format!("{update} --stream-specification StreamEnabled=false, then {on}, then {REMAPPED}"),
        ),
        None => findings.fault(
            "table.stream",
            "off",
            "no messages are sent, including reset codes",
            format!("{on}, then {REMAPPED}"),
        ),
    }
}

async fn time_to_live(deployment: &Deployment, expected: &ExpectedTable, findings: &mut Findings) {
    let (table, attribute) = (&deployment.config.table, &expected.ttl_attribute);
    let found = match deployment.dynamodb.describe_time_to_live().table_name(table).send().await {
        Ok(answer) => answer.time_to_live_description,
        Err(error) => {
            let trouble = CallFailure::of("DynamoDB", &error);
            return findings.call_failed("table.ttl", "dynamodb:DescribeTimeToLive", table, trouble);
        }
    };
    let status = found.as_ref().and_then(|known| known.time_to_live_status());
    let by = found.as_ref().and_then(|known| known.attribute_name()).unwrap_or_default();
    let is_on = matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
    if is_on && by == attribute {
        findings.ok("table.ttl", format!("on, by {attribute}"));
    } else {
        findings.fault(
            "table.ttl",
            if is_on { format!("on, by {by}") } else { "off".to_owned() },
            "expired sessions, codes and messages stay: they cost money and contain personal data",
            format!(
                "aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification \
                 Enabled=true,AttributeName={attribute}"
            ),
        );
    }
}

async fn recovery(deployment: &Deployment, findings: &mut Findings) {
    let table = &deployment.config.table;
    let found = match deployment.dynamodb.describe_continuous_backups().table_name(table).send().await {
        Ok(answer) => answer.continuous_backups_description,
        Err(error) => {
            let trouble = CallFailure::of("DynamoDB", &error);
            return findings.call_failed(
                "table.recovery",
                "dynamodb:DescribeContinuousBackups",
                table,
                trouble,
            );
        }
    };
    let status = found
        .and_then(|known| known.point_in_time_recovery_description)
        .and_then(|known| known.point_in_time_recovery_status);
    if status == Some(PointInTimeRecoveryStatus::Enabled) {
        findings.ok("table.recovery", "on");
    } else {
        findings.fault(
            "table.recovery",
            "off",
            "items that are deleted or damaged by mistake cannot be restored",
            format!(
                "aws dynamodb update-continuous-backups --table-name {table} \
                 --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
            ),
        );
    }
}
