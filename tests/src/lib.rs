//! A whole Doorward in one process: the functions' own code, the real SDK, an embedded DynamoDB and
//! Secrets Manager, and a clock that tests set.

#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

pub mod api;
pub mod audit;
pub mod calls;
pub mod delivery;
pub mod emulator;
pub mod permissions;
pub mod rotation;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use audit::AuditLog;
use calls::Calls;
use delivery::RecordingCourier;
use doorward::{
    authorizer::{Authorizer, Undecided},
    domain::{
        Failure, HashCost, Notification, Password, PasswordHash, Policy, SessionId, Tenant, TenantId, User,
        UserId,
    },
    password::Argon2id,
    port::{Clock, Passwords},
    route::{Function, Router},
    runtime::{App, SystemEntropy},
    secrets::{SecretDocument, SecretsManager},
    store::DynamoStore,
    stream::Deliveries,
    subscription::Anchoring,
    token::TenantKeys,
    usecase::{Service, anchor_audit::Anchorer},
};
use http::Method;
use jiff::Timestamp;
use local::{
    REGION, SECRET_PREFIX, TABLE, clients,
    demo::{self, SeedContext},
    dynamodb::{EmbeddedDynamo, Storage},
    secrets::EmbeddedSecrets,
    table,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// Hashing in tests costs next to nothing; the default's cost is measured by the benchmarks.
pub const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

/// The demo tenant that most tests are about.
pub const NORDIC: &str = "97e7ff29-15f3-49ef-9681-3bbfcce4f6cd";
/// Where people reach the functions.
pub const PUBLIC_URL: &str = "https://login.example.com";

/// A time that only tests move.
pub struct TestClock(AtomicI64);

impl TestClock {
    /// Sets it.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millisecond(), Ordering::SeqCst);
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}

/// Hashes, counts what is verified, and can be made to wait in between.
pub struct CountedPasswords {
    inner: Argon2id,
    verified: AtomicUsize,
    gate: tokio::sync::watch::Sender<bool>,
    broken: AtomicBool,
    skips_unknown: AtomicBool,
}

impl CountedPasswords {
    /// Makes it hash nothing for users that do not exist, or no longer: what a bench of time must
    /// notice.
    pub fn set_skips_unknown(&self, skips: bool) {
        self.skips_unknown.store(skips, Ordering::SeqCst);
    }

    /// Makes all hashing that begins now fail for no fault of the caller, or no longer.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Waits until more than that many passwords were verified.
    ///
    /// # Panics
    /// When none is within 30 s.
    pub async fn until_more_than(&self, before: usize) {
        let more = async {
            while self.verified() <= before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), more).await.unwrap();
    }

    /// How many passwords were verified so far, right or wrong.
    pub fn verified(&self) -> usize {
        self.verified.load(Ordering::SeqCst)
    }

    /// Holds every verification, done but not answered, until [`Self::open`].
    pub fn close(&self) {
        self.gate.send_replace(false);
    }

    /// Lets them go on.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }
}

#[async_trait]
impl Passwords for CountedPasswords {
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        cost: HashCost,
    ) -> Result<bool, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::Internal("told to fail".into()));
        }
        if hash.is_none() && self.skips_unknown.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let answer = self.inner.verify(password, hash, cost).await;
        self.verified.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.gate.subscribe();
        gate.wait_for(|open| *open).await.map_err(|closed| Failure::Internal(Box::new(closed)))?;
        answer
    }

    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::Internal("told to fail".into()));
        }
        self.inner.hash(password, cost).await
    }

    fn is_current(&self, hash: &PasswordHash, cost: HashCost) -> bool {
        self.inner.is_current(hash, cost)
    }
}

/// Doorward and what it stands on.
pub struct World {
    /// The time.
    pub clock: Arc<TestClock>,
    /// The hasher.
    pub passwords: Arc<CountedPasswords>,
    /// The store, as the functions use it.
    pub store: Arc<DynamoStore>,
    /// What the store asked of the table.
    pub calls: Calls,
    /// What the functions asked of Secrets Manager.
    pub secret_calls: Calls,
    /// The table, for looking behind the scenes.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Where the table is.
    pub dynamodb_url: String,
    /// Where the tenants' secrets are.
    pub secrets_url: String,
    /// The tenants' secrets.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// What the demo data is.
    pub tenants: Vec<local::stack::Tenant>,
    /// What carries messages to people.
    pub courier: Arc<RecordingCourier>,
    /// What the functions told in the audit log.
    pub audit: Arc<AuditLog>,
    counted_secrets: aws_sdk_secretsmanager::Client,
    delivery: Deliveries,
    anchoring: Anchoring,
    authorizer: Authorizer,
    apps: HashMap<Function, App>,
    embedded: std::sync::Mutex<Option<EmbeddedDynamo>>,
    _secrets: EmbeddedSecrets,
}

/// An answer, as API Gateway gets it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: i64,
    /// Headers.
    pub headers: http::HeaderMap,
    /// `Set-Cookie` values.
    pub cookies: Vec<String>,
    /// The body.
    pub bytes: Vec<u8>,
    /// The body's text, where it is one.
    pub text: String,
    /// The body, where it is JSON, or null.
    pub body: Value,
}

impl Answer {
    /// An answer with that body.
    ///
    /// # Errors
    /// When it says that it is JSON, and is not.
    pub fn new(status: i64, headers: http::HeaderMap, bytes: Vec<u8>) -> Result<Self> {
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json =
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
        let body = if is_json { serde_json::from_slice(&bytes)? } else { Value::Null };
        let text = String::from_utf8(bytes.clone()).unwrap_or_default();
        Ok(Self { status, headers, cookies: Vec::new(), bytes, text, body })
    }

    /// Status and `errorType`, for comparing at a glance.
    pub fn verdict(&self) -> (i64, &str) {
        (self.status, self.body["data"]["errorType"].as_str().unwrap_or_default())
    }

    /// A string of `data`.
    pub fn data(&self, name: &str) -> &str {
        self.body["data"][name].as_str().unwrap_or_default()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Somebody who can log in.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Its tenant.
    pub tenant: local::stack::Tenant,
    /// It.
    pub user: local::stack::User,
    /// The customer collection that it logs in through, if it is a customer's.
    pub collection: String,
}

impl Actor {
    /// Where its sessions are.
    pub fn sessions(&self) -> String {
        match &self.user.customer_id {
            Some(customer) => {
                format!(
                    "/api/v2.1/customer/{}/{customer}/users/{}/sessions",
                    self.collection, self.user.user_id
                )
            }
            None => format!(
                "/api/v2.1/admin/organization/{}/users/{}/sessions",
                self.user.organization_id, self.user.user_id
            ),
        }
    }

    /// What it logs in with.
    pub fn credentials(&self, password: &str) -> Value {
        json!({
            "username": self.user.username,
            "password": password,
            "tenantKey": self.tenant.tenant_key,
            "tenantSecret": self.tenant.tenant_secret,
        })
    }
}

/// The user of that name among demo tenants.
///
/// # Errors
/// When there is none.
pub fn find_actor(tenants: &[local::stack::Tenant], username: &str) -> Result<Actor> {
    tenants
        .iter()
        .flat_map(|tenant| tenant.users.iter().map(move |user| (tenant, user)))
        .find(|(_, user)| user.username == username)
        .map(|(tenant, user)| Actor {
            tenant: tenant.clone(),
            user: user.clone(),
            collection: "individual".to_owned(),
        })
        .with_context(|| format!("no demo user {username}"))
}

/// A browser without scripts, at one tenant's hosted page.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// The page's path.
    pub path: String,
    /// What it sends as `Cookie`.
    pub cookie: Option<String>,
    /// What it sends besides: by default what a browser does under `no-referrer`.
    pub headers: Vec<(&'static str, String)>,
}

impl Visitor {
    /// One that has not been there yet.
    pub fn new(tenant: &str) -> Self {
        let headers = [("origin", "null"), ("sec-fetch-site", "same-origin")];
        Self {
            path: format!("/tenants/{tenant}/password/change"),
            cookie: None,
            headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        }
    }

    /// Opens the page with that query.
    ///
    /// # Errors
    /// As [`World::send`].
    pub async fn open(&mut self, world: &World, query: &str) -> Result<Answer> {
        self.ask(world, &Method::GET, query, None).await
    }

    /// Sends the form.
    ///
    /// # Errors
    /// As [`World::send`].
    pub async fn submit(&mut self, world: &World, fields: &[(&str, &str)]) -> Result<Answer> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
        self.ask(world, &Method::POST, "", Some(fields.collect::<Vec<_>>().join("&"))).await
    }

    /// Follows a link to the form, and takes its token.
    ///
    /// # Errors
    /// When there is no form.
    pub async fn follow(&mut self, world: &World, user: &str, code: Option<&str>) -> Result<String> {
        let user = utf8_percent_encode(user, NON_ALPHANUMERIC);
        let code = code.map_or_else(String::new, |code| format!("&code={code}"));
        self.open(world, &format!("userId={user}{code}")).await?;
        let form = self.open(world, "").await?;
        let token =
            form.text.split_once("name=\"token\" value=\"").and_then(|(_, rest)| rest.split_once('"'));
        Ok(token.with_context(|| format!("no form: {}", form.text))?.0.to_owned())
    }

    async fn ask(
        &mut self,
        world: &World,
        method: &Method,
        query: &str,
        body: Option<String>,
    ) -> Result<Answer> {
        let mut event = event(method, &self.path, "", None, None);
        event["rawQueryString"] = json!(query);
        event["cookies"] = json!(self.cookie.iter().collect::<Vec<_>>());
        let mut headers = json!({ "user-agent": "e2e/1.0" });
        if body.is_some() {
            headers["content-type"] = json!("application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            headers[*name] = json!(value);
        }
        event["headers"] = headers;
        event["body"] = json!(body);
        let answer = world.send(Function::PasswordPage, &event.to_string()).await?;
        if let Some(cookie) = answer.cookies.first().and_then(|set| set.split(';').next()) {
            self.cookie = (!cookie.ends_with('=')).then(|| cookie.to_owned());
        }
        Ok(answer)
    }
}

/// A session in somebody's hands.
#[derive(Debug, Clone)]
pub struct Login {
    /// Whose.
    pub actor: Actor,
    /// Its id.
    pub session: String,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh: String,
    /// Proof of its device; empty for one that a refresh granted.
    pub device_proof: String,
}

impl Login {
    /// Its own path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.actor.sessions(), self.session)
    }

    /// Where and how it is refreshed.
    pub fn refresh_route(&self) -> (Method, String) {
        match &self.actor.user.customer_id {
            Some(_) => (Method::PUT, self.path()),
            None => (Method::POST, format!("/api/v2.1/admin/sessions/{}/refresh", self.session)),
        }
    }

    /// Takes what an answer grants.
    ///
    /// # Errors
    /// When it grants nothing.
    pub fn from_answer(actor: &Actor, answer: &Answer) -> Result<Self> {
        let text = |name: &str| {
            let value = answer.data(name);
            (!value.is_empty()).then(|| value.to_owned()).ok_or_else(|| anyhow!("no {name} in {answer:?}"))
        };
        Ok(Self {
            actor: actor.clone(),
            session: text("sessionId")?,
            token: text("token")?,
            refresh: text("refreshToken")?,
            device_proof: answer.data("deviceProof").to_owned(),
        })
    }
}

impl World {
    /// Starts everything, with the demo tenants and cheap hashing.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(CHEAP).await
    }

    /// Starts everything, hashing at that cost.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_with(hash_cost: HashCost) -> Result<Self> {
        let embedded = EmbeddedDynamo::start(Storage::Memory).await?;
        let secrets = EmbeddedSecrets::start(None, REGION).await?;
        let dynamodb_url = embedded.url().to_owned();
        let dynamodb = clients::dynamodb(&dynamodb_url);
        let secrets_client = clients::secrets_manager(secrets.url());
        table::create_if_missing(&dynamodb, TABLE).await?;
        let context = SeedContext {
            dynamodb: dynamodb.clone(),
            secrets: secrets_client.clone(),
            table: TABLE.to_owned(),
            public_url: PUBLIC_URL.to_owned(),
            keep_credentials: false,
            hash_cost,
        };
        let seeded = demo::seed(&context).await?;
        let tenants = seeded
            .tenants
            .into_iter()
            .chain(seeded.showcases.into_iter().map(|(tenant, _)| tenant))
            .collect();
        // Far enough ahead that no TTL lies in the machine's past.
        let clock = Arc::new(TestClock(AtomicI64::new(1_900_000_000_974)));
        let passwords = Arc::new(CountedPasswords {
            inner: Argon2id::new(Arc::new(SystemEntropy), 512, 2),
            verified: AtomicUsize::new(0),
            gate: tokio::sync::watch::Sender::new(true),
            broken: AtomicBool::new(false),
            skips_unknown: AtomicBool::new(false),
        });
        let calls = Calls::default();
        let counted = dynamodb.config().to_builder().interceptor(calls.clone()).build();
        let counted = aws_sdk_dynamodb::Client::from_conf(counted);
        let store = Arc::new(DynamoStore::new(counted, TABLE.to_owned()));
        let audit = Arc::new(AuditLog::default());
        let secret_calls = Calls::default();
        let counted_secrets = secrets_client.config().to_builder().interceptor(secret_calls.clone()).build();
        let counted_secrets = aws_sdk_secretsmanager::Client::from_conf(counted_secrets);
        let service = service(&store, &counted_secrets, &passwords, &clock);
        let apps = functions(&service, &clock, &audit)?;
        let authorizer = Authorizer::new(service, audit::audit(&audit, &*clock)?);
        let courier = Arc::new(RecordingCourier::default());
        let delivery = delivery::deliveries(&store, &secrets_client, courier.clone(), &clock, &audit)?;
        let anchoring = Anchoring::new(Arc::new(Anchorer::new(store.clone(), clock.clone())));
        let embedded = std::sync::Mutex::new(Some(embedded));
        Ok(Self {
            courier,
            audit,
            delivery,
            anchoring,
            authorizer,
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
        })
    }

    /// Starts one function beside the others, as Lambda does: with caches of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_another(&mut self, function: Function) -> Result<()> {
        let service = service(&self.store, &self.counted_secrets, &self.passwords, &self.clock);
        let mut others = functions(&service, &self.clock, &self.audit)?;
        self.apps.extend(others.remove_entry(&function));
        if function == Function::Authorize {
            self.authorizer = Authorizer::new(service, audit::audit(&self.audit, &*self.clock)?);
        }
        Ok(())
    }

    /// Stops the embedded DynamoDB: from now on nobody answers there.
    pub async fn stop_dynamodb(&self) {
        let embedded = self.embedded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
    }

    /// The demo user of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn actor(&self, username: &str) -> Result<Actor> {
        find_actor(&self.tenants, username)
    }

    /// Sends a recorded event to a function.
    ///
    /// # Errors
    /// When the answer says that its body is JSON, and it is not.
    pub async fn send(&self, function: Function, event: &str) -> Result<Answer> {
        let app = self.apps.get(&function).context("no such function")?;
        // On the heap: a test that sends many would need all their room on its stack.
        let response = Box::pin(app.answer(event)).await;
        let bytes = match response.body {
            Some(doorward::runtime::Body::Text(text)) => text.into_bytes(),
            Some(doorward::runtime::Body::Binary(bytes)) => bytes,
            _ => Vec::new(),
        };
        let answer = Answer::new(response.status_code, response.headers, bytes)?;
        Ok(Answer { cookies: response.cookies, ..answer })
    }

    /// Sends a request to whichever function it is for.
    ///
    /// # Errors
    /// When no function has that route.
    pub async fn request(
        &self,
        method: &Method,
        path: &str,
        tenant: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let function = Function::ALL
            .into_iter()
            .find(|function| {
                let path = path.split('?').next().unwrap_or_default();
                Router::new(*function).is_ok_and(|router| router.find(method, path).is_some())
            })
            .with_context(|| format!("no function answers {method} {path}"))?;
        self.send(function, &event(method, path, tenant, bearer, body).to_string()).await
    }

    /// Logs in.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn login(&self, actor: &Actor) -> Result<Login> {
        Login::from_answer(actor, &self.try_login(actor, &actor.user.password).await?)
    }

    /// Tries to log in.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn try_login(&self, actor: &Actor, password: &str) -> Result<Answer> {
        let body = actor.credentials(password);
        self.request(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body)).await
    }

    /// Tries to log in from an address, with the proof of a device where there is one.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn try_login_from(
        &self,
        actor: &Actor,
        password: &str,
        ip: &str,
        device_proof: Option<&str>,
    ) -> Result<Answer> {
        let mut body = actor.credentials(password);
        if let Some(proof) = device_proof {
            body["deviceProof"] = json!(proof);
        }
        let mut event = event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body));
        event["requestContext"]["http"]["sourceIp"] = json!(ip);
        self.send(Function::CreateSession, &event.to_string()).await
    }

    /// Refreshes with the login's own tokens.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn refresh(&self, login: &Login) -> Result<Answer> {
        let (method, path) = login.refresh_route();
        let body = json!({ "refreshToken": login.refresh });
        self.request(&method, &path, &login.actor.tenant.tenant_id, Some(&login.token), Some(&body)).await
    }

    /// Refreshes, and takes what is granted.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn refreshed(&self, login: &Login) -> Result<Login> {
        Login::from_answer(&login.actor, &self.refresh(login).await?)
    }

    /// Logs out with the session's own token.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn logout(&self, login: &Login) -> Result<Answer> {
        let tenant = &login.actor.tenant.tenant_id;
        self.request(&Method::DELETE, &login.path(), tenant, Some(&login.token), None).await
    }

    /// Asks to change credentials of `user` with `by`'s token.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn update(&self, by: &Login, user: &str, body: &Value) -> Result<Answer> {
        let path = format!("/api/v2.1/admin/users/{user}/credentials");
        self.request(&Method::PUT, &path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body)).await
    }

    /// Resets a login with `by`'s token.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn reset(&self, by: &Login, body: &Value) -> Result<Answer> {
        let path = "/api/v2.1/admin/users/login/reset";
        self.request(&Method::POST, path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body)).await
    }

    /// Whether the login's token still opens something: an empty change of its own credentials.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn opens(&self, login: &Login) -> Result<bool> {
        Ok(self.update(login, &login.actor.user.user_id, &json!({})).await?.status == 200)
    }

    /// Whether API Gateway lets a call of somebody's API through, and what it tells that API.
    ///
    /// # Errors
    /// When the authorizer cannot tell.
    pub async fn authorize(&self, event: &Value) -> Result<Value, Undecided> {
        Box::pin(self.authorizer.answer(&event.to_string())).await
    }

    /// Whether the login's token opens somebody's API.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub async fn passes(&self, login: &Login) -> Result<bool, Undecided> {
        Ok(self.authorize(&authorizer_event(Some(&login.token))).await?["isAuthorized"] == true)
    }

    /// Suspends a tenant or opens it, for one network or all, and waits until that holds.
    ///
    /// # Errors
    /// When there is no such tenant, or `admits` is no network.
    pub async fn change_tenant(&self, tenant: &str, suspended: bool, admits: Option<&str>) -> Result<()> {
        use doorward::domain::TenantStatus;
        let networks = admits.map(str::parse).transpose()?;
        self.replace_tenant(tenant, |record| {
            record.status = if suspended { TenantStatus::Suspended } else { TenantStatus::Active };
            record.policy.ip_allow = networks.into_iter().collect();
        })
        .await
    }

    /// Changes a tenant's policy, and waits until that holds.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub async fn change_policy(&self, tenant: &str, change: impl FnOnce(&mut Policy)) -> Result<()> {
        self.replace_tenant(tenant, |record| change(&mut record.policy)).await
    }

    async fn replace_tenant(&self, tenant: &str, change: impl FnOnce(&mut Tenant)) -> Result<()> {
        use doorward::port::Store;
        let known = self.store.tenant(&TenantId::parse(tenant)?).await?.context("no such tenant")?;
        let mut changed = known.clone();
        change(&mut changed);
        self.store.replace_tenant(&known, &changed).await?;
        self.clock.advance(Duration::from_secs(5));
        Ok(())
    }

    /// A user's item, as stored.
    ///
    /// # Errors
    /// When there is none.
    pub async fn user(&self, actor: &Actor) -> Result<User> {
        use doorward::port::Store;
        let (tenant, id) = (TenantId::parse(&actor.tenant.tenant_id)?, UserId::parse(&actor.user.user_id)?);
        self.store.user(&tenant, &id).await?.context("no such user")
    }

    /// Gives a user the hash of a password, as an import does.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn import_hash(&self, actor: &Actor, phc: &str) -> Result<()> {
        let user = self.user(actor).await?;
        let password = PasswordHash::from_phc(phc.to_owned());
        let imported = User { password, sequence: user.sequence + 1, ..user.clone() };
        Ok(self.store.replace_user(&user, &imported).await?)
    }

    /// Deletes a session's item, as TTL does after its life.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn forget(&self, login: &Login) -> Result<()> {
        use aws_sdk_dynamodb::types::AttributeValue;
        let Actor { tenant, user, .. } = &login.actor;
        self.dynamodb
            .delete_item()
            .table_name(TABLE)
            .key("pk", AttributeValue::S(format!("T#{}#U#{}", tenant.tenant_id, user.user_id)))
            .key("sk", AttributeValue::S(format!("S#{}", login.session)))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await?;
        Ok(())
    }

    /// The messages that wait in a user's outbox, oldest first, opened with the tenant's own key.
    ///
    /// # Errors
    /// When one of them does not open.
    pub async fn outbox(&self, tenant: &str, user: &str) -> Result<Vec<Notification>> {
        use doorward::port::Store;
        let keys = self.keys(tenant).await?;
        let mut messages = Vec::new();
        for key in self.outbox_keys(tenant, user).await? {
            let sealed = self.store.outbox(&key).await?.sealed.context("gone meanwhile")?;
            messages.push(keys.open_notification(&sealed).map_err(|failure| anyhow!("{failure}"))?);
        }
        Ok(messages)
    }

    /// The newest reset code in a user's outbox.
    ///
    /// # Errors
    /// When there is none.
    pub async fn newest_code(&self, tenant: &str, user: &str) -> Result<String> {
        let messages = self.outbox(tenant, user).await?;
        let codes = messages.into_iter().filter_map(|message| match message {
            Notification::ResetCode(message) => Some(message),
            _ => None,
        });
        let newest = codes.max_by_key(|message| message.id).context("no code in the outbox")?;
        Ok(newest.code.expose().to_owned())
    }

    /// A tenant's keys, as its functions derive them.
    ///
    /// # Errors
    /// When its secret is not there or unusable.
    pub async fn keys(&self, tenant: &str) -> Result<TenantKeys> {
        let secret =
            self.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{tenant}")).send().await?;
        let document = SecretDocument::parse(&secret.secret_string.unwrap_or_default().into())?;
        Ok(TenantKeys::from_documents(&TenantId::parse(tenant)?, &[document])?)
    }

    /// A session's item, as stored.
    ///
    /// # Errors
    /// When there is none.
    pub async fn session(&self, login: &Login) -> Result<doorward::domain::Session> {
        use doorward::port::{CodeIs, Store};
        let tenant = TenantId::parse(&login.actor.tenant.tenant_id)?;
        let (user, session) = (UserId::parse(&login.actor.user.user_id)?, SessionId::parse(&login.session)?);
        self.store
            .caller(&tenant, (&user, &session), None, CodeIs::Unwanted)
            .await?
            .session
            .context("no such session")
    }
}

/// What every function works with.
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

/// The functions over one service.
fn functions(
    service: &Arc<Service>,
    clock: &Arc<TestClock>,
    log: &Arc<AuditLog>,
) -> Result<HashMap<Function, App>> {
    let app = |function| {
        let audit = audit::audit(log, &**clock)?;
        let app =
            App::new(function, Arc::clone(service), audit).and_then(|app| app.with_public_url(PUBLIC_URL));
        Ok((function, app.map_err(|error| anyhow!("{error}"))?))
    };
    Function::ALL.into_iter().map(app).collect()
}

/// An event as the tenant itself sends it, by what proves that it is.
#[must_use]
pub fn as_tenant(mut event: Value) -> Value {
    event["headers"]["x-tenant-key"] = json!(demo::TENANT_KEY);
    event["headers"]["x-tenant-secret"] = json!(demo::TENANT_SECRET);
    event
}

/// An API Gateway event, payload 2.0, as a backend's call arrives. `path` may have a query.
pub fn event(method: &Method, path: &str, tenant: &str, bearer: Option<&str>, body: Option<&Value>) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers =
        json!({ "user-agent": "e2e/1.0", "x-tenant-id": tenant, "content-type": "application/json" });
    if let Some(token) = bearer {
        headers["authorization"] = json!(format!("Bearer {token}"));
    }
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "domainName": "localhost",
            "domainPrefix": "localhost",
            "http": {
                "method": method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "e2e/1.0",
            },
            "requestId": "e2e-request",
            "routeKey": "$default",
            "stage": "$default",
            "time": "13/Jan/2026:21:21:48 +0000",
            "timeEpoch": 1_768_339_308_974_i64,
        },
        "body": body.map(ToString::to_string),
        "isBase64Encoded": false,
    })
}

/// What API Gateway asks an authorizer of payload format 2.0 about a call of somebody's own API.
pub fn authorizer_event(bearer: Option<&str>) -> Value {
    let path = "/orders/17";
    let mut event = event(&Method::GET, path, "", bearer, None);
    let authorization = event["headers"]["authorization"].take();
    event["headers"] = json!({ "user-agent": "e2e/1.0" });
    if bearer.is_some() {
        event["identitySource"] = json!([authorization]);
        event["headers"]["authorization"] = authorization;
    }
    event["type"] = json!("REQUEST");
    event["routeKey"] = json!("GET /orders/{order}");
    event["routeArn"] = json!("arn:aws:execute-api:eu-central-1:123456789012:local/$default/GET/orders/17");
    event["pathParameters"] = json!({ "order": "17" });
    if let Some(event) = event.as_object_mut() {
        event.retain(|name, _| !["body", "isBase64Encoded"].contains(&name.as_str()));
    }
    event
}
