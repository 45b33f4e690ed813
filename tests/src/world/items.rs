//! Stored items: tenants, users, sessions and messages.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{
        Notification, PasswordHash, Policy, Session, SessionId, Tenant, TenantId, TenantStatus, User, UserId,
    },
    port::Clock,
    store::ExtraItem,
    token::{SecretDocument, TenantKeys},
};
use local::{SECRET_PREFIX, TABLE};

use crate::{Actor, Login, World};

impl World {
    /// Suspends or resumes a tenant and restricts it to a network (`admits`), then waits until
    /// caches expire.
    ///
    /// # Errors
    /// When the tenant does not exist or `admits` is not a network.
    pub async fn change_tenant(&self, tenant: &str, suspended: bool, admits: Option<&str>) -> Result<()> {
        let networks = admits.map(str::parse).transpose()?;
        self.replace_tenant(tenant, |record| {
            record.status = if suspended { TenantStatus::Suspended } else { TenantStatus::Active };
            record.policy.ip_allow = networks.into_iter().collect();
        })
        .await
    }

    /// Changes a tenant's policy, then waits until caches expire.
    ///
    /// # Errors
    /// When the tenant does not exist.
    pub async fn change_policy(&self, tenant: &str, change: impl FnOnce(&mut Policy)) -> Result<()> {
        self.replace_tenant(tenant, |record| change(&mut record.policy)).await
    }

    async fn replace_tenant(&self, tenant: &str, change: impl FnOnce(&mut Tenant)) -> Result<()> {
        let known =
            self.store.tenant(&TenantId::parse(tenant)?).await?.context("the tenant does not exist")?;
        let mut changed = known.clone();
        change(&mut changed);
        self.store.replace_tenant(&known, &changed, self.clock.now()).await?;
        self.clock.advance(Duration::from_secs(5));
        Ok(())
    }

    /// Reads a user's stored item.
    ///
    /// # Errors
    /// When the user does not exist.
    pub async fn user(&self, actor: &Actor) -> Result<User> {
        let (tenant, id) = (TenantId::parse(&actor.tenant.tenant_id)?, UserId::parse(&actor.user.user_id)?);
        self.store.user(&tenant, &id).await?.context("the user does not exist")
    }

    /// Reads a session's stored item.
    ///
    /// # Errors
    /// When the session does not exist.
    pub async fn session(&self, login: &Login) -> Result<Session> {
        let tenant = TenantId::parse(&login.actor.tenant.tenant_id)?;
        let (user, session) = (UserId::parse(&login.actor.user.user_id)?, SessionId::parse(&login.session)?);
        self.store
            .caller(&tenant, (&user, &session), None, ExtraItem::None)
            .await?
            .session
            .context("the session does not exist")
    }

    /// Replaces a user's password hash, as an import does.
    ///
    /// # Errors
    /// When the user does not exist.
    pub async fn import_hash(&self, actor: &Actor, phc: &str) -> Result<()> {
        let user = self.user(actor).await?;
        let password = PasswordHash::from_phc(phc.to_owned());
        let imported = User { password, sequence: user.sequence + 1, ..user.clone() };
        Ok(self.store.replace_user(&user, &imported).await?)
    }

    /// Deletes a session's item, as TTL does after the session has expired.
    ///
    /// # Errors
    /// When the item does not exist or the table does not respond.
    pub async fn forget(&self, login: &Login) -> Result<()> {
        let Actor { tenant, user, .. } = &login.actor;
        self.dynamodb
            .delete_item()
            .table_name(TABLE)
            .key("pk", AttributeValue::S(format!("T#{}#U#{}", tenant.tenant_id, user.user_id)))
            .key("sk", AttributeValue::S(format!("S#{}", login.session)))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await?;
        Ok(())
    }

    /// Returns the messages in a user's outbox, oldest first, decrypted with the tenant's key.
    ///
    /// # Errors
    /// When a message cannot be decrypted.
    pub async fn outbox(&self, tenant: &str, user: &str) -> Result<Vec<Notification>> {
        let keys = self.keys(tenant).await?;
        let mut messages = Vec::new();
        for key in self.outbox_keys(tenant, user).await? {
            let sealed = self.store.outbox(&key).await?.sealed.context("the message was deleted")?;
            messages.push(keys.open_notification(&sealed).map_err(|failure| anyhow!("{failure}"))?);
        }
        Ok(messages)
    }

    /// Returns the newest reset code in a user's outbox.
    ///
    /// # Errors
    /// When the outbox contains no reset code.
    pub async fn newest_code(&self, tenant: &str, user: &str) -> Result<String> {
        let messages = self.outbox(tenant, user).await?;
        let codes = messages.into_iter().filter_map(|message| match message {
            Notification::ResetCode(message) => Some(message),
            _ => None,
        });
        let newest = codes.max_by_key(|message| message.id).context("the outbox contains no reset code")?;
        Ok(newest.code.expose().to_owned())
    }

    /// Derives a tenant's keys from its secret.
    ///
    /// # Errors
    /// When the secret does not exist or is invalid.
    pub async fn keys(&self, tenant: &str) -> Result<TenantKeys> {
        let secret =
            self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        let document = SecretDocument::parse(&secret.secret_string.unwrap_or_default().into())?;
        Ok(TenantKeys::from_documents(&TenantId::parse(tenant)?, &[document])?)
    }
}
