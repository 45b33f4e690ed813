//! `target/local/stack.json`: addresses and logins of the running stack, for other tools.

use std::{
    fs::{DirBuilder, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Running local stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// Address of the HTTP API: `http://127.0.0.1:PORT`.
    pub base_url: String,
    pub dynamodb_url: String,
    pub secrets_manager_url: String,
    /// Address of the mailbox page. `/api/messages` lists the messages as JSON.
    pub mailbox_url: String,
    /// Address of the page that shows the API and sends requests.
    pub api_page_url: String,
    /// Audit log of the functions, one event per line.
    pub audit_file: PathBuf,
    pub region: String,
    pub table: String,
    pub tenants: Vec<Tenant>,
}

/// Demo tenant with the credentials that its clients send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    pub tenant_id: String,
    pub tenant_key: String,
    pub tenant_secret: String,
    /// Signing algorithm, such as `HS256` or `ES256`.
    pub alg: String,
    pub users: Vec<User>,
}

/// Demo user with the password in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub user_id: String,
    pub username: String,
    pub password: String,
    pub email: String,
    pub roles: Vec<String>,
    pub organization_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
}

impl User {
    /// Checks whether the user may log in on the admin route.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == "ADMIN")
    }
}

impl Stack {
    /// # Errors
    /// When the file is missing or has another format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| {
            format!("cannot read {}; start `cargo dev` and wait until it is ready", path.display())
        })?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} does not describe a local stack", path.display()))
    }
}

/// The stack file. It is removed when this value is dropped.
#[derive(Debug)]
pub struct StackFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl StackFile {
    /// # Errors
    /// When the file cannot be written.
    pub fn write(path: &Path, stack: &Stack) -> Result<Self> {
        let mut text = serde_json::to_vec_pretty(stack)?;
        text.push(b'\n');
        write_private(path, &text)?;
        Ok(Self { path: path.to_owned(), text })
    }
}

impl Drop for StackFile {
    fn drop(&mut self) {
        // A stack on another port may have replaced the file.
        if std::fs::read(&self.path).is_ok_and(|text| text == self.text) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Replaces a file atomically. Only its owner can read it.
///
/// # Errors
/// When the folder is not writable.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let folder = path.parent().context("the path has no folder")?;
        make_private_dir(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Creates a folder and its missing parents, with access for their owner only.
pub(crate) fn make_private_dir(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(base_url: &str) -> Stack {
        Stack {
            base_url: base_url.into(),
            dynamodb_url: "http://127.0.0.1:1".into(),
            secrets_manager_url: "http://127.0.0.1:2".into(),
            mailbox_url: "http://127.0.0.1:3".into(),
            api_page_url: "http://127.0.0.1:4".into(),
            audit_file: "/data/audit.ndjson".into(),
            region: "us-east-1".into(),
            table: "doorward".into(),
            tenants: vec![Tenant {
                tenant_id: "t".into(),
                tenant_key: "k".into(),
                tenant_secret: "s".into(),
                alg: "ES256".into(),
                users: ["c1"]
                    .map(|customer| User {
                        user_id: "u".into(),
                        username: "n".into(),
                        password: "p".into(),
                        email: "e".into(),
                        roles: vec!["USER".into()],
                        organization_id: "o".into(),
                        customer_id: Some(customer.into()),
                    })
                    .into(),
            }],
        }
    }

    #[test]
    fn stack_file_has_the_documented_format() {
        let mut stack = stack("http://127.0.0.1:9000");
        let expected = serde_json::json!({
            "baseUrl": "http://127.0.0.1:9000",
            "dynamodbUrl": "http://127.0.0.1:1",
            "secretsManagerUrl": "http://127.0.0.1:2",
            "mailboxUrl": "http://127.0.0.1:3",
            "apiPageUrl": "http://127.0.0.1:4",
            "auditFile": "/data/audit.ndjson",
            "region": "us-east-1",
            "table": "doorward",
            "tenants": [{
                "tenantId": "t", "tenantKey": "k", "tenantSecret": "s", "alg": "ES256",
                "users": [{
                    "userId": "u", "username": "n", "password": "p", "email": "e",
                    "roles": ["USER"], "organizationId": "o", "customerId": "c1",
                }],
            }],
        });
        assert_eq!(serde_json::to_value(&stack).unwrap(), expected);

        stack.tenants[0].users[0].customer_id = None;
        let value = serde_json::to_value(&stack).unwrap();
        assert!(value["tenants"][0]["users"][0].get("customerId").is_none());
        assert_eq!(serde_json::from_value::<Stack>(value).unwrap(), stack);
    }

    #[test]
    fn stack_file_is_private_and_removed_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local/stack.json");
        let file = StackFile::write(&path, &stack("a")).unwrap();
        assert_eq!(Stack::read(&path).unwrap(), stack("a"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn stack_file_of_another_stack_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack.json");
        let first = StackFile::write(&path, &stack("a")).unwrap();
        let second = StackFile::write(&path, &stack("b")).unwrap();
        drop(first);
        assert_eq!(Stack::read(&path).unwrap(), stack("b"));
        drop(second);
        assert!(!path.exists());
    }
}
