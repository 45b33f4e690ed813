//! The list of demo tenants and users.

use std::time::Duration;

use doorward::domain::{LinkHost, Policy, Role, SigningAlgorithm, TenantStatus};

pub(super) struct DemoTenant {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// The error or behaviour that this tenant demonstrates; `None` for a tenant to log in to.
    pub(super) shows: Option<&'static str>,
    pub(super) algorithm: SigningAlgorithm,
    /// Uses the tenant's published address as the issuer of its tokens.
    pub(super) is_issuer: bool,
    pub(super) status: TenantStatus,
    pub(super) policy: fn(Policy) -> Policy,
    pub(super) users: &'static [DemoUser],
}

pub(super) struct DemoUser {
    pub(super) id: &'static str,
    pub(super) username: &'static str,
    pub(super) role: Role,
    pub(super) organization: &'static str,
    pub(super) customer: Option<&'static str>,
    pub(super) phone: Option<&'static str>,
}

const CLOUDVAULT: &str = "f3a4b5c6-d7e8-49f0-1a2b-3c4d5e6f7a8b";
const NORDIC: &str = "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b";
const OTHER: &str = "c5d4e5f8-a9b0-4234-85d6-e7f8a9b0123c";

/// Hosts that links in Nordic Bank's templates may name.
const NORDIC_HOSTS: [&str; 2] = ["app.nordic.example", "app.nordic.example:8443"];

/// Tenant whose secret contains no signing key.
pub(super) const UNUSABLE: &str = "tenant_unusable";

pub(super) const TENANTS: &[DemoTenant] = &[
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
        shows: Some("returns TENANT_SUSPENDED"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Suspended,
        policy: |policy| policy,
        users: &[admin("admin", "admin@suspended.example", "org_suspended")],
    },
    DemoTenant {
        id: "tenant_restricted",
        name: "Restricted",
        shows: Some("returns IP_NOT_ALLOWED"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| Policy { ip_allow: "192.0.2.0/24".parse().into_iter().collect(), ..policy },
        users: &[admin("admin", "admin@restricted.example", "org_restricted")],
    },
    DemoTenant {
        id: UNUSABLE,
        name: "Unusable",
        shows: Some("returns UNAVAILABLE, because its secret contains no signing key"),
        algorithm: SigningAlgorithm::Es256,
        is_issuer: false,
        status: TenantStatus::Active,
        policy: |policy| policy,
        users: &[admin("admin", "admin@unusable.example", "org_unusable")],
    },
    DemoTenant {
        id: "tenant_shortlived",
        name: "Short-lived",
        shows: Some("has tokens of 5 s, sessions of 30 s and lockouts of 15 s"),
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
