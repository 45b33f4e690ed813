//! HTTP responses, as tests look at them.

use anyhow::Result;
use serde_json::Value;

/// The response that a function returned to API Gateway.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: i64,
    /// Headers, without `Set-Cookie`.
    pub headers: http::HeaderMap,
    /// `Set-Cookie` values.
    pub cookies: Vec<String>,
    /// Body bytes.
    pub bytes: Vec<u8>,
    /// The body as text; empty if it is not UTF-8.
    pub text: String,
    /// The body as JSON; null if the content type is not JSON.
    pub body: Value,
}

impl Answer {
    /// A response without cookies.
    ///
    /// # Errors
    /// When the content type is JSON and a body that is not empty is not.
    pub fn new(status: i64, headers: http::HeaderMap, bytes: Vec<u8>) -> Result<Self> {
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json =
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
        let body = if is_json && !bytes.is_empty() { serde_json::from_slice(&bytes)? } else { Value::Null };
        let text = String::from_utf8(bytes.clone()).unwrap_or_default();
        Ok(Self { status, headers, cookies: Vec::new(), bytes, text, body })
    }

    /// Status and FinHub's `errorType`, which most assertions compare.
    pub fn verdict(&self) -> (i64, &str) {
        (self.status, self.body["data"]["errorType"].as_str().unwrap_or_default())
    }

    /// A string member of FinHub's `data`; empty if the member is missing.
    pub fn data(&self, name: &str) -> &str {
        self.body["data"][name].as_str().unwrap_or_default()
    }

    /// The body without the number of failed attempts, which is different at each attempt of one user.
    pub fn without_attempts(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(data) = body["data"].as_object_mut() {
            data.remove("attempts");
        }
        body
    }

    /// A header's text; empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
