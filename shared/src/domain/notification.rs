//! Notifications to users. They wait in the outbox until they are delivered by mail or text message.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::{AttemptId, Code, CodePurpose};

/// One notification to one user.
#[derive(Debug, Clone, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Notification {
    /// A code for setting a new password.
    ResetCode(CodeMessage),
    /// A code for verifying a mail address.
    EmailCode(CodeMessage),
    /// A code for verifying a phone number.
    PhoneCode(CodeMessage),
    /// The password was changed.
    PasswordChanged,
    /// The username was changed.
    UsernameChanged,
    /// An entry that is not delivered. It is written for unknown users, so that a request for them makes the
    /// same storage calls (docs/design/security.md#rule-19).
    Nothing,
}

impl Notification {
    /// Name in events, templates and logs.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The code in the notification, and its purpose.
    pub fn code(&self) -> Option<(&CodeMessage, CodePurpose)> {
        match self {
            Self::ResetCode(code) => Some((code, CodePurpose::Password)),
            Self::EmailCode(code) => Some((code, CodePurpose::Email)),
            Self::PhoneCode(code) => Some((code, CodePurpose::Phone)),
            Self::PasswordChanged | Self::UsernameChanged | Self::Nothing => None,
        }
    }

    /// The notification that delivers a code.
    pub fn of_code(code: CodeMessage, purpose: CodePurpose) -> Self {
        match purpose {
            CodePurpose::Password => Self::ResetCode(code),
            CodePurpose::Email => Self::EmailCode(code),
            CodePurpose::Phone => Self::PhoneCode(code),
        }
    }
}

/// A code to be delivered.
#[derive(Debug, Clone)]
pub struct CodeMessage {
    /// The code.
    pub code: Code,
    /// ID of the code. Only the user's newest code is delivered.
    pub id: AttemptId,
    /// Delivery medium.
    pub medium: Medium,
    /// Link template from the request.
    pub link: Option<String>,
    /// Address that the code verifies. `None` for a reset code.
    pub verifies: Option<String>,
}

/// Delivery medium of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Mail to the verified address. A code that verifies an address goes to that address.
    Mail,
    /// Text message to the verified phone number. A code that verifies a number goes to that number.
    Text,
}
