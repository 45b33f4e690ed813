//! `doorwardctl tenant secret-usage`

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use aws_sdk_secretsmanager::operation::list_secret_version_ids::ListSecretVersionIdsError;
use doorward::{
    domain::{SigningAlgorithm, TenantId},
    port::SecretSource,
    secrets::{SecretDocument, SecretsManager},
    store::LastUse,
    token::TenantKeys,
};
use serde_json::{Value, json};

use crate::{Context, output::table, place::Secrets};

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
    let uses = context.store.secret_uses(tenant).await?;
    let mut uses: BTreeMap<_, _> = uses.into_iter().map(|LastUse { version, at }| (version, at)).collect();
    let mut versions: Vec<_> = stages(secrets, tenant)
        .await?
        .into_iter()
        .map(|(id, stages)| Version { last_used: uses.remove(&id).map(|at| format!("{at:.0}")), id, stages })
        .collect();
    // The current one first, then the previous; those without a stage open nothing.
    versions.sort_by_key(|version| {
        let at = |stage: &str| !version.stages.iter().any(|known| known == stage);
        (at("AWSCURRENT"), at("AWSPREVIOUS"), version.stages.is_empty(), version.id.clone())
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
            "the secret of tenant {tenant} has no signing key for {name}: add one first, or nobody logs in"
        );
    }
    Ok(())
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
