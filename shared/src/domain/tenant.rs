//! A tenant and its message templates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use super::{Policy, SigningAlgorithm, TenantId, id::named};

/// A tenant record.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Tenant ID.
    pub id: TenantId,
    /// Display name in mails and on the hosted page.
    pub name: String,
    /// Status.
    pub status: TenantStatus,
    /// Number of times that all sessions of the tenant were ended at once
    /// (docs/design/storage.md#epochs).
    pub session_epoch: u64,
    /// Number of writes of the record.
    pub version: u64,
    /// Version of the secret that is in use; `None` until a rotation or `doorwardctl` writes it.
    pub active_secret: Option<ActiveSecret>,
    /// Algorithm before the last change of the policy's algorithm; `None` if it did not change.
    pub previous_algorithm: Option<PreviousAlgorithm>,
    /// Rules for logins and sessions.
    pub policy: Policy,
}

/// Version of a tenant's secret that is in use (docs/design/security.md#rule-18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSecret {
    /// Version ID in Secrets Manager.
    pub version: String,
    /// Time at which the version was written to the record, after it had become current.
    pub since: Timestamp,
    /// Time at which the version before it was retired; `None` if that version may still be used.
    pub previous_retired_at: Option<Timestamp>,
    /// ID of the retired version, if the retirement knew it.
    pub retired: Option<String>,
}

/// Signature algorithm that the policy has replaced (docs/design/security.md#rule-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousAlgorithm {
    /// The algorithm.
    pub algorithm: SigningAlgorithm,
    /// Time of the change.
    pub replaced_at: Timestamp,
}

/// Status of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
pub enum TenantStatus {
    /// The tenant's users can log in.
    Active,
    /// Every route returns 403 after the tenant's credentials or the bearer token were verified.
    Suspended,
}

named!(TenantStatus);

/// Message templates of one tenant: by language (BCP 47), then by message name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates(pub BTreeMap<String, BTreeMap<String, MessageTemplate>>);

/// The template of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTemplate {
    /// Subject of a mail. Text messages have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Plain text.
    pub text: String,
    /// HTML part of a mail. A mail without it has only the plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

impl Templates {
    /// Returns the template for a message name and a language. The case of the language tag is ignored.
    pub fn find(&self, locale: &str, name: &str) -> Option<&MessageTemplate> {
        let own = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(locale));
        own.and_then(|(_, messages)| messages.get(name))
    }
}
