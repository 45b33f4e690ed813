//! Brings the local stack up, in the order in which its parts need each other, and down again.

use std::{convert::Infallible, path::PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::{
    REGION, TABLE, cargo_lambda, clients,
    data_dir::DataDir,
    demo::{self, SeedContext, Seeded},
    dynamodb::{EmbeddedDynamo, Storage},
    env, functions, port,
    problem::Problem,
    process::{self, Ending},
    project::Project,
    ready,
    secrets::EmbeddedSecrets,
    stack::{Stack, StackFile},
    table,
    ui::Ui,
    watch::Watch,
};

/// What the person asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// 0 takes any free one.
    pub port: u16,
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
    secrets: Option<EmbeddedSecrets>,
    dynamodb: Option<EmbeddedDynamo>,
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
    let port = port::check(options.port)?;
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

    let services = start_services(data_dir, options.keep_credentials, ui, running).await?;
    let env = env::for_functions(&services.dynamodb_url, &services.secrets_manager_url);

    port::check(port)?;
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
    let base_url = format!("http://127.0.0.1:{port}");
    let routes = project.one_route_each();

    let functions_served = async {
        if options.watch {
            std::future::pending().await
        } else {
            ready::until_listening(port).await?;
            functions::serve(&project, &binaries, &env, port, ui).await
        }
    };
    let answered_then_forever = async {
        ready::until_listening(port).await?;
        ready::until_answering(&base_url, &routes).await?;
        step.done(&format!("{} answer", routes.len()));
        let notes = notes(options, running, &project, &services.seeded);
        let stack = services.into_stack(base_url.clone());
        running.stack_file = Some(StackFile::write(&project.stack_file(), &stack)?);
        ui.ready(&stack, &notes);
        std::future::pending().await
    };
    tokio::select! {
        // In this order: that cargo-lambda has ended explains why nothing answers.
        biased;
        ended = end_of(&mut cargo_lambda, port) => ended,
        failed = functions_served => failed,
        failed = answered_then_forever => failed,
    }
}

/// cargo-lambda ends by itself only when something is wrong.
async fn end_of(cargo_lambda: &mut Child, port: u16) -> Result<Infallible> {
    let status = cargo_lambda.wait().await?;
    // Somebody may have taken the port after we looked.
    if port::is_answered(port) {
        port::check(port)?;
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
    dynamodb_url: String,
    secrets_manager_url: String,
    seeded: Seeded,
}

impl Services {
    fn into_stack(self, base_url: String) -> Stack {
        Stack {
            base_url,
            dynamodb_url: self.dynamodb_url,
            secrets_manager_url: self.secrets_manager_url,
            region: REGION.to_owned(),
            table: TABLE.to_owned(),
            tenants: self.seeded.tenants,
        }
    }
}

async fn start_services(
    data_dir: Option<DataDir>,
    keep_credentials: bool,
    ui: &Ui,
    running: &mut Running,
) -> Result<Services> {
    let step = ui.step("services", "Starting DynamoDB and Secrets Manager");
    running.data_dir = data_dir;
    let (storage, snapshot) = match &running.data_dir {
        Some(dir) => (Storage::File(dir.dynamodb()), Some(dir.secrets())),
        None => (Storage::Memory, None),
    };
    let dynamodb = running.dynamodb.insert(EmbeddedDynamo::start(storage).await?);
    let secrets = running.secrets.insert(EmbeddedSecrets::start(snapshot, REGION).await?);
    let (dynamodb_url, secrets_manager_url) = (dynamodb.url().to_owned(), secrets.url().to_owned());
    step.done("");

    let step = ui.step("table", "Creating the table");
    let context = SeedContext {
        dynamodb: clients::dynamodb(&dynamodb_url),
        secrets: clients::secrets_manager(&secrets_manager_url),
        table: TABLE.to_owned(),
        keep_credentials,
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
    Ok(Services { dynamodb_url, secrets_manager_url, seeded })
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
    let showcases = seeded.showcases.iter().map(|(tenant, what)| format!("{} {what}", tenant.tenant_id));
    vec![
        format!("To see errors: {}.", showcases.collect::<Vec<_>>().join("; ")),
        format!("{data} {code}"),
        format!("Other tools read {}.", project.stack_file().display()),
        "Press Ctrl-C to stop.".to_owned(),
    ]
}
