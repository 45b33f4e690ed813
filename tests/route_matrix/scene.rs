//! Sending the request of a case.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward::{
    domain::{ClientScope, User, UserId, Username},
    port::Clock,
    route::{Function, table},
};
use e2e::{Actor, Answer, Login, NORDIC, Visitor, World, event, oauth_event, permissions::Asked};
use http::Method;
use serde_json::{Value, json};

use super::{
    cases::Case,
    rows::{Request, Row},
};
use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// A tenant that none of the requests belongs to.
const OTHER_TENANT: &str = "tenant_harbour";
/// A user that does not exist.
const UNKNOWN_USER: &str = "unknown-user";
/// The parameter of OCARIoT's path, which must have 24 hexadecimal digits.
const HEX_USER: &str = "{user_id}";
/// A user that does not exist, in OCARIoT's format.
const UNKNOWN_HEX_USER: &str = "000000000000000000000000";
/// A user of another tenant, in OCARIoT's format.
const OTHER_HEX_USER: &str = "00000000000000000000000a";

/// A request, its response and the permissions that the function required.
pub(super) struct Exchange {
    pub(super) event: Value,
    pub(super) answer: Answer,
    pub(super) asked: Vec<Asked>,
}

/// A world with the actors of one row.
pub(super) struct Scene {
    world: World,
    method: Method,
    path: &'static str,
    pub(super) function: Function,
    pub(super) request: Request,
    /// The administrator who sends the request.
    by: Login,
    /// The user whom the request is about.
    target: Login,
}

impl Scene {
    pub(super) async fn start((method, path, request, _): Row) -> Result<Self> {
        let world = World::start().await?;
        let method: Method = method.parse()?;
        let row = table().find(|(_, route)| route.method == method && route.path == path);
        let function = row.context("no function serves the route")?.0;
        let (by, target) = if path.starts_with("/api/v2.1/admin/organization")
            || path.starts_with("/api/v2.1/admin/sessions")
        {
            (ADMIN, ADMIN)
        } else {
            (NORDIC_ADMIN, MARCUS)
        };
        let mut target = world.actor(target)?;
        if path.contains(HEX_USER) {
            let users = target.tenant.users.clone();
            target.user = users.into_iter().find(|user| user.user_id.len() == 24).context("no such user")?;
        }
        if path.contains("/customer/organization/") {
            "organization".clone_into(&mut target.collection);
        }
        let (by, target) = (world.login(&world.actor(by)?).await?, world.login(&target).await?);
        Ok(Self { world, method, path, function, request, by, target })
    }

    /// Outcome and reason of the last request in the audit log.
    pub(super) fn audited(&self) -> String {
        self.world.audit.verdict()
    }

    fn tenant(&self) -> &str {
        &self.target.actor.tenant.tenant_id
    }

    /// The username of the user with this ID, or the ID if no user has it.
    fn username<'a>(&'a self, id: &'a str) -> &'a str {
        let users = self.world.tenants.iter().flat_map(|tenant| &tenant.users);
        users.filter(|user| user.user_id == id).map(|user| user.username.as_str()).next().unwrap_or(id)
    }

    /// The valid request, about the user with this ID.
    async fn event(&self, user: &str) -> Result<Value> {
        let Actor { tenant, user: known, .. } = &self.target.actor;
        let path = self
            .path
            .replace("{organizationId}", &known.organization_id)
            .replace("{customerId}", known.customer_id.as_deref().unwrap_or_default())
            .replace("{userId}", user)
            .replace("{user_id}", user)
            .replace("{sessionId}", &self.target.session)
            .replace("{tenantId}", &tenant.tenant_id);
        let event = |bearer, body| event(&self.method, &path, &tenant.tenant_id, bearer, body);
        Ok(match self.request {
            Request::Login => {
                let mut body = self.target.actor.credentials(&known.password);
                if !self.path.contains("{userId}") {
                    body["username"] = json!(self.username(user));
                }
                body["tenantId"] = json!(tenant.tenant_id);
                event(None, Some(&body))
            }
            Request::Refresh => {
                event(Some(&self.target.token), Some(&json!({ "refreshToken": self.target.refresh })))
            }
            Request::Sessions => event(Some(&self.by.token), None),
            Request::Json(body) => {
                let body: Value = serde_json::from_str(&body.replace("USER", user))?;
                event(Some(&self.by.token), Some(&body))
            }
            Request::Client(form) => {
                let client =
                    self.world.register_client(&tenant.tenant_id, &[ClientScope::Introspect], |_| ()).await?;
                let endpoint = path.rsplit('/').next().unwrap_or_default();
                let form = form.replace("TOKEN", &self.target.token);
                let form: Vec<_> = form.split_once('=').into_iter().collect();
                oauth_event(&tenant.tenant_id, endpoint, Some(&client.basic()), &form)
            }
            Request::Page | Request::Form => self.page(event(None, None)).await?,
            Request::Public => {
                let mut event = event(None, None);
                event["headers"] = json!({ "user-agent": "e2e/1.0" });
                event
            }
            Request::Preflight => {
                let mut event = event(None, None);
                let asked =
                    table().find(|(_, route)| route.path == self.path && route.method != Method::OPTIONS);
                let method = asked.context("no route has this path")?.1.method.to_string();
                event["headers"] = json!({
                    "origin": "https://app.nordic.example",
                    "access-control-request-method": method,
                });
                event
            }
        })
    }

    /// Follows a reset link and takes over the browser's cookie and the form.
    async fn page(&self, mut event: Value) -> Result<Value> {
        let Actor { tenant, user, .. } = &self.target.actor;
        // Distinguishes this code from an earlier one by its time.
        self.world.clock.advance(Duration::from_secs(1));
        let reset = self.world.reset(&self.by, &json!({ "userId": user.user_id })).await?;
        ensure!(reset.status == 200, "the login reset was rejected: {}", reset.text);
        let code = self.world.newest_code(&tenant.tenant_id, &user.user_id).await?;
        let mut visitor = Visitor::new(&tenant.tenant_id);
        let token = visitor.follow(&self.world, &user.user_id, Some(&code)).await?;
        event["cookies"] = json!(visitor.cookies);
        event["headers"] = json!({ "user-agent": "e2e/1.0" });
        if matches!(self.request, Request::Form) {
            let password = NEW_PASSWORD.replace(' ', "+");
            event["headers"] = json!({
                "content-type": "application/x-www-form-urlencoded",
                "origin": "null",
                "sec-fetch-site": "same-origin",
            });
            event["body"] = json!(format!("token={token}&password={password}&repeated={password}"));
        }
        Ok(event)
    }

    /// Returns the ID of a user of another tenant.
    async fn other_tenants_user(&self) -> Result<String> {
        let other = self.world.actor(if self.tenant() == NORDIC { ADMIN } else { MARCUS })?;
        if !self.path.contains(HEX_USER) {
            return Ok(other.user.user_id);
        }
        let user = User {
            id: UserId::parse(OTHER_HEX_USER)?,
            username: Username::parse("hex@cloudvault.example")?,
            ..self.world.user(&other).await?
        };
        self.world.store.create_user(&user, self.world.clock.now()).await?;
        Ok(OTHER_HEX_USER.to_owned())
    }

    /// Sends the request of a case.
    pub(super) async fn run(&mut self, case: Case) -> Result<Exchange> {
        let user = self.target.actor.user.user_id.clone();
        let mut event = self.event(&user).await?;
        if case == Case::StorageDown {
            // A new instance has no caches, which would hide the failure.
            self.world.start_another(self.function)?;
        }
        let (world, tenant) = (&self.world, self.tenant());
        match case {
            Case::PayloadTooLarge => event["body"] = json!("x".repeat(64 * 1024 + 1)),
            Case::NoBearer => {
                event["headers"].as_object_mut().context("no headers")?.remove("authorization");
            }
            Case::TenantMismatch => event["headers"]["x-tenant-id"] = json!(OTHER_TENANT),
            Case::OtherTenantsUser => return self.send_for_foreign_users().await,
            Case::IpNotAllowed => world.change_tenant(tenant, false, Some("192.0.2.0/24")).await?,
            Case::TenantSuspended => world.change_tenant(tenant, true, None).await?,
            Case::StorageDown => world.stop_dynamodb().await,
            Case::Valid => {}
        }
        let exchange = self.send(event).await?;
        if case == Case::IpNotAllowed {
            world.change_tenant(tenant, false, None).await?;
        }
        Ok(exchange)
    }

    /// Sends the request about a user of another tenant, which must get the response of an unknown user.
    async fn send_for_foreign_users(&self) -> Result<Exchange> {
        let unknown = if self.path.contains(HEX_USER) { UNKNOWN_HEX_USER } else { UNKNOWN_USER };
        let unknown = self.send(self.event(unknown).await?).await?.answer;
        let exchange = self.send(self.event(&self.other_tenants_user().await?).await?).await?;
        ensure!(
            (exchange.answer.status, &exchange.answer.text) == (unknown.status, &unknown.text),
            "the response to an unknown user differs: {} {}",
            unknown.status,
            unknown.text
        );
        Ok(exchange)
    }

    async fn send(&self, event: Value) -> Result<Exchange> {
        self.world.calls.take_asked();
        let answer = self.world.send(self.function, &event.to_string()).await?;
        Ok(Exchange { event, answer, asked: self.world.calls.take_asked() })
    }
}
