//! Retirement of versions of a secret while Secrets Manager returns earlier stages, or the current version is invalid
//! (docs/design/security.md#rule-18).

use doorward::domain::TenantId;
use e2e::{
    NORDIC,
    fault_proxy::{Effect, Fault, Operation},
};
use serde_json::json;

use crate::{Done, Stack};

const ROTATE: [&str; 6] = ["--json", "tenant", "secret", "rotate", NORDIC, "--yes"];
const RETIRE: [&str; 6] = ["--json", "tenant", "secret", "retire", NORDIC, "--yes"];

impl Stack {
    /// A local stack whose Secrets Manager is behind the fault proxy.
    async fn with_faulty_secrets() -> Self {
        let stack = Self::start().await;
        let file = stack.path("stack.json");
        let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        text["secretsManagerUrl"] = json!(stack.world.secret_faults.url());
        std::fs::write(file, text.to_string()).unwrap();
        stack
    }

    /// Version in the tenant's record, and the published versions.
    async fn known_versions(&self) -> (String, String, Option<String>) {
        let id = TenantId::parse(NORDIC).unwrap();
        let tenant = self.world.store.tenant(&id).await.unwrap().unwrap();
        let stored = self.world.store.published_keys(&id).await.unwrap().unwrap();
        (tenant.active_secret.unwrap().version, stored.keys.version, stored.keys.previous)
    }
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn leaked_secret_is_retired_while_secrets_manager_returns_earlier_stages() {
    let stack = Stack::with_faulty_secrets().await;
    let earlier = Fault::on(Operation::DescribeSecret, Effect::AnswerEarlier).nth(2).always();
    stack.world.secret_faults.inject(earlier);
    let leaked: Vec<_> = ROTATE.into_iter().chain(["--leaked"]).collect();
    let made = stack.run(&leaked).await.succeeded().json();
    assert!(
        stack.world.secret_version(NORDIC, "AWSPREVIOUS").await.is_err(),
        "the leaked version is retired"
    );
    let version = made["version"].as_str().unwrap().to_owned();
    assert_eq!(stack.known_versions().await, (version.clone(), version, None));
}

// docs/design/security.md#rule-18
#[tokio::test]
async fn retirement_after_a_rotation_ignores_earlier_stages() {
    let stack = Stack::with_faulty_secrets().await;
    let earlier = || Fault::on(Operation::DescribeSecret, Effect::AnswerEarlier).nth(2).always();
    stack.world.secret_faults.inject(earlier());
    let made = stack.run(&ROTATE).await.succeeded().json();
    let old = stack.world.secret_version(NORDIC, "AWSPREVIOUS").await.unwrap();
    let version = made["version"].as_str().unwrap().to_owned();
    assert_eq!(stack.known_versions().await, (version.clone(), version.clone(), Some(old.clone())));
    // The first call after the rotation gets the earlier stages too.
    stack.world.secret_faults.clear();
    stack.world.secret_faults.inject(earlier().nth(1));
    let retired = stack.run(&RETIRE).await.succeeded().json();
    assert_eq!(retired["retired"], json!(old));
    assert!(stack.world.secret_version(NORDIC, "AWSPREVIOUS").await.is_err());
    assert_eq!(stack.known_versions().await, (version.clone(), version, None));
}

// docs/design/security.md#rule-18: the credentials of the previous version may have leaked.
#[tokio::test]
async fn previous_version_is_retired_although_the_current_one_is_invalid() {
    let stack = Stack::start().await;
    let good = stack.world.secret_document(NORDIC).await.unwrap();
    stack.world.put_secret(NORDIC, &json!("not a document"), "AWSCURRENT").await.unwrap();
    assert!(stack.world.secret_version(NORDIC, "AWSPREVIOUS").await.is_ok());
    let reported = |done: Done| {
        assert!(done.code == 1 && done.stderr.contains("no previous version"), "{done:?}");
        assert!(done.stderr.contains("5 min") && done.stderr.contains("retire` again"), "{done:?}");
    };
    for _ in 0..2 {
        reported(stack.run(&RETIRE).await);
        assert!(stack.world.secret_version(NORDIC, "AWSPREVIOUS").await.is_err());
    }
    let corrected = stack.world.put_secret(NORDIC, &good, "AWSCURRENT").await.unwrap();
    stack.run(&RETIRE).await.succeeded();
    assert_eq!(stack.known_versions().await, (corrected.clone(), corrected, None));
}
