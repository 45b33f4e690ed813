//! What use cases need from outside: time, randomness, storage, secrets, hashing. `store`,
//! `secrets` and `password` implement these; tests put their own in.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    audit::{Anchor, ChainId, Head, Partition},
    domain::{
        AttemptId, Collection, Failure, HashCost, KnownDevice, Limit, LiveSession, Nonce, Password,
        PasswordHash, ResetCode, Session, SessionId, Templates, Tenant, TenantId, User, UserDetails, UserId,
        Username, WebOrigin,
    },
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

/// Slow hashing, off the async threads and bounded by memory (docs/design/security.md#rule-11).
#[async_trait]
pub trait Passwords: Send + Sync {
    /// Whether `password` is the one hashed; without a hash, the same work and `false`
    /// (docs/design/security.md#rule-9).
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

/// A tenant's secret documents, unread.
#[derive(Debug, Clone)]
pub struct TenantSecret {
    /// The current one: opens, verifies and signs.
    pub current: SecretVersion,
    /// The previous one, while it is not retired: opens and verifies.
    pub previous: Option<SecretVersion>,
}

/// One version of a tenant's secret.
#[derive(Debug, Clone)]
pub struct SecretVersion {
    /// Its id, by which operators know it.
    pub id: String,
    /// Its text.
    pub text: SecretString,
}

/// What carries messages to people, and events to tenants' buses.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Sends a mail.
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), CourierError>;

    /// Sends `text` to a telephone number (E.164).
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_text(&self, number: &str, text: &str) -> Result<(), CourierError>;

    /// Puts an event on a tenant's bus.
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_event(&self, event: &BusEvent<'_>) -> Result<(), CourierError>;
}

/// A mail to one address. No `Debug`: it may hold a code.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Sender: an address, or a name and an address (RFC 5322, section 3.4).
    pub from: &'a str,
    /// The one recipient's address.
    pub to: &'a str,
    /// Subject: one line.
    pub subject: &'a str,
    /// Its plain text.
    pub text: &'a str,
    /// The same as HTML.
    pub html: Option<&'a str>,
}

/// An event for a tenant that sends its messages itself. No `Debug`: it may hold a code.
#[derive(Clone, Copy)]
pub struct BusEvent<'a> {
    /// Name or ARN of the bus.
    pub bus: &'a str,
    /// What happened: EventBridge's `detail-type`.
    pub detail_type: &'a str,
    /// The particulars, a JSON object.
    pub detail: &'a str,
}

/// Why a message was not taken. Neither holds its address or content: both are logged.
#[derive(Debug)]
pub enum CourierError {
    /// It never will be, for that reason.
    Refused(String),
    /// Another try may succeed.
    Failed(Failure),
}

/// Sessions, users, attempts and tenants. Each method is one decision of the store: what may
/// happen is part of the write, never of a read before it.
#[async_trait]
pub trait Store: Send + Sync {
    /// A tenant's record.
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure>;

    /// Whether storage answers at all; what it holds does not matter.
    async fn reach(&self) -> Result<(), Failure>;

    /// Whether any tenant names an origin as one whose pages may call.
    async fn origin_is_named(&self, origin: &WebOrigin) -> Result<bool, Failure>;

    /// Notes that a version of the tenant's secret was used, if that was not noted within the minute.
    async fn note_secret_use(&self, tenant: &TenantId, version: &str, now: Timestamp) -> Result<(), Failure>;

    /// A user, read consistently.
    async fn user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure>;

    /// A caller's session and user, and another user, in one consistent read; with that other user's
    /// (or the caller's own) newest code where it is wanted.
    async fn caller(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        other: Option<&UserId>,
        code: CodeIs<'_>,
    ) -> Result<CallerItems, Failure>;

    /// A caller's session and user, and a session that is asked for with its user, in one consistent
    /// read.
    async fn caller_and_session(
        &self,
        tenant: &TenantId,
        session: (&UserId, &SessionId),
        asked: (&UserId, &SessionId),
    ) -> Result<CallerItems, Failure>;

    /// Takes one of the user's places to guess a password (docs/design/storage.md#attempts).
    async fn reserve_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure>;

    /// Says how a reserved attempt ended.
    async fn settle_attempt(&self, attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Result<(), Failure>;

    /// What judging a login takes, in one consistent read.
    async fn login(&self, query: &LoginQuery<'_>) -> Result<LoginItems, Failure>;

    /// Keeps a new session, with what makes room for it and the key that it is remembered by, all or
    /// nothing.
    async fn insert_session(&self, new: &NewSession<'_>) -> Result<Inserted, Failure>;

    /// Moves a session to its next generation if its current one was presented.
    async fn rotate_session(&self, rotation: &Rotation<'_>) -> Result<Rotated, Failure>;

    /// Ends a session, once: repeated, it answers with the first end. `None` when there is no such
    /// session for that path, or it is past its absolute life.
    async fn end_session(&self, end: &EndSession<'_>) -> Result<Option<Timestamp>, Failure>;

    /// How many of a user's sessions are live, leaving out `except`.
    async fn count_sessions(&self, of: &SessionsOf<'_>, except: Option<&SessionId>) -> Result<u64, Failure>;

    /// A user's live sessions, in no order.
    async fn live_sessions(&self, of: &SessionsOf<'_>) -> Result<Vec<LiveSession>, Failure>;

    /// Some of a user's live sessions, in the order of their ids: over all pages each that lives
    /// throughout is there once.
    async fn session_page(&self, query: &SessionPageQuery<'_>) -> Result<SessionPage, Failure>;

    /// Ends a user's sessions by one step of its epoch.
    async fn end_sessions(&self, change: &GuardedChange<'_>, ending: Ending) -> Result<Committed, Failure>;

    /// Ends the user's sessions, bars its password, clears its lockout and issues a code, all or
    /// nothing.
    async fn reset_login(&self, change: &GuardedChange<'_>, code: &NewCode) -> Result<Committed, Failure>;

    /// Keeps another hash of the password that `user` had when it was read, unless that was replaced
    /// since. Nothing else about the user changes: no session ends by it.
    async fn rehash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure>;

    /// Changes a user's password, name or flags, all or nothing.
    async fn update_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure>;

    /// Whether a user of the tenant has that name.
    async fn username_taken(&self, tenant: &TenantId, username: &Username) -> Result<bool, Failure>;

    /// A user and its newest code, read consistently; with what the request's key remembers, where it
    /// has one.
    async fn recovery(
        &self,
        tenant: &TenantId,
        user: &UserId,
        once: Option<&OnceKey>,
    ) -> Result<RecoveryItems, Failure>;

    /// Keeps a new code in the place of the one before, and queues its message, all or nothing;
    /// while the caller, if it is not the tenant itself, may still ask.
    async fn issue_code(
        &self,
        asked_by: Option<&GuardedChange<'_>>,
        code: &NewCode,
    ) -> Result<Committed, Failure>;

    /// Takes one of a typed code's tries: the code as it is then, or `None` when there is none that
    /// lives.
    async fn reserve_code_try(&self, attempt: &CodeTry<'_>) -> Result<Option<ResetCode>, Failure>;

    /// Gives a try back: the code was right.
    async fn release_code_try(&self, attempt: &CodeTry<'_>) -> Result<(), Failure>;

    /// Takes one of an hour's budget; `false` when it is used up.
    async fn take_from_budget(&self, budget: &HourBudget) -> Result<bool, Failure>;

    /// Gives back what was taken: nothing was wrong.
    async fn return_to_budget(&self, budget: &HourBudget) -> Result<(), Failure>;

    /// Counts what was wrong and not taken before, also above the budget.
    async fn count_against_budget(&self, budget: &HourBudget) -> Result<(), Failure>;

    /// Sets a password by a code and uses that up, all or nothing: sessions end, the lockout and a
    /// login reset with them.
    async fn recover(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure>;

    /// A message, whom it is for and that user's newest code, in one consistent read.
    async fn outbox(&self, key: &OutboxKey) -> Result<OutboxItems, Failure>;

    /// The tenant's own words for its messages; `None` when it has none.
    async fn templates(&self, tenant: &TenantId) -> Result<Option<Templates>, Failure>;

    /// Takes a message out of the outbox, if it is still there.
    async fn forget_outbox(&self, key: &OutboxKey) -> Result<(), Failure>;
}

/// Where the heads of the audit log's chains are kept.
#[async_trait]
pub trait Anchors: Send + Sync {
    /// Keeps a chain's head, unless a later one is kept already.
    async fn anchor(&self, head: &Head) -> Result<Anchored, Failure>;

    /// Notes that an event of a chain was altered, unless that was noted before.
    async fn mark_broken(&self, partition: &Partition, chain: ChainId, now: Timestamp)
    -> Result<(), Failure>;

    /// All that is kept of a tenant's chains of one day.
    async fn anchors(&self, partition: &Partition) -> Result<Vec<Anchor>, Failure>;

    /// Every tenant that there is, whether it left an event or not.
    async fn tenant_ids(&self) -> Result<Vec<TenantId>, Failure>;
}

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// It is kept.
    Kept,
    /// It was known, or a later one is.
    Known,
    /// Another event is kept in its place: there are two.
    Forked,
}

/// A login, before it is judged.
#[derive(Debug, Clone, Copy)]
pub struct LoginQuery<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user tried, whether it exists or not.
    pub user: &'a UserId,
    /// The key that the request is remembered by, where it has one.
    pub once: Option<&'a OnceKey>,
    /// The budgets that it is held against.
    pub budgets: &'a [HourBudget],
}

/// What [`Store::login`] found.
#[derive(Debug, Default)]
pub struct LoginItems {
    /// The user.
    pub user: Option<User>,
    /// What the request's key was used for before.
    pub once: Option<Once>,
    /// How much of each budget is used, in the query's order.
    pub used: Vec<u32>,
}

/// Where an `Idempotency-Key` is kept: a digest of key, route and caller (docs/design/contract.md#every-request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey {
    /// Tenant.
    pub tenant: TenantId,
    /// The digest.
    pub digest: String,
}

/// What a request with an `Idempotency-Key` succeeded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Keyed hash of the request.
    pub fingerprint: String,
    /// Version of the root key of that hash.
    pub key_version: u32,
    /// It.
    pub success: Success,
    /// It is remembered until then.
    pub ends_at: Timestamp,
}

/// A success, as far as telling it again takes: never a token or a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// A login.
    Session {
        /// The session.
        id: SessionId,
        /// The user's epoch then.
        user_epoch: u64,
    },
    /// A login was reset by the caller of that session.
    LoginReset(SessionId),
    /// A code was sent.
    CodeSent {
        /// What was told of the user; `None` where the tenant asked.
        details: Option<UserDetails>,
        /// When it was asked for.
        asked_at: Timestamp,
    },
    /// A code was returned: it cannot be told again.
    CodeReturned,
}

/// A success to remember.
#[derive(Debug, Clone)]
pub struct NewOnce {
    /// Under that key, which must be free, or remember nothing any more.
    pub key: OnceKey,
    /// It.
    pub once: Once,
    /// Now.
    pub now: Timestamp,
}

/// A session to keep.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// It.
    pub session: &'a Session,
    /// What makes room for it, where the tenant limits its users' sessions.
    pub room: Option<&'a Room>,
    /// What remembers the request, where it asked for that.
    pub once: Option<&'a NewOnce>,
}

impl<'a> NewSession<'a> {
    /// A session that nothing goes with.
    pub fn alone(session: &'a Session) -> Self {
        Self { session, room: None, once: None }
    }
}

/// Room for one more of a user's sessions.
#[derive(Debug, Clone)]
pub struct Room {
    /// The revision of the user's sessions under which there is room.
    pub revision: u64,
    /// Sessions that end to make it.
    pub evicted: Vec<SessionId>,
}

/// What became of a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    Done,
    /// The user's sessions changed since they were read.
    Raced,
    /// The request's key remembers a success already.
    Repeated,
}

/// One message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboxKey {
    /// Tenant.
    pub tenant: TenantId,
    /// Whom it is for.
    pub user: UserId,
    /// It.
    pub id: AttemptId,
}

/// A message as the outbox keeps it: readable with the tenant's key alone.
#[derive(Clone)]
pub struct Sealed {
    /// Where it is.
    pub key: OutboxKey,
    /// Version of the root key that sealed it.
    pub key_version: u32,
    /// Nonce, sealed message, tag.
    pub bytes: Vec<u8>,
    /// It is worth delivering until then.
    pub ends_at: Timestamp,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("key", &self.key)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

/// What delivering one message needs to know.
#[derive(Debug)]
pub struct OutboxItems {
    /// The message; `None` once it was delivered.
    pub sealed: Option<Sealed>,
    /// Whom it is for.
    pub user: Option<User>,
    /// That user's newest reset code.
    pub code: Option<ResetCode>,
}

/// A user and its newest reset code.
#[derive(Debug, Default)]
pub struct RecoveryItems {
    /// The user.
    pub user: Option<User>,
    /// The code, or what is left of the last one.
    pub code: Option<ResetCode>,
    /// What the request's key was used for before.
    pub once: Option<Once>,
}

/// A reset code to keep, with the message that carries it.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// Tenant.
    pub tenant: TenantId,
    /// The user that it is for, whether it exists or not.
    pub user: UserId,
    /// The code item that was read, which must still be the newest one.
    pub replaces: Option<AttemptId>,
    /// The code.
    pub code: ResetCode,
    /// The message, where the code is sent.
    pub message: Option<Sealed>,
    /// What remembers the request for it, where that asked for it.
    pub once: Option<NewOnce>,
}

/// One try at a typed code.
#[derive(Debug, Clone, Copy)]
pub struct CodeTry<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user, whether it exists or not.
    pub user: &'a UserId,
    /// The try.
    pub id: AttemptId,
    /// Now.
    pub now: Timestamp,
}

/// What may go wrong within the present hour (docs/design/security.md#rule-10 and #rule-19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourBudget {
    /// Tenant.
    pub tenant: TenantId,
    /// Of what.
    pub of: BudgetOf,
    /// How often.
    pub max: u32,
    /// Now.
    pub now: Timestamp,
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetOf {
    /// Wrong codes from one address; `None` where it is unknown: all of those together.
    WrongCodes(Option<IpAddr>),
    /// Wrong passwords from one address, as above.
    WrongPasswords(Option<IpAddr>),
    /// Wrong passwords for those of the tenant's users that this part of its budget is for.
    TenantPart(u32),
}

impl HourBudget {
    const SECONDS: i64 = 60 * 60;

    /// The hour it is for, counted from the epoch.
    pub fn hour(&self) -> i64 {
        self.now.as_second().div_euclid(Self::SECONDS)
    }

    /// When that ends, in epoch seconds.
    pub fn ends_at(&self) -> i64 {
        self.hour().saturating_add(1).saturating_mul(Self::SECONDS)
    }

    /// The failure of whoever comes when it is used up.
    pub fn exhausted(&self) -> Failure {
        let left = self.ends_at().saturating_sub(self.now.as_second());
        let limit = match self.of {
            BudgetOf::WrongCodes(_) | BudgetOf::WrongPasswords(_) => Limit::Address,
            BudgetOf::TenantPart(_) => Limit::Tenant,
        };
        Failure::RateLimited(limit, Duration::from_secs(u64::try_from(left).unwrap_or_default()))
    }
}

/// A new password by a code.
#[derive(Debug)]
pub struct Recovery<'a> {
    /// The user, as it was read.
    pub user: &'a User,
    /// The code that was right, as it was read: it must still be live.
    pub code: &'a ResetCode,
    /// The submission that uses it up, as a keyed hash, or this try.
    pub submission: &'a str,
    /// The new password.
    pub password: PasswordHash,
    /// Those before it that are remembered.
    pub history: Vec<PasswordHash>,
    /// What the user is told.
    pub message: Sealed,
    /// Now.
    pub now: Timestamp,
}

/// Whether a reset code is read along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeIs<'a> {
    /// It is, with what the request's key remembers where it has one.
    Wanted(Option<&'a OnceKey>),
    /// It is not.
    Unwanted,
}

/// What [`Store::caller`] and [`Store::caller_and_session`] found.
#[derive(Debug, Default)]
pub struct CallerItems {
    /// The caller's session.
    pub session: Option<Session>,
    /// The caller.
    pub user: Option<User>,
    /// The other user that was asked for, unless it is the caller.
    pub other: Option<User>,
    /// The newest code of that user, or of the caller where no other was asked for.
    pub code: Option<ResetCode>,
    /// The session that was asked for.
    pub asked: Option<Session>,
    /// What the request's key was used for before.
    pub once: Option<Once>,
}

/// One attempt at one user's password.
#[derive(Debug, Clone, Copy)]
pub struct AttemptKey<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user tried, whether it exists or not.
    pub user: &'a UserId,
    /// The device that proved an earlier login; `None`: a stranger. Each of them, and all strangers
    /// together, have attempts of their own (docs/design/security.md#rule-10).
    pub device: Option<KnownDevice>,
    /// The attempt.
    pub id: AttemptId,
}

/// How many attempts there are.
#[derive(Debug, Clone, Copy)]
pub struct AttemptBudget {
    /// Places at once, and failures until a lockout.
    pub max: usize,
    /// Failures within an hour, over all lockouts.
    pub per_hour: usize,
    /// Failures in a row after which there are none until the password is set anew (docs/design/security.md#rule-8).
    pub disable_after: u32,
    /// Length of a lockout in milliseconds, and of the quiet after which it forgets failures.
    pub lockout_millis: i64,
}

/// What a request for a place got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// A place. These attempts had failed, or died, before it: success forgives them.
    Granted(Vec<AttemptId>),
    /// None: so many failed that the user is locked until then.
    Locked(Timestamp),
    /// None: so many failed within an hour that the next is at that time.
    Limited(Timestamp),
    /// None until the password is set anew: so many failed in a row.
    Disabled,
    /// None just now: others are still being verified.
    Busy,
    /// None for this device, which is a stranger after all: its proof is older than the password, or too
    /// many others of the user have failed.
    UnknownDevice,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// Wrong password; so many of these in a row disable it.
    Failed {
        /// [`AttemptBudget::disable_after`]
        disable_after: u32,
    },
    /// Right: it leaves no trace, and forgives the failures that its reservation saw.
    Succeeded(&'a [AttemptId]),
    /// Never judged, or right and of no use: it leaves no trace, and forgives nothing.
    Unused,
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

/// A user's sessions, of which those are live that its and its tenant's epochs have not passed.
#[derive(Debug, Clone, Copy)]
pub struct SessionsOf<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user, whether it exists or not.
    pub user: &'a UserId,
    /// Its epoch.
    pub user_epoch: u64,
    /// The tenant's.
    pub tenant_epoch: u64,
    /// Now.
    pub now: Timestamp,
}

impl<'a> SessionsOf<'a> {
    /// The sessions of a user as it was read.
    pub fn user(user: &'a User, tenant_epoch: u64, now: Timestamp) -> Self {
        let User { tenant, id, session_epoch, .. } = user;
        Self { tenant, user: id, user_epoch: *session_epoch, tenant_epoch, now }
    }
}

/// A page of a user's sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPageQuery<'a> {
    /// Whose.
    pub of: SessionsOf<'a>,
    /// The collection and its owner in the path, which the sessions must fit.
    pub path: (Collection, &'a str),
    /// The session that the last page ended at.
    pub after: Option<&'a SessionId>,
    /// Most of them; at least 1.
    pub limit: usize,
}

/// What [`Store::session_page`] found.
#[derive(Debug)]
pub struct SessionPage {
    /// The sessions, as many as were asked for or fewer.
    pub sessions: Vec<Session>,
    /// Where the next page begins behind; `None` when there is none.
    pub after: Option<SessionId>,
}

/// Which of a user's sessions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All.
    All,
    /// All but the caller's own, where it is one of them.
    AllButCurrent,
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
    /// What the user is told.
    pub message: Option<Sealed>,
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
    /// The code is not the newest any more, or not live.
    CodeChanged,
    /// The user's sessions are not those that were read.
    SessionsChanged,
    /// The request's `Idempotency-Key` remembers a success already.
    Repeated,
}
