//! Deploys Doorward to an emulated AWS, as a team does to its account, and uses it: `cargo deploy-test`.
//!
//! The CDK app of `infra/aws` is bootstrapped, deployed, deployed again with other settings, and
//! destroyed. Between that the routes are called over HTTP, and what answers are the packaged functions
//! themselves. What the emulator does not do (permissions, encryption, TTL) is tested on the template,
//! in `infra/aws`.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test, and its output")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use doorward::{domain::HashCost, route};
use e2e::{
    Actor, Login,
    api::{Server, expect, many_at_once, walk_through},
    emulator::{ACCOUNT, Emulator, no_python},
};
use http::{Method, Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use local::{
    REGION, clients,
    demo::{self, SeedContext},
    pip,
    problem::{EXIT_USAGE, Problem},
    process,
    project::Project,
    signals, stack,
    ui::Ui,
};
use package::Architecture;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, MissedTickBehavior},
};
use url::Url;

/// The stack's name: another than the default, which a test must not rest on.
const STACK: &str = "doorward-test";
/// What mails come from.
const MAIL_FROM: &str = "login@doorward.example";
/// What the operator's first user logs in with.
const PASSPHRASE: &str = "nine brass lanterns";
/// The oldest Node that the CDK runs on.
const NODE: u32 = 20;
/// A mail passes the table's stream, which the emulator reads every second or so.
const MAIL_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Deploys Doorward to an emulated AWS on this machine, uses it over HTTP, deploys again, destroys.
///
/// No account, no Docker: it needs Rust, Node 20 with npm, and Python 3.10 with pip, says which of them
/// is missing, and gets all else into the target folder. Everything listens on 127.0.0.1, and nothing
/// is left when it ends.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo deploy-test",
    max_term_width = 100,
    after_help = "Examples:
  cargo deploy-test                      the whole test; builds the functions first
  cargo deploy-test --profile release    with the functions as production gets them
  cargo deploy-test --emulator           an empty AWS, to try docs/deploy.md on"
)]
struct Cli {
    /// The profile of Cargo.toml that the functions are built with
    #[arg(long, value_name = "NAME", default_value = "quick-release")]
    profile: String,

    /// Take the zip files in this folder instead of building them
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    zips: Option<PathBuf>,

    /// Run the emulated AWS alone until Ctrl-C, and print what makes tools use it
    #[arg(long)]
    emulator: bool,

    /// The emulated AWS's port on 127.0.0.1; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(false);
    let work = async { if cli.emulator { emulate(&cli, &ui).await } else { test(&cli, &ui).await } };
    signals::run_to_end(&ui, Box::pin(work)).await
}

/// An empty AWS, for as long as it is wanted.
async fn emulate(cli: &Cli, ui: &Ui) -> Result<()> {
    let project = Project::load().await?;
    let mut emulator = Emulator::start(&project, ui, cli.port).await?;
    println!("An empty AWS answers at {} until Ctrl-C. In another terminal:\n", emulator.url());
    for (name, value) in emulator.environment() {
        println!("export {name}={value}");
    }
    emulator.ended().await
}

async fn test(cli: &Cli, ui: &Ui) -> Result<()> {
    needs().await?;
    let project = Project::load().await?;
    let architecture = Architecture::of_this_machine().ok_or_else(|| {
        Problem::new(
            format!("The functions run here as on Lambda, which has no {}.", std::env::consts::ARCH),
            "Run this on an x86-64 or arm64 machine.",
        )
    })?;
    let zips = if let Some(folder) = &cli.zips {
        folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?
    } else {
        package::package(&project, architecture, &cli.profile, ui).await?;
        project.target_dir.join("package").join(architecture.name())
    };
    let aws = project.root.join("infra/aws");
    let step = ui.loud_step("npm", "Getting the CDK and the app's packages");
    let mut npm = process::command("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&aws);
    ensure!(process::status(&mut npm).await?.success(), "npm ci failed in {}", aws.display());
    step.done("");

    let step = ui.step("emulator", "Starting the emulated AWS");
    let emulator = Emulator::start(&project, ui, cli.port).await?;
    step.done(&emulator.url());

    let mut passed = 0;
    let cloud = Cloud::new(emulator, aws, zips, architecture)?;
    cloud.bootstrap(ui).await?;
    let outputs = cloud.deploy(ui, "first", &Settings::first(architecture)).await?;
    passed += 1;

    let server = seed(&cloud, &outputs).await?;
    println!("The flows of a backend");
    passed += every_route_is_there(&cloud, &server, &outputs).await?;
    passed += a_mail_with_a_link_is_sent(&cloud, &server, &outputs).await?;
    passed += walk_through(&server).await?;
    passed += many_at_once(&server).await?;
    passed += an_operator_begins(&cloud, &project, &outputs, &server).await?;

    let kept = server.login(&server.actor("admin@cloudvault.example")?).await?;
    let before = cloud.configuration_of("refresh-session").await?;
    let changed = cloud.deploy(ui, "changed", &Settings::changed(architecture)).await?;
    passed += 1;
    let after = cloud.configuration_of("refresh-session").await?;
    passed += a_changed_stack_keeps_its_data(&server, &kept, (&outputs, &changed), (&before, &after)).await?;

    cloud.destroy(ui).await?;
    passed += cloud.nothing_is_left(&outputs).await?;
    cloud.emulator.stop().await?;
    println!("  the emulator: ended, with every function");
    println!("{} passed, 0 failed", passed + 1);
    Ok(())
}

/// Says what of the tools is missing, before anything takes long.
async fn needs() -> Result<()> {
    let version = async |program: &str| {
        let output = process::output(process::command(program).arg("--version")).await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let node = version("node").await;
    let major = node.as_deref().and_then(|it| it.trim_start_matches('v').split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < NODE) || version("npm").await.is_none() {
        let found = node.map_or_else(|| "there is none".to_owned(), |node| format!("here is {node}"));
        return Err(Problem::new(
            format!("The CDK needs Node {NODE} or newer with npm; {found}."),
            "Install it (https://nodejs.org), and start again.",
        )
        .with_exit_code(EXIT_USAGE)
        .into());
    }
    if pip::find_python().await.is_none() {
        return Err(no_python().with_exit_code(EXIT_USAGE).into());
    }
    Ok(())
}

/// What the stack is deployed with.
struct Settings(Value);

impl Settings {
    fn first(architecture: Architecture) -> Self {
        Self(json!({
            "stackName": STACK,
            "mailFrom": MAIL_FROM,
            "architecture": architecture.name(),
            "removal": "destroy",
            // The demo tenants are seeded there.
            "secretPrefix": local::SECRET_PREFIX,
        }))
    }

    /// Every function's environment changes, so that each is deployed anew.
    fn changed(architecture: Architecture) -> Self {
        let Self(mut settings) = Self::first(architecture);
        settings["logLevel"] = json!("warn");
        Self(settings)
    }
}

/// What the stack says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outputs {
    api_url: String,
    public_url: String,
    table_name: String,
    secret_prefix: String,
}

impl Outputs {
    /// The API's name.
    fn host(&self) -> Result<&str> {
        self.api_url.strip_prefix("http://").context("the API's URL is no http:// URL")
    }
}

/// An AWS with the CDK app in it.
struct Cloud {
    emulator: Emulator,
    /// The CDK app's folder.
    app: PathBuf,
    zips: PathBuf,
    architecture: Architecture,
    /// What the CDK writes.
    folder: TempDir,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Cloud {
    fn new(emulator: Emulator, app: PathBuf, zips: PathBuf, architecture: Architecture) -> Result<Self> {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { emulator, app, zips, architecture, folder: tempfile::tempdir()?, http })
    }

    async fn bootstrap(&self, ui: &Ui) -> Result<()> {
        let settings = self.write(&Settings::first(self.architecture))?;
        let environment = format!("aws://{ACCOUNT}/{REGION}");
        self.cdk(ui, "cdk bootstrap", &settings, &["bootstrap", &environment]).await
    }

    async fn deploy(&self, ui: &Ui, what: &str, settings: &Settings) -> Result<Outputs> {
        let settings = self.write(settings)?;
        let file = self.folder.path().join("outputs.json");
        let name = file.to_str().context("the temporary folder's name is not UTF-8")?;
        let arguments = ["deploy", "--require-approval", "never", "--outputs-file", name];
        self.cdk(ui, &format!("cdk deploy, {what} settings"), &settings, &arguments).await?;
        let text = std::fs::read(&file).context("the CDK wrote no outputs")?;
        let mut outputs: Value = serde_json::from_slice(&text)?;
        serde_json::from_value(outputs[STACK].take()).context("the stack's outputs are not as expected")
    }

    async fn destroy(&self, ui: &Ui) -> Result<()> {
        let settings = self.write(&Settings::changed(self.architecture))?;
        self.cdk(ui, "cdk destroy", &settings, &["destroy", "--force"]).await
    }

    fn write(&self, settings: &Settings) -> Result<PathBuf> {
        let file = self.folder.path().join("settings.json");
        std::fs::write(&file, settings.0.to_string())?;
        Ok(file)
    }

    /// Runs the CDK's command, and shows what it said when it fails.
    async fn cdk(&self, ui: &Ui, what: &str, settings: &Path, arguments: &[&str]) -> Result<()> {
        let step = ui.step("cdk", what);
        let context = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut command = self.emulator.command(self.app.join("node_modules/.bin/cdk"));
        command
            .args(arguments)
            .args(["-c", &context("settings", settings), "-c", &context("zips", &self.zips)])
            .arg("--output")
            .arg(self.folder.path().join("cdk.out"))
            .args(["--ci", "--progress", "events", "--no-color"])
            .env("CDK_DISABLE_CLI_TELEMETRY", "true")
            .current_dir(&self.app);
        let output = process::output(&mut command).await?;
        if !output.status.success() {
            bail!(
                "{what} failed ({}):\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        step.done("");
        Ok(())
    }

    /// The routes that the API has, as `METHOD /path`.
    async fn routes(&self, outputs: &Outputs) -> Result<BTreeSet<String>> {
        let id = outputs.host()?.split('.').next().unwrap_or_default();
        let path = format!("/v2/apis/{id}/routes?maxResults=500");
        let answer = self.call("apigateway", Method::GET, &path, None, &Value::Null).await?;
        let items = answer["items"].as_array().context("no routes")?;
        Ok(items.iter().filter_map(|it| it["routeKey"].as_str().map(str::to_owned)).collect())
    }

    /// What a function answers to an event.
    async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{STACK}-{function}/invocations");
        self.call("lambda", Method::POST, &path, None, event).await
    }

    /// One call of a service that no client of ours speaks. The emulator reads the service from the
    /// credentials' scope, and verifies nothing.
    async fn call(
        &self,
        service: &str,
        method: Method,
        path: &str,
        target: Option<&str>,
        body: &Value,
    ) -> Result<Value> {
        let scope = format!("AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.emulator.url()))
            .header(AUTHORIZATION, format!("{scope}, SignedHeaders=host, Signature=none"));
        if let Some(target) = target {
            request =
                request.header("X-Amz-Target", target).header("Content-Type", "application/x-amz-json-1.1");
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let response = self.http.request(request.body(Full::from(body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(
            head.status.is_success(),
            "{service} {path}: {} {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).with_context(|| format!("{service} {path} answered no JSON"))
    }

    /// A function as Lambda has it.
    async fn configuration_of(&self, function: &str) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{STACK}-{function}/configuration");
        self.call("lambda", Method::GET, &path, None, &Value::Null).await
    }

    /// Sees that nothing of the stack is there any more.
    async fn nothing_is_left(&self, outputs: &Outputs) -> Result<u32> {
        let mut passed = 0;
        let lists = [
            ("functions", "lambda", Method::GET, "/2015-03-31/functions/", None, "Functions"),
            (
                "event sources",
                "lambda",
                Method::GET,
                "/2015-03-31/event-source-mappings/",
                None,
                "EventSourceMappings",
            ),
            ("APIs", "apigateway", Method::GET, "/v2/apis", None, "items"),
            ("tables", "dynamodb", Method::POST, "/", Some("DynamoDB_20120810.ListTables"), "TableNames"),
            ("log groups", "logs", Method::POST, "/", Some("Logs_20140328.DescribeLogGroups"), "logGroups"),
        ];
        for (what, service, method, path, target, list) in lists {
            let body = if target.is_some() { json!({}) } else { Value::Null };
            let answer = self.call(service, method, path, target, &body).await?;
            let left = answer[list].as_array().with_context(|| format!("no {list} in {answer}"))?;
            ensure!(left.is_empty(), "{} {what} are left: {answer}", left.len());
            println!("  {what}: none left");
            passed += 1;
        }
        let gone = self.server(outputs, Vec::new())?.send(Method::GET, "/healthz", "t", None, None).await?;
        ensure!(gone.status == 404 && gone.header("x-request-id").is_empty(), "/healthz: {gone:?}");
        println!("  /healthz: nobody answers");
        Ok(passed + 1)
    }

    /// What talks to the deployed routes: by the emulator's address and the API's name.
    fn server(&self, outputs: &Outputs, tenants: Vec<local::stack::Tenant>) -> Result<Server> {
        Ok(Server::new(self.emulator.url(), tenants).named(outputs.host()?))
    }
}

/// The demo tenants and users, in the deployed table and Secrets Manager.
async fn seed(cloud: &Cloud, outputs: &Outputs) -> Result<Server> {
    ensure!(outputs.secret_prefix == local::SECRET_PREFIX, "secrets are at {}", outputs.secret_prefix);
    let url = cloud.emulator.url();
    let context = SeedContext {
        dynamodb: clients::dynamodb(&url),
        secrets: clients::secrets_manager(&url),
        table: outputs.table_name.clone(),
        keep_credentials: false,
        hash_cost: HashCost::default(),
        public_url: outputs.api_url.clone(),
    };
    let seeded = demo::seed(&context).await.context("cannot seed the demo tenants")?;
    cloud.server(outputs, seeded.tenants)
}

/// Each row of the route table is deployed and answered by Doorward, whatever it says, and anything else
/// by the gateway.
///
/// The emulator answers `OPTIONS` itself, which API Gateway does only where CORS is configured: those
/// rows are asked of their function without the gateway.
async fn every_route_is_there(cloud: &Cloud, server: &Server, outputs: &Outputs) -> Result<u32> {
    let routes = route::served();
    let deployed = cloud.routes(outputs).await?;
    let expected: BTreeSet<_> = routes.iter().map(|it| format!("{} {}", it.method, it.path)).collect();
    ensure!(deployed == expected, "deployed {deployed:#?}, expected {expected:#?}");
    println!("  {} routes: those of the route table", routes.len());

    let (asked, called): (Vec<_>, Vec<_>) = routes.iter().partition(|it| it.method == Method::OPTIONS);
    for route in &called {
        let path = route.path.replace(['{', '}'], "");
        let answer = server.send(route.method.clone(), &path, "nobody", None, None).await?;
        let by_us = !answer.header("x-request-id").is_empty();
        ensure!(by_us, "{} {}: {} {}", route.method, route.path, answer.status, answer.text);
    }
    println!("  {} of them called: each answered by its function", called.len());
    for route in &asked {
        let path = route.path.replace(['{', '}'], "");
        let answer = cloud.invoke(route.endpoint.function().name(), &preflight_event(&path)).await?;
        ensure!(answer["statusCode"] == 204, "OPTIONS {path}: {answer}");
    }
    println!("  {} preflights: each answered by its function", asked.len());
    for (method, path) in [(Method::GET, "/"), (Method::PATCH, "/healthz")] {
        let answer = server.send(method.clone(), path, "nobody", None, None).await?;
        let by_us = !answer.header("x-request-id").is_empty();
        ensure!(answer.status == 404 && !by_us, "{method} {path}: {} {}", answer.status, answer.text);
    }
    println!("  what is no route: 404 by the gateway");
    Ok(4)
}

/// What a browser asks before a page of another origin may call.
fn preflight_event(path: &str) -> Value {
    let mut event = e2e::event(&Method::OPTIONS, path, "nobody", None, None);
    event["headers"] = json!({
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
    });
    event
}

/// From the request over table, stream and function to SES, and back to the hosted page.
async fn a_mail_with_a_link_is_sent(cloud: &Cloud, server: &Server, outputs: &Outputs) -> Result<u32> {
    let marcus = server.actor("marcus.jensen@example.com")?;
    let ses = clients::ses(&cloud.emulator.url());
    for address in [MAIL_FROM, &marcus.user.email] {
        ses.create_email_identity()
            .email_identity(address)
            .send()
            .await
            .context("SES refuses an identity")?;
    }
    let tenant = &marcus.tenant;
    let headers = [
        ("X-Tenant-ID", tenant.tenant_id.as_str()),
        ("X-Tenant-Key", &tenant.tenant_key),
        ("X-Tenant-Secret", &tenant.tenant_secret),
    ];
    let path = format!("/v2/users/{}/password_reset", marcus.user.user_id);
    let asked = server.send_with(Method::POST, &path, &headers, Some(&json!({ "sendLink": {} }))).await?;
    let mut passed = expect("a code asked for", &asked, 200, "")?;

    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let link = loop {
        looks.tick().await;
        let sent = cloud.call("email", Method::GET, "/_ministack/ses/messages", None, &Value::Null).await?;
        let mails = sent["messages"][ACCOUNT].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut words = mails.iter().filter_map(|it| it["BodyText"].as_str()).flat_map(str::split_whitespace);
        if let Some(link) = words.find(|word| word.starts_with(&outputs.public_url)) {
            break link.to_owned();
        }
        ensure!(begun.elapsed() < MAIL_WITHIN, "no mail with a link to {}", outputs.public_url);
    };
    println!("  a mail: sent by SES, with a link to the hosted page");
    let path = link.strip_prefix(&outputs.public_url).context("the link leads elsewhere")?;
    let opened = server.send_with(Method::GET, path, &[], None).await?;
    passed += expect("its link, which leaves the code behind", &opened, 303, "")?;
    let cookie = opened.header("set-cookie");
    let attributes = cookie.split_once(';').map_or("", |(_, attributes)| attributes);
    ensure!(attributes.contains("Secure; HttpOnly; SameSite=Lax"), "the cookie has {attributes:?}");
    // The emulator leaves a request's cookies among the headers, where API Gateway takes them out: the
    // function finds none. What it does with one is in the recorded events and in the browser's test.
    let location = Url::parse(&link)?.join(opened.header("location"))?;
    let shown = server.send_with(Method::GET, location.path(), &[], None).await?;
    passed += expect("the hosted page", &shown, 200, "")?;
    ensure!(shown.header("content-type").starts_with("text/html"), "{:?}", shown.headers);
    Ok(passed + 1)
}

/// From an empty table to a login and a logout, as docs/deploy.md has it: a tenant and a user by
/// `doorwardctl`, which finds the deployment by the usual settings of AWS's tools.
async fn an_operator_begins(
    cloud: &Cloud,
    project: &Project,
    outputs: &Outputs,
    server: &Server,
) -> Result<u32> {
    let ctl = Operator { cloud, project, outputs };
    let tenant = ctl.run(&["tenant", "create", "acme", "--name", "Acme"], "").await?;
    let user = ctl
        .run(
            &[
                "user",
                "create",
                "acme",
                "--username",
                "ada@acme.example",
                "--organization",
                "acme-staff",
                "--role",
                "ADMIN",
                "--change-required",
                "false",
                "--password-stdin",
            ],
            &format!("{PASSPHRASE}\n"),
        )
        .await?;
    println!("  doorwardctl: a tenant and a user");
    let text = |value: &Value, name: &str| {
        value[name].as_str().map(str::to_owned).with_context(|| format!("doorwardctl told no {name}"))
    };
    let actor = Actor {
        tenant: stack::Tenant {
            tenant_id: "acme".to_owned(),
            tenant_key: text(&tenant, "tenantKey")?,
            tenant_secret: text(&tenant, "tenantSecret")?,
            alg: text(&tenant, "algorithm")?,
            users: Vec::new(),
        },
        user: stack::User {
            user_id: text(&user, "user")?,
            username: text(&user, "username")?,
            password: PASSPHRASE.to_owned(),
            email: String::new(),
            roles: vec!["ADMIN".to_owned()],
            organization_id: text(&user, "organization")?,
            customer_id: None,
        },
        collection: String::new(),
    };
    let answer = server.try_login(&actor, PASSPHRASE).await?;
    let mut passed = expect("its login", &answer, 200, "NONE")?;
    let login = Login::from_answer(&actor, &answer)?;
    let asked = authorizer_event(&login.token);
    let known = cloud.invoke("authorize", &asked).await?;
    ensure!(known["isAuthorized"] == true && known["context"]["tenantId"] == "acme", "authorize: {known}");
    println!("  the authorizer: lets it pass");
    let answer = server.send(Method::DELETE, &login.path(), "acme", Some(&login.token), None).await?;
    passed += expect("its logout", &answer, 200, "")?;
    passed += expect("refresh after it", &server.refresh(&login).await?, 401, "SESSION_TERMINATED")?;
    let known = cloud.invoke("authorize", &asked).await?;
    ensure!(known == json!({ "isAuthorized": false }), "authorize: {known}");
    println!("  the authorizer after it: does not");
    Ok(passed + 3 + what_nobody_calls_over_http(cloud, server, outputs).await?)
}

/// The functions that Secrets Manager and the log call, and what `discovery` publishes of the new tenant.
async fn what_nobody_calls_over_http(cloud: &Cloud, server: &Server, outputs: &Outputs) -> Result<u32> {
    let keys = server.send(Method::GET, "/tenants/acme/.well-known/jwks.json", "acme", None, None).await?;
    ensure!(keys.status == 200 && keys.body["keys"][0]["alg"] == "ES256", "keys: {}", keys.text);
    println!("  its public keys: there");

    let step = json!({
        "Step": "createSecret",
        "SecretId": format!("{}acme", outputs.secret_prefix),
        "ClientRequestToken": "0f8e3c52-6a1b-4c7d-9e2f-5b4a3c2d1e0f",
    });
    let refused = cloud.invoke("rotate-secret", &step).await?;
    let told = refused["errorMessage"].as_str().unwrap_or_default();
    ensure!(told.contains("is not switched on"), "rotate-secret: {refused}");
    println!("  rotate-secret: found the secret, whose rotation is off");

    let recorded: Value =
        serde_json::from_str(include_str!("../../events/anchor-audit/logs-one-chain.json"))?;
    let anchored = cloud.invoke("anchor-audit", &recorded).await?;
    ensure!(anchored == recorded["doorward"]["expect"]["answer"], "anchor-audit: {anchored}");
    println!("  anchor-audit: took a recorded batch");
    Ok(3)
}

/// What API Gateway asks an authorizer, payload format 2.0.
fn authorizer_event(token: &str) -> Value {
    let bearer = format!("Bearer {token}");
    json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": "arn:aws:execute-api:us-east-1:000000000000:a1b2c3d4e5/$default/GET/orders",
        "identitySource": [bearer],
        "routeKey": "GET /orders",
        "rawPath": "/orders",
        "rawQueryString": "",
        "headers": { "authorization": bearer },
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "a1b2c3d4e5",
            "http": { "method": "GET", "path": "/orders", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "shop" },
            "requestId": "authorize-deployed",
            "routeKey": "GET /orders",
            "stage": "$default",
            "timeEpoch": 0,
        },
    })
}

/// Somebody with `doorwardctl` and the environment of AWS's tools.
struct Operator<'a> {
    cloud: &'a Cloud,
    project: &'a Project,
    outputs: &'a Outputs,
}

impl Operator<'_> {
    /// What a command answers; what goes to its stdin may be secret.
    async fn run(&self, arguments: &[&str], stdin: &str) -> Result<Value> {
        let mut command = self.cloud.emulator.command(&self.project.cargo);
        command
            .args(["run", "--quiet", "--package", "doorwardctl", "--", "--json"])
            .args(["--table", &self.outputs.table_name, "--secret-prefix", &self.outputs.secret_prefix])
            .args(arguments)
            .current_dir(&self.project.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start cargo")?;
        let mut input = child.stdin.take().context("its input is not piped")?;
        input.write_all(stdin.as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "doorwardctl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("doorwardctl answered no JSON")
    }
}

/// The same table and address with other functions: who was logged in is, and everybody else can.
async fn a_changed_stack_keeps_its_data(
    server: &Server,
    kept: &Login,
    (first, second): (&Outputs, &Outputs),
    (before, after): (&Value, &Value),
) -> Result<u32> {
    ensure!(first == second, "the stack moved: {first:?}, {second:?}");
    let level = |configuration: &Value| configuration["Environment"]["Variables"]["DOORWARD_LOG"].clone();
    ensure!(level(before) == "info" && level(after) == "warn", "not deployed anew: {before} {after}");
    let refreshed = server.refresh(kept).await?;
    let mut passed = expect("refresh of a session from before", &refreshed, 200, "NONE")?;
    let again = Login::from_answer(&kept.actor, &refreshed)?;
    let answer = server
        .send(Method::DELETE, &again.path(), &again.actor.tenant.tenant_id, Some(&again.token), None)
        .await?;
    passed += expect("its logout", &answer, 200, "")?;
    let actor = &kept.actor;
    passed += expect("a login", &server.try_login(actor, &actor.user.password).await?, 200, "NONE")?;
    Ok(passed)
}
