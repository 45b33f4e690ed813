//! Environment variables of child processes.

use std::collections::BTreeMap;

use tokio::process::Command;

use crate::{REGION, SECRET_PREFIX, TABLE, clients::DUMMY_CREDENTIAL};

/// Sender of the demo tenants' mails. The demo tenants configure no sender.
const MAIL_FROM: &str = "Doorward <no-reply@doorward.example>";

/// Environment variables of a process.
pub type Variables = BTreeMap<&'static str, String>;

/// Addresses of the local services, each `http://127.0.0.1:PORT`.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub dynamodb: String,
    pub secrets_manager: String,
    pub ses: String,
    pub sns: String,
    pub events: String,
    /// Address of the HTTP API.
    pub routes: String,
}

/// Returns the variables by which the functions find the local services. The credentials are dummies
/// on purpose.
#[must_use]
pub fn for_functions(endpoints: &Endpoints) -> Variables {
    let Endpoints { dynamodb, secrets_manager, ses, sns, events, routes } = endpoints;
    [
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.as_str()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager),
        ("AWS_ENDPOINT_URL_SESV2", ses),
        ("AWS_ENDPOINT_URL_SNS", sns),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", events),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", DUMMY_CREDENTIAL),
        ("AWS_SECRET_ACCESS_KEY", DUMMY_CREDENTIAL),
        // Disables other sources of credentials.
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("DOORWARD_TABLE", TABLE),
        ("DOORWARD_SECRET_PREFIX", SECRET_PREFIX),
        ("DOORWARD_PUBLIC_URL", routes),
        ("DOORWARD_MAIL_FROM", MAIL_FROM),
        // cargo-lambda does not decode paths.
        ("DOORWARD_PATHS", "encoded"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// Removes the variables that would connect the functions to a developer's AWS account. Also removes
/// what `cargo run` sets for this package, because it does not apply to child processes.
pub fn isolate(command: &mut Command) {
    let inherited = std::env::vars_os();
    for name in inherited.filter_map(|(name, _)| name.into_string().ok()) {
        if !passes(&name) {
            command.env_remove(name);
        }
    }
}

fn passes(name: &str) -> bool {
    const OF_THIS_PACKAGE: [&str; 7] = [
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
    ];
    if let Some(rest) = name.strip_prefix("AWS_") {
        // Build setting of the crate aws-lc, and the log level and format of the functions.
        return rest.starts_with("LC_") || rest.starts_with("LAMBDA_LOG_");
    }
    // cargo-lambda reads its options from CARGO_LAMBDA_*; only the options set here may apply.
    !(name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_LAMBDA_") || OF_THIS_PACKAGE.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_accounts_and_package_variables_are_removed() {
        for name in [
            "AWS_PROFILE",
            "AWS_SESSION_TOKEN",
            "AWS_ENDPOINT_URL",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "CARGO_PKG_VERSION",
            "CARGO_MANIFEST_DIR",
            "CARGO_LAMBDA_INVOKE_ADDRESS",
        ] {
            assert!(!passes(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "RUSTUP_TOOLCHAIN",
            "DOORWARD_LOG",
            "RUST_LOG",
            "AWS_LC_SYS_NO_JITTER_ENTROPY",
            "AWS_LAMBDA_LOG_LEVEL",
        ] {
            assert!(passes(name), "{name}");
        }
    }

    #[test]
    fn functions_get_the_endpoints_and_dummy_credentials() {
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let env = for_functions(&Endpoints {
            dynamodb: at(1),
            secrets_manager: at(2),
            ses: at(3),
            sns: at(4),
            events: at(5),
            routes: at(6),
        });
        assert_eq!(env["AWS_ENDPOINT_URL_DYNAMODB"], "http://127.0.0.1:1");
        assert_eq!(env["AWS_ENDPOINT_URL_SECRETS_MANAGER"], "http://127.0.0.1:2");
        assert_eq!(env["AWS_ENDPOINT_URL_SESV2"], "http://127.0.0.1:3");
        assert_eq!(env["AWS_ENDPOINT_URL_SNS"], "http://127.0.0.1:4");
        assert_eq!(env["AWS_ENDPOINT_URL_EVENTBRIDGE"], "http://127.0.0.1:5");
        assert_eq!(env["DOORWARD_PUBLIC_URL"], "http://127.0.0.1:6");
        assert_eq!(env["AWS_REGION"], "us-east-1");
        assert_eq!(env["AWS_ACCESS_KEY_ID"], "local");
        assert_eq!(env["DOORWARD_TABLE"], "doorward");
        assert_eq!(env["DOORWARD_SECRET_PREFIX"], "doorward/tenants/");
    }
}
