//! Starts the local stack step by step, and runs it until something fails.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use doorward::route::Function;
use tokio::process::Child;

use crate::{
    TABLE,
    audit::{self, AuditFile, AuditLog},
    cargo_lambda, clients,
    data_dir::DataDir,
    delivery::Delivery,
    env, functions,
    invoke::RuntimeApi,
    mailbox::Mailbox,
    port,
    problem::Problem,
    project::{FUNCTIONS_PACKAGE, Project},
    ready,
    services::{self, Running, Services},
    stack::{Stack, StackFile},
    stream::Poller,
    ui::Ui,
    watch::CargoLambdaWatch,
};

/// Option that chooses the port of the HTTP API.
const PORT_OPTION: &str = "--port";
/// Event that API Gateway sends to an authorizer for a request without a token.
const EVENT_WITHOUT_TOKEN: &[u8] =
    br#"{"version":"2.0","type":"REQUEST","headers":{},"requestContext":{"http":{"method":"GET"}}}"#;
/// Smallest event of a DynamoDB stream.
const EVENT_WITHOUT_RECORDS: &[u8] = br#"{"Records":[]}"#;

/// Choices of the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port of the HTTP API; 0 means any free port.
    pub port: u16,
    /// Port of the mailbox page; 0 means any free port. `None` means the default port, or any free
    /// port if the default port is taken.
    pub mailbox_port: Option<u16>,
    pub data: DataLocation,
    pub release: bool,
    /// Rebuilds and restarts functions when the code changes.
    pub watch: bool,
    pub keep_credentials: bool,
}

/// Storage of users, sessions and secrets.
#[derive(Debug, Clone)]
pub enum DataLocation {
    Memory,
    /// `target/local/data`.
    Default,
    Dir(PathBuf),
}

/// Starts everything, prints the addresses and logins, and runs until something fails.
///
/// Fills `running` step by step. The caller owns it, and can therefore stop the services at any
/// point of the start.
///
/// # Errors
/// When a step of the start fails, or when a part of the running stack ends unexpectedly.
pub async fn up(options: &Options, ui: &Ui, running: &mut Running) -> Result<Infallible> {
    let plan = Plan::check(options).await?;
    running.data_dir = plan.open_data_dir()?;
    let program = cargo_lambda::ensure(&plan.project, ui).await?;
    let step = ui.loud_step("build", "Building the functions");
    let binaries = functions::build(&plan.project, options.release).await?;
    step.done("");
    let services = services::start(&plan.project, options, plan.port, ui, running).await?;

    let step = ui.loud_step("functions", "Starting the functions");
    let env = env::for_functions(&services.endpoints);
    let mut cargo_lambda = plan.start_cargo_lambda(&program, &env, running.data_path())?;
    let (audit_log, audit_events) =
        AuditLog::open(running.audit.insert(plan.audit_file(running.data_path())))?;
    audit_log.follow(cargo_lambda.stdout.take().context("cargo-lambda's output is not piped")?);

    let invoked = Invoked::new(&services.endpoints.routes, &plan.delivery);
    let mailbox = services.mailbox.clone();
    let poller = invoked.poller(&services, running.data_path())?;
    let serve_binaries = async {
        if options.watch {
            return std::future::pending().await;
        }
        ready::until_listening(plan.port).await?;
        functions::serve(&plan.project, &binaries, &env, plan.port, (ui, &audit_log)).await
    };
    let follow_when_ready = async {
        plan.until_ready(&services.endpoints.routes, &invoked).await?;
        step.done(&format!("{} functions respond", plan.project.functions.len()));
        plan.announce(services, *ui, running)?;
        tokio::select! {
            failed = poller.run() => failed,
            failed = audit::anchor(audit_events, &invoked.anchor, audit::FIRST_PAUSE) => failed,
            never = print_messages(&mailbox, ui) => match never {},
        }
    };
    tokio::select! {
        // In this order, because the end of cargo-lambda explains why the functions do not respond.
        biased;
        ended = end_of(&mut cargo_lambda, plan.port) => ended,
        failed = serve_binaries => failed,
        failed = follow_when_ready => failed,
    }
}

/// Checked input of a start. Everything that can be rejected is rejected before the slow steps.
struct Plan<'a> {
    options: &'a Options,
    project: Project,
    delivery: Delivery,
    port: u16,
}

impl<'a> Plan<'a> {
    async fn check(options: &'a Options) -> Result<Self> {
        let project = Project::load().await?;
        let delivery = Delivery::load()?;
        ensure!(
            project.functions.contains(&delivery.function),
            "infra/delivery.json names the function `{}`, but the package {FUNCTIONS_PACKAGE} has no such \
             binary; correct `function` in that file",
            delivery.function
        );
        let port = port::check(options.port, PORT_OPTION)?;
        if let Some(port) = options.mailbox_port {
            port::check(port, "--mailbox-port")?;
        }
        remove_stale_stack_file(&project);
        Ok(Self { options, project, delivery, port })
    }

    fn open_data_dir(&self) -> Result<Option<DataDir>> {
        let path = match &self.options.data {
            DataLocation::Memory => return Ok(None),
            DataLocation::Default => self.project.local_dir().join("data"),
            DataLocation::Dir(path) => path.clone(),
        };
        DataDir::open(&path).map(Some)
    }

    /// Starts cargo-lambda. Its changes of `target` and of the data folder trigger no rebuild.
    fn start_cargo_lambda(
        &self,
        program: &Path,
        env: &env::Variables,
        data_path: Option<&Path>,
    ) -> Result<Child> {
        // Another program may have taken the port during the build.
        port::check(self.port, PORT_OPTION)?;
        let unwatched: Vec<&Path> =
            std::iter::once(self.project.target_dir.as_path()).chain(data_path).collect();
        let watch = CargoLambdaWatch {
            program,
            port: self.port,
            release: self.options.release,
            only_apis: !self.options.watch,
            env,
            unwatched: &unwatched,
        };
        watch.start(&self.project)
    }

    fn audit_file(&self, data_path: Option<&Path>) -> AuditFile {
        match data_path {
            Some(folder) => AuditFile::kept(folder.join(audit::FILE)),
            None => {
                AuditFile::temporary(self.project.local_dir().join(format!("audit-{}.ndjson", self.port)))
            }
        }
    }

    /// Waits until each function has responded once.
    async fn until_ready(&self, base_url: &str, invoked: &Invoked) -> Result<()> {
        ready::until_listening(self.port).await?;
        let control_message = audit::control_message()?;
        let routes = self.project.one_route_each();
        tokio::try_join!(
            ready::until_answering(base_url, &routes),
            ready::until_invoked(&invoked.deliver, EVENT_WITHOUT_RECORDS),
            ready::until_invoked(&invoked.anchor, &control_message),
            ready::until_invoked(&invoked.authorize, EVENT_WITHOUT_TOKEN)
        )?;
        Ok(())
    }

    /// Writes the stack file and prints the banner.
    fn announce(&self, services: Services, ui: Ui, running: &mut Running) -> Result<()> {
        let audit_file = running.audit.as_ref().context("the audit log is not open")?.path().to_owned();
        let notes = self.notes(&services, running.data_path());
        let stack = services.into_stack(audit_file);
        running.stack_file = Some(StackFile::write(&self.project.stack_file(), &stack)?);
        ui.ready(&stack, &notes);
        Ok(())
    }

    /// Facts for the reader of the banner, one on each line.
    fn notes(&self, services: &Services, data_path: Option<&Path>) -> Vec<String> {
        let mut notes = vec!["To see errors, log in to one of these tenants:".to_owned()];
        let showcases = &services.seeded.showcases;
        notes.extend(showcases.iter().map(|(tenant, what)| format!("  {} {what}", tenant.tenant_id)));
        notes.push(String::new());
        notes.push(data_path.map_or_else(
            || "Data is in memory and is lost when this command stops.".to_owned(),
            |path| format!("Data is kept in {}", path.display()),
        ));
        let code = if self.options.watch {
            "Functions are rebuilt when the code changes."
        } else {
            "Functions are not rebuilt when the code changes: restart this command instead."
        };
        notes.extend([
            code.to_owned(),
            "Mails, text messages and events are in memory and are lost when this command stops.".to_owned(),
            format!("Other tools read these addresses from {}", self.project.stack_file().display()),
            "Press Ctrl-C to stop.".to_owned(),
        ]);
        notes
    }
}

/// Functions without a route, which the local stack invokes itself.
struct Invoked {
    deliver: RuntimeApi,
    anchor: RuntimeApi,
    authorize: RuntimeApi,
}

impl Invoked {
    fn new(base_url: &str, delivery: &Delivery) -> Self {
        let function = |name: &str| RuntimeApi::new(base_url, name);
        Self {
            deliver: function(&delivery.function),
            anchor: function(Function::AnchorAudit.name()),
            authorize: function(Function::Authorize.name()),
        }
    }

    fn poller(&self, services: &Services, data_path: Option<&Path>) -> Result<Poller<RuntimeApi>> {
        let streams = clients::dynamodb_streams(&services.endpoints.dynamodb);
        let poller = Poller::new(streams, TABLE, self.deliver.clone(), services.mailbox.clone())?;
        Ok(poller.remembering_in(data_path.map(Path::to_owned)))
    }
}

/// Prints each message when it arrives.
async fn print_messages(mailbox: &Mailbox, ui: &Ui) -> Infallible {
    let mut printed = 0;
    loop {
        let message = mailbox.after(printed).await;
        printed = message.id;
        ui.sent(&message);
    }
}

/// Waits for cargo-lambda to end, which it does only after a failure.
async fn end_of(cargo_lambda: &mut Child, port: u16) -> Result<Infallible> {
    let status = cargo_lambda.wait().await?;
    // Another program may have taken the port since the last check.
    if port::is_answered(port) {
        port::check(port, PORT_OPTION)?;
    }
    Err(Problem::new(
        format!("cargo-lambda ended unexpectedly ({status})."),
        "Read its messages above, then start again.",
    )
    .into())
}

/// Removes the stack file of a killed run, which could not remove it. Other tools would trust it.
fn remove_stale_stack_file(project: &Project) {
    let path = project.stack_file();
    let Ok(stack) = Stack::read(&path) else {
        return;
    };
    let port = stack.base_url.rsplit(':').next().and_then(|it| it.parse().ok());
    if !port.is_some_and(port::is_answered) {
        drop(std::fs::remove_file(path));
    }
}
