//! The emulated AWS with the deployed CDK app.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use e2e::{
    api::Server,
    emulator::{ACCOUNT, Emulator},
};
use http::{Method, Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use local::{REGION, process, ui::Ui};
use package::Architecture;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Name of the CloudFormation stack. It differs from the default, so that the test does not depend on it.
const STACK: &str = "doorward-test";
/// Sender of mails.
pub(crate) const MAIL_FROM: &str = "login@doorward.example";

/// Settings of a deployment.
pub(crate) struct Settings(Value);

impl Settings {
    pub(crate) fn first(architecture: Architecture) -> Self {
        Self(json!({
            "stackName": STACK,
            "mailFrom": MAIL_FROM,
            "architecture": architecture.name(),
            "removal": "destroy",
            // Prefix at which the demo tenants are created.
            "secretPrefix": local::SECRET_PREFIX,
        }))
    }

    /// Changes the environment of every function, so that each is deployed again.
    pub(crate) fn changed(architecture: Architecture) -> Self {
        let Self(mut settings) = Self::first(architecture);
        settings["logLevel"] = json!("warn");
        Self(settings)
    }
}

/// Outputs of the CloudFormation stack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Outputs {
    pub(crate) api_url: String,
    pub(crate) public_url: String,
    pub(crate) table_name: String,
    pub(crate) secret_prefix: String,
}

impl Outputs {
    /// Host name of the API.
    pub(crate) fn host(&self) -> Result<&str> {
        self.api_url.strip_prefix("http://").context("the URL of the API does not begin with http://")
    }
}

/// Emulated AWS and the CDK app.
pub(crate) struct Cloud {
    pub(crate) emulator: Emulator,
    /// Folder of the CDK app.
    app: PathBuf,
    zips: PathBuf,
    architecture: Architecture,
    /// Files that the CDK writes.
    folder: TempDir,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Cloud {
    pub(crate) fn new(
        emulator: Emulator,
        app: PathBuf,
        zips: PathBuf,
        architecture: Architecture,
    ) -> Result<Self> {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { emulator, app, zips, architecture, folder: tempfile::tempdir()?, http })
    }

    pub(crate) async fn bootstrap(&self, ui: &Ui) -> Result<()> {
        let settings = self.write(&Settings::first(self.architecture))?;
        let environment = format!("aws://{ACCOUNT}/{REGION}");
        self.cdk(ui, "cdk bootstrap", &settings, &["bootstrap", &environment]).await
    }

    pub(crate) async fn deploy(&self, ui: &Ui, what: &str, settings: &Settings) -> Result<Outputs> {
        let settings = self.write(settings)?;
        let file = self.folder.path().join("outputs.json");
        let name = file.to_str().context("the temporary folder's name is not UTF-8")?;
        let arguments = ["deploy", "--require-approval", "never", "--outputs-file", name];
        self.cdk(ui, &format!("cdk deploy, {what} settings"), &settings, &arguments).await?;
        let text = std::fs::read(&file).context("the CDK wrote no outputs")?;
        let mut outputs: Value = serde_json::from_slice(&text)?;
        serde_json::from_value(outputs[STACK].take())
            .context("the outputs of the stack have an unexpected format")
    }

    pub(crate) async fn destroy(&self, ui: &Ui) -> Result<()> {
        let settings = self.write(&Settings::changed(self.architecture))?;
        self.cdk(ui, "cdk destroy", &settings, &["destroy", "--force"]).await
    }

    pub(crate) fn write(&self, settings: &Settings) -> Result<PathBuf> {
        let file = self.folder.path().join("settings.json");
        std::fs::write(&file, settings.0.to_string())?;
        Ok(file)
    }

    /// Runs a CDK command. The error contains its output.
    pub(crate) async fn cdk(&self, ui: &Ui, what: &str, settings: &Path, arguments: &[&str]) -> Result<()> {
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

    /// Routes of the deployed API, as `METHOD /path`.
    pub(crate) async fn routes(&self, outputs: &Outputs) -> Result<BTreeSet<String>> {
        let id = outputs.host()?.split('.').next().unwrap_or_default();
        let path = format!("/v2/apis/{id}/routes?maxResults=500");
        let answer = self.call("apigateway", Method::GET, &path, None, &Value::Null).await?;
        let items = answer["items"].as_array().context("the API has no list of routes")?;
        Ok(items.iter().filter_map(|it| it["routeKey"].as_str().map(str::to_owned)).collect())
    }

    /// Invokes a function and returns its response.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{STACK}-{function}/invocations");
        self.call("lambda", Method::POST, &path, None, event).await
    }

    /// Calls a service for which there is no SDK client here. The emulator reads the name of the service
    /// from the scope of the credentials, and does not verify the signature.
    pub(crate) async fn call(
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
        serde_json::from_slice(&body).with_context(|| format!("{service} {path} did not return JSON"))
    }

    /// Configuration of a deployed function.
    pub(crate) async fn configuration_of(&self, function: &str) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{STACK}-{function}/configuration");
        self.call("lambda", Method::GET, &path, None, &Value::Null).await
    }

    /// Checks that nothing of the stack remains.
    pub(crate) async fn nothing_remains(&self, outputs: &Outputs) -> Result<u32> {
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
            let left = answer[list]
                .as_array()
                .with_context(|| format!("the response contains no {list}: {answer}"))?;
            ensure!(left.is_empty(), "{} {what} remain: {answer}", left.len());
            println!("  {what}: none remain");
            passed += 1;
        }
        let gone = self.server(outputs, Vec::new())?.send(Method::GET, "/healthz", "t", None, None).await?;
        ensure!(gone.status == 404 && gone.header("x-request-id").is_empty(), "/healthz: {gone:?}");
        println!("  /healthz: not found");
        Ok(passed + 1)
    }

    /// Client of the deployed routes. Uses the address of the emulator and the host name of the API.
    pub(crate) fn server(&self, outputs: &Outputs, tenants: Vec<local::stack::Tenant>) -> Result<Server> {
        Ok(Server::new(self.emulator.url(), tenants).named(outputs.host()?))
    }
}
