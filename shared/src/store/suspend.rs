//! What operators do to tenants and users as a whole: suspend, disable, delete. Each is one write that
//! moves the epoch of the sessions concerned along, so that they end with it and stay ended
//! (docs/design/security.md#rule-15).

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    attempt::PROOFS_AFTER,
    change::Guard,
    conflict::retried,
    item::{instant, number, string, unavailable},
    keys::{Key, OUTBOX_PREFIX},
    user::built,
};
use crate::{
    domain::{Failure, TenantId, User, UserId},
    port::Committed,
};

/// What became of an operator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// It was done.
    Done,
    /// It was so before.
    Already,
    /// There is nothing of that id.
    Missing,
}

/// A user's messages that one transaction deletes: it holds 100 writes, and the user takes four.
const MESSAGES_AT_ONCE: i32 = 96;
/// How often a user may change while it is deleted.
const DELETE_TRIES: usize = 5;

impl DynamoStore {
    /// Closes a tenant and ends all its sessions: both hold in every function once its record is read
    /// again, within 5 s. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn suspend_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let update = "SET tenant_status = :to, session_epoch = session_epoch + :one ADD version :one";
        let values = [(":to", string("SUSPENDED")), (":one", number(1))];
        self.switch(&Key::tenant(tenant), update, "tenant_status <> :to", &values).await
    }

    /// Opens a suspended tenant again. Its earlier sessions stay ended. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn resume_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let values = [(":to", string("ACTIVE")), (":one", number(1))];
        let update = "SET tenant_status = :to ADD version :one";
        self.switch(&Key::tenant(tenant), update, "tenant_status <> :to", &values).await
    }

    /// Keeps a user from logging in and ends all its sessions, at once. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn disable_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = "SET disabled = :to, session_epoch = session_epoch + :one, \
                      change_sequence = change_sequence + :one, changed_at = :now";
        self.switch_user(tenant, user, update, true, now).await
    }

    /// Lets a disabled user log in again. Its earlier sessions stay ended. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn enable_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = "SET disabled = :to, change_sequence = change_sequence + :one, changed_at = :now";
        self.switch_user(tenant, user, update, false, now).await
    }

    /// Ends all of a user's sessions, at once, also one whose login is under way. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn revoke_sessions(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = "SET session_epoch = session_epoch + :one, change_sequence = change_sequence + :one, \
                      changed_at = :now";
        let values = [(":one", number(1)), (":now", instant(now))];
        self.switch(&Key::user(tenant, user), update, "attribute_exists(session_epoch)", &values).await
    }

    /// Deletes a user with its name, its lockout, its reset code and what waits to be sent to it. Its
    /// sessions end at once, there being no user to them; their items go with their TTL. For operators'
    /// tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer, or the user keeps changing.
    pub async fn delete_user(&self, tenant: &TenantId, user: &UserId) -> Result<Switched, Failure> {
        for _ in 0..DELETE_TRIES {
            let Some(known) = self.read_user(tenant, user).await? else {
                return Ok(Switched::Missing);
            };
            if self.commit_deletion(&known).await? == Committed::Done {
                return Ok(Switched::Done);
            }
        }
        Err(Failure::Unavailable(format!("user {user} keeps changing: try again").into()))
    }

    /// Forgets a user's attempts, of strangers and of every device: its lockout ends, and so does a row of
    /// failures that disabled its password. Its sessions and its password stay. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn unlock_user(&self, tenant: &TenantId, user: &UserId) -> Result<Switched, Failure> {
        // Only a typing error depends on this: attempts at a user that does not exist are kept, too.
        if self.read_user(tenant, user).await?.is_none() {
            return Ok(Switched::Missing);
        }
        let key = Key::attempts(tenant, user);
        let [attempts] = self.read_each([key.clone()]).await?;
        // Proofs that ended with a password stay dead, also where that is changed at this moment: what is
        // known of them is neither removed nor written back.
        let kept = ["pk", "sk", PROOFS_AFTER, "expires_at"];
        let forgotten =
            attempts.unwrap_or_default().into_keys().filter(|name| !kept.contains(&name.as_str()));
        let names: HashMap<_, _> =
            forgotten.enumerate().map(|(number, name)| (format!("#{number}"), name)).collect();
        if names.is_empty() {
            return Ok(Switched::Already);
        }
        let removed: Vec<_> = names.keys().map(String::as_str).collect();
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(key.attributes()))
                .update_expression(format!("REMOVE {}", removed.join(", ")))
                .set_expression_attribute_names(Some(names.clone()))
                .send()
        };
        retried(request).await.map(|_| Switched::Done).map_err(|error| unavailable(&error))
    }

    async fn commit_deletion(&self, user: &User) -> Result<Committed, Failure> {
        let User { tenant, id, username, .. } = user;
        let delete = |key: &Key| Delete::builder().table_name(&self.table).set_key(Some(key.attributes()));
        let write = |delete: Delete| TransactWriteItem::builder().delete(delete).build();
        let record = delete(&Key::user(tenant, id))
            .condition_expression("change_sequence = :sequence")
            .expression_attribute_values(":sequence", number(user.sequence));
        let name = delete(&Key::username(tenant, username))
            .condition_expression("user_id = :user")
            .expression_attribute_values(":user", string(id.as_str()));
        let mut writes = vec![
            (Guard::Target, write(built(record.build())?)),
            (Guard::Target, write(built(name.build())?)),
            (Guard::None, write(built(delete(&Key::attempts(tenant, id)).build())?)),
            (Guard::None, write(built(delete(&Key::code(tenant, id)).build())?)),
        ];
        for message in self.message_keys(tenant, id).await? {
            writes.push((Guard::None, write(built(delete(&message).build())?)));
        }
        self.commit(writes).await
    }

    /// Where the messages are that wait for a user, the oldest first.
    async fn message_keys(&self, tenant: &TenantId, user: &UserId) -> Result<Vec<Key>, Failure> {
        let pk = Key::user(tenant, user).pk;
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :messages)")
            .expression_attribute_values(":pk", string(&pk))
            .expression_attribute_values(":messages", string(OUTBOX_PREFIX))
            .projection_expression("sk")
            .consistent_read(true)
            .limit(MESSAGES_AT_ONCE)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        let sort_keys = answer.items.unwrap_or_default().into_iter().filter_map(|mut item| item.remove("sk"));
        let keys = sort_keys.filter_map(|sk| match sk {
            AttributeValue::S(sk) => Some(Key { pk: pk.clone(), sk }),
            _ => None,
        });
        Ok(keys.collect())
    }

    async fn switch_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        update: &str,
        disabled: bool,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let values = [(":to", AttributeValue::Bool(disabled)), (":one", number(1)), (":now", instant(now))];
        self.switch(&Key::user(tenant, user), update, "disabled <> :to", &values).await
    }

    /// One update of an item that is there, unless it is so already.
    async fn switch(
        &self,
        key: &Key,
        update: &str,
        unless_so: &str,
        values: &[(&str, AttributeValue)],
    ) -> Result<Switched, Failure> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let values: HashMap<_, _> = values.collect();
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(key.attributes()))
                .update_expression(update)
                .condition_expression(format!("attribute_exists(pk) AND {unless_so}"))
                .set_expression_attribute_values(Some(values.clone()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(Switched::Done),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(if refused.item.is_some() { Switched::Already } else { Switched::Missing })
                }
                _ => Err(unavailable(&error)),
            },
        }
    }
}
