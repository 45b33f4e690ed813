//! Access tokens for API clients (docs/design/contract.md#oauth-20).

use secrecy::SecretString;

use super::{
    Service,
    support::client_authentication::{AuthenticatedClient, ClientRequest},
};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Failure, SessionId},
    port::random,
    token::ClientClaims,
};

/// A request for a token.
#[derive(Debug)]
pub struct Command {
    /// The client.
    pub client: ClientRequest,
    /// Requested scopes; `None` for all scopes of the client.
    pub scopes: Option<Vec<ClientScope>>,
}

/// An issued token.
#[derive(Debug)]
pub struct Outcome {
    /// Access token.
    pub token: SecretString,
    /// Life of the token in seconds.
    pub expires_in: i64,
    /// Scopes of the token.
    pub scopes: Vec<ClientScope>,
}

impl Service {
    /// Issues a token. Nothing is stored: each use reads the client.
    ///
    /// # Errors
    /// Those of the authentication; `UnauthorizedClient` for the tenant itself; `InvalidScope`.
    pub async fn issue_client_token(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Outcome, Failure> {
        let Command { client, scopes } = command;
        let (request, client) = self.authenticate_client(context, client).await?;
        let AuthenticatedClient::Registered { client, credential } = client else {
            return Err(Failure::UnauthorizedClient);
        };
        let scopes = scopes.unwrap_or_else(|| client.scopes.clone());
        if scopes.is_empty() || scopes.iter().any(|scope| !client.scopes.contains(scope)) {
            return Err(Failure::InvalidScope);
        }
        let token_id = SessionId::from_random(random(&*self.entropy)?);
        let policy = request.policy();
        let claims = ClientClaims::new(&client, credential, &scopes, policy, (context.now, &token_id));
        let token = claims.sign(&request.keys, policy)?;
        Ok(Outcome { token, expires_in: claims.exp - claims.iat, scopes })
    }
}
