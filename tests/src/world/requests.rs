//! Requests to the functions.

use anyhow::{Context, Result};
use doorward::{
    function::authorizer::Undecided,
    route::{Function, Router},
};
use http::Method;
use serde_json::{Value, json};

use crate::{Actor, Answer, Login, World, authorizer_event, event};

impl World {
    /// Sends a request to the function that serves the route.
    ///
    /// # Errors
    /// When no function has the route.
    pub async fn request(
        &self,
        method: &Method,
        path: &str,
        tenant: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let function = Function::all()
            .find(|function| {
                let path = path.split('?').next().unwrap_or_default();
                Router::new(function.routes()).is_ok_and(|router| router.find(method, path).is_some())
            })
            .with_context(|| format!("no function serves {method} {path}"))?;
        self.send(function, &event(method, path, tenant, bearer, body).to_string()).await
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// When the login is rejected.
    pub async fn login(&self, actor: &Actor) -> Result<Login> {
        Login::from_answer(actor, &self.try_login(actor, &actor.user.password).await?)
    }

    /// Sends a login request.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn try_login(&self, actor: &Actor, password: &str) -> Result<Answer> {
        let body = actor.credentials(password);
        self.request(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body)).await
    }

    /// Sends a login request by name, on the route of the user's kind.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn try_login_by_name(&self, actor: &Actor, password: &str) -> Result<Answer> {
        let body = actor.credentials(password);
        let (path, tenant) = (actor.named_sessions(), &actor.tenant.tenant_id);
        self.request(&Method::POST, path, tenant, None, Some(&body)).await
    }

    /// Sends a login request from an IP address, with a device proof if one is given.
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

    /// Sends a refresh request with the login's tokens.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn refresh(&self, login: &Login) -> Result<Answer> {
        let (method, path) = login.refresh_route();
        let body = json!({ "refreshToken": login.refresh });
        self.request(&method, &path, &login.actor.tenant.tenant_id, Some(&login.token), Some(&body)).await
    }

    /// Refreshes a session and returns the new tokens.
    ///
    /// # Errors
    /// When the refresh is rejected.
    pub async fn refreshed(&self, login: &Login) -> Result<Login> {
        Login::from_answer(&login.actor, &self.refresh(login).await?)
    }

    /// Sends a logout request with the session's access token.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn logout(&self, login: &Login) -> Result<Answer> {
        let tenant = &login.actor.tenant.tenant_id;
        self.request(&Method::DELETE, &login.path(), tenant, Some(&login.token), None).await
    }

    /// Sends a credential change of `user` with the access token of `by`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn update(&self, by: &Login, user: &str, body: &Value) -> Result<Answer> {
        let path = format!("/api/v2.1/admin/users/{user}/credentials");
        self.request(&Method::PUT, &path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body)).await
    }

    /// Sends a login reset with the access token of `by`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn reset(&self, by: &Login, body: &Value) -> Result<Answer> {
        let path = "/api/v2.1/admin/users/login/reset";
        self.request(&Method::POST, path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body)).await
    }

    /// Checks whether the functions still accept the access token, by an empty change of the user's
    /// credentials.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn opens(&self, login: &Login) -> Result<bool> {
        Ok(self.update(login, &login.actor.user.user_id, &json!({})).await?.status == 200)
    }

    /// Sends an event of API Gateway to the Lambda authorizer.
    ///
    /// # Errors
    /// When the authorizer cannot decide.
    pub async fn authorize(&self, event: &Value) -> Result<Value, Undecided> {
        self.instance.authorize(event).await
    }

    /// Checks whether the Lambda authorizer accepts the access token.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub async fn passes(&self, login: &Login) -> Result<bool, Undecided> {
        Ok(self.authorize(&authorizer_event(Some(&login.token))).await?["isAuthorized"] == true)
    }
}
