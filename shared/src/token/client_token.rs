//! Access tokens of API clients (docs/design/contract.md#oauth-20).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    TenantKeys,
    jwt::{seconds, sign},
};
use crate::domain::{ApiClient, ClientId, ClientScope, Failure, Policy, SessionId, TenantId};

/// Maximum life of a client's token. It cannot be refreshed.
const MAX_LIFE: Duration = Duration::from_secs(15 * 60);

/// Claims of a client's access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientClaims {
    /// Issuer.
    pub iss: String,
    /// Client ID; equal to `client_id`.
    pub sub: String,
    /// Audience.
    pub aud: String,
    /// Expiry in seconds since the Unix epoch.
    pub exp: i64,
    /// Time of issue in seconds since the Unix epoch.
    pub iat: i64,
    /// Token ID, with which the token is revoked.
    pub jti: String,
    /// Client ID.
    pub client_id: ClientId,
    /// Scopes, separated by blanks.
    pub scope: String,
    /// Tenant ID.
    #[serde(rename = "tenantId")]
    pub tenant_id: TenantId,
    /// Version of the credential that obtained the token. The token is rejected once it is retired.
    pub credential: u32,
}

/// Content of a client's verified token.
#[derive(Debug, Clone)]
pub struct ClientBearer {
    /// Tenant ID.
    pub tenant: TenantId,
    /// Client ID.
    pub client: ClientId,
    /// Version of the credential that obtained the token.
    pub credential: u32,
    /// Scopes.
    pub scopes: Vec<ClientScope>,
    /// Token ID.
    pub token_id: String,
    /// Time of issue.
    pub issued_at: Timestamp,
    /// Expiry.
    pub expires_at: Timestamp,
    /// Whether the token has expired.
    pub expired: bool,
}

/// Returns the life of a client's token.
pub(super) fn client_token_life(policy: &Policy) -> Duration {
    policy.token_life.min(MAX_LIFE)
}

impl ClientClaims {
    /// Creates the claims of a token issued at `now`.
    pub fn new(
        client: &ApiClient,
        credential: u32,
        scopes: &[ClientScope],
        policy: &Policy,
        (now, jti): (Timestamp, &SessionId),
    ) -> Self {
        let iat = now.as_second();
        Self {
            iss: policy.issuer.clone(),
            sub: client.id.to_string(),
            aud: policy.audience.clone(),
            exp: iat.saturating_add(seconds(client_token_life(policy))),
            iat,
            jti: jti.to_string(),
            client_id: client.id.clone(),
            scope: ClientScope::text(scopes),
            tenant_id: client.tenant.clone(),
            credential,
        }
    }

    /// Signs a token with the tenant's current key.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no key for its algorithm; `Internal` when signing fails.
    pub fn sign(&self, keys: &TenantKeys, policy: &Policy) -> Result<SecretString, Failure> {
        sign(self, keys, policy)
    }

    /// Returns the content of the verified token. The caller has computed its times.
    pub(super) fn bearer(&self, issued_at: Timestamp, expires_at: Timestamp, expired: bool) -> ClientBearer {
        let scopes: Vec<_> = self.scope.split(' ').filter_map(ClientScope::from_name).collect();
        ClientBearer {
            tenant: self.tenant_id.clone(),
            client: self.client_id.clone(),
            credential: self.credential,
            scopes: ClientScope::ordered(&scopes),
            token_id: self.jti.clone(),
            issued_at,
            expires_at,
            expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        domain::{TokenFault, client_tests::client, tests::at},
        token::{AccessToken, Unverified, tests as fixture},
    };

    fn claims(policy: &Policy) -> ClientClaims {
        let scopes = [ClientScope::UsersRead, ClientScope::Introspect];
        ClientClaims::new(&client(), 3, &scopes, policy, (at(1_000), &SessionId::from_random([5; 16])))
    }

    fn verified(claims: &ClientClaims, policy: Policy, now: i64) -> Result<ClientBearer, Failure> {
        let token = claims.sign(&fixture::keys("t"), &policy)?;
        let token = Unverified::parse(&token)?;
        match token.verify(&fixture::keys("t"), &fixture::tenant(policy), at(now))? {
            AccessToken::Client(bearer) => Ok(bearer),
            AccessToken::User(bearer) => panic!("{bearer:?}"),
        }
    }

    #[test]
    fn client_token_is_verified_with_its_claims() {
        let bearer = verified(&claims(&Policy::default()), Policy::default(), 1_001).unwrap();
        assert_eq!((bearer.client.as_str(), bearer.credential), (client().id.as_str(), 3));
        assert_eq!(bearer.scopes, [ClientScope::UsersRead, ClientScope::Introspect]);
        assert_eq!((bearer.issued_at, bearer.expires_at, bearer.expired), (at(1_000), at(1_900), false));
        let token = claims(&Policy::default()).sign(&fixture::keys("t"), &Policy::default()).unwrap();
        assert!(token.expose_secret().len() < 1_000, "{}", token.expose_secret().len());
    }

    // docs/design/security.md#rule-27
    #[test]
    fn client_token_lives_for_fifteen_minutes_at_most() {
        let policy = || Policy { token_life: Duration::from_secs(60 * 60), ..Policy::default() };
        let long = ClientClaims { exp: i64::MAX, ..claims(&policy()) };
        assert!(!verified(&long, policy(), 1_899).unwrap().expired);
        assert!(verified(&long, policy(), 1_900).unwrap().expired, "the owner of a stolen key chooses exp");
        let short = || Policy { token_life: Duration::from_secs(60), ..Policy::default() };
        assert_eq!(claims(&short()).exp, 1_060);
    }

    // docs/design/security.md#rule-16
    #[test]
    fn client_token_with_an_invalid_claim_is_rejected() {
        for change in [
            |claims: &mut ClientClaims| claims.sub = "other".to_owned(),
            |claims: &mut ClientClaims| claims.iss = "other".to_owned(),
            |claims: &mut ClientClaims| claims.aud = "other".to_owned(),
            |claims: &mut ClientClaims| claims.tenant_id = TenantId::parse("other").unwrap(),
            |claims: &mut ClientClaims| claims.iat = 5_000,
        ] {
            let mut changed = claims(&Policy::default());
            change(&mut changed);
            let verified = verified(&changed, Policy::default(), 1_001);
            assert!(matches!(verified, Err(Failure::InvalidToken(_))), "{changed:?}");
        }
        let unsigned =
            claims(&Policy::default()).sign(&fixture::keys_of(&client().tenant, 99), &Policy::default());
        let token = Unverified::parse(&unsigned.unwrap()).unwrap();
        let forged = token.verify(&fixture::keys("t"), &fixture::tenant(Policy::default()), at(1_001));
        assert!(matches!(forged, Err(Failure::InvalidToken(TokenFault::Forged))));
    }
}
