//! `doorwardctl user …`

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use doorward::{
    domain::{Role, TenantId, User, UserId, UserStatus},
    port::{Clock, Store},
    runtime::SystemClock,
    store::Switched,
};
use serde_json::{Value, json};

use crate::{
    Context,
    output::{plain, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a user: never its password's hash
    Show(Which),
    /// Keep a user from logging in, and end all its sessions at once
    Disable(Which),
    /// Let a disabled user log in again; its earlier sessions stay ended
    Enable(Which),
    /// Let a user try its password again: its lockout ends, and so does a row of wrong passwords that
    /// disabled it. What its address and its tenant have left of the hour stays
    Unlock(Which),
    /// Delete a user, its name and what waits to be sent to it; all its sessions end at once
    Delete {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// The user's id
    #[arg(value_parser = UserId::parse)]
    user: UserId,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let store = &context.store;
        let now = SystemClock.now();
        match self {
            Self::Show(which) => show(context, &which).await,
            Self::Disable(which) => {
                let done = store.disable_user(&which.tenant, &which.user, now).await?;
                tell(context, &which, done, "disabled", "All its sessions ended.")
            }
            Self::Enable(which) => {
                let done = store.enable_user(&which.tenant, &which.user, now).await?;
                tell(context, &which, done, "enabled", "Its earlier sessions stay ended.")
            }
            Self::Unlock(which) => {
                let done = store.unlock_user(&which.tenant, &which.user).await?;
                tell(context, &which, done, "unlocked", "Its wrong passwords are forgotten.")
            }
            Self::Delete { which, yes } => {
                if !yes {
                    let question = format!("Delete user {} of tenant {} for good?", which.user, which.tenant);
                    context.output.confirm(&question, which.user.as_str())?;
                }
                let done = store.delete_user(&which.tenant, &which.user).await?;
                tell(context, &which, done, "deleted", "All its sessions ended.")
            }
        }
    }
}

fn tell(context: &Context, which: &Which, done: Switched, state: &str, effect: &str) -> Result<()> {
    let Which { tenant, user } = which;
    let changed = match done {
        Switched::Done => true,
        Switched::Already => false,
        Switched::Missing => bail!("there is no user {user} of a tenant {tenant}: ids are wanted, not names"),
    };
    let value = json!({ "tenant": tenant, "user": user, "state": state, "changed": changed });
    context.output.result(&value, || {
        if changed {
            format!("User {user} is {state}. {effect}")
        } else {
            format!("User {user} was {state} before: nothing was done.")
        }
    })
}

async fn show(context: &Context, which: &Which) -> Result<()> {
    let Which { tenant, user } = which;
    let Some(known) = context.store.user(tenant, user).await? else {
        bail!("there is no user {user} of a tenant {tenant}: ids are wanted, not names");
    };
    let value = described(&known);
    context.output.result(&value, || {
        let rows = value.as_object().into_iter().flatten();
        table(&["FIELD", "VALUE"], rows.map(|(name, value)| vec![name.clone(), plain(value)]))
    })
}

/// What an operator may see of a user: everything but hashes.
fn described(user: &User) -> Value {
    let User {
        tenant,
        id,
        username,
        password: _,
        organization,
        customer,
        customer_kind,
        roles,
        password_history: _,
        email,
        phone,
        locale,
        status,
        session_epoch,
        sessions_revision: _,
        reset_required,
        change_required,
        sequence,
        created_at,
        changed_at,
    } = user;
    json!({
        "tenant": tenant,
        "user": id,
        "username": username.as_written(),
        "status": match status {
            UserStatus::Active => "ACTIVE",
            UserStatus::Disabled => "DISABLED",
        },
        "roles": roles.iter().copied().map(Role::name).collect::<Vec<_>>(),
        "organization": organization,
        "customer": customer,
        "customerType": customer_kind.map(doorward::domain::Collection::user_type),
        "email": email,
        "phone": phone,
        "locale": locale,
        "resetRequired": reset_required,
        "changeRequired": change_required,
        "sessionEpoch": session_epoch,
        "changeSequence": sequence,
        "createdAt": created_at.to_string(),
        "changedAt": changed_at.to_string(),
    })
}
