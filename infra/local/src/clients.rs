//! SDK clients for the embedded services: plain HTTP and static credentials.
//!
//! The clients read neither the environment nor `~/.aws`, so that they cannot reach a developer's
//! real account by accident.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_types::SdkConfig;

use crate::REGION;

/// Access key ID and also secret access key. The SDK needs credentials to sign requests. The embedded
/// services ignore them.
pub(crate) const DUMMY_CREDENTIAL: &str = "local";

#[must_use]
pub fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&config(endpoint))
}

/// Client of the table's stream. The endpoint is the same as the table's.
#[must_use]
pub fn dynamodb_streams(endpoint: &str) -> aws_sdk_dynamodbstreams::Client {
    aws_sdk_dynamodbstreams::Client::new(&config(endpoint))
}

#[must_use]
pub fn secrets_manager(endpoint: &str) -> aws_sdk_secretsmanager::Client {
    aws_sdk_secretsmanager::Client::new(&config(endpoint))
}

#[must_use]
pub fn ses(endpoint: &str) -> aws_sdk_sesv2::Client {
    aws_sdk_sesv2::Client::new(&config(endpoint))
}

#[must_use]
pub fn sns(endpoint: &str) -> aws_sdk_sns::Client {
    aws_sdk_sns::Client::new(&config(endpoint))
}

#[must_use]
pub fn eventbridge(endpoint: &str) -> aws_sdk_eventbridge::Client {
    aws_sdk_eventbridge::Client::new(&config(endpoint))
}

fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new(DUMMY_CREDENTIAL, DUMMY_CREDENTIAL, None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}
