//! What people are written: plain defaults in English and German, and a tenant's own templates.
//!
//! A template that cannot be used never keeps a message back: the default goes instead.

mod default;
mod engine;
mod locale;
mod value;

pub use engine::TemplateFault;
pub use value::{CodeValues, Values};

use crate::domain::{Failure, Medium, Notification, Templates};

/// A message that people are sent, and so a set of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// A mail with a link that sets a new password.
    ResetMail,
    /// A text message with a code that does.
    ResetText,
    /// A mail: the password was changed.
    PasswordChanged,
    /// A mail: the login name was changed.
    UsernameChanged,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::ResetMail, Self::ResetText, Self::PasswordChanged, Self::UsernameChanged];

    /// The message that a notification becomes; `None` where nobody is told.
    pub fn of(notification: &Notification) -> Option<Self> {
        match notification {
            Notification::ResetCode(message) => Some(match message.medium {
                Medium::Mail => Self::ResetMail,
                Medium::Text => Self::ResetText,
            }),
            Notification::PasswordChanged => Some(Self::PasswordChanged),
            Notification::UsernameChanged => Some(Self::UsernameChanged),
            Notification::Nothing => None,
        }
    }

    /// Its name among a tenant's templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResetMail => "reset_code",
            Self::ResetText => "reset_code_text",
            Self::PasswordChanged => "password_changed",
            Self::UsernameChanged => "username_changed",
        }
    }

    /// How it is sent.
    pub fn medium(self) -> Medium {
        match self {
            Self::ResetText => Medium::Text,
            Self::ResetMail | Self::PasswordChanged | Self::UsernameChanged => Medium::Mail,
        }
    }

    fn has_code(self) -> bool {
        matches!(self, Self::ResetMail | Self::ResetText)
    }
}

/// A message as it is sent. No `Debug`: it may hold a code.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// A mail's subject, one line; empty for a text message.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// A mail's HTML.
    pub html: Option<String>,
}

/// Writes a message in the first language of `preferred` (BCP 47) that there are words for, the
/// tenant's `own` before the defaults; in English when there are none.
///
/// # Errors
/// `Internal` when a default is broken: a test holds that none is.
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
    Err(Failure::Internal("there are no default words in the last language".into()))
}

/// Whether every template can be used: for operators' tools, before they are kept.
///
/// # Errors
/// The first fault, with where it is.
pub fn check(templates: &Templates) -> Result<(), RefusedTemplate> {
    for (locale, messages) in &templates.0 {
        let refused = |name: &str, fault| RefusedTemplate { place: format!("{locale}/{name}"), fault };
        if !locale::is_tag(locale) {
            return Err(refused("", TemplateFault::UnknownName));
        }
        for (name, template) in messages {
            let kind = MessageKind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.ok_or_else(|| refused(name, TemplateFault::UnknownName))?;
            value::samples(kind)
                .iter()
                .try_for_each(|values| engine::render(kind, template, locale, values).map(|_| ()))
                .map_err(|fault| refused(name, fault))?;
        }
    }
    Ok(())
}

/// A template that cannot be used, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {place}: {fault}")]
pub struct RefusedTemplate {
    /// Its language and its message's name.
    pub place: String,
    /// What is wrong with it.
    pub fault: TemplateFault,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::MessageTemplate;

    fn values<'a>(tenant: &'a str, username: &'a str, link: &'a str) -> Values<'a> {
        Values {
            tenant,
            username,
            time: "2030-03-18T17:46:40Z".parse().unwrap(),
            code: Some(CodeValues {
                link,
                code: "ABCDEFGH",
                seconds: 3_600,
                ends_at: "2030-03-18T18:46:40Z".parse().unwrap(),
            }),
        }
    }

    fn for_kind(kind: MessageKind, mut values: Values<'_>) -> Values<'_> {
        if !kind.has_code() {
            values.code = None;
        }
        values
    }

    fn own(locale: &str, kind: MessageKind, text: &str) -> Templates {
        let template =
            MessageTemplate { subject: Some("own".into()), text: text.to_owned(), html: Some(text.into()) };
        Templates(BTreeMap::from([(locale.into(), BTreeMap::from([(kind.name().into(), template)]))]))
    }

    #[test]
    fn every_default_is_whole_in_every_language() {
        let link = "https://a.example/x?userId=u&code=ABCDEFGH";
        for kind in MessageKind::ALL {
            let given = for_kind(kind, values("Cloud Vault", "ada@example.com", link));
            let english = compose(kind, None, &["en"], &given).unwrap();
            let german = compose(kind, None, &["de-AT"], &given).unwrap();
            assert_ne!(english.text, german.text);
            for (message, language) in [(&english, "en"), (&german, "de")] {
                assert!(message.text.contains("Cloud Vault"), "{}", message.text);
                assert!(!message.text.contains(['{', '}']) && !message.text.ends_with('\n'));
                assert_eq!(message.subject.is_empty(), kind.medium() == Medium::Text);
                assert_eq!(message.html.is_some(), kind.medium() == Medium::Mail);
                if kind.has_code() {
                    assert!(message.text.contains(link) && message.text.contains("18:46 UTC"));
                }
                if kind == MessageKind::ResetText {
                    assert!(message.text.contains("ABCDEFGH") && message.text.chars().count() < 200);
                }
                let Some(html) = &message.html else { continue };
                assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>"), "{html}");
                assert!(html.contains(&format!("lang=\"{language}\"")) && html.contains("<title>"));
                assert!(!html.contains("<img") && !html.contains("src=") && !html.contains("url("));
                if kind.has_code() {
                    let escaped = link.replace('&', "&amp;").replace('/', "&#x2f;");
                    assert_eq!(html.matches(&escaped).count(), 3, "a button, a link and its text: {html}");
                } else {
                    assert!(!html.contains("<a "), "{html}");
                }
            }
        }
    }

    #[test]
    fn a_tenants_words_come_first_in_the_readers_language() {
        let kind = MessageKind::PasswordChanged;
        let given = for_kind(kind, values("T", "u", ""));
        let french = own("FR", kind, "bonjour {{ username }} {{ locale }}");
        let text =
            |own: &Templates, preferred: &[&str]| compose(kind, Some(own), preferred, &given).unwrap().text;
        assert_eq!(text(&french, &["fr-CA", "en"]), "bonjour u fr");
        assert_eq!(text(&french, &["xx", "fr"]), "bonjour u fr");
        let english = compose(kind, None, &["en"], &given).unwrap().text;
        assert_eq!(text(&french, &["en", "fr"]), english, "the reader's language before the tenant's");
        assert_eq!(text(&french, &[]), english);
        assert_eq!(text(&own("en", MessageKind::UsernameChanged, "x"), &["en"]), english);
        assert_eq!(
            text(&own("en", kind, "own"), &["de", "en"]),
            compose(kind, None, &["de"], &given).unwrap().text
        );
    }

    #[test]
    fn a_broken_template_gives_way_to_the_default() {
        let kind = MessageKind::ResetMail;
        let given = values("T", "u", "https://a.example/");
        let english = compose(kind, None, &["en"], &given).unwrap();
        let costly = "{{ username }}".repeat(2_000);
        for broken in [
            "{{ nobody }}",
            "{{ username",
            "{% for i in [1, 2, 3] %}{{ i }}{% endfor %}",
            "{% set a = 1 %}",
            "{{ username ~ username }}",
            "{{ username | safe }}",
            "{% autoescape false %}{{ username }}{% endautoescape %}",
            &costly,
            &"x".repeat(100_000),
        ] {
            let templates = own("en", kind, broken);
            assert!(compose(kind, Some(&templates), &["en"], &given).unwrap() == english, "{broken:.60}");
            let refused = check(&templates).unwrap_err();
            assert_eq!(refused.place, "en/reset_code", "{broken:.60}");
        }
        let fault = check(&own("en", kind, &costly)).unwrap_err().fault;
        assert!(
            matches!(fault, TemplateFault::Engine { what: minijinja::ErrorKind::OutOfFuel, .. }),
            "{fault}"
        );
        let mut without_subject = own("en", kind, "x");
        without_subject.0.get_mut("en").unwrap().get_mut(kind.name()).unwrap().subject = None;
        assert!(compose(kind, Some(&without_subject), &["en"], &given).unwrap() == english);
        assert!(check(&without_subject).is_err());
    }

    #[test]
    fn templates_are_checked_before_they_are_kept() {
        let good = "{% if hours %}{{ hours }}{% else %}{{ minutes }}{% endif %} {{ link }} {{ ends_at }}";
        assert_eq!(check(&own("de-CH", MessageKind::ResetText, good)), Ok(()));
        let cases = [
            own("de-CH", MessageKind::PasswordChanged, "{{ link }}"),
            own("d e", MessageKind::ResetText, good),
            own("", MessageKind::ResetText, good),
            own("en", MessageKind::ResetText, "{% if nothing %}x{% endif %}"),
            Templates(BTreeMap::from([(
                "en".to_owned(),
                BTreeMap::from([("birthday".to_owned(), MessageTemplate::default())]),
            )])),
        ];
        for bad in cases {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_subject_is_one_line_whatever_the_names(tenant in "(?s).{0,40}", name in "[\\PC\r\n\u{85}\u{2028}\u{2029}\0]{0,40}") {
            for kind in MessageKind::ALL {
                let given = for_kind(kind, values(&tenant, &name, "https://a.example/"));
                let template = own("en", kind, "x");
                let mut named = template.clone();
                named.0.get_mut("en").unwrap().get_mut(kind.name()).unwrap().subject =
                    Some("{{ tenant }}\n{{ username }}".into());
                for own in [None, Some(&template), Some(&named)] {
                    let subject = compose(kind, own, &["en"], &given).unwrap().subject;
                    let breaks = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
                    prop_assert!(!subject.contains(breaks), "more than a line");
                    prop_assert!(subject.chars().count() <= 200);
                }
            }
        }

        #[test]
        fn no_name_becomes_markup(tenant in "[<>&\"'/a-z ]{0,30}", name in "[<>&\"'/a-z{}%# ]{0,30}") {
            for kind in MessageKind::ALL {
                let plain = compose(kind, None, &["en"], &for_kind(kind, values("t", "n", "l"))).unwrap();
                let hostile = compose(kind, None, &["en"], &for_kind(kind, values(&tenant, &name, "\"><script>"))).unwrap();
                let tags = |html: &Option<String>| html.as_deref().map(|html| (html.matches('<').count(), html.matches('"').count()));
                prop_assert_eq!(tags(&plain.html), tags(&hostile.html));
            }
        }

        // Whatever is stored as a template, it ends soon and something is sent.
        #[test]
        fn no_template_keeps_a_message_back(text in "([{}%#]{1,3}|[a-z ]{1,9}|username|if |endif|for x in y|[~*|()'\".=-]){0,30}") {
            let given = values("t", "n", "l");
            let templates = own("en", MessageKind::ResetMail, &text);
            prop_assert!(compose(MessageKind::ResetMail, Some(&templates), &["en"], &given).is_ok());
            let _ = check(&templates);
        }
    }

    // A template of operators deep enough to fill a thread's stack is refused by its form.
    #[test]
    fn deep_templates_are_refused() {
        for text in [
            format!("{{{{ {}username }}}}", "not ".repeat(5_000)),
            format!("{{{{ {}username{} }}}}", "(".repeat(5_000), ")".repeat(5_000)),
            format!("{{{{ username{} }}}}", " ~ username".repeat(2_000)),
            format!("{{{{ username{} }}}}", " == username".repeat(2_000)),
            format!("{{{{ username{} }}}}", ".username".repeat(2_000)),
            format!("{}{}", "{% if username %}".repeat(800), "{% endif %}".repeat(800)),
            format!("{{% if username %}}{}{{% endif %}}", "{% elif username %}".repeat(1_500)),
        ] {
            assert!(check(&own("en", MessageKind::PasswordChanged, &text)).is_err(), "{text:.80}");
        }
    }
}
