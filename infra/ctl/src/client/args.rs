//! Arguments of `doorwardctl client …`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use doorward::domain::{ClientId, ClientName, ClientScope, OrganizationId, TenantId};
use ipnet::IpNet;

#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Create an API client and show its secret
    ///
    /// The secret is shown once. With --jwks, the client has no secret. It authenticates with
    /// `private_key_jwt`, and the file contains its public keys. A tenant has at most 50 clients.
    #[command(after_help = "Examples:
  doorwardctl --table doorward client create TENANT --name Shop \\
    --scope users:read --scope introspect
  doorwardctl --table doorward client create TENANT --name Shop \\
    --scope sessions:write --jwks public-keys.json")]
    Create(CreateClient),
    /// List the API clients of a tenant
    List {
        /// Tenant ID
        #[arg(value_parser = TenantId::parse)]
        tenant: TenantId,
    },
    /// Show an API client and its credentials
    ///
    /// Secrets are not stored and cannot be shown.
    Show(ClientRef),
    /// Create another secret, or replace the public keys
    ///
    /// The old secret stays valid until `client retire`. With --jwks, the keys that are missing in the file
    /// are retired at once. Tokens of a retired secret or key are rejected.
    #[command(after_help = "Example:
  doorwardctl --table doorward client rotate TENANT CLIENT")]
    Rotate(RotateClient),
    /// Retire the old secret of an API client
    ///
    /// The secret and its tokens are rejected at once. Asks for confirmation unless --yes is given.
    #[command(after_help = "Example:
  doorwardctl --table doorward client retire TENANT CLIENT")]
    Retire {
        #[command(flatten)]
        client_ref: ClientRef,
        /// Version of the secret or key to retire [default: the oldest live one]
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Disable an API client and reject its tokens
    Disable(ClientRef),
    /// Enable a disabled API client
    ///
    /// Tokens that have not expired are accepted again.
    Enable(ClientRef),
    /// Delete an API client permanently
    ///
    /// Its tokens are rejected at once. Asks for confirmation unless --yes is given.
    Delete {
        #[command(flatten)]
        client_ref: ClientRef,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Identifies a client.
#[derive(Debug, Args)]
pub(crate) struct ClientRef {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(super) tenant: TenantId,
    /// Client ID
    #[arg(value_parser = ClientId::parse)]
    pub(super) client: ClientId,
}

impl ClientRef {
    /// Error for a client that does not exist.
    pub(super) fn unknown(&self) -> anyhow::Error {
        let Self { tenant, client } = self;
        anyhow!("client {client} of tenant {tenant} does not exist; see `client list {tenant}`")
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateClient {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(super) tenant: TenantId,
    /// Name of the client, for operators
    #[arg(long, value_parser = ClientName::parse)]
    pub(super) name: ClientName,
    /// Scope: users:read, users:write, sessions:read, sessions:write, recovery or introspect. Can be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope, required = true)]
    pub(super) scopes: Vec<ClientScope>,
    /// ID of the organization whose users the client may act on [default: all users of the tenant]
    #[arg(long, value_name = "ID", value_parser = OrganizationId::parse_new)]
    pub(super) organization: Option<OrganizationId>,
    /// Network from which the client may connect, such as 192.0.2.0/24. Can be repeated [default: all]
    #[arg(long, value_name = "CIDR")]
    pub(super) ip_allow: Vec<IpNet>,
    /// File with the public keys of the client: a JWK Set with 1 to 4 keys for ES256, RS256 or EdDSA
    #[arg(long, value_name = "JWKS_JSON")]
    pub(super) jwks: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RotateClient {
    #[command(flatten)]
    pub(super) client_ref: ClientRef,
    /// File with the new public keys. Keys that are already registered stay valid
    #[arg(long, value_name = "JWKS_JSON", conflicts_with = "leaked")]
    pub(super) jwks: Option<PathBuf>,
    /// Use this option if a secret leaked. Retires all earlier secrets at once
    #[arg(long)]
    pub(super) leaked: bool,
    /// Skip the confirmation
    #[arg(long)]
    pub(super) yes: bool,
}

fn scope(name: &str) -> Result<ClientScope, String> {
    ClientScope::from_name(name).ok_or_else(|| {
        let names: Vec<_> = ClientScope::all().map(ClientScope::name).collect();
        format!("a scope is one of {}", names.join(", "))
    })
}
