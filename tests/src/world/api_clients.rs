//! API clients and their requests.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    domain::{ApiClient, ClientId, ClientName, ClientScope, ClientStatus, TenantId},
    function::SystemEntropy,
    port::{Clock, random},
    route::Function,
    store::ClientCreation,
    token::new_client_secret,
};
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{Answer, World, event};

/// A registered API client and its secret.
#[derive(Debug, Clone)]
pub struct RegisteredClient {
    /// Tenant ID.
    pub tenant: String,
    /// Client ID.
    pub id: String,
    /// Client secret.
    pub secret: String,
}

impl RegisteredClient {
    /// The value of the header `Authorization`.
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.id, self.secret)))
    }
}

/// The event of a form that a client sends to an endpoint of its tenant: `token`, `introspect` or `revoke`.
pub fn oauth_event(
    tenant: &str,
    endpoint: &str,
    authorization: Option<&str>,
    form: &[(&str, &str)],
) -> Value {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut event = event(&Method::POST, &format!("/tenants/{tenant}/oauth/{endpoint}"), tenant, None, None);
    event["headers"] =
        json!({ "user-agent": "e2e/1.0", "content-type": "application/x-www-form-urlencoded" });
    if let Some(authorization) = authorization {
        event["headers"]["authorization"] = json!(authorization);
    }
    event["body"] = json!(body);
    event
}

impl World {
    /// Registers a client with one secret. `change` can restrict it.
    ///
    /// # Errors
    /// When the tenant does not exist.
    pub async fn register_client(
        &self,
        tenant: &str,
        scopes: &[ClientScope],
        change: impl FnOnce(&mut ApiClient),
    ) -> Result<RegisteredClient> {
        let now = self.clock.now();
        let mut client = ApiClient {
            tenant: TenantId::parse(tenant)?,
            id: ClientId::from_random(random(&SystemEntropy)?),
            name: ClientName::parse("Test")?,
            scopes: ClientScope::ordered(scopes),
            organization: None,
            ip_allow: Vec::new(),
            status: ClientStatus::Active,
            credentials: Vec::new(),
            revision: 1,
            created_at: now,
            last_used_at: None,
        };
        let secret = new_client_secret(&SystemEntropy)?;
        let hash = self.keys(tenant).await?.client_secret_hash(&client.id, &secret)?;
        client = client.with_secret(hash, false, now)?;
        change(&mut client);
        ensure!(
            self.store.create_client(&client).await? == ClientCreation::Done,
            "the client was not created"
        );
        let secret = secret.expose_secret().to_owned();
        Ok(RegisteredClient { tenant: tenant.to_owned(), id: client.id.to_string(), secret })
    }

    /// Changes the stored status or credentials of a client.
    ///
    /// # Errors
    /// When the client does not exist.
    pub async fn change_client(
        &self,
        client: &RegisteredClient,
        change: impl FnOnce(ApiClient) -> ApiClient,
    ) -> Result<()> {
        Ok(self.store.change_client(&change(self.stored_client(client).await?)).await?)
    }

    /// Reads a stored client.
    ///
    /// # Errors
    /// When the client does not exist.
    pub async fn stored_client(&self, client: &RegisteredClient) -> Result<ApiClient> {
        let (tenant, id) = (TenantId::parse(&client.tenant)?, ClientId::parse(&client.id)?);
        self.store.client(&tenant, &id).await?.context("the client does not exist")
    }

    /// Sends a form to an endpoint, with the client's ID and secret in the header.
    ///
    /// # Errors
    /// As [`World::send`].
    pub async fn oauth(
        &self,
        client: &RegisteredClient,
        endpoint: &str,
        form: &[(&str, &str)],
    ) -> Result<Answer> {
        let event = oauth_event(&client.tenant, endpoint, Some(&client.basic()), form);
        self.send(Function::Oauth, &event.to_string()).await
    }

    /// Gets an access token with all scopes of the client.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn client_token(&self, client: &RegisteredClient) -> Result<String> {
        let answer = self.oauth(client, "token", &[("grant_type", "client_credentials")]).await?;
        let token = answer.body["access_token"].as_str();
        Ok(token.with_context(|| format!("no token: {}", answer.text))?.to_owned())
    }

    /// Introspects a token.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn introspect(&self, client: &RegisteredClient, token: &str) -> Result<Value> {
        let answer = self.oauth(client, "introspect", &[("token", token)]).await?;
        ensure!(answer.status == 200, "{}", answer.text);
        Ok(answer.body)
    }
}
