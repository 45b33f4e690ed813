//! A tenant.

use super::{Policy, TenantId};

/// A tenant's record.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people know it as: in mails and on the hosted page.
    pub name: String,
    /// Whether it is open for business.
    pub status: TenantStatus,
    /// Counts the times that all its sessions were ended at once (docs/design/storage.md#epochs).
    pub session_epoch: u64,
    /// Counts the writes of its record.
    pub version: u64,
    /// How its logins and sessions behave.
    pub policy: Policy,
}

/// Whether a tenant's users may do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantStatus {
    /// Open.
    Active,
    /// Every route answers 403 once the tenant's credentials or a bearer were right.
    Suspended,
}

impl TenantStatus {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Active, Self::Suspended];

    /// Its name in a tenant's record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Suspended => "SUSPENDED",
        }
    }

    /// The one of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}
