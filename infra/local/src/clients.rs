//! SDK clients for the embedded services: plain HTTP, static credentials, nothing ambient.
//!
//! Nothing is read from the environment or from `~/.aws`, so a developer's real account can never
//! be reached by accident.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};

use crate::REGION;

/// The embedded services take any credentials, but the SDK signs with something.
pub(crate) const DUMMY_CREDENTIAL: &str = "local";

#[must_use]
pub fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(endpoint)
            .credentials_provider(credentials())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

#[must_use]
pub fn secrets_manager(endpoint: &str) -> aws_sdk_secretsmanager::Client {
    aws_sdk_secretsmanager::Client::from_conf(
        aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(endpoint)
            .credentials_provider(credentials())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

fn credentials() -> Credentials {
    Credentials::new(DUMMY_CREDENTIAL, DUMMY_CREDENTIAL, None, None, "local")
}
