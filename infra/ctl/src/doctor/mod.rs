//! `doorwardctl doctor`: what is wrong with a deployment, why it matters and what to do.

mod permissions;
mod place;
mod report;
mod secrets;
mod table;
mod tenants;

use anyhow::{Result, bail};
use clap::Args;
use doorward::store::DynamoStore;

use self::{place::ClockProbe, report::Report};
use crate::{
    output::Output,
    place::{Place, Site},
};

/// It takes what every command takes.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// A deployment that is looked at.
struct Patient {
    site: Site,
    dynamodb: aws_sdk_dynamodb::Client,
    secrets: aws_sdk_secretsmanager::Client,
    store: DynamoStore,
    clock: ClockProbe,
}

impl Doctor {
    pub(crate) async fn run(self, output: Output, place: &Place) -> Result<()> {
        let site = place.site().await?;
        let mut report = Report::default();
        if place::region(&site, &mut report) && place::credentials(&site, &mut report).await {
            examine(site, &mut report).await;
        }
        output.result(&report.as_json(), || report.as_text())?;
        match report.faults() {
            0 => Ok(()),
            faults => bail!("faults: {faults}; what to do is said with each"),
        }
    }
}

async fn examine(site: Site, report: &mut Report) {
    let clock = ClockProbe::default();
    let config = aws_sdk_dynamodb::config::Builder::from(&site.dynamodb).interceptor(clock.clone()).build();
    let dynamodb = aws_sdk_dynamodb::Client::from_conf(config);
    let store = DynamoStore::new(dynamodb.clone(), site.table.clone());
    let secrets = aws_sdk_secretsmanager::Client::new(&site.secrets);
    let patient = Patient { site, dynamodb, secrets, store, clock };
    let identity = place::identity(&patient, report).await;
    let description = table::describe(&patient, report).await;
    // Any answer tells the time, also a refusal.
    place::clock(&patient, report);
    if identity && let Some(description) = description {
        table::examine(&patient, &description, report).await;
        let tenants = tenants::examine(&patient, report).await;
        secrets::examine(&patient, tenants.as_deref(), report).await;
        permissions::examine(&patient, report).await;
    }
}
