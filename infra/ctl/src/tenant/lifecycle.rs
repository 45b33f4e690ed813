//! `doorwardctl tenant create` and `doorwardctl tenant delete`

use anyhow::{Result, bail};
use doorward::{
    domain::{
        ActiveSecret, Failure, FieldError, Policy, PolicyDocument, PolicyField, Tenant, TenantId,
        TenantStatus,
    },
    port::Clock,
    secrets::RotationError,
    store::Switched,
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    args::{CreateTenant, fields},
    secret,
};
use crate::{
    Context,
    output::UsageError,
    target::{Target, TenantSecrets},
};

impl CreateTenant {
    /// Creates the secret, then the record. A secret without a record cannot be used, but a record without a
    /// secret would make every request of the tenant return 503.
    pub(super) async fn run(self, context: &Context, target: &Target) -> Result<()> {
        let wanted = self.tenant()?;
        let Tenant { id, policy, .. } = &wanted;
        if context.store.tenant_record(id).await?.is_some() {
            bail!("tenant {id} already exists; see `tenant show {id}`");
        }
        let secrets = target.secrets().await?;
        let rotator = secrets.rotator();
        let made = match rotator.create_first(id, policy.algorithm).await {
            Err(RotationError::Exists(name)) if self.replace_secret => {
                if !self.yes {
                    let question =
                        format!("Replace the content of secret {name}? The old credentials stop working.");
                    context.output.confirm(&question, id.as_str())?;
                }
                let made = rotator.replace(id, policy.algorithm).await?;
                rotator.retire_replaced(id, &made).await?;
                made
            }
            Err(error @ RotationError::Exists(_)) => {
                bail!("{error}. If no other stack uses it, run `tenant create {id} --replace-secret`")
            }
            made => made?,
        };
        rotator.publish(id).await?;
        let now = secrets.clock.now();
        let active_secret = Some(ActiveSecret {
            version: made.id.clone(),
            since: now,
            previous_retired_at: Some(now),
            retired: made.replaced.clone(),
        });
        context.store.create_tenant(&Tenant { active_secret, ..wanted.clone() }, now).await?;
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
            format!("Created tenant {id}. Save these credentials now; they are not shown again.\n\n{pair}")
        })
    }

    /// Returns the tenant that the arguments describe.
    ///
    /// # Errors
    /// `Validation` with all faults of the policy, before anything is created.
    fn tenant(&self) -> Result<Tenant> {
        let mut fields = fields(self.file.as_deref(), &self.set, Vec::new())?;
        if fields.contains_key("algorithm") {
            bail!(UsageError("the algorithm is not set with --set; use --algorithm".to_owned()));
        }
        fields.insert("algorithm".to_owned(), Some(json!(self.algorithm.name())));
        let unknown = fields.keys().filter(|name| PolicyField::named(name).is_none());
        let mut errors: Vec<_> = unknown
            .map(|name| FieldError::new(name.clone(), "is not a policy field; see docs/policy.md"))
            .collect();
        let document: PolicyDocument =
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
            active_secret: None,
            previous_algorithm: None,
            policy,
        })
    }
}

/// Deletes the record first: after this write the tenant does not exist. A second call deletes what an
/// interrupted call left.
pub(super) async fn delete(
    context: &Context,
    secrets: &TenantSecrets,
    tenant: &TenantId,
    recovery_days: i64,
    whole_table: bool,
) -> Result<()> {
    let is_listed = context.store.tenant_record(tenant).await?.is_some_and(|record| record.lists_users());
    let record = context.store.delete_tenant(tenant).await?;
    // Without a record, an earlier call was interrupted, and nothing tells whether the index lists all users.
    let items = if whole_table || !is_listed {
        context.store.clear_whole_tenant(tenant).await?
    } else {
        context.store.clear_tenant(tenant).await?
    };
    // If the table has no items of the tenant, the secret could belong to another stack with the same prefix.
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
                "The table contains nothing of tenant {tenant}. Nothing was deleted, including a secret with \
                 its name."
            );
        }
        let secret = if secret {
            format!("Its secret can be restored for {recovery_days} days.")
        } else {
            "It had no secret.".to_owned()
        };
        format!("Deleted tenant {tenant} and {items} of its items. {secret}")
    })
}
