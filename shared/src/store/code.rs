//! A user's newest code of each purpose, and its attempts (docs/design/security.md#rule-19).
//!
//! Each user has one code item per purpose. A new code replaces the previous one, on the condition that the previous
//! one has not changed since it was read. A used code stays in the item until it expires, so that a form that is
//! submitted twice gets the first result again.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    idempotency::NewStoredResult,
    item::{
        Attributes, corrupt, decode, encode, id_set, instant, number, string, to_id_set, to_instant,
        ttl_seconds,
    },
    keys::Key,
    outbox::Sealed,
    table::{Expressions, Updated},
    transaction::{Guard, Guarded},
};
use crate::domain::{
    AttemptId, CODE_WINDOW, CodeKind, CodeProof, CodePurpose, Failure, MAX_CODE_TRIES, ResetCode, TenantId,
    User, UserId,
};

/// Code to store, with the message that contains it.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// Tenant.
    pub tenant: TenantId,
    /// User ID of the code. The user may not exist.
    pub user: UserId,
    /// Purpose of the code.
    pub purpose: CodePurpose,
    /// ID of the previous code of this purpose, which must still be the newest code.
    pub replaces: Option<AttemptId>,
    /// The code.
    pub code: ResetCode,
    /// Message with the code. `None` if the code is not sent.
    pub message: Option<Sealed>,
    /// Result to store for the request's idempotency key.
    pub result: Option<NewStoredResult>,
}

/// Attempt at a typed code.
#[derive(Debug, Clone, Copy)]
pub struct CodeTry<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User ID. The user may not exist.
    pub user: &'a UserId,
    /// Purpose of the code.
    pub purpose: CodePurpose,
    /// ID of the attempt.
    pub id: AttemptId,
    /// Current time.
    pub now: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct CodeItem {
    code_id: String,
    code_kind: Option<CodeKind>,
    digest: Option<String>,
    key_version: Option<u32>,
    ends_at: i64,
    sent_at: Vec<i64>,
    spent_by: Option<String>,
    /// TTL, in seconds.
    expires_at: i64,
}

impl From<&ResetCode> for CodeItem {
    fn from(code: &ResetCode) -> Self {
        let ResetCode { id, proof, ends_at, sent, spent } = code;
        // The times at which codes were sent count for one hour, also after the code expires.
        let counted = sent.iter().filter_map(|at| at.checked_add(CODE_WINDOW).ok()).max();
        Self {
            code_id: id.to_string(),
            code_kind: proof.as_ref().map(|proof| proof.kind),
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
            (Some(kind), Some(digest), Some(key_version)) => Some(CodeProof { kind, digest, key_version }),
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

/// Decodes a code item.
pub(super) fn to_code(attributes: Attributes) -> Result<ResetCode, Failure> {
    decode::<CodeItem>(attributes)?.try_into()
}

impl DynamoStore {
    /// Reads the newest code of a user for a purpose. It may be used or expired.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn code(
        &self,
        tenant: &TenantId,
        user: &UserId,
        purpose: CodePurpose,
    ) -> Result<Option<ResetCode>, Failure> {
        let [code] = self.read_each([Some(Key::code(tenant, user, purpose))]).await?;
        code.map(to_code).transpose()
    }

    /// Returns writes that replace the code, queue its message and store the result of the idempotency key.
    pub(super) fn put_code(&self, new: &NewCode) -> Result<Vec<Guarded>, Failure> {
        let NewCode { tenant, user, purpose, replaces, code, message, result } = new;
        let item = encode(&Key::code(tenant, user, *purpose), &CodeItem::from(code))?;
        let condition = match replaces {
            None => Expressions::absent(),
            Some(before) => {
                Expressions::condition("code_id = :before").value(":before", string(before.to_string()))
            }
        };
        let mut writes = vec![(Guard::Code, self.put_write(item, condition)?)];
        if let Some(message) = message {
            writes.push((Guard::None, self.put_outbox(message)?));
        }
        if let Some(result) = result {
            writes.push((Guard::IdempotencyKey, self.put_result(result)?));
        }
        Ok(writes)
    }

    /// Returns an update that invalidates a code of the user, because a code from before a password change must not undo
    /// the change, and a code for an address must not verify another one. Keeps the times at which codes were sent, because they count for one hour.
    pub(super) fn void_code(
        &self,
        tenant: &TenantId,
        user: &UserId,
        purpose: CodePurpose,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let unused_id = AttemptId::new(now, [0; 16]);
        let update = Expressions::update(
            "SET code_id = if_not_exists(code_id, :id), ends_at = if_not_exists(ends_at, :now), \
             sent_at = if_not_exists(sent_at, :none), expires_at = if_not_exists(expires_at, :ttl) \
             REMOVE digest, code_kind, key_version, tries",
        )
        .value(":id", string(unused_id.to_string()))
        .value(":now", instant(now))
        .value(":none", AttributeValue::L(Vec::new()))
        .value(":ttl", number(ttl_seconds(now)));
        self.update_write(&Key::code(tenant, user, purpose), update)
    }

    /// Returns an update that marks a code as used by `submission`. The digest identifies the code, because an
    /// invalidated code keeps its ID and loses its digest ([`Self::void_code`]).
    pub(super) fn spend_code(
        &self,
        user: &User,
        purpose: CodePurpose,
        proof: &CodeProof,
        submission: &str,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let update = Expressions::update("SET spent_by = :submission")
            .when("digest = :digest AND attribute_not_exists(spent_by) AND ends_at > :now")
            .value(":submission", string(submission))
            .value(":digest", string(proof.digest.as_str()))
            .value(":now", instant(now));
        self.update_write(&Key::code(&user.tenant, &user.id, purpose), update)
    }

    /// Reserves one attempt at a typed code and returns the code. Returns `None` if there is no valid code or all
    /// attempts are used.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn reserve_code_try(&self, attempt: &CodeTry<'_>) -> Result<Option<ResetCode>, Failure> {
        let update = Expressions::update("ADD tries :id")
            .when(
                "attribute_exists(digest) AND code_kind = :typed AND ends_at > :now AND \
                 attribute_not_exists(spent_by) AND \
                 (attribute_not_exists(tries) OR size(tries) < :max)",
            )
            .value(":id", id_set([attempt.id]))
            .value(":typed", string("TYPED"))
            .value(":now", instant(attempt.now))
            .value(":max", number(MAX_CODE_TRIES))
            .return_new()
            .return_refused();
        match self.update(&Key::code(attempt.tenant, attempt.user, attempt.purpose), update).await? {
            Updated::Done(item) => Ok(Some(to_code(item)?)),
            Updated::Refused(None) => Ok(None),
            Updated::Refused(Some(item)) => {
                // The attempt is in the item if the SDK repeated a write whose response was lost. A used code is
                // returned too: it grants nothing, but identifies a form that is submitted twice.
                let is_own = to_id_set(&item, "tries")?.contains(&attempt.id);
                if is_own || item.contains_key("spent_by") { to_code(item).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Releases an attempt, because the code was correct.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn release_code_try(&self, attempt: &CodeTry<'_>) -> Result<(), Failure> {
        let update = Expressions::update("DELETE tries :ids")
            .when("contains(tries, :id)")
            .value(":ids", id_set([attempt.id]))
            .value(":id", string(attempt.id.to_string()));
        self.update(&Key::code(attempt.tenant, attempt.user, attempt.purpose), update).await.map(|_| ())
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
