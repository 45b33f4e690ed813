//! Sessions, users, attempts and tenants in one DynamoDB table (docs/design/storage.md).
//!
//! One module per item. Reads that decide are consistent; what may happen is a condition of the
//! write itself.

mod anchor;
mod attempt;
mod budget;
mod change;
mod code;
mod conflict;
mod directory;
mod health;
mod item;
mod keys;
mod listing;
mod once;
mod outbox;
mod room;
mod secret_use;
mod session;
mod suspend;
mod template;
mod tenant;
mod user;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use self::keys::Key;
use crate::{
    domain::{
        Failure, LiveSession, PasswordHash, ResetCode, SessionId, Templates, Tenant, TenantId, User, UserId,
        Username, WebOrigin,
    },
    port::{
        AttemptBudget, AttemptKey, CallerItems, CodeIs, CodeTry, Committed, CredentialChange, EndSession,
        Ending, GuardedChange, HourBudget, Inserted, LoginItems, LoginQuery, NewCode, NewSession, OnceKey,
        OutboxItems, OutboxKey, Recovery, RecoveryItems, Reservation, Rotated, Rotation, SessionPage,
        SessionPageQuery, SessionsOf, Store, Verdict,
    },
};

pub use directory::{NewUser, Placed, USERS_AT_ONCE, UserPage, UserPosition};
pub use keys::outbox_key;
pub use secret_use::LastUse;
pub use suspend::Switched;
pub use tenant::{TenantChange, TenantRecord, TenantSummary};

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

    async fn reach(&self) -> Result<(), Failure> {
        self.read_nothing().await
    }

    async fn origin_is_named(&self, origin: &WebOrigin) -> Result<bool, Failure> {
        self.read_origin(origin).await
    }

    async fn note_secret_use(&self, tenant: &TenantId, version: &str, now: Timestamp) -> Result<(), Failure> {
        self.note_use(tenant, version, now).await
    }

    async fn user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure> {
        self.read_user(tenant, user).await
    }

    async fn caller(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        other: Option<&UserId>,
        code: CodeIs<'_>,
    ) -> Result<CallerItems, Failure> {
        self.read_caller(tenant, session, other, code).await
    }

    async fn caller_and_session(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        asked: (&UserId, &SessionId),
    ) -> Result<CallerItems, Failure> {
        self.read_caller_and_session(tenant, session, asked).await
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

    async fn login(&self, query: &LoginQuery<'_>) -> Result<LoginItems, Failure> {
        self.read_login(query).await
    }

    async fn insert_session(&self, new: &NewSession<'_>) -> Result<Inserted, Failure> {
        self.insert(new).await
    }

    async fn rotate_session(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure> {
        self.rotate(rotation).await
    }

    async fn end_session(&self, end: &EndSession<'_>) -> Result<Option<Timestamp>, Failure> {
        self.end(end).await
    }

    async fn count_sessions(&self, of: &SessionsOf<'_>, except: Option<&SessionId>) -> Result<u64, Failure> {
        self.count_live(of, except).await
    }

    async fn live_sessions(&self, of: &SessionsOf<'_>) -> Result<Vec<LiveSession>, Failure> {
        self.read_live(of).await
    }

    async fn session_page(&self, query: &SessionPageQuery<'_>) -> Result<SessionPage, Failure> {
        self.read_page(query).await
    }

    async fn end_sessions(&self, change: &GuardedChange<'_>, ending: Ending) -> Result<Committed, Failure> {
        self.commit_end(change, ending).await
    }

    async fn reset_login(&self, change: &GuardedChange<'_>, code: &NewCode) -> Result<Committed, Failure> {
        self.commit_reset(change, code).await
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

    async fn username_taken(&self, tenant: &TenantId, username: &Username) -> Result<bool, Failure> {
        let [taken] = self.read_each([Key::username(tenant, username)]).await?;
        Ok(taken.is_some())
    }

    async fn recovery(
        &self,
        tenant: &TenantId,
        user: &UserId,
        once: Option<&OnceKey>,
    ) -> Result<RecoveryItems, Failure> {
        self.read_recovery(tenant, user, once).await
    }

    async fn issue_code(
        &self,
        asked_by: Option<&GuardedChange<'_>>,
        code: &NewCode,
    ) -> Result<Committed, Failure> {
        self.commit_code(asked_by, code).await
    }

    async fn reserve_code_try(&self, attempt: &CodeTry<'_>) -> Result<Option<ResetCode>, Failure> {
        self.reserve_try(attempt).await
    }

    async fn release_code_try(&self, attempt: &CodeTry<'_>) -> Result<(), Failure> {
        self.release_try(attempt).await
    }

    async fn take_from_budget(&self, budget: &HourBudget) -> Result<bool, Failure> {
        self.take(budget).await
    }

    async fn return_to_budget(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.give_back(budget).await
    }

    async fn count_against_budget(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.count(budget).await
    }

    async fn recover(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure> {
        self.commit_recovery(recovery).await
    }

    async fn outbox(&self, key: &OutboxKey) -> Result<OutboxItems, Failure> {
        self.read_outbox(key).await
    }

    async fn templates(&self, tenant: &TenantId) -> Result<Option<Templates>, Failure> {
        self.read_templates(tenant).await
    }

    async fn forget_outbox(&self, key: &OutboxKey) -> Result<(), Failure> {
        self.delete_outbox(key).await
    }
}
