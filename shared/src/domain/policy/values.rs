//! Types of policy fields.

use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::{LiveSession, SessionId, id::named};

/// The limit of concurrent sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimit {
    /// Maximum number of sessions, at least 1.
    pub max: u32,
    /// Behaviour of a login when the user has the maximum number of sessions.
    pub when_full: WhenFull,
}

impl SessionLimit {
    /// Highest limit that a tenant can set.
    pub const MAX: u32 = 100;

    /// Returns the sessions to end so that one more session fits, oldest first. Returns `None` if the new
    /// session must be rejected.
    pub fn evicts(self, mut live: Vec<LiveSession>) -> Option<Vec<SessionId>> {
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let surplus = (live.len() + 1).saturating_sub(max);
        match self.when_full {
            WhenFull::Reject if surplus > 0 => None,
            WhenFull::Reject | WhenFull::Oldest | WhenFull::Single => {
                live.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
                Some(live.into_iter().take(surplus).map(|session| session.id).collect())
            }
        }
    }
}

/// Behaviour of a login when the user has reached the session limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum WhenFull {
    /// The login is rejected.
    Reject,
    /// The login ends the oldest session.
    Oldest,
    /// The login ends all other sessions of the user.
    Single,
}

named!(WhenFull);

/// Delivery of notifications to a tenant's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageDelivery {
    /// Doorward sends mails with SES and text messages with SNS.
    Direct,
    /// Doorward sends an event to this EventBridge bus, and the tenant delivers the notification.
    EventBus(String),
}

/// Signature algorithm of access tokens (docs/design/contract.md#create-session).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumIter, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
pub enum SigningAlgorithm {
    /// ECDSA with P-256, the default.
    Es256,
    /// Ed25519.
    #[strum(serialize = "EdDSA")]
    EdDsa,
    /// RSA with SHA-256. The JWT authorizer of API Gateway requires it.
    Rs256,
    /// HMAC with a key derived from the tenant's root key, as in FinHub's examples.
    Hs256,
}

named!(SigningAlgorithm);

/// Cost parameters of an argon2id hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Number of passes.
    pub passes: u32,
    /// Number of lanes.
    pub lanes: u32,
}

impl HashCost {
    /// Maximum memory of one hash, so that a tenant record cannot exhaust the memory of a function.
    pub const MAX_MEMORY_KIB: u32 = 128 * 1024;
    /// Maximum number of passes.
    pub const MAX_PASSES: u32 = 16;
    /// Maximum number of lanes.
    pub const MAX_LANES: u32 = 4;
    /// Minimum memory in KiB of a policy with 1, 2, 3, 4, and 5 or more passes. The OWASP Password Storage Cheat
    /// Sheet calls these settings equally strong (docs/design/security.md#rule-4).
    pub const MEMORY_FLOORS: [u32; 5] = [47_104, 19_456, 12_288, 9_216, Self::MEMORY_FLOOR];
    /// Minimum memory in KiB of a policy with 5 or more passes.
    pub const MEMORY_FLOOR: u32 = 7_168;

    /// Returns the minimum memory of a policy with this number of passes.
    pub fn memory_floor(self) -> u32 {
        let index = (self.passes as usize).saturating_sub(1);
        Self::MEMORY_FLOORS.get(index).copied().unwrap_or(Self::MEMORY_FLOOR)
    }

    /// Returns the nearest cost that a policy allows. Stored hashes may be weaker.
    #[must_use]
    pub fn raised(self) -> Self {
        let cost = self.bounded();
        Self { memory_kib: cost.memory_kib.max(cost.memory_floor()), ..cost }
    }

    /// Returns the nearest cost that can be computed.
    #[must_use]
    pub fn bounded(self) -> Self {
        let lanes = self.lanes.clamp(1, Self::MAX_LANES);
        Self {
            // Minimum of argon2 (RFC 9106, section 3.1).
            memory_kib: self.memory_kib.clamp(8 * lanes, Self::MAX_MEMORY_KIB),
            passes: self.passes.clamp(1, Self::MAX_PASSES),
            lanes,
        }
    }
}

impl Default for HashCost {
    /// The recommendation of the OWASP Password Storage Cheat Sheet for argon2id (docs/design/security.md#rule-4).
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}
