//! Checks that every tenant's record is usable.

use doorward::{
    domain::{FieldError, PolicyFault, Severity, Tenant, TenantId, TenantStatus},
    message,
    store::{TenantRecord, TenantSummary},
};

use super::{Deployment, findings::Findings};

/// Checks all tenants. Returns the readable ones.
pub(super) async fn examine(
    deployment: &Deployment,
    listed: &[TenantSummary],
    findings: &mut Findings,
) -> Vec<Tenant> {
    if listed.is_empty() {
        findings.warning(
            "tenants",
            "the table contains no tenant",
            "no user can log in",
            "create one: doorwardctl tenant create TENANT",
        );
    }
    let mut tenants = Vec::new();
    for summary in listed {
        let record = match TenantId::parse(&summary.id) {
            Ok(id) => deployment.store.tenant_record(&id).await.map_err(|failure| failure.to_string()),
            Err(invalid) => Err(format!("its id {invalid}")),
        };
        match record {
            Ok(Some(record)) => {
                check_record(&record, findings);
                check_templates(deployment, &record.tenant.id, findings).await;
                tenants.push(record.tenant);
            }
            // Deleted after the list was read.
            Ok(None) => {}
            Err(message) => findings.fault(
                "tenants",
                format!("{}: {message}", summary.id),
                "all requests of the tenant return 503",
                "correct the tenant's record in the table; see docs/operating.md",
            ),
        }
    }
    tenants
}

/// Checks the message templates that an operator wrote for the tenant.
async fn check_templates(deployment: &Deployment, tenant: &TenantId, findings: &mut Findings) {
    let checked = match deployment.store.templates(tenant).await {
        Ok(templates) => templates.as_ref().map_or(Ok(()), message::check).map_err(|fault| fault.to_string()),
        Err(failure) => Err(format!("the templates are not readable: {failure}")),
    };
    if let Err(message) = checked {
        findings.warning(
            "tenants",
            format!("{tenant}: {message}"),
            "the built-in template is sent instead",
            "correct the item TEMPLATES of the tenant; see docs/configuration.md",
        );
    }
}

fn check_record(record: &TenantRecord, findings: &mut Findings) {
    let TenantRecord { tenant, unknown, faults, .. } = record;
    let id = &tenant.id;
    for PolicyFault { error: FieldError { field, message }, severity } in faults {
        let message = format!("{id}: {field} {message}");
        let fix = format!("doorwardctl tenant update {id} --set {field}=…, or --unset {field}");
        match severity {
            Severity::Unusable => {
                findings.fault("tenants", message, "all requests of the tenant return 503", fix);
            }
            Severity::Ignored => findings.warning("tenants", message, "the field is ignored", fix),
            Severity::Bounded => {
                findings.warning("tenants", message, "the nearest allowed value is used instead", fix);
            }
        }
    }
    for field in unknown {
        findings.warning(
            "tenants",
            format!("{id}: this version does not know the field {field}"),
            "the field has no effect",
            format!(
                "use the doorwardctl version that set it, or doorwardctl tenant update {id} --unset {field}"
            ),
        );
    }
    if faults.is_empty() && unknown.is_empty() {
        let state = if tenant.status == TenantStatus::Suspended { "suspended" } else { "active" };
        findings.ok("tenants", format!("{id}: {state}"));
    }
}
