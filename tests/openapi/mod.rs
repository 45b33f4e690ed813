//! The API description, docs/openapi.yaml, compared with the route table and with the responses of the
//! functions. The replay of the recorded events calls [`Document::check`], so that no event is sent
//! twice.

mod description;
mod parameters;
mod reader;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use boon::{Compiler, SchemaIndex, Schemas};
use doorward::{
    dialect::MatchedPath,
    route::{self, Function, Route, Router},
};
use e2e::Answer;
use http::Method;
use serde_json::{Value, json};

use reader::{Reader, escaped};

/// Name of the document for the schema compiler, which fetches nothing.
const NAME: &str = "https://doorward.example/openapi.json";
/// A member name that no schema has.
const SURPRISE: &str = "surprise";

/// Reason for errors in the trailers of gRPC-Web.
const TRAILERS: &str = "the RPC calls share one schema of trailers and one function that renders them; PasswordReset shows the error";
/// Reason for bodies that cannot be read.
const ONE_READER: &str = "one function reads the messages of all calls; PasswordReset shows the error";

/// Documented responses that no test shows: call, status, kind of error and reason. `*` stands for
/// every call with this response. A response that a test shows must not be listed.
const NOT_SHOWN: &[(&str, u16, &str, &str)] = &[
    ("*", 500, "INTERNAL", "a defect: events can only make hashing fail, on the routes that hash"),
    ("*", 500, "13", "a defect: events can only make hashing fail, on the routes that hash"),
    ("*", 500, "internal", "a defect: events can only make hashing fail, on the routes that hash"),
    ("*", 200, "3", TRAILERS),
    ("*", 200, "5", TRAILERS),
    ("*", 200, "7", TRAILERS),
    ("*", 200, "8", TRAILERS),
    ("*", 200, "9", TRAILERS),
    ("*", 200, "12", TRAILERS),
    ("*", 200, "13", TRAILERS),
    ("*", 200, "14", TRAILERS),
    ("*", 200, "16", TRAILERS),
    ("*", 200, "6", "no event of gRPC-Web has a taken username: Connect shows this error"),
    ("*", 415, "12", ONE_READER),
    ("*", 415, "unimplemented", ONE_READER),
    ("*", 400, "invalid_argument", "the JSON route and gRPC-Web show the invalid fields of each call"),
    ("zitadel email.verify", 200, "", "no event knows a code: tests/users/contacts.rs"),
    ("zitadel-rpc email.verify", 200, "", "no event knows a code: tests/users/contacts.rs"),
    ("zitadel-rpc email.verify", 200, "0", "no event knows a code: tests/users/contacts.rs"),
    ("zitadel phone.verify", 200, "", "no event knows a code: tests/users/contacts.rs"),
    ("zitadel-rpc phone.verify", 200, "", "no event knows a code: tests/users/contacts.rs"),
    ("zitadel-rpc phone.verify", 200, "0", "no event knows a code: tests/users/contacts.rs"),
    ("oauth token.issue", 500, "server_error", "a defect, and the route hashes nothing"),
    ("oauth token.introspect", 500, "server_error", "a defect, and the route hashes nothing"),
    ("oauth token.revoke", 500, "server_error", "a defect, and the route hashes nothing"),
    ("page page.show", 500, "", "a defect, and the route hashes nothing"),
    (
        "finhub login.reset",
        409,
        "IDEMPOTENCY_EXPIRED",
        "requires the removal of a root key: tests/idempotency/keys.rs",
    ),
    (
        "ocariot password.set",
        429,
        "Too Many Requests",
        "defined by the contract, but no limit applies to administrators",
    ),
];

/// A call, a status and the kind of error, which is empty for successes and pages.
pub(crate) type Shown = (String, u16, String);

/// The API description with compiled schemas.
pub(crate) struct Document {
    root: Value,
    schemas: Schemas,
    operations: BTreeMap<(String, String), Operation>,
    /// The response to a request that matches no route.
    no_route: Reply,
    shown: Mutex<BTreeSet<Shown>>,
}

struct Operation {
    parameters: Vec<Parameter>,
    needs_body: bool,
    request: BTreeMap<String, Content>,
    /// Alternative sets of security scheme names.
    security: Vec<Vec<String>>,
    replies: BTreeMap<u16, Reply>,
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    schema: SchemaIndex,
}

struct Reply {
    /// By lower-case name: whether the header is required, and its schema.
    headers: BTreeMap<String, (bool, SchemaIndex)>,
    content: BTreeMap<String, Content>,
    kinds: BTreeSet<String>,
}

struct Content {
    schema: SchemaIndex,
    /// Schema of a binary body's decoded content.
    decoded: Option<SchemaIndex>,
    examples: Vec<Value>,
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Name of a route's call, as in [`NOT_SHOWN`].
pub(crate) fn call(route: &Route) -> String {
    let form = if route.path.starts_with("/zitadel.") { "-rpc" } else { "" };
    format!("{}{form} {}", route.dialect.name, route.action)
}

impl Document {
    pub(crate) fn load() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.yaml");
        let root: Value = serde_saphyr::from_str(&fs::read_to_string(file)?).context("docs/openapi.yaml")?;
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource(NAME, root.clone()).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let mut reader = Reader { root: &root, compiler, schemas: Schemas::new() };
        let mut operations = BTreeMap::new();
        for (path, at) in reader.members("/paths") {
            for (method, at) in reader.members(&at) {
                let operation = reader.operation(&at).with_context(|| format!("{method} {path}"))?;
                operations.insert((method.to_ascii_uppercase(), path.clone()), operation);
            }
        }
        let no_route = reader.reply("/components/responses/NoSuchRoute")?;
        let Reader { schemas, .. } = reader;
        Ok(Self { root, schemas, operations, no_route, shown: Mutex::default() })
    }

    /// Compares a response with the document, and the request too if it succeeded. `decoded` returns
    /// the content of a binary request body.
    pub(crate) fn check(
        &self,
        function: Function,
        event: &Value,
        decoded: impl FnOnce() -> Result<Value>,
        answer: &Answer,
    ) -> Result<()> {
        let Some((route, matched)) = matched(function, event)? else {
            return self.check_answer(&self.no_route, answer).context("docs/openapi.yaml, NoSuchRoute");
        };
        let Route { method, path, .. } = route;
        let at = || format!("docs/openapi.yaml, {method} {path}, {}", answer.status);
        let operation = self.operations.get(&(method.to_string(), (*path).to_owned())).with_context(at)?;
        let status = u16::try_from(answer.status)?;
        let reply = operation.replies.get(&status).with_context(at)?;
        self.check_answer(reply, answer).with_context(at)?;
        let kind = kind(answer);
        if status < 400 && matches!(kind.as_str(), "" | "0") {
            self.check_request(operation, &matched, event, decoded)
                .with_context(at)
                .context("its request")?;
        }
        let shown = (call(route), status, kind);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(shown);
        Ok(())
    }

    /// Adds responses that another test shows.
    pub(crate) fn note_shown(&self, shown: BTreeSet<Shown>) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).extend(shown);
    }

    /// Checks that all documented responses were shown, except those in [`NOT_SHOWN`]. Call it after
    /// the last event.
    pub(crate) fn check_all_shown(&self) -> Result<()> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = BTreeSet::new();
        for (_, route) in route::table() {
            let operation = &self.operations[&(route.method.to_string(), route.path.to_owned())];
            for (status, reply) in &operation.replies {
                said.extend(reply.kinds.iter().map(|kind| (call(route), *status, kind.clone())));
            }
        }
        let has_reason = |(call, status, kind): &&Shown| {
            let fits = |of: &str| of == "*" || of == call;
            NOT_SHOWN.iter().any(|(of, at, what, _)| fits(of) && at == status && what == kind)
        };
        let missing: Vec<_> = said.difference(&shown).filter(|it| !has_reason(it)).collect();
        ensure!(missing.is_empty(), "no recorded event and no row of the route matrix shows {missing:#?}");
        let undocumented: Vec<_> = shown.difference(&said).collect();
        ensure!(undocumented.is_empty(), "docs/openapi.yaml does not document {undocumented:#?}");
        for &(call, status, kind, why) in NOT_SHOWN {
            let fits = |it: &&Shown| (call == "*" || it.0 == call) && it.1 == status && it.2 == kind;
            ensure!(!why.is_empty(), "{call} {status} {kind} has no reason");
            ensure!(said.iter().any(|it| fits(&it)), "{call} {status} {kind} is not documented");
            let all_shown = said.iter().filter(fits).all(|it| shown.contains(it));
            ensure!(!all_shown, "{call} {status} {kind} is shown; remove it from NOT_SHOWN");
        }
        Ok(())
    }

    fn check_answer(&self, reply: &Reply, answer: &Answer) -> Result<()> {
        let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in &answer.headers {
            headers.insert(name.as_str(), value.to_str()?);
        }
        let kind = headers.remove("content-type");
        ensure!(answer.cookies.len() <= 1, "cookies {:?}", answer.cookies);
        headers.extend(answer.cookies.first().map(|cookie| ("set-cookie", cookie.as_str())));
        for (name, value) in &headers {
            let (_, schema) = reply.headers.get(*name).with_context(|| format!("header {name}: {value}"))?;
            self.valid(&json!(value), *schema).with_context(|| format!("header {name}"))?;
        }
        for (name, (required, _)) in &reply.headers {
            ensure!(!required || headers.contains_key(name.as_str()), "no header {name}");
        }
        let Some(kind) = kind else {
            ensure!(answer.bytes.is_empty() && reply.content.is_empty(), "no content type");
            return Ok(());
        };
        let content = reply.content.get(kind).with_context(|| format!("content type {kind}"))?;
        if kind.starts_with("text/") {
            return self.valid(&json!(answer.text), content.schema);
        }
        self.valid_and_closed(&answer.body, content.decoded.unwrap_or(content.schema))
    }

    fn check_request(
        &self,
        operation: &Operation,
        matched: &MatchedPath,
        event: &Value,
        decoded: impl FnOnce() -> Result<Value>,
    ) -> Result<()> {
        let header = |name: &str| {
            let mut headers = event["headers"].as_object().into_iter().flatten();
            headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        let query: BTreeMap<_, _> =
            url::form_urlencoded::parse(event["rawQueryString"].as_str().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        for Parameter { name, place, required, schema } in &operation.parameters {
            let value = match place.as_str() {
                "path" => {
                    matched.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
                }
                "query" => query.get(name).cloned(),
                _ => header(name).map(str::to_owned),
            };
            ensure!(value.is_some() || !required, "no {place} parameter {name}");
            let Some(value) = value else { continue };
            let number = value.parse::<i64>().map(Value::from);
            let is_number = number.is_ok_and(|number| self.valid(&number, *schema).is_ok());
            if !is_number {
                self.valid(&json!(value), *schema).with_context(|| format!("{place} parameter {name}"))?;
            }
        }
        let cookies: Vec<_> =
            event["cookies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let has = |scheme: &String| match scheme.as_str() {
            "bearer" => header("authorization").is_some_and(|value| value.starts_with("Bearer ")),
            "browserCookie" => cookies.iter().any(|cookie| cookie.starts_with("__Host-doorward-browser=")),
            "tenantKey" => header("x-tenant-key").is_some(),
            "clientBasic" => header("authorization").is_some_and(|value| value.starts_with("Basic ")),
            "tenantSecret" => header("x-tenant-secret").is_some(),
            _ => false,
        };
        let admits =
            operation.security.is_empty() || operation.security.iter().any(|one| one.iter().all(has));
        ensure!(admits, "none of {:?} is sent", operation.security);
        let body = event["body"].as_str().unwrap_or_default();
        if body.is_empty() || operation.request.is_empty() {
            return if operation.needs_body { bail!("no body") } else { Ok(()) };
        }
        let kind = header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let content = operation.request.get(&kind).with_context(|| format!("content type {kind}"))?;
        if let Some(schema) = content.decoded {
            return self.valid(&decoded()?, schema);
        }
        let body = if event["isBase64Encoded"] == true { STANDARD.decode(body)? } else { body.into() };
        let body = if kind == "application/x-www-form-urlencoded" {
            json!(url::form_urlencoded::parse(&body).into_owned().collect::<BTreeMap<_, _>>())
        } else {
            serde_json::from_slice(&body)?
        };
        self.valid(&body, content.schema)
    }

    fn valid(&self, value: &Value, schema: SchemaIndex) -> Result<()> {
        self.schemas.validate(value, schema).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Checks that the value is valid and that every additional member would be invalid.
    fn valid_and_closed(&self, value: &Value, schema: SchemaIndex) -> Result<()> {
        self.valid(value, schema)?;
        for pointer in objects(value, String::new()) {
            let mut more = value.clone();
            let object = more.pointer_mut(&pointer).and_then(Value::as_object_mut);
            object.context("no object")?.insert(SURPRISE.to_owned(), json!(1));
            ensure!(
                self.valid(&more, schema).is_err(),
                "the schema allows unknown members in {pointer:?} of {value}"
            );
        }
        Ok(())
    }
}

/// Pointers to all objects in a value.
fn objects(value: &Value, at: String) -> Vec<String> {
    let mut found = Vec::new();
    match value {
        Value::Object(members) => {
            let inner = members.iter().map(|(name, value)| objects(value, format!("{at}/{}", escaped(name))));
            found.extend(inner.flatten());
            found.push(at);
        }
        Value::Array(items) => {
            let inner =
                items.iter().enumerate().map(|(index, value)| objects(value, format!("{at}/{index}")));
            found.extend(inner.flatten());
        }
        _ => {}
    }
    found
}

fn matched(function: Function, event: &Value) -> Result<Option<(&'static Route, MatchedPath)>> {
    let context = &event["requestContext"];
    let method: Method = context["http"]["method"].as_str().context("no method")?.parse()?;
    let path = event["rawPath"].as_str().unwrap_or_default();
    let stage = context["stage"].as_str().filter(|stage| *stage != "$default");
    let path = stage.and_then(|stage| path.strip_prefix(&format!("/{stage}"))).unwrap_or(path);
    Ok(Router::new(function.routes())?.find(&method, path))
}

/// The kind of error in a response, from the member that its dialect uses.
pub(crate) fn kind(answer: &Answer) -> String {
    let body = &answer.body;
    let status = &body["trailers"]["grpc-status"];
    if !status.is_null() {
        return plain(status);
    }
    if answer.status < 400 || !body.is_object() {
        return String::new();
    }
    let members = [&body["data"]["errorType"], &body["error"], &body["code"]];
    let member = if body.get("description").is_some() { Some(&body["message"]) } else { None };
    plain(member.into_iter().chain(members).find(|it| !it.is_null()).unwrap_or(&json!("")))
}
