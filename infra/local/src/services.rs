//! The services inside this process: starting them, seeding the demo data, and stopping them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    REGION, TABLE,
    api_page::ApiPage,
    audit::AuditFile,
    clients,
    data_dir::DataDir,
    demo::{self, SeedContext, Seeded},
    dynamodb::{EmbeddedDynamo, Storage},
    env::Endpoints,
    mail::EmbeddedMail,
    mailbox::Mailbox,
    mailbox_page::MailboxPage,
    project::Project,
    run::Options,
    secrets::EmbeddedSecrets,
    stack::{Stack, StackFile},
    stream::DEAD_LETTERS_FILE,
    table,
    ui::Ui,
};

/// Distance from the port of the HTTP API to the port of the mailbox page: 9025 by default, because
/// 25 is the port of SMTP.
const MAILBOX_ABOVE: u16 = 25;
/// Distance from the port of the HTTP API to the port of the API page.
const API_PAGE_ABOVE: u16 = 26;

/// Running services and open files. Each ends when dropped.
#[derive(Default)]
pub struct Running {
    pub(crate) stack_file: Option<StackFile>,
    mailbox_page: Option<MailboxPage>,
    api_page: Option<ApiPage>,
    mail: Option<EmbeddedMail>,
    secrets: Option<EmbeddedSecrets>,
    dynamodb: Option<EmbeddedDynamo>,
    pub(crate) audit: Option<AuditFile>,
    /// The last field, so that the folder stays locked until all services have ended.
    pub(crate) data_dir: Option<DataDir>,
}

impl Running {
    /// Returns true when every function has responded.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stack_file.is_some()
    }

    pub(crate) fn data_path(&self) -> Option<&Path> {
        self.data_dir.as_ref().map(DataDir::path)
    }

    /// Stops the services in this process. Call it after the processes that use them have ended.
    ///
    /// # Errors
    /// When the secrets cannot be saved.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stack_file.take());
        if let Some(page) = self.api_page.take() {
            page.stop().await;
        }
        if let Some(page) = self.mailbox_page.take() {
            page.stop().await;
        }
        if let Some(mail) = self.mail.take() {
            mail.stop().await;
        }
        let saved = match self.secrets.take() {
            Some(secrets) => secrets.stop().await,
            None => Ok(()),
        };
        if let Some(dynamodb) = self.dynamodb.take() {
            dynamodb.stop().await;
        }
        saved
    }
}

/// Addresses and demo data of the started services.
pub(crate) struct Services {
    pub(crate) endpoints: Endpoints,
    pub(crate) mailbox: Mailbox,
    pub(crate) seeded: Seeded,
    mailbox_url: String,
    api_page_url: String,
}

impl Services {
    pub(crate) fn into_stack(self, audit_file: PathBuf) -> Stack {
        Stack {
            base_url: self.endpoints.routes,
            dynamodb_url: self.endpoints.dynamodb,
            secrets_manager_url: self.endpoints.secrets_manager,
            mailbox_url: self.mailbox_url,
            api_page_url: self.api_page_url,
            audit_file,
            region: REGION.to_owned(),
            table: TABLE.to_owned(),
            tenants: self.seeded.tenants,
        }
    }
}

/// Starts the services, creates the table, and seeds the demo tenants.
///
/// # Errors
/// When a service cannot start or rejects the data.
pub(crate) async fn start(
    project: &Project,
    options: &Options,
    port: u16,
    ui: &Ui,
    running: &mut Running,
) -> Result<Services> {
    let step = ui.step("services", "Starting DynamoDB, Secrets Manager and the mailbox");
    let (storage, snapshot) = match &running.data_dir {
        Some(dir) => (Storage::File(dir.dynamodb()), Some(dir.secrets())),
        None => (Storage::Memory, None),
    };
    let dead_letters = running.data_path().map(|path| path.join(DEAD_LETTERS_FILE));
    let dynamodb = running.dynamodb.insert(EmbeddedDynamo::start(storage).await?);
    let secrets = running.secrets.insert(EmbeddedSecrets::start(snapshot, REGION).await?);
    let mail = running.mail.insert(EmbeddedMail::start(Mailbox::default()).await?);
    let mailbox = mail.mailbox().clone();
    let endpoints = Endpoints {
        dynamodb: dynamodb.url().to_owned(),
        secrets_manager: secrets.url().to_owned(),
        ses: mail.ses_url().to_owned(),
        sns: mail.sns_url().to_owned(),
        events: mail.events_url().to_owned(),
        routes: format!("http://127.0.0.1:{port}"),
    };

    let mailbox_page = async |port| MailboxPage::start(port, mailbox.clone(), dead_letters.clone()).await;
    let page = match options.mailbox_port {
        Some(chosen) => mailbox_page(chosen).await?,
        None => start_near(options.port, MAILBOX_ABOVE, mailbox_page).await?,
    };
    let mailbox_url = running.mailbox_page.insert(page).url().to_owned();
    let api_page = async |port| ApiPage::start(port, project.root.clone(), endpoints.routes.clone()).await;
    let page = start_near(options.port, API_PAGE_ABOVE, api_page).await?;
    let api_page_url = running.api_page.insert(page).url().to_owned();
    step.done("");

    let seeded = seed(&endpoints, options, ui).await?;
    Ok(Services { endpoints, mailbox, seeded, mailbox_url, api_page_url })
}

/// Starts a page on its default port, or on any free port if that one is taken. The banner shows
/// the port.
async fn start_near<P>(port: u16, distance: u16, start: impl AsyncFn(u16) -> Result<P>) -> Result<P> {
    let default = if port == 0 { 0 } else { port.saturating_add(distance) };
    match start(default).await {
        Ok(page) => Ok(page),
        Err(_) => start(0).await,
    }
}

/// Creates the table and the demo tenants where they are missing.
async fn seed(endpoints: &Endpoints, options: &Options, ui: &Ui) -> Result<Seeded> {
    let step = ui.step("table", "Creating the table");
    let context = SeedContext {
        dynamodb: clients::dynamodb(&endpoints.dynamodb),
        secrets: clients::secrets_manager(&endpoints.secrets_manager),
        table: TABLE.to_owned(),
        public_url: endpoints.routes.clone(),
        keep_credentials: options.keep_credentials,
        hash_cost: doorward::domain::HashCost::default(),
    };
    let detail = match table::create_if_missing(&context.dynamodb, TABLE).await? {
        table::Created::Now => "",
        table::Created::Before => "already exists; its data is kept",
    };
    step.done(detail);

    let step = ui.step("seed", "Creating the demo tenants");
    let seeded = demo::seed(&context).await.context("cannot create the demo tenants")?;
    step.done("");
    Ok(seeded)
}
