//! Verifying an audit log against what is kept of its chains.

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    audit::{Partition, Report, Scope, Verifier},
    domain::Failure,
    port::Anchors,
};

/// Within this time an event is anchored: CloudWatch Logs hands it on in seconds, and Lambda tries a
/// batch again for up to six hours.
pub const ANCHORED_WITHIN: Duration = Duration::from_secs(6 * 60 * 60);

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
/// first day, or the log's, to the last.
///
/// # Errors
/// [`VerifyError`] when it could not be verified, whole or not.
pub async fn verify(
    mut log: impl BufRead,
    anchors: &dyn Anchors,
    scope: Scope,
    now: Timestamp,
) -> Result<Report, VerifyError> {
    let due_before = now.checked_sub(ANCHORED_WITHIN).unwrap_or(Timestamp::MIN);
    let mut verifier = Verifier::new(scope.clone(), due_before);
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
    for partition in unseen(&scope, &seen)? {
        let kept = anchors.anchors(&partition).await?;
        verifier.anchored(&partition, kept);
    }
    Ok(verifier.finish())
}

/// Tenants and days of the scope of which the log has nothing.
fn unseen(scope: &Scope, seen: &BTreeSet<Partition>) -> Result<Vec<Partition>, VerifyError> {
    let days = || seen.iter().map(|partition| partition.day);
    let (Some(first), Some(last)) = (scope.from.or(days().min()), scope.to.or(days().max())) else {
        return Err(VerifyError::Nothing);
    };
    let mut tenants: BTreeSet<_> = seen.iter().map(|partition| partition.tenant.clone()).collect();
    tenants.insert(scope.tenant.clone());
    let all = first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last);
    let all = all.flat_map(|day| tenants.iter().map(move |tenant| Partition { tenant: tenant.clone(), day }));
    Ok(all.filter(|partition| !seen.contains(partition)).collect())
}
