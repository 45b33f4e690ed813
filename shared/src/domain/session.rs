//! A session: its life, its refresh tokens' generations, and the rules that judge both.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{AttemptId, CustomerId, OrganizationId, ProvenDevice, SessionId, TenantId, UserId};

/// A session as stored.
#[derive(Debug, Clone)]
pub struct Session {
    /// Tenant it belongs to.
    pub tenant: TenantId,
    /// User it belongs to.
    pub user: UserId,
    /// Its id.
    pub id: SessionId,
    /// The collection it was created through: decides its tokens' `userType`.
    pub collection: Collection,
    /// The user's organization at login.
    pub organization: OrganizationId,
    /// The user's customer at login.
    pub customer: Option<CustomerId>,
    /// The user's epoch when its password was verified.
    pub user_epoch: u64,
    /// The tenant's epoch then.
    pub tenant_epoch: u64,
    /// Counts rotations; the one refresh token that rotates carries this number.
    pub generation: u64,
    /// Makes this session's refresh tokens unlike any other's.
    pub nonce: Nonce,
    /// Version of the tenant's root key that the current refresh token was made with.
    pub key_version: u32,
    /// When each generation was retired, for those that may still be within grace.
    pub retired: BTreeMap<u64, Timestamp>,
    /// The try that made the current generation.
    pub rotation: Option<AttemptId>,
    /// Set once it was ended.
    pub ended: Option<Ended>,
    /// Login.
    pub created_at: Timestamp,
    /// Last rotation, or login.
    pub refreshed_at: Timestamp,
    /// End of the idle life.
    pub idle_expires_at: Timestamp,
    /// End of the absolute life.
    pub expires_at: Timestamp,
    /// Where it was created from, as the client says.
    pub device: Device,
    /// The device whose proof came with the login, or was given for it; `None` in sessions that are
    /// older than proofs.
    pub proven_device: Option<ProvenDevice>,
}

/// 256 random bits of a session (docs/design/security.md#rule-12).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonce([redacted])")
    }
}

/// The path a session is created under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collection {
    /// `admin/organization/{organizationId}`
    Admin,
    /// `customer/individual/{customerId}`
    Individual,
    /// `customer/organization/{customerId}`
    Organization,
}

impl Collection {
    /// Every collection.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Individual, Self::Organization];

    /// `userType` of its tokens (docs/design/contract.md#create-session).
    pub fn user_type(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Individual => "CONSUMER",
            Self::Organization => "BUSINESS",
        }
    }

    /// The collection of that `userType`.
    pub fn from_user_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.user_type() == name)
    }
}

/// What a client says of itself: shown to the user, never trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// `platform` or `sec-ch-ua-platform`.
    pub platform: Option<String>,
    /// `deviceId`, `X-Device-Id` or `device-id`.
    pub device_id: Option<String>,
    /// `X-Forwarded-From`.
    pub forwarded_from: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// The client's address (docs/design/security.md#rule-22).
    pub ip: Option<IpAddr>,
}

/// A live session, as far as a limit looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// It.
    pub id: SessionId,
    /// Login.
    pub created_at: Timestamp,
}

/// A device that proved an earlier login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice {
    /// It.
    pub id: ProvenDevice,
    /// When that login was.
    pub proven_at: Timestamp,
}

/// How a session was ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Whether a retired refresh token was presented; otherwise somebody logged out.
    pub reuse: bool,
}

/// Why a session opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// Its absolute or idle life is over.
    Expired,
    /// It was ended, alone or with all of its user's or tenant's.
    Terminated,
}

impl Session {
    /// Whether it is past its absolute or idle life. Both ends are exclusive: at that instant it is
    /// over (docs/design/security.md#rule-13).
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at || now >= self.idle_expires_at
    }

    /// Whether that organization's or customer's collection has it. What was created through the admin
    /// collection is in a customer's too, where its user belongs to that customer.
    pub fn is_under(&self, collection: Collection, owner: &str) -> bool {
        match collection {
            Collection::Admin => self.organization.as_str() == owner,
            Collection::Individual | Collection::Organization => {
                self.customer.as_ref().is_some_and(|customer| customer.as_str() == owner)
                    && [collection, Collection::Admin].contains(&self.collection)
            }
        }
    }

    /// What keeps it from opening anything at `now`, given the epochs of its user and tenant.
    ///
    /// Epochs only grow: one that is behind the session's was read before it, and ends nothing.
    pub fn fault(&self, now: Timestamp, user_epoch: u64, tenant_epoch: u64) -> Option<SessionFault> {
        if self.ended.is_some() || self.user_epoch < user_epoch || self.tenant_epoch < tenant_epoch {
            Some(SessionFault::Terminated)
        } else if self.is_expired(now) {
            Some(SessionFault::Expired)
        } else {
            None
        }
    }
}

/// What an authentic refresh token is, held against the session that the store kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is the current one.
    Current,
    /// It was retired so recently that it still answers with the current one.
    InGrace,
    /// It was retired before that: whoever presents it may have stolen it.
    Reused,
    /// It is of a generation that this session never had.
    Unknown,
}

/// Judges the refresh token of `generation` (docs/design/contract.md#refresh; RFC 9700, section 4.14.2).
///
/// A token is within grace up to and including the instant `retired + grace`; a clock that went
/// backward does not shorten that.
pub fn judge(session: &Session, generation: u64, grace: Duration, now: Timestamp) -> Judgement {
    if generation == session.generation {
        return Judgement::Current;
    }
    if generation > session.generation {
        return Judgement::Unknown;
    }
    let in_grace = session.retired.get(&generation).is_some_and(|retired| {
        now.as_millisecond() <= retired.as_millisecond().saturating_add(millis(grace))
    });
    if in_grace { Judgement::InGrace } else { Judgement::Reused }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(crate) fn session() -> Session {
        Session {
            tenant: TenantId::parse("t").unwrap(),
            user: UserId::parse("u").unwrap(),
            id: SessionId::from_random([1; 16]),
            collection: Collection::Admin,
            organization: OrganizationId::parse("o").unwrap(),
            customer: None,
            user_epoch: 3,
            tenant_epoch: 1,
            generation: 0,
            nonce: Nonce([0; 32]),
            key_version: 1,
            retired: BTreeMap::new(),
            rotation: None,
            ended: None,
            created_at: at(0),
            refreshed_at: at(0),
            idle_expires_at: at(100),
            expires_at: at(200),
            device: Device::default(),
            proven_device: None,
        }
    }

    // docs/design/security.md#rule-13, #rule-15
    #[test]
    fn a_session_ends_at_its_boundaries_and_with_its_epochs() {
        let session = session();
        assert_eq!(session.fault(at(99), 3, 1), None);
        assert_eq!(session.fault(at(100), 3, 1), Some(SessionFault::Expired));
        assert_eq!(session.fault(at(0), 4, 1), Some(SessionFault::Terminated));
        assert_eq!(session.fault(at(0), 3, 2), Some(SessionFault::Terminated));
        assert_eq!(session.fault(at(0), 2, 0), None, "an older reading of the epochs");
        let ended = Session { ended: Some(Ended { at: at(1), reuse: false }), ..session.clone() };
        assert_eq!(ended.fault(at(2), 3, 1), Some(SessionFault::Terminated));
        let refreshed = Session { idle_expires_at: at(1_000), ..session };
        assert_eq!(refreshed.fault(at(199), 3, 1), None);
        assert_eq!(refreshed.fault(at(200), 3, 1), Some(SessionFault::Expired));
    }

    // docs/design/security.md#rule-14
    #[test]
    fn grace_is_each_generations_own() {
        let mut session = session();
        session.generation = 2;
        session.retired = BTreeMap::from([(0, at(10)), (1, at(20))]);
        let grace = Duration::from_secs(30);
        assert_eq!(judge(&session, 2, grace, at(500)), Judgement::Current);
        assert_eq!(judge(&session, 0, grace, at(40)), Judgement::InGrace);
        assert_eq!(judge(&session, 0, grace, at(41)), Judgement::Reused);
        assert_eq!(judge(&session, 1, grace, at(41)), Judgement::InGrace);
        assert_eq!(judge(&session, 1, Duration::ZERO, at(21)), Judgement::Reused);
        assert_eq!(judge(&session, 3, grace, at(41)), Judgement::Unknown);
        session.retired.clear();
        assert_eq!(judge(&session, 1, grace, at(21)), Judgement::Reused);
    }

    proptest! {
        // docs/design/security.md#rule-14: whatever the sequence of rotations, one generation is current, what was
        // retired within the window is in grace, and everything older is reuse.
        #[test]
        fn one_live_branch(gaps in prop::collection::vec(0_i64..60, 1..40), grace in 0_u64..=300, wait in 0_i64..400) {
            let mut session = session();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                session.retired.insert(session.generation, at(now));
                session.generation += 1;
            }
            let now = now + wait;
            let mut current = 0;
            for generation in 0..=session.generation {
                let expected = match session.retired.get(&generation) {
                    None => { current += 1; Judgement::Current }
                    Some(retired) if now - retired.as_second() <= i64::try_from(grace).unwrap() => Judgement::InGrace,
                    Some(_) => Judgement::Reused,
                };
                prop_assert_eq!(judge(&session, generation, Duration::from_secs(grace), at(now)), expected);
            }
            prop_assert_eq!(current, 1);
        }
    }
}
