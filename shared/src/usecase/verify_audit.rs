//! Verification of an audit log against the stored anchors of its chains.

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
    time::Duration,
};

use jiff::{Timestamp, civil::Date};

use crate::{
    audit::{Partition, Report, Scope, Verifier},
    domain::{Failure, TenantId, after},
    store::DynamoStore,
};

/// Time within which an event is anchored. CloudWatch Logs delivers it within seconds, and Lambda retries a failed
/// batch for up to six hours.
pub const ANCHORED_WITHIN: Duration = Duration::from_secs(6 * 60 * 60);

/// Maximum difference between the clocks of functions and operators.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);

/// Why a log could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
    /// The anchors cannot be read.
    #[error("the anchors cannot be read: {0}")]
    Anchors(#[from] Failure),
    /// The log has no event of the scope, and the scope names no days.
    #[error("the log has no event to verify; name the first and the last day that it should have")]
    Nothing,
}

/// Verifies a log. Its lines may be in any order, and other lines are ignored.
///
/// Reads the anchors of all tenants and days in the log and in the scope, so that it also detects a missing day. The
/// days are those of the scope, otherwise those between the first and the last day of the log. Without a tenant in the
/// scope, all tenants are checked.
///
/// # Errors
/// [`VerifyError`] if the log could not be verified.
pub async fn verify(
    mut log: impl BufRead,
    anchors: &DynamoStore,
    scope: Scope,
    now: Timestamp,
) -> Result<Report, VerifyError> {
    let due_before = now.checked_sub(ANCHORED_WITHIN).unwrap_or(Timestamp::MIN);
    let newest = after(now, CLOCKS_DIFFER);
    let mut verifier = Verifier::new(scope.clone(), due_before, newest);
    let mut seen = BTreeSet::new();
    let mut bytes = Vec::new();
    while log.read_until(b'\n', &mut bytes)? > 0 {
        if let Some(line) = verifier.read(&String::from_utf8_lossy(&bytes)) {
            let partition = line.event.partition();
            if seen.insert(partition.clone()) {
                let kept = anchors.anchors(&partition).await?;
                verifier.anchored(&partition, kept);
            }
            verifier.take(line);
        }
        bytes.clear();
    }
    let days = days(&scope, &seen)?;
    let known = if scope.tenant.is_none() { anchors.tenant_ids().await? } else { Vec::new() };
    for partition in unseen(&scope, days, known, &seen) {
        let kept = anchors.anchors(&partition).await?;
        verifier.anchored(&partition, kept);
    }
    Ok(verifier.finish())
}

/// The first and the last day to verify.
///
/// # Errors
/// `Nothing` if neither scope nor log has a day.
fn days(scope: &Scope, seen: &BTreeSet<Partition>) -> Result<(Date, Date), VerifyError> {
    let days = || seen.iter().map(|partition| partition.day);
    scope.from.or(days().min()).zip(scope.to.or(days().max())).ok_or(VerifyError::Nothing)
}

/// Tenants and days of the scope without an event in the log: the tenants in the log, and those `known`.
fn unseen(
    scope: &Scope,
    (first, last): (Date, Date),
    known: Vec<TenantId>,
    seen: &BTreeSet<Partition>,
) -> Vec<Partition> {
    let mut tenants: BTreeSet<_> = seen.iter().map(|partition| partition.tenant.clone()).collect();
    tenants.insert(scope.tenant.clone());
    tenants.extend(known.into_iter().map(Some));
    let all = first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last);
    let all = all.flat_map(|day| tenants.iter().map(move |tenant| Partition { tenant: tenant.clone(), day }));
    all.filter(|partition| !seen.contains(partition)).collect()
}
