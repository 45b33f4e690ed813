//! Brings the local stack up, in the order in which its parts need each other, and down again.

use std::{convert::Infallible, path::PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::{
    REGION, TABLE,
    api_page::ApiPage,
    audit::{self, AuditFile, AuditLog},
    cargo_lambda, clients,
    data_dir::DataDir,
    delivery::Delivery,
    demo::{self, SeedContext, Seeded},
    dynamodb::{EmbeddedDynamo, Storage},
    env::{self, Endpoints},
    functions,
    invoke::RuntimeApi,
    mail::EmbeddedMail,
    mailbox::Mailbox,
    mailbox_page::MailboxPage,
    port,
    problem::Problem,
    process::{self, Ending},
    project::{FUNCTIONS_PACKAGE, Project},
    ready,
    secrets::EmbeddedSecrets,
    stack::{Stack, StackFile},
    stream::{DEAD_LETTERS_FILE, Poller},
    table,
    ui::Ui,
    watch::Watch,
};

/// How the person chooses the port of the routes.
const PORT_OPTION: &str = "--port";
/// What API Gateway asks an authorizer about a call without a token.
const NOBODYS_CALL: &[u8] =
    br#"{"version":"2.0","type":"REQUEST","headers":{},"requestContext":{"http":{"method":"GET"}}}"#;
/// The mailbox page is this far above the routes: 9025 by default, and 25 is where mail goes.
const MAILBOX_ABOVE: u16 = 25;
/// The API's page is one further.
const API_PAGE_ABOVE: u16 = 26;

/// What the person asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// 0 takes any free one.
    pub port: u16,
    /// Of the mailbox page; 0 takes any free one, and none the usual one, or a free one where that
    /// is taken.
    pub mailbox_port: Option<u16>,
    pub data: Data,
    pub release: bool,
    /// Rebuild and restart functions when the code changes.
    pub watch: bool,
    pub keep_credentials: bool,
}

/// Where users, sessions and secrets live.
#[derive(Debug, Clone)]
pub enum Data {
    Memory,
    /// `target/local/data`.
    Default,
    Dir(PathBuf),
}

/// What lives in this process while the stack runs. Its parts end when dropped.
///
/// It is filled step by step by [`up`], and belongs to the caller, who can end it whatever `up`
/// was doing.
#[derive(Default)]
pub struct Running {
    stack_file: Option<StackFile>,
    page: Option<MailboxPage>,
    api_page: Option<ApiPage>,
    mail: Option<EmbeddedMail>,
    secrets: Option<EmbeddedSecrets>,
    dynamodb: Option<EmbeddedDynamo>,
    audit: Option<AuditFile>,
    /// Last: nobody else may have the folder before all of the above have ended.
    data_dir: Option<DataDir>,
}

impl Running {
    /// Whether everything has answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stack_file.is_some()
    }

    /// Ends the servers in this process, after the processes that used them.
    ///
    /// # Errors
    /// When the secrets cannot be saved.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stack_file.take());
        if let Some(page) = self.api_page.take() {
            page.stop().await;
        }
        if let Some(page) = self.page.take() {
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

/// Ends every process that was started.
///
/// # Errors
/// When one of them cannot be ended.
pub async fn end_processes(ending: Ending) -> Result<()> {
    let left = process::end_all(ending).await?;
    if left.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = left.iter().map(Pid::to_string).collect();
    Err(anyhow!("these processes could not be ended: {}", ids.join(" ")))
}

/// Brings everything up, says so, and goes on until something fails.
///
/// # Errors
/// Why it could not start, or what ended by itself.
pub async fn up(options: &Options, ui: &Ui, running: &mut Running) -> Result<Infallible> {
    // What can be refused is refused before anything takes long.
    let project = Project::load().await?;
    let delivery = Delivery::load()?;
    ensure!(
        project.functions.contains(&delivery.function),
        "infra/delivery.json names {}, which is no binary of the package {FUNCTIONS_PACKAGE}",
        delivery.function
    );
    let port = port::check(options.port, PORT_OPTION)?;
    if let Some(port) = options.mailbox_port {
        port::check(port, "--mailbox-port")?;
    }
    forget_dead_stack(&project);
    let data_dir = open_data_dir(options, &project)?;
    let unwatched: Vec<PathBuf> =
        [Some(project.target_dir.clone()), data_dir.as_ref().map(|it| it.path().to_owned())]
            .into_iter()
            .flatten()
            .collect();

    let program = cargo_lambda::ensure(&project, ui).await?;
    let step = ui.loud_step("build", "Building the functions");
    let binaries = functions::build(&project, options.release).await?;
    step.done("");

    let services = start_services(&project, data_dir, port, options, (ui, running)).await?;
    let env = env::for_functions(&services.endpoints);

    port::check(port, PORT_OPTION)?;
    let step = ui.loud_step("functions", "Starting the functions");
    let mut cargo_lambda = Watch {
        program: &program,
        port,
        release: options.release,
        only_apis: !options.watch,
        env: &env,
        unwatched: &unwatched,
    }
    .start(&project)?;
    let audit_file = match &running.data_dir {
        Some(dir) => AuditFile::kept(dir.audit()),
        None => AuditFile::passing(project.local_dir().join(format!("audit-{port}.ndjson"))),
    };
    let audit_file = running.audit.insert(audit_file);
    let (audit_log, audit_news) = AuditLog::open(audit_file)?;
    let audit_path = audit_file.path().to_owned();
    audit_log.follow(cargo_lambda.stdout.take().context("cargo-lambda's output is not piped")?);
    let base_url = services.endpoints.routes.clone();
    let anchor_name = doorward::route::Function::AnchorAudit.name();
    let anchorer = RuntimeApi::new(&base_url, anchor_name);
    let authorizer_name = doorward::route::Function::Authorize.name();
    let authorizer = RuntimeApi::new(&base_url, authorizer_name);
    let anything = audit::control_message()?;
    let routes = project.one_route_each();
    let deliver = RuntimeApi::new(&base_url, &delivery.function);
    let mailbox = services.mailbox.clone();
    let poller = Poller::new(
        clients::dynamodb_streams(&services.endpoints.dynamodb),
        TABLE,
        deliver.clone(),
        mailbox.clone(),
    )?
    .remembering_in(running.data_dir.as_ref().map(|dir| dir.path().to_owned()));

    let functions_served = async {
        if options.watch {
            std::future::pending().await
        } else {
            ready::until_listening(port).await?;
            functions::serve(&project, &binaries, &env, port, (ui, &audit_log)).await
        }
    };
    let answered_then_forever = async {
        ready::until_listening(port).await?;
        tokio::try_join!(
            ready::until_answering(&base_url, &routes),
            ready::until_invoked(&delivery.function, &deliver, br#"{"Records":[]}"#),
            ready::until_invoked(anchor_name, &anchorer, &anything),
            ready::until_invoked(authorizer_name, &authorizer, NOBODYS_CALL)
        )?;
        step.done(&format!("{} answer", project.functions.len()));
        let notes = notes(options, running, &project, &services.seeded);
        let stack = services.into_stack(audit_path);
        running.stack_file = Some(StackFile::write(&project.stack_file(), &stack)?);
        ui.ready(&stack, &notes);
        tokio::select! {
            failed = poller.run() => failed,
            failed = audit::anchor(audit_news, &anchorer, audit::FIRST_PAUSE) => failed,
            never = tell(&mailbox, ui) => match never {},
        }
    };
    tokio::select! {
        // In this order: that cargo-lambda has ended explains why nothing answers.
        biased;
        ended = end_of(&mut cargo_lambda, port) => ended,
        failed = functions_served => failed,
        failed = answered_then_forever => failed,
    }
}

/// Tells of each message as it comes.
async fn tell(mailbox: &Mailbox, ui: &Ui) -> Infallible {
    let mut told = 0;
    loop {
        let message = mailbox.after(told).await;
        told = message.id;
        ui.sent(&message);
    }
}

/// cargo-lambda ends by itself only when something is wrong.
async fn end_of(cargo_lambda: &mut Child, port: u16) -> Result<Infallible> {
    let status = cargo_lambda.wait().await?;
    // Somebody may have taken the port after we looked.
    if port::is_answered(port) {
        port::check(port, PORT_OPTION)?;
    }
    Err(Problem::new(
        format!("cargo-lambda ended by itself ({status})."),
        "Its own messages are above. Start again.",
    )
    .into())
}

/// A run that was killed could not remove its file, and other tools believe it.
fn forget_dead_stack(project: &Project) {
    let path = project.stack_file();
    let Ok(stack) = Stack::read(&path) else {
        return;
    };
    let port = stack.base_url.rsplit(':').next().and_then(|it| it.parse().ok());
    if !port.is_some_and(port::is_answered) {
        drop(std::fs::remove_file(path));
    }
}

fn open_data_dir(options: &Options, project: &Project) -> Result<Option<DataDir>> {
    let path = match &options.data {
        Data::Memory => return Ok(None),
        Data::Default => project.local_dir().join("data"),
        Data::Dir(path) => path.clone(),
    };
    DataDir::open(&path).map(Some)
}

/// The embedded services, filled with the demo.
struct Services {
    endpoints: Endpoints,
    mailbox: Mailbox,
    mailbox_url: String,
    api_page_url: String,
    seeded: Seeded,
}

impl Services {
    fn into_stack(self, audit_file: PathBuf) -> Stack {
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

async fn start_services(
    project: &Project,
    data_dir: Option<DataDir>,
    port: u16,
    options: &Options,
    (ui, running): (&Ui, &mut Running),
) -> Result<Services> {
    let step = ui.step("services", "Starting DynamoDB, Secrets Manager and the mailbox");
    running.data_dir = data_dir;
    let (storage, snapshot) = match &running.data_dir {
        Some(dir) => (Storage::File(dir.dynamodb()), Some(dir.secrets())),
        None => (Storage::Memory, None),
    };
    let dynamodb = running.dynamodb.insert(EmbeddedDynamo::start(storage).await?);
    let secrets = running.secrets.insert(EmbeddedSecrets::start(snapshot, REGION).await?);
    let mail = running.mail.insert(EmbeddedMail::start(Mailbox::default()).await?);
    let mailbox = mail.mailbox().clone();
    let dead_letters = running.data_dir.as_ref().map(|dir| dir.path().join(DEAD_LETTERS_FILE));
    let page = running.page.insert(start_page(port, options, &mailbox, dead_letters).await?);
    let mailbox_url = page.url().to_owned();
    let endpoints = Endpoints {
        dynamodb: dynamodb.url().to_owned(),
        secrets_manager: secrets.url().to_owned(),
        ses: mail.ses_url().to_owned(),
        sns: mail.sns_url().to_owned(),
        events: mail.events_url().to_owned(),
        routes: format!("http://127.0.0.1:{port}"),
    };
    let api_page = running.api_page.insert(start_api_page(port, options, project, &endpoints.routes).await?);
    let api_page_url = api_page.url().to_owned();
    step.done("");

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
        table::Created::Before => "it is there, with its data",
    };
    step.done(detail);

    let step = ui.step("seed", "Seeding the demo tenants");
    let seeded = demo::seed(&context).await.context("cannot seed the demo tenants")?;
    step.done("");
    Ok(Services { endpoints, mailbox, mailbox_url, api_page_url, seeded })
}

async fn start_page(
    port: u16,
    options: &Options,
    mailbox: &Mailbox,
    dead_letters: Option<PathBuf>,
) -> Result<MailboxPage> {
    let start = |port| MailboxPage::start(port, mailbox.clone(), dead_letters.clone());
    if let Some(chosen) = options.mailbox_port {
        return start(chosen).await;
    }
    let usual = if options.port == 0 { 0 } else { port.saturating_add(MAILBOX_ABOVE) };
    match start(usual).await {
        Ok(page) => Ok(page),
        // Nobody asked for this one.
        Err(_) => start(0).await,
    }
}

async fn start_api_page(port: u16, options: &Options, project: &Project, routes: &str) -> Result<ApiPage> {
    let start = |port| ApiPage::start(port, project.root.clone(), routes.to_owned());
    let usual = if options.port == 0 { 0 } else { port.saturating_add(API_PAGE_ABOVE) };
    match start(usual).await {
        Ok(page) => Ok(page),
        // It is printed where it is.
        Err(_) => start(0).await,
    }
}

/// What a person may want to know besides the logins.
fn notes(options: &Options, running: &Running, project: &Project, seeded: &Seeded) -> Vec<String> {
    let data = running.data_dir.as_ref().map_or_else(
        || "Data is in memory and ends with this run.".to_owned(),
        |dir| format!("Data is kept in {}.", dir.path().display()),
    );
    let code = if options.watch {
        "Functions are rebuilt when the code changes."
    } else {
        "Functions run as built: start again after a change."
    };
    let mails = "Mails, text messages and events are kept in memory and end with this run.";
    let showcases = seeded.showcases.iter().map(|(tenant, what)| format!("{} {what}", tenant.tenant_id));
    vec![
        format!("To see errors: {}.", showcases.collect::<Vec<_>>().join("; ")),
        format!("{data} {code}"),
        mails.to_owned(),
        format!("Other tools read {}.", project.stack_file().display()),
        "Press Ctrl-C to stop.".to_owned(),
    ]
}
