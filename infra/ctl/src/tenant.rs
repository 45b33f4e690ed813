//! `doorwardctl tenant …`

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use doorward::{
    domain::{Document, FIELDS, Field, Policy, SigningAlgorithm, TenantId},
    store::{Switched, TenantChange, TenantRecord},
};
use serde_json::{Value, json};

use crate::{
    Context,
    output::{Usage, plain, table},
    place::Place,
    secret,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every tenant; it reads the whole table
    List,
    /// Show a tenant's record: its policy with what is set and what is at its default
    Show {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Change a tenant's policy or name: everything at once, or nothing. Holds everywhere within 5 s
    Update(Update),
    /// Close a tenant and end all its sessions, for good: both hold everywhere within 5 s
    Suspend {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
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

/// What to change; docs/policy.md has the fields.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// Set a field of the policy; a list's elements have commas between them. For each field once more
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Take a field out of the record: it is at its default again. For each field once more
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
    /// Set the fields of a JSON object; null takes one out of the record
    #[arg(long, value_name = "POLICY_JSON")]
    file: Option<PathBuf>,
    /// What people know the tenant as
    #[arg(long)]
    name: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context, place: &Place) -> Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Show { tenant } => {
                let record = context.store.tenant_record(&tenant).await?.ok_or_else(|| unknown(&tenant))?;
                context.output.result(&described(&record), || text(&record))
            }
            Self::Update(update) => {
                let tenant = update.tenant.clone();
                let change = update.change()?;
                if let Some(algorithm) = algorithm(&change) {
                    secret::must_sign(&place.secrets().await?, &tenant, algorithm).await?;
                }
                let record = context.store.update_tenant(&tenant, &change).await?;
                let record = record.ok_or_else(|| unknown(&tenant))?;
                context.output.result(&described(&record), || {
                    let version = record.tenant.version;
                    format!("Tenant {tenant} is at version {version}. It holds everywhere within 5 s.")
                })
            }
            Self::Suspend { tenant, yes } => {
                if !yes {
                    let question = format!("Suspend tenant {tenant} and end all its sessions for good?");
                    context.output.confirm(&question, tenant.as_str())?;
                }
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
        Switched::Missing => bail!(unknown(tenant)),
    };
    context.output.result(&json!({ "tenant": tenant, "state": state, "changed": changed }), || {
        if changed {
            format!("Tenant {tenant} is {state}. {effect}")
        } else {
            format!("Tenant {tenant} was {state} before: nothing was done.")
        }
    })
}

fn unknown(tenant: &TenantId) -> anyhow::Error {
    anyhow!("there is no tenant {tenant}: see `tenant list`")
}

impl Update {
    /// # Errors
    /// [`Usage`] when it changes nothing or names a field twice.
    fn change(self) -> Result<TenantChange> {
        let mut wanted = Vec::new();
        if let Some(file) = &self.file {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let document: Document = serde_json::from_slice(&text)
                .with_context(|| format!("{} is no JSON object", file.display()))?;
            wanted.extend(
                document.into_iter().map(|(name, value)| (name, (!value.is_null()).then_some(value))),
            );
        }
        for set in &self.set {
            let (name, typed) = set
                .split_once('=')
                .ok_or_else(|| Usage(format!("--set takes FIELD=VALUE: {set} has no =")))?;
            // A field that there is not is refused with all else that is wrong.
            let value = Field::named(name).map_or_else(|| Value::from(typed), |field| field.typed(typed));
            wanted.push((name.to_owned(), Some(value)));
        }
        wanted.extend(self.unset.into_iter().map(|name| (name, None)));
        let count = wanted.len();
        let policy: BTreeMap<_, _> = wanted.into_iter().collect();
        if policy.len() < count {
            bail!(Usage("a field is named twice".to_owned()));
        }
        if policy.is_empty() && self.name.is_none() {
            bail!(Usage("say what to change: --set, --unset, --file or --name".to_owned()));
        }
        Ok(TenantChange { name: self.name, policy })
    }
}

/// What is to sign from now on, where that changes and there is such an algorithm.
fn algorithm(change: &TenantChange) -> Option<SigningAlgorithm> {
    match change.policy.get("algorithm")? {
        None => Some(Policy::default().algorithm),
        Some(name) => SigningAlgorithm::from_name(name.as_str()?),
    }
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

fn described(record: &TenantRecord) -> Value {
    let TenantRecord { tenant, document, unknown, faults, .. } = record;
    let in_force: Document = FIELDS
        .iter()
        .map(|field| (field.name.to_owned(), field.value(&tenant.policy).unwrap_or_default()))
        .collect();
    let faults =
        faults.iter().map(|fault| json!({ "field": fault.error.field, "message": fault.error.message }));
    json!({
        "tenant": tenant.id,
        "name": tenant.name,
        "status": tenant.status.name(),
        "version": tenant.version,
        "sessionEpoch": tenant.session_epoch,
        "set": document,
        "inForce": in_force,
        "unknown": unknown,
        "faults": faults.collect::<Vec<_>>(),
    })
}

fn text(record: &TenantRecord) -> String {
    let TenantRecord { tenant, document, unknown, faults, .. } = record;
    let head = [
        ("tenant", tenant.id.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.name().to_owned()),
        ("version", tenant.version.to_string()),
        ("session epoch", tenant.session_epoch.to_string()),
    ];
    let head = table(&["TENANT", ""], head.map(|(name, value)| vec![name.to_owned(), value]));
    let known = FIELDS.iter().map(|field| {
        let origin = if document.contains_key(field.name) { "set" } else { "default" };
        let value = field.value(&tenant.policy).unwrap_or_default();
        vec![field.name.to_owned(), plain(&value), origin.to_owned()]
    });
    let later =
        unknown.iter().map(|name| vec![name.clone(), "?".to_owned(), "of a later version".to_owned()]);
    let policy = table(&["POLICY", "IN FORCE", "FROM"], known.chain(later));
    let faults = faults.iter().map(|fault| format!("\nwrong: {} {}", fault.error.field, fault.error.message));
    format!("{head}\n\n{policy}\n{}", faults.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(set: &[&str], unset: &[&str]) -> Update {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let tenant = TenantId::parse("t").unwrap();
        Update { tenant, set: owned(set), unset: owned(unset), file: None, name: None }
    }

    #[test]
    fn a_change_is_what_was_typed() {
        let change = update(&["grace_seconds=7", "issuer=a=b"], &["locale"]).change().unwrap();
        let expected = [("grace_seconds", Some(json!(7))), ("issuer", Some(json!("a=b"))), ("locale", None)];
        assert_eq!(change.policy, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (set, unset) in
            [(vec![], vec![]), (vec!["grace_seconds"], vec![]), (vec!["locale=de"], vec!["locale"])]
        {
            assert!(update(&set, &unset).change().unwrap_err().is::<Usage>(), "{set:?} {unset:?}");
        }
    }
}
