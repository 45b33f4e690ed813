//! Creates the demo tenants and users. They exist only in the local stack and in tests.
//!
//! The names are those of the curl commands in the API examples. Two tenants use their published
//! address as issuer, one with RS256 and one with EdDSA, so that other verifiers can be tried. Four
//! tenants demonstrate errors: one is suspended, one allows no address of this machine, one has an
//! unusable secret, and one has tokens and sessions that last seconds.

mod tenants;

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretError;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{
        Collection, CustomerId, HashCost, Metadata, OrganizationId, Password, Policy, Profile,
        SigningAlgorithm, Tenant, TenantId, User, UserId, UserStatus, Username, tenant_url,
    },
    function::{SystemClock, SystemEntropy},
    password::Argon2id,
    port::{Clock, Passwords, random},
    secrets::Rotator,
    store::DynamoStore,
    token::{RootKey, SecretDocument, SigningKey, new_signing_key},
};
use secrecy::{ExposeSecret, SecretString};

use self::tenants::{DemoUser, TENANTS, UNUSABLE};
use crate::{SECRET_PREFIX, stack};

/// Tenant key of every demo tenant.
pub const TENANT_KEY: &str = "cvK_9XDw5g_Y_8aUtRQgPyX4aTBb";
/// Tenant secret of every demo tenant.
pub const TENANT_SECRET: &str = "your_tenant_secret";
/// Password of every demo user.
pub const PASSWORD: &str = "your_secure_password";

/// Parameters of [`seed`].
pub struct SeedContext {
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Name of the table.
    pub table: String,
    /// Address of the HTTP API.
    pub public_url: String,
    /// Keeps the demo users' current credentials instead of restoring them.
    pub keep_credentials: bool,
    /// Cost of hashing the demo passwords. Tests use a lower cost than the default.
    pub hash_cost: HashCost,
}

/// Demo data for the banner and the stack file.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// Tenants to log in to.
    pub tenants: Vec<stack::Tenant>,
    /// Tenants that demonstrate an error or a behaviour, with its description.
    pub showcases: Vec<(stack::Tenant, &'static str)>,
}

/// Creates the demo tenants and users, and returns them. Existing secrets (with their root keys) and
/// sessions are kept. Existing credentials are restored unless `keep_credentials` is set.
///
/// # Errors
/// When a call to DynamoDB or Secrets Manager fails.
pub async fn seed(context: &SeedContext) -> Result<Seeded> {
    let store = DynamoStore::new(context.dynamodb.clone(), context.table.clone());
    let hasher = Argon2id::new(Arc::new(SystemEntropy), 512, 2);
    let mut seeded = Seeded { tenants: Vec::new(), showcases: Vec::new() };
    let rotator = Rotator::new(
        context.secrets.clone(),
        SECRET_PREFIX.to_owned(),
        Arc::new(store.clone()),
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
    );
    for demo in TENANTS {
        let id = TenantId::parse(demo.id)?;
        let mut policy = Policy { algorithm: demo.algorithm, ..Policy::default() };
        if demo.is_issuer {
            policy.issuer = tenant_url(&context.public_url, &id);
        }
        let known = store.tenant(&id).await?;
        let tenant = Tenant {
            session_epoch: known.as_ref().map_or(0, |known| known.session_epoch),
            version: known.as_ref().map_or(0, |known| known.version),
            active_secret: None,
            previous_algorithm: None,
            name: demo.name.to_owned(),
            status: demo.status,
            policy: (demo.policy)(policy).bounded(),
            id,
        };
        match known {
            Some(known) => store.replace_tenant(&known, &tenant, SystemClock.now()).await?,
            None => store.create_tenant(&tenant, SystemClock.now()).await.map(|_| ())?,
        }
        seed_secret(context, &tenant).await?;
        rotator.publish(&tenant.id).await?;
        if !context.keep_credentials {
            free_usernames(&store, &tenant, demo.users).await?;
        }
        for user in demo.users {
            seed_user(context, &store, &hasher, &tenant, user).await?;
        }
        let published = stack::Tenant {
            tenant_id: demo.id.to_owned(),
            tenant_key: TENANT_KEY.to_owned(),
            tenant_secret: TENANT_SECRET.to_owned(),
            alg: demo.algorithm.name().to_owned(),
            users: demo.users.iter().map(DemoUser::published).collect(),
        };
        match demo.shows {
            None => seeded.tenants.push(published),
            Some(what) => seeded.showcases.push((published, what)),
        }
    }
    Ok(seeded)
}

impl DemoUser {
    fn published(&self) -> stack::User {
        stack::User {
            user_id: self.id.to_owned(),
            username: self.username.to_owned(),
            password: PASSWORD.to_owned(),
            email: self.username.to_owned(),
            roles: vec![self.role.name().to_owned()],
            organization_id: self.organization.to_owned(),
            customer_id: self.customer.map(str::to_owned),
        }
    }
}

async fn seed_secret(context: &SeedContext, tenant: &Tenant) -> Result<()> {
    let name = format!("{SECRET_PREFIX}{}", tenant.id);
    let known = context.secrets.describe_secret().secret_id(&name).send().await;
    match known {
        Ok(_) => return Ok(()),
        Err(error)
            if error.as_service_error().is_some_and(DescribeSecretError::is_resource_not_found_exception) => {
        }
        Err(error) => return Err(error).context("cannot read the demo secrets"),
    }
    let root: [u8; 32] = random(&SystemEntropy)?;
    let signing = match tenant.policy.algorithm {
        _ if tenant.id.as_str() == UNUSABLE => Vec::new(),
        SigningAlgorithm::Hs256 => Vec::new(),
        algorithm => vec![SigningKey {
            id: format!("{}-1", algorithm.name().to_lowercase()),
            algorithm: algorithm.name().to_owned(),
            private_key: signing_key(algorithm)?,
            retired_at: None,
        }],
    };
    let document = SecretDocument {
        tenant_key: SecretString::from(TENANT_KEY),
        tenant_secret: SecretString::from(TENANT_SECRET),
        root_keys: vec![RootKey {
            version: 1,
            key: SecretString::from(URL_SAFE_NO_PAD.encode(root)),
            retired_at: None,
        }],
        signing_keys: signing,
        made_from: None,
        created_at: None,
        version_id: String::new(),
    };
    context
        .secrets
        .create_secret()
        .name(name)
        .secret_string(document.to_text().expose_secret())
        .send()
        .await
        .context("cannot create a demo secret")?;
    Ok(())
}

/// Generates a signing key. All RS256 tenants of this process share one key, because generating it is slow
/// and tests seed often.
fn signing_key(algorithm: SigningAlgorithm) -> Result<SecretString> {
    static RSA: OnceLock<SecretString> = OnceLock::new();
    if algorithm != SigningAlgorithm::Rs256 {
        return Ok(new_signing_key(algorithm)?);
    }
    if let Some(key) = RSA.get() {
        return Ok(key.clone());
    }
    let made = new_signing_key(algorithm)?;
    Ok(RSA.get_or_init(|| made).clone())
}

/// Gives renamed demo users a temporary name, because one of them may have the original name of another.
async fn free_usernames(store: &DynamoStore, tenant: &Tenant, users: &[DemoUser]) -> Result<()> {
    for demo in users {
        let original = Username::parse(demo.username)?;
        let Some(known) = store.user(&tenant.id, &UserId::parse(demo.id)?).await? else {
            continue;
        };
        if !known.username.is_same(&original) {
            let temporary = Username::parse(&format!("restoring {}", demo.id))?;
            let moved = User { username: temporary, sequence: known.sequence + 1, ..known.clone() };
            store.replace_user(&known, &moved).await.context("cannot restore a demo user's name")?;
        }
    }
    Ok(())
}

async fn seed_user(
    context: &SeedContext,
    store: &DynamoStore,
    hasher: &Argon2id,
    tenant: &Tenant,
    demo: &DemoUser,
) -> Result<()> {
    let id = UserId::parse(demo.id)?;
    let cost = context.hash_cost;
    let password = Password::parse(PASSWORD)?;
    let known = store.user(&tenant.id, &id).await?;
    let now = SystemClock.now();
    let fresh = |hash, known: Option<&User>| -> Result<User> {
        Ok(User {
            tenant: tenant.id.clone(),
            id: id.clone(),
            username: Username::parse(demo.username)?,
            password: hash,
            organization: OrganizationId::parse(demo.organization)?,
            customer: demo.customer.map(CustomerId::parse).transpose()?,
            customer_kind: None::<Collection>,
            roles: vec![demo.role],
            password_history: Vec::new(),
            email: Some(demo.username.to_owned()),
            phone: demo.phone.map(str::to_owned),
            unverified_email: None,
            unverified_phone: None,
            profile: Profile::default(),
            metadata: Metadata::default(),
            locale: None,
            status: UserStatus::Active,
            session_epoch: known.map_or(0, |known| known.session_epoch),
            proofs_epoch: known.map_or(0, |known| known.proofs_epoch),
            sessions_revision: known.map_or(0, |known| known.sessions_revision),
            reset_required: false,
            change_required: false,
            sequence: known.map_or(0, |known| known.sequence + 1),
            created_at: known.map_or(now, |known| known.created_at),
            changed_at: now,
        })
    };
    match known {
        None => {
            let hash = hasher.hash(password, cost).await?;
            store.create_user(&fresh(hash, None)?, now).await?;
        }
        Some(known) if !context.keep_credentials => {
            let mut restored = fresh(known.password.clone(), Some(&known))?;
            if !hasher.verify(password.clone(), Some(known.password.clone()), cost).await?.is_right() {
                // As with any password change, the user's sessions end.
                restored.password = hasher.hash(password, cost).await?;
            }
            store.replace_user(&known, &restored).await?;
        }
        Some(_) => {}
    }
    Ok(())
}
