//! Keeping a new session within the tenant's limit.

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Failure, Session, User},
    port::{Inserted, NewOnce, NewSession},
    secrets::TenantContext,
};

/// What became of a session to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept.
    Done,
    /// The request's key remembers a success already.
    Repeated,
}

impl Service {
    /// Keeps a new session of `user`, with what remembers the request.
    ///
    /// # Errors
    /// `SessionLimit`, `Unavailable`.
    pub(super) async fn keep_session(
        &self,
        _context: &TenantContext,
        _user: &User,
        session: &Session,
        once: Option<&NewOnce>,
        _now: Timestamp,
    ) -> Result<Kept, Failure> {
        match self.store.insert_session(&NewSession { session, room: None, once }).await? {
            Inserted::Done => Ok(Kept::Done),
            Inserted::Repeated => Ok(Kept::Repeated),
            Inserted::Raced => Err(Failure::Unavailable("the user's sessions kept changing".into())),
        }
    }
}
