//! Doorward in one process: the functions' own code and the real AWS SDK, over an embedded DynamoDB, an
//! embedded Secrets Manager and a clock that tests set.

mod items;
mod requests;
mod template;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow};
use doorward::{
    domain::HashCost,
    function::{
        SystemEntropy,
        audit_log::Anchoring,
        authorizer::Authorizer,
        http::{App, Body},
        stream::Deliveries,
    },
    route::Function,
    secrets::SecretsManager,
    store::DynamoStore,
    usecase::{Service, anchor_audit::Anchorer},
};
use local::{SECRET_PREFIX, TABLE, clients, dynamodb::EmbeddedDynamo, secrets::EmbeddedSecrets};
use tempfile::TempDir;

use self::template::Seeded;

use crate::{
    Actor, Answer, CHEAP, CountedPasswords, PUBLIC_URL, TestClock,
    audit::{self, AuditLog},
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
    authorizer: Authorizer,
    apps: HashMap<Function, App>,
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
        let service = service(&store, &counted_secrets, &passwords, &clock);
        let apps = functions(&service, &clock, &audit)?;
        let authorizer = Authorizer::new(service, audit::audit(&audit, &*clock)?);
        let courier = Arc::new(RecordingCourier::default());
        let delivery = delivery::deliveries(&store, &secrets_client, courier.clone(), &clock, &audit)?;
        let anchoring = Anchoring::new(Arc::new(Anchorer::new(store.clone(), clock.clone())));
        let embedded = Mutex::new(Some(embedded));
        Ok(Self {
            courier,
            audit,
            delivery,
            anchoring,
            authorizer,
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
            apps,
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
        let service = service(&self.store, &self.counted_secrets, &self.passwords, &self.clock);
        let mut others = functions(&service, &self.clock, &self.audit)?;
        self.apps.extend(others.remove_entry(&function));
        if function == Function::Authorize {
            self.authorizer = Authorizer::new(service, audit::audit(&self.audit, &*self.clock)?);
        }
        Ok(())
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
        let app = self.apps.get(&function).context("the function serves no requests")?;
        // On the heap, because a test that sends many events would overflow its stack.
        let response = Box::pin(app.answer(event)).await;
        let bytes = match response.body {
            Some(Body::Text(text)) => text.into_bytes(),
            Some(Body::Binary(bytes)) => bytes,
            _ => Vec::new(),
        };
        let answer = Answer::new(response.status_code, response.headers, bytes)?;
        Ok(Answer { cookies: response.cookies, ..answer })
    }
}

/// The service that all functions share.
fn service(
    store: &Arc<DynamoStore>,
    secrets: &aws_sdk_secretsmanager::Client,
    passwords: &Arc<CountedPasswords>,
    clock: &Arc<TestClock>,
) -> Arc<Service> {
    let source = SecretsManager::new(secrets.clone(), SECRET_PREFIX.to_owned());
    let entropy = Arc::new(SystemEntropy);
    Arc::new(Service::new(store.clone(), Arc::new(source), passwords.clone(), clock.clone(), entropy))
}

/// One instance of every function.
fn functions(
    service: &Arc<Service>,
    clock: &Arc<TestClock>,
    log: &Arc<AuditLog>,
) -> Result<HashMap<Function, App>> {
    let app = |function| {
        let audit = audit::audit(log, &**clock)?;
        let app = App::new(function, function.routes(), Arc::clone(service), audit)
            .and_then(|app| app.with_public_url(PUBLIC_URL));
        Ok((function, app.map_err(|error| anyhow!("{error}"))?))
    };
    Function::all().map(app).collect()
}
