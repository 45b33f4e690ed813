//! `doorwardctl tenant …`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use doorward::{
    domain::{
        Document, FIELDS, Failure, Field, FieldError, Policy, SigningAlgorithm, Tenant, TenantId,
        TenantStatus,
    },
    port::Clock,
    runtime::SystemClock,
    secrets::RotationError,
    store::{Switched, TenantChange, TenantRecord},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    Context,
    output::{Usage, plain, table},
    place::{Place, Secrets},
    secret,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a tenant: its secret and its record. Shows its tenantKey and tenantSecret, once
    ///
    /// Where it is interrupted, run it again: until there is a record, there is no such tenant.
    Create(Create),
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
    /// Delete a suspended tenant for good: its record, its users and all else of it; it reads the whole table.
    /// Its secret can be restored for a while
    ///
    /// Where it is interrupted, run it again. What stays: the anchors of its audit log, for 400 days.
    Delete {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// For how many days the secret can be restored
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(7..=30))]
        recovery_days: i64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// What a tenant's callers send: a new secret, and the end of the one before
    #[command(subcommand)]
    Secret(secret::Command),
    /// What a tenant's refresh tokens, codes and HS256 tokens are made with
    #[command(subcommand)]
    RootKey(secret::RootKeyCommand),
    /// What signs a tenant's access tokens
    #[command(subcommand)]
    SigningKey(secret::SigningKeyCommand),
    /// Show the versions of a tenant's secret, and when each was last used: the previous one can be
    /// retired once nobody uses it any more
    SecretUsage {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
}

/// What a new tenant is.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// What people know the tenant as [default: its id]
    #[arg(long)]
    name: Option<String>,
    /// What its access tokens are signed by: ES256, EdDSA, RS256 or HS256
    #[arg(long, value_parser = signing_algorithm, default_value = "ES256")]
    algorithm: SigningAlgorithm,
    /// Set a field of the policy; a list's elements have commas between them. For each field once more
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Set the fields of a JSON object
    #[arg(long, value_name = "POLICY_JSON")]
    file: Option<PathBuf>,
    /// There is a secret by its name already, and it is no other stack's: make everything in it anew.
    /// Whoever uses it is refused within 5 min
    #[arg(long)]
    replace_secret: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
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
            Self::Create(create) => create.run(context, place).await,
            Self::Delete { tenant, recovery_days, yes } => {
                if !yes {
                    let question = format!("Delete tenant {tenant} and all its users for good?");
                    context.output.confirm(&question, tenant.as_str())?;
                }
                delete(context, &place.secrets().await?, &tenant, recovery_days).await
            }
            Self::Secret(command) => command.run(context, &place.secrets().await?).await,
            Self::RootKey(command) => command.run(context, &place.secrets().await?).await,
            Self::SigningKey(command) => command.run(context, &place.secrets().await?).await,
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
        let policy = fields(self.file.as_deref(), &self.set, self.unset)?;
        if policy.is_empty() && self.name.is_none() {
            bail!(Usage("say what to change: --set, --unset, --file or --name".to_owned()));
        }
        Ok(TenantChange { name: self.name, policy })
    }
}

/// The fields of a policy that a call names.
///
/// # Errors
/// [`Usage`] when it names one twice.
fn fields(
    file: Option<&Path>,
    set: &[String],
    unset: Vec<String>,
) -> Result<BTreeMap<String, Option<Value>>> {
    let mut wanted = Vec::new();
    if let Some(file) = file {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let document: Document =
            serde_json::from_slice(&text).with_context(|| format!("{} is no JSON object", file.display()))?;
        wanted.extend(document.into_iter().map(|(name, value)| (name, (!value.is_null()).then_some(value))));
    }
    for set in set {
        let (name, typed) =
            set.split_once('=').ok_or_else(|| Usage(format!("--set takes FIELD=VALUE: {set} has no =")))?;
        // A field that there is not is refused with all else that is wrong.
        let value = Field::named(name).map_or_else(|| Value::from(typed), |field| field.typed(typed));
        wanted.push((name.to_owned(), Some(value)));
    }
    wanted.extend(unset.into_iter().map(|name| (name, None)));
    let count = wanted.len();
    let fields: BTreeMap<_, _> = wanted.into_iter().collect();
    if fields.len() < count {
        bail!(Usage("a field is named twice".to_owned()));
    }
    Ok(fields)
}

impl Create {
    /// The secret comes first: without a record nobody can use it, and a record without a secret would answer
    /// 503 to everybody.
    async fn run(self, context: &Context, place: &Place) -> Result<()> {
        let wanted = self.tenant()?;
        let Tenant { id, policy, .. } = &wanted;
        if context.store.tenant_record(id).await?.is_some() {
            bail!("there is a tenant {id} already: see `tenant show {id}`");
        }
        let rotator = place.secrets().await?.rotator();
        let made = match rotator.create_first(id, policy.algorithm).await {
            Err(RotationError::Exists(name)) if self.replace_secret => {
                if !self.yes {
                    let question =
                        format!("Make everything in secret {name} anew, and refuse whoever uses it?");
                    context.output.confirm(&question, id.as_str())?;
                }
                let made = rotator.replace(id, policy.algorithm).await?;
                rotator.retire_previous(id).await?;
                made
            }
            Err(error @ RotationError::Exists(_)) => {
                bail!("{error}. Where it is no other stack's: `tenant create {id} --replace-secret`")
            }
            made => made?,
        };
        context.store.create_tenant(&wanted, SystemClock.now()).await?;
        let (key, secret) = (made.tenant_key.expose_secret(), made.tenant_secret.expose_secret());
        let value = json!({
            "tenant": id,
            "name": wanted.name,
            "algorithm": policy.algorithm.name(),
            "version": made.id,
            "tenantKey": key,
            "tenantSecret": secret,
        });
        context.output.result(&value, || {
            let pair = secret::pair_table(key, secret);
            format!("Tenant {id} is there. What its callers send is shown now, and never again:\n\n{pair}")
        })
    }

    /// # Errors
    /// With everything that would be wrong with its policy: nothing is made then.
    fn tenant(&self) -> Result<Tenant> {
        let mut fields = fields(self.file.as_deref(), &self.set, Vec::new())?;
        if fields.contains_key("algorithm") {
            bail!(Usage("the algorithm is set with --algorithm".to_owned()));
        }
        fields.insert("algorithm".to_owned(), Some(json!(self.algorithm.name())));
        let unknown = fields.keys().filter(|name| Field::named(name).is_none());
        let mut errors: Vec<_> =
            unknown.map(|name| FieldError::new(name.clone(), "is no field of a policy")).collect();
        let document: Document =
            fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let (policy, faults) = Policy::read(&document);
        errors.extend(faults.into_iter().map(|fault| fault.error));
        if !errors.is_empty() {
            bail!(Failure::Validation(errors));
        }
        Ok(Tenant {
            id: self.tenant.clone(),
            name: self.name.clone().unwrap_or_else(|| self.tenant.to_string()),
            status: TenantStatus::Active,
            session_epoch: 0,
            version: 0,
            policy,
        })
    }
}

fn signing_algorithm(name: &str) -> Result<SigningAlgorithm, &'static str> {
    SigningAlgorithm::from_name(name).ok_or("is none of ES256, EdDSA, RS256, HS256")
}

/// The record goes first, by the one write that decides: from then on there is no such tenant. Whatever is
/// left by an interruption is found by the next call.
async fn delete(context: &Context, secrets: &Secrets, tenant: &TenantId, recovery_days: i64) -> Result<()> {
    let record = context.store.delete_tenant(tenant).await?;
    let items = context.store.clear_tenant(tenant).await?;
    // Where the table knows nothing of it, its secret is another stack's with the same prefix, as far as can be told.
    let known = record == Switched::Done || items > 0;
    let secret = known && secrets.rotator().delete(tenant, recovery_days).await?;
    let changed = record == Switched::Done || items > 0 || secret;
    let value = json!({
        "tenant": tenant,
        "state": "deleted",
        "changed": changed,
        "items": items,
        "secretRecoveryDays": secret.then_some(recovery_days),
    });
    context.output.result(&value, || {
        if !changed {
            return format!(
                "There is nothing of a tenant {tenant} in this table: nothing was done. A secret by its name was \
                 left alone."
            );
        }
        let secret = if secret {
            format!("Its secret can be restored for {recovery_days} days.")
        } else {
            "There was no secret of it to delete.".to_owned()
        };
        format!("Tenant {tenant} is deleted, and {items} other items of it. {secret}")
    })
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
