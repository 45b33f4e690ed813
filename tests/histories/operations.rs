//! Operations of a history, and the results that their callers got.

use std::{collections::BTreeMap, fmt};

use e2e::Answer;

/// A call, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// A login of the user, with an idempotency key if one is given.
    LogIn { password: usize, key: Option<usize> },
    /// A refresh with the token of a generation.
    Refresh { session: String, presented: u64 },
    /// A session ends itself.
    LogOut { session: String },
    /// A change of the user's own password.
    Change { by: String, from: usize, to: usize },
    /// The end of all sessions of the user, with or without that of the caller.
    End { by: String, keeps_own: bool },
    /// A request with the session's access token, to a function or to the authorizer.
    Use { session: String, is_authorizer: bool },
    /// A request of the tenant for a code by mail.
    RequestCode,
    /// A new password by a code.
    SetByCode { issued_by: usize, to: usize },
    /// A new password by the administrator.
    SetByAdmin { to: usize },
    /// A login reset by the administrator, with an idempotency key if one is given.
    Reset { key: Option<usize> },
    /// The operator disables or enables the user.
    SetDisabled(bool),
    /// The operator suspends or resumes the tenant.
    SetSuspended(bool),
    /// Time passes: more than cached tenants live, or also more than the grace period of refresh tokens.
    Wait { past_grace: bool },
    /// A login of the administrator.
    AdminLogIn,
    /// A read of the table, while no operation runs.
    Observe,
}

/// Result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Tokens of a session.
    Granted {
        session: String,
        generation: u64,
    },
    Refused(Refusal),
    /// The caller got no answer, or a 503. If the operation has ended, it has no effect after its end.
    Unknown {
        ended: bool,
    },
    Observed(Observation),
    /// An answer that no operation may have.
    Unexpected(String),
}

/// Reason of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongPassword,
    ResetRequired,
    Ended,
    Reused,
    Suspended,
    Limit,
    Expired,
    Mismatch,
    InvalidCode,
    Busy,
}

/// Stored state of the user and its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    /// `None` if the stored hash is of no password of the history.
    pub(super) password: Option<usize>,
    pub(super) is_disabled: bool,
    pub(super) is_reset: bool,
    pub(super) is_suspended: bool,
    pub(super) has_code: bool,
    /// Generation of each live session.
    pub(super) live: BTreeMap<String, u64>,
}

/// A call with its result and the order of both.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) number: usize,
    /// Number of the caller.
    pub(super) person: usize,
    pub(super) deed: Deed,
    pub(super) outcome: Outcome,
    pub(super) called: usize,
    pub(super) returned: usize,
    /// Number of operations at the same time that may have ended sessions; only for logins.
    pub(super) overlapping_ends: usize,
    /// Whether a login with the same idempotency key ran at the same time.
    pub(super) overlaps_same_key: bool,
}

impl Operation {
    pub(super) fn new(number: usize, person: usize, deed: Deed, called: usize) -> Self {
        Self {
            number,
            person,
            deed,
            outcome: Outcome::Unknown { ended: false },
            called,
            returned: usize::MAX,
            overlapping_ends: 0,
            overlaps_same_key: false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, person, deed, outcome, called, returned, .. } = self;
        write!(f, "#{number} by {person}, at {called} to ")?;
        match returned {
            &usize::MAX => write!(f, "the end")?,
            at => write!(f, "{at}")?,
        }
        write!(f, ": {deed:?} -> {outcome:?}")
    }
}

impl Refusal {
    /// Reads the rejection of a response; the outcome if it is not one.
    fn of(answer: &Answer) -> Result<Self, Outcome> {
        Ok(match answer.verdict() {
            (401, "AUTHENTICATION") => Self::WrongPassword,
            (401, "CREDENTIALS_RESET_REQUIRED") => Self::ResetRequired,
            (401, "INVALID_TOKEN" | "SESSION_TERMINATED") => Self::Ended,
            (401, "REFRESH_TOKEN_REUSED") => Self::Reused,
            (403, "TENANT_SUSPENDED") => Self::Suspended,
            (409, "SESSION_LIMIT") => Self::Limit,
            (409, "IDEMPOTENCY_EXPIRED") => Self::Expired,
            (422, "IDEMPOTENCY_MISMATCH") => Self::Mismatch,
            (429, _) => Self::Busy,
            (503, _) => return Err(Outcome::Unknown { ended: false }),
            // The ZITADEL dialect.
            (403, "") if answer.body["code"] == 7 => Self::Suspended,
            (400, "") if answer.body["code"] == 3 && is_about_code(answer) => Self::InvalidCode,
            _ => return Err(Outcome::Unexpected(format!("{} {}", answer.status, answer.text))),
        })
    }
}

impl Outcome {
    /// Reads a response that is no success with tokens. `None` is an answer that never came.
    pub(super) fn of(answer: Option<&Answer>) -> Self {
        match answer {
            Some(answer) if answer.status == 200 => Self::Done,
            Some(answer) => Refusal::of(answer).map_or_else(|outcome| outcome, Self::Refused),
            None => Self::Unknown { ended: false },
        }
    }
}

fn is_about_code(answer: &Answer) -> bool {
    answer.body["message"].as_str().is_some_and(|message| message.starts_with("The code is wrong"))
}
