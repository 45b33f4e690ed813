//! Events of API Gateway (payload format 2.0).

use http::Method;
use local::demo;
use serde_json::{Value, json};

/// Adds the credentials of the demo tenant to an event.
#[must_use]
pub fn as_tenant(mut event: Value) -> Value {
    event["headers"]["x-tenant-key"] = json!(demo::TENANT_KEY);
    event["headers"]["x-tenant-secret"] = json!(demo::TENANT_SECRET);
    event
}

/// The event of a backend's request. `path` may contain a query string.
pub fn event(method: &Method, path: &str, tenant: &str, bearer: Option<&str>, body: Option<&Value>) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers =
        json!({ "user-agent": "e2e/1.0", "x-tenant-id": tenant, "content-type": "application/json" });
    if let Some(token) = bearer {
        headers["authorization"] = json!(format!("Bearer {token}"));
    }
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "domainName": "localhost",
            "domainPrefix": "localhost",
            "http": {
                "method": method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "e2e/1.0",
            },
            "requestId": "e2e-request",
            "routeKey": "$default",
            "stage": "$default",
            "time": "13/Jan/2026:21:21:48 +0000",
            "timeEpoch": 1_768_339_308_974_i64,
        },
        "body": body.map(ToString::to_string),
        "isBase64Encoded": false,
    })
}

/// The event that API Gateway sends to a Lambda authorizer for a request to another API.
pub fn authorizer_event(bearer: Option<&str>) -> Value {
    let path = "/orders/17";
    let mut event = event(&Method::GET, path, "", bearer, None);
    let authorization = event["headers"]["authorization"].take();
    event["headers"] = json!({ "user-agent": "e2e/1.0" });
    if bearer.is_some() {
        event["identitySource"] = json!([authorization]);
        event["headers"]["authorization"] = authorization;
    }
    event["type"] = json!("REQUEST");
    event["routeKey"] = json!("GET /orders/{order}");
    event["routeArn"] = json!("arn:aws:execute-api:eu-central-1:123456789012:local/$default/GET/orders/17");
    event["pathParameters"] = json!({ "order": "17" });
    if let Some(event) = event.as_object_mut() {
        event.retain(|name, _| !["body", "isBase64Encoded"].contains(&name.as_str()));
    }
    event
}
