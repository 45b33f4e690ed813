//! Where and as whom, and what time it is.

use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
};
use doorward::{port::Clock, runtime::SystemClock};
use jiff::{SignedDuration, fmt::rfc2822};

use super::{
    Patient,
    report::{Report, Trouble},
};
use crate::place::Site;

/// From here on a clock is worth a look.
const SKEW_TO_WARN: SignedDuration = SignedDuration::from_mins(2);
/// Beyond this AWS refuses what was signed by it
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).
const SKEW_TO_FAIL: SignedDuration = SignedDuration::from_mins(5);

/// Reads how far this machine's clock is from AWS's, off the answers.
#[derive(Debug, Clone, Default)]
pub(super) struct ClockProbe(Arc<Mutex<Option<SignedDuration>>>);

impl ClockProbe {
    /// How far this machine is ahead.
    fn skew(&self) -> Option<SignedDuration> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for ClockProbe {
    fn name(&self) -> &'static str {
        "clock probe"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let told = context.response().headers().get("date").and_then(|date| rfc2822::parse(date).ok());
        if let Some(told) = told {
            let skew = SystemClock.now().duration_since(told.timestamp());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
        Ok(())
    }
}

/// Whether there is a Region to look at.
pub(super) fn region(site: &Site, report: &mut Report) -> bool {
    match site.dynamodb.region() {
        Some(region) if site.is_local => {
            report.not_checked("region", format!("the local stack pretends to be {region}"));
        }
        Some(region) => report.ok("region", region.to_string()),
        None => report.fault(
            "region",
            "no Region is set",
            "a table is in one Region, and no other knows it",
            "export AWS_REGION=eu-central-1, or whichever it was deployed to",
        ),
    }
    site.dynamodb.region().is_some()
}

/// Whether there are credentials to look with.
pub(super) async fn credentials(site: &Site, report: &mut Report) -> bool {
    if site.is_local {
        report.not_checked("credentials", "the local stack takes any");
        return true;
    }
    let found = match site.dynamodb.credentials_provider() {
        Some(provider) => provider.provide_credentials().await.map_err(|error| error.to_string()),
        None => Err("no provider is configured".to_owned()),
    };
    match &found {
        Ok(_) => report.ok("credentials", "found"),
        Err(told) => report.fault(
            "credentials",
            told,
            "nothing can be asked without",
            "log in (`aws sso login`, `export AWS_PROFILE=…`), and look what is used: `aws configure list`",
        ),
    }
    found.is_ok()
}

/// Whether AWS knows who this is.
pub(super) async fn identity(patient: &Patient, report: &mut Report) -> bool {
    if patient.site.is_local {
        report.not_checked("identity", "the local stack knows nobody");
        return true;
    }
    let client = aws_sdk_sts::Client::new(&patient.site.dynamodb);
    match client.get_caller_identity().send().await {
        Ok(known) => {
            let who = known.arn.unwrap_or_default();
            if who.ends_with(":root") {
                report.warning(
                    "identity",
                    format!("{who} is the account's root user"),
                    "nothing limits it, and nothing takes back what it does",
                    "use a role that may do what docs/configuration.md lists",
                );
            } else {
                report.ok("identity", who);
            }
            true
        }
        Err(error) => match Trouble::of("STS", &error) {
            // Nobody needs a permission for it, and nothing here needs its answer.
            Trouble::Denied | Trouble::Missing => {
                report.not_checked("identity", "sts:GetCallerIdentity is denied");
                true
            }
            trouble @ Trouble::Credentials(_) => {
                report.trouble("identity", "sts:GetCallerIdentity", "*", trouble);
                false
            }
            Trouble::Other(told) => {
                report.not_checked("identity", told);
                true
            }
        },
    }
}

/// Whether this machine's time is AWS's.
pub(super) fn clock(patient: &Patient, report: &mut Report) {
    let why = "AWS refuses what is signed at another time, and what is created with a clock behind begins with \
               an older count of sessions: those of an earlier user of the same id might come back";
    let fix = "set this machine's clock: `timedatectl set-ntp true`";
    let Some(skew) = patient.clock.skew() else {
        return report.not_checked("clock", "no answer told the time");
    };
    let told = match skew.as_secs() {
        0 => "as AWS's".to_owned(),
        seconds @ 1.. => format!("{seconds} s ahead of AWS's"),
        seconds => format!("{} s behind AWS's", seconds.unsigned_abs()),
    };
    match skew.abs() {
        skew if skew > SKEW_TO_FAIL => report.fault("clock", told, why, fix),
        skew if skew > SKEW_TO_WARN => report.warning("clock", told, why, fix),
        _ => report.ok("clock", told),
    }
}
