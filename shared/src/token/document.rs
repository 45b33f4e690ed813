//! Secret document of a tenant, stored in Secrets Manager (docs/design/security.md#rule-17).

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::retired::drop_ended;
use crate::{
    domain::{Activation, ActiveSecret},
    json::parse_object,
};

/// Secret document of a tenant.
///
/// ```json
/// {
///   "tenantKey": "what callers send as tenantKey",
///   "tenantSecret": "what callers send as tenantSecret",
///   "rootKeys": [{ "version": 1, "key": "base64url of at least 32 random bytes" }],
///   "signingKeys": [{ "id": "es1", "algorithm": "ES256", "privateKey": "base64url of PKCS#8" }]
/// }
/// ```
/// New tokens use the root key with the highest version and the first signing key of the tenant's algorithm.
/// The other keys only verify. Unknown members are ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretDocument {
    /// `tenantKey` of the callers.
    #[serde(default = "empty")]
    pub tenant_key: SecretString,
    /// `tenantSecret` of the callers.
    #[serde(default = "empty")]
    pub tenant_secret: SecretString,
    /// Root keys, from which symmetric keys are derived.
    #[serde(default)]
    pub root_keys: Vec<RootKey>,
    /// Asymmetric keys that sign access tokens.
    #[serde(default)]
    pub signing_keys: Vec<SigningKey>,
    /// Version that a rotation created this document from.
    #[serde(default)]
    pub made_from: Option<String>,
    /// Time of the rotation that created this document.
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<Timestamp>,
    /// Version ID in Secrets Manager. It is not part of the document's text.
    #[serde(skip)]
    pub version_id: String,
}

/// One version of a tenant's root key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootKey {
    /// Version.
    pub version: u32,
    /// Key bytes in base64url.
    pub key: SecretString,
    /// Time at which the key was replaced.
    #[serde(default, deserialize_with = "time")]
    pub retired_at: Option<Timestamp>,
}

/// Private key of an asymmetric algorithm.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Second part of the key ID `{tenant}.{id}`.
    pub id: String,
    /// `ES256`, `EdDSA` or `RS256`.
    pub algorithm: String,
    /// PKCS#8 (`RS256`: PKCS#1) in base64url.
    pub private_key: SecretString,
    /// Time at which the key was replaced.
    #[serde(default, deserialize_with = "time")]
    pub retired_at: Option<Timestamp>,
}

/// Reads a time in RFC 3339. An invalid time counts as absent.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().and_then(|at| at.parse().ok()))
}

fn empty() -> SecretString {
    SecretString::from("")
}

impl SecretDocument {
    /// Parses a document. [`super::TenantKeys::from_documents`] validates the values.
    ///
    /// # Errors
    /// [`MalformedDocument`] when the text is not JSON of this structure.
    pub fn parse(text: &SecretString) -> Result<Self, MalformedDocument> {
        let members = parse_object(text.expose_secret().as_bytes()).map_err(|_| MalformedDocument)?;
        serde_json::from_value(Value::Object(members)).map_err(|_| MalformedDocument)
    }

    /// Sets the times of retirement of the keys that this document replaced.
    pub fn settle_retirement(&mut self, active: Option<&ActiveSecret>) {
        let activation = Activation::of(&self.version_id, self.made_from.as_deref(), active);
        let roots = self.root_keys.iter_mut().map(|key| &mut key.retired_at);
        let signing = self.signing_keys.iter_mut().map(|key| &mut key.retired_at);
        for retired_at in roots.chain(signing) {
            *retired_at = activation.retirement(self.created_at, *retired_at);
        }
    }

    /// Sets the times of retirement of the keys that `newer` also has to those in `newer`.
    pub fn retire_like(&mut self, newer: &Self) {
        for key in &mut self.root_keys {
            if let Some(known) = newer.root_keys.iter().find(|known| known.version == key.version) {
                key.retired_at = known.retired_at;
            }
        }
        for key in &mut self.signing_keys {
            if let Some(known) = newer.signing_keys.iter().find(|known| known.id == key.id) {
                key.retired_at = known.retired_at;
            }
        }
    }

    /// Removes retired keys beyond the limits of age and number.
    pub fn drop_ended(&mut self, now: Timestamp) {
        drop_ended(&mut self.root_keys, now, |key| ((), key.retired_at));
        drop_ended(&mut self.signing_keys, now, |key| (key.algorithm.clone(), key.retired_at));
    }

    /// Serializes the document for Secrets Manager.
    pub fn to_text(&self) -> SecretString {
        let roots: Vec<_> = self
            .root_keys
            .iter()
            .map(|root| json!({ "version": root.version, "key": root.key.expose_secret() }))
            .collect();
        let signing: Vec<_> = self
            .signing_keys
            .iter()
            .map(|key| json!({ "id": key.id, "algorithm": key.algorithm, "privateKey": key.private_key.expose_secret() }))
            .collect();
        let document = json!({
            "tenantKey": self.tenant_key.expose_secret(),
            "tenantSecret": self.tenant_secret.expose_secret(),
            "rootKeys": roots,
            "signingKeys": signing,
        });
        SecretString::from(document.to_string())
    }
}

/// Error for a secret that is not a secret document. Contains no part of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's secret is not a JSON document of the expected structure")]
pub struct MalformedDocument;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_read_back_after_writing() {
        let document = SecretDocument {
            tenant_key: SecretString::from("key"),
            tenant_secret: SecretString::from("secret"),
            root_keys: vec![RootKey { version: 3, key: SecretString::from("AAAA"), retired_at: None }],
            signing_keys: vec![SigningKey {
                id: "es1".into(),
                algorithm: "ES256".into(),
                private_key: SecretString::from("BBBB"),
                retired_at: None,
            }],
            made_from: None,
            created_at: None,
            version_id: String::new(),
        };
        let again = SecretDocument::parse(&document.to_text()).unwrap();
        assert_eq!(again.to_text().expose_secret(), document.to_text().expose_secret());
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_output_and_errors_contain_no_value() {
        let text = r#"{"tenantKey":"hunter2","tenantSecret":"hunter2","rootKeys":[{"version":1,"key":"hunter2"}],"signingKeys":[{"id":"a","algorithm":"b","privateKey":"hunter2"}]}"#;
        let document = SecretDocument::parse(&SecretString::from(text)).unwrap();
        assert!(!format!("{document:?}").contains("hunter2"));
        let error =
            SecretDocument::parse(&SecretString::from(r#"{"tenantKey":"hunter2","rootKeys":"hunter2"}"#))
                .unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
