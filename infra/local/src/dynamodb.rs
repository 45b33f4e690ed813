//! DynamoDB inside this process: `dynoxide`, an implementation of the wire protocol over SQLite.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
pub use dynoxide::{AttributeValue as EmbeddedValue, Item};
use dynoxide::{Database, ImportOptions};

use crate::server::Server;

/// Storage of the tables.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Lost when the server ends.
    Memory,
    /// SQLite file, which is created if it is missing. Its data survives restarts.
    File(PathBuf),
    /// Copy of a SQLite file in memory. The file does not change and is not needed after the start.
    CopyOf(PathBuf),
}

/// Running DynamoDB endpoint on a free loopback port. It ends when dropped.
///
/// Start it inside a tokio runtime. One process can run any number of them.
pub struct EmbeddedDynamo {
    server: Server,
    database: Database,
}

impl EmbeddedDynamo {
    /// # Errors
    /// When the file cannot be opened or no port is free.
    pub async fn start(storage: Storage) -> Result<Self> {
        let database = open(&storage)?;
        let tables = database.clone();
        let server = Server::start(|listener, stopped| async move {
            let served = dynoxide::server::serve_with_shutdown(listener, tables, stopped.wait()).await;
            if let Err(error) = served {
                crate::ui::to_stderr(&format!("the embedded DynamoDB failed: {error}"));
            }
        })
        .await
        .context("cannot start the embedded DynamoDB")?;
        Ok(Self { server, database })
    }

    /// Endpoint: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Writes items without requests, also to the indexes of the table. The stream does not contain them.
    ///
    /// # Errors
    /// When an item is invalid. No item is written then.
    pub fn import(&self, table: &str, items: Vec<Item>) -> Result<()> {
        self.database.import_items(table, items, ImportOptions::default())?;
        Ok(())
    }

    /// Stops the server after the requests in progress, and closes the file.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn open(storage: &Storage) -> Result<Database> {
    match storage {
        Storage::Memory => Database::memory().context("cannot create an in-memory database"),
        Storage::CopyOf(path) => {
            let database = Database::memory().context("cannot create an in-memory database")?;
            let name = name(path)?;
            database.restore_from(name).with_context(|| format!("cannot copy the database {name}"))?;
            Ok(database)
        }
        Storage::File(path) => {
            let name = name(path)?;
            make_private_file(path)?;
            Database::new(name).with_context(|| format!("cannot open the database {name}"))
        }
    }
}

fn name(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))
}

/// Creates the file with a private mode. SQLite accepts an empty file as a new database, and gives
/// its journals the mode of that file.
fn make_private_file(path: &Path) -> Result<()> {
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clients, table};
    use aws_sdk_dynamodb::types::AttributeValue;

    async fn put(client: &aws_sdk_dynamodb::Client, pk: &str) {
        client
            .put_item()
            .table_name("table")
            .item("pk", AttributeValue::S(pk.into()))
            .item("sk", AttributeValue::S("x".into()))
            .send()
            .await
            .unwrap();
    }

    async fn count(client: &aws_sdk_dynamodb::Client) -> i32 {
        client.scan().table_name("table").send().await.unwrap().count()
    }

    #[tokio::test]
    async fn memory_servers_do_not_share_data() {
        let one = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let two = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        assert_ne!(one.url(), two.url());
        let (one_client, two_client) = (clients::dynamodb(one.url()), clients::dynamodb(two.url()));
        table::create_if_missing(&one_client, "table").await.unwrap();
        table::create_if_missing(&two_client, "table").await.unwrap();
        put(&one_client, "a").await;
        assert_eq!(count(&one_client).await, 1);
        assert_eq!(count(&two_client).await, 0);
    }

    #[tokio::test]
    async fn file_storage_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::File(folder.path().join("dynamodb.sqlite"));

        let first = EmbeddedDynamo::start(storage.clone()).await.unwrap();
        let client = clients::dynamodb(first.url());
        table::create_if_missing(&client, "table").await.unwrap();
        put(&client, "a").await;
        first.stop().await;

        let second = EmbeddedDynamo::start(storage).await.unwrap();
        let client = clients::dynamodb(second.url());
        table::create_if_missing(&client, "table").await.unwrap();
        assert_eq!(count(&client).await, 1);
    }

    #[tokio::test]
    async fn stopped_server_accepts_no_connection() {
        let server = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let address = server.url().trim_start_matches("http://").to_owned();
        server.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
