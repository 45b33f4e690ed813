//! Doorward in one process: the functions' own code and the real AWS SDK, over an embedded DynamoDB, an
//! embedded Secrets Manager and a clock that tests set.

mod api_clients;
mod instance;
mod items;
mod requests;
mod template;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use doorward::{
    domain::HashCost,
    function::{audit_log::Anchoring, stream::Deliveries},
    route::Function,
    store::DynamoStore,
    usecase::anchor_audit::Anchorer,
};
use jiff::SignedDuration;
use local::{
    TABLE, clients,
    dynamodb::{EmbeddedDynamo, Item},
    secrets::EmbeddedSecrets,
};
use tempfile::TempDir;

pub use api_clients::{RegisteredClient, oauth_event};
pub use instance::Instance;

use self::{instance::Backend, template::Seeded};
use crate::{
    Actor, Answer, CHEAP, CountedPasswords, TestClock,
    audit::AuditLog,
    calls::Calls,
    delivery::{self, RecordingCourier},
    divided,
    fault_proxy::FaultProxy,
    find_actor,
};

/// Doorward and the services that it uses.
pub struct World {
    /// The clock of all functions.
    pub clock: Arc<TestClock>,
    /// The password hasher.
    pub passwords: Arc<CountedPasswords>,
    /// The store that the functions use.
    pub store: Arc<DynamoStore>,
    /// The functions' calls of DynamoDB.
    pub calls: Calls,
    /// The functions' calls of Secrets Manager.
    pub secret_calls: Calls,
    /// The proxy between the functions and DynamoDB.
    pub faults: FaultProxy,
    /// The proxy between the functions and Secrets Manager.
    pub secret_faults: FaultProxy,
    /// A DynamoDB client for reading and changing stored items directly, without the proxy.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Endpoint of DynamoDB, without the proxy.
    pub dynamodb_url: String,
    /// Endpoint of Secrets Manager, without the proxy.
    pub secrets_url: String,
    /// A Secrets Manager client without the proxy; its calls are not counted.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// The demo tenants, with their users and passwords.
    pub tenants: Vec<local::stack::Tenant>,
    /// The courier, which records messages instead of sending them.
    pub courier: Arc<RecordingCourier>,
    /// The audit log of all functions.
    pub audit: Arc<AuditLog>,
    pub(crate) counted_secrets: aws_sdk_secretsmanager::Client,
    pub(crate) delivery: Deliveries,
    pub(crate) anchoring: Anchoring,
    instance: Instance,
    embedded: Mutex<Option<EmbeddedDynamo>>,
    _secrets: EmbeddedSecrets,
    _folder: TempDir,
}

impl World {
    /// Starts Doorward with the demo tenants and cheap hashing.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(CHEAP).await
    }

    /// Starts Doorward with a hasher that divides the memory of every policy by `divisor`.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start_with(divisor: u32) -> Result<Self> {
        let hash_cost = divided(HashCost::default(), divisor);
        let Seeded { dynamodb: embedded, secrets, tenants, folder } = template::start(hash_cost).await?;
        let dynamodb_url = embedded.url().to_owned();
        let dynamodb = clients::dynamodb(&dynamodb_url);
        let secrets_client = clients::secrets_manager(secrets.url());
        // A date so late that no TTL of a test has passed by the machine's clock.
        let clock = Arc::new(TestClock::at(1_900_000_000_974));
        let passwords = Arc::new(CountedPasswords::new(divisor));
        let calls = Calls::default();
        let faults = FaultProxy::start(&dynamodb_url).await?;
        let counted = faults.dynamodb().config().to_builder().interceptor(calls.clone()).build();
        let counted = aws_sdk_dynamodb::Client::from_conf(counted);
        let store = Arc::new(DynamoStore::new(counted, TABLE.to_owned()));
        let audit = Arc::new(AuditLog::default());
        let secret_calls = Calls::default();
        let secret_faults = FaultProxy::start(secrets.url()).await?;
        let counted_secrets = secret_faults.secrets_manager().config().to_builder();
        let counted_secrets = counted_secrets.interceptor(secret_calls.clone()).build();
        let counted_secrets = aws_sdk_secretsmanager::Client::from_conf(counted_secrets);
        let backend =
            Backend { store: &store, secrets: &counted_secrets, passwords: &passwords, audit: &audit };
        let instance = Instance::start(&backend, &clock)?;
        let courier = Arc::new(RecordingCourier::default());
        let delivery = delivery::deliveries(&store, &secrets_client, courier.clone(), &clock, &audit)?;
        let anchoring = Anchoring::new(Arc::new(Anchorer::new(store.clone(), clock.clone())));
        let embedded = Mutex::new(Some(embedded));
        Ok(Self {
            courier,
            audit,
            delivery,
            anchoring,
            faults,
            secret_faults,
            dynamodb_url,
            secrets_url: secrets.url().to_owned(),
            secrets: secrets_client,
            counted_secrets,
            secret_calls,
            clock,
            passwords,
            store,
            calls,
            dynamodb,
            tenants,
            instance,
            embedded,
            _secrets: secrets,
            _folder: folder,
        })
    }

    /// Replaces one function by a new instance with empty caches, as Lambda does on a cold start.
    ///
    /// # Errors
    /// When the function does not start.
    pub fn start_another(&mut self, function: Function) -> Result<()> {
        let other = self.another_instance(SignedDuration::ZERO)?;
        self.instance.take(other, function);
        Ok(())
    }

    /// Starts another instance of every function, whose clock is fast by `skew`.
    ///
    /// # Errors
    /// When a function does not start.
    pub fn another_instance(&self, skew: SignedDuration) -> Result<Instance> {
        let backend = Backend {
            store: &self.store,
            secrets: &self.counted_secrets,
            passwords: &self.passwords,
            audit: &self.audit,
        };
        Instance::start(&backend, &Arc::new(self.clock.skewed(skew)))
    }

    /// Writes items directly into the embedded DynamoDB.
    ///
    /// # Errors
    /// When an item is invalid, or DynamoDB was stopped.
    pub fn import_items(&self, items: Vec<Item>) -> Result<()> {
        let embedded = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
        embedded.as_ref().context("the embedded DynamoDB was stopped")?.import(TABLE, items)
    }

    /// Stops the embedded DynamoDB, so that every later call fails.
    pub async fn stop_dynamodb(&self) {
        let embedded = self.embedded.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
    }

    /// Finds a demo user by username.
    ///
    /// # Errors
    /// When no tenant has that user.
    pub fn actor(&self, username: &str) -> Result<Actor> {
        find_actor(&self.tenants, username)
    }

    /// Sends an event to a function.
    ///
    /// # Errors
    /// When the response claims a JSON body and the body is not JSON.
    pub async fn send(&self, function: Function, event: &str) -> Result<Answer> {
        self.instance.send(function, event).await
    }
}
