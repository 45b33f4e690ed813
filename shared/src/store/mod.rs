//! Storage of all state in one DynamoDB table (docs/design/storage.md).
//!
//! - `table.rs`: requests, retries and expressions. `transaction.rs`: transactions. `read.rs`: batch reads.
//! - `keys.rs` and `item.rs`: encoding of keys and values.
//! - One file for each item. `credentials.rs` and `user_change.rs`: transactions over a user's items.
//! - `user_directory.rs`: look-ups of users.
//! - `admin/`: operations that only `doorwardctl` calls.
//!
//! Reads that a decision depends on are consistent. Every rule about concurrent writes is a condition of the write.

mod admin;
mod anchor;
mod api_client;
mod attempt;
mod budget;
mod code;
mod credentials;
mod idempotency;
mod item;
mod keys;
mod listing;
mod outbox;
mod published;
mod read;
mod session;
mod session_limit;
mod table;
mod tenant;
mod transaction;
mod user;
mod user_change;
mod user_directory;

pub use admin::{
    Switched,
    api_client::ClientCreation,
    tenant::{LastUse, TenantChange, TenantSummary},
    user_check::{TableCheck, UnaddressableId, UserFault, UserFaultKind},
    user_data::{Erased, UserData, UserDataPosition, UserDatum, UserFinders},
    user_import::{ImportOutcome, NewUser, USERS_AT_ONCE},
};
pub use anchor::Anchored;
pub use api_client::{AssertionUse, ClientLogin};
pub use attempt::{AttemptKey, Verdict};
pub use code::{CodeTry, NewCode};
pub use credentials::{CredentialChange, Ending, GuardedChange, Recovery};
pub use idempotency::{NewStoredResult, StoredResult, Success};
pub use keys::{OutboxKey, ResultKey, outbox_key};
pub use listing::{SessionPage, SessionPageQuery, SessionsOf};
pub use outbox::Sealed;
pub use published::StoredKeys;
pub use read::{CallerItems, ExtraItem, LoginQuery, OutboxItems, UserItems};
pub use session::{EndSession, Rotated, Rotation};
pub use session_limit::{LimitClaim, NewSession};
pub use table::DynamoStore;
pub use tenant::TenantRecord;
pub(crate) use transaction::conflicted;
pub use transaction::{Committed, Guard};
pub use user_change::{SpentCode, UserExtras};
pub use user_directory::{MAX_OFFSET, MAX_USERS, UserPage, UserPosition, UsersByEmail, UsersOf};
