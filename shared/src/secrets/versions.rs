//! Versions of a tenant's secret and their stages.

use std::collections::HashMap;

use crate::domain::TenantId;

pub(super) const CURRENT: &str = "AWSCURRENT";
pub(super) const PENDING: &str = "AWSPENDING";
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";

/// Versions of a secret and their stages.
pub(super) struct Versions {
    pub(super) name: String,
    pub(super) tenant: TenantId,
    pub(super) rotation_enabled: bool,
    pub(super) stages: HashMap<String, Vec<String>>,
}

/// Stages that Secrets Manager has moved for certain. `DescribeSecret` may return earlier stages, because Secrets
/// Manager is eventually consistent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved<'a> {
    /// Version that became current, and the version that it replaced.
    pub(super) current: Option<(&'a str, &'a str)>,
    /// Version that lost `AWSPREVIOUS`.
    pub(super) retired: Option<&'a str>,
}

impl Versions {
    pub(super) fn has(&self, version: &str, stage: &str) -> bool {
        self.stages.get(version).is_some_and(|stages| stages.iter().any(|known| known == stage))
    }

    pub(super) fn at(&self, stage: &str) -> Option<&str> {
        self.stages.keys().find(|version| self.has(version, stage)).map(String::as_str)
    }

    /// Replaces stages that Secrets Manager returned from before a move. Stages that a later rotation moved stay.
    pub(super) fn corrected(mut self, moved: Moved<'_>) -> Self {
        if let Some((current, replaced)) = moved.current
            && self.has(replaced, CURRENT)
        {
            for stages in self.stages.values_mut() {
                stages.retain(|stage| stage != CURRENT && stage != PREVIOUS);
            }
            self.stages.entry(current.to_owned()).or_default().push(CURRENT.to_owned());
            self.stages.entry(replaced.to_owned()).or_default().push(PREVIOUS.to_owned());
        }
        if let Some(stages) = moved.retired.and_then(|retired| self.stages.get_mut(retired)) {
            stages.retain(|stage| stage != PREVIOUS);
        }
        self
    }
}
