//! Checks that every tenant has a usable secret and that every secret belongs to a tenant.

use std::collections::{HashMap, HashSet};

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use doorward::{
    domain::Tenant,
    token::{SecretDocument, TenantKeys},
};

use super::{
    Deployment,
    findings::{CallFailure, Findings},
};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
const PENDING: &str = "AWSPENDING";
const CLOSED: &str = "all requests of the tenant return 503";

/// Checks the secrets of all tenants. Does not run if the tenants are unknown.
pub(super) async fn examine(deployment: &Deployment, tenants: Option<&[Tenant]>, findings: &mut Findings) {
    let Some(tenants) = tenants else {
        return findings.not_checked("secrets", "the tenants could not be listed");
    };
    for tenant in tenants {
        examine_one(deployment, tenant, findings).await;
    }
    strays(deployment, tenants, findings).await;
}

async fn examine_one(deployment: &Deployment, tenant: &Tenant, findings: &mut Findings) {
    let name = format!("{}{}", deployment.config.prefix, tenant.id);
    let described = match deployment.secrets.describe_secret().secret_id(&name).send().await {
        Ok(described) => described,
        Err(error) => {
            return match CallFailure::of("Secrets Manager", &error) {
                CallFailure::Missing => findings.fault(
                    "secrets",
                    format!("tenant {} has no secret {name}", tenant.id),
                    CLOSED,
                    format!(
                        "if it was deleted within its recovery window: aws secretsmanager restore-secret \
                         --secret-id {name}. Otherwise create it as described in docs/configuration.md. Also \
                         check that --secret-prefix is correct"
                    ),
                ),
                trouble => findings.call_failed("secrets", "secretsmanager:DescribeSecret", &name, trouble),
            };
        }
    };
    if described.deleted_date().is_some() {
        return findings.fault(
            "secrets",
            format!("{name} is scheduled for deletion"),
            CLOSED,
            format!("aws secretsmanager restore-secret --secret-id {name}"),
        );
    }
    let stages = described.version_ids_to_stages.unwrap_or_default();
    pending(&name, &stages, findings);
    let answer = deployment.secrets.get_secret_value().secret_id(&name).version_stage(CURRENT).send().await;
    let text = match answer {
        Ok(found) => found.secret_string.unwrap_or_default(),
        Err(error) => {
            return match CallFailure::of("Secrets Manager", &error) {
                CallFailure::Missing => findings.fault(
                    "secrets",
                    format!("{name} has no version at {CURRENT}"),
                    CLOSED,
                    format!("list its versions with `doorwardctl tenant secret-usage {}`", tenant.id),
                ),
                trouble => findings.call_failed("secrets", "secretsmanager:GetSecretValue", &name, trouble),
            };
        }
    };
    match usable(tenant, text) {
        Ok(()) => {
            findings.ok("secrets", format!("{name}: signs {}", tenant.policy.algorithm.name()));
            published(deployment, tenant, &stages, findings).await;
        }
        Err(message) => findings.fault(
            "secrets",
            format!("{name}: {message}"),
            CLOSED,
            format!(
                "move {CURRENT} back to the previous version (`doorwardctl tenant secret-usage {}`), or write a \
                 valid document; see \"Rotating a tenant's secret\" in docs/operating.md",
                tenant.id
            ),
        ),
    }
}

/// Checks that the table has the public keys of the current and the previous secret.
async fn published(
    deployment: &Deployment,
    tenant: &Tenant,
    stages: &HashMap<String, Vec<String>>,
    findings: &mut Findings,
) {
    let id = &tenant.id;
    let has = |version: &str, stage: &str| {
        stages.get(version).is_some_and(|stages| stages.iter().any(|known| known == stage))
    };
    let is_previous = |version: Option<&str>| match version {
        Some(version) => has(version, PREVIOUS),
        None => !stages.keys().any(|version| has(version, PREVIOUS)),
    };
    let fix = format!("doorwardctl tenant publish-keys {id}");
    match deployment.store.published_keys(id).await {
        Ok(Some(stored))
            if has(&stored.keys.version, CURRENT) && is_previous(stored.keys.previous.as_deref()) => {}
        Ok(Some(_)) => findings.warning(
            "keys",
            format!("{id}: the published keys are not those of the current and the previous secret"),
            "other verifiers may reject valid tokens, and accept tokens of removed keys",
            fix,
        ),
        Ok(None) => findings.fault(
            "keys",
            format!("{id}: no public keys are published"),
            "the tenant's jwks.json and openid-configuration return 503",
            fix,
        ),
        Err(failure) => findings.call_failed(
            "keys",
            "dynamodb:GetItem",
            &deployment.config.table,
            CallFailure::Other(failure.to_string()),
        ),
    }
}

/// A rotation that did not end.
fn pending(name: &str, stages: &HashMap<String, Vec<String>>, findings: &mut Findings) {
    let has = |stages: &[String], expected: &str| stages.iter().any(|stage| stage == expected);
    let left = stages.iter().find(|(_, stages)| has(stages, PENDING) && !has(stages, CURRENT));
    if let Some((version, _)) = left {
        findings.warning(
            "secrets",
            format!("{name} has an unfinished version {version} at {PENDING}"),
            "a rotation is running or was interrupted; the new version is not valid yet",
            format!(
                "finish it: aws secretsmanager rotate-secret --secret-id {name}. Or cancel it: \
                 aws secretsmanager update-secret-version-stage --secret-id {name} \
                 --version-stage {PENDING} --remove-from-version-id {version}"
            ),
        );
    }
}

/// Checks that the tenant's functions can use the document. The error never quotes it.
fn usable(tenant: &Tenant, text: String) -> Result<(), String> {
    let document = SecretDocument::parse(&text.into()).map_err(|error| error.to_string())?;
    let keys = TenantKeys::from_documents(&tenant.id, &[document]).map_err(|error| error.to_string())?;
    let algorithm = tenant.policy.algorithm;
    if keys.can_sign(algorithm) {
        Ok(())
    } else {
        Err(format!("has no signing key for {}", algorithm.name()))
    }
}

/// Finds secrets whose tenant does not exist.
async fn strays(deployment: &Deployment, tenants: &[Tenant], findings: &mut Findings) {
    let prefix = &deployment.config.prefix;
    let known: HashSet<_> = tenants.iter().map(|tenant| format!("{prefix}{}", tenant.id)).collect();
    let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
    let mut pages = deployment.secrets.list_secrets().filters(filter).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let trouble = CallFailure::of("Secrets Manager", &error);
                return findings.call_failed("secrets", "secretsmanager:ListSecrets", "*", trouble);
            }
        };
        let names = page.secret_list.unwrap_or_default().into_iter().filter_map(|secret| secret.name);
        for name in names.filter(|name| name.starts_with(prefix) && !known.contains(name)) {
            findings.warning(
                "secrets",
                format!("{name} does not belong to a tenant of this table"),
                "an unused secret costs money, but another stack with the same prefix could use it",
                format!("if no other stack uses it: aws secretsmanager delete-secret --secret-id {name}"),
            );
        }
    }
}
