//! Arguments of `doorwardctl tenant …`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use doorward::{
    domain::{PolicyDocument, PolicyField, SigningAlgorithm, TenantId},
    store::TenantChange,
};
use serde_json::Value;

use super::secret;
use crate::{
    input::{position, without_mark},
    output::UsageError,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant and show its credentials
    ///
    /// Creates the tenant's secret, then its record. Shows the tenantKey and the tenantSecret that API
    /// callers send. They are not shown again. If the command is interrupted before it writes the record, run
    /// it again. It can then report that the secret exists. In this case, check that no other stack uses the
    /// secret, and add --replace-secret.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant create tenant_acme --name Acme \\
    --set max_attempts=3")]
    Create(CreateTenant),
    /// List all tenants
    ///
    /// Reads the whole table.
    List,
    /// Show a tenant and its policy
    ///
    /// Shows the value of each policy field, and whether this value is set or the default. Also lists faults
    /// of the stored policy.
    Show {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Change a tenant's policy or name
    ///
    /// Applies all changes in one write, or none if a field is invalid. The changes take effect everywhere
    /// within 5 s. docs/policy.md lists the fields.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant update TENANT \\
    --set link_hosts=app.example.com,www.example.com --unset locale")]
    Update(UpdateTenant),
    /// Suspend a tenant and end all its sessions
    ///
    /// Every request for the tenant is rejected, and all its sessions end permanently. Both take effect
    /// everywhere within 5 s. Asks for confirmation unless --yes is given.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant suspend TENANT")]
    Suspend {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Resume a suspended tenant
    ///
    /// Requests for the tenant are accepted again. Sessions that the suspension ended stay ended.
    Resume {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Delete a suspended tenant permanently
    ///
    /// Deletes the tenant's record, its users and its API clients. Failed attempts of addresses and unknown
    /// users, sessions of deleted users and stored results stay until they expire, unless --whole-table is
    /// given. The anchors of the audit log stay for 400 days, because `audit verify` needs them. The secret
    /// can be restored for the number of days in --recovery-days. If the command is interrupted, run it
    /// again. Asks for confirmation unless --yes is given.
    #[command(after_help = "Example:
  doorwardctl --table doorward tenant suspend TENANT
  doorwardctl --table doorward tenant delete TENANT --recovery-days 7")]
    Delete {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
        /// Number of days during which the secret can be restored
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(7..=30))]
        recovery_days: i64,
        /// Read the whole table to delete also the items that expire, at one read unit for each 4 KB
        #[arg(long)]
        whole_table: bool,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Rotate or retire the credentials that a tenant's callers send
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Rotate the root key, which protects refresh tokens, codes and HS256 tokens
    #[command(subcommand)]
    RootKey(secret::RootKeyCommand),
    /// Rotate the keys that sign access tokens
    #[command(subcommand)]
    SigningKey(secret::SigningKeyCommand),
    /// Copy the public keys of tenants from their secrets to the table
    ///
    /// The function `discovery` reads the public keys from the table and publishes them. Rotations and
    /// `tenant create` also write the keys to the table. Run this command after you changed a secret by hand.
    /// Also run it before you upgrade from a version whose `discovery` does not read the table. Otherwise
    /// requests for the public keys return 503 after the upgrade; see docs/upgrading.md.
    PublishKeys {
        /// Tenant ID [default: all tenants]
        #[arg(value_parser = TenantId::parse)]
        tenant: Option<TenantId>,
    },
    /// Show the versions of a tenant's secret and when each was last used
    ///
    /// When callers no longer use the previous version, retire it with `tenant secret retire`.
    SecretUsage {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateTenant {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(super) tenant: TenantId,
    /// Display name of the tenant [default: the tenant ID]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Signature algorithm of access tokens: ES256, EdDSA, RS256 or HS256
    #[arg(long, value_parser = signing_algorithm, default_value = "ES256")]
    pub(super) algorithm: SigningAlgorithm,
    /// Policy field to set. Separate list elements with commas. Can be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub(super) set: Vec<String>,
    /// JSON file with an object of policy fields to set
    #[arg(long, value_name = "POLICY_JSON")]
    pub(super) file: Option<PathBuf>,
    /// If the tenant's secret already exists, replace its content. The old credentials are rejected within
    /// 5 s. Use this option only if no other stack uses the secret
    #[arg(long)]
    pub(super) replace_secret: bool,
    /// Skip the confirmation
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateTenant {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(super) tenant: TenantId,
    /// Policy field to set. Separate list elements with commas. Can be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub(super) set: Vec<String>,
    /// Policy field to reset to its default. Can be repeated
    #[arg(long, value_name = "FIELD")]
    pub(super) unset: Vec<String>,
    /// JSON file with an object of policy fields to set. null resets a field to its default
    #[arg(long, value_name = "POLICY_JSON")]
    pub(super) file: Option<PathBuf>,
    /// Display name of the tenant
    #[arg(long)]
    pub(super) name: Option<String>,
}

impl UpdateTenant {
    /// Returns the change that the arguments describe.
    ///
    /// # Errors
    /// [`UsageError`] if the arguments change nothing or name a field twice.
    pub(super) fn change(self) -> Result<TenantChange> {
        let policy = fields(self.file.as_deref(), &self.set, self.unset)?;
        if policy.is_empty() && self.name.is_none() {
            bail!(UsageError("nothing to change; pass --set, --unset, --file or --name".to_owned()));
        }
        Ok(TenantChange { name: self.name, policy })
    }
}

/// Returns the policy fields that the arguments set (`Some`) or reset (`None`).
///
/// # Errors
/// [`UsageError`] if a field appears twice.
pub(super) fn fields(
    file: Option<&Path>,
    set: &[String],
    unset: Vec<String>,
) -> Result<BTreeMap<String, Option<Value>>> {
    let mut wanted = Vec::new();
    if let Some(file) = file {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = without_mark(&text).trim_ascii_end();
        let document: PolicyDocument = serde_json::from_slice(text).map_err(|error| {
            let (line, column) = position(text, &error);
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            let file = file.display();
            anyhow!("{file} does not contain a valid JSON object: {reason} at line {line} column {column}")
        })?;
        wanted.extend(document.into_iter().map(|(name, value)| (name, (!value.is_null()).then_some(value))));
    }
    for set in set {
        let (name, typed) = set
            .split_once('=')
            .ok_or_else(|| UsageError(format!("--set {set} has no `=`; use --set FIELD=VALUE")))?;
        // An unknown field is rejected later, together with all other errors.
        let value = PolicyField::named(name).map_or_else(|| Value::from(typed), |field| field.typed(typed));
        wanted.push((name.to_owned(), Some(value)));
    }
    wanted.extend(unset.into_iter().map(|name| (name, None)));
    let count = wanted.len();
    let fields: BTreeMap<_, _> = wanted.into_iter().collect();
    if fields.len() < count {
        bail!(UsageError("a policy field appears twice; pass it once".to_owned()));
    }
    Ok(fields)
}

fn signing_algorithm(name: &str) -> Result<SigningAlgorithm, &'static str> {
    SigningAlgorithm::from_name(name).ok_or("must be one of ES256, EdDSA, RS256, HS256")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(set: &[&str], unset: &[&str]) -> UpdateTenant {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let tenant = TenantId::parse("t").unwrap();
        UpdateTenant { tenant, set: owned(set), unset: owned(unset), file: None, name: None }
    }

    #[test]
    fn set_and_unset_arguments_become_typed_policy_changes() {
        let change = update(&["grace_seconds=7", "issuer=a=b"], &["locale"]).change().unwrap();
        let expected = [("grace_seconds", Some(json!(7))), ("issuer", Some(json!("a=b"))), ("locale", None)];
        assert_eq!(change.policy, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn policy_file_may_begin_with_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.json");
        std::fs::write(&file, "\u{feff}{\"grace_seconds\": 7}").unwrap();
        let read = fields(Some(&file), &[], Vec::new()).unwrap();
        assert_eq!(read, [("grace_seconds".to_owned(), Some(json!(7)))].into());
    }

    #[test]
    fn contradicting_or_empty_changes_are_usage_errors() {
        for (set, unset) in
            [(vec![], vec![]), (vec!["grace_seconds"], vec![]), (vec!["locale=de"], vec!["locale"])]
        {
            assert!(update(&set, &unset).change().unwrap_err().is::<UsageError>(), "{set:?} {unset:?}");
        }
    }
}
