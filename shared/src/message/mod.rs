//! Messages to users, from default templates in English and German or from a tenant's own templates.
//!
//! If a tenant's template is unusable, the default template is used, so that every message is sent.

mod default;
mod engine;
mod locale;
mod value;

pub use engine::TemplateFault;
pub use value::{CodeValues, Values};

use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::{Failure, Medium, Notification, Templates};

/// The kind of a message. Each kind has its own template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumIter, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum MessageKind {
    /// Mail with a link for setting a new password.
    #[strum(serialize = "reset_code")]
    ResetMail,
    /// Text message with a code for setting a new password.
    #[strum(serialize = "reset_code_text")]
    ResetText,
    /// Mail with a code or a link for verifying the mail address.
    #[strum(serialize = "email_code")]
    EmailCodeMail,
    /// Text message with a code for verifying the phone number.
    #[strum(serialize = "phone_code")]
    PhoneCodeText,
    /// Mail about a changed password.
    PasswordChanged,
    /// Mail about a changed username.
    UsernameChanged,
}

impl MessageKind {
    /// Returns the message for a notification, or `None` if none is sent.
    pub fn of(notification: &Notification) -> Option<Self> {
        match notification {
            Notification::ResetCode(message) => Some(match message.medium {
                Medium::Mail => Self::ResetMail,
                Medium::Text => Self::ResetText,
            }),
            Notification::EmailCode(_) => Some(Self::EmailCodeMail),
            Notification::PhoneCode(_) => Some(Self::PhoneCodeText),
            Notification::PasswordChanged => Some(Self::PasswordChanged),
            Notification::UsernameChanged => Some(Self::UsernameChanged),
            Notification::Nothing => None,
        }
    }

    /// Name of the template.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the delivery medium.
    pub fn medium(self) -> Medium {
        match self {
            Self::ResetText | Self::PhoneCodeText => Medium::Text,
            Self::ResetMail | Self::EmailCodeMail | Self::PasswordChanged | Self::UsernameChanged => {
                Medium::Mail
            }
        }
    }

    fn has_code(self) -> bool {
        matches!(self, Self::ResetMail | Self::ResetText | Self::EmailCodeMail | Self::PhoneCodeText)
    }
}

/// A rendered message. It has no `Debug` because it can contain a code.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Subject of a mail, in one line. Empty for a text message.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML part of a mail.
    pub html: Option<String>,
}

/// Renders a message in the first language of `preferred` (BCP 47) that has a template, or in English. The
/// tenant's `own` template takes precedence over the default template of the same language.
///
/// # Errors
/// `Internal` if a default template is broken. A test checks that none is.
pub fn compose(
    kind: MessageKind,
    own: Option<&Templates>,
    preferred: &[&str],
    values: &Values<'_>,
) -> Result<Message, Failure> {
    for locale in locale::choices(preferred) {
        if let Some(template) = own.and_then(|own| own.find(&locale, kind.name())) {
            match engine::render(kind, template, &locale, values) {
                Ok(message) => return Ok(message),
                Err(fault) => {
                    tracing::warn!(kind = kind.name(), locale, %fault, "template.unusable");
                }
            }
        }
        if let Some(template) = default::template(&locale, kind) {
            return engine::render(kind, &template, &locale, values)
                .map_err(|fault| Failure::Internal(Box::new(fault)));
        }
    }
    Err(Failure::Internal("the fallback language has no default template".into()))
}

/// Checks all stored templates of a tenant.
///
/// # Errors
/// The first fault and the template that has it.
pub fn check(templates: &Templates) -> Result<(), UnusableTemplate> {
    for (locale, messages) in &templates.0 {
        let refused = |name: &str, fault| UnusableTemplate { path: format!("{locale}/{name}"), fault };
        if !locale::is_tag(locale) {
            return Err(refused("", TemplateFault::UnknownName));
        }
        for (name, template) in messages {
            let kind: MessageKind = name.parse().map_err(|_| refused(name, TemplateFault::UnknownName))?;
            value::samples(kind)
                .iter()
                .try_for_each(|values| engine::render(kind, template, locale, values).map(|_| ()))
                .map_err(|fault| refused(name, fault))?;
        }
    }
    Ok(())
}

/// An unusable template of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {path}: {fault}")]
pub struct UnusableTemplate {
    /// Language and message name: `{language}/{name}`.
    pub path: String,
    /// Fault.
    pub fault: TemplateFault,
}

#[cfg(test)]
mod tests;
