//! Disabling, enabling, locking, unlocking and deletion of a user (docs/design/contract.md#users).

use super::{Service, UserRequest, support::code::TRIES};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Collection, Denial, Failure, User, UserDetails, UserStatus},
    store::{ExtraItem, UserExtras},
};

/// A change of a user's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusChange {
    /// Disables an active or locked user.
    Deactivate,
    /// Enables a disabled user.
    Reactivate,
    /// Locks an active user.
    Lock,
    /// Unlocks a locked user.
    Unlock,
    /// Deletes a user, together with its username, attempts, codes and messages.
    Delete,
}

impl StatusChange {
    /// The user after the change; `None` if it is deleted.
    ///
    /// # Errors
    /// `UserStatusConflict` if the change does not apply to a user with this status.
    fn apply(self, user: &User) -> Result<Option<User>, Failure> {
        let status = match (self, user.status) {
            (Self::Delete, _) => return Ok(None),
            (Self::Deactivate, UserStatus::Active | UserStatus::Locked) => UserStatus::Disabled,
            (Self::Lock, UserStatus::Active) => UserStatus::Locked,
            (Self::Reactivate, UserStatus::Disabled) | (Self::Unlock, UserStatus::Locked) => {
                UserStatus::Active
            }
            _ => return Err(Failure::UserStatusConflict),
        };
        Ok(Some(User { status, ..user.clone() }))
    }
}

impl Service {
    /// Changes the status of a user, or deletes it, with one read and one transaction. All sessions of a user that is no
    /// longer active end in this transaction (docs/design/security.md#rule-15). A deletion adds a query for messages.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `UserStatusConflict`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn change_status(
        &self,
        (command, change): (UserRequest, StatusChange),
        context: &RequestContext,
    ) -> Result<UserDetails, Failure> {
        let UserRequest { by, user } = command;
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        context.record_user(&user);
        token.admit_to(Collection::Admin)?;
        for _ in 0..TRIES {
            let caller = self.authenticate(&request, &token, Some(&user), ExtraItem::None).await?;
            caller.require(ClientScope::UsersWrite)?;
            if token.own(&user).is_some() {
                return Err(Failure::Forbidden(Denial::OwnAccount));
            }
            let target = caller.target(ClientScope::UsersWrite, &user)?;
            let guarded = caller.change(target, context.now);
            let committed = match change.apply(target)? {
                Some(new) => {
                    let new = User { changed_at: context.now, ..new };
                    self.store.change_user(&guarded, &new, &UserExtras::default()).await?
                }
                None => self.store.remove_user(&guarded, None).await?,
            };
            if committed.is_done()? {
                return Ok(UserDetails::after_change(target, context.now));
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
