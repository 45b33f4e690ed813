//! `doorwardctl user erase`

use anyhow::Result;
use clap::Args;
use doorward::{
    domain::{TenantId, UserId},
    store::Switched,
};
use serde_json::json;

use crate::Context;

#[derive(Debug, Args)]
pub(crate) struct EraseUser {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// User ID. A username is not accepted: a repeated call could then erase another user
    #[arg(value_parser = UserId::parse)]
    user: UserId,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

impl EraseUser {
    /// Deletes the user first: after this write, its sessions have ended. A second call deletes what an interrupted
    /// call left.
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant, user, yes } = self;
        super::tenant(context, &tenant).await?;
        if !yes {
            let question =
                format!("Erase user {user} of tenant {tenant} and everything stored about it permanently?");
            context.output.confirm(&question, user.as_str())?;
        }
        let is_deleted = context.store.delete_user(&tenant, &user).await? == Switched::Done;
        let erased = context.store.erase_items(&tenant, &user).await?;
        let value = json!({
            "tenant": tenant,
            "user": user,
            "state": "erased",
            "changed": is_deleted || erased.total() > 0,
            "userDeleted": is_deleted,
            "sessions": erased.sessions,
            "otherItems": erased.others,
        });
        context.output.result(&value, || {
            let counts =
                format!("Deleted session items: {}, other items: {}.", erased.sessions, erased.others);
            match (is_deleted, erased.total()) {
                (true, _) => format!("User {user} is erased. All its sessions have ended. {counts}"),
                (false, 0) => format!(
                    "Tenant {tenant} has no user with the ID {user}, and no items of a user with this ID. \
                     Nothing was deleted."
                ),
                (false, _) => format!("User {user} was already deleted. {counts}"),
            }
        })
    }
}
