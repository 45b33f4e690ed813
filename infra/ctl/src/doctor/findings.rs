//! The list of checks and their results.

use std::fmt::Write as _;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use doorward::aws::describe;
use serde_json::{Value, json};

use crate::output::table;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckState {
    Ok,
    Warning,
    Fault,
    NotChecked,
}

impl CheckState {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
            Self::NotChecked => "not checked",
        }
    }

    /// Returns the stable name for JSON output.
    fn code(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Fault => "FAULT",
            Self::NotChecked => "NOT_CHECKED",
        }
    }
}

/// One check with its result.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: CheckState,
    message: String,
    advice: Option<Advice>,
}

/// Consequence and fix of a warning or fault.
#[derive(Debug)]
pub(super) struct Advice {
    /// Consequence of the fault.
    pub(super) why: &'static str,
    /// Fix, with a command if there is one.
    pub(super) fix: String,
}

/// Reason why an AWS call failed.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The credentials do not permit the call.
    Denied,
    /// The resource does not exist.
    Missing,
    /// AWS does not accept the credentials.
    Credentials(String),
    /// Any other error.
    Other(String),
}

impl CallFailure {
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

/// All checks in the order in which they ran.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Check>);

impl Findings {
    pub(super) fn ok(&mut self, name: &'static str, message: impl Into<String>) {
        self.0.push(Check { name, state: CheckState::Ok, message: message.into(), advice: None });
    }

    pub(super) fn not_checked(&mut self, name: &'static str, message: impl Into<String>) {
        self.0.push(Check { name, state: CheckState::NotChecked, message: message.into(), advice: None });
    }

    pub(super) fn warning(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) {
        let advice = Some(Advice { why, fix: fix.into() });
        self.0.push(Check { name, state: CheckState::Warning, message: message.into(), advice });
    }

    pub(super) fn fault(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) {
        let advice = Some(Advice { why, fix: fix.into() });
        self.0.push(Check { name, state: CheckState::Fault, message: message.into(), advice });
    }

    /// Records a failed call of the check `name`.
    pub(super) fn call_failed(
        &mut self,
        name: &'static str,
        action: &str,
        resource: &str,
        trouble: CallFailure,
    ) {
        match trouble {
            CallFailure::Denied => {
                self.not_checked(name, format!("{action} is not allowed"));
                self.denied(action, resource);
            }
            CallFailure::Credentials(message) => self.fault(
                "credentials",
                message,
                "AWS rejects every call with these credentials",
                "log in again (`aws sso login`); `aws configure list` shows the profile in use",
            ),
            CallFailure::Missing => self.fault(
                name,
                format!("{resource} does not exist"),
                "every deployment needs it",
                "deploy the stack again",
            ),
            CallFailure::Other(message) => self.fault(
                name,
                message,
                "the check could not run",
                "check the network and the AWS Health Dashboard, then run `doorwardctl doctor` again",
            ),
        }
    }

    /// Records an action that the credentials do not permit.
    pub(super) fn denied(&mut self, action: &str, resource: &str) {
        self.fault(
            "permissions",
            format!("{action} is not allowed on {resource}"),
            "commands that need this action fail, possibly after a part of their work",
            format!(
                "allow the action in the operator's IAM policy: \"Action\": \"{action}\", \
                 \"Resource\": \"{resource}\""
            ),
        );
    }

    pub(super) fn faults(&self) -> usize {
        self.count(CheckState::Fault)
    }

    fn count(&self, state: CheckState) -> usize {
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
            "warnings": self.count(CheckState::Warning),
            "notChecked": self.count(CheckState::NotChecked),
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
                    "\n\n{} {name}: {message}\n  why it matters: {why}\n  fix: {fix}",
                    state.name()
                );
            }
        }
        let verdict = match (self.faults(), self.count(CheckState::Warning)) {
            (0, 0) => "No faults or warnings.".to_owned(),
            (faults, warnings) => format!("faults: {faults}, warnings: {warnings}"),
        };
        format!("{text}\n\n{verdict}")
    }
}
