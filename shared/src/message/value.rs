//! What a template may show.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use minijinja::Value;

use super::MessageKind;

/// What a message is about. No `Debug`: it may hold a code.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// `tenant`: the tenant's name.
    pub tenant: &'a str,
    /// `username`: the user's login name.
    pub username: &'a str,
    /// `time`: when that happened which the message tells of.
    pub time: Timestamp,
    /// What a message with a code shows beside.
    pub code: Option<CodeValues<'a>>,
}

/// A code, and what is done with it.
#[derive(Clone, Copy)]
pub struct CodeValues<'a> {
    /// `link`: where it is used.
    pub link: &'a str,
    /// `code`: it.
    pub code: &'a str,
    /// `minutes`, and `hours` from two of them on: how long it works from now on.
    pub seconds: i64,
    /// `ends_at`: until when it works.
    pub ends_at: Timestamp,
}

impl Values<'_> {
    /// The values by their names in templates, with the language written in.
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

/// A time as people read it: to the minute, in UTC.
fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Values that take a template through each of its ways.
pub(super) fn samples(kind: MessageKind) -> [Values<'static>; 3] {
    [30, 60 * 60, 24 * 60 * 60].map(|seconds| Values {
        tenant: "Tenant",
        username: "user@example.com",
        time: Timestamp::UNIX_EPOCH,
        code: kind.has_code().then_some(CodeValues {
            link: "https://example.com/",
            code: "AAAAAAAA",
            seconds,
            ends_at: Timestamp::UNIX_EPOCH,
        }),
    })
}
