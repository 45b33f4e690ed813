//! `doorwardctl user …`

mod args;
mod create;
mod erase;
mod export;
mod export_data;
mod find;
mod import;
mod list;
mod metadata;
mod update;
mod user_record;

use anyhow::{Context as _, Result, bail};
use doorward::{
    domain::{Collection, Gender, Profile, Role, Tenant, TenantId, User},
    function::SystemClock,
    port::Clock,
    store::Switched,
};
use serde_json::{Value, json};

pub(crate) use self::{
    args::{UserArg, UserCommand, UserRef},
    export_data::described_session,
};
use crate::{
    Context,
    output::{changed, plain, table},
};

impl UserCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let store = &context.store;
        let now = SystemClock.now();
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Import(import) => import.run(context).await,
            Self::Export(export) => export.run(context).await,
            Self::Find(find) => find.run(context).await,
            Self::ExportData(export) => export.run(context).await,
            Self::Erase(erase) => erase.run(context).await,
            Self::Show(user) => show(context, &user.find(context).await?).await,
            Self::Disable(user) => {
                let user_ref = user.find(context).await?;
                let done = store.disable_user(&user_ref.tenant, &user_ref.user, now).await?;
                report_switch(context, &user_ref, done, "disabled", "All its sessions have ended.")
            }
            Self::Enable(user) => {
                let user_ref = user.find(context).await?;
                let done = store.enable_user(&user_ref.tenant, &user_ref.user, now).await?;
                report_switch(context, &user_ref, done, "enabled", "Its earlier sessions stay ended.")
            }
            Self::Unlock(user) => {
                let user_ref = user.find(context).await?;
                let done = store.unlock_user(&user_ref.tenant, &user_ref.user).await?;
                report_switch(context, &user_ref, done, "unlocked", "Its failed attempts were reset.")
            }
            Self::Delete { user, yes } => {
                let user_ref = user.find(context).await?;
                if !yes {
                    let question =
                        format!("Delete user {} of tenant {} permanently?", user_ref.user, user_ref.tenant);
                    context.output.confirm(&question, user_ref.user.as_str())?;
                }
                let done = store.delete_user(&user_ref.tenant, &user_ref.user).await?;
                report_switch(context, &user_ref, done, "deleted", "All its sessions have ended.")
            }
        }
    }
}

fn report_switch(
    context: &Context,
    user_ref: &UserRef,
    done: Switched,
    state: &str,
    effect: &str,
) -> Result<()> {
    let UserRef { tenant, user } = user_ref;
    let changed = changed(done).ok_or_else(|| user_ref.unknown())?;
    let value = json!({ "tenant": tenant, "user": user, "state": state, "changed": changed });
    context.output.switched(&format!("User {user}"), &value, (changed, state, effect))
}

async fn show(context: &Context, user_ref: &UserRef) -> Result<()> {
    let UserRef { tenant, user } = user_ref;
    let known = context.store.user(tenant, user).await?.ok_or_else(|| user_ref.unknown())?;
    let value = described(&known);
    context.output.result(&value, || {
        let rows = value.as_object().into_iter().flatten();
        table(&["FIELD", "VALUE"], rows.map(|(name, value)| vec![name.clone(), plain(value)]))
    })
}

/// Returns the user fields that an operator can see. They do not include password hashes.
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
        unverified_email,
        unverified_phone,
        profile: Profile { given_name, family_name, nick_name, display_name, gender },
        metadata,
        locale,
        status,
        session_epoch,
        proofs_epoch: _,
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
        "status": status.name(),
        "roles": roles.iter().copied().map(Role::name).collect::<Vec<_>>(),
        "organization": organization,
        "customer": customer,
        "customerType": customer_kind.map(Collection::user_type),
        "email": email,
        "phone": phone,
        "unverifiedEmail": unverified_email,
        "unverifiedPhone": unverified_phone,
        "locale": locale,
        "givenName": given_name,
        "familyName": family_name,
        "nickName": nick_name,
        "displayName": display_name,
        "gender": gender.map(Gender::name),
        "metadata": metadata::to_json(metadata),
        "resetRequired": reset_required,
        "changeRequired": change_required,
        "sessionEpoch": session_epoch,
        "changeSequence": sequence,
        "createdAt": created_at.to_string(),
        "changedAt": changed_at.to_string(),
    })
}

/// Checks that the index lists all users of a tenant.
async fn require_index(context: &Context, id: &TenantId) -> Result<()> {
    let record = context.store.tenant_record(id).await?;
    let record = record.with_context(|| format!("tenant {id} does not exist; see `tenant list`"))?;
    if !record.lists_users() {
        bail!(
            "the index does not list all users of tenant {id}, which an earlier version created; run \
             `doorwardctl doctor --repair`, then try again"
        );
    }
    Ok(())
}

async fn tenant(context: &Context, id: &TenantId) -> Result<Tenant> {
    context.store.tenant(id).await?.with_context(|| format!("tenant {id} does not exist; see `tenant list`"))
}
