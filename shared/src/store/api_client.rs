//! The API client item, and the items of its assertions and revoked tokens (docs/design/storage.md#api-clients).

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    budget::to_used,
    item::{Attributes, corrupt, decode, encode, instant, number, string, text, to_instant, ttl_seconds},
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    ApiClient, AttemptId, ClientCredential, ClientId, ClientKey, ClientName, ClientProof, ClientScope,
    ClientStatus, Failure, HourBudget, OrganizationId, SecretHash, SigningAlgorithm, TenantId,
};

/// Minimum interval between two records of the last use of a client, over all processes.
const USE_INTERVAL: Duration = Duration::from_secs(60);

/// A client and the budgets that limit its authentication.
#[derive(Debug, Default)]
pub struct ClientLogin {
    /// The client, if it exists.
    pub client: Option<ApiClient>,
    /// Used part of each budget, in the order of the query.
    pub used: Vec<u32>,
}

/// A client assertion that must be used only once.
#[derive(Debug, Clone, Copy)]
pub struct AssertionUse<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// Client.
    pub client: &'a ClientId,
    /// Digest of the assertion's ID.
    pub digest: &'a str,
    /// Expiry of the assertion.
    pub ends_at: Timestamp,
    /// ID of this use. It identifies a write that the SDK repeated.
    pub id: AttemptId,
    /// Current time.
    pub now: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct ClientItem {
    tenant_id: TenantId,
    client_id: ClientId,
    client_name: ClientName,
    scopes: Vec<String>,
    organization_id: Option<OrganizationId>,
    ip_allow: Vec<IpNet>,
    client_status: String,
    credentials: Vec<CredentialItem>,
    revision: u64,
    created_at: i64,
    last_used_at: Option<i64>,
}

/// A credential within the item: a secret has `mac` and `key_version`, a public key has the other attributes.
#[derive(Default, Serialize, Deserialize)]
struct CredentialItem {
    version: u32,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwk: Option<String>,
}

impl From<&ClientCredential> for CredentialItem {
    fn from(credential: &ClientCredential) -> Self {
        let common = Self {
            version: credential.version,
            created_at: credential.created_at.as_millisecond(),
            retired_at: credential.retired_at.map(Timestamp::as_millisecond),
            ..Self::default()
        };
        match &credential.proof {
            ClientProof::Secret(SecretHash { mac, key_version }) => {
                Self { mac: Some(mac.clone()), key_version: Some(*key_version), ..common }
            }
            ClientProof::Key(ClientKey { id, algorithm, jwk }) => Self {
                algorithm: Some(algorithm.name().to_owned()),
                key_id: id.clone(),
                jwk: Some(jwk.clone()),
                ..common
            },
        }
    }
}

impl TryFrom<CredentialItem> for ClientCredential {
    type Error = Failure;

    fn try_from(item: CredentialItem) -> Result<Self, Failure> {
        let proof = match (item.mac, item.key_version, item.algorithm, item.jwk) {
            (Some(mac), Some(key_version), None, None) => {
                ClientProof::Secret(SecretHash { mac, key_version })
            }
            (None, None, Some(algorithm), Some(jwk)) => {
                let algorithm =
                    SigningAlgorithm::from_name(&algorithm).ok_or_else(|| corrupt("client key"))?;
                ClientProof::Key(ClientKey { id: item.key_id, algorithm, jwk })
            }
            _ => return Err(corrupt("client credential")),
        };
        Ok(Self {
            version: item.version,
            created_at: to_instant(item.created_at)?,
            retired_at: item.retired_at.map(to_instant).transpose()?,
            proof,
        })
    }
}

impl DynamoStore {
    /// Reads a client and budgets in one batch.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn client_login(
        &self,
        tenant: &TenantId,
        client: &ClientId,
        budgets: &[HourBudget],
    ) -> Result<ClientLogin, Failure> {
        let mut keys = vec![Key::client(tenant, client)];
        keys.extend(budgets.iter().map(Key::budget));
        let mut items = self.read_all(&keys).await?.into_iter();
        Ok(ClientLogin {
            client: items.next().flatten().map(to_client).transpose()?,
            used: items.map(to_used).collect::<Result<_, _>>()?,
        })
    }

    /// Stores the use of an assertion. Returns `false` if it was used before.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn use_assertion(&self, assertion: &AssertionUse<'_>) -> Result<bool, Failure> {
        let AssertionUse { tenant, client, digest, ends_at, id, now } = *assertion;
        let update = Expressions::update("SET attempt_id = :id, expires_at = :ttl")
            .when("attribute_not_exists(pk) OR expires_at < :now")
            .value(":id", string(id.to_string()))
            .value(":ttl", number(ttl_seconds(ends_at)))
            .value(":now", number(now.as_second()))
            .return_refused();
        Ok(match self.update(&Key::assertion(tenant, client, digest), update).await? {
            Updated::Done(_) => true,
            // The SDK repeated a write whose response was lost. The first write succeeded.
            Updated::Refused(item) => {
                item.is_some_and(|item| text(&item, "attempt_id") == Some(&id.to_string()))
            }
        })
    }

    /// Revokes a client's token until its expiry.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn revoke_client_token(
        &self,
        tenant: &TenantId,
        token_id: &str,
        ends_at: Timestamp,
    ) -> Result<(), Failure> {
        let update = Expressions::update("SET expires_at = :ttl").value(":ttl", number(ttl_seconds(ends_at)));
        self.update(&Key::revoked_token(tenant, token_id), update).await.map(|_| ())
    }

    /// Records the use of a client, unless a use was recorded within the last 60 s.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn note_client_use(&self, client: &ApiClient, now: Timestamp) -> Result<(), Failure> {
        let due = now.checked_sub(USE_INTERVAL).unwrap_or(Timestamp::MIN);
        if client.last_used_at.is_some_and(|at| at > due) {
            return Ok(());
        }
        let update = Expressions::update("SET last_used_at = :now")
            .when("attribute_exists(pk)")
            .when("(attribute_not_exists(last_used_at) OR last_used_at <= :due)")
            .value(":now", instant(now))
            .value(":due", instant(due));
        self.update(&Key::client(&client.tenant, &client.id), update).await.map(|_| ())
    }

    /// Writes the credentials of `after`, unless the client changed since it was read. The caller computed the hash of a
    /// secret again, with the current root key.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn rewrite_client_hash(&self, after: &ApiClient) -> Result<(), Failure> {
        let update = Expressions::update("SET credentials = :credentials, revision = :next")
            .when_unchanged("revision", after.revision)
            .value(":credentials", credentials_value(after)?)
            .value(":next", number(after.revision + 1));
        self.update(&Key::client(&after.tenant, &after.id), update).await.map(|_| ())
    }
}

/// Encodes the attribute `credentials`.
pub(super) fn credentials_value(client: &ApiClient) -> Result<AttributeValue, Failure> {
    let credentials: Vec<_> = client.credentials.iter().map(CredentialItem::from).collect();
    serde_dynamo::to_attribute_value(credentials).map_err(|error| Failure::Internal(Box::new(error)))
}

/// Encodes a client item with its key.
pub(super) fn client_item(client: &ApiClient) -> Result<Attributes, Failure> {
    let item = ClientItem {
        tenant_id: client.tenant.clone(),
        client_id: client.id.clone(),
        client_name: client.name.clone(),
        scopes: client.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
        organization_id: client.organization.clone(),
        ip_allow: client.ip_allow.clone(),
        client_status: client.status.name().to_owned(),
        credentials: client.credentials.iter().map(CredentialItem::from).collect(),
        revision: client.revision,
        created_at: client.created_at.as_millisecond(),
        last_used_at: client.last_used_at.map(Timestamp::as_millisecond),
    };
    encode(&Key::client(&client.tenant, &client.id), &item)
}

/// Decodes a client item. Ignores scopes of a later version.
pub(super) fn to_client(attributes: Attributes) -> Result<ApiClient, Failure> {
    let item: ClientItem = decode(attributes)?;
    let scopes: Vec<_> = item.scopes.iter().filter_map(|name| ClientScope::from_name(name)).collect();
    Ok(ApiClient {
        tenant: item.tenant_id,
        id: item.client_id,
        name: item.client_name,
        scopes: ClientScope::ordered(&scopes),
        organization: item.organization_id,
        ip_allow: item.ip_allow,
        status: ClientStatus::from_name(&item.client_status).ok_or_else(|| corrupt("client status"))?,
        credentials: item.credentials.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        revision: item.revision,
        created_at: to_instant(item.created_at)?,
        last_used_at: item.last_used_at.map(to_instant).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{client_tests::client, tests::at};

    #[test]
    fn client_survives_storage() {
        let key = ClientKey {
            id: Some("k".to_owned()),
            algorithm: SigningAlgorithm::EdDsa,
            jwk: r#"{"kty":"OKP"}"#.to_owned(),
        };
        let hash = SecretHash { mac: "mac".to_owned(), key_version: 3 };
        let secret = client().with_secret(hash, false, at(1)).unwrap();
        let keys = client().with_keys(vec![key.clone(), ClientKey { id: None, ..key }], at(2)).unwrap();
        let restricted = ApiClient {
            organization: Some(OrganizationId::parse("o").unwrap()),
            ip_allow: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            status: ClientStatus::Disabled,
            last_used_at: Some(at(9)),
            ..keys.clone()
        };
        for before in [client(), secret, keys, restricted] {
            assert_eq!(to_client(client_item(&before).unwrap()).unwrap(), before);
        }
    }
}
