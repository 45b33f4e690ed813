//! Checks that requests can address every user.

use doorward::store::UnaddressableId;

use super::{
    Deployment,
    findings::{CallFailure, Findings},
};

/// Maximum number of IDs that are listed.
const MAX_LISTED: usize = 100;

/// Lists the IDs that a path cannot contain (docs/design/contract.md#ids).
pub(super) async fn examine(deployment: &Deployment, findings: &mut Findings) {
    let found = match deployment.store.unaddressable_ids().await {
        Ok(found) => found,
        Err(failure) => {
            let failure = CallFailure::Other(failure.to_string());
            findings.call_failed("users", "dynamodb:Scan", &deployment.config.table, failure);
            return;
        }
    };
    if found.is_empty() {
        findings.ok("users", "every ID can be part of a path");
    }
    for UnaddressableId { tenant, user, member, id } in found.iter().take(MAX_LISTED) {
        findings.warning(
            "users",
            format!("{tenant}: user {user:?} has the {member} {id:?}, which a new user must not have"),
            "gateways and clients may change this ID in a path, so that a request reaches another user or none",
            "export the users, delete this user, change the ID in its line, and import the line",
        );
    }
    if let Some(rest) = found.len().checked_sub(MAX_LISTED).filter(|rest| *rest > 0) {
        findings.warning(
            "users",
            format!("{rest} more IDs have this problem"),
            "only the first 100 are listed",
            "correct the listed users, then run `doorwardctl doctor` again",
        );
    }
}
