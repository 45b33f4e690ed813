//! A tenant's own words for its messages, as its operators wrote them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Templates of one tenant: by language (BCP 47), then by the message's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates(pub BTreeMap<String, BTreeMap<String, MessageTemplate>>);

/// The parts of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTemplate {
    /// A mail's subject; a text message has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The plain text.
    pub text: String,
    /// A mail's HTML; without one it goes as plain text alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

impl Templates {
    /// The message of that name in that language, whatever the letters' case.
    pub fn find(&self, locale: &str, name: &str) -> Option<&MessageTemplate> {
        let own = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(locale));
        own.and_then(|(_, messages)| messages.get(name))
    }
}
