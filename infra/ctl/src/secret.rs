//! `doorwardctl tenant secret …`, `root-key …`, `signing-key …` and `secret-usage`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use aws_sdk_secretsmanager::operation::list_secret_version_ids::ListSecretVersionIdsError;
use clap::{Args, Subcommand};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::SecretSource,
    secrets::{NewVersion, Old, Renewal, SecretDocument, SecretsManager, SigningKeys},
    store::LastUse,
    token::TenantKeys,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{Context, output::table, place::Secrets};

/// The stage that opens until it is retired.
const PREVIOUS: &str = "AWSPREVIOUS";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new tenantSecret, and show it once. The one before opens until it is retired
    Rotate {
        #[command(flatten)]
        what: What,
        /// Make a new tenantKey, too
        #[arg(long)]
        tenant_key: bool,
    },
    /// Take the previous version away: its tenantSecret, and keys that it alone has, open nothing within 5 min
    Retire {
        /// The tenant's id
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootKeyCommand {
    /// Make a new root key. What the ones before made goes on; nobody is logged out
    Rotate(What),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeyCommand {
    /// Sign with the next key, which is published already, and publish the one after it. What the ones before
    /// signed goes on; nobody is logged out
    Rotate {
        #[command(flatten)]
        what: What,
        /// Keys of this algorithm: ES256, EdDSA or RS256; adds them where there are none [default: each that
        /// there are keys of]
        #[arg(long, value_parser = asymmetric)]
        algorithm: Option<SigningAlgorithm>,
    },
}

/// What is rotated, and how.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// It is in wrong hands: keep nothing of what is made anew, and take the previous version away at once.
    /// Whoever uses it is refused or logged out within 5 min
    #[arg(long)]
    leaked: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Command {
    pub(crate) async fn run(self, context: &Context, secrets: &Secrets) -> Result<()> {
        match self {
            Self::Rotate { what, tenant_key } => {
                let tenant_key = tenant_key || what.leaked;
                let renewal = Renewal { tenant_key, tenant_secret: true, ..what.renewal() };
                let (made, retired) = rotate(context, secrets, &what, renewal).await?;
                let (key, secret) = (made.tenant_key.expose_secret(), made.tenant_secret.expose_secret());
                let tenant = &what.tenant;
                let value = json!({
                    "tenant": tenant,
                    "version": made.id,
                    "tenantKey": key,
                    "tenantSecret": secret,
                });
                context.output.result(&value, || {
                    let pair = pair_table(key, secret);
                    let next = if what.leaked {
                        "The one before opens nothing within 5 min.".to_owned()
                    } else {
                        format!(
                            "Give it to the callers after a minute. The one before opens until \
                             `tenant secret retire {tenant}`."
                        )
                    };
                    format!(
                        "Tenant {tenant} has a new secret. It is shown now, and never again:\n\n{pair}\n\n{next}"
                    )
                })?;
                retired
            }
            Self::Retire { tenant, yes } => retire(context, secrets, &tenant, yes).await,
        }
    }
}

impl RootKeyCommand {
    pub(crate) async fn run(self, context: &Context, secrets: &Secrets) -> Result<()> {
        let Self::Rotate(what) = self;
        let renewal = Renewal { root_key: true, ..what.renewal() };
        rotate_keys(context, secrets, &what, renewal, "root key").await
    }
}

impl SigningKeyCommand {
    pub(crate) async fn run(self, context: &Context, secrets: &Secrets) -> Result<()> {
        let Self::Rotate { what, algorithm } = self;
        let signing_keys = algorithm.map_or(SigningKeys::EachListed, SigningKeys::Of);
        let renewal = Renewal { signing_keys, ..what.renewal() };
        rotate_keys(context, secrets, &what, renewal, "signing key").await
    }
}

impl What {
    fn renewal(&self) -> Renewal {
        Renewal { old: if self.leaked { Old::Dropped } else { Old::Kept }, ..Renewal::default() }
    }
}

fn asymmetric(name: &str) -> Result<SigningAlgorithm, &'static str> {
    let algorithm = SigningAlgorithm::from_name(name).filter(|known| *known != SigningAlgorithm::Hs256);
    algorithm.ok_or("is none of ES256, EdDSA, RS256; HS256 keys derive from the root key")
}

/// `tenantKey` and `tenantSecret`, for people.
pub(crate) fn pair_table(key: &str, secret: &str) -> String {
    let rows = [("tenantKey", key), ("tenantSecret", secret)];
    table(&["FIELD", "VALUE"], rows.map(|(name, value)| vec![name.to_owned(), value.to_owned()]))
}

async fn rotate_keys(
    context: &Context,
    secrets: &Secrets,
    what: &What,
    renewal: Renewal,
    name: &str,
) -> Result<()> {
    let (made, retired) = rotate(context, secrets, what, renewal).await?;
    let tenant = &what.tenant;
    let value = json!({ "tenant": tenant, "version": made.id, "renewed": name, "leaked": what.leaked });
    context.output.result(&value, || {
        let old = if what.leaked { "What the ones before made ends" } else { "It is used everywhere" };
        format!("Tenant {tenant} has a new {name}. {old} within 5 min.")
    })?;
    retired
}

/// Rotates, after asking where that takes something from somebody. And whether the version before was taken away,
/// where it had to be: for after the new one was shown, which nothing shows again.
async fn rotate(
    context: &Context,
    secrets: &Secrets,
    what: &What,
    renewal: Renewal,
) -> Result<(NewVersion, Result<()>)> {
    let What { tenant, leaked, yes } = what;
    if !yes {
        // The version before the current one goes with any rotation.
        let previous = previous(context, secrets, tenant).await?;
        let used = previous.and_then(|version| Some((version.id, version.last_used?)));
        let question = match used {
            _ if *leaked => Some(format!("Refuse all that uses the old ones of tenant {tenant} at once?")),
            Some((id, at)) => Some(format!(
                "The previous version {id} was last used at {at}, and opens nothing after this. Rotate?"
            )),
            None => None,
        };
        if let Some(question) = question {
            context.output.confirm(&question, tenant.as_str())?;
        }
    }
    let rotator = secrets.rotator();
    let made = rotator.rotate(tenant, renewal).await?;
    let mut retired = Ok(());
    if *leaked && let Err(error) = rotator.retire_previous(tenant).await {
        retired = Err(anyhow::Error::from(error).context(format!(
            "the new version is current, but the one before still opens: `tenant secret retire {tenant} --yes`"
        )));
    }
    Ok((made, retired))
}

async fn retire(context: &Context, secrets: &Secrets, tenant: &TenantId, yes: bool) -> Result<()> {
    if !yes && let Some(version) = previous(context, secrets, tenant).await? {
        let used = version.last_used.unwrap_or_else(|| "never, as far as is known".to_owned());
        let question = format!("Version {} was last used: {used}. Retire it?", version.id);
        context.output.confirm(&question, tenant.as_str())?;
    }
    let retired = secrets.rotator().retire_previous(tenant).await?;
    let value = json!({ "tenant": tenant, "retired": retired, "changed": retired.is_some() });
    context.output.result(&value, || match retired {
        Some(version) => format!("Version {version} is retired: it opens nothing within 5 min."),
        None => format!("The secret of tenant {tenant} has no previous version: nothing was done."),
    })
}

/// The version at `AWSPREVIOUS`.
async fn previous(context: &Context, secrets: &Secrets, tenant: &TenantId) -> Result<Option<Version>> {
    let versions = versions(context, secrets, tenant).await?;
    Ok(versions.into_iter().find(|version| version.stages.iter().any(|stage| stage == PREVIOUS)))
}

/// A version of a tenant's secret.
struct Version {
    id: String,
    stages: Vec<String>,
    last_used: Option<String>,
}

/// Shows the versions of a tenant's secret, and when each was last used.
///
/// # Errors
/// When the tenant has no secret, or it or the table cannot be read.
pub(crate) async fn usage(context: &Context, secrets: &Secrets, tenant: &TenantId) -> Result<()> {
    let mut versions = versions(context, secrets, tenant).await?;
    // The current one first, then the previous; those without a stage open nothing.
    versions.sort_by_key(|version| {
        let at = |stage: &str| !version.stages.iter().any(|known| known == stage);
        (at("AWSCURRENT"), at(PREVIOUS), version.stages.is_empty(), version.id.clone())
    });
    let json: Vec<Value> = versions
        .iter()
        .map(|version| {
            json!({ "version": version.id, "stages": version.stages, "lastUsedAt": version.last_used })
        })
        .collect();
    context.output.result(&json!({ "tenant": tenant, "versions": json }), || {
        let rows = versions.into_iter().map(|Version { id, stages, last_used }| {
            let stages = if stages.is_empty() { "none: opens nothing".to_owned() } else { stages.join(", ") };
            vec![id, stages, last_used.unwrap_or_else(|| "never".to_owned())]
        });
        table(&["VERSION", "STAGES", "LAST USED"], rows)
    })
}

/// That a tenant's tokens could be signed so: without a key it would answer 503 within seconds.
///
/// # Errors
/// When its secret has no key for that, or cannot be read.
pub(crate) async fn must_sign(
    secrets: &Secrets,
    tenant: &TenantId,
    algorithm: SigningAlgorithm,
) -> Result<()> {
    let source = SecretsManager::new(secrets.client.clone(), secrets.prefix.clone());
    let found = source.secret(tenant).await?;
    let found = found.with_context(|| format!("tenant {tenant} has no secret {}{tenant}", secrets.prefix))?;
    let keys = TenantKeys::from_documents(tenant, &[SecretDocument::parse(&found.current.text)?])?;
    if !keys.can_sign(algorithm) {
        let name = algorithm.name();
        bail!(
            "the secret of tenant {tenant} has no signing key for {name}: add one first \
             (`tenant signing-key rotate {tenant} --algorithm {name}`), or nobody logs in"
        );
    }
    Ok(())
}

/// The versions of a tenant's secret, in no order.
async fn versions(context: &Context, secrets: &Secrets, tenant: &TenantId) -> Result<Vec<Version>> {
    let uses = context.store.secret_uses(tenant).await?;
    let mut uses: BTreeMap<_, _> = uses.into_iter().map(|LastUse { version, at }| (version, at)).collect();
    let found = stages(secrets, tenant).await?.into_iter();
    let found = found.map(|(id, stages)| Version {
        last_used: uses.remove(&id).map(|at| format!("{at:.0}")),
        id,
        stages,
    });
    Ok(found.collect())
}

/// The versions of a tenant's secret, with their stages.
async fn stages(secrets: &Secrets, tenant: &TenantId) -> Result<Vec<(String, Vec<String>)>> {
    let name = format!("{}{tenant}", secrets.prefix);
    let mut pages = secrets
        .client
        .list_secret_version_ids()
        .secret_id(&name)
        .include_deprecated(true)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let is_missing = |error: &ListSecretVersionIdsError| error.is_resource_not_found_exception();
        if page.as_ref().err().and_then(|error| error.as_service_error()).is_some_and(is_missing) {
            bail!("there is no secret {name}: check the tenant's id, and --secret-prefix");
        }
        let page = page
            .with_context(|| format!("cannot read the versions of secret {name}: check the credentials"))?;
        found.extend(page.versions.unwrap_or_default().into_iter().map(|version| {
            (version.version_id.unwrap_or_default(), version.version_stages.unwrap_or_default())
        }));
    }
    Ok(found)
}
