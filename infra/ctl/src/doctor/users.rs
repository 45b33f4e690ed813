//! Checks that requests can address and find every user.

use doorward::store::{TableCheck, UnaddressableId, UserFault, UserFaultKind};

use super::{
    Deployment,
    findings::{CallFailure, Findings},
    permissions,
};

/// Maximum number of IDs that are listed.
const MAX_LISTED: usize = 100;
/// Maximum number of users that the message about one kind of fault names.
const MAX_NAMED: usize = 3;
/// The repair of most faults.
const REPAIR: &str = "doorwardctl doctor --repair";

/// Reads all tenants and users, and repairs the items of the users if `repair` is set. Returns `None` if that fails.
pub(super) async fn read(
    deployment: &Deployment,
    repair: bool,
    findings: &mut Findings,
) -> Option<TableCheck> {
    let table = &deployment.config.table;
    // Tests the permissions first, because an error of the store does not name the missing permission.
    let failure = match deployment.dynamodb.scan().table_name(table).limit(1).send().await {
        Err(error) => CallFailure::of("DynamoDB", &error),
        Ok(_) if !permissions::allows_batch_reads(deployment).await => {
            findings.not_checked("users", "dynamodb:BatchGetItem is not allowed");
            return None;
        }
        Ok(_) => match deployment.store.check_table(repair).await {
            Ok(check) => return Some(check),
            Err(failure) => CallFailure::Other(failure.to_string()),
        },
    };
    findings.call_failed("tenants", "dynamodb:Scan", table, failure);
    None
}

/// Lists the IDs that a path cannot contain (docs/design/contract.md#ids), and the users that requests cannot find.
pub(super) fn examine(check: &TableCheck, findings: &mut Findings) {
    let TableCheck { tenants, unaddressable, faults, repaired } = check;
    if unaddressable.is_empty() {
        findings.ok("users", "every ID can be part of a path");
    }
    for UnaddressableId { tenant, user, member, id } in unaddressable.iter().take(MAX_LISTED) {
        findings.warning(
            "users",
            format!("{tenant}: user {user:?} has the {member} {id:?}, which a new user must not have"),
            "gateways and clients may change this ID in a path, so that a request reaches another user or none",
            "export the users, delete this user, change the ID in its line, and import the line",
        );
    }
    if let Some(rest) = unaddressable.len().checked_sub(MAX_LISTED).filter(|rest| *rest > 0) {
        findings.warning(
            "users",
            format!("{rest} more IDs have this problem"),
            "only the first 100 are listed",
            "correct the listed users, then run `doorwardctl doctor` again",
        );
    }
    if *repaired > 0 {
        findings.ok("users.index", format!("repaired: {repaired}"));
    }
    for tenant in tenants.iter().filter(|tenant| !tenant.lists_users) {
        findings.fault(
            "users.index",
            format!(
                "{}: the index may not list all users, because an earlier version created the tenant",
                tenant.id
            ),
            "`user list` and `user export` reject the tenant; `tenant delete` reads the whole table",
            REPAIR,
        );
    }
    for same in faults.chunk_by(|one, other| (&one.tenant, one.kind) == (&other.tenant, other.kind)) {
        report(same, findings);
    }
    if faults.is_empty() && tenants.iter().all(|tenant| tenant.lists_users) && *repaired == 0 {
        findings.ok("users.index", "every user is in the index and found by its name and mail address");
    }
}

/// Reports faults of one kind in one tenant.
fn report(faults: &[UserFault], findings: &mut Findings) {
    let Some(UserFault { tenant, kind, .. }) = faults.first() else { return };
    let named: Vec<_> = faults.iter().take(MAX_NAMED).map(|fault| format!("{:?}", fault.user)).collect();
    let more = if faults.len() > MAX_NAMED { ", …" } else { "" };
    let (what, why, fix) = match kind {
        UserFaultKind::Unreadable => (
            "stored users that are unreadable",
            "requests of these users return 503",
            "correct or delete the items by hand",
        ),
        UserFaultKind::NotIndexed => (
            "users that are not in the index",
            "lists, exports and `tenant delete` leave these users out",
            REPAIR,
        ),
        UserFaultKind::NoUsername => (
            "users without a username item",
            "these users cannot log in by name, and another user can get their name",
            REPAIR,
        ),
        UserFaultKind::OthersUsername => (
            "users whose username belongs to another user",
            "these users cannot log in by name",
            "run `doorwardctl doctor --repair` again; if the fault stays, give the other user another name: \
             `doorwardctl user find TENANT --name NAME` shows it",
        ),
        UserFaultKind::NoMail => {
            ("users without a mail item", "a search by mail address leaves these users out", REPAIR)
        }
        UserFaultKind::Stray => (
            "usernames or mail addresses that users no longer have",
            "no user can get these usernames, and the addresses are personal data",
            REPAIR,
        ),
    };
    let message = format!("{tenant}: {what}: {} ({}{more})", faults.len(), named.join(", "));
    findings.fault("users.index", message, why, fix);
}
