//! `doorwardctl tenant …`

use anyhow::{Result, bail};
use clap::Subcommand;
use doorward::{domain::TenantId, store::Switched};
use serde_json::json;

use crate::{Context, place::Place, secret};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Close a tenant and end all its sessions: both hold everywhere within 5 s
    Suspend {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Open a suspended tenant again; its earlier sessions stay ended
    Resume {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Show the versions of a tenant's secret, and when each was last used: the previous one can be
    /// retired once nobody uses it any more
    SecretUsage {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
}

impl Command {
    pub(crate) async fn run(self, context: &Context, place: &Place) -> Result<()> {
        match self {
            Self::Suspend { tenant } => {
                let done = context.store.suspend_tenant(&tenant).await?;
                tell(context, &tenant, done, "suspended", "All its sessions end within 5 s.")
            }
            Self::Resume { tenant } => {
                let done = context.store.resume_tenant(&tenant).await?;
                tell(context, &tenant, done, "active", "Its earlier sessions stay ended.")
            }
            Self::SecretUsage { tenant } => secret::usage(context, &place.secrets().await?, &tenant).await,
        }
    }
}

fn tell(context: &Context, tenant: &TenantId, done: Switched, state: &str, effect: &str) -> Result<()> {
    let changed = match done {
        Switched::Done => true,
        Switched::Already => false,
        Switched::Missing => bail!("there is no tenant {tenant}: see `tenant list`"),
    };
    context.output.result(&json!({ "tenant": tenant, "state": state, "changed": changed }), || {
        if changed {
            format!("Tenant {tenant} is {state}. {effect}")
        } else {
            format!("Tenant {tenant} was {state} before: nothing was done.")
        }
    })
}
