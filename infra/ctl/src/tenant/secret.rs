//! `doorwardctl tenant secret …`, `root-key …`, `signing-key …` and `secret-usage`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, bail};
use aws_sdk_secretsmanager::operation::list_secret_version_ids::ListSecretVersionIdsError;
use clap::{Args, Subcommand};
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    secrets::{NewVersion, Old, Renewal, RotationError, SecretsManager, SigningKeys},
    store::LastUse,
    token::{SecretDocument, TenantKeys},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{Context, output::table, target::TenantSecrets};

/// The stage of the version that stays valid until it is retired.
const PREVIOUS: &str = "AWSPREVIOUS";

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Create a new tenantSecret and show it once
    ///
    /// Callers can use the old tenantSecret until `tenant secret retire` or the next rotation. With --leaked,
    /// the command replaces tenantKey and tenantSecret, and the old ones are rejected within 5 s.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant secret rotate TENANT")]
    Rotate {
        #[command(flatten)]
        what: RotationArgs,
        /// Create a new tenantKey as well
        #[arg(long)]
        tenant_key: bool,
    },
    /// Retire the previous version of a tenant's secret
    ///
    /// The tenantSecret of this version is rejected within 5 s. Tokens and codes whose key is only in this
    /// version are also rejected. Asks for confirmation unless --yes is given. The question shows
    /// when the version was last used.
    Retire {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootKeyCommand {
    /// Create a new root key
    ///
    /// The old root key stays in the secret for 367 days, so that its tokens and codes stay valid and no
    /// session ends. With --leaked, the command removes all old root keys, and sessions that depend on them
    /// end within 5 s.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant root-key rotate TENANT")]
    Rotate(RotationArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeyCommand {
    /// Sign with the published standby key and publish a new standby key
    ///
    /// Verifiers already know the standby key, because `tenant create` or an earlier rotation published it.
    /// The old key stays in the secret for 367 days, so that its tokens stay valid and no session ends. With
    /// --leaked, the command removes all old keys, including the standby key, and creates new ones. Tokens
    /// that the old keys signed are rejected within 5 s.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant signing-key rotate TENANT \\
    --algorithm RS256")]
    Rotate {
        #[command(flatten)]
        what: RotationArgs,
        /// Algorithm of the keys to rotate: ES256, EdDSA or RS256. Adds keys if the secret has none of this
        /// algorithm [default: all algorithms that the secret has keys for]
        #[arg(long, value_parser = asymmetric)]
        algorithm: Option<SigningAlgorithm>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RotationArgs {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// Use this option if the old values leaked. Removes them from the secret, and retires the previous version
    /// of the secret at once. Callers and sessions that depend on the old values are rejected within 5 s
    #[arg(long)]
    leaked: bool,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

impl SecretCommand {
    pub(crate) async fn run(self, context: &Context, secrets: &TenantSecrets) -> Result<()> {
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
                        "The old credentials are rejected within 5 s.".to_owned()
                    } else {
                        format!(
                            "Wait one minute, then give them to the callers. The old ones stay valid until \
                             `tenant secret retire {tenant}`."
                        )
                    };
                    format!(
                        "Rotated the secret of tenant {tenant}. Save these credentials now; they are \
                         not shown again.\n\n{pair}\n\n{next}"
                    )
                })?;
                retired
            }
            Self::Retire { tenant, yes } => retire(context, secrets, &tenant, yes).await,
        }
    }
}

impl RootKeyCommand {
    pub(crate) async fn run(self, context: &Context, secrets: &TenantSecrets) -> Result<()> {
        let Self::Rotate(what) = self;
        let renewal = Renewal { root_key: true, ..what.renewal() };
        rotate_keys(context, secrets, &what, renewal, "root key").await
    }
}

impl SigningKeyCommand {
    pub(crate) async fn run(self, context: &Context, secrets: &TenantSecrets) -> Result<()> {
        let Self::Rotate { what, algorithm } = self;
        let signing_keys = algorithm.map_or(SigningKeys::EachListed, SigningKeys::Of);
        let renewal = Renewal { signing_keys, ..what.renewal() };
        rotate_keys(context, secrets, &what, renewal, "signing key").await
    }
}

impl RotationArgs {
    fn renewal(&self) -> Renewal {
        Renewal { old: if self.leaked { Old::Dropped } else { Old::Kept }, ..Renewal::default() }
    }
}

fn asymmetric(name: &str) -> Result<SigningAlgorithm, &'static str> {
    let algorithm = SigningAlgorithm::from_name(name).filter(|known| *known != SigningAlgorithm::Hs256);
    algorithm.ok_or("must be one of ES256, EdDSA, RS256; for HS256, use `tenant root-key rotate`")
}

/// Formats `tenantKey` and `tenantSecret` as a table.
pub(crate) fn pair_table(key: &str, secret: &str) -> String {
    let rows = [("tenantKey", key), ("tenantSecret", secret)];
    table(&["FIELD", "VALUE"], rows.map(|(name, value)| vec![name.to_owned(), value.to_owned()]))
}

async fn rotate_keys(
    context: &Context,
    secrets: &TenantSecrets,
    what: &RotationArgs,
    renewal: Renewal,
    name: &str,
) -> Result<()> {
    let (made, retired) = rotate(context, secrets, what, renewal).await?;
    let tenant = &what.tenant;
    let value = json!({ "tenant": tenant, "version": made.id, "renewed": name, "leaked": what.leaked });
    context.output.result(&value, || {
        let effect = if what.leaked {
            "Everything that depends on the old one ends within 5 s."
        } else {
            "It is used everywhere within 15 s."
        };
        format!("Created a new {name} for tenant {tenant}. {effect}")
    })?;
    retired
}

/// Rotates a secret, after a confirmation if a version in use becomes invalid.
///
/// The second result reports whether the record names the new version, and whether the previous version was
/// retired, if that was required. The caller returns it only after showing the new version, because the new
/// credentials are not shown again.
async fn rotate(
    context: &Context,
    secrets: &TenantSecrets,
    what: &RotationArgs,
    renewal: Renewal,
) -> Result<(NewVersion, Result<()>)> {
    let RotationArgs { tenant, leaked, yes } = what;
    if !yes {
        // Every rotation removes the present previous version.
        let previous = previous(context, secrets, tenant).await?;
        let used = previous.and_then(|version| Some((version.id, version.last_used?)));
        let question = match used {
            _ if *leaked => Some(format!("Invalidate the old values of tenant {tenant} within 5 s?")),
            Some((id, at)) => Some(format!(
                "The previous version {id} was last used at {at}. The rotation makes it invalid. Rotate?"
            )),
            None => None,
        };
        if let Some(question) = question {
            context.output.confirm(&question, tenant.as_str())?;
        }
    }
    let rotator = secrets.rotator();
    let made = rotator.rotate(tenant, renewal).await?;
    let retired = if *leaked { Some(rotator.retire_replaced(tenant, &made).await) } else { None };
    let problem = problem(tenant, made.activated.as_ref().err(), retired);
    Ok((made, problem))
}

/// Reports what a rotation left to do. A retirement also writes the new version to the record, so that it completes an
/// activation that failed.
fn problem(
    tenant: &TenantId,
    activation: Option<&RotationError>,
    retired: Option<Result<(), RotationError>>,
) -> Result<()> {
    match (retired, activation) {
        (Some(retired), _) => retired.with_context(|| {
            format!(
                "the old version may still be valid beside the new one; run `tenant secret retire {tenant} --yes`"
            )
        }),
        (None, Some(error)) => Err(anyhow!(
            "{error}. The new version is valid, but processes may reject it for up to 5 min, and the old keys \
             sign until the next rotation or `tenant secret retire {tenant}`"
        )),
        (None, None) => Ok(()),
    }
}

async fn retire(context: &Context, secrets: &TenantSecrets, tenant: &TenantId, yes: bool) -> Result<()> {
    if !yes && let Some(version) = previous(context, secrets, tenant).await? {
        let used = version.last_used.unwrap_or_else(|| "never".to_owned());
        let question = format!("Retire version {}? Last used: {used}.", version.id);
        context.output.confirm(&question, tenant.as_str())?;
    }
    let retired = secrets.rotator().retire_previous(tenant).await?;
    let value = json!({ "tenant": tenant, "retired": retired, "changed": retired.is_some() });
    context.output.result(&value, || match retired {
        Some(version) => format!("Retired version {version}. It is rejected everywhere within 5 s."),
        None => format!(
            "The secret of tenant {tenant} has no previous version. If it was rotated within the last minute, \
             wait one minute and run the command again."
        ),
    })
}

/// Returns the version at the stage `AWSPREVIOUS`.
async fn previous(
    context: &Context,
    secrets: &TenantSecrets,
    tenant: &TenantId,
) -> Result<Option<SecretVersion>> {
    let versions = versions(context, secrets, tenant).await?;
    Ok(versions.into_iter().find(|version| version.stages.iter().any(|stage| stage == PREVIOUS)))
}

/// A version of a tenant's secret.
struct SecretVersion {
    id: String,
    stages: Vec<String>,
    last_used: Option<String>,
}

/// Shows the versions of a tenant's secret, and when each was last used.
///
/// # Errors
/// If the tenant has no secret, or if the secret or the table cannot be read.
pub(crate) async fn usage(context: &Context, secrets: &TenantSecrets, tenant: &TenantId) -> Result<()> {
    let mut versions = versions(context, secrets, tenant).await?;
    // The current version first, then the previous one. Versions without a stage are no longer valid.
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
        let rows = versions.into_iter().map(|SecretVersion { id, stages, last_used }| {
            let stages = if stages.is_empty() { "none (invalid)".to_owned() } else { stages.join(", ") };
            vec![id, stages, last_used.unwrap_or_else(|| "never".to_owned())]
        });
        table(&["VERSION", "STAGES", "LAST USED"], rows)
    })
}

/// Checks that the tenant's secret has a signing key for the algorithm. Without one, every login would fail
/// with 503 within seconds.
///
/// # Errors
/// If the secret has no such key or cannot be read.
pub(crate) async fn check_signing_key(
    secrets: &TenantSecrets,
    tenant: &TenantId,
    algorithm: SigningAlgorithm,
) -> Result<()> {
    let source = SecretsManager::new(secrets.client.clone(), secrets.prefix.clone());
    let found = source.secret(tenant).await?;
    let found = found.with_context(|| {
        format!("tenant {tenant} has no secret {}{tenant}; check --secret-prefix", secrets.prefix)
    })?;
    let keys = TenantKeys::from_documents(tenant, &[SecretDocument::parse(&found.current.text)?])?;
    if !keys.can_sign(algorithm) {
        let name = algorithm.name();
        bail!(
            "the secret of tenant {tenant} has no signing key for {name}; add one first with \
             `tenant signing-key rotate {tenant} --algorithm {name}`"
        );
    }
    Ok(())
}

/// Returns the versions of a tenant's secret with their last use, in no order.
async fn versions(
    context: &Context,
    secrets: &TenantSecrets,
    tenant: &TenantId,
) -> Result<Vec<SecretVersion>> {
    let uses = context.store.secret_uses(tenant).await?;
    let mut uses: BTreeMap<_, _> = uses.into_iter().map(|LastUse { version, at }| (version, at)).collect();
    let found = stages(secrets, tenant).await?.into_iter();
    let found = found.map(|(id, stages)| SecretVersion {
        last_used: uses.remove(&id).map(|at| format!("{at:.0}")),
        id,
        stages,
    });
    Ok(found.collect())
}

/// Returns the version IDs of a tenant's secret with their stages.
async fn stages(secrets: &TenantSecrets, tenant: &TenantId) -> Result<Vec<(String, Vec<String>)>> {
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
            bail!("secret {name} does not exist; check the tenant ID and --secret-prefix");
        }
        let page = page
            .with_context(|| format!("cannot read the versions of secret {name}; check the credentials"))?;
        found.extend(page.versions.unwrap_or_default().into_iter().map(|version| {
            (version.version_id.unwrap_or_default(), version.version_stages.unwrap_or_default())
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use doorward::domain::Failure;

    use super::*;

    #[test]
    fn retirement_completes_a_failed_activation() {
        let tenant = TenantId::parse("t").unwrap();
        let failed = || RotationError::Failed(Failure::Unavailable("down".into()));
        let text = |retired| format!("{:#}", problem(&tenant, Some(&failed()), retired).unwrap_err());
        assert!(problem(&tenant, Some(&failed()), Some(Ok(()))).is_ok());
        assert!(text(None).contains("The new version is valid"));
        assert!(text(Some(Err(failed()))).contains("the old version may still be valid"));
        assert!(problem(&tenant, None, None).is_ok());
    }
}
