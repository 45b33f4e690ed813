//! Reading of one user (docs/design/contract.md#users).

use super::{Service, UserRequest};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Denial, Failure, User},
    store::ExtraItem,
};

impl Service {
    /// Reads a user with one batch read, which also reads the caller.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub async fn read_user(&self, command: UserRequest, context: &RequestContext) -> Result<User, Failure> {
        let UserRequest { by, user } = command;
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        context.record_user(&user);
        if token.is_of_customer() && token.own(&user).is_none() {
            return Err(Failure::Forbidden(Denial::CustomerToken));
        }
        let caller = self.authenticate(&request, &token, Some(&user), ExtraItem::None).await?;
        caller.require(ClientScope::UsersRead)?;
        caller.target(ClientScope::UsersRead, &user).cloned()
    }
}
