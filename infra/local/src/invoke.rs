//! Invokes a function that has no route, through the invocation API that cargo-lambda serves beside
//! the routes.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode, header::CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// More than any function's own timeout, and enough to compile it first.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// What Lambda takes of an answer.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;

/// Something that takes events, as Lambda does.
pub trait Function: Send + Sync {
    /// Runs the function with one event, and returns its answer.
    fn invoke(&self, event: Vec<u8>) -> impl Future<Output = Result<Bytes, InvokeError>> + Send;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeError {
    /// The function was not reached.
    Unreachable(String),
    /// It ran, or may have run, and failed.
    Failed(String),
}

/// A function under cargo-lambda.
#[derive(Debug, Clone)]
pub struct RuntimeApi {
    client: Client<HttpConnector, Body>,
    url: String,
}

impl RuntimeApi {
    /// `base_url` is where cargo-lambda listens.
    #[must_use]
    pub fn new(base_url: &str, function: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("{base_url}/2015-03-31/functions/{function}/invocations"),
        }
    }
}

impl Function for RuntimeApi {
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
        let (status, body) = tokio::time::timeout(ANSWERS_WITHIN, attempt)
            .await
            .map_err(|_| InvokeError::Failed(format!("no answer within {} s", ANSWERS_WITHIN.as_secs())))??;
        // Lambda says 200 and adds a header; cargo-lambda says 500.
        if status == StatusCode::OK { Ok(body) } else { Err(InvokeError::Failed(reason(status, &body))) }
    }
}

/// What the function says of its own failure.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let error: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = error.as_ref().and_then(|error| error.get("errorMessage")?.as_str());
    message.map_or_else(|| format!("it answered {status}"), str::to_owned)
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
    async fn answers_and_failures_are_told_apart() {
        assert_eq!(asked(StatusCode::OK, "{}").await.unwrap(), "{}");
        let error = r#"{"errorType":"E","errorMessage":"boom"}"#;
        let failed = asked(StatusCode::INTERNAL_SERVER_ERROR, error).await.unwrap_err();
        assert_eq!(failed, InvokeError::Failed("boom".into()));
        let missing = asked(StatusCode::NOT_FOUND, "").await.unwrap_err();
        assert_eq!(missing, InvokeError::Failed("it answered 404 Not Found".into()));
    }

    #[tokio::test]
    async fn nobody_there_is_no_failure_of_the_function() {
        let server = Server::serve("function", Router::new()).await.unwrap();
        let function = RuntimeApi::new(server.url(), "f");
        server.stop().await;
        let error = function.invoke(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, InvokeError::Unreachable(_)), "{error:?}");
    }
}
