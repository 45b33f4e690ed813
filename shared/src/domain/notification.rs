//! What a user is told, by mail or text message: waits in the outbox until it is delivered.

use super::{AttemptId, Code};

/// One message to one user.
#[derive(Debug, Clone)]
pub enum Notification {
    /// How to set a new password.
    ResetCode(CodeMessage),
    /// Its password was changed.
    PasswordChanged,
    /// Its login name was changed.
    UsernameChanged,
    /// Nothing: written where there is nobody to tell, so that asking looks the same (docs/design/security.md#rule-19).
    Nothing,
}

impl Notification {
    /// Its name in events, templates and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResetCode(_) => "reset_code",
            Self::PasswordChanged => "password_changed",
            Self::UsernameChanged => "username_changed",
            Self::Nothing => "nothing",
        }
    }
}

/// A reset code on its way.
#[derive(Debug, Clone)]
pub struct CodeMessage {
    /// The code.
    pub code: Code,
    /// Which of the user's codes it is: an older one than the newest is not sent any more.
    pub id: AttemptId,
    /// How it is sent.
    pub medium: Medium,
    /// The link's template that the request named.
    pub link: Option<String>,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// To the verified mail address.
    Mail,
    /// To the verified telephone number.
    Text,
}
