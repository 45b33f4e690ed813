//! `doorwardctl doctor`: finds the faults of a deployment and says how to fix them.

mod environment;
mod findings;
mod permissions;
mod secrets;
mod table;
mod tenants;
mod users;

use anyhow::{Result, bail};
use clap::Args;
use doorward::store::DynamoStore;

use self::findings::Findings;
use crate::{
    clock::AwsClock,
    output::Output,
    target::{Target, TargetConfig},
};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Repair the index of users, and the items that find users by name and mail address
    ///
    /// Run it once after an upgrade from a version without the index.
    #[arg(long)]
    repair: bool,
}

/// Clients and configuration of the deployment that is checked.
struct Deployment {
    config: TargetConfig,
    dynamodb: aws_sdk_dynamodb::Client,
    secrets: aws_sdk_secretsmanager::Client,
    store: DynamoStore,
    clock: AwsClock,
}

impl Doctor {
    pub(crate) async fn run(self, output: Output, target: &Target) -> Result<()> {
        let config = target.config().await?;
        let mut findings = Findings::default();
        if environment::region(&config, &mut findings)
            && environment::credentials(&config, &mut findings).await
        {
            examine(config, self.repair, &mut findings).await;
        }
        output.result(&findings.as_json(), || findings.as_text())?;
        match findings.faults() {
            0 => Ok(()),
            faults => bail!("faults: {faults}; the fix is listed under each fault"),
        }
    }
}

async fn examine(config: TargetConfig, repair: bool, findings: &mut Findings) {
    let clock = AwsClock::default();
    let dynamodb =
        aws_sdk_dynamodb::config::Builder::from(&config.dynamodb).interceptor(clock.clone()).build();
    let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb);
    let store = DynamoStore::new(dynamodb.clone(), config.table.clone());
    let secrets = aws_sdk_secretsmanager::Client::new(&config.secrets);
    let deployment = Deployment { config, dynamodb, secrets, store, clock };
    let identity = environment::identity(&deployment, findings).await;
    let description = table::describe(&deployment, findings).await;
    // The check uses the date header of the earlier responses. Error responses also have this header.
    environment::clock(&deployment, findings);
    if identity && let Some(description) = description {
        table::examine(&deployment, &description, findings).await;
        let check = users::read(&deployment, repair, findings).await;
        let tenants = match &check {
            Some(check) => Some(tenants::examine(&deployment, &check.tenants, findings).await),
            None => None,
        };
        if let Some(check) = &check {
            users::examine(check, findings);
        }
        secrets::examine(&deployment, tenants.as_deref(), findings).await;
        permissions::examine(&deployment, findings).await;
    }
}
