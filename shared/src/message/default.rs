//! The default templates, in English and German.

use super::MessageKind;
use crate::domain::MessageTemplate;

macro_rules! mail {
    ($language:literal, $name:literal) => {
        MessageTemplate {
            subject: Some(include_str!(concat!($language, "/", $name, ".subject.txt")).to_owned()),
            text: include_str!(concat!($language, "/", $name, ".txt")).to_owned(),
            html: Some(
                concat!(
                    include_str!("head.html"),
                    include_str!(concat!($language, "/", $name, ".html")),
                    include_str!("foot.html")
                )
                .to_owned(),
            ),
        }
    };
}

macro_rules! text_message {
    ($language:literal, $name:literal) => {
        MessageTemplate {
            subject: None,
            text: include_str!(concat!($language, "/", $name, ".txt")).to_owned(),
            html: None,
        }
    };
}

/// Returns the default template for a language, if one exists.
pub(super) fn template(locale: &str, kind: MessageKind) -> Option<MessageTemplate> {
    Some(match (locale, kind) {
        ("en", MessageKind::ResetMail) => mail!("en", "reset_code"),
        ("en", MessageKind::ResetText) => text_message!("en", "reset_code_text"),
        ("en", MessageKind::EmailCodeMail) => mail!("en", "email_code"),
        ("en", MessageKind::PhoneCodeText) => text_message!("en", "phone_code"),
        ("en", MessageKind::PasswordChanged) => mail!("en", "password_changed"),
        ("en", MessageKind::UsernameChanged) => mail!("en", "username_changed"),
        ("de", MessageKind::ResetMail) => mail!("de", "reset_code"),
        ("de", MessageKind::ResetText) => text_message!("de", "reset_code_text"),
        ("de", MessageKind::EmailCodeMail) => mail!("de", "email_code"),
        ("de", MessageKind::PhoneCodeText) => text_message!("de", "phone_code"),
        ("de", MessageKind::PasswordChanged) => mail!("de", "password_changed"),
        ("de", MessageKind::UsernameChanged) => mail!("de", "username_changed"),
        _ => return None,
    })
}
