//! `doorwardctl tenant …`

mod args;
mod lifecycle;
mod secret;
mod show;

use anyhow::{Result, anyhow};
use doorward::{
    domain::{Policy, SigningAlgorithm, TenantId},
    function::SystemClock,
    port::Clock,
    store::{Switched, TenantChange},
};
use serde_json::{Value, json};

pub(crate) use self::args::TenantCommand;
use self::{
    lifecycle::delete,
    show::{described, text},
};
use crate::{
    Context,
    output::{changed, table},
    target::{Target, TenantSecrets},
};

impl TenantCommand {
    pub(crate) async fn run(self, context: &Context, target: &Target) -> Result<()> {
        match self {
            Self::Create(create) => create.run(context, target).await,
            Self::Delete { tenant, recovery_days, whole_table, yes } => {
                if !yes {
                    let question = format!("Delete tenant {tenant} and all its users permanently?");
                    context.output.confirm(&question, tenant.as_str())?;
                }
                let secrets = target.secrets().await?;
                delete(context, &secrets, &tenant, recovery_days, whole_table).await
            }
            Self::Secret(command) => command.run(context, &target.secrets().await?).await,
            Self::RootKey(command) => command.run(context, &target.secrets().await?).await,
            Self::SigningKey(command) => command.run(context, &target.secrets().await?).await,
            Self::List => list(context).await,
            Self::Show { tenant } => {
                let record = context.store.tenant_record(&tenant).await?.ok_or_else(|| unknown(&tenant))?;
                context.output.result(&described(&record), || text(&record))
            }
            Self::Update(update) => {
                let tenant = update.tenant.clone();
                let change = update.change()?;
                let mut now = SystemClock.now();
                if let Some(algorithm) = algorithm(&change) {
                    let secrets = target.secrets().await?;
                    secret::check_signing_key(&secrets, &tenant, algorithm).await?;
                    // Uses the clock of AWS. The functions compare the stored time of this change with the
                    // issue times of tokens, which are also from this clock.
                    now = secrets.clock.now();
                }
                let record = context.store.update_tenant(&tenant, &change, now).await?;
                let record = record.ok_or_else(|| unknown(&tenant))?;
                context.output.result(&described(&record), || {
                    let version = record.tenant.version;
                    format!("Updated tenant {tenant}: version {version}, in force everywhere within 5 s.")
                })
            }
            Self::Suspend { tenant, yes } => {
                if !yes {
                    let question = format!("Suspend tenant {tenant} and end all its sessions permanently?");
                    context.output.confirm(&question, tenant.as_str())?;
                }
                let done = context.store.suspend_tenant(&tenant).await?;
                report_switch(context, &tenant, done, "suspended", "All its sessions end within 5 s.")
            }
            Self::Resume { tenant } => {
                let done = context.store.resume_tenant(&tenant).await?;
                report_switch(context, &tenant, done, "active", "Its earlier sessions stay ended.")
            }
            Self::PublishKeys { tenant } => publish_keys(context, &target.secrets().await?, tenant).await,
            Self::SecretUsage { tenant } => secret::usage(context, &target.secrets().await?, &tenant).await,
        }
    }
}

fn report_switch(
    context: &Context,
    tenant: &TenantId,
    done: Switched,
    state: &str,
    effect: &str,
) -> Result<()> {
    let changed = changed(done).ok_or_else(|| unknown(tenant))?;
    let value = json!({ "tenant": tenant, "state": state, "changed": changed });
    context.output.switched(&format!("Tenant {tenant}"), &value, (changed, state, effect))
}

fn unknown(tenant: &TenantId) -> anyhow::Error {
    anyhow!("tenant {tenant} does not exist; see `tenant list`")
}

/// Returns the new signature algorithm, if the change sets a known one or resets it to the default.
fn algorithm(change: &TenantChange) -> Option<SigningAlgorithm> {
    match change.policy.get("algorithm")? {
        None => Some(Policy::default().algorithm),
        Some(name) => SigningAlgorithm::from_name(name.as_str()?),
    }
}

/// Publishes the keys of one tenant, or of all. A tenant whose secret cannot be used does not stop the others.
async fn publish_keys(context: &Context, secrets: &TenantSecrets, tenant: Option<TenantId>) -> Result<()> {
    let tenants = match tenant {
        Some(tenant) if context.store.tenant_record(&tenant).await?.is_none() => {
            return Err(unknown(&tenant));
        }
        Some(tenant) => vec![tenant],
        None => context.store.tenant_ids().await?,
    };
    let rotator = secrets.rotator();
    let (mut published, mut failed) = (Vec::new(), Vec::new());
    for tenant in tenants {
        match rotator.publish(&tenant).await {
            Ok(changed) => published.push((tenant, changed)),
            Err(error) => failed.push(format!("tenant {tenant}: {error}")),
        }
    }
    let value = published.iter().map(|(tenant, changed)| json!({ "tenant": tenant, "changed": changed }));
    context.output.result(&Value::Array(value.collect()), || {
        let rows = published.iter().map(|(tenant, changed)| {
            let state = if *changed { "published" } else { "already published" };
            vec![tenant.to_string(), state.to_owned()]
        });
        table(&["TENANT", "PUBLIC KEYS"], rows)
    })?;
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("{}", failed.join("\n"))) }
}

async fn list(context: &Context) -> Result<()> {
    let tenants = context.store.tenants().await?;
    let described = tenants.iter().map(|tenant| {
        json!({ "tenant": tenant.id, "name": tenant.name, "status": tenant.status, "version": tenant.version })
    });
    context.output.result(&Value::Array(described.collect()), || {
        let rows = tenants.iter().map(|tenant| {
            vec![tenant.id.clone(), tenant.name.clone(), tenant.status.clone(), tenant.version.to_string()]
        });
        table(&["TENANT", "NAME", "STATUS", "VERSION"], rows)
    })
}
