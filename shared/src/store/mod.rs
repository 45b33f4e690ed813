//! Sessions, users, attempts and tenants in one DynamoDB table (storage).
//!
//! One module per item. Reads that decide are consistent; what may happen is a condition of the
//! write itself.

mod attempt;
mod change;
mod conflict;
mod item;
mod keys;
mod session;
mod tenant;
mod user;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use crate::{
    domain::{Failure, PasswordHash, Session, SessionId, Tenant, TenantId, User, UserId},
    port::{
        AttemptBudget, AttemptKey, CallerItems, Committed, CredentialChange, EndSession, GuardedChange,
        Reservation, Rotated, Rotation, Store, Verdict,
    },
};

/// The table.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    client: Client,
    table: String,
}

impl DynamoStore {
    /// A store in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.read_tenant(tenant).await
    }

    async fn user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure> {
        self.read_user(tenant, user).await
    }

    async fn caller(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        other: Option<&UserId>,
    ) -> Result<CallerItems, Failure> {
        self.read_caller(tenant, session, other).await
    }

    async fn reserve_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        self.reserve(attempt, budget, now).await
    }

    async fn settle_attempt(&self, attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Result<(), Failure> {
        self.settle(attempt, verdict).await
    }

    async fn insert_session(&self, session: &Session) -> Result<(), Failure> {
        self.put_session(session).await
    }

    async fn rotate_session(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure> {
        self.rotate(rotation).await
    }

    async fn end_session(&self, end: &EndSession<'_>) -> Result<Option<Timestamp>, Failure> {
        self.end(end).await
    }

    async fn live_sessions(
        &self,
        user: &User,
        tenant_epoch: u64,
        except: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<u64, Failure> {
        self.count_live(user, tenant_epoch, except, now).await
    }

    async fn reset_login(&self, change: &GuardedChange<'_>) -> Result<Committed, Failure> {
        self.commit_reset(change).await
    }

    async fn rehash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure> {
        self.replace_hash(user, hash).await
    }

    async fn update_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure> {
        self.commit_credentials(change, credentials).await
    }
}
