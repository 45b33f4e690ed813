//! Configuration of the AWS SDK, and conversion of SDK errors to log messages without sensitive content.

use std::{error::Error, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{client::http::SharedHttpClient, http::Response as HttpResponse};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{domain::Failure, port::CourierError};

/// Connect timeout. It is short so that an unreachable endpoint leaves time for a retry.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Timeout of one attempt. DynamoDB usually responds within a few milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Timeout of all attempts together. It is below the timeout of every function.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(5_000);
/// Maximum number of attempts. The SDK waits between them with jitter.
const ATTEMPTS: u32 = 3;
/// HTTP status of a throttled call.
const TOO_MANY_REQUESTS: u16 = 429;
/// Idle time after which a connection is closed. After a frozen function resumes, its old connections may be
/// dead.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// Loads the SDK configuration.
///
/// In Lambda, region and credentials are read directly from the environment, because the SDK's provider chain
/// would only increase the start-up time. Elsewhere, the SDK's provider chain is used.
pub async fn sdk_config() -> SdkConfig {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let http = http_client();
    let in_lambda = env("AWS_LAMBDA_FUNCTION_NAME").is_some();
    let direct = (in_lambda, env("AWS_REGION"), env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"));
    if let (true, Some(region), Some(key), Some(secret)) = direct {
        let credentials = Credentials::new(key, secret, env("AWS_SESSION_TOKEN"), None, "lambda environment");
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http)
            .retry_config(retries())
            .timeout_config(timeouts())
            .service_config(ServiceEndpoints);
        config.set_endpoint_url(env("AWS_ENDPOINT_URL"));
        return config.build();
    }
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(retries())
        .timeout_config(timeouts())
        .load()
        .await
}

/// Creates the HTTP client for AWS or a local replacement of it.
pub fn http_client() -> SharedHttpClient {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    https_client(is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR"))
}

/// Reads `AWS_ENDPOINT_URL_{SERVICE}` as the SDK's provider chain does.
#[derive(Debug)]
struct ServiceEndpoints;

impl LoadServiceConfig for ServiceEndpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        std::env::var(format!("{}_{service}", key.env())).ok().filter(|value| !value.is_empty())
    }
}

/// Retries of the SDK.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(25))
}

/// Timeouts of the SDK.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// Creates an HTTPS client with aws-lc, which also signs tokens, so that only one crypto library is linked. The
/// root certificates of AWS's endpoints are compiled in unless the environment names others. Loading the system's
/// root certificates, or all public ones, would take most of a cold start (docs/performance.md).
fn https_client(system_roots: bool) -> SharedHttpClient {
    let builder =
        Builder::new().pool_idle_timeout(POOL_IDLE).tls_provider(Provider::rustls(CryptoMode::AwsLc));
    let roots = if system_roots { TrustStore::default() } else { amazon_roots() };
    match TlsContext::builder().with_trust_store(roots).build() {
        Ok(context) => builder.tls_context(context).build_https(),
        Err(error) => {
            tracing::error!(%error, "tls.compiled_roots_unusable");
            builder.build_https()
        }
    }
}

/// Subjects of the root certificates of Amazon Trust Services, which all AWS partitions use
/// (<https://www.amazontrust.com/repository/>).
const AMAZON_ROOTS: [&[u8]; 2] = [b"Amazon Root CA", b"Starfield Services Root"];

fn amazon_roots() -> TrustStore {
    let mut pem = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter(|root| is_amazons(root)) {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(root.as_ref(), &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    TrustStore::empty().with_pem_certificate(pem)
}

fn is_amazons(root: &[u8]) -> bool {
    /// Maximum number of bytes up to the end of issuer and subject, which are identical in a root certificate.
    const NAMES_WITHIN: usize = 400;
    let head = root.get(..NAMES_WITHIN).unwrap_or(root);
    AMAZON_ROOTS.iter().any(|name| head.windows(name.len()).any(|part| part == *name))
}

/// Converts an SDK error to a failure that contains only the text of [`describe`].
pub(crate) fn unavailable<E, R>(service: &str, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    Failure::Unavailable(describe(service, error).into())
}

/// Error codes with which SES, SNS and EventBridge limit the rate of calls. SES reports its sending rate and its daily
/// quota with these codes too (Amazon SES, "Errors related to the sending quotas").
const THROTTLED: [&str; 7] = [
    "LimitExceededException",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
];

/// Converts an SDK error of a delivery service to a courier error. Keeps only the error code, because the messages
/// of these services may contain an address. The `permanent` codes become [`CourierError::Refused`]. The status 429
/// and the codes of [`THROTTLED`] become [`CourierError::Throttled`].
pub(crate) fn undelivered<E>(
    service: &str,
    error: &SdkError<E, HttpResponse>,
    permanent: &[&str],
) -> CourierError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(context) = error else {
        return CourierError::Failed(unavailable(service, error));
    };
    if context.raw().status().as_u16() == TOO_MANY_REQUESTS {
        return CourierError::Throttled(format!("{service} returned {TOO_MANY_REQUESTS}"));
    }
    rejected(service, context.err().code(), permanent)
}

/// Converts the error code of one entry of a response to a courier error.
pub(crate) fn rejected(service: &str, code: Option<&str>, permanent: &[&str]) -> CourierError {
    let code = code.unwrap_or("unknown");
    let reason = format!("{service} returned {code}");
    if permanent.contains(&code) {
        CourierError::Refused(reason)
    } else if THROTTLED.contains(&code) {
        CourierError::Throttled(reason)
    } else {
        CourierError::Failed(Failure::Unavailable(reason.into()))
    }
}

/// Describes an SDK error for logs and operators, without the item or secret that some errors contain.
pub fn describe<E, R>(service: &str, error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    match error {
        SdkError::ServiceError(context) => {
            let error = context.err();
            let (code, message) = (error.code().unwrap_or("unknown"), error.message().unwrap_or_default());
            format!("{service} returned {code}: {message}")
        }
        SdkError::TimeoutError(_) => format!("{service} did not respond in time"),
        SdkError::DispatchFailure(failure) => {
            let mut text = format!("{service} could not be reached");
            let mut source = failure.as_connector_error().and_then(Error::source);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
        SdkError::ConstructionFailure(_) => format!("a request to {service} could not be built"),
        _ => format!("{service} returned an invalid response"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_neither_a_failure_nor_permanent() {
        for code in ["TooManyRequestsException", "ThrottlingException", "Throttled", "LimitExceededException"]
        {
            assert!(matches!(rejected("SES", Some(code), &["MessageRejected"]), CourierError::Throttled(_)));
        }
        assert!(matches!(
            rejected("SES", Some("MessageRejected"), &["MessageRejected"]),
            CourierError::Refused(_)
        ));
        for code in [Some("SendingPausedException"), None] {
            assert!(matches!(rejected("SES", code, &["MessageRejected"]), CourierError::Failed(_)));
        }
    }

    #[test]
    fn amazon_root_certificates_are_compiled_in() {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert_eq!(roots.iter().filter(|root| is_amazons(root)).count(), 5);
        assert!(TlsContext::builder().with_trust_store(amazon_roots()).build().is_ok());
    }
}
