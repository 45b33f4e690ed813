//! The session item: insertion, rotation, end.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    operation::{put_item::PutItemError, update_item::UpdateItemError},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    change::Guard,
    conflict::retried,
    item::{
        Attributes, corrupt, decode, encode, instant, number, string, to_instant, ttl_seconds, unavailable,
    },
    keys::Key,
};
use crate::{
    domain::{
        AttemptId, Collection, CustomerId, Device, Ended, Failure, Judgement, Nonce, OrganizationId,
        ProvenDevice, Session, SessionId, TenantId, UserId, judge,
    },
    port::{Committed, EndSession, Inserted, NewSession, Rotated, Rotation},
};

/// Retirement times kept in one item. A client that rotates more often within one grace window is
/// asked to wait: the item stays small, and no retired token is judged without its time.
const MAX_RETIRED: usize = 32;

#[derive(Serialize, Deserialize)]
struct SessionItem {
    tenant_id: TenantId,
    user_id: UserId,
    session_id: SessionId,
    user_type: String,
    organization_id: OrganizationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_id: Option<CustomerId>,
    user_epoch: u64,
    tenant_epoch: u64,
    generation: u64,
    nonce: String,
    key_version: u32,
    retired: BTreeMap<String, i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by_reuse: Option<bool>,
    created_at: i64,
    refreshed_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    /// TTL, in seconds.
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forwarded_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proven_device: Option<String>,
}

impl From<&Session> for SessionItem {
    fn from(session: &Session) -> Self {
        let Session {
            tenant,
            user,
            id,
            collection,
            organization,
            customer,
            user_epoch,
            tenant_epoch,
            generation,
            nonce,
            key_version,
            retired,
            rotation,
            ended,
            created_at,
            refreshed_at,
            idle_expires_at,
            expires_at,
            device: Device { platform, device_id, forwarded_from, user_agent, ip },
            proven_device,
        } = session;
        Self {
            tenant_id: tenant.clone(),
            user_id: user.clone(),
            session_id: id.clone(),
            user_type: collection.user_type().to_owned(),
            organization_id: organization.clone(),
            customer_id: customer.clone(),
            user_epoch: *user_epoch,
            tenant_epoch: *tenant_epoch,
            generation: *generation,
            nonce: nonce_text(*nonce),
            key_version: *key_version,
            retired: retired.iter().map(|(number, at)| (number.to_string(), at.as_millisecond())).collect(),
            rotation_id: rotation.map(|id| id.to_string()),
            ended_at: ended.map(|ended| ended.at.as_millisecond()),
            ended_by_reuse: ended.map(|ended| ended.reuse),
            created_at: created_at.as_millisecond(),
            refreshed_at: refreshed_at.as_millisecond(),
            idle_expires_at: idle_expires_at.as_millisecond(),
            absolute_expires_at: expires_at.as_millisecond(),
            expires_at: ttl_seconds(*expires_at),
            platform: platform.clone(),
            device_id: device_id.clone(),
            forwarded_from: forwarded_from.clone(),
            user_agent: user_agent.clone(),
            client_ip: ip.map(|ip| ip.to_string()),
            proven_device: proven_device.map(|device| device.to_string()),
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
            .map(|device| ProvenDevice::parse(&device).map_err(|_| corrupt("proven device")));
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

pub(super) fn to_session(attributes: Attributes) -> Result<Session, Failure> {
    decode::<SessionItem>(attributes)?.try_into()
}

/// A condition that a session is not over at `:now`.
pub(super) const LIVE: &str =
    "attribute_not_exists(ended_at) AND idle_expires_at > :now AND absolute_expires_at > :now";

/// Ends a session at `:now`; one that has ended stays as it is.
pub(super) const END: &str = "SET ended_at = if_not_exists(ended_at, :now), \
     ended_by_reuse = if_not_exists(ended_by_reuse, :reuse)";

impl DynamoStore {
    /// One write where nothing goes with the session; a transaction where something does.
    pub(super) async fn insert(&self, new: &NewSession<'_>) -> Result<Inserted, Failure> {
        let NewSession { session, room, once } = *new;
        if room.is_none() && once.is_none() {
            return self.put_session(session).await.map(|()| Inserted::Done);
        }
        let key = Key::session(&session.tenant, &session.user, &session.id);
        let mut writes = match once {
            Some(once) => vec![(Guard::Once, self.put_once(once)?)],
            None => Vec::new(),
        };
        writes.push((Guard::None, self.put_new(&key, &SessionItem::from(session))?));
        if let Some(room) = room {
            writes.extend(self.make_room(session, room)?);
        }
        match self.commit(writes).await? {
            Committed::Done => Ok(Inserted::Done),
            Committed::Repeated => Ok(Inserted::Repeated),
            Committed::SessionsChanged => Ok(Inserted::Raced),
            other => Err(Failure::Internal(format!("a new session ended in {other:?}").into())),
        }
    }

    async fn put_session(&self, session: &Session) -> Result<(), Failure> {
        let key = Key::session(&session.tenant, &session.user, &session.id);
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(&key, &SessionItem::from(session))?))
            // A write that was given up on may still arrive, after a logout even: it must not undo it.
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = answer else {
            return Ok(());
        };
        match error.as_service_error() {
            // The SDK repeated a write whose answer was lost: this is our own session.
            Some(PutItemError::ConditionalCheckFailedException(refused))
                if refused.item.as_ref().and_then(|item| item.get("nonce"))
                    == Some(&string(nonce_text(session.nonce))) =>
            {
                Ok(())
            }
            _ => Err(unavailable(&error)),
        }
    }

    pub(super) async fn rotate(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure> {
        let full = match self.try_rotation(rotation, &[]).await? {
            Rotated::Kept(session) if is_only_full(&session, rotation) => session,
            decided => return Ok(decided),
        };
        let over: Vec<u64> = full
            .retired
            .keys()
            .copied()
            .filter(|generation| judge(&full, *generation, rotation.grace, rotation.now) == Judgement::Reused)
            .collect();
        if over.is_empty() { Ok(Rotated::TooOften) } else { self.try_rotation(rotation, &over).await }
    }

    /// One conditional write. `over`: generations whose grace has passed, to make room.
    async fn try_rotation(&self, rotation: &Rotation<'_>, over: &[u64]) -> Result<Rotated, Failure> {
        let mut update =
            "SET generation = :next, key_version = :version, rotation_id = :id, refreshed_at = :now, \
                          idle_expires_at = :idle, retired.#generation = :now"
                .to_owned();
        let mut condition = format!("generation = :generation AND nonce = :nonce AND {LIVE}");
        let mut names = vec![("#generation".to_owned(), rotation.generation.to_string())];
        if over.is_empty() {
            condition.push_str(" AND size(retired) < :full");
        } else {
            let paths: Vec<_> = (0..over.len()).map(|index| format!("retired.#over{index}")).collect();
            update = format!("{update} REMOVE {}", paths.join(", "));
            names.extend(
                over.iter().enumerate().map(|(index, over)| (format!("#over{index}"), over.to_string())),
            );
        }
        let request = || {
            let mut request = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::session(rotation.tenant, rotation.user, rotation.session).attributes()))
                .update_expression(&update)
                .condition_expression(&condition)
                .set_expression_attribute_names(Some(names.iter().cloned().collect()))
                .expression_attribute_values(":next", number(rotation.generation + 1))
                .expression_attribute_values(":version", number(rotation.key_version))
                .expression_attribute_values(":id", string(rotation.id.to_string()))
                .expression_attribute_values(":now", instant(rotation.now))
                .expression_attribute_values(":idle", instant(rotation.idle_expires_at))
                .expression_attribute_values(":generation", number(rotation.generation))
                .expression_attribute_values(":nonce", string(nonce_text(rotation.nonce)))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            if over.is_empty() {
                request = request.expression_attribute_values(":full", number(MAX_RETIRED));
            }
            request.send()
        };
        match retried(request).await {
            Ok(done) => to_session(done.attributes.unwrap_or_default()).map(Rotated::Moved),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => match &refused.item {
                    None => Ok(Rotated::Missing),
                    Some(kept) => {
                        let session = to_session(kept.clone())?;
                        // The SDK repeated a write whose answer was lost: this is our own success.
                        let own = session.rotation == Some(rotation.id);
                        Ok(if own { Rotated::Moved(session) } else { Rotated::Kept(session) })
                    }
                },
                _ => Err(unavailable(&error)),
            },
        }
    }

    pub(super) async fn end(&self, end: &EndSession<'_>) -> Result<Option<Timestamp>, Failure> {
        let mut condition = "absolute_expires_at > :now".to_owned();
        let mut values = vec![(":now", instant(end.now)), (":reuse", AttributeValue::Bool(end.reuse))];
        // The path must fit the session's user: as `Session::is_under` has it.
        match end.path {
            None => {}
            Some((Collection::Admin, organization)) => {
                condition.push_str(" AND organization_id = :owner");
                values.push((":owner", string(organization)));
            }
            Some((collection, customer)) => {
                condition.push_str(" AND customer_id = :owner AND user_type IN (:admin, :collection)");
                values.push((":owner", string(customer)));
                values.push((":admin", string(Collection::Admin.user_type())));
                values.push((":collection", string(collection.user_type())));
            }
        }
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::session(end.tenant, end.user, end.session).attributes()))
                .update_expression(END)
                .condition_expression(&condition)
                .set_expression_attribute_values(Some(
                    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
                ))
                .return_values(ReturnValue::AllNew)
                .send()
        };
        match retried(request).await {
            Ok(done) => {
                let ended = to_session(done.attributes.unwrap_or_default())?.ended;
                ended.map(|ended| Some(ended.at)).ok_or_else(|| corrupt("ended session"))
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// Whether nothing but a full list of retirements stood in the way.
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
                proven_device: ended.map(|_| ProvenDevice::from_random([9; 16])),
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
