//! OAuth 2.0 for backends: API clients, their tokens, introspection and revocation
//! (docs/design/contract.md#oauth-20).

mod assertions;
mod authentication;
mod callers;
mod conditions;
mod introspection;
mod recovery;
mod tokens;

use doorward::domain::ClientScope;
use e2e::{NORDIC, RegisteredClient, World};

/// Parameters of a request for a token.
const GRANT: (&str, &str) = ("grant_type", "client_credentials");

/// A world with a client that has all scopes.
async fn world_with_client() -> (World, RegisteredClient) {
    let world = World::start().await.unwrap();
    let scopes: Vec<_> = ClientScope::all().collect();
    let client = world.register_client(NORDIC, &scopes, |_| ()).await.unwrap();
    (world, client)
}
