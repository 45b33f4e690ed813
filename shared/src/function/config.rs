//! Configuration from the environment, the system's clock and randomness, and the clients built from them.

use std::{env, num::NonZero, sync::Arc};

use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::Error;
use crate::{
    audit::{Audit, Stdout},
    aws,
    domain::Failure,
    password::Argon2id,
    port::{Clock, Entropy},
    secrets::{DEFAULT_PREFIX, SecretsManager},
    store::DynamoStore,
    usecase::Service,
};

/// Configuration of a function, read from environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `DOORWARD_TABLE`: name of the DynamoDB table.
    pub table: String,
    /// `DOORWARD_SECRET_PREFIX`: prefix of the names of tenants' secrets.
    pub secret_prefix: String,
    /// `DOORWARD_PUBLIC_URL`: the address where people reach the routes, without a path.
    pub public_url: Option<String>,
    /// `DOORWARD_MAIL_FROM`: sender of mails for tenants that set no sender.
    pub mail_from: Option<String>,
    /// `DOORWARD_PATHS`: `encoded` if the gateway delivers percent-encoded paths. An HTTP API decodes them.
    pub paths: PathEncoding,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE` in MiB. It bounds the number of concurrent hashes.
    pub memory_mib: usize,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// - `DOORWARD_TABLE` is missing.
    /// - `DOORWARD_PATHS` is neither `decoded` nor `encoded`.
    /// - `DOORWARD_HOME_REGION` names another Region than the one the function runs in. Two Regions that
    ///   write one global table overwrite each other's conditional writes (docs/regions.md).
    pub fn from_env() -> Result<Self, Error> {
        check_home_region(set("DOORWARD_HOME_REGION").as_deref(), set("AWS_REGION").as_deref())?;
        Ok(Self {
            table: set("DOORWARD_TABLE").ok_or("set DOORWARD_TABLE to the name of the DynamoDB table")?,
            secret_prefix: set("DOORWARD_SECRET_PREFIX").unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
            public_url: set("DOORWARD_PUBLIC_URL"),
            mail_from: set("DOORWARD_MAIL_FROM"),
            paths: paths(set("DOORWARD_PATHS").as_deref())?,
            memory_mib: set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
                .and_then(|size| size.parse().ok())
                .unwrap_or(128),
        })
    }

    /// `DOORWARD_PUBLIC_URL`.
    ///
    /// # Errors
    /// The variable is missing.
    pub(super) fn required_public_url(&self) -> Result<&str, Error> {
        let problem = "set DOORWARD_PUBLIC_URL to the address where people reach the routes";
        self.public_url.as_deref().ok_or_else(|| problem.into())
    }
}

/// Value of an environment variable; an empty one counts as missing.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// # Errors
/// The value is not the name of an encoding.
fn paths(value: Option<&str>) -> Result<PathEncoding, Error> {
    match value {
        None | Some("decoded") => Ok(PathEncoding::Decoded),
        Some("encoded") => Ok(PathEncoding::Encoded),
        Some(_) => Err("set DOORWARD_PATHS to decoded or encoded".into()),
    }
}

/// # Errors
/// The table has a home Region, and the function runs in another one.
fn check_home_region(home: Option<&str>, current: Option<&str>) -> Result<(), Error> {
    match home {
        Some(home) if current != Some(home) => {
            let current = current.unwrap_or("unknown");
            Err(format!(
                "the home Region of this table is {home}, but this function runs in Region {current}; \
                 deploy the functions only in the home Region, or move it as docs/regions.md describes"
            )
            .into())
        }
        _ => Ok(()),
    }
}

/// Encoding of `rawPath` in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEncoding {
    /// Decoded once, as an HTTP API delivers it. Decoding again would turn one ID into another.
    Decoded,
    /// Percent-encoded, as cargo-lambda delivers it.
    Encoded,
}

impl PathEncoding {
    /// The path as an HTTP API delivers it: an encoded `/` separates segments, and a `?` ends the path.
    pub(super) fn decoded(self, path: &str) -> String {
        match self {
            Self::Decoded => path.to_owned(),
            Self::Encoded => {
                let path = percent_decode_str(path).decode_utf8_lossy();
                path.split('?').next().unwrap_or_default().to_owned()
            }
        }
    }
}

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The operating system's random generator (docs/design/security.md#rule-12).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the source of all random values that a result depends on")]
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
        getrandom::fill(bytes).map_err(|error| Failure::Internal(error.to_string().into()))
    }
}

/// Builds the AWS clients and the [`Service`] that every use case runs on.
pub(super) async fn service(config: Config) -> Service {
    let sdk = aws::sdk_config().await;
    let store = DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), config.table);
    let secrets = SecretsManager::new(aws_sdk_secretsmanager::Client::new(&sdk), config.secret_prefix);
    let entropy = Arc::new(SystemEntropy);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let passwords = Argon2id::new(entropy.clone(), config.memory_mib, cores);
    Service::new(Arc::new(store), Arc::new(secrets), Arc::new(passwords), Arc::new(SystemClock), entropy)
}

/// The audit log of this process, written to standard output.
///
/// # Errors
/// The system's random generator fails.
pub(super) fn audit_to_stdout() -> Result<Arc<Audit>, Error> {
    Ok(Arc::new(Audit::new(Arc::new(Stdout), &SystemClock, &SystemEntropy)?))
}

#[cfg(test)]
mod tests {
    use super::check_home_region;

    #[test]
    fn function_starts_only_in_the_home_region() {
        assert!(check_home_region(None, Some("eu-central-1")).is_ok());
        assert!(check_home_region(Some("eu-central-1"), Some("eu-central-1")).is_ok());
        for current in [Some("eu-west-1"), Some("eu-central-1a"), None] {
            let error = check_home_region(Some("eu-central-1"), current).unwrap_err().to_string();
            assert!(error.contains("home Region of this table is eu-central-1"), "{error}");
        }
    }
}
