//! A user's newest reset code and its tries (docs/design/security.md#rule-19).
//!
//! One code item per user and purpose: a new code takes the place of the one before, on condition
//! that this is still the one that was read. A used code stays, marked, until its end: whoever
//! submits the same form twice is told of the first success again.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{
        AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    change::{Draft, Guard, Guarded},
    conflict::{only_refused, retried},
    item::{
        Attributes, corrupt, decode, encode, id_set, instant, number, string, to_instant, ttl_seconds,
        unavailable,
    },
    keys::Key,
    once::to_once,
    user::{built, to_user},
};
use crate::{
    domain::{
        AttemptId, CODE_WINDOW, CodeKind, CodeProof, Failure, MAX_CODE_TRIES, ResetCode, TenantId, UserId,
    },
    port::{CodeTry, Committed, GuardedChange, NewCode, OnceKey, Recovery, RecoveryItems},
};

#[derive(Serialize, Deserialize)]
struct CodeItem {
    code_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code_kind: Option<KindName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
    ends_at: i64,
    sent_at: Vec<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent_by: Option<String>,
    /// TTL, in seconds.
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum KindName {
    Link,
    Typed,
}

impl From<&ResetCode> for CodeItem {
    fn from(code: &ResetCode) -> Self {
        let ResetCode { id, proof, ends_at, sent, spent } = code;
        // What was sent counts for its hour, whatever the code's own life.
        let counted = sent.iter().filter_map(|at| at.checked_add(CODE_WINDOW).ok()).max();
        Self {
            code_id: id.to_string(),
            code_kind: proof.as_ref().map(|proof| match proof.kind {
                CodeKind::Link => KindName::Link,
                CodeKind::Typed => KindName::Typed,
            }),
            digest: proof.as_ref().map(|proof| proof.digest.clone()),
            key_version: proof.as_ref().map(|proof| proof.key_version),
            ends_at: ends_at.as_millisecond(),
            sent_at: sent.iter().map(|at| at.as_millisecond()).collect(),
            spent_by: spent.clone(),
            expires_at: ttl_seconds(counted.map_or(*ends_at, |counted| counted.max(*ends_at))),
        }
    }
}

impl TryFrom<CodeItem> for ResetCode {
    type Error = Failure;

    fn try_from(item: CodeItem) -> Result<Self, Failure> {
        let proof = match (item.code_kind, item.digest, item.key_version) {
            (Some(kind), Some(digest), Some(key_version)) => {
                let kind = match kind {
                    KindName::Link => CodeKind::Link,
                    KindName::Typed => CodeKind::Typed,
                };
                Some(CodeProof { kind, digest, key_version })
            }
            _ => None,
        };
        Ok(Self {
            id: AttemptId::parse(&item.code_id).map_err(|_| corrupt("code id"))?,
            proof,
            ends_at: to_instant(item.ends_at)?,
            sent: item.sent_at.into_iter().map(to_instant).collect::<Result<_, _>>()?,
            spent: item.spent_by,
        })
    }
}

pub(super) fn to_code(attributes: Attributes) -> Result<ResetCode, Failure> {
    decode::<CodeItem>(attributes)?.try_into()
}

impl DynamoStore {
    pub(super) async fn read_recovery(
        &self,
        tenant: &TenantId,
        user: &UserId,
        once: Option<&OnceKey>,
    ) -> Result<RecoveryItems, Failure> {
        let mut keys = vec![Key::user(tenant, user), Key::code(tenant, user)];
        keys.extend(once.map(Key::once));
        let mut items = self.read_all(&keys).await?.into_iter();
        let mut next = || items.next().flatten();
        Ok(RecoveryItems {
            user: next().map(to_user).transpose()?,
            code: next().map(to_code).transpose()?,
            once: next().map(to_once).transpose()?,
        })
    }

    pub(super) async fn commit_code(
        &self,
        asked_by: Option<&GuardedChange<'_>>,
        code: &NewCode,
    ) -> Result<Committed, Failure> {
        let mut writes = self.put_code(code)?;
        if let Some(asked_by) = asked_by {
            writes.extend(self.check_caller(asked_by)?);
        }
        self.commit(writes).await
    }

    /// The code in the place of the one before, its message, and what remembers the request for it.
    pub(super) fn put_code(&self, new: &NewCode) -> Result<Vec<Guarded>, Failure> {
        let NewCode { tenant, user, replaces, code, message, once } = new;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(encode(&Key::code(tenant, user), &CodeItem::from(code))?));
        let put = match replaces {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(before) => put
                .condition_expression("code_id = :before")
                .expression_attribute_values(":before", string(before.to_string())),
        };
        let mut writes = vec![(Guard::Code, TransactWriteItem::builder().put(built(put.build())?).build())];
        if let Some(message) = message {
            writes.push((Guard::None, self.put_outbox(message)?));
        }
        if let Some(once) = once {
            writes.push((Guard::Once, self.put_once(once)?));
        }
        Ok(writes)
    }

    /// A code asked for before a change of password must not undo it. What was sent within the hour
    /// still counts.
    pub(super) fn void_code(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let nobodys = AttemptId::new(now, [0; 16]);
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::code(tenant, user).attributes()))
            .update_expression(
                "SET code_id = if_not_exists(code_id, :id), ends_at = if_not_exists(ends_at, :now), \
                 sent_at = if_not_exists(sent_at, :none), expires_at = if_not_exists(expires_at, :ttl) \
                 REMOVE digest, code_kind, key_version, tries",
            )
            .expression_attribute_values(":id", string(nobodys.to_string()))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":ttl", number(ttl_seconds(now)))
            .build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }

    pub(super) async fn reserve_try(&self, attempt: &CodeTry<'_>) -> Result<Option<ResetCode>, Failure> {
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::code(attempt.tenant, attempt.user).attributes()))
                .update_expression("ADD tries :id")
                .condition_expression(
                    "attribute_exists(digest) AND code_kind = :typed AND ends_at > :now AND \
                     attribute_not_exists(spent_by) AND \
                     (attribute_not_exists(tries) OR size(tries) < :max)",
                )
                .expression_attribute_values(":id", id_set([attempt.id]))
                .expression_attribute_values(":typed", string("TYPED"))
                .expression_attribute_values(":now", instant(attempt.now))
                .expression_attribute_values(":max", number(MAX_CODE_TRIES))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        };
        match retried(request).await {
            Ok(done) => Ok(Some(to_code(done.attributes.unwrap_or_default())?)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let Some(kept) = refused.item.clone() else {
                        return Ok(None);
                    };
                    // The SDK repeated a write whose answer was lost: the try is ours. A spent code is
                    // passed on: it opens nothing, but a form sent twice is known by it.
                    let ours = tries(&kept).contains(&attempt.id.to_string());
                    let spent = kept.contains_key("spent_by");
                    if ours || spent { to_code(kept).map(Some) } else { Ok(None) }
                }
                _ => Err(unavailable(&error)),
            },
        }
    }

    pub(super) async fn release_try(&self, attempt: &CodeTry<'_>) -> Result<(), Failure> {
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::code(attempt.tenant, attempt.user).attributes()))
                .update_expression("DELETE tries :ids")
                .condition_expression("contains(tries, :id)")
                .expression_attribute_values(":ids", id_set([attempt.id]))
                .expression_attribute_values(":id", string(attempt.id.to_string()))
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(()),
            Err(error) => only_refused(&error),
        }
    }

    pub(super) async fn commit_recovery(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure> {
        let Recovery { user, code, submission, password, history, message, now } = recovery;
        let mut draft = Draft::default();
        draft.set_password(password, history);
        draft.set("change_required = :required", ":required", AttributeValue::Bool(false));
        let spend = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::code(&user.tenant, &user.id).attributes()))
            .update_expression("SET spent_by = :submission")
            .condition_expression("code_id = :code AND attribute_not_exists(spent_by) AND ends_at > :now")
            .expression_attribute_values(":submission", string(*submission))
            .expression_attribute_values(":code", string(code.id.to_string()))
            .expression_attribute_values(":now", instant(*now))
            .build();
        self.commit(vec![
            (Guard::Code, TransactWriteItem::builder().update(built(spend)?).build()),
            (Guard::Target, self.user_update(user, draft, *now)?),
            (Guard::None, self.forget_attempts(&user.tenant, &user.id, *now)?),
            (Guard::None, self.put_outbox(message)?),
        ])
        .await
    }
}

fn tries(item: &Attributes) -> BTreeSet<String> {
    match item.get("tries") {
        Some(AttributeValue::Ss(ids)) => ids.iter().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_storage() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let proof = CodeProof { kind: CodeKind::Typed, digest: "digest".into(), key_version: 3 };
        for (proof, spent) in [(Some(proof), None), (None, Some(String::new()))] {
            let code = ResetCode {
                id: AttemptId::new(at(5), [7; 16]),
                proof,
                ends_at: at(60),
                sent: vec![at(1), at(5)],
                spent,
            };
            let item = CodeItem::from(&code);
            assert_eq!(item.expires_at, 3_606, "until nothing counts any more");
            assert_eq!(ResetCode::try_from(item).unwrap(), code);
        }
    }
}
