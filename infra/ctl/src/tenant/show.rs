//! `doorwardctl tenant show`

use doorward::{
    domain::{FIELDS, PolicyDocument},
    store::TenantRecord,
};
use serde_json::{Value, json};

use crate::output::{plain, table};

pub(super) fn described(record: &TenantRecord) -> Value {
    let TenantRecord { tenant, document, unknown, faults, .. } = record;
    let in_force: PolicyDocument = FIELDS
        .iter()
        .map(|field| (field.name.to_owned(), field.value(&tenant.policy).unwrap_or_default()))
        .collect();
    let faults =
        faults.iter().map(|fault| json!({ "field": fault.error.field, "message": fault.error.message }));
    json!({
        "tenant": tenant.id,
        "name": tenant.name,
        "status": tenant.status.name(),
        "version": tenant.version,
        "sessionEpoch": tenant.session_epoch,
        "set": document,
        "inForce": in_force,
        "unknown": unknown,
        "faults": faults.collect::<Vec<_>>(),
    })
}

pub(super) fn text(record: &TenantRecord) -> String {
    let TenantRecord { tenant, document, unknown, faults, .. } = record;
    let head = [
        ("tenant", tenant.id.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.name().to_owned()),
        ("version", tenant.version.to_string()),
        ("session epoch", tenant.session_epoch.to_string()),
    ];
    let head = table(&["TENANT", ""], head.map(|(name, value)| vec![name.to_owned(), value]));
    let known = FIELDS.iter().map(|field| {
        let origin = if document.contains_key(field.name) { "set" } else { "default" };
        let value = field.value(&tenant.policy).unwrap_or_default();
        vec![field.name.to_owned(), plain(&value), origin.to_owned()]
    });
    let later =
        unknown.iter().map(|name| vec![name.clone(), "?".to_owned(), "unknown to this version".to_owned()]);
    let policy = table(&["POLICY", "IN FORCE", "FROM"], known.chain(later));
    let faults = faults.iter().map(|fault| format!("\nfault: {} {}", fault.error.field, fault.error.message));
    format!("{head}\n\n{policy}\n{}", faults.collect::<String>())
}
