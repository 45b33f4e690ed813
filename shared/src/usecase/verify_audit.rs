//! Verifying an audit log against what is kept of its chains.

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
    time::Duration,
};

use jiff::{Timestamp, civil::Date};

use crate::{
    audit::{Partition, Report, Scope, Verifier},
    domain::{Failure, TenantId},
    store::DynamoStore,
};

/// Within this time an event is anchored: CloudWatch Logs hands it on in seconds, and Lambda keeps a batch
/// that it cannot hand over for up to six hours.
pub const ANCHORED_WITHIN: Duration = Duration::from_secs(6 * 60 * 60);

/// So much may the clocks of functions and operators differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);

/// Why a log could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
    /// What is kept of its chains cannot be read.
    #[error("the anchors cannot be read: {0}")]
    Anchors(#[from] Failure),
    /// It has no event of the scope, and no day is named that should have some.
    #[error("the log has no event to verify; name the first and the last day that it should have")]
    Nothing,
}

/// Reads a log, in any order and with whatever else its lines hold. Besides the tenants and days in it,
/// those of the scope are looked up, so that a whole day that is missing is found too: from the scope's
/// first day, or the log's, to the last; and of every tenant that there is, where the scope names none.
///
/// # Errors
/// [`VerifyError`] when it could not be verified, whole or not.
pub async fn verify(
    mut log: impl BufRead,
    anchors: &DynamoStore,
    scope: Scope,
    now: Timestamp,
) -> Result<Report, VerifyError> {
    let due_before = now.checked_sub(ANCHORED_WITHIN).unwrap_or(Timestamp::MIN);
    let newest = now.checked_add(CLOCKS_DIFFER).unwrap_or(Timestamp::MAX);
    let mut verifier = Verifier::new(scope.clone(), due_before, newest);
    let mut seen = BTreeSet::new();
    let mut bytes = Vec::new();
    while log.read_until(b'\n', &mut bytes)? > 0 {
        if let Some(line) = verifier.read(&String::from_utf8_lossy(&bytes)) {
            let partition = line.partition();
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

/// The first and the last day that are to be verified.
///
/// # Errors
/// `Nothing` when neither scope nor log says.
fn days(scope: &Scope, seen: &BTreeSet<Partition>) -> Result<(Date, Date), VerifyError> {
    let days = || seen.iter().map(|partition| partition.day);
    scope.from.or(days().min()).zip(scope.to.or(days().max())).ok_or(VerifyError::Nothing)
}

/// Tenants and days of the scope of which the log has nothing: of those in it, and of those `known`.
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
