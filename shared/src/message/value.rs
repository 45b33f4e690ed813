//! The values that a template can show.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use minijinja::Value;

use super::MessageKind;

/// Values of a message. It has no `Debug` because it can contain a code.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// `tenant`: display name of the tenant.
    pub tenant: &'a str,
    /// `username`: username.
    pub username: &'a str,
    /// `time`: time of the event that the message reports.
    pub time: Timestamp,
    /// Values of a message with a code.
    pub code: Option<CodeValues<'a>>,
}

/// Values of a message with a code.
#[derive(Clone, Copy)]
pub struct CodeValues<'a> {
    /// `link`: link to the page that accepts the code. Empty if the user types the code elsewhere.
    pub link: &'a str,
    /// `code`: the code.
    pub code: &'a str,
    /// `minutes`, and `hours` from two hours on: remaining validity of the code.
    pub seconds: i64,
    /// `ends_at`: expiry time of the code.
    pub ends_at: Timestamp,
}

impl Values<'_> {
    /// Returns the values by their names in templates, and the language.
    pub(super) fn named(&self, locale: &str) -> Value {
        let Self { tenant, username, time, code } = self;
        let mut named = BTreeMap::from([
            ("tenant", Value::from(*tenant)),
            ("username", Value::from(*username)),
            ("time", Value::from(moment(*time))),
            ("locale", Value::from(locale)),
        ]);
        if let Some(CodeValues { link, code, seconds, ends_at }) = code {
            let minutes = (seconds.saturating_add(30) / 60).max(1);
            let hours = if minutes < 120 { 0 } else { (minutes + 30) / 60 };
            named.extend([
                ("link", Value::from(*link)),
                ("code", Value::from(*code)),
                ("minutes", Value::from(minutes)),
                ("hours", Value::from(hours)),
                ("ends_at", Value::from(moment(*ends_at))),
            ]);
        }
        Value::from(named)
    }
}

/// Formats a time for readers: to the minute, in UTC.
fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Returns sample values for each branch of a template.
pub(super) fn samples(kind: MessageKind) -> [Values<'static>; 3] {
    [30, 60 * 60, 24 * 60 * 60].map(|seconds| Values {
        tenant: "Tenant",
        username: "user@example.com",
        time: Timestamp::UNIX_EPOCH,
        code: kind.has_code().then_some(CodeValues {
            // A verification mail may have no link.
            link: if kind == MessageKind::EmailCodeMail && seconds == 30 {
                ""
            } else {
                "https://example.com/"
            },
            code: "AAAAAAAA",
            seconds,
            ends_at: Timestamp::UNIX_EPOCH,
        }),
    })
}
