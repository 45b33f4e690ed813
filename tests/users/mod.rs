//! The user API: users that backends and administrators create, read, change and delete.

mod authority;
mod contacts;
mod creation;
mod lifecycle;
mod lists;

use anyhow::Result;
use doorward::domain::ClientScope;
use e2e::{Answer, NORDIC, World};
use http::Method;
use serde_json::{Value, json};

/// Organization of the demo users of [`NORDIC`].
const ORGANIZATION: &str = "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b";
/// Password of the users that tests create.
const PASSWORD: &str = "a first good passphrase";

/// A world with the token of an API client that may read and change users.
struct Scene {
    world: World,
    token: String,
}

impl Scene {
    async fn start() -> Result<Self> {
        let world = World::start().await?;
        let scopes = [ClientScope::UsersRead, ClientScope::UsersWrite, ClientScope::Recovery];
        let client = world.register_client(NORDIC, &scopes, |_| ()).await?;
        let token = world.client_token(&client).await?;
        Ok(Self { world, token })
    }

    /// Sends a request of the client.
    async fn call(&self, method: &Method, path: &str, body: &Value) -> Result<Answer> {
        self.world.request(method, path, NORDIC, Some(&self.token), Some(body)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call(&Method::POST, path, body).await
    }

    /// Creates a user whose mail address is verified.
    async fn create(&self, id: &str) -> Result<Answer> {
        self.post("/v2/users/new", &person(id)).await
    }

    async fn read(&self, id: &str) -> Result<Answer> {
        let path = format!("/v2/users/{id}");
        self.world.request(&Method::GET, &path, NORDIC, Some(&self.token), None).await
    }
}

/// A creation of a user with this ID, whose name is a verified mail address.
fn person(id: &str) -> Value {
    json!({
        "organizationId": ORGANIZATION,
        "userId": id,
        "human": {
            "profile": { "givenName": "Ada", "familyName": "Byron", "preferredLanguage": "en" },
            "email": { "email": address(id), "isVerified": true },
            "password": { "password": PASSWORD },
            "metadata": [{ "key": "doorward:customer", "value": "Y3VzdF8x" }],
        },
    })
}

fn address(id: &str) -> String {
    format!("{id}@new.example")
}

/// Logs a created user in by name, as a customer.
async fn try_login(world: &World, id: &str, password: &str) -> Result<Answer> {
    let mut actor = world.actor(crate::MARCUS)?;
    actor.user.username = address(id);
    world.try_login_by_name(&actor, password).await
}

/// The names of the invalid fields in an error.
fn fields(answer: &Answer) -> Vec<String> {
    let violations = answer.body["details"][0]["fieldViolations"].as_array().cloned().unwrap_or_default();
    violations.iter().map(|one| one["field"].as_str().unwrap_or_default().to_owned()).collect()
}
