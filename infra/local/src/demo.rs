//! The demo tenants and users. They exist in the local stack only.
//!
//! What the seeds' curl commands name is here with those names. Two tenants name their own published address
//! as issuer, one with RS256 and one with EdDSA: what verifiers of others read. Four more make the error
//! rows reachable by hand: one suspended, one that admits no address of this machine, one whose
//! secret cannot be used, one whose tokens and sessions last seconds.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretError;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{
        Collection, CustomerId, HashCost, LinkHost, OrganizationId, Password, Policy, Role, SigningAlgorithm,
        Tenant, TenantId, TenantStatus, User, UserId, UserStatus, Username, tenant_url,
    },
    password::Argon2id,
    port::{Clock, Passwords, Store, random},
    runtime::{SystemClock, SystemEntropy},
    secrets::{RootKey, SecretDocument, SigningKey},
    store::DynamoStore,
    token::new_signing_key,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{SECRET_PREFIX, stack};

/// What every demo tenant's callers send.
pub const TENANT_KEY: &str = "cvK_9XDw5g_Y_8aUtRQgPyX4aTBb";
/// The other half of that.
pub const TENANT_SECRET: &str = "your_tenant_secret";
/// Every demo user's password.
pub const PASSWORD: &str = "your_secure_password";

/// What seeding needs.
pub struct SeedContext {
    /// Where the table is.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Where the secrets go.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// The table's name.
    pub table: String,
    /// Where people reach the routes.
    pub public_url: String,
    /// Leave the demo users' credentials as the last run left them.
    pub keep_credentials: bool,
    /// What hashing the demo passwords costs: the default, or less for tests.
    pub hash_cost: HashCost,
}

struct DemoTenant {
    id: &'static str,
    name: &'static str,
    /// What it is there for, if not for logging in.
    shows: Option<&'static str>,
    algorithm: SigningAlgorithm,
    /// Whether its tokens name its own published address as issuer.
    is_issuer: bool,
    status: TenantStatus,
    policy: fn(Policy) -> Policy,
    users: &'static [DemoUser],
}

struct DemoUser {
    id: &'static str,
    username: &'static str,
    role: Role,
    organization: &'static str,
    customer: Option<&'static str>,
    phone: Option<&'static str>,
}

const CLOUDVAULT: &str = "f3a4b5c6-d7e8-49f0-1a2b-3c4d5e6f7a8b";
const NORDIC: &str = "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b";
const OTHER: &str = "c5d4e5f8-a9b0-4234-85d6-e7f8a9b0123c";

/// Where links of Nordic Bank's own templates may lead.
const NORDIC_HOSTS: [&str; 2] = ["app.nordic.example", "app.nordic.example:8443"];

/// The tenant whose secret holds no key.
const UNUSABLE: &str = "tenant_unusable";

const TENANTS: &[DemoTenant] = &[
    DemoTenant {
        id: "tenant_cloudvault",
        name: "CloudVault",
        shows: None,
        algorithm: SigningAlgorithm::Hs256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| policy,
        users: &[
            admin("e2f3a4b5-c6d7-48e9-0f1a-2b3c4d5e6f7a", "admin@cloudvault.example", CLOUDVAULT),
            admin("d1e2f3a4-b5c6-47d8-9e0f-1a2b3c4d5e6f", "second.admin@cloudvault.example", CLOUDVAULT),
            customer(
                "6r1k1hw6npq",
                "erika.mustermann@example.com",
                CLOUDVAULT,
                "0d9e7a31-6c52-4f6b-9a57-1f0c3b2d4e5f",
            ),
        ],
    },
    DemoTenant {
        id: "97e7ff29-15f3-49ef-9681-3bbfcce4f6cd",
        name: "Nordic Bank",
        shows: None,
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| Policy { link_hosts: link_hosts(&NORDIC_HOSTS), ..policy },
        users: &[
            admin("3f0c9a52-7e41-4b86-a1d3-5c9e2f7b8a10", "admin@nordic.example", NORDIC),
            admin("8b1d4e63-2f95-4c07-b6a8-0e3d7c5f9b21", "second.admin@nordic.example", NORDIC),
            customer(
                "56305c2b-f13a-48e4-b462-ba55460b2ad9",
                "marcus.jensen@example.com",
                NORDIC,
                "ff72a196-426a-4ab3-a2d3-e4c583a9bc88",
            ),
            customer(
                "87b3af37-4ac1-402b-a0ea-53cfdc695e02",
                "ingrid.larsen@example.com",
                NORDIC,
                "1c6f0b7e-93d4-4a28-8e5b-7d2a9c4f6031",
            ),
            customer("user_12345", "oskar.berg@example.com", NORDIC, "2d7a1c8f-a4e5-4b39-9f6c-8e3b0d5a7142"),
            customer(
                "5a62be07de34500146d9c544",
                "freja.holm@example.com",
                NORDIC,
                "3e8b2d90-b5f6-4c4a-a07d-9f4c1e6b8253",
            ),
            customer("user_67890", "astrid.lund@example.com", NORDIC, "cust_12345"),
            admin("a92c5f74-3b06-4d18-87c9-1f4e8d6a0c32", "admin@other.example", OTHER),
        ],
    },
    DemoTenant {
        id: "tenant_harbour",
        name: "Harbour",
        shows: None,
        algorithm: SigningAlgorithm::Rs256,
        is_issuer: true,
        status: TenantStatus::Active,
        policy: |policy| policy,
        users: &[admin("admin", "admin@harbour.example", "org_harbour")],
    },
    DemoTenant {
        id: "tenant_lighthouse",
        name: "Lighthouse",
        shows: None,
        algorithm: SigningAlgorithm::EdDsa,
        is_issuer: true,
        status: TenantStatus::Active,
        policy: |policy| policy,
        users: &[admin("admin", "admin@lighthouse.example", "org_lighthouse")],
    },
    DemoTenant {
        id: "tenant_suspended",
        name: "Suspended",
        shows: Some("answers TENANT_SUSPENDED"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Suspended,
        policy: |policy| policy,
        users: &[admin("admin", "admin@suspended.example", "org_suspended")],
    },
    DemoTenant {
        id: "tenant_restricted",
        name: "Restricted",
        shows: Some("answers IP_NOT_ALLOWED"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| Policy { ip_allow: "192.0.2.0/24".parse().into_iter().collect(), ..policy },
        users: &[admin("admin", "admin@restricted.example", "org_restricted")],
    },
    DemoTenant {
        id: UNUSABLE,
        name: "Unusable",
        shows: Some("has a secret that cannot be used and answers UNAVAILABLE"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| policy,
        users: &[admin("admin", "admin@unusable.example", "org_unusable")],
    },
    DemoTenant {
        id: "tenant_shortlived",
        name: "Short-lived",
        shows: Some("has tokens that live 5 s, sessions that live 30 s and lockouts of 15 s"),
        algorithm: SigningAlgorithm::EdDsa,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| Policy {
            token_life: Duration::from_secs(5),
            idle_life: Duration::from_secs(10),
            session_life: Duration::from_secs(30),
            grace: Duration::from_secs(3),
            lockout: Duration::from_secs(15),
            ..policy
        },
        users: &[admin("admin", "admin@shortlived.example", "org_shortlived")],
    },
];

fn link_hosts(hosts: &[&str]) -> Vec<LinkHost> {
    hosts.iter().filter_map(|host| LinkHost::parse(host).ok()).collect()
}

const fn admin(id: &'static str, username: &'static str, organization: &'static str) -> DemoUser {
    DemoUser { id, username, role: Role::Admin, organization, customer: None, phone: None }
}

const fn customer(
    id: &'static str,
    username: &'static str,
    organization: &'static str,
    customer: &'static str,
) -> DemoUser {
    DemoUser {
        id,
        username,
        role: Role::User,
        organization,
        customer: Some(customer),
        phone: Some("+4512345678"),
    }
}

/// The demo data.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// The tenants to log in to.
    pub tenants: Vec<stack::Tenant>,
    /// More of them, each to see one kind of error with, and what that is.
    pub showcases: Vec<(stack::Tenant, &'static str)>,
}

/// Writes the demo tenants and users, and says what they are. What exists already is kept: secrets,
/// and so root keys, always; sessions too; credentials are restored unless they are to be kept.
///
/// # Errors
/// When one of the services refuses.
pub async fn seed(context: &SeedContext) -> Result<Seeded> {
    let store = DynamoStore::new(context.dynamodb.clone(), context.table.clone());
    let hasher = Argon2id::new(Arc::new(SystemEntropy), 512, 2);
    let mut seeded = Seeded { tenants: Vec::new(), showcases: Vec::new() };
    for demo in TENANTS {
        let id = TenantId::parse(demo.id)?;
        let mut policy =
            Policy { algorithm: demo.algorithm, hash_cost: context.hash_cost, ..Policy::default() };
        if demo.is_issuer {
            policy.issuer = tenant_url(&context.public_url, &id);
        }
        let known = store.tenant(&id).await?;
        let tenant = Tenant {
            session_epoch: known.as_ref().map_or(0, |known| known.session_epoch),
            version: known.as_ref().map_or(0, |known| known.version),
            name: demo.name.to_owned(),
            status: demo.status,
            policy: (demo.policy)(policy).bounded(),
            id,
        };
        match known {
            Some(known) => store.replace_tenant(&known, &tenant).await?,
            None => store.create_tenant(&tenant, SystemClock.now()).await.map(|_| ())?,
        }
        seed_secret(context, &tenant).await?;
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
        Err(error) => return Err(error).context("cannot look the demo secrets up"),
    }
    let root: [u8; 32] = random(&SystemEntropy)?;
    let signing = match tenant.policy.algorithm {
        _ if tenant.id.as_str() == UNUSABLE => Vec::new(),
        SigningAlgorithm::Hs256 => Vec::new(),
        algorithm => vec![SigningKey {
            id: format!("{}-1", algorithm.name().to_lowercase()),
            algorithm: algorithm.name().to_owned(),
            private_key: signing_key(algorithm)?,
        }],
    };
    let document = SecretDocument {
        tenant_key: SecretString::from(TENANT_KEY),
        tenant_secret: SecretString::from(TENANT_SECRET),
        root_keys: vec![RootKey { version: 1, key: SecretString::from(URL_SAFE_NO_PAD.encode(root)) }],
        signing_keys: signing,
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

/// A new key; of RS256 one for the whole process, since making one takes a while and tests seed often.
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

/// Moves demo users that were renamed to names of nobody: one may have taken another's.
async fn free_usernames(store: &DynamoStore, tenant: &Tenant, users: &[DemoUser]) -> Result<()> {
    for demo in users {
        let original = Username::parse(demo.username)?;
        let Some(known) = store.user(&tenant.id, &UserId::parse(demo.id)?).await? else {
            continue;
        };
        if !known.username.is_same(&original) {
            let nobodys = Username::parse(&format!("restoring {}", demo.id))?;
            let moved = User { username: nobodys, sequence: known.sequence + 1, ..known.clone() };
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
    let cost = tenant.policy.hash_cost;
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
            locale: None,
            status: UserStatus::Active,
            session_epoch: known.map_or(0, |known| known.session_epoch),
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
            if !hasher.verify(password.clone(), Some(known.password.clone()), cost).await? {
                // Sessions end with the old one, as with any change.
                restored.password = hasher.hash(password, cost).await?;
            }
            store.replace_user(&known, &restored).await?;
        }
        Some(_) => {}
    }
    Ok(())
}
