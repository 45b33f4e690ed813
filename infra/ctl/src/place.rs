//! Where the table is.

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
    runtime::{SystemClock, SystemEntropy},
    secrets::{DEFAULT_PREFIX, Rotator},
    store::DynamoStore,
};
use serde::Deserialize;

use crate::output::Usage;

/// Where the table is.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Place {
    /// The stack that `cargo dev` runs here; its file where it is not in the target folder
    #[arg(
        long,
        global = true,
        value_name = "STACK_JSON",
        num_args = 0..=1,
        require_equals = true
    )]
    #[expect(clippy::option_option, reason = "an option whose value is optional, as clap spells it")]
    local: Option<Option<PathBuf>>,

    /// The DynamoDB table
    #[arg(long, global = true, value_name = "NAME", env = "DOORWARD_TABLE")]
    table: Option<String>,

    /// What the names of the tenants' secrets begin with
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        env = "DOORWARD_SECRET_PREFIX",
        default_value = DEFAULT_PREFIX
    )]
    secret_prefix: String,
}

/// The tenants' secrets.
pub(crate) struct Secrets {
    pub(crate) client: aws_sdk_secretsmanager::Client,
    /// What their names begin with.
    pub(crate) prefix: String,
}

impl Secrets {
    /// What makes and installs new versions of them.
    pub(crate) fn rotator(&self) -> Rotator {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Rotator::new(self.client.clone(), self.prefix.clone(), clock, entropy)
    }
}

/// What is read of a running local stack's file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stack {
    dynamodb_url: String,
    secrets_manager_url: String,
    region: String,
    table: String,
    audit_file: PathBuf,
}

impl Place {
    /// The table there.
    ///
    /// # Errors
    /// When no local stack runs, though one is wanted.
    pub(crate) async fn store(&self) -> Result<DynamoStore> {
        if let Some(stack) = self.stack()? {
            let config = local_config(&stack.region, &stack.dynamodb_url);
            return Ok(DynamoStore::new(Client::new(&config), stack.table));
        }
        let table = self.table.clone().ok_or_else(|| {
            Usage("name the table: --table NAME, or --local for the stack of `cargo dev`".to_owned())
        })?;
        Ok(DynamoStore::new(Client::new(&aws::sdk_config().await), table))
    }

    /// The tenants' secrets there.
    ///
    /// # Errors
    /// When no local stack runs, though one is wanted.
    pub(crate) async fn secrets(&self) -> Result<Secrets> {
        let config = match self.stack()? {
            Some(stack) => local_config(&stack.region, &stack.secrets_manager_url),
            None => aws::sdk_config().await,
        };
        let client = aws_sdk_secretsmanager::Client::new(&config);
        Ok(Secrets { client, prefix: self.secret_prefix.clone() })
    }

    /// The audit log of the local stack, where that is the place.
    ///
    /// # Errors
    /// When no local stack runs, though one is wanted.
    pub(crate) fn audit_file(&self) -> Result<Option<PathBuf>> {
        Ok(self.stack()?.map(|stack| stack.audit_file))
    }

    fn stack(&self) -> Result<Option<Stack>> {
        let Some(file) = &self.local else {
            return Ok(None);
        };
        let file = file.clone().or_else(usual_stack_file).context("name the file: --local=FILE")?;
        Stack::read(&file).map(Some)
    }
}

impl Stack {
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file)
            .with_context(|| format!("cannot read {}: is `cargo dev` running and ready?", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no stack's file", file.display()))
    }
}

/// `target/local/stack.json`, seen from this program in `target/{profile}`.
fn usual_stack_file() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("local/stack.json"))
}

/// Nothing of the environment: a real account must not be reached by accident.
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
