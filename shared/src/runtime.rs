//! From a Lambda event to an answer: configuration, wiring, and the loop.

use std::{env, num::NonZero, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, header};
use jiff::Timestamp;
use lambda_http::{
    aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    lambda_runtime::{self, LambdaEvent, service_fn},
};
use serde_json::value::RawValue;

use crate::{
    audit::{self, Audit, Decision},
    aws,
    dialect::{Call, HttpRequest, Reply, ReplyBody, cors, finhub, ocariot, page, public, zitadel},
    domain::{ClientAddress, Failure},
    password::Argon2id,
    port::{Clock, Entropy},
    route::{Endpoint, Function, Router},
    secrets::{DEFAULT_PREFIX, SecretsManager},
    store::DynamoStore,
    telemetry,
    usecase::{Service, cross_origin},
};

/// A response's body.
pub use lambda_http::Body;

/// What keeps a function from starting.
pub type Error = lambda_runtime::Error;

/// Where a function finds its data; all of it from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `DOORWARD_TABLE`: the DynamoDB table.
    pub table: String,
    /// `DOORWARD_SECRET_PREFIX`: what tenants' secrets' names begin with.
    pub secret_prefix: String,
    /// `DOORWARD_PUBLIC_URL`: where people reach the routes, without a path of its own.
    pub public_url: Option<String>,
    /// `DOORWARD_MAIL_FROM`: sender of the mails of tenants that name none.
    pub mail_from: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in MiB: bounds concurrent hashing.
    pub memory_mib: usize,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// When `DOORWARD_TABLE` is missing, or `DOORWARD_HOME_REGION` is another Region than this one: two
    /// Regions that write one table lose each other's conditions (docs/regions.md).
    pub fn from_env() -> Result<Self, Error> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        at_home(set("DOORWARD_HOME_REGION").as_deref(), set("AWS_REGION").as_deref())?;
        Ok(Self {
            table: set("DOORWARD_TABLE").ok_or("set DOORWARD_TABLE to the name of the DynamoDB table")?,
            secret_prefix: secret_prefix(),
            public_url: set("DOORWARD_PUBLIC_URL"),
            mail_from: set("DOORWARD_MAIL_FROM"),
            memory_mib: set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
                .and_then(|size| size.parse().ok())
                .unwrap_or(128),
        })
    }
}

/// Refuses to serve away from the table's home, where one is named.
fn at_home(home: Option<&str>, here: Option<&str>) -> Result<(), Error> {
    match home {
        Some(home) if here != Some(home) => {
            let here = here.unwrap_or("unknown");
            Err(format!(
                "this table's home is {home}, and this function's Region is {here}: functions serve in one \
                 Region alone; to move the home, see docs/regions.md"
            )
            .into())
        }
        _ => Ok(()),
    }
}

/// `DOORWARD_SECRET_PREFIX`, all that the function that rotates secrets needs of [`Config`].
pub(crate) fn secret_prefix() -> String {
    env::var("DOORWARD_SECRET_PREFIX")
        .ok()
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or_else(|| DEFAULT_PREFIX.to_owned())
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time comes from")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The operating system's random generator (docs/design/security.md#rule-12).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place where randomness comes from")]
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
        getrandom::fill(bytes).map_err(|error| Failure::Internal(error.to_string().into()))
    }
}

/// Builds the function's clients and serves its requests, several at once where Lambda offers it
/// (`AWS_LAMBDA_MAX_CONCURRENCY`).
///
/// # Errors
/// When the configuration is incomplete or the Runtime API is gone.
pub async fn serve(function: Function) -> Result<(), Error> {
    telemetry::init();
    let app = App::from_env(function).await?;
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let app = app.clone();
        async move { Ok::<_, Error>(app.answer(event.payload.get()).await) }
    }))
    .await
}

/// What every use case works with, over AWS.
pub(crate) async fn service(config: Config) -> Service {
    let sdk = aws::sdk_config().await;
    let store = DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), config.table);
    let secrets = SecretsManager::new(aws_sdk_secretsmanager::Client::new(&sdk), config.secret_prefix);
    let entropy = Arc::new(SystemEntropy);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let passwords = Argon2id::new(entropy.clone(), config.memory_mib, cores);
    Service::new(Arc::new(store), Arc::new(secrets), Arc::new(passwords), Arc::new(SystemClock), entropy)
}

/// What a request that fits no route asks for, in the audit log.
const NO_ACTION: &str = "none";

/// The audit log of this process, on standard output.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn audit_to_stdout() -> Result<Arc<Audit>, Error> {
    Ok(Arc::new(Audit::new(Arc::new(audit::Stdout), &SystemClock, &SystemEntropy)?))
}

/// One function, wired: shared by `main` and the tests.
#[derive(Clone)]
pub struct App {
    function: Function,
    router: Arc<Router>,
    service: Arc<Service>,
    audit: Arc<Audit>,
    public_url: Option<String>,
    page_origin: Option<page::Origin>,
}

impl App {
    /// A function over a service, which tells of its decisions in `audit`.
    ///
    /// # Errors
    /// When the route table contradicts itself.
    pub fn new(function: Function, service: Arc<Service>, audit: Arc<Audit>) -> Result<Self, Error> {
        let router = Arc::new(Router::new(function)?);
        Ok(Self { function, router, service, audit, public_url: None, page_origin: None })
    }

    /// The same, with the address at which people reach it: without one, no form is taken and no issuer told.
    ///
    /// # Errors
    /// When `public_url` is no http or https URL.
    pub fn with_public_url(self, public_url: &str) -> Result<Self, Error> {
        let page_origin = Some(page::Origin::of(public_url)?);
        Ok(Self { public_url: Some(public_url.to_owned()), page_origin, ..self })
    }

    async fn from_env(function: Function) -> Result<Self, Error> {
        let config = Config::from_env()?;
        let public_url = config.public_url.clone();
        let service = service(config).await;
        let app = Self::new(function, Arc::new(service), audit_to_stdout()?)?;
        match (public_url, function) {
            (Some(public_url), _) => app.with_public_url(&public_url),
            (None, Function::PasswordPage | Function::Discovery) => {
                Err("set DOORWARD_PUBLIC_URL to the address at which people reach the routes".into())
            }
            (None, _) => Ok(app),
        }
    }

    /// Answers one event, whatever it holds.
    pub async fn answer(&self, event: &str) -> ApiGatewayV2httpResponse {
        let started = Instant::now();
        let now = self.service.now();
        let (request, unreadable, request_id) = read(event);
        let span = telemetry::request(self.function.name(), &request_id);
        let decided = async {
            let matched = match &request {
                Ok(request) => {
                    telemetry::client(request.ip.client(&[]));
                    self.router.find(&request.method, &request.path)
                }
                Err(_) => None,
            };
            let endpoint = matched.as_ref().map(|matched| matched.route.endpoint);
            let (reply, failure) = match (request, matched) {
                (Ok(request), Some(matched)) => {
                    let call = Call { service: &self.service, matched: &matched, request: &request, now };
                    let deciding = Box::pin(self.decide(&call, unreadable));
                    let (decided, proven) = cross_origin::observed(deciding).await;
                    let (mut reply, failure) = match decided {
                        Ok(mut reply) => {
                            let failure = reply.failure.take();
                            (reply, failure)
                        }
                        Err(failure) => (told(&call, &failure), Some(failure)),
                    };
                    cors::answer(&call, proven.as_deref(), &mut reply).await;
                    (reply, failure)
                }
                // What fits no route is answered in the first dialect.
                (request, _) => {
                    let failure = request.err().unwrap_or(Failure::RouteNotFound);
                    (finhub::failure(&failure, now), Some(failure))
                }
            };
            if let Some(failure) = failure.as_ref().filter(|failure| failure.is_ours()) {
                // The cause is for operators alone: the audit event has the name.
                tracing::error!(outcome = failure.name(), cause = %failure, "request.failed");
            }
            if endpoint.is_none_or(Endpoint::is_audited) {
                self.audit.tell(&Decision {
                    at: now,
                    request_id: &request_id,
                    function: self.function,
                    action: endpoint.map_or(NO_ACTION, Endpoint::action),
                    outcome: failure.as_ref().map_or(audit::Outcome::SUCCESS, audit::Outcome::from),
                    status: Some(reply.status.as_u16()),
                    elapsed: started.elapsed(),
                    facts: telemetry::facts(),
                });
            }
            respond(reply, &request_id)
        };
        telemetry::decision(span, decided).await
    }

    async fn decide(&self, call: &Call<'_>, unreadable: Option<Failure>) -> Result<Reply, Failure> {
        if let Some(failure) = unreadable {
            return Err(failure);
        }
        let answer = async {
            match call.matched.route.endpoint {
                Endpoint::Finhub(endpoint) => finhub::answer(call, endpoint).await,
                Endpoint::Zitadel(endpoint, framing) => zitadel::answer(call, endpoint, framing).await,
                Endpoint::Ocariot => ocariot::answer(call).await,
                Endpoint::Page(endpoint) => page::answer(call, endpoint, self.page_origin.as_ref()).await,
                Endpoint::Public(endpoint) => {
                    public::answer(call, endpoint, self.public_url.as_deref()).await
                }
                Endpoint::Preflight => Ok(cors::preflight(call).await),
            }
        };
        // A defect in one request must not take the process, and with it the others, along.
        AssertUnwindSafe(answer)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Failure::Internal("the request's handler panicked".into())))
    }
}

/// A failure in the words of the dialect that was asked.
fn told(call: &Call<'_>, failure: &Failure) -> Reply {
    let Call { matched, request, now, .. } = *call;
    match matched.route.endpoint {
        // What browsers and verifiers ask has no words of its own.
        Endpoint::Finhub(_) | Endpoint::Public(_) | Endpoint::Preflight => finhub::failure(failure, now),
        Endpoint::Zitadel(_, framing) => zitadel::failure(failure, framing, request, now),
        Endpoint::Ocariot => ocariot::failure(failure, now),
        Endpoint::Page(_) => page::failure(failure, request, now),
    }
}

/// A request from an event, what its body cannot be read for, and the id it goes by. Not left to
/// `lambda_http`'s own conversion: that one panics on a body that is not base64 and on a path that is
/// no URI, and no input makes a 5xx (docs/design/contract.md#every-request).
fn read(event: &str) -> (Result<HttpRequest, Failure>, Option<Failure>, String) {
    let Ok(event) = serde_json::from_str::<ApiGatewayV2httpRequest>(event) else {
        let id = serde_json::from_str(event).ok().and_then(|event: serde_json::Value| {
            event.pointer("/requestContext/requestId")?.as_str().map(str::to_owned)
        });
        return (Err(Failure::Malformed("The request is not valid HTTP")), None, id.unwrap_or_default());
    };
    let context = event.request_context;
    let request_id = context.request_id.unwrap_or_default();
    let (body, unreadable) = match (event.body, event.is_base64_encoded) {
        (None, _) => (Vec::new(), None),
        (Some(body), false) => (body.into_bytes(), None),
        (Some(body), true) => match STANDARD.decode(body) {
            Ok(body) => (body, None),
            Err(_) => (Vec::new(), Some(Failure::Malformed("The body is not valid base64"))),
        },
    };
    let path = event.raw_path.unwrap_or_default();
    let stage = context.stage.filter(|stage| stage != "$default");
    let path = stage
        .and_then(|stage| {
            path.strip_prefix(&format!("/{stage}")).filter(|rest| rest.starts_with('/')).map(str::to_owned)
        })
        .unwrap_or(path);
    let request = HttpRequest {
        method: context.http.method,
        path,
        query: event.raw_query_string.unwrap_or_default(),
        ip: ClientAddress::new(
            context.http.source_ip.and_then(|ip| ip.parse().ok()),
            event.headers.get("x-forwarded-for").and_then(|chain| chain.to_str().ok()),
        ),
        headers: event.headers,
        cookies: event.cookies.unwrap_or_default(),
        body,
    };
    (Ok(request), unreadable, request_id)
}

/// The answer with what every answer carries (docs/design/contract.md#every-request). What may be kept says so itself.
fn respond(reply: Reply, request_id: &str) -> ApiGatewayV2httpResponse {
    let Reply { status, mut headers, cookies, body, failure: _ } = reply;
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    let (content_type, body) = match body {
        ReplyBody::Empty => (None, None),
        ReplyBody::Json(json) => {
            (Some(HeaderValue::from_static("application/json")), Some(Body::Text(json.to_string())))
        }
        ReplyBody::Text(kind, text) => (Some(HeaderValue::from_static(kind)), Some(Body::Text(text))),
        ReplyBody::Bytes(kind, bytes) => (Some(kind), Some(Body::Binary(bytes))),
    };
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status.as_u16());
    response.headers = headers;
    response.cookies = cookies;
    response.is_base64_encoded = matches!(body, Some(Body::Binary(_)));
    response.body = body;
    response
}

#[cfg(test)]
mod tests {
    use super::at_home;

    #[test]
    fn functions_serve_in_the_home_region_alone() {
        assert!(at_home(None, Some("eu-central-1")).is_ok());
        assert!(at_home(Some("eu-central-1"), Some("eu-central-1")).is_ok());
        for elsewhere in [Some("eu-west-1"), Some("eu-central-1a"), None] {
            let told = at_home(Some("eu-central-1"), elsewhere).unwrap_err().to_string();
            assert!(told.contains("home is eu-central-1"), "{told}");
        }
    }
}
