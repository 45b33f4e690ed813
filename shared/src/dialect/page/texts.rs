//! Texts of the hosted page in every language.

use serde::Serialize;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
}

/// A page that consists of a title and a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Done,
    OpenTheLink,
    LinkDead,
    Stale,
    NotFound,
    Unreadable,
    Refused,
    Suspended,
    WrongNetwork,
    TooMany,
    Unavailable,
    Broken,
}

impl Notice {
    /// Whether the page links to the form, because the form may still be of use.
    pub(super) fn leads_back(self) -> bool {
        matches!(self, Self::Stale | Self::Unreadable | Self::TooMany | Self::Unavailable | Self::Broken)
    }
}

/// Fault of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    NoCode,
    Code,
    NoPassword,
    TooLong,
    Differs,
    /// A broken password rule, in English as in every dialect.
    Rule(String),
}

/// Texts of the form.
#[derive(Debug, Serialize)]
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) account: &'static str,
    pub(super) code: &'static str,
    pub(super) code_hint: &'static str,
    pub(super) password: &'static str,
    pub(super) repeated: &'static str,
    pub(super) submit: &'static str,
    pub(super) wrong: &'static str,
    pub(super) summary: &'static str,
    pub(super) back: &'static str,
}

const ENGLISH: Words = Words {
    title: "Set a new password",
    account: "Account",
    code: "Code",
    code_hint: "The 8 characters in the message that we sent you.",
    password: "New password",
    repeated: "New password again",
    submit: "Set password",
    wrong: "Error",
    summary: "The password is not set yet",
    back: "Open the form again",
};

const GERMAN: Words = Words {
    title: "Neues Passwort festlegen",
    account: "Konto",
    code: "Code",
    code_hint: "Die 8 Zeichen aus der Nachricht, die wir Ihnen geschickt haben.",
    password: "Neues Passwort",
    repeated: "Neues Passwort wiederholen",
    submit: "Passwort festlegen",
    wrong: "Fehler",
    summary: "Das Passwort ist noch nicht festgelegt",
    back: "Formular neu öffnen",
};

impl Language {
    /// The language that the browser prefers (RFC 9110, section 12.5.4), otherwise the language of `locale`,
    /// otherwise English.
    pub(super) fn choose(accepted: Option<&str>, locale: &str) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in accepted.unwrap_or_default().split(',') {
            let (tag, quality) = range.split_once(';').unwrap_or((range, "q=1"));
            let quality = quality.trim().strip_prefix("q=").and_then(|text| text.parse::<f32>().ok());
            let quality = quality.filter(|quality| *quality > 0.0 && *quality <= 1.0);
            // Of two languages with equal quality, the first wins.
            if let (Some(language), Some(quality)) = (Self::of(tag), quality)
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, language));
            }
        }
        best.map(|(_, language)| language).or(Self::of(locale)).unwrap_or(Self::English)
    }

    fn of(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().trim();
        [Self::English, Self::German]
            .into_iter()
            .find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    fn pick<T>(self, english: T, german: T) -> T {
        match self {
            Self::English => english,
            Self::German => german,
        }
    }

    /// Language tag (BCP 47).
    pub(super) fn tag(self) -> &'static str {
        self.pick("en", "de")
    }

    pub(super) fn words(self) -> &'static Words {
        self.pick(&ENGLISH, &GERMAN)
    }

    /// Hint below the password field.
    pub(super) fn password_hint(self, min_length: usize) -> String {
        match self {
            Self::English => format!("At least {min_length} characters. Tip: use several unrelated words."),
            Self::German => {
                format!(
                    "Mindestens {min_length} Zeichen. Tipp: Verwenden Sie mehrere Wörter, die nicht zusammengehören."
                )
            }
        }
    }

    /// Title and text.
    pub(super) fn notice(self, notice: Notice) -> (&'static str, &'static str) {
        let (english, german) = match notice {
            Notice::Done => (
                ("Your password was set", "You can log in with it now, and close this page."),
                (
                    "Ihr Passwort ist festgelegt",
                    "Sie können sich jetzt damit anmelden und diese Seite schließen.",
                ),
            ),
            Notice::OpenTheLink => (
                (
                    "Open the link once more",
                    "This page needs the link in the message that we sent you, and remembers it for 15 minutes. Open it again, or ask for a new message where you log in.",
                ),
                (
                    "Bitte den Link noch einmal öffnen",
                    "Diese Seite braucht den Link aus der Nachricht, die wir Ihnen geschickt haben, und merkt ihn sich 15 Minuten. Öffnen Sie ihn noch einmal, oder fordern Sie dort, wo Sie sich anmelden, eine neue Nachricht an.",
                ),
            ),
            Notice::LinkDead => (
                (
                    "This link no longer works",
                    "It was used already, has expired, or a newer message took its place. Open the link in the newest message, or ask for a new one where you log in.",
                ),
                (
                    "Dieser Link gilt nicht mehr",
                    "Er wurde schon benutzt, ist abgelaufen oder durch eine neuere Nachricht ersetzt. Öffnen Sie den Link aus der neuesten Nachricht, oder fordern Sie dort, wo Sie sich anmelden, eine neue an.",
                ),
            ),
            Notice::Stale => (
                ("This form is out of date", "Nothing was changed. Reload the form and fill it in again."),
                (
                    "Dieses Formular ist veraltet",
                    "Es wurde nichts geändert. Laden Sie das Formular neu und füllen Sie es noch einmal aus.",
                ),
            ),
            Notice::NotFound => (
                ("Page not found", "There is no page at this address."),
                ("Seite nicht gefunden", "Unter dieser Adresse gibt es keine Seite."),
            ),
            Notice::Unreadable => (
                ("The form could not be read", "Nothing was changed. Open the form again and fill it in."),
                (
                    "Das Formular war nicht lesbar",
                    "Es wurde nichts geändert. Öffnen Sie das Formular neu und füllen Sie es aus.",
                ),
            ),
            Notice::Refused => (
                ("This is not possible", "Nothing was changed."),
                ("Das ist nicht möglich", "Es wurde nichts geändert."),
            ),
            Notice::Suspended => (
                ("Not available", "This service is not available at present. Nothing was changed."),
                ("Nicht verfügbar", "Dieser Dienst ist zurzeit nicht verfügbar. Es wurde nichts geändert."),
            ),
            Notice::WrongNetwork => (
                ("Not from here", "This service cannot be used from your network. Nothing was changed."),
                (
                    "Von hier nicht möglich",
                    "Dieser Dienst lässt sich aus Ihrem Netz nicht nutzen. Es wurde nichts geändert.",
                ),
            ),
            Notice::TooMany => (
                ("Too many attempts", "Nothing was changed. Wait a while, then try again."),
                (
                    "Zu viele Versuche",
                    "Es wurde nichts geändert. Warten Sie eine Weile und versuchen Sie es dann noch einmal.",
                ),
            ),
            Notice::Unavailable => (
                ("Not available just now", "Try again in a minute."),
                ("Gerade nicht verfügbar", "Versuchen Sie es in einer Minute noch einmal."),
            ),
            Notice::Broken => (
                ("This did not work", "The service has an internal error. Try again later."),
                (
                    "Das hat nicht geklappt",
                    "Der Dienst hat einen internen Fehler. Versuchen Sie es später noch einmal.",
                ),
            ),
        };
        self.pick(english, german)
    }

    /// Fault of a field as a sentence.
    pub(super) fn wrong(self, wrong: &Wrong) -> String {
        let (english, german) = match wrong {
            Wrong::NoCode => ("Enter the code.", "Geben Sie den Code ein."),
            Wrong::Code => (
                "The code is wrong or no longer valid. Check it, or ask for a new one.",
                "Der Code ist falsch oder gilt nicht mehr. Prüfen Sie ihn, oder fordern Sie einen neuen an.",
            ),
            Wrong::NoPassword => ("Enter a new password.", "Geben Sie ein neues Passwort ein."),
            Wrong::TooLong => ("The new password is too long.", "Das neue Passwort ist zu lang."),
            Wrong::Differs => {
                ("The two passwords are not the same.", "Die beiden Passwörter stimmen nicht überein.")
            }
            Wrong::Rule(rule) => {
                return match self {
                    Self::English => format!("The new password {rule}."),
                    Self::German => german_rule(rule),
                };
            }
        };
        self.pick(english, german).to_owned()
    }
}

/// German text for a rule without a translation.
const GERMAN_RULE: &str = "Das neue Passwort ist zu leicht zu erraten oder wurde schon benutzt.";

/// German text of a rule of [`crate::domain::PasswordPolicy`], whose messages are English. A rule without a
/// translation gets a general text.
fn german_rule(rule: &str) -> String {
    let number = |before: &str, after: &str| rule.strip_prefix(before)?.strip_suffix(after);
    if let Some(length) = number("must have at least ", " characters") {
        return format!("Das neue Passwort muss mindestens {length} Zeichen haben.");
    }
    if let Some(last) = number("must not be one of the last ", " passwords") {
        return format!("Das neue Passwort darf keines der letzten {last} sein.");
    }
    match rule {
        "must not be made of the username or the names of tenant and service" => {
            "Das neue Passwort darf nicht aus dem Benutzernamen oder den Namen von Anbieter und Dienst bestehen."
        }
        "must not be a sequence or a keyboard run" => "Das neue Passwort darf keine Folge oder Tastenreihe sein.",
        "must not be a shorter text repeated" => {
            "Das neue Passwort darf nicht aus einem wiederholten kürzeren Text bestehen."
        }
        "must not be one of the most common passwords" => {
            "Das neue Passwort darf keines der häufigsten Passwörter sein."
        }
        "must not be the present password" => "Das neue Passwort darf nicht das jetzige sein.",
        _ => GERMAN_RULE,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{ForbiddenNames, Password, PasswordPolicy, TenantId, Username};

    #[test]
    fn the_browser_chooses_then_the_tenant() {
        use Language::{English, German};
        for (accepted, locale, chosen) in [
            (Some("de"), "en", German),
            (Some("de-AT,de;q=0.9,en;q=0.8"), "en", German),
            (Some("fr, en-GB;q=0.7, de;q=0.6"), "de", English),
            (Some("en;q=0.5,DE;q=0.9"), "en", German),
            (Some("en, de"), "de", English),
            (Some("de;q=0, *"), "en", English),
            (Some("fr,*;q=0.1"), "de-CH", German),
            (Some("de;q=x,;;q=,,"), "en", English),
            (None, "de", German),
            (None, "fr", English),
        ] {
            assert_eq!(Language::choose(accepted, locale), chosen, "{accepted:?} {locale}");
        }
    }

    #[test]
    fn rules_are_told_in_german_too() {
        let rule = |rule: &str| Language::German.wrong(&Wrong::Rule(rule.to_owned()));
        let (username, tenant) = (Username::parse("marcus").unwrap(), TenantId::parse("t").unwrap());
        let names = ForbiddenNames { username: &username, tenant: &tenant, tenant_name: "" };
        let mut told = 0;
        for password in ["short", "marcusmarcusmarcus", "abcdefghijklmnop", "passwordpassword"] {
            let password = Password::parse(password).unwrap();
            for broken in PasswordPolicy::default().broken_rules(&password, "password", &names) {
                assert_ne!(rule(&broken.message), GERMAN_RULE, "{}", broken.message);
                told += 1;
            }
        }
        assert!(told >= 4);
        assert_eq!(
            rule("must have at least 15 characters"),
            "Das neue Passwort muss mindestens 15 Zeichen haben."
        );
        assert!(rule("must not be one of the last 5 passwords").contains("letzten 5"));
    }

    proptest! {
        #[test]
        fn no_header_is_our_fault(accepted in "[a-zA-Z0-9;=.,* -]{0,60}|\\PC{0,30}") {
            Language::choose(Some(&accepted), &accepted);
        }
    }
}
