//! The steps that set a recorded case up, and the values of its placeholders.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use doorward::{
    domain::{
        ApiClient, ClientScope, ClientStatus, LinkHost, OrganizationId, SessionLimit, WebOrigin, WhenFull,
    },
    route::Function,
    store::OutboxKey,
};
use e2e::{
    BROWSER_COOKIE, LINK_COOKIE, Login, RegisteredClient, Visitor, World,
    delivery::{Fate, batch},
};
use http::Method;
use serde_json::{Map, Value, json};

use super::recorded::{CourierFate, Dependency, PolicyChange, Status, Step, read};

/// A world in which a case is being set up.
pub(super) struct Setup<'a> {
    world: &'a World,
    function: Function,
    /// Text of the recorded file.
    text: &'a str,
    logins: BTreeMap<String, Login>,
    clients: BTreeMap<String, RegisteredClient>,
    pub(super) values: Values,
}

/// Values of the placeholders, by name.
pub(super) struct Values(pub(super) BTreeMap<String, String>);

impl Values {
    /// Replaces every `{{name}}`. A name that begins with a dot belongs to a link template and stays.
    pub(super) fn fill(&self, text: &str) -> Result<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").context("a placeholder is not closed")?;
            filled.push_str(before);
            if name.starts_with('.') {
                filled.extend(["{{", name, "}}"]);
            } else {
                let value = self.0.get(name).with_context(|| format!("{{{{{name}}}}} has no value"))?;
                filled.push_str(value);
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Replaces the placeholders in every text of a JSON value.
    pub(super) fn fill_value(&self, value: &Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.fill(&value.to_string())?)?)
    }

    fn set(&mut self, name: String, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    /// Sets `{{name.pk}}` and `{{name.sk}}`, the stream's keys of a message.
    fn set_message(&mut self, name: &str, key: &OutboxKey) {
        let record = &batch(std::slice::from_ref(key))["Records"][0]["dynamodb"]["Keys"];
        for part in ["pk", "sk"] {
            self.set(format!("{name}.{part}"), record[part]["S"].as_str().unwrap_or_default());
        }
    }
}

impl<'a> Setup<'a> {
    pub(super) fn new(world: &'a World, function: Function, text: &'a str) -> Self {
        let values = BTreeMap::from([
            ("demo.password".to_owned(), local::demo::PASSWORD.to_owned()),
            ("demo.tenantKey".to_owned(), local::demo::TENANT_KEY.to_owned()),
            ("demo.tenantSecret".to_owned(), local::demo::TENANT_SECRET.to_owned()),
            ("filler.64KiB".to_owned(), "x".repeat(64 * 1024)),
        ]);
        Self {
            world,
            function,
            text,
            logins: BTreeMap::new(),
            clients: BTreeMap::new(),
            values: Values(values),
        }
    }

    /// Takes the steps of `given` in order.
    pub(super) async fn take(&mut self, given: &[Value]) -> Result<()> {
        for step in given {
            let step = self.values.fill_value(step)?;
            self.step(read(&step)?).await.with_context(|| format!("given {step}"))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        let world = self.world;
        match step {
            Step::Login { login: username, name, collection } => {
                let mut actor = world.actor(&username)?;
                actor.collection = collection.unwrap_or(actor.collection);
                let login = world.login(&actor).await?;
                self.keep(name, login);
            }
            Step::Refresh { refresh, name, times } => {
                let mut login = self.login(&refresh)?;
                for _ in 0..times {
                    login = world.refreshed(&login).await?;
                }
                self.keep(name.unwrap_or(refresh), login);
            }
            Step::Logout { logout } => {
                ensure!(world.logout(&self.login(&logout)?).await?.status == 200, "the logout was rejected");
            }
            Step::Client { client, scopes, organization, name } => {
                self.register_client(&client, &scopes, organization.as_deref(), name).await?;
            }
            Step::DisableClient { disable_client } => self.disable_client(&disable_client).await?,
            Step::EndAll { end_all } => end_sessions(world, &self.login(&end_all)?).await?,
            Step::List { list, limit, name } => {
                let cursor = next_page(world, &self.login(&list)?, limit).await?;
                self.values.set(name, cursor);
            }
            Step::Forget { forget } => world.forget(&self.login(&forget)?).await?,
            Step::Fail { fail, times } => fail_logins(world, &fail, times).await?,
            Step::FailUpdate { fail_update, by, times } => {
                fail_updates(world, &fail_update, &self.login(&by)?, times).await?;
            }
            Step::FailCode { fail_code, times } => fail_codes(world, &fail_code, times).await?,
            Step::Reset { reset, by } => {
                let body = json!({ "userId": world.actor(&reset)?.user.user_id });
                let status = world.reset(&self.login(&by)?, &body).await?.status;
                ensure!(status == 200, "the login reset was rejected");
            }
            Step::Update { update, by, with } => {
                let user = world.actor(&update)?.user.user_id;
                let status = world.update(&self.login(&by)?, &user, &with).await?.status;
                ensure!(status == 200, "the update was rejected");
            }
            Step::Follow { follow, typing } => self.follow(&follow, typing).await?,
            Step::Ask { ask: username, name, by, times } => {
                let by = by.map(|by| self.login(&by)).transpose()?;
                for _ in 0..times {
                    self.values.set(name.clone(), ask(world, &username, by.as_ref()).await?);
                }
            }
            Step::Queue { queue, medium, name } => {
                let actor = world.actor(&queue)?;
                let (tenant, user) = (&actor.tenant.tenant_id, &actor.user.user_id);
                let queued = world.queue_code(tenant, user, medium.into(), None).await?;
                self.values.set_message(&name, &queued.key);
                self.values.set(format!("{name}.code"), queued.code.expose());
            }
            Step::Queued { queued, name } => {
                let actor = world.actor(&queued)?;
                let keys = world.outbox_keys(&actor.tenant.tenant_id, &actor.user.user_id).await?;
                self.values.set_message(&name, keys.last().context("the outbox is empty")?);
            }
            Step::Courier { courier } => world.courier.set_fate(match courier {
                CourierFate::Failed => Fate::Failed,
                CourierFate::Refused => Fate::Refused,
                CourierFate::Throttled => Fate::Throttled,
            }),
            Step::Advance { advance_milliseconds } => {
                world.clock.advance(Duration::from_millis(advance_milliseconds));
            }
            Step::Origin { names, tenant } => {
                let origin = WebOrigin::parse(&names)?;
                world.change_policy(&tenant, |policy| policy.cors_origins.push(origin)).await?;
            }
            Step::LinkHost { leads_to, tenant } => {
                let host = LinkHost::parse(&leads_to)?;
                world.change_policy(&tenant, |policy| policy.link_hosts.push(host)).await?;
            }
            Step::Tenant { tenant, status, admits } => {
                world.change_tenant(&tenant, status == Status::Suspended, admits.as_deref()).await?;
            }
            Step::Policy(change) => change_policy(world, change).await?,
            Step::Rotate { rotating, version, steps } => {
                world.switch_rotation_on(&rotating).await?;
                world.begin_rotation(&rotating, &version).await?;
                for step in steps {
                    world.rotation_step(step, &rotating, &version).await?;
                }
                self.values.set("secret.arn".to_owned(), world.secret_arn(&rotating).await?);
            }
            Step::Down { down: Dependency::Dynamodb } => world.stop_dynamodb().await,
            Step::Down { down: Dependency::Secrets } => world.secret_faults.set_down(true),
            Step::Down { down: Dependency::Hashing } => world.passwords.set_broken(true),
            Step::Send { send: _, with } => self.send_first(with).await?,
        }
        Ok(())
    }

    async fn disable_client(&self, name: &str) -> Result<()> {
        let client = self.clients.get(name).context("no earlier step registers it")?;
        let disabled = |client| ApiClient { status: ClientStatus::Disabled, ..client };
        self.world.change_client(client, disabled).await
    }

    /// Registers an API client and gets a token for it.
    async fn register_client(
        &mut self,
        tenant: &str,
        scopes: &[String],
        organization: Option<&str>,
        name: String,
    ) -> Result<()> {
        let scopes: Option<Vec<_>> = scopes.iter().map(|scope| ClientScope::from_name(scope)).collect();
        let organization = organization.map(OrganizationId::parse).transpose()?;
        let restrict = |client: &mut ApiClient| client.organization = organization;
        let scopes = scopes.context("a scope has an unknown name")?;
        let client = self.world.register_client(tenant, &scopes, restrict).await?;
        self.values.set(format!("{name}.token"), self.world.client_token(&client).await?);
        self.values.set(format!("{name}.id"), client.id.clone());
        self.values.set(format!("{name}.secret"), client.secret.clone());
        self.values.set(format!("{name}.basic"), client.basic());
        self.clients.insert(name, client);
        Ok(())
    }

    fn login(&self, name: &str) -> Result<Login> {
        self.logins.get(name).cloned().with_context(|| format!("no earlier step logs in as {name}"))
    }

    fn keep(&mut self, name: String, login: Login) {
        self.values.set(format!("{name}.token"), login.token.clone());
        self.values.set(format!("{name}.refreshToken"), login.refresh.clone());
        self.values.set(format!("{name}.sessionId"), login.session.clone());
        self.values.set(format!("{name}.deviceProof"), login.device_proof.clone());
        self.logins.insert(name, login);
    }

    /// Opens the hosted page by the newest reset link, or by one without a code.
    async fn follow(&mut self, username: &str, typing: bool) -> Result<()> {
        let actor = self.world.actor(username)?;
        let (tenant, user) = (&actor.tenant.tenant_id, &actor.user.user_id);
        let code = self.world.newest_code(tenant, user).await?;
        let mut visitor = Visitor::new(tenant);
        let in_link = (!typing).then_some(code.as_str());
        let token = visitor.follow(self.world, user, in_link).await?;
        self.values.set("form.token".to_owned(), token);
        for (name, cookie) in [("form.cookie", LINK_COOKIE), ("form.browser", BROWSER_COOKIE)] {
            self.values.set(name.to_owned(), visitor.cookie(cookie).cloned().unwrap_or_default());
        }
        self.values.set("form.code".to_owned(), code);
        Ok(())
    }

    /// Sends the recorded event itself, with some members replaced.
    async fn send_first(&self, with: Map<String, Value>) -> Result<()> {
        let mut event: Value = serde_json::from_str(&self.values.fill(self.text)?)?;
        for (name, value) in with {
            event[name] = value;
        }
        let answer = self.world.send(self.function, &event.to_string()).await?;
        ensure!(answer.status == 200, "the first request was rejected: {}", answer.text);
        Ok(())
    }
}

/// Ends all sessions of a user.
async fn end_sessions(world: &World, login: &Login) -> Result<()> {
    let (path, tenant) = (login.actor.sessions(), &login.actor.tenant.tenant_id);
    let answer = world.request(&Method::DELETE, &path, tenant, Some(&login.token), None).await?;
    ensure!(answer.status == 200, "the request was rejected: {}", answer.text);
    Ok(())
}

/// Lists the first page of a user's sessions and returns the cursor of the next.
async fn next_page(world: &World, login: &Login, limit: u32) -> Result<String> {
    let path = format!("{}?limit={limit}", login.actor.sessions());
    let tenant = &login.actor.tenant.tenant_id;
    let answer = world.request(&Method::GET, &path, tenant, Some(&login.token), None).await?;
    let cursor = answer.data("nextCursor");
    ensure!(!cursor.is_empty(), "the list has only one page: {}", answer.text);
    Ok(cursor.to_owned())
}

async fn change_policy(world: &World, change: PolicyChange) -> Result<()> {
    let when_full = change.when_full.as_deref().map_or(Some(WhenFull::Reject), WhenFull::from_name);
    let when_full = when_full.context("whenFull has an unknown value")?;
    let limit = change.session_limit.map(|max| SessionLimit { max, when_full });
    world
        .change_policy(&change.policy, |policy| {
            policy.password_history = change.password_history.unwrap_or(policy.password_history);
            policy.wrong_codes_per_ip = change.wrong_codes.unwrap_or(policy.wrong_codes_per_ip);
            policy.disable_after = change.disable_after.unwrap_or(policy.disable_after);
            policy.failures_per_user = change.failures_per_user.unwrap_or(policy.failures_per_user);
            policy.failures_per_ip = change.failures_per_address.unwrap_or(policy.failures_per_ip);
            policy.failures_per_tenant = change.failures_per_tenant.unwrap_or(policy.failures_per_tenant);
            policy.session_limit = limit.or(policy.session_limit);
        })
        .await
}

/// Requests a reset code: as an administrator, to whom the code is returned, or as the tenant, whose
/// mail contains the code.
async fn ask(world: &World, username: &str, by: Option<&Login>) -> Result<String> {
    let actor = world.actor(username)?;
    let (tenant, user) = (&actor.tenant.tenant_id, &actor.user.user_id);
    let path = format!("/v2/users/{user}/password_reset");
    let (bearer, body) = match by {
        Some(login) => (Some(login.token.as_str()), json!({ "returnCode": {} })),
        None => (None, json!({})),
    };
    let mut event = e2e::event(&Method::POST, &path, tenant, bearer, Some(&body));
    if by.is_none() {
        event = e2e::as_tenant(event);
    }
    let answer = world.send(Function::ResetLogin, &event.to_string()).await?;
    ensure!(answer.status == 200, "the request was rejected: {}", answer.text);
    match answer.body["verificationCode"].as_str() {
        Some(code) => Ok(code.to_owned()),
        None => world.newest_code(tenant, user).await,
    }
}

async fn fail_logins(world: &World, username: &str, times: u32) -> Result<()> {
    let actor = world.actor(username)?;
    for _ in 0..times {
        let status = world.try_login(&actor, "not the password").await?.status;
        ensure!(status == 401, "a wrong password was answered with {status}");
    }
    Ok(())
}

/// Changes the user's own password with a wrong current password.
async fn fail_updates(world: &World, username: &str, by: &Login, times: u32) -> Result<()> {
    let user = world.actor(username)?.user.user_id;
    let body = json!({ "password": crate::NEW_PASSWORD, "currentPassword": "not the password" });
    for _ in 0..times {
        let status = world.update(by, &user, &body).await?.status;
        ensure!(status == 401, "a wrong current password was answered with {status}");
    }
    Ok(())
}

/// Sets a password with a wrong code of the kind that a person types.
async fn fail_codes(world: &World, username: &str, times: u32) -> Result<()> {
    let actor = world.actor(username)?;
    let path = format!("/v2/users/{}/password", actor.user.user_id);
    let body = json!({ "newPassword": { "password": crate::NEW_PASSWORD }, "verificationCode": "AAAAAAAA" });
    for _ in 0..times {
        let answer = world.request(&Method::POST, &path, &actor.tenant.tenant_id, None, Some(&body)).await?;
        ensure!(answer.status == 400, "a wrong code was accepted: {}", answer.text);
    }
    Ok(())
}
