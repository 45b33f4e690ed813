//! Secrets Manager inside this process: the crate `winterbaume` behind a listener.
//!
//! This module adds what `winterbaume` lacks:
//! - The Region, which `winterbaume` reads only from an AWS host name.
//! - A snapshot file, because `winterbaume` keeps everything in memory.
//! - Conditions that a rotation depends on: the value of a version cannot change, a stage moves only
//!   from the version that has it, and `AWSPENDING` is removed when a version becomes current.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use winterbaume_core::{MockRequest, MockResponse, MockService, StatefulService, default_account_id};
use winterbaume_secretsmanager::SecretsManagerService;

use crate::{server::Server, stack::write_private};

/// Limit of a request body. A secret has up to 64 KiB, plus the encoding and other fields.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Operations that change nothing. Every other operation is followed by a snapshot. A read that is
/// missing here costs one needless file write; a missing change would lose a secret.
const READS: [&str; 8] = [
    "BatchGetSecretValue",
    "DescribeSecret",
    "GetRandomPassword",
    "GetResourcePolicy",
    "GetSecretValue",
    "ListSecretVersionIds",
    "ListSecrets",
    "ValidateResourcePolicy",
];

/// Running Secrets Manager endpoint on a free loopback port. It ends when dropped.
///
/// Start it inside a tokio runtime. One process can run any number of them.
pub struct EmbeddedSecrets {
    server: Server,
    vault: Arc<Vault>,
}

impl EmbeddedSecrets {
    /// Restores the secrets from the file `snapshot` if it exists. After each change, replaces the file
    /// before the response is sent.
    ///
    /// # Errors
    /// When the snapshot exists and cannot be read, or when no port is free.
    pub async fn start(snapshot: Option<PathBuf>, region: &str) -> Result<Self> {
        let vault = Arc::new(Vault::open(snapshot, region).await?);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&vault));
        let server = Server::serve("Secrets Manager", router)
            .await
            .context("cannot start the embedded Secrets Manager")?;
        Ok(Self { server, vault })
    }

    /// Endpoint: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Stops the server after the requests in progress, and writes the snapshot.
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub async fn stop(self) -> Result<()> {
        self.server.stop().await;
        self.vault.save().await
    }
}

/// Secrets and their snapshot file.
struct Vault {
    service: SecretsManagerService,
    region: String,
    snapshot: Option<PathBuf>,
    /// Locked from taking a snapshot until it is on disk, so that an older snapshot never replaces a
    /// newer one.
    saving: Mutex<()>,
    /// Locked while a change is checked and made.
    changing: Mutex<()>,
}

impl Vault {
    async fn open(snapshot: Option<PathBuf>, region: &str) -> Result<Self> {
        let vault = Self {
            service: SecretsManagerService::new(),
            region: region.to_owned(),
            snapshot,
            saving: Mutex::new(()),
            changing: Mutex::new(()),
        };
        if let Some(path) = &vault.snapshot {
            vault.restore(path).await.with_context(|| {
                format!(
                    "cannot restore the secrets from {}; move that file away to start without them",
                    path.display()
                )
            })?;
        }
        Ok(vault)
    }

    async fn restore(&self, path: &Path) -> Result<()> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let view = serde_json::from_slice(&text)?;
        self.service
            .restore(default_account_id(), &self.region, view)
            .await
            .context("the file is not a snapshot of secrets")
    }

    async fn save(&self) -> Result<()> {
        let Some(path) = self.snapshot.clone() else {
            return Ok(());
        };
        let _one_at_a_time = self.saving.lock().await;
        let view = self.service.snapshot(default_account_id(), &self.region).await;
        let text = serde_json::to_vec_pretty(&view)?;
        tokio::task::spawn_blocking(move || write_private(&path, &text)).await?
    }

    async fn handle(&self, request: Request) -> Result<Response> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let call = head
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok())
            .and_then(|target| target.rsplit('.').next())
            .unwrap_or_default();
        let changes = !READS.contains(&call);
        let request = MockRequest {
            method: head.method.to_string(),
            // winterbaume reads the Region only from the host name.
            uri: format!("https://secretsmanager.{}.amazonaws.com{path}", self.region),
            headers: head.headers.clone(),
            body: to_bytes(body, MAX_BODY_BYTES).await?,
        };
        let answer = if changes {
            let _one_at_a_time = self.changing.lock().await;
            self.change(call, request).await?
        } else {
            self.service.handle(request).await
        };
        let status = StatusCode::from_u16(answer.status)?;
        if changes && status.is_success() {
            self.save().await?;
        }
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

impl Vault {
    /// Makes a change, with the checks and effects of AWS that winterbaume lacks.
    async fn change(&self, call: &str, request: MockRequest) -> Result<MockResponse> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = |name: &str| text(&asked, name);
        let refused = match (call, text("SecretId")) {
            ("PutSecretValue", Some(secret)) => match text("ClientRequestToken") {
                Some(version) => self.written_before(&request, secret, version, &asked).await?,
                None => None,
            },
            ("UpdateSecretVersionStage", Some(secret)) => self.is_elsewhere(&request, secret, &asked).await?,
            _ => None,
        };
        if let Some(decided) = refused {
            return Ok(decided);
        }
        let mut ended = None;
        if call == "UpdateSecretVersionStage" && text("VersionStage") == Some("AWSCURRENT") {
            ended = text("SecretId").zip(text("MoveToVersionId")).map(|(secret, version)| {
                json!({ "SecretId": secret, "VersionStage": "AWSPENDING", "RemoveFromVersionId": version })
            });
        }
        let template = request.clone();
        let answer = self.service.handle(request).await;
        if let (Some(body), 200) = (ended, answer.status) {
            self.ask(&template, "UpdateSecretVersionStage", &body).await?;
        }
        Ok(answer)
    }

    /// Returns the response if the version already has a value. A value cannot be overwritten.
    async fn written_before(
        &self,
        request: &MockRequest,
        secret: &str,
        version: &str,
        asked: &Value,
    ) -> Result<Option<MockResponse>> {
        let body = json!({ "SecretId": secret, "VersionId": version });
        let known = self.ask(request, "GetSecretValue", &body).await?;
        let Some(value) = text(&known, "SecretString") else {
            return Ok(None);
        };
        Ok(Some(if text(asked, "SecretString") == Some(value) {
            let answer = json!({
                "ARN": known.get("ARN"),
                "Name": known.get("Name"),
                "VersionId": version,
                "VersionStages": known.get("VersionStages"),
            });
            MockResponse::json(200, answer.to_string())
        } else {
            error("ResourceExistsException", "this version has another value, which cannot be changed")
        }))
    }

    /// Returns an error if the stage is not at the version that it is to be moved from.
    async fn is_elsewhere(
        &self,
        request: &MockRequest,
        secret: &str,
        asked: &Value,
    ) -> Result<Option<MockResponse>> {
        let known = self.ask(request, "DescribeSecret", &json!({ "SecretId": secret })).await?;
        let Some(stages) = known.get("VersionIdsToStages").and_then(Value::as_object) else {
            return Ok(None);
        };
        // winterbaume would remove the stage before it checks that the target version exists.
        if text(asked, "MoveToVersionId").is_some_and(|version| !stages.contains_key(version)) {
            return Ok(Some(error("ResourceNotFoundException", "this version does not exist")));
        }
        let stage = asked.get("VersionStage").cloned().unwrap_or_default();
        let has = |stages: &Value| stages.as_array().is_some_and(|all| all.contains(&stage));
        let is_refused = match text(asked, "RemoveFromVersionId") {
            Some(from) => !stages.get(from).is_some_and(has),
            None => stages.iter().any(|(version, stages)| {
                has(stages) && text(asked, "MoveToVersionId") != Some(version.as_str())
            }),
        };
        Ok(is_refused.then(|| error("InvalidParameterException", "another version has this stage")))
    }

    async fn ask(&self, like: &MockRequest, call: &str, body: &Value) -> Result<Value> {
        let mut request = like.clone();
        let target = format!("secretsmanager.{call}").parse()?;
        request.headers.insert("x-amz-target", target);
        request.body = body.to_string().into();
        let answer = self.service.handle(request).await;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

/// String member of a request or response.
fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn error(kind: &str, message: &str) -> MockResponse {
    MockResponse::json(400, json!({ "__type": kind, "message": message }).to_string())
}

async fn answer(State(vault): State<Arc<Vault>>, request: Request) -> Response {
    match vault.handle(request).await {
        Ok(response) => response,
        Err(error) => {
            crate::ui::to_stderr(&format!("the embedded Secrets Manager failed: {error:#}"));
            let body = r#"{"__type":"InternalServiceError","message":"see the log of cargo dev"}"#;
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{REGION, clients};
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn snapshot_keeps_secrets_and_stages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.json");

        let first = EmbeddedSecrets::start(Some(path.clone()), REGION).await.unwrap();
        let client = clients::secrets_manager(first.url());
        client.create_secret().name("doorward/tenants/a").secret_string("one").send().await.unwrap();
        client.put_secret_value().secret_id("doorward/tenants/a").secret_string("two").send().await.unwrap();
        // Dropped without `stop`, because every acknowledged change is already on disk.
        drop(first);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let second = EmbeddedSecrets::start(Some(path), REGION).await.unwrap();
        let client = clients::secrets_manager(second.url());
        for (stage, value) in [("AWSCURRENT", "two"), ("AWSPREVIOUS", "one")] {
            let got = client
                .get_secret_value()
                .secret_id("doorward/tenants/a")
                .version_stage(stage)
                .send()
                .await
                .unwrap();
            assert_eq!(got.secret_string(), Some(value));
            assert!(got.arn().unwrap().contains(REGION));
        }
        second.stop().await.unwrap();
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["secrets.json"]);
    }

    #[tokio::test]
    async fn snapshot_contains_all_parallel_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.json");
        let server = EmbeddedSecrets::start(Some(path.clone()), REGION).await.unwrap();
        let client = clients::secrets_manager(server.url());
        let calls = (0..20).map(|n| client.create_secret().name(format!("s{n}")).secret_string("v").send());
        for created in futures_util::future::join_all(calls).await {
            created.unwrap();
        }
        let view: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(view["secrets"].as_object().unwrap().len(), 20);
    }

    #[tokio::test]
    async fn invalid_snapshot_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.json");
        std::fs::write(&path, "{").unwrap();
        let Err(error) = EmbeddedSecrets::start(Some(path.clone()), REGION).await else {
            panic!("started from a broken snapshot");
        };
        assert!(format!("{error:#}").contains("secrets.json"));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{");
    }

    #[tokio::test]
    async fn unknown_secret_gives_the_error_of_the_sdk() {
        let server = EmbeddedSecrets::start(None, REGION).await.unwrap();
        let error = clients::secrets_manager(server.url())
            .get_secret_value()
            .secret_id("nope")
            .send()
            .await
            .unwrap_err();
        assert!(error.into_service_error().is_resource_not_found_exception());
    }
}
