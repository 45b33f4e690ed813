//! The demo tenants as files. Each process creates them once, and each world starts with a copy, because
//! seeding takes longer than most tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use doorward::domain::HashCost;
use local::{
    REGION, TABLE, clients,
    demo::{self, SeedContext},
    dynamodb::{EmbeddedDynamo, Storage},
    secrets::EmbeddedSecrets,
    stack, table,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::PUBLIC_URL;

/// The templates of this process, one for each hash cost.
static TEMPLATES: Mutex<Vec<(HashCost, Template)>> = Mutex::const_new(Vec::new());

/// Contents of the files, so that no file is left when the process ends.
struct Template {
    database: Vec<u8>,
    secrets: Vec<u8>,
    tenants: Vec<stack::Tenant>,
}

/// The services of one world, which contain the demo tenants.
pub(super) struct Seeded {
    pub(super) dynamodb: EmbeddedDynamo,
    pub(super) secrets: EmbeddedSecrets,
    pub(super) tenants: Vec<stack::Tenant>,
    /// Folder of the secrets' snapshot. It is removed with the world.
    pub(super) folder: TempDir,
}

fn database_in(folder: &Path) -> PathBuf {
    folder.join("dynamodb.sqlite")
}

fn secrets_in(folder: &Path) -> PathBuf {
    folder.join("secrets.json")
}

/// Starts the services with the demo tenants, whose passwords have this hash cost.
///
/// # Errors
/// When a service does not start.
pub(super) async fn start(hash_cost: HashCost) -> Result<Seeded> {
    let folder = tempfile::tempdir()?;
    let (database, secrets) = (database_in(folder.path()), secrets_in(folder.path()));
    let tenants = {
        let mut templates = TEMPLATES.lock().await;
        if !templates.iter().any(|(cost, _)| *cost == hash_cost) {
            templates.push((hash_cost, Template::create(hash_cost).await?));
        }
        let template = templates.iter().find(|(cost, _)| *cost == hash_cost);
        let (_, template) = template.context("the template is missing")?;
        std::fs::write(&database, &template.database)?;
        std::fs::write(&secrets, &template.secrets)?;
        template.tenants.clone()
    };
    Ok(Seeded {
        dynamodb: EmbeddedDynamo::start(Storage::CopyOf(database)).await?,
        secrets: EmbeddedSecrets::start(Some(secrets), REGION).await?,
        tenants,
        folder,
    })
}

impl Template {
    async fn create(hash_cost: HashCost) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (database, snapshot) = (database_in(folder.path()), secrets_in(folder.path()));
        let dynamodb = EmbeddedDynamo::start(Storage::File(database.clone())).await?;
        let secrets = EmbeddedSecrets::start(Some(snapshot.clone()), REGION).await?;
        let client = clients::dynamodb(dynamodb.url());
        table::create_if_missing(&client, TABLE).await?;
        let context = SeedContext {
            dynamodb: client,
            secrets: clients::secrets_manager(secrets.url()),
            table: TABLE.to_owned(),
            public_url: PUBLIC_URL.to_owned(),
            keep_credentials: false,
            hash_cost,
        };
        let seeded = demo::seed(&context).await?;
        dynamodb.stop().await;
        secrets.stop().await?;
        let showcases = seeded.showcases.into_iter().map(|(tenant, _)| tenant);
        Ok(Self {
            database: std::fs::read(database)?,
            secrets: std::fs::read(snapshot)?,
            tenants: seeded.tenants.into_iter().chain(showcases).collect(),
        })
    }
}
