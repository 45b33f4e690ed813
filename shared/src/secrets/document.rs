//! The document in Secrets Manager that holds one tenant's secrets (docs/design/security.md#rule-17).

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::json as strict;

/// A tenant's secret document.
///
/// ```json
/// {
///   "tenantKey": "what callers send as tenantKey",
///   "tenantSecret": "what callers send as tenantSecret",
///   "rootKeys": [{ "version": 1, "key": "base64url of at least 32 random bytes" }],
///   "signingKeys": [{ "id": "es1", "algorithm": "ES256", "privateKey": "base64url of PKCS#8" }]
/// }
/// ```
/// The root key of the highest version is current; the first signing key of an algorithm is. The
/// others verify. Unknown members are ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretDocument {
    /// What callers send as `tenantKey`.
    #[serde(default = "empty")]
    pub tenant_key: SecretString,
    /// What callers send as `tenantSecret`.
    #[serde(default = "empty")]
    pub tenant_secret: SecretString,
    /// What symmetric keys are derived from.
    #[serde(default)]
    pub root_keys: Vec<RootKey>,
    /// Asymmetric keys that sign access tokens.
    #[serde(default)]
    pub signing_keys: Vec<SigningKey>,
    /// Which version of the tenant's secret it is; no part of its text.
    #[serde(skip)]
    pub version_id: String,
}

/// One version of a tenant's root key.
#[derive(Debug, Clone, Deserialize)]
pub struct RootKey {
    /// Its version.
    pub version: u32,
    /// base64url.
    pub key: SecretString,
}

/// One private key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Its part of the key id `{tenant}.{id}`.
    pub id: String,
    /// `ES256`, `EdDSA` or `RS256`.
    pub algorithm: String,
    /// base64url of PKCS#8 (`RS256`: PKCS#1).
    pub private_key: SecretString,
}

fn empty() -> SecretString {
    SecretString::from("")
}

impl SecretDocument {
    /// Reads a document; its values are judged where keys are made of them.
    ///
    /// # Errors
    /// Where the text stops being JSON of this shape; never a piece of it.
    pub fn parse(text: &SecretString) -> Result<Self, MalformedDocument> {
        let value = strict::parse(text.expose_secret().as_bytes()).map_err(|_| MalformedDocument)?;
        serde_json::from_value(value).map_err(|_| MalformedDocument)
    }

    /// The document's text, for whoever writes it to Secrets Manager.
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

/// A secret that is no document of ours. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's secret is not a JSON document of the expected shape")]
pub struct MalformedDocument;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_survives_writing_and_reading() {
        let document = SecretDocument {
            tenant_key: SecretString::from("key"),
            tenant_secret: SecretString::from("secret"),
            root_keys: vec![RootKey { version: 3, key: SecretString::from("AAAA") }],
            signing_keys: vec![SigningKey {
                id: "es1".into(),
                algorithm: "ES256".into(),
                private_key: SecretString::from("BBBB"),
            }],
            version_id: String::new(),
        };
        let again = SecretDocument::parse(&document.to_text()).unwrap();
        assert_eq!(again.to_text().expose_secret(), document.to_text().expose_secret());
    }

    // docs/design/security.md#rule-25
    #[test]
    fn neither_debug_nor_an_error_shows_a_value() {
        let text = r#"{"tenantKey":"hunter2","tenantSecret":"hunter2","rootKeys":[{"version":1,"key":"hunter2"}],"signingKeys":[{"id":"a","algorithm":"b","privateKey":"hunter2"}]}"#;
        let document = SecretDocument::parse(&SecretString::from(text)).unwrap();
        assert!(!format!("{document:?}").contains("hunter2"));
        let error =
            SecretDocument::parse(&SecretString::from(r#"{"tenantKey":"hunter2","rootKeys":"hunter2"}"#))
                .unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
