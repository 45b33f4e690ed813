//! Runs `doorwardctl tenant …` against embedded services, from the creation of a tenant to its deletion.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use aws_sdk_dynamodb::types::AttributeValue;
use local::{
    REGION, SECRET_PREFIX, TABLE, clients,
    dynamodb::{EmbeddedDynamo, Storage},
    secrets::EmbeddedSecrets,
    table,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const TENANT: &str = "tenant_new";

/// An empty table and Secrets Manager, and the stack file that selects them.
struct EmptyStack {
    dynamodb: aws_sdk_dynamodb::Client,
    secrets: aws_sdk_secretsmanager::Client,
    file: PathBuf,
    _folder: TempDir,
    _services: (EmbeddedDynamo, EmbeddedSecrets),
}

/// Exit code and output of a finished command.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Asserts success and parses stdout as JSON.
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl EmptyStack {
    async fn start() -> Self {
        let services = (
            EmbeddedDynamo::start(Storage::Memory).await.unwrap(),
            EmbeddedSecrets::start(None, REGION).await.unwrap(),
        );
        let (dynamodb, secrets) =
            (clients::dynamodb(services.0.url()), clients::secrets_manager(services.1.url()));
        table::create_if_missing(&dynamodb, TABLE).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.json");
        let stack = json!({
            "dynamodbUrl": services.0.url(),
            "secretsManagerUrl": services.1.url(),
            "region": REGION,
            "table": TABLE,
            "auditFile": folder.path().join("audit.log"),
        });
        std::fs::write(&file, stack.to_string()).unwrap();
        Self { dynamodb, secrets, file, _folder: folder, _services: services }
    }

    /// Runs the command with arguments separated by blanks and without a terminal.
    async fn call(&self, line: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorwardctl"));
        command.args(line.split(' ')).arg(format!("--local={}", self.file.display())).stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        let Output { status, stdout, stderr } = done.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    async fn document(&self) -> Value {
        let found = self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{TENANT}"));
        serde_json::from_str(found.send().await.unwrap().secret_string().unwrap()).unwrap()
    }
}

fn pair(result: &Value) -> [String; 2] {
    ["tenantKey", "tenantSecret"].map(|name| result[name].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_shown_only_by_the_command_that_creates_them() {
    let stack = EmptyStack::start().await;
    let create = format!("--json tenant create {TENANT} --name New --algorithm EdDSA --set grace_seconds=7");
    let created = stack.call(&create).await;
    let first = pair(&created.json());
    assert_eq!(created.stderr, "");
    assert_eq!(pair(&stack.document().await), first);
    let shown = stack.call(&format!("--json tenant show {TENANT}")).await.json();
    assert_eq!(shown["set"], json!({ "algorithm": "EdDSA", "grace_seconds": 7 }));
    assert_eq!((&shown["name"], &shown["status"]), (&json!("New"), &json!("ACTIVE")));

    let again = stack.call(&create).await;
    assert_eq!((again.code, again.stdout.as_str()), (1, ""));
    assert!(again.stderr.contains("already"), "{}", again.stderr);
    assert_eq!(pair(&stack.document().await), first, "a failed call changes nothing");

    let rotated = stack.call(&format!("--json tenant secret rotate {TENANT}")).await;
    let second = pair(&rotated.json());
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);
    for line in ["root-key rotate", "signing-key rotate", "signing-key rotate --algorithm RS256"] {
        let done = stack.call(&format!("--json tenant {line} {TENANT}")).await;
        done.json();
        for secret in first.iter().chain(&second) {
            assert!(!done.stdout.contains(secret.as_str()), "{line} shows credentials");
        }
    }
    let document = stack.document().await;
    assert_eq!(pair(&document), second);
    assert_eq!(document["rootKeys"].as_array().unwrap().len(), 2);
    assert!(stack.call(&format!("tenant update {TENANT} --set algorithm=RS256")).await.code == 0);
    let keyless = stack.call(&format!("tenant update {TENANT} --set algorithm=ES256")).await;
    assert!(keyless.code == 1 && keyless.stderr.contains("signing-key rotate"), "{}", keyless.stderr);

    // Destructive commands need a confirmation, and stdin is not a terminal.
    for line in [
        format!("tenant secret retire {TENANT}"),
        format!("tenant secret rotate {TENANT} --leaked"),
        format!("tenant delete {TENANT}"),
    ] {
        let asked = stack.call(&line).await;
        assert_eq!(asked.code, 2, "{line}: {}{}", asked.stdout, asked.stderr);
        assert!(asked.stderr.contains("--yes"), "{line}: {}", asked.stderr);
    }
    let retired = stack.call(&format!("--json tenant secret retire {TENANT} --yes")).await.json();
    assert_eq!(retired["changed"], true);
    let retired = stack.call(&format!("--json tenant secret retire {TENANT} --yes")).await.json();
    assert_eq!(retired["changed"], false);
    let leaked =
        pair(&stack.call(&format!("--json tenant secret rotate {TENANT} --leaked --yes")).await.json());
    assert!(leaked[0] != second[0] && leaked[1] != second[1]);
    let versions = stack.call(&format!("--json tenant secret-usage {TENANT}")).await.json();
    let open = versions["versions"].as_array().unwrap().iter();
    let open = open.filter(|version| !version["stages"].as_array().unwrap().is_empty()).count();
    assert_eq!(open, 1, "{versions}");

    let active = stack.call(&format!("tenant delete {TENANT} --yes")).await;
    assert!(active.code == 1 && active.stderr.contains("suspend"), "{}", active.stderr);
    stack.call(&format!("tenant suspend {TENANT} --yes")).await;
    let deleted = stack.call(&format!("--json tenant delete {TENANT} --yes")).await.json();
    assert_eq!((&deleted["changed"], &deleted["secretRecoveryDays"]), (&json!(true), &json!(30)));
    let deleted = stack.call(&format!("--json tenant delete {TENANT} --yes")).await.json();
    assert_eq!(deleted["changed"], false);
    let waits = stack.call(&create).await;
    assert!(waits.code == 1 && waits.stderr.contains("restore"), "{}", waits.stderr);
}

// After an interruption between the secret and the record, `--replace-secret` replaces the secret.
// Without the option the secret is kept, because it could belong to another stack.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_tenant_creation_is_completed_with_replace_secret() {
    let stack = EmptyStack::start().await;
    // Deletes the record, which leaves the state of an interrupted call.
    let first = pair(&stack.call(&format!("--json tenant create {TENANT}")).await.json());
    let key = |part: &str| AttributeValue::S(part.to_owned());
    let delete = stack.dynamodb.delete_item().table_name(TABLE).key("pk", key(&format!("T#{TENANT}")));
    delete.key("sk", key("TENANT")).send().await.unwrap();
    let list = stack.call("--json tenant list").await.json();
    assert_eq!(list, json!([]), "the tenant does not exist");

    let refused = stack.call(&format!("tenant create {TENANT}")).await;
    assert!(refused.code == 1 && refused.stderr.contains("--replace-secret"), "{}", refused.stderr);
    let deleted = stack.call(&format!("--json tenant delete {TENANT} --yes")).await.json();
    assert_eq!(deleted["changed"], false, "the table does not contain the tenant");
    assert_eq!(pair(&stack.document().await), first);
    let create = format!("--json tenant create {TENANT} --replace-secret --yes");
    let second = pair(&stack.call(&create).await.json());
    assert!(first[0] != second[0] && first[1] != second[1], "the old credentials are replaced");
    assert_eq!(pair(&stack.document().await), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_tenant_arguments_create_nothing() {
    let stack = EmptyStack::start().await;
    for (line, code, says) in [
        ("tenant create t --set grace_seconds=301 --set nonsense=1", 1, "grace_seconds"),
        ("tenant create t --set algorithm=HS256", 2, "--algorithm"),
        ("tenant create t --algorithm none", 2, "one of ES256"),
        ("tenant create not/a/tenant", 2, "invalid value"),
        ("tenant secret rotate missing", 1, "does not exist"),
        ("tenant signing-key rotate missing --algorithm HS256", 2, "root-key"),
        ("tenant delete t --yes --recovery-days 3", 2, "7..=30"),
        ("session list t missing", 1, "tenant t does not exist"),
    ] {
        let refused = stack.call(line).await;
        assert_eq!(refused.code, code, "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{line}: {}", refused.stderr);
    }
    let made = stack.secrets.list_secrets().send().await.unwrap();
    assert!(made.secret_list().is_empty());
}
