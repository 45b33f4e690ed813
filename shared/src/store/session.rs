//! The session item: rotation, end, and checks within transactions.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, corrupt, decode, encode, instant, number, string, to_instant, ttl_seconds},
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    AttemptId, Collection, CustomerId, Device, Ended, Failure, Nonce, OrganizationId, RefreshTokenState,
    Session, SessionId, TenantId, TrustedDeviceId, UserId,
};

/// Rotation of a session's refresh token.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User ID in the refresh token.
    pub user: &'a UserId,
    /// Session ID in the refresh token.
    pub session: &'a SessionId,
    /// Nonce in the verified refresh token.
    pub nonce: Nonce,
    /// Generation of the refresh token.
    pub generation: u64,
    /// Root key version of the next refresh token.
    pub key_version: u32,
    /// ID of this rotation. It identifies a write that the SDK repeated.
    pub id: AttemptId,
    /// Current time.
    pub now: Timestamp,
    /// End of the idle lifetime after the rotation.
    pub idle_expires_at: Timestamp,
    /// Time that the replaced refresh token remains valid.
    pub grace: Duration,
}

/// Result of a rotation.
#[derive(Debug)]
pub enum Rotated {
    /// The rotation succeeded. Holds the new session.
    Moved(Session),
    /// The session does not allow the rotation. Holds the current session.
    Kept(Session),
    /// The session does not exist.
    Missing,
    /// Too many rotations within one grace period.
    TooOften,
}

/// Session to end.
#[derive(Debug, Clone, Copy)]
pub struct EndSession<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User ID in the path.
    pub user: &'a UserId,
    /// Session ID in the path.
    pub session: &'a SessionId,
    /// Collection and owner in the path, which must match the session. `None` matches all sessions.
    pub path: Option<(Collection, &'a str)>,
    /// Whether the session ends because a retired refresh token was used.
    pub reuse: bool,
    /// Current time.
    pub now: Timestamp,
}

/// Maximum number of retirement times in one item. It limits the item size. A client that rotates more often within
/// one grace period must wait, because each retired token needs its retirement time.
const MAX_RETIRED: usize = 32;

#[derive(Serialize, Deserialize)]
struct SessionItem {
    tenant_id: TenantId,
    user_id: UserId,
    session_id: SessionId,
    user_type: String,
    organization_id: OrganizationId,
    customer_id: Option<CustomerId>,
    user_epoch: u64,
    tenant_epoch: u64,
    generation: u64,
    nonce: String,
    key_version: u32,
    retired: BTreeMap<String, i64>,
    rotation_id: Option<String>,
    ended_at: Option<i64>,
    ended_by_reuse: Option<bool>,
    created_at: i64,
    refreshed_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    /// TTL, in seconds.
    expires_at: i64,
    platform: Option<String>,
    device_id: Option<String>,
    forwarded_from: Option<String>,
    user_agent: Option<String>,
    client_ip: Option<String>,
    proven_device: Option<String>,
}

impl From<&Session> for SessionItem {
    fn from(session: &Session) -> Self {
        let device = &session.device;
        Self {
            tenant_id: session.tenant.clone(),
            user_id: session.user.clone(),
            session_id: session.id.clone(),
            user_type: session.collection.user_type().to_owned(),
            organization_id: session.organization.clone(),
            customer_id: session.customer.clone(),
            user_epoch: session.user_epoch,
            tenant_epoch: session.tenant_epoch,
            generation: session.generation,
            nonce: nonce_text(session.nonce),
            key_version: session.key_version,
            retired: session
                .retired
                .iter()
                .map(|(number, at)| (number.to_string(), at.as_millisecond()))
                .collect(),
            rotation_id: session.rotation.map(|id| id.to_string()),
            ended_at: session.ended.map(|ended| ended.at.as_millisecond()),
            ended_by_reuse: session.ended.map(|ended| ended.reuse),
            created_at: session.created_at.as_millisecond(),
            refreshed_at: session.refreshed_at.as_millisecond(),
            idle_expires_at: session.idle_expires_at.as_millisecond(),
            absolute_expires_at: session.expires_at.as_millisecond(),
            expires_at: ttl_seconds(session.expires_at),
            platform: device.platform.clone(),
            device_id: device.device_id.clone(),
            forwarded_from: device.forwarded_from.clone(),
            user_agent: device.user_agent.clone(),
            client_ip: device.ip.map(|ip| ip.to_string()),
            proven_device: session.proven_device.map(|device| device.to_string()),
        }
    }
}

impl TryFrom<SessionItem> for Session {
    type Error = Failure;

    fn try_from(item: SessionItem) -> Result<Self, Failure> {
        let nonce = URL_SAFE_NO_PAD.decode(&item.nonce).ok().and_then(|bytes| bytes.try_into().ok());
        let retired = item
            .retired
            .iter()
            .map(|(number, at)| Ok((number.parse().map_err(|_| corrupt("generation"))?, to_instant(*at)?)));
        let rotation = item.rotation_id.map(|id| AttemptId::parse(&id).map_err(|_| corrupt("rotation id")));
        let reuse = item.ended_by_reuse.unwrap_or_default();
        let proven = item
            .proven_device
            .map(|device| TrustedDeviceId::parse(&device).map_err(|_| corrupt("proven device")));
        let ended = item.ended_at.map(|at| to_instant(at).map(|at| Ended { at, reuse }));
        Ok(Self {
            collection: Collection::from_user_type(&item.user_type).ok_or_else(|| corrupt("collection"))?,
            nonce: Nonce(nonce.ok_or_else(|| corrupt("nonce"))?),
            retired: retired.collect::<Result<_, Failure>>()?,
            rotation: rotation.transpose()?,
            ended: ended.transpose()?,
            created_at: to_instant(item.created_at)?,
            refreshed_at: to_instant(item.refreshed_at)?,
            idle_expires_at: to_instant(item.idle_expires_at)?,
            expires_at: to_instant(item.absolute_expires_at)?,
            device: Device {
                platform: item.platform,
                device_id: item.device_id,
                forwarded_from: item.forwarded_from,
                user_agent: item.user_agent,
                ip: item.client_ip.and_then(|ip| ip.parse().ok()),
            },
            proven_device: proven.transpose()?,
            tenant: item.tenant_id,
            user: item.user_id,
            id: item.session_id,
            organization: item.organization_id,
            customer: item.customer_id,
            user_epoch: item.user_epoch,
            tenant_epoch: item.tenant_epoch,
            generation: item.generation,
            key_version: item.key_version,
        })
    }
}

fn nonce_text(nonce: Nonce) -> String {
    URL_SAFE_NO_PAD.encode(nonce.0)
}

/// Decodes a session item.
pub(super) fn to_session(attributes: Attributes) -> Result<Session, Failure> {
    decode::<SessionItem>(attributes)?.try_into()
}

/// Encodes a session item with its key.
pub(super) fn session_item(session: &Session) -> Result<Attributes, Failure> {
    encode(&key_of(session), &SessionItem::from(session))
}

fn key_of(session: &Session) -> Key {
    Key::session(&session.tenant, &session.user, &session.id)
}

/// Returns whether a session item has the nonce of `session`.
pub(super) fn has_nonce(item: &Attributes, session: &Session) -> bool {
    item.get("nonce") == Some(&string(nonce_text(session.nonce)))
}

/// Condition that a session is live at `:now`.
pub(super) const LIVE: &str =
    "attribute_not_exists(ended_at) AND idle_expires_at > :now AND absolute_expires_at > :now";

/// Returns an update that ends a session. It does not change a session that already ended. `:now` is the time.
pub(super) fn end(now: Timestamp, reuse: bool) -> Expressions {
    let update = "SET ended_at = if_not_exists(ended_at, :now), \
         ended_by_reuse = if_not_exists(ended_by_reuse, :reuse)";
    Expressions::update(update).value(":now", instant(now)).value(":reuse", AttributeValue::Bool(reuse))
}

/// Adds the condition that a session is live and has not been ended by an epoch.
fn when_live(expressions: Expressions, session: &Session, now: Timestamp) -> Expressions {
    expressions
        .when(LIVE)
        .when("user_epoch = :epoch")
        .value(":now", instant(now))
        .value(":epoch", number(session.user_epoch))
}

impl DynamoStore {
    /// Rotates a session's refresh token, if the token has the current generation.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn rotate_session(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure> {
        let full = match self.try_rotation(rotation, &[]).await? {
            Rotated::Kept(session) if is_only_full(&session, rotation) => session,
            rotated => return Ok(rotated),
        };
        let is_over = |generation: &u64| {
            full.refresh_token_state(*generation, rotation.grace, rotation.now) == RefreshTokenState::Reused
        };
        let over: Vec<u64> = full.retired.keys().copied().filter(is_over).collect();
        if over.is_empty() { Ok(Rotated::TooOften) } else { self.try_rotation(rotation, &over).await }
    }

    /// Executes one conditional write. Removes the retirement times of the generations `over`, whose grace period
    /// has ended.
    async fn try_rotation(&self, rotation: &Rotation<'_>, over: &[u64]) -> Result<Rotated, Failure> {
        let update = "SET generation = :next, key_version = :version, rotation_id = :id, refreshed_at = :now, \
                      idle_expires_at = :idle, retired.#generation = :now";
        let removed: Vec<_> = (0..over.len()).map(|index| format!("retired.#over{index}")).collect();
        let expressions = if removed.is_empty() {
            Expressions::update(update).when("size(retired) < :full").value(":full", number(MAX_RETIRED))
        } else {
            Expressions::update(format!("{update} REMOVE {}", removed.join(", ")))
        };
        let names = over.iter().enumerate().map(|(index, over)| (format!("#over{index}"), over.to_string()));
        let expressions = expressions
            .when("generation = :generation AND nonce = :nonce")
            .when(LIVE)
            .names(names)
            .name("#generation", rotation.generation.to_string())
            .value(":next", number(rotation.generation + 1))
            .value(":version", number(rotation.key_version))
            .value(":id", string(rotation.id.to_string()))
            .value(":now", instant(rotation.now))
            .value(":idle", instant(rotation.idle_expires_at))
            .value(":generation", number(rotation.generation))
            .value(":nonce", string(nonce_text(rotation.nonce)))
            .return_new()
            .return_refused();
        let key = Key::session(rotation.tenant, rotation.user, rotation.session);
        match self.update(&key, expressions).await? {
            Updated::Done(item) => to_session(item).map(Rotated::Moved),
            Updated::Refused(None) => Ok(Rotated::Missing),
            Updated::Refused(Some(item)) => {
                let session = to_session(item)?;
                // The SDK repeated a write whose response was lost. The first write succeeded.
                let is_own = session.rotation == Some(rotation.id);
                Ok(if is_own { Rotated::Moved(session) } else { Rotated::Kept(session) })
            }
        }
    }

    /// Ends a session and returns the time of its end. A repeated call returns the time of the first end. Returns
    /// `None` if the path has no such session, or its absolute lifetime is over.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn end_session(&self, request: &EndSession<'_>) -> Result<Option<Timestamp>, Failure> {
        let expressions = end(request.now, request.reuse).when("absolute_expires_at > :now").return_new();
        // The conditions on the path match `Session::is_under`.
        let expressions = match request.path {
            None => expressions,
            Some((Collection::Admin, organization)) => {
                expressions.when("organization_id = :owner").value(":owner", string(organization))
            }
            Some((collection, customer)) => expressions
                .when("customer_id = :owner AND user_type IN (:admin, :collection)")
                .value(":owner", string(customer))
                .value(":admin", string(Collection::Admin.user_type()))
                .value(":collection", string(collection.user_type())),
        };
        match self.update(&Key::session(request.tenant, request.user, request.session), expressions).await? {
            Updated::Done(item) => {
                let ended = to_session(item)?.ended;
                ended.map(|ended| Some(ended.at)).ok_or_else(|| corrupt("ended session"))
            }
            Updated::Refused(_) => Ok(None),
        }
    }

    /// Returns a check that a session is live and has not been ended by an epoch.
    pub(super) fn check_session(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        self.check_write(&key_of(session), when_live(Expressions::default(), session, now))
    }

    /// Returns an update that moves a session to the user's next epoch. The caller's own session stays live this
    /// way when the caller changes its own password or ends its other sessions.
    pub(super) fn keep_session(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let update =
            Expressions::update("SET user_epoch = :next").value(":next", number(session.user_epoch + 1));
        self.update_write(&key_of(session), when_live(update, session, now))
    }
}

/// Returns whether only the full list of retirement times prevented the rotation.
fn is_only_full(session: &Session, rotation: &Rotation<'_>) -> bool {
    session.generation == rotation.generation
        && session.nonce == rotation.nonce
        && session.ended.is_none()
        && !session.is_expired(rotation.now)
        && session.retired.len() >= MAX_RETIRED
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tests::{at, session};

    // docs/design/security.md#rule-14
    #[test]
    fn rotation_waits_only_if_it_has_too_many_retirement_times_and_no_other_obstacle() {
        let generations = 0..u64::try_from(MAX_RETIRED).unwrap();
        let full = Session { retired: generations.map(|number| (number, at(0))).collect(), ..session() };
        let rotation = Rotation {
            tenant: &full.tenant,
            user: &full.user,
            session: &full.id,
            nonce: full.nonce,
            generation: full.generation,
            key_version: 1,
            id: AttemptId::new(at(1), [0; 16]),
            now: at(1),
            idle_expires_at: at(100),
            grace: Duration::from_secs(10),
        };
        assert!(is_only_full(&full, &rotation));
        let mut fewer = full.clone();
        fewer.retired.pop_last();
        for (obstacle, session) in [
            ("no", fewer),
            ("generation", Session { generation: full.generation + 1, ..full.clone() }),
            ("nonce", Session { nonce: Nonce([1; 32]), ..full.clone() }),
            ("end", Session { ended: Some(Ended { at: at(0), reuse: false }), ..full.clone() }),
            ("expiry", Session { idle_expires_at: at(1), ..full.clone() }),
        ] {
            assert!(!is_only_full(&session, &rotation), "{obstacle}");
        }
    }

    proptest! {
        #[test]
        fn a_session_survives_storage(
            generation in any::<u32>(),
            nonce in any::<[u8; 32]>(),
            retired in prop::collection::btree_map(any::<u64>(), 0_i64..4_000_000_000, 0..5),
            ended in prop::option::of((0_i64..4_000_000_000, any::<bool>())),
            platform in prop::option::of("\\PC{0,20}"),
        ) {
            let before = Session {
                generation: generation.into(),
                nonce: Nonce(nonce),
                retired: retired.into_iter().map(|(number, second)| (number, at(second))).collect(),
                rotation: Some(AttemptId::new(at(5), [3; 16])),
                proven_device: ended.map(|_| TrustedDeviceId::from_random([9; 16])),
                ended: ended.map(|(second, reuse)| Ended { at: at(second), reuse }),
                device: Device { platform, ip: Some("2001:db8::1".parse().unwrap()), ..Device::default() },
                ..session()
            };
            let key = Key::session(&before.tenant, &before.user, &before.id);
            let after = to_session(encode(&key, &SessionItem::from(&before)).unwrap()).unwrap();
            prop_assert_eq!(format!("{before:?}"), format!("{after:?}"));
            prop_assert_eq!(before.nonce, after.nonce);
        }
    }
}
