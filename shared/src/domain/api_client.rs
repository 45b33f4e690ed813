//! API clients: backends with their own credentials (docs/design/contract.md#oauth-20).

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr, VariantNames};

use super::{
    ClientId, Invalid, OrganizationId, SigningAlgorithm, TenantId,
    id::{named, text_conversions},
};

/// Maximum number of API clients of a tenant.
pub const MAX_CLIENTS: usize = 50;
/// Maximum number of live secrets of a client: the old one and the new one of a rotation.
const MAX_LIVE_SECRETS: usize = 2;
/// Maximum number of live public keys of a client.
const MAX_LIVE_KEYS: usize = 4;

/// An API client as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClient {
    /// Tenant of the client.
    pub tenant: TenantId,
    /// Client ID.
    pub id: ClientId,
    /// Name for operators.
    pub name: ClientName,
    /// Scopes that the client may ask for, in the order of [`ClientScope`].
    pub scopes: Vec<ClientScope>,
    /// Organization whose users the client may act on. `None` means all users of the tenant.
    pub organization: Option<OrganizationId>,
    /// Networks from which the client may connect. Empty means all.
    pub ip_allow: Vec<IpNet>,
    /// Status.
    pub status: ClientStatus,
    /// Secrets and public keys, oldest first. Retired ones stay until the next change of the credentials.
    pub credentials: Vec<ClientCredential>,
    /// Number of changes to this record.
    pub revision: u64,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time of the last authentication, at most one minute out of date.
    pub last_used_at: Option<Timestamp>,
}

/// One secret or public key of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredential {
    /// Number of the credential, unique within the client. Tokens contain it.
    pub version: u32,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time of the retirement; `None` for a live credential.
    pub retired_at: Option<Timestamp>,
    /// The stored part of the credential.
    pub proof: ClientProof,
}

/// Stored part of a credential. It cannot authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// Keyed hash of a secret.
    Secret(SecretHash),
    /// Public key for `private_key_jwt`.
    Key(ClientKey),
}

/// Keyed hash of a client secret (docs/design/security.md#rule-27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHash {
    /// HMAC in base64url.
    pub mac: String,
    /// Version of the tenant's root key that the hash was made with.
    pub key_version: u32,
}

/// Public key of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Key ID (`kid`) that the client states in its assertions.
    pub id: Option<String>,
    /// The only algorithm that the key verifies.
    pub algorithm: SigningAlgorithm,
    /// Public JWK as JSON.
    pub jwk: String,
}

/// Name of a client: 1 to 100 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientName(String);

impl ClientName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] if the name is empty, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
            return Err(Invalid::new("must be 1 to 100 characters, without control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_conversions!(ClientName);

/// Permission of a client (docs/design/contract.md#oauth-20).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, EnumString, IntoStaticStr, VariantNames,
)]
pub enum ClientScope {
    /// Read users.
    #[strum(serialize = "users:read")]
    UsersRead,
    /// Create, change and delete users, and set their passwords.
    #[strum(serialize = "users:write")]
    UsersWrite,
    /// List and read sessions.
    #[strum(serialize = "sessions:read")]
    SessionsRead,
    /// End sessions.
    #[strum(serialize = "sessions:write")]
    SessionsWrite,
    /// Receive reset codes.
    #[strum(serialize = "recovery")]
    Recovery,
    /// Introspect tokens.
    #[strum(serialize = "introspect")]
    Introspect,
}

named!(ClientScope);

impl ClientScope {
    /// Every scope.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Returns the scopes in the order of the enum, without duplicates.
    pub fn ordered(scopes: &[Self]) -> Vec<Self> {
        Self::iter().filter(|scope| scopes.contains(scope)).collect()
    }

    /// Returns the value of the parameter or claim `scope`: the names, separated by blanks.
    pub fn text(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ")
    }
}

/// Status of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
pub enum ClientStatus {
    /// The client can authenticate.
    Active,
    /// The client cannot authenticate, and its tokens are rejected.
    Disabled,
}

named!(ClientStatus);

impl ApiClient {
    /// Returns the live credentials, oldest first.
    pub fn live(&self) -> impl Iterator<Item = &ClientCredential> {
        self.credentials.iter().filter(|credential| credential.retired_at.is_none())
    }

    /// Returns whether a token that was obtained with the credential `version` is valid: the client is active, and the
    /// credential is live.
    pub fn honours(&self, version: u32) -> bool {
        self.status == ClientStatus::Active && self.live().any(|credential| credential.version == version)
    }

    /// Returns whether the client may connect from an address. An unknown address is in no network.
    pub fn admits(&self, ip: Option<IpAddr>) -> bool {
        self.ip_allow.is_empty()
            || ip.is_some_and(|ip| {
                let ip = ip.to_canonical();
                self.ip_allow.iter().any(|net| net.contains(&ip))
            })
    }

    /// Adds a secret. With `leaked`, retires all other credentials.
    ///
    /// # Errors
    /// [`Invalid`] if the client has public keys, or two live secrets.
    pub fn with_secret(mut self, hash: SecretHash, leaked: bool, now: Timestamp) -> Result<Self, Invalid> {
        if self.live().any(|credential| matches!(credential.proof, ClientProof::Key(_))) {
            return Err(Invalid::new("has public keys and no secret; pass --jwks to replace the keys"));
        }
        self.forget_retired();
        if leaked {
            self.retire_where(now, |_| true);
        }
        if self.live().count() >= MAX_LIVE_SECRETS {
            return Err(Invalid::new("has two live secrets; retire the old one first with `client retire`"));
        }
        self.add(ClientProof::Secret(hash), now);
        Ok(self)
    }

    /// Replaces the live public keys. Keys that are already registered keep their versions; the others are retired.
    ///
    /// # Errors
    /// [`Invalid`] if the client has a secret, or if there are no keys or too many.
    pub fn with_keys(mut self, keys: Vec<ClientKey>, now: Timestamp) -> Result<Self, Invalid> {
        if self.live().any(|credential| matches!(credential.proof, ClientProof::Secret(_))) {
            return Err(Invalid::new(
                "has a secret and no public keys; omit --jwks to create another secret",
            ));
        }
        if keys.is_empty() || keys.len() > MAX_LIVE_KEYS {
            return Err(Invalid::new("must have 1 to 4 public keys"));
        }
        self.forget_retired();
        self.retire_where(now, |proof| !matches!(proof, ClientProof::Key(known) if keys.contains(known)));
        for key in keys {
            let proof = ClientProof::Key(key);
            if !self.live().any(|known| known.proof == proof) {
                self.add(proof, now);
            }
        }
        Ok(self)
    }

    /// Retires one live credential.
    ///
    /// # Errors
    /// [`Invalid`] if no live credential has this version, or if it is the only one.
    pub fn without(mut self, version: u32, now: Timestamp) -> Result<Self, Invalid> {
        if !self.live().any(|credential| credential.version == version) {
            return Err(Invalid::new("has no live credential of this version; see `client show`"));
        }
        if self.live().count() == 1 {
            return Err(Invalid::new("has no other live credential; rotate first, or disable the client"));
        }
        for credential in &mut self.credentials {
            if credential.version == version {
                credential.retired_at = Some(now);
            }
        }
        Ok(self)
    }

    /// Returns the version of the oldest live credential.
    pub fn oldest(&self) -> Option<u32> {
        self.live().map(|credential| credential.version).min()
    }

    /// Removes the credentials that were retired before, except the newest one, whose version must not be used again.
    fn forget_retired(&mut self) {
        let newest = self.newest_version();
        self.credentials.retain(|credential| credential.retired_at.is_none() || credential.version == newest);
    }

    fn retire_where(&mut self, now: Timestamp, is_replaced: impl Fn(&ClientProof) -> bool) {
        for credential in &mut self.credentials {
            if credential.retired_at.is_none() && is_replaced(&credential.proof) {
                credential.retired_at = Some(now);
            }
        }
    }

    fn add(&mut self, proof: ClientProof, now: Timestamp) {
        let version = self.newest_version().saturating_add(1);
        self.credentials.push(ClientCredential { version, created_at: now, retired_at: None, proof });
    }

    fn newest_version(&self) -> u32 {
        self.credentials.iter().map(|credential| credential.version).max().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::tests::at;

    pub(crate) fn client() -> ApiClient {
        ApiClient {
            tenant: TenantId::parse("t").unwrap(),
            id: ClientId::from_random([7; 16]),
            name: ClientName::parse("Backend").unwrap(),
            scopes: vec![ClientScope::UsersRead, ClientScope::Introspect],
            organization: None,
            ip_allow: Vec::new(),
            status: ClientStatus::Active,
            credentials: Vec::new(),
            revision: 1,
            created_at: at(0),
            last_used_at: None,
        }
    }

    fn hash(mac: &str) -> SecretHash {
        SecretHash { mac: mac.to_owned(), key_version: 1 }
    }

    fn key(jwk: &str) -> ClientKey {
        ClientKey { id: None, algorithm: SigningAlgorithm::Es256, jwk: jwk.to_owned() }
    }

    fn versions(client: &ApiClient) -> Vec<u32> {
        client.live().map(|credential| credential.version).collect()
    }

    // docs/design/security.md#rule-27
    #[test]
    fn client_has_at_most_two_live_secrets_and_one_until_the_next_rotation() {
        let one = client().with_secret(hash("a"), false, at(1)).unwrap();
        let two = one.with_secret(hash("b"), false, at(2)).unwrap();
        assert_eq!(versions(&two), [1, 2]);
        assert!(two.clone().with_secret(hash("c"), false, at(3)).is_err());
        let retired = two.clone().without(1, at(3)).unwrap();
        assert_eq!((versions(&retired), retired.credentials[0].retired_at), (vec![2], Some(at(3))));
        assert!(retired.clone().without(2, at(4)).is_err(), "the only live secret stays");
        assert!(retired.clone().without(1, at(4)).is_err(), "a retired secret is not retired again");
        assert!(retired.honours(2) && !retired.honours(1));
        let third = retired.with_secret(hash("c"), false, at(4)).unwrap();
        assert_eq!((versions(&third), third.credentials.len()), (vec![2, 3], 2));
        let leaked = two.with_secret(hash("d"), true, at(5)).unwrap();
        assert_eq!(versions(&leaked), [3]);
    }

    #[test]
    fn registered_keys_keep_their_versions() {
        let first = client().with_keys(vec![key("a"), key("b")], at(1)).unwrap();
        assert_eq!(versions(&first), [1, 2]);
        let second = first.with_keys(vec![key("b"), key("c")], at(2)).unwrap();
        assert_eq!(versions(&second), [2, 3]);
        let third = second.with_keys(vec![key("d")], at(3)).unwrap();
        assert_eq!(versions(&third), [4]);
        assert!(third.clone().with_secret(hash("a"), false, at(4)).is_err());
        assert!(third.with_keys(vec![key("x"); 5], at(4)).is_err());
        assert!(
            client().with_secret(hash("a"), false, at(1)).unwrap().with_keys(vec![key("a")], at(2)).is_err()
        );
    }

    // A version that is used again would make tokens of the retired credential valid again.
    #[test]
    fn versions_are_never_used_again() {
        let mut client = client().with_secret(hash("a"), false, at(1)).unwrap();
        for expected in 2..=9 {
            client = client.with_secret(hash("b"), true, at(i64::from(expected))).unwrap();
            assert_eq!(versions(&client), [expected]);
        }
        assert_eq!(client.credentials.len(), 2);
    }

    #[test]
    fn disabled_client_honours_no_token() {
        let active = client().with_secret(hash("a"), false, at(1)).unwrap();
        assert!(active.honours(1));
        assert!(!ApiClient { status: ClientStatus::Disabled, ..active }.honours(1));
    }

    // docs/design/security.md#rule-22
    #[test]
    fn unknown_address_is_in_no_network() {
        let client = ApiClient { ip_allow: vec!["192.0.2.0/24".parse().unwrap()], ..client() };
        assert!(client.admits("::ffff:192.0.2.9".parse().ok()));
        assert!(!client.admits("198.51.100.1".parse().ok()) && !client.admits(None));
    }

    #[test]
    fn scopes_are_ordered_and_named_as_in_tokens() {
        let scopes = [ClientScope::Introspect, ClientScope::UsersRead, ClientScope::Introspect];
        assert_eq!(ClientScope::text(&ClientScope::ordered(&scopes)), "users:read introspect");
        assert_eq!(ClientScope::all().count(), 6);
        for scope in ClientScope::all() {
            assert_eq!(ClientScope::from_name(scope.name()), Some(scope));
        }
    }
}
