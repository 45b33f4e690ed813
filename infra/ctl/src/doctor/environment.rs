//! Checks the Region, the credentials, the identity and the clock.

use aws_credential_types::provider::ProvideCredentials;
use jiff::SignedDuration;

use super::{
    Deployment,
    findings::{CallFailure, Findings},
};
use crate::target::TargetConfig;

/// Clock difference that causes a warning.
const SKEW_TO_WARN: SignedDuration = SignedDuration::from_mins(2);
/// Clock difference that causes a fault, because AWS rejects signatures beyond it
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).
const SKEW_TO_FAIL: SignedDuration = SignedDuration::from_mins(5);

/// Checks that a Region is set.
pub(super) fn region(config: &TargetConfig, findings: &mut Findings) -> bool {
    match config.dynamodb.region() {
        Some(region) if config.is_local => {
            findings.not_checked("region", format!("the local stack uses the placeholder Region {region}"));
        }
        Some(region) => findings.ok("region", region.to_string()),
        None => findings.fault(
            "region",
            "no Region is set",
            "without the Region, doorwardctl cannot find the table",
            "set the Region of the deployment, for example: export AWS_REGION=eu-central-1",
        ),
    }
    config.dynamodb.region().is_some()
}

/// Checks that credentials are configured.
pub(super) async fn credentials(config: &TargetConfig, findings: &mut Findings) -> bool {
    if config.is_local {
        findings.not_checked("credentials", "the local stack accepts all credentials");
        return true;
    }
    let found = match config.dynamodb.credentials_provider() {
        Some(provider) => provider.provide_credentials().await.map_err(|error| error.to_string()),
        None => Err("no provider is configured".to_owned()),
    };
    match &found {
        Ok(_) => findings.ok("credentials", "found"),
        Err(message) => findings.fault(
            "credentials",
            message,
            "every AWS call needs credentials",
            "log in (`aws sso login`) or set AWS_PROFILE; `aws configure list` shows what is in use",
        ),
    }
    found.is_ok()
}

/// Checks that AWS accepts the credentials, and warns about the root user.
pub(super) async fn identity(deployment: &Deployment, findings: &mut Findings) -> bool {
    if deployment.config.is_local {
        findings.not_checked("identity", "the local stack has no identities");
        return true;
    }
    let client = aws_sdk_sts::Client::new(&deployment.config.dynamodb);
    match client.get_caller_identity().send().await {
        Ok(known) => {
            let who = known.arn.unwrap_or_default();
            if who.ends_with(":root") {
                findings.warning(
                    "identity",
                    format!("{who} is the account's root user"),
                    "no IAM policy limits the root user",
                    "use a role with the permissions listed in docs/configuration.md",
                );
            } else {
                findings.ok("identity", who);
            }
            true
        }
        Err(error) => match CallFailure::of("STS", &error) {
            // The call needs no permission by default, and no other check needs its result.
            CallFailure::Denied | CallFailure::Missing => {
                findings.not_checked("identity", "sts:GetCallerIdentity is denied");
                true
            }
            trouble @ CallFailure::Credentials(_) => {
                findings.call_failed("identity", "sts:GetCallerIdentity", "*", trouble);
                false
            }
            CallFailure::Other(message) => {
                findings.not_checked("identity", message);
                true
            }
        },
    }
}

/// Compares this machine's clock with the clock of AWS.
pub(super) fn clock(deployment: &Deployment, findings: &mut Findings) {
    let why = "AWS rejects requests signed with a wrong time. A user or tenant created with a slow clock \
               gets an older session epoch, so that sessions of a deleted one with the same ID could become \
               valid again";
    let fix = "synchronize this machine's clock: `timedatectl set-ntp true`";
    let Some(skew) = deployment.clock.skew() else {
        return findings.not_checked("clock", "no response had a date header");
    };
    let message = match skew.as_secs() {
        0 => "same as AWS".to_owned(),
        seconds @ 1.. => format!("{seconds} s ahead of AWS"),
        seconds => format!("{} s behind AWS", seconds.unsigned_abs()),
    };
    match skew.abs() {
        skew if skew > SKEW_TO_FAIL => findings.fault("clock", message, why, fix),
        skew if skew > SKEW_TO_WARN => findings.warning("clock", message, why, fix),
        _ => findings.ok("clock", message),
    }
}
