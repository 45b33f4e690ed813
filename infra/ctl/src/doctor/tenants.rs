//! Whether every tenant's record can be used.

use doorward::{
    domain::{Fault, FieldError, Tenant, TenantId, TenantStatus, Weight},
    store::TenantRecord,
};

use super::{
    Patient,
    report::{Report, Trouble},
};

/// Looks at all of them. Those that can be read; `None` where they cannot be found.
pub(super) async fn examine(patient: &Patient, report: &mut Report) -> Option<Vec<Tenant>> {
    // Asked for as a permission first: what the store says of a refusal has no name for it.
    if let Err(error) = patient.dynamodb.scan().table_name(&patient.site.table).limit(1).send().await {
        report.trouble("tenants", "dynamodb:Scan", &patient.site.table, Trouble::of("DynamoDB", &error));
        return None;
    }
    let listed = match patient.store.tenants().await {
        Ok(listed) => listed,
        Err(failure) => {
            report.trouble(
                "tenants",
                "dynamodb:Scan",
                &patient.site.table,
                Trouble::Other(failure.to_string()),
            );
            return None;
        }
    };
    if listed.is_empty() {
        report.warning(
            "tenants",
            "there is none",
            "nobody can log in",
            "make one: doorwardctl tenant create TENANT",
        );
    }
    let mut tenants = Vec::new();
    for summary in listed {
        let record = match TenantId::parse(&summary.id) {
            Ok(id) => patient.store.tenant_record(&id).await.map_err(|failure| failure.to_string()),
            Err(invalid) => Err(format!("its id {invalid}")),
        };
        match record {
            Ok(Some(record)) => {
                judge(&record, report);
                tenants.push(record.tenant);
            }
            // Deleted since.
            Ok(None) => {}
            Err(told) => report.fault(
                "tenants",
                format!("{}: {told}", summary.id),
                "it is closed: its requests answer 503",
                "look at its item in the table, and put it back: docs/operating.md",
            ),
        }
    }
    Some(tenants)
}

fn judge(record: &TenantRecord, report: &mut Report) {
    let TenantRecord { tenant, unknown, faults, .. } = record;
    let id = &tenant.id;
    for Fault { error: FieldError { field, message }, weight } in faults {
        let told = format!("{id}: {field} {message}");
        let fix = format!("doorwardctl tenant update {id} --set {field}=…, or --unset {field}");
        match weight {
            Weight::Unusable => {
                report.fault("tenants", told, "it is closed: its requests answer 503", fix);
            }
            Weight::PassedOver => report.warning("tenants", told, "it is passed over", fix),
            Weight::Bounded => report.warning("tenants", told, "the nearest that is allowed holds", fix),
        }
    }
    for field in unknown {
        report.warning(
            "tenants",
            format!("{id}: {field} is no field that this version knows"),
            "it does nothing here",
            format!("use the command of the version that set it, or doorwardctl tenant update {id} --unset {field}"),
        );
    }
    if faults.is_empty() && unknown.is_empty() {
        let state = if tenant.status == TenantStatus::Suspended { "suspended" } else { "open" };
        report.ok("tenants", format!("{id}: {state}"));
    }
}
