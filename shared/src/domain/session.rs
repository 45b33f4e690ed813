//! A session: its lifetime, and the generations of its refresh tokens.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use strum::{EnumString, IntoStaticStr};

use super::{AttemptId, CustomerId, OrganizationId, SessionId, TenantId, TrustedDeviceId, UserId};

/// A session as stored.
#[derive(Debug, Clone)]
pub struct Session {
    /// Tenant of the session.
    pub tenant: TenantId,
    /// User of the session.
    pub user: UserId,
    /// Session ID.
    pub id: SessionId,
    /// Collection that the session was created in. It determines the `userType` of the tokens.
    pub collection: Collection,
    /// Organization of the user at login.
    pub organization: OrganizationId,
    /// Customer of the user at login.
    pub customer: Option<CustomerId>,
    /// Epoch of the user when the password was verified, or the next one if the login ended all other sessions.
    pub user_epoch: u64,
    /// Epoch of the tenant when the password was verified.
    pub tenant_epoch: u64,
    /// Number of rotations. The current refresh token contains this number.
    pub generation: u64,
    /// Random bits that make the refresh tokens of this session unique.
    pub nonce: Nonce,
    /// Version of the tenant's root key that the current refresh token was made with.
    pub key_version: u32,
    /// Retirement times of the generations that may be within the grace period.
    pub retired: BTreeMap<u64, Timestamp>,
    /// ID of the request that created the current generation.
    pub rotation: Option<AttemptId>,
    /// Set when the session was ended.
    pub ended: Option<Ended>,
    /// Time of the login.
    pub created_at: Timestamp,
    /// Time of the last rotation, or of the login.
    pub refreshed_at: Timestamp,
    /// End of the idle lifetime.
    pub idle_expires_at: Timestamp,
    /// End of the maximum lifetime.
    pub expires_at: Timestamp,
    /// Device data from the client.
    pub device: Device,
    /// Trusted device of the login. `None` in sessions that were created before device proofs existed.
    pub proven_device: Option<TrustedDeviceId>,
}

/// 256 random bits of a session (docs/design/security.md#rule-12).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonce([redacted])")
    }
}

/// The collection that a session is created in, from the request path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, IntoStaticStr, EnumString)]
pub enum Collection {
    /// `admin/organization/{organizationId}`
    #[default]
    #[strum(serialize = "ADMIN")]
    Admin,
    /// `customer/individual/{customerId}`
    #[strum(serialize = "CONSUMER")]
    Individual,
    /// `customer/organization/{customerId}`
    #[strum(serialize = "BUSINESS")]
    Organization,
}

impl Collection {
    /// Returns the `userType` of tokens (docs/design/contract.md#create-session).
    pub fn user_type(self) -> &'static str {
        self.into()
    }

    /// Returns the collection with this `userType`.
    pub fn from_user_type(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Device data from the client. It is shown to the user and never trusted.
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

/// The data of a live session that the session limit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Session ID.
    pub id: SessionId,
    /// Time of the login.
    pub created_at: Timestamp,
}

/// A device that proved an earlier login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedDevice {
    /// Device ID.
    pub id: TrustedDeviceId,
    /// Epoch of the user that the login read together with the password.
    pub user_epoch: u64,
}

/// Position of a session in a list that starts with the newest session. Sessions of the same time are ordered by
/// id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionPosition {
    created_at: std::cmp::Reverse<i64>,
    id: SessionId,
}

impl SessionPosition {
    /// Creates a position from the creation time in epoch milliseconds and the session ID.
    pub fn new(created_at: i64, id: SessionId) -> Self {
        Self { created_at: std::cmp::Reverse(created_at), id }
    }

    /// Returns the position of a session.
    pub fn of(session: &Session) -> Self {
        Self::new(session.created_at.as_millisecond(), session.id.clone())
    }

    /// Returns the creation time in epoch milliseconds.
    pub fn created_at(&self) -> i64 {
        self.created_at.0
    }

    /// Returns the session ID.
    pub fn id(&self) -> &SessionId {
        &self.id
    }
}

/// The end of a session before its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Time.
    pub at: Timestamp,
    /// The session was ended because a retired refresh token was reused. Otherwise, a request ended it.
    pub reuse: bool,
}

/// The reason why a session is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// The maximum or idle lifetime is over.
    Expired,
    /// The session was ended, alone or together with all sessions of its user or tenant.
    Terminated,
}

impl Session {
    /// Returns whether the maximum or idle lifetime is over. The session is expired at the instant of either
    /// end (docs/design/security.md#rule-13).
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at || now >= self.idle_expires_at
    }

    /// Returns whether the session belongs to the collection of the organization or customer `owner`. A session
    /// from the admin collection also belongs to the collection of the user's customer.
    pub fn is_under(&self, collection: Collection, owner: &str) -> bool {
        match collection {
            Collection::Admin => self.organization.as_str() == owner,
            Collection::Individual | Collection::Organization => {
                self.customer.as_ref().is_some_and(|customer| customer.as_str() == owner)
                    && [collection, Collection::Admin].contains(&self.collection)
            }
        }
    }

    /// Returns why the session is invalid at `now`, given the epochs of its user and tenant.
    ///
    /// Epochs only grow. An epoch lower than the session's was read before the login, and is ignored.
    pub fn fault(&self, now: Timestamp, user_epoch: u64, tenant_epoch: u64) -> Option<SessionFault> {
        if self.ended.is_some() || self.user_epoch < user_epoch || self.tenant_epoch < tenant_epoch {
            Some(SessionFault::Terminated)
        } else if self.is_expired(now) {
            Some(SessionFault::Expired)
        } else {
            None
        }
    }

    /// Returns the state of the refresh token of `generation`
    /// (docs/design/contract.md#refresh; RFC 9700, section 4.14.2).
    ///
    /// The grace period includes the instant `retired + grace`. A clock that goes backward does not shorten it.
    pub fn refresh_token_state(&self, generation: u64, grace: Duration, now: Timestamp) -> RefreshTokenState {
        if generation == self.generation {
            return RefreshTokenState::Current;
        }
        if generation > self.generation {
            return RefreshTokenState::Unknown;
        }
        let in_grace = self.retired.get(&generation).is_some_and(|retired| {
            now.as_millisecond() <= retired.as_millisecond().saturating_add(millis(grace))
        });
        if in_grace { RefreshTokenState::InGrace } else { RefreshTokenState::Reused }
    }
}

/// The state of an authentic refresh token, compared with the stored session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshTokenState {
    /// The token is the current one.
    Current,
    /// The token was retired within the grace period. A refresh returns the current token.
    InGrace,
    /// The token was retired before the grace period. It may be stolen.
    Reused,
    /// The session never had a token of this generation.
    Unknown,
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
    fn session_is_invalid_after_its_lifetimes_and_with_a_newer_epoch() {
        let session = session();
        assert_eq!(session.fault(at(99), 3, 1), None);
        assert_eq!(session.fault(at(100), 3, 1), Some(SessionFault::Expired));
        assert_eq!(session.fault(at(0), 4, 1), Some(SessionFault::Terminated));
        assert_eq!(session.fault(at(0), 3, 2), Some(SessionFault::Terminated));
        assert_eq!(session.fault(at(0), 2, 0), None, "epochs that were read before the login are ignored");
        let ended = Session { ended: Some(Ended { at: at(1), reuse: false }), ..session.clone() };
        assert_eq!(ended.fault(at(2), 3, 1), Some(SessionFault::Terminated));
        let refreshed = Session { idle_expires_at: at(1_000), ..session };
        assert_eq!(refreshed.fault(at(199), 3, 1), None);
        assert_eq!(refreshed.fault(at(200), 3, 1), Some(SessionFault::Expired));
    }

    // docs/design/security.md#rule-21
    #[test]
    fn session_belongs_to_the_collections_of_its_organization_and_customer() {
        let admin = Session { customer: Some(CustomerId::parse("c").unwrap()), ..session() };
        let individual = Session { collection: Collection::Individual, ..admin.clone() };
        let cases = [
            (&admin, Collection::Admin, "o", true),
            (&admin, Collection::Admin, "c", false),
            (&admin, Collection::Individual, "c", true),
            (&admin, Collection::Organization, "c", true),
            (&admin, Collection::Individual, "o", false),
            (&individual, Collection::Admin, "o", true),
            (&individual, Collection::Individual, "c", true),
            (&individual, Collection::Individual, "d", false),
            (&individual, Collection::Organization, "c", false),
        ];
        for (session, collection, owner, is_under) in cases {
            assert_eq!(session.is_under(collection, owner), is_under, "{collection:?} {owner} {session:?}");
        }
        assert!(!session().is_under(Collection::Individual, "c"), "the session has no customer");
    }

    // docs/design/security.md#rule-14
    #[test]
    fn each_generation_has_its_own_grace_period() {
        let mut session = session();
        session.generation = 2;
        session.retired = BTreeMap::from([(0, at(10)), (1, at(20))]);
        let grace = Duration::from_secs(30);
        assert_eq!(session.refresh_token_state(2, grace, at(500)), RefreshTokenState::Current);
        assert_eq!(session.refresh_token_state(0, grace, at(40)), RefreshTokenState::InGrace);
        assert_eq!(session.refresh_token_state(0, grace, at(41)), RefreshTokenState::Reused);
        assert_eq!(session.refresh_token_state(1, grace, at(41)), RefreshTokenState::InGrace);
        assert_eq!(session.refresh_token_state(1, Duration::ZERO, at(21)), RefreshTokenState::Reused);
        assert_eq!(session.refresh_token_state(3, grace, at(41)), RefreshTokenState::Unknown);
        session.retired.clear();
        assert_eq!(session.refresh_token_state(1, grace, at(21)), RefreshTokenState::Reused);
    }

    proptest! {
        // docs/design/security.md#rule-14: after every sequence of rotations, one generation is current, those
        // retired within the grace period are in grace, and all older ones are reused.
        #[test]
        fn exactly_one_generation_is_current(gaps in prop::collection::vec(0_i64..60, 1..40), grace in 0_u64..=300, wait in 0_i64..400) {
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
                    None => { current += 1; RefreshTokenState::Current }
                    Some(retired) if now - retired.as_second() <= i64::try_from(grace).unwrap() => RefreshTokenState::InGrace,
                    Some(_) => RefreshTokenState::Reused,
                };
                prop_assert_eq!(session.refresh_token_state(generation, Duration::from_secs(grace), at(now)), expected);
            }
            prop_assert_eq!(current, 1);
        }
    }
}
