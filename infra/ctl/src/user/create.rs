//! `doorwardctl user create`

use std::sync::Arc;

use anyhow::{Result, bail};
use doorward::{
    domain::{
        Failure, Metadata, Password, PasswordHash, Profile, Role, Tenant, User, UserId, UserStatus, Username,
    },
    function::{SystemClock, SystemEntropy},
    password::{Argon2id, random_hash},
    port::{Clock, Passwords, random},
    usecase::support::new_password::Candidate,
};

use super::{args::CreateUser, described, metadata, tenant};
use crate::{Context, output::UsageError};

/// Memory for hashing one password, in MiB: the maximum that a tenant's policy allows.
const HASHING_MIB: usize = 256;

impl CreateUser {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let record = tenant(context, &self.tenant).await?;
        let password = self.password.read(context.output)?;
        if password.is_none() && self.change_required == Some(true) {
            bail!(UsageError(
                "--change-required needs a password; add --password or --password-stdin".to_owned()
            ));
        }
        let metadata = metadata::changed(&Metadata::default(), &self.profile.metadata, &[])
            .map_err(|invalid| UsageError(format!("--metadata: {invalid}")))?;
        let hash = match &password {
            Some(password) => hashed(&record, &self.username, password, None).await?,
            None => random_hash(&SystemEntropy, record.policy.hash_cost)?,
        };
        let now = SystemClock.now();
        let id = match self.id {
            Some(id) => id,
            None => UserId::from_random(random(&SystemEntropy)?),
        };
        let user = User {
            tenant: self.tenant,
            id,
            username: self.username,
            password: hash,
            organization: self.organization,
            customer: self.customer,
            customer_kind: self.customer_type,
            roles: Role::ordered(&self.roles),
            password_history: Vec::new(),
            email: self.email,
            phone: self.phone,
            unverified_email: self.unverified_email,
            unverified_phone: self.unverified_phone,
            profile: self.profile.applied(Profile::default()),
            metadata,
            locale: self.locale,
            status: UserStatus::Active,
            session_epoch: 0,
            proofs_epoch: 0,
            sessions_revision: 0,
            reset_required: password.is_none(),
            change_required: password.is_some()
                && self.change_required.unwrap_or(record.policy.admin_set_password_expires),
            sequence: 0,
            created_at: now,
            changed_at: now,
        };
        match context.store.create_user(&user, now).await {
            Err(Failure::UsernameTaken) => bail!(
                "tenant {} already has a user with the ID {} or the username {}; nothing changed",
                user.tenant,
                user.id,
                user.username.as_written()
            ),
            done => done?,
        }
        let known = context.store.user(&user.tenant, &user.id).await?.unwrap_or(user);
        context.output.result(&described(&known), || {
            let next = if known.reset_required {
                " The user has no password; it sets one with a reset code."
            } else {
                ""
            };
            format!("Created user {} of tenant {}.{next}", known.id, known.tenant)
        })
    }
}

/// Hashes a password after checking the rules for new passwords
/// (docs/design/security.md#rule-1 to #rule-3, #rule-6).
pub(super) async fn hashed(
    tenant: &Tenant,
    username: &Username,
    password: &Password,
    user: Option<&User>,
) -> Result<PasswordHash> {
    let candidate = Candidate { password, field: "password", username };
    candidate.check(tenant)?;
    let hasher = Argon2id::new(Arc::new(SystemEntropy), HASHING_MIB, 1);
    if let Some(user) = user {
        candidate.check_history(&hasher, &tenant.policy, user).await?;
    }
    Ok(hasher.hash(password.clone(), tenant.policy.hash_cost).await?)
}
