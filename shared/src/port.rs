//! What use cases need from outside: time, randomness, storage, secrets, hashing. `store`,
//! `secrets` and `password` implement these; tests put their own in.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::domain::{
    AttemptId, Collection, Failure, HashCost, Nonce, Password, PasswordHash, Session, SessionId, Tenant,
    TenantId, User, UserId, Username,
};

/// The time. Asked once per request and passed down.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// `Failure::Internal` when the system gives none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure>;
}

/// `N` random bytes.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// Slow hashing, off the async threads and bounded by memory (security 11).
#[async_trait]
pub trait Passwords: Send + Sync {
    /// Whether `password` is the one hashed; without a hash, the same work and `false`
    /// (security 9).
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        cost: HashCost,
    ) -> Result<bool, Failure>;

    /// Hashes a new password.
    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure>;

    /// Whether `hash` is as [`Self::hash`] makes them now at `cost`; costs nothing.
    fn is_current(&self, hash: &PasswordHash, cost: HashCost) -> bool;
}

/// Where tenants' secret documents come from.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The tenant's secret; `None` when it has none.
    ///
    /// # Errors
    /// `Unavailable` when any part of it could not be read: half an answer would look as if the rest
    /// were retired.
    async fn secret(&self, tenant: &TenantId) -> Result<Option<TenantSecret>, Failure>;
}

/// The texts of a tenant's secret documents, unread.
#[derive(Debug, Clone)]
pub struct TenantSecret {
    /// The current one: opens, verifies and signs.
    pub current: SecretString,
    /// The previous one, while it is not retired: opens and verifies.
    pub previous: Option<SecretString>,
}

/// Sessions, users, attempts and tenants. Each method is one decision of the store: what may
/// happen is part of the write, never of a read before it.
#[async_trait]
pub trait Store: Send + Sync {
    /// A tenant's record.
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure>;

    /// A user, read consistently.
    async fn user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure>;

    /// A caller's session and user, and another user, in one consistent read.
    async fn caller(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        other: Option<&UserId>,
    ) -> Result<CallerItems, Failure>;

    /// Takes one of the user's places to guess a password (storage, "Attempts").
    async fn reserve_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure>;

    /// Says how a reserved attempt ended.
    async fn settle_attempt(&self, attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Result<(), Failure>;

    /// Keeps a new session.
    async fn insert_session(&self, session: &Session) -> Result<(), Failure>;

    /// Moves a session to its next generation if its current one was presented.
    async fn rotate_session(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure>;

    /// Ends a session, once: repeated, it answers with the first end. `None` when there is no such
    /// session for that path, or it is past its absolute life.
    async fn end_session(&self, end: &EndSession<'_>) -> Result<Option<Timestamp>, Failure>;

    /// How many of the user's sessions are live under its present epoch, leaving out `except`.
    async fn live_sessions(
        &self,
        user: &User,
        tenant_epoch: u64,
        except: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<u64, Failure>;

    /// Ends the user's sessions, bars its password and clears its lockout, all or nothing.
    async fn reset_login(&self, change: &GuardedChange<'_>) -> Result<Committed, Failure>;

    /// Keeps another hash of the password that `user` had when it was read, unless that was replaced
    /// since. Nothing else about the user changes: no session ends by it.
    async fn rehash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure>;

    /// Changes a user's password, name or flags, all or nothing.
    async fn update_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure>;
}

/// What [`Store::caller`] found.
#[derive(Debug)]
pub struct CallerItems {
    /// The caller's session.
    pub session: Option<Session>,
    /// The caller.
    pub user: Option<User>,
    /// The other user that was asked for, unless it is the caller.
    pub other: Option<User>,
}

/// One attempt at one user's password.
#[derive(Debug, Clone, Copy)]
pub struct AttemptKey<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user tried, whether it exists or not.
    pub user: &'a UserId,
    /// The attempt.
    pub id: AttemptId,
}

/// How many attempts a user has.
#[derive(Debug, Clone, Copy)]
pub struct AttemptBudget {
    /// Places at once, and failures until a lockout.
    pub max: usize,
    /// Length of a lockout in milliseconds, and of the quiet after which failures are forgotten.
    pub lockout_millis: i64,
}

/// What a request for a place got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// A place. These attempts had failed, or died, before it: success forgives them.
    Granted(Vec<AttemptId>),
    /// None: so many failed that the user is locked until then.
    Locked(Timestamp),
    /// None just now: others are still being verified.
    Busy,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// Wrong password.
    Failed,
    /// Right: it leaves no trace, and forgives the failures that its reservation saw.
    Succeeded(&'a [AttemptId]),
}

/// One try to move a session on.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// The session as its refresh token names it.
    pub tenant: &'a TenantId,
    /// Its user.
    pub user: &'a UserId,
    /// Its id.
    pub session: &'a SessionId,
    /// The nonce in the authentic token.
    pub nonce: Nonce,
    /// The generation presented.
    pub generation: u64,
    /// Root key version that the successor is made with.
    pub key_version: u32,
    /// This try, so that a repeated write recognises itself.
    pub id: AttemptId,
    /// Now.
    pub now: Timestamp,
    /// End of the idle life if it succeeds.
    pub idle_expires_at: Timestamp,
    /// How long the retired generation still answers.
    pub grace: Duration,
}

/// What became of a rotation.
#[derive(Debug)]
pub enum Rotated {
    /// It was done; the session after it.
    Moved(Session),
    /// It was not; the session as it is.
    Kept(Session),
    /// There is no such session.
    Missing,
    /// So many rotations within one grace window that the item is full.
    TooOften,
}

/// A session to end.
#[derive(Debug, Clone, Copy)]
pub struct EndSession<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user in the path.
    pub user: &'a UserId,
    /// The session in the path.
    pub session: &'a SessionId,
    /// The collection and its owner in the path, which the session must fit; `None`: whatever it is.
    pub path: Option<(Collection, &'a str)>,
    /// Whether it ends because a retired refresh token was presented.
    pub reuse: bool,
    /// Now.
    pub now: Timestamp,
}

/// A change to a user, done only while what allowed it still holds.
#[derive(Debug, Clone, Copy)]
pub struct GuardedChange<'a> {
    /// The caller's session, which must still be live.
    pub caller_session: &'a Session,
    /// The caller, whose epoch must still be the same.
    pub caller: &'a User,
    /// The user to change, as it was read: the caller itself, or another, which must still be of the
    /// same organization.
    pub target: &'a User,
    /// Now.
    pub now: Timestamp,
}

impl GuardedChange<'_> {
    /// Whether the caller changes itself.
    pub fn is_own(&self) -> bool {
        self.caller.id == self.target.id
    }
}

/// What to change of a user's credentials.
#[derive(Debug, Default)]
pub struct CredentialChange {
    /// New password: ends the user's sessions, but for the caller's own.
    pub password: Option<PasswordHash>,
    /// The predecessors to keep of that password ([`User::history_after_change`]); read only with it.
    pub history: Vec<PasswordHash>,
    /// New name.
    pub username: Option<Username>,
    /// Whether the password must be changed at the next login.
    pub change_required: Option<bool>,
}

/// What became of a guarded change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It was done.
    Done,
    /// The caller's session ended, or its epoch moved on, before it could be done.
    CallerGone,
    /// The target changed or vanished before it could be done.
    TargetChanged,
    /// Another user of the tenant has that name.
    UsernameTaken,
}
