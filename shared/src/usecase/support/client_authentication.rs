//! Authentication of API clients (docs/design/contract.md#oauth-20, docs/design/security.md#rule-27).

use std::net::IpAddr;

use secrecy::SecretString;

use super::{
    budgets::{BudgetCharge, hourly_budgets},
    tenant_request::TenantRequest,
};
use crate::{
    context::RequestContext,
    domain::{
        ApiClient, ClientAddress, ClientCredential, ClientId, ClientProof, ClientScope, ClientStatus,
        Failure, OrganizationId, TenantId,
    },
    secrets::SecretUse,
    store::{AssertionUse, ClientLogin},
    token::{Assertion, AssertionFault},
    usecase::Service,
};

/// A request of an API client.
#[derive(Debug)]
pub struct ClientRequest {
    /// Tenant in the path; `None` if the ID is not valid.
    pub tenant: Option<TenantId>,
    /// Credentials of the client.
    pub credentials: ClientCredentials,
    /// Client address.
    pub ip: ClientAddress,
}

/// Credentials that a client sent.
#[derive(Debug)]
pub enum ClientCredentials {
    /// `client_secret_basic` or `client_secret_post`.
    Secret {
        /// Client ID, or the tenant's key.
        id: SecretString,
        /// Secret of the client or of the tenant.
        secret: SecretString,
    },
    /// `private_key_jwt`.
    Assertion {
        /// The assertion.
        assertion: Box<Assertion>,
        /// Addresses of this server that the assertion may be for.
        addresses: Vec<String>,
    },
}

/// An authenticated client.
pub(in crate::usecase) enum AuthenticatedClient {
    /// The tenant itself, with its key and secret. It may only introspect and revoke tokens.
    Tenant,
    /// A registered client.
    Registered {
        /// The client.
        client: Box<ApiClient>,
        /// Version of the credential that it used.
        credential: u32,
    },
}

impl AuthenticatedClient {
    /// Whether the client may introspect tokens.
    pub(in crate::usecase) fn may_introspect(&self) -> bool {
        match self {
            Self::Tenant => true,
            Self::Registered { client, .. } => client.scopes.contains(&ClientScope::Introspect),
        }
    }

    /// The organization to which the client is restricted.
    pub(in crate::usecase) fn organization(&self) -> Option<&OrganizationId> {
        match self {
            Self::Tenant => None,
            Self::Registered { client, .. } => client.organization.as_ref(),
        }
    }
}

/// Credentials that were right.
enum Proven {
    Tenant(SecretUse),
    Client {
        client: Box<ApiClient>,
        credential: u32,
        /// The client with a hash that the current root key made, if the stored one is older.
        rehashed: Option<Box<ApiClient>>,
    },
}

impl Service {
    /// Authenticates a client with one read: the client and the budgets of failures. An unknown client and a wrong
    /// secret cause the same calls, and each computes one MAC or verifies one signature. A failure counts in the budgets
    /// of the address and of the tenant.
    ///
    /// # Errors
    /// `InvalidClient` for an unknown tenant, an unknown or disabled client, a wrong secret, and an assertion that is
    /// wrong or was used; `RateLimited`, `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub(in crate::usecase) async fn authenticate_client<'r>(
        &self,
        context: &'r RequestContext,
        request: ClientRequest,
    ) -> Result<(TenantRequest<'r>, AuthenticatedClient), Failure> {
        let ClientRequest { tenant, credentials, ip } = request;
        let tenant = tenant.ok_or(Failure::InvalidClient)?;
        let request = TenantRequest::find(&self.tenants, context, &tenant).await?;
        let request = request.ok_or(Failure::InvalidClient)?;
        let address = request.client(&ip);
        let id = credentials.client();
        let budgets = hourly_budgets(&request, address, id.as_str())?;
        let ClientLogin { client, used } = self.store.client_login(&tenant, &id, &budgets).await?;
        let mut charge = BudgetCharge::default();
        let proven = match charge.charge(&self.store, context, budgets, &used).await {
            Ok(()) => self.prove(&request, &credentials, client).await,
            Err(failure) => Err(failure),
        };
        if matches!(proven, Err(Failure::InvalidClient)) {
            charge.failed(&self.store).await?;
        } else {
            charge.give_back(&self.store).await?;
        }
        let proven = proven?;
        if let Proven::Client { client, .. } = &proven {
            context.record_client_id(&client.id);
        }
        request.admit(&ip)?;
        let client = self.admitted(&request, proven, address).await?;
        Ok((request, client))
    }

    /// Verifies the credentials. Records the reason of a failure for the audit log.
    async fn prove(
        &self,
        request: &TenantRequest<'_>,
        credentials: &ClientCredentials,
        client: Option<ApiClient>,
    ) -> Result<Proven, Failure> {
        let proven = match credentials {
            ClientCredentials::Secret { id, secret } => prove_secret(request, client, (id, secret))?,
            ClientCredentials::Assertion { assertion, addresses } => {
                let mut audiences = addresses.clone();
                audiences.push(request.policy().issuer.clone());
                let verified = assertion.verify(client.as_ref(), &audiences, request.now());
                match (client, verified) {
                    (Some(client), Ok(credential)) => {
                        self.used_once(request, assertion, client, credential).await?
                    }
                    (None, _) => Err("UNKNOWN_CLIENT"),
                    (_, Err(fault)) => Err(reason(fault)),
                }
            }
        };
        let proven = proven.and_then(|proven| match &proven {
            Proven::Client { client, .. } if client.status == ClientStatus::Disabled => {
                Err("CLIENT_DISABLED")
            }
            _ => Ok(proven),
        });
        proven.map_err(|reason| {
            request.context.record_reason(reason);
            Failure::InvalidClient
        })
    }

    /// Marks an assertion as used. The condition of the write decides which of several requests is the first.
    async fn used_once(
        &self,
        request: &TenantRequest<'_>,
        assertion: &Assertion,
        client: ApiClient,
        credential: u32,
    ) -> Result<Result<Proven, &'static str>, Failure> {
        let once = AssertionUse {
            tenant: &client.tenant,
            client: &client.id,
            digest: &assertion.digest(),
            ends_at: assertion.expires_at(),
            id: self.attempt_id(request.now())?,
            now: request.now(),
        };
        let is_first = self.store.use_assertion(&once).await?;
        let proven = Proven::Client { client: Box::new(client), credential, rehashed: None };
        Ok(is_first.then_some(proven).ok_or("ASSERTION_USED"))
    }

    /// Checks the client's networks, and records the use of the credentials.
    async fn admitted(
        &self,
        request: &TenantRequest<'_>,
        proven: Proven,
        address: Option<IpAddr>,
    ) -> Result<AuthenticatedClient, Failure> {
        match proven {
            Proven::Tenant(used) => {
                self.tenants.note(&request.tenant.id, &used, request.now()).await;
                Ok(AuthenticatedClient::Tenant)
            }
            Proven::Client { client, credential, rehashed } => {
                if !client.admits(address) {
                    return Err(Failure::IpNotAllowed);
                }
                let rewrite = async {
                    match &rehashed {
                        Some(after) => self.store.rewrite_client_hash(after).await,
                        None => Ok(()),
                    }
                };
                let note = self.store.note_client_use(&client, request.now());
                let (rewritten, noted) = tokio::join!(rewrite, note);
                if let Err(failure) = rewritten.and(noted) {
                    tracing::warn!(%failure, "client.use_not_noted");
                }
                Ok(AuthenticatedClient::Registered { client, credential })
            }
        }
    }
}

impl ClientCredentials {
    /// The ID of the client to read. A text that is no client ID stands for a client that does not exist, so that the
    /// same calls are made.
    fn client(&self) -> ClientId {
        match self {
            Self::Secret { id, .. } => {
                let parsed = ClientId::parse(secrecy::ExposeSecret::expose_secret(id));
                parsed.unwrap_or_else(|_| ClientId::from_random([0; 16]))
            }
            Self::Assertion { assertion, .. } => assertion.client().clone(),
        }
    }
}

/// Compares a secret with the live secrets of the client, and with the tenant's own. Computes one MAC for each live
/// secret, or one if the client does not exist.
fn prove_secret(
    request: &TenantRequest<'_>,
    client: Option<ApiClient>,
    (id, secret): (&SecretString, &SecretString),
) -> Result<Result<Proven, &'static str>, Failure> {
    let own = SecretUse::verify(&request.keys, (id, secret));
    let keys = &request.keys;
    let Some(client) = client else {
        keys.client_secret_hash(&ClientId::from_random([0; 16]), secret)?;
        return Ok(own.map(Proven::Tenant).map_err(|_| "UNKNOWN_CLIENT"));
    };
    let used = client.live().find(|credential| {
        matches!(&credential.proof, ClientProof::Secret(hash) if keys.is_client_secret(&client.id, secret, hash))
    });
    let Some(ClientCredential { version, proof: ClientProof::Secret(hash), .. }) = used else {
        return Ok(own.map(Proven::Tenant).map_err(|_| "WRONG_SECRET"));
    };
    let credential = *version;
    let rehashed = if hash.key_version == keys.root_version() {
        None
    } else {
        let mut after = client.clone();
        let hash = keys.client_secret_hash(&client.id, secret)?;
        for stored in after.credentials.iter_mut().filter(|stored| stored.version == credential) {
            stored.proof = ClientProof::Secret(hash.clone());
        }
        Some(Box::new(after))
    };
    Ok(Ok(Proven::Client { client: Box::new(client), credential, rehashed }))
}

fn reason(fault: AssertionFault) -> &'static str {
    fault.into()
}
