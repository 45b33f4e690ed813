//! What was looked at, and what was found.

use std::fmt::Write as _;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use doorward::aws::describe;
use serde_json::{Value, json};

use crate::output::table;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Fault,
    NotChecked,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
            Self::NotChecked => "not checked",
        }
    }

    /// Its stable name for programs.
    fn code(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Fault => "FAULT",
            Self::NotChecked => "NOT_CHECKED",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
    advice: Option<Advice>,
}

/// What follows from a finding.
#[derive(Debug)]
pub(super) struct Advice {
    /// What it costs to leave it so.
    pub(super) why: &'static str,
    /// What to do, a command where there is one.
    pub(super) fix: String,
}

/// Why a call of AWS told nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// These credentials may not.
    Denied,
    /// There is no such thing.
    Missing,
    /// These credentials are none.
    Credentials(String),
    /// Anything else.
    Other(String),
}

impl Trouble {
    pub(super) fn of<E, R>(service: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
        match code {
            Some("AccessDeniedException" | "AccessDenied") => Self::Denied,
            Some("ResourceNotFoundException") => Self::Missing,
            // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_signing-troubleshooting.html
            Some(
                "ExpiredToken"
                | "ExpiredTokenException"
                | "IncompleteSignature"
                | "IncompleteSignatureException"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "MissingAuthenticationTokenException"
                | "SignatureDoesNotMatch"
                | "UnrecognizedClientException",
            ) => Self::Credentials(describe(service, error)),
            _ => Self::Other(describe(service, error)),
        }
    }
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Check>);

impl Report {
    pub(super) fn ok(&mut self, name: &'static str, message: impl Into<String>) {
        self.0.push(Check { name, state: State::Ok, message: message.into(), advice: None });
    }

    pub(super) fn not_checked(&mut self, name: &'static str, message: impl Into<String>) {
        self.0.push(Check { name, state: State::NotChecked, message: message.into(), advice: None });
    }

    pub(super) fn warning(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) {
        let advice = Some(Advice { why, fix: fix.into() });
        self.0.push(Check { name, state: State::Warning, message: message.into(), advice });
    }

    pub(super) fn fault(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) {
        let advice = Some(Advice { why, fix: fix.into() });
        self.0.push(Check { name, state: State::Fault, message: message.into(), advice });
    }

    /// A call that told nothing about `name`.
    pub(super) fn trouble(&mut self, name: &'static str, action: &str, resource: &str, trouble: Trouble) {
        match trouble {
            Trouble::Denied => {
                self.not_checked(name, format!("{action} is not allowed"));
                self.denied(action, resource);
            }
            Trouble::Credentials(told) => self.fault(
                "credentials",
                told,
                "nothing can be done with them",
                "log in again (`aws sso login`), or look which profile is used: `aws configure list`",
            ),
            Trouble::Missing => self.fault(
                name,
                format!("{resource} is not there"),
                "it is a part of every deployment",
                "deploy again",
            ),
            Trouble::Other(told) => self.fault(
                name,
                told,
                "as it is, nobody can tell whether it is as it should be",
                "look at the network and at the service's health, then ask again",
            ),
        }
    }

    /// A call that these credentials may not make.
    pub(super) fn denied(&mut self, action: &str, resource: &str) {
        self.fault(
            "permissions",
            format!("{action} is not allowed on {resource}"),
            "commands that need it fail half-way",
            format!("allow it to who runs this: \"Action\": \"{action}\", \"Resource\": \"{resource}\""),
        );
    }

    pub(super) fn faults(&self) -> usize {
        self.count(State::Fault)
    }

    fn count(&self, state: State) -> usize {
        self.0.iter().filter(|check| check.state == state).count()
    }

    pub(super) fn as_json(&self) -> Value {
        let checks = self.0.iter().map(|Check { name, state, message, advice }| {
            json!({
                "check": name,
                "state": state.code(),
                "message": message,
                "why": advice.as_ref().map(|advice| advice.why),
                "fix": advice.as_ref().map(|advice| &advice.fix),
            })
        });
        json!({
            "healthy": self.faults() == 0,
            "faults": self.faults(),
            "warnings": self.count(State::Warning),
            "notChecked": self.count(State::NotChecked),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    pub(super) fn as_text(&self) -> String {
        let rows = self
            .0
            .iter()
            .map(|check| vec![check.name.to_owned(), check.state.name().to_owned(), check.message.clone()]);
        let mut text = table(&["CHECK", "STATE", "FOUND"], rows);
        for Check { name, state, message, advice } in &self.0 {
            if let Some(Advice { why, fix }) = advice {
                let _ = write!(
                    text,
                    "\n\n{} {name}: {message}\n  why it matters: {why}\n  what to do: {fix}",
                    state.name()
                );
            }
        }
        let verdict = match (self.faults(), self.count(State::Warning)) {
            (0, 0) => "Nothing is wrong.".to_owned(),
            (faults, warnings) => format!("faults: {faults}, warnings: {warnings}"),
        };
        format!("{text}\n\n{verdict}")
    }
}
