//! Demo users and their sessions.

use anyhow::{Context, Result, anyhow};
use http::Method;
use serde_json::{Value, json};

use crate::Answer;

/// A demo user and the route that the user logs in by.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The user's tenant.
    pub tenant: local::stack::Tenant,
    /// The demo user.
    pub user: local::stack::User,
    /// The customer collection in the path (`individual` or `organization`). Ignored for
    /// administrators.
    pub collection: String,
}

impl Actor {
    /// The path of the user's sessions.
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

    /// The path of a login by name.
    pub fn named_sessions(&self) -> &'static str {
        match &self.user.customer_id {
            Some(_) => "/api/v2.1/customer/sessions",
            None => "/api/v2.1/admin/sessions",
        }
    }

    /// The request body of a login with this password.
    pub fn credentials(&self, password: &str) -> Value {
        json!({
            "username": self.user.username,
            "password": password,
            "tenantKey": self.tenant.tenant_key,
            "tenantSecret": self.tenant.tenant_secret,
        })
    }
}

/// Finds a demo user by username.
///
/// # Errors
/// When no tenant has that user.
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
        .with_context(|| format!("no demo user is named {username}"))
}

/// A session and its tokens, as the client received them.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user who logged in.
    pub actor: Actor,
    /// Session ID.
    pub session: String,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh: String,
    /// Device proof; empty after a refresh, which returns none.
    pub device_proof: String,
}

impl Login {
    /// The session's path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.actor.sessions(), self.session)
    }

    /// Method and path of the session's refresh route.
    pub fn refresh_route(&self) -> (Method, String) {
        match &self.actor.user.customer_id {
            Some(_) => (Method::PUT, self.path()),
            None => (Method::POST, format!("/api/v2.1/admin/sessions/{}/refresh", self.session)),
        }
    }

    /// Reads session and tokens from a response.
    ///
    /// # Errors
    /// When the response contains no tokens.
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
