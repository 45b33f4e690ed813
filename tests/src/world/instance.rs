//! One instance of every function, as Lambda starts it: with its own caches and its own clock.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, Result, anyhow};
use doorward::{
    function::{
        SystemEntropy,
        authorizer::{Authorizer, Undecided},
        http::{App, Body},
    },
    route::Function,
    secrets::SecretsManager,
    store::DynamoStore,
    usecase::Service,
};
use local::SECRET_PREFIX;
use serde_json::Value;

use crate::{
    Answer, CountedPasswords, PUBLIC_URL, TestClock,
    audit::{self, AuditLog},
};

/// The services that instances share.
pub(super) struct Backend<'a> {
    pub(super) store: &'a Arc<DynamoStore>,
    pub(super) secrets: &'a aws_sdk_secretsmanager::Client,
    pub(super) passwords: &'a Arc<CountedPasswords>,
    pub(super) audit: &'a Arc<AuditLog>,
}

/// One instance of every function, with empty caches at first.
pub struct Instance {
    apps: HashMap<Function, App>,
    authorizer: Authorizer,
}

impl Instance {
    /// Starts an instance.
    ///
    /// # Errors
    /// When a function does not start.
    pub(super) fn start(backend: &Backend<'_>, clock: &Arc<TestClock>) -> Result<Self> {
        let Backend { store, secrets, passwords, audit: log } = *backend;
        let source = SecretsManager::new(secrets.clone(), SECRET_PREFIX.to_owned());
        let (source, entropy) = (Arc::new(source), Arc::new(SystemEntropy));
        let service =
            Arc::new(Service::new(store.clone(), source, passwords.clone(), clock.clone(), entropy));
        let app = |function: Function| {
            let audit = audit::audit(log, &**clock)?;
            let app = App::new(function, function.routes(), Arc::clone(&service), audit)
                .and_then(|app| app.with_public_url(PUBLIC_URL));
            Ok((function, app.map_err(|error| anyhow!("{error}"))?))
        };
        let apps = Function::all().map(app).collect::<Result<_>>()?;
        let authorizer = Authorizer::new(service, audit::audit(log, &**clock)?);
        Ok(Self { apps, authorizer })
    }

    /// Replaces one function by that of another instance.
    pub(super) fn take(&mut self, mut other: Self, function: Function) {
        self.apps.extend(other.apps.remove_entry(&function));
        if function == Function::Authorize {
            self.authorizer = other.authorizer;
        }
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

    /// Sends an event of API Gateway to the Lambda authorizer.
    ///
    /// # Errors
    /// When the authorizer cannot decide.
    pub async fn authorize(&self, event: &Value) -> Result<Value, Undecided> {
        Box::pin(self.authorizer.answer(&event.to_string())).await
    }
}
