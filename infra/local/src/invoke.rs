//! Invokes functions without a route, through cargo-lambda's invocation API.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode, header::CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Longer than any function's timeout, and long enough to compile a function first.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// Maximum size of a function's response, which is Lambda's own limit.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;

/// A function that handles events, as in Lambda.
pub trait LambdaFunction: Send + Sync {
    /// Runs the function with one event, and returns its response.
    fn invoke(&self, event: Vec<u8>) -> impl Future<Output = Result<Bytes, InvokeError>> + Send;
}

/// Reason for a missing response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeError {
    /// The function did not receive the event.
    Unreachable(String),
    /// The function received the event, or may have received it, and failed.
    Failed(String),
}

/// A function that cargo-lambda runs.
#[derive(Debug, Clone)]
pub struct RuntimeApi {
    client: Client<HttpConnector, Body>,
    name: String,
    url: String,
}

impl RuntimeApi {
    /// Creates a client for one function. `base_url` is the address of cargo-lambda.
    #[must_use]
    pub fn new(base_url: &str, function: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            name: function.to_owned(),
            url: format!("{base_url}/2015-03-31/functions/{function}/invocations"),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl LambdaFunction for RuntimeApi {
    async fn invoke(&self, event: Vec<u8>) -> Result<Bytes, InvokeError> {
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(event))
            .map_err(|error| InvokeError::Unreachable(error.to_string()))?;
        let attempt = async {
            let response = self.client.request(request).await.map_err(|error| {
                let reason = error.to_string();
                if error.is_connect() {
                    InvokeError::Unreachable(reason)
                } else {
                    InvokeError::Failed(reason)
                }
            })?;
            let status = response.status();
            let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER_BYTES)
                .await
                .map_err(|error| InvokeError::Failed(error.to_string()))?;
            Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(ANSWERS_WITHIN, attempt).await.map_err(|_| {
            InvokeError::Failed(format!("no response within {} s", ANSWERS_WITHIN.as_secs()))
        })??;
        // For a failed function Lambda returns 200 with an additional header; cargo-lambda returns 500.
        if status == StatusCode::OK { Ok(body) } else { Err(InvokeError::Failed(reason(status, &body))) }
    }
}

/// Returns the error message of a failed function.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let error: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = error.as_ref().and_then(|error| error.get("errorMessage")?.as_str());
    message.map_or_else(|| format!("it returned {status}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;
    use axum::{Router, routing::post};

    async fn asked(status: StatusCode, answer: &'static str) -> Result<Bytes, InvokeError> {
        let path = "/2015-03-31/functions/f/invocations";
        let server = Server::serve(
            "function",
            Router::new().route(path, post(move || async move { (status, answer) })),
        )
        .await
        .unwrap();
        RuntimeApi::new(server.url(), "f").invoke(b"{}".to_vec()).await
    }

    #[tokio::test]
    async fn response_and_failure_are_distinguished() {
        assert_eq!(asked(StatusCode::OK, "{}").await.unwrap(), "{}");
        let error = r#"{"errorType":"E","errorMessage":"boom"}"#;
        let failed = asked(StatusCode::INTERNAL_SERVER_ERROR, error).await.unwrap_err();
        assert_eq!(failed, InvokeError::Failed("boom".into()));
        let missing = asked(StatusCode::NOT_FOUND, "").await.unwrap_err();
        assert_eq!(missing, InvokeError::Failed("it returned 404 Not Found".into()));
    }

    #[tokio::test]
    async fn unreachable_function_is_not_a_failed_function() {
        let server = Server::serve("function", Router::new()).await.unwrap();
        let function = RuntimeApi::new(server.url(), "f");
        server.stop().await;
        let error = function.invoke(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, InvokeError::Unreachable(_)), "{error:?}");
    }
}
