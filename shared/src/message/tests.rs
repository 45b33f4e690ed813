use std::collections::BTreeMap;

use proptest::prelude::*;
use strum::IntoEnumIterator;

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
fn default_templates_are_complete_in_every_language() {
    let link = "https://a.example/x?userId=u&code=ABCDEFGH";
    for kind in MessageKind::iter() {
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
                assert!(message.text.contains("18:46 UTC"));
                assert_eq!(
                    message.text.contains(link),
                    kind != MessageKind::PhoneCodeText,
                    "{}",
                    message.text
                );
            }
            if kind.medium() == Medium::Text {
                assert!(message.text.contains("ABCDEFGH") && message.text.chars().count() < 200);
            }
            let Some(html) = &message.html else { continue };
            assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>"), "{html}");
            assert!(html.contains(&format!("lang=\"{language}\"")) && html.contains("<title>"));
            assert!(!html.contains("<img") && !html.contains("src=") && !html.contains("url("));
            if kind.has_code() {
                let escaped = link.replace('&', "&amp;").replace('/', "&#x2f;");
                assert_eq!(html.matches(&escaped).count(), 3, "button, link and link text: {html}");
            } else {
                assert!(!html.contains("<a "), "{html}");
            }
        }
    }
}

#[test]
fn verification_mail_shows_the_code_if_it_has_no_link() {
    for language in ["en", "de"] {
        let given = values("Cloud Vault", "ada@example.com", "");
        let mail = compose(MessageKind::EmailCodeMail, None, &[language], &given).unwrap();
        let html = mail.html.unwrap();
        assert!(
            mail.text.contains("ABCDEFGH") && html.contains("ABCDEFGH") && !html.contains("<a "),
            "{html}"
        );
        let given = values("Cloud Vault", "ada@example.com", "https://a.example/x");
        let mail = compose(MessageKind::EmailCodeMail, None, &[language], &given).unwrap();
        assert!(!mail.text.contains("ABCDEFGH") && !mail.html.unwrap().contains("ABCDEFGH"));
    }
}

#[test]
fn template_of_the_tenant_is_used_in_the_language_of_the_user() {
    let kind = MessageKind::PasswordChanged;
    let given = for_kind(kind, values("T", "u", ""));
    let french = own("FR", kind, "bonjour {{ username }} {{ locale }}");
    let text =
        |own: &Templates, preferred: &[&str]| compose(kind, Some(own), preferred, &given).unwrap().text;
    assert_eq!(text(&french, &["fr-CA", "en"]), "bonjour u fr");
    assert_eq!(text(&french, &["xx", "fr"]), "bonjour u fr");
    let english = compose(kind, None, &["en"], &given).unwrap().text;
    assert_eq!(
        text(&french, &["en", "fr"]),
        english,
        "the language of the user takes precedence over the tenant's template"
    );
    assert_eq!(text(&french, &[]), english);
    assert_eq!(text(&own("en", MessageKind::UsernameChanged, "x"), &["en"]), english);
    assert_eq!(
        text(&own("en", kind, "own"), &["de", "en"]),
        compose(kind, None, &["de"], &given).unwrap().text
    );
}

#[test]
fn broken_template_is_replaced_by_the_default() {
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
        assert_eq!(refused.path, "en/reset_code", "{broken:.60}");
    }
    let fault = check(&own("en", kind, &costly)).unwrap_err().fault;
    assert!(matches!(fault, TemplateFault::Engine { what: minijinja::ErrorKind::OutOfFuel, .. }), "{fault}");
    let mut without_subject = own("en", kind, "x");
    without_subject.0.get_mut("en").unwrap().get_mut(kind.name()).unwrap().subject = None;
    assert!(compose(kind, Some(&without_subject), &["en"], &given).unwrap() == english);
    assert!(check(&without_subject).is_err());
}

#[test]
fn check_rejects_unknown_names_languages_and_values() {
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
    fn subject_is_one_line_for_all_names(tenant in "(?s).{0,40}", name in "[\\PC\r\n\u{85}\u{2028}\u{2029}\0]{0,40}") {
        for kind in MessageKind::iter() {
            let given = for_kind(kind, values(&tenant, &name, "https://a.example/"));
            let template = own("en", kind, "x");
            let mut named = template.clone();
            named.0.get_mut("en").unwrap().get_mut(kind.name()).unwrap().subject =
                Some("{{ tenant }}\n{{ username }}".into());
            for own in [None, Some(&template), Some(&named)] {
                let subject = compose(kind, own, &["en"], &given).unwrap().subject;
                let breaks = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
                prop_assert!(!subject.contains(breaks), "the subject has more than one line");
                prop_assert!(subject.chars().count() <= 200);
            }
        }
    }

    #[test]
    fn names_are_escaped_in_html(tenant in "[<>&\"'/a-z ]{0,30}", name in "[<>&\"'/a-z{}%# ]{0,30}") {
        for kind in MessageKind::iter() {
            let plain = compose(kind, None, &["en"], &for_kind(kind, values("t", "n", "l"))).unwrap();
            let hostile = compose(kind, None, &["en"], &for_kind(kind, values(&tenant, &name, "\"><script>"))).unwrap();
            let tags = |html: &Option<String>| html.as_deref().map(|html| (html.matches('<').count(), html.matches('"').count()));
            prop_assert_eq!(tags(&plain.html), tags(&hostile.html));
        }
    }

    // Every stored template renders in limited time, or the default is used.
    #[test]
    fn message_is_composed_for_every_stored_template(text in "([{}%#]{1,3}|[a-z ]{1,9}|username|if |endif|for x in y|[~*|()'\".=-]){0,30}") {
        let given = values("t", "n", "l");
        let templates = own("en", MessageKind::ResetMail, &text);
        prop_assert!(compose(MessageKind::ResetMail, Some(&templates), &["en"], &given).is_ok());
        let _ = check(&templates);
    }
}

// The form check rejects templates that would overflow the stack of the engine.
#[test]
fn deeply_nested_templates_are_rejected() {
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
