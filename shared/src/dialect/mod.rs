//! Wire formats: each parses requests into commands and renders outcomes and failures.

pub mod finhub;

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

/// A request as it came, body decoded. No `Debug`: headers and body hold secrets (security 25).
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Path, without the stage.
    pub path: String,
    /// Headers; those sent twice arrive joined by commas.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// The client's address as API Gateway saw it.
    pub ip: Option<IpAddr>,
}

/// An answer in some dialect; what every answer carries is added by the runtime. No `Debug`: the
/// body may hold tokens (security 25).
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// `WWW-Authenticate`, on 401.
    pub challenge: Option<HeaderValue>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// JSON; none on 204.
    pub body: Option<Value>,
}
