//! Selects the deployment that a command works on: a table in AWS or the local stack.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Region},
};
use aws_types::SdkConfig;
use clap::Args;
use doorward::{
    aws,
    function::SystemEntropy,
    secrets::{DEFAULT_PREFIX, Rotator, SecretsManager, Tenants},
    store::DynamoStore,
};
use serde::Deserialize;

use crate::{clock::AwsClock, output::UsageError};

/// Options that select the deployment.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Target {
    /// Use the stack that `cargo dev` runs on this machine. Pass the path of its stack.json if that file is
    /// not in target/local
    #[arg(
        long,
        global = true,
        value_name = "STACK_JSON",
        num_args = 0..=1,
        require_equals = true
    )]
    #[expect(clippy::option_option, reason = "an option whose value is optional, as clap spells it")]
    local: Option<Option<PathBuf>>,

    /// Name of the DynamoDB table
    #[arg(long, global = true, value_name = "NAME", env = "DOORWARD_TABLE")]
    table: Option<String>,

    /// Prefix of the names of the tenants' secrets in AWS Secrets Manager
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        env = "DOORWARD_SECRET_PREFIX",
        default_value = DEFAULT_PREFIX
    )]
    secret_prefix: String,
}

/// AWS configurations and names of the selected deployment.
pub(crate) struct TargetConfig {
    /// Configuration of DynamoDB clients.
    pub(crate) dynamodb: SdkConfig,
    /// Configuration of Secrets Manager clients.
    pub(crate) secrets: SdkConfig,
    pub(crate) table: String,
    /// Prefix of the names of the tenants' secrets.
    pub(crate) prefix: String,
    pub(crate) is_local: bool,
}

/// Client and name prefix of the tenants' secrets.
pub(crate) struct TenantSecrets {
    pub(crate) client: aws_sdk_secretsmanager::Client,
    /// Prefix of the secret names.
    pub(crate) prefix: String,
    /// Clock of AWS, after the first response.
    pub(crate) clock: AwsClock,
    /// Store with the tenants' records, which name the versions in use.
    store: Arc<DynamoStore>,
}

impl TenantSecrets {
    /// Returns a rotator, which creates and installs new secret versions.
    pub(crate) fn rotator(&self) -> Rotator {
        let (clock, entropy) = (Arc::new(self.clock.clone()), Arc::new(SystemEntropy));
        let store = Arc::clone(&self.store);
        Rotator::new(self.client.clone(), self.prefix.clone(), store, clock, entropy)
    }

    /// Returns the tenants' keys as the functions load them.
    pub(crate) fn tenants(&self) -> Tenants {
        let secrets = SecretsManager::new(self.client.clone(), self.prefix.clone());
        Tenants::new(Arc::clone(&self.store), Arc::new(secrets))
    }
}

/// Fields of `stack.json`, which a running local stack writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalStack {
    dynamodb_url: String,
    secrets_manager_url: String,
    region: String,
    table: String,
    audit_file: PathBuf,
}

impl Target {
    /// Returns the configuration of the selected deployment.
    ///
    /// # Errors
    /// If no table is selected, or `--local` is given but no local stack runs.
    pub(crate) async fn config(&self) -> Result<TargetConfig> {
        let prefix = self.secret_prefix.clone();
        if let Some(stack) = self.stack()? {
            let dynamodb = local_config(&stack.region, &stack.dynamodb_url);
            let secrets = local_config(&stack.region, &stack.secrets_manager_url);
            return Ok(TargetConfig { dynamodb, secrets, table: stack.table, prefix, is_local: true });
        }
        let table = self.table.clone().ok_or_else(|| {
            UsageError(
                "no table is selected; pass --table NAME, or --local for the stack of `cargo dev`".to_owned(),
            )
        })?;
        let config = aws::sdk_config().await;
        Ok(TargetConfig { dynamodb: config.clone(), secrets: config, table, prefix, is_local: false })
    }

    /// Returns a store on the selected table.
    ///
    /// # Errors
    /// If no table is selected, or `--local` is given but no local stack runs.
    pub(crate) async fn store(&self) -> Result<DynamoStore> {
        let config = self.config().await?;
        Ok(DynamoStore::new(Client::new(&config.dynamodb), config.table))
    }

    /// Returns clients for the tenants' secrets and records.
    ///
    /// # Errors
    /// If no table is selected, or `--local` is given but no local stack runs.
    pub(crate) async fn secrets(&self) -> Result<TenantSecrets> {
        let config = self.config().await?;
        let clock = AwsClock::default();
        let secrets =
            aws_sdk_secretsmanager::config::Builder::from(&config.secrets).interceptor(clock.clone());
        let client = aws_sdk_secretsmanager::Client::from_conf(secrets.build());
        let dynamodb = aws_sdk_dynamodb::config::Builder::from(&config.dynamodb).interceptor(clock.clone());
        let store = Arc::new(DynamoStore::new(Client::from_conf(dynamodb.build()), config.table));
        Ok(TenantSecrets { client, prefix: config.prefix, clock, store })
    }

    /// Returns the audit log file if the local stack is selected.
    ///
    /// # Errors
    /// If `--local` is given but no local stack runs.
    pub(crate) fn audit_file(&self) -> Result<Option<PathBuf>> {
        Ok(self.stack()?.map(|stack| stack.audit_file))
    }

    fn stack(&self) -> Result<Option<LocalStack>> {
        let Some(file) = &self.local else {
            return Ok(None);
        };
        let file =
            file.clone().or_else(usual_stack_file).context("cannot find stack.json; pass --local=FILE")?;
        LocalStack::read(&file).map(Some)
    }
}

impl LocalStack {
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| {
            format!("cannot read {}; check that `cargo dev` is running and ready", file.display())
        })?;
        serde_json::from_slice(&text).with_context(|| {
            format!("{} is not a stack file; pass the stack.json that `cargo dev` writes", file.display())
        })
    }
}

/// Path of `target/local/stack.json`, relative to this program in `target/{profile}`.
fn usual_stack_file() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("local/stack.json"))
}

/// Ignores the environment, so that a command with `--local` never reaches a real account.
fn local_config(region: &str, url: &str) -> SdkConfig {
    let nobody = Credentials::new("local", "local", None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(nobody))
        .http_client(aws::http_client())
        .build()
}
