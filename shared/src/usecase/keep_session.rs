//! Keeping a new session within the tenant's limit.

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Failure, Session, User},
    port::{Inserted, NewSession},
    secrets::TenantContext,
};

impl Service {
    /// Keeps a new session of `user`.
    ///
    /// # Errors
    /// `SessionLimit`, `Unavailable`.
    pub(super) async fn keep_session(
        &self,
        _context: &TenantContext,
        _user: &User,
        session: &Session,
        _now: Timestamp,
    ) -> Result<(), Failure> {
        match self.store.insert_session(&NewSession::alone(session)).await? {
            Inserted::Done => Ok(()),
            Inserted::Raced | Inserted::Repeated => {
                Err(Failure::Unavailable("the user's sessions kept changing".into()))
            }
        }
    }
}
