//! Whether every tenant has a secret that can be used, and no secret is without a tenant.

use std::collections::{HashMap, HashSet};

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use doorward::{domain::Tenant, secrets::SecretDocument, token::TenantKeys};

use super::{
    Patient,
    report::{Report, Trouble},
};

const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";
const CLOSED: &str = "the tenant is closed: its requests answer 503";

/// Looks at all of them. Without knowing the tenants, nothing can be said.
pub(super) async fn examine(patient: &Patient, tenants: Option<&[Tenant]>, report: &mut Report) {
    let Some(tenants) = tenants else {
        return report.not_checked("secrets", "the tenants are not known");
    };
    for tenant in tenants {
        examine_one(patient, tenant, report).await;
    }
    strays(patient, tenants, report).await;
}

async fn examine_one(patient: &Patient, tenant: &Tenant, report: &mut Report) {
    let name = format!("{}{}", patient.site.prefix, tenant.id);
    let described = match patient.secrets.describe_secret().secret_id(&name).send().await {
        Ok(described) => described,
        Err(error) => {
            return match Trouble::of("Secrets Manager", &error) {
                Trouble::Missing => report.fault(
                    "secrets",
                    format!("tenant {} has no secret {name}", tenant.id),
                    CLOSED,
                    format!(
                        "if it was deleted within its recovery window: aws secretsmanager restore-secret \
                         --secret-id {name}; otherwise make it anew: docs/configuration.md. Or is \
                         --secret-prefix another?"
                    ),
                ),
                trouble => report.trouble("secrets", "secretsmanager:DescribeSecret", &name, trouble),
            };
        }
    };
    if described.deleted_date().is_some() {
        return report.fault(
            "secrets",
            format!("{name} is about to be deleted"),
            CLOSED,
            format!("aws secretsmanager restore-secret --secret-id {name}"),
        );
    }
    let stages = described.version_ids_to_stages.unwrap_or_default();
    pending(&name, &stages, report);
    let answer = patient.secrets.get_secret_value().secret_id(&name).version_stage(CURRENT).send().await;
    let text = match answer {
        Ok(found) => found.secret_string.unwrap_or_default(),
        Err(error) => {
            return match Trouble::of("Secrets Manager", &error) {
                Trouble::Missing => report.fault(
                    "secrets",
                    format!("{name} has no version at {CURRENT}"),
                    CLOSED,
                    format!("look which it has: doorwardctl tenant secret-usage {}", tenant.id),
                ),
                trouble => report.trouble("secrets", "secretsmanager:GetSecretValue", &name, trouble),
            };
        }
    };
    match usable(tenant, text) {
        Ok(()) => report.ok("secrets", format!("{name}: signs {}", tenant.policy.algorithm.name())),
        Err(told) => report.fault(
            "secrets",
            format!("{name}: {told}"),
            CLOSED,
            format!(
                "move {CURRENT} back to the version before (doorwardctl tenant secret-usage {} shows them), or put \
                 a document that can be used: docs/operating.md, Rotating a tenant's secret",
                tenant.id
            ),
        ),
    }
}

/// A rotation that did not end.
fn pending(name: &str, stages: &HashMap<String, Vec<String>>, report: &mut Report) {
    let has = |stages: &[String], wanted: &str| stages.iter().any(|stage| stage == wanted);
    let left = stages.iter().find(|(_, stages)| has(stages, PENDING) && !has(stages, CURRENT));
    if let Some((version, _)) = left {
        report.warning(
            "secrets",
            format!("{name} has a version at {PENDING}, {version}"),
            "a rotation is under way, or stopped half-way: the new version opens nothing yet",
            format!(
                "let it end: aws secretsmanager rotate-secret --secret-id {name}; or give it up: aws secretsmanager \
                 update-secret-version-stage --secret-id {name} --version-stage {PENDING} --remove-from-version-id \
                 {version}"
            ),
        );
    }
}

/// Whether a tenant's functions can work with that document; what is wrong never quotes it.
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

/// Secrets of tenants that are not there.
async fn strays(patient: &Patient, tenants: &[Tenant], report: &mut Report) {
    let prefix = &patient.site.prefix;
    let known: HashSet<_> = tenants.iter().map(|tenant| format!("{prefix}{}", tenant.id)).collect();
    let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
    let mut pages = patient.secrets.list_secrets().filters(filter).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let trouble = Trouble::of("Secrets Manager", &error);
                return report.trouble("secrets", "secretsmanager:ListSecrets", "*", trouble);
            }
        };
        let names = page.secret_list.unwrap_or_default().into_iter().filter_map(|secret| secret.name);
        for name in names.filter(|name| name.starts_with(prefix) && !known.contains(name)) {
            report.warning(
                "secrets",
                format!("{name} is no tenant's"),
                "it costs; but another stack in this Region may have the same prefix, and then it is in use",
                format!(
                    "look whose it is; only if it is nobody's: aws secretsmanager delete-secret --secret-id {name}"
                ),
            );
        }
    }
}
