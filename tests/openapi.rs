//! docs/openapi.yaml is what the functions do: its paths and methods are the route table's, and every
//! recorded event's answer (and, where that is a success, the request) is as it says. The replay of the
//! events asks [`Document`]; nothing is sent a second time for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use boon::{Compiler, SchemaIndex, Schemas};
use doorward::route::{Endpoint, Framing, Function, Matched, Route, Router, served};
use e2e::Answer;
use http::Method;
use serde_json::{Value, json};

/// What the schemas' compiler calls the document; nothing is fetched from there.
const NAME: &str = "https://doorward.example/openapi.json";
/// What follows no scheme of a member's name that a schema knows.
const SURPRISE: &str = "surprise";

/// What the document says can happen and no recorded event shows: which call, status and kind of error, and
/// why. `*` is every call that the document says it of. What an event shows by now must not be here.
const NOT_SHOWN: &[(&str, u16, &str, &str)] = &[
    (
        "*",
        500,
        "INTERNAL",
        "a defect: events make hashing fail, the one that can be made to, where it is used",
    ),
    ("zitadel code.ask", 500, "13", "a defect, and nothing is hashed here"),
    ("zitadel-rpc code.ask", 200, "13", "a defect, and nothing is hashed here"),
    ("zitadel-rpc code.ask", 500, "internal", "a defect, and nothing is hashed here"),
    ("page page.show", 500, "", "a defect, and nothing is hashed here"),
    ("finhub login.reset", 409, "IDEMPOTENCY_EXPIRED", "needs a root key to be taken away: tests/once.rs"),
    (
        "ocariot password.set",
        429,
        "Too Many Requests",
        "the contract's: no limit of today meets an administrator",
    ),
    (
        "zitadel-rpc password.set",
        200,
        "9",
        "one schema has both calls' trailers; only PasswordReset fails so",
    ),
];

/// A call, a status and what kind of error it is, empty where it is none.
type Shown = (String, u16, String);

/// The document, its schemas compiled.
pub(crate) struct Document {
    root: Value,
    schemas: Schemas,
    operations: BTreeMap<(String, String), Operation>,
    /// For what reaches a function by a path that is no route.
    no_route: Reply,
    shown: Mutex<BTreeSet<Shown>>,
}

struct Operation {
    parameters: Vec<Parameter>,
    needs_body: bool,
    request: BTreeMap<String, Content>,
    /// Alternatives, each of names of schemes.
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
    /// By name in lower case: whether it is always there, and its schema.
    headers: BTreeMap<String, (bool, SchemaIndex)>,
    content: BTreeMap<String, Content>,
    kinds: BTreeSet<String>,
}

struct Content {
    schema: SchemaIndex,
    /// For a binary body: what it holds.
    decoded: Option<SchemaIndex>,
    examples: Vec<Value>,
}

/// Reads the parts of the document, and compiles schemas on the way.
struct Reader<'a> {
    root: &'a Value,
    compiler: Compiler,
    schemas: Schemas,
}

impl<'a> Reader<'a> {
    /// What is at a pointer, and where that is in the end: references are followed.
    fn at(&self, pointer: &str) -> Result<(&'a Value, String)> {
        let found = self.root.pointer(pointer).with_context(|| format!("nothing at {pointer}"))?;
        match found["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
            Some(to) => self.at(to),
            None => Ok((found, pointer.to_owned())),
        }
    }

    fn members(&self, pointer: &str) -> Vec<(String, String)> {
        let members = self.root.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        members.map(|(name, _)| (name.clone(), format!("{pointer}/{}", escaped(name)))).collect()
    }

    fn schema(&mut self, pointer: &str) -> Result<SchemaIndex> {
        // In a URI's fragment braces and blanks are encoded.
        let fragment = percent_encoding::utf8_percent_encode(pointer, percent_encoding::NON_ALPHANUMERIC);
        let compiled = self.compiler.compile(&format!("{NAME}#{fragment}"), &mut self.schemas);
        compiled.map_err(|error| anyhow::anyhow!("{pointer}: {error:#}"))
    }

    fn content(&mut self, pointer: &str) -> Result<BTreeMap<String, Content>> {
        let mut content = BTreeMap::new();
        for (kind, at) in self.members(pointer) {
            let schema = self.schema(&format!("{at}/schema"))?;
            let decoded = format!("{at}/x-decoded");
            let decoded = match self.root.pointer(&decoded) {
                Some(_) => Some(self.schema(&decoded)?),
                None => None,
            };
            let mut examples = Vec::new();
            for (_, example) in self.members(&format!("{at}/examples")) {
                examples.push(self.at(&example)?.0["value"].clone());
            }
            content.insert(kind, Content { schema, decoded, examples });
        }
        Ok(content)
    }

    fn reply(&mut self, pointer: &str) -> Result<Reply> {
        let at = self.at(pointer)?.1;
        let mut headers = BTreeMap::new();
        for (name, header) in self.members(&format!("{at}/headers")) {
            let (found, header) = self.at(&header)?;
            let required = found["required"] == true;
            headers.insert(name.to_ascii_lowercase(), (required, self.schema(&format!("{header}/schema"))?));
        }
        let mut kinds = BTreeSet::new();
        for (_, content) in self.members(&format!("{at}/content")) {
            kinds.extend(self.kinds(&content)?);
        }
        if kinds.is_empty() {
            kinds.insert(String::new());
        }
        Ok(Reply { headers, content: self.content(&format!("{at}/content"))?, kinds })
    }

    /// The kinds of error that an answer's schema names, by the member that tells them apart in its dialect.
    fn kinds(&self, content: &str) -> Result<BTreeSet<String>> {
        let places = ["schema/properties/data/properties/errorType", "schema/properties/code"];
        let places = places.into_iter().chain(["schema/properties/message"]);
        for place in places {
            if let Some(Value::Array(kinds)) = self.root.pointer(&format!("{content}/{place}/enum")) {
                return Ok(kinds.iter().map(plain).collect());
            }
        }
        if self.root.pointer(&format!("{content}/x-decoded/properties/trailers")).is_some() {
            let trailers = self.at(&format!("{content}/x-decoded/properties/trailers"))?.0;
            let kinds = trailers["properties"]["grpc-status"]["enum"].as_array().context("no codes")?;
            return Ok(kinds.iter().map(plain).collect());
        }
        Ok(BTreeSet::from([String::new()]))
    }

    fn parameters(&mut self, pointer: &str) -> Result<Vec<Parameter>> {
        let count = self.root.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
        let mut parameters = Vec::new();
        for index in 0..count {
            let (found, at) = self.at(&format!("{pointer}/{index}"))?;
            let (name, place) = (plain(&found["name"]), plain(&found["in"]));
            let required = found["required"] == true;
            parameters.push(Parameter {
                name,
                place,
                required,
                schema: self.schema(&format!("{at}/schema"))?,
            });
        }
        Ok(parameters)
    }

    fn operation(&mut self, pointer: &str) -> Result<Operation> {
        let found = self.root.pointer(pointer).context("no operation")?;
        let security =
            found["security"].as_array().with_context(|| format!("{pointer} names no security"))?;
        let names =
            |schemes: &Value| schemes.as_object().into_iter().flatten().map(|it| it.0.clone()).collect();
        let security = security.iter().map(names).collect();
        let needs_body = found["requestBody"]["required"] == true;
        let mut replies = BTreeMap::new();
        for (status, at) in self.members(&format!("{pointer}/responses")) {
            replies.insert(status.parse()?, self.reply(&at)?);
        }
        Ok(Operation {
            parameters: self.parameters(&format!("{pointer}/parameters"))?,
            needs_body,
            request: self.content(&format!("{pointer}/requestBody/content"))?,
            security,
            replies,
        })
    }
}

/// A name as a JSON pointer has it (RFC 6901, section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A route's call, by the name that [`NOT_SHOWN`] uses.
fn call(endpoint: Endpoint) -> String {
    let form = if let Endpoint::Zitadel(_, Framing::Rpc) = endpoint { "-rpc" } else { "" };
    format!("{}{form} {}", endpoint.dialect(), endpoint.action())
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

    /// Compares an answer with what is said of it, and the request too where that is a success.
    /// `decoded` is what the request's binary body holds.
    pub(crate) fn check(
        &self,
        function: Function,
        event: &Value,
        decoded: impl FnOnce() -> Result<Value>,
        answer: &Answer,
    ) -> Result<()> {
        let Some(matched) = matched(function, event)? else {
            return self.check_answer(&self.no_route, answer).context("docs/openapi.yaml, NoSuchRoute");
        };
        let Route { method, path, endpoint } = &matched.route;
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
        let shown = (call(*endpoint), status, kind);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(shown);
        Ok(())
    }

    /// After the last event: whether they showed all that the document says, but for what has a reason.
    pub(crate) fn check_all_shown(&self) -> Result<()> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = BTreeSet::new();
        for route in served() {
            let operation = &self.operations[&(route.method.to_string(), route.path.to_owned())];
            for (status, reply) in &operation.replies {
                said.extend(reply.kinds.iter().map(|kind| (call(route.endpoint), *status, kind.clone())));
            }
        }
        let has_reason = |(call, status, kind): &&Shown| {
            let fits = |of: &str| of == "*" || of == call;
            NOT_SHOWN.iter().any(|(of, at, what, _)| fits(of) && at == status && what == kind)
        };
        let missing: Vec<_> = said.difference(&shown).filter(|it| !has_reason(it)).collect();
        ensure!(missing.is_empty(), "no recorded event shows {missing:#?}");
        let undocumented: Vec<_> = shown.difference(&said).collect();
        ensure!(undocumented.is_empty(), "docs/openapi.yaml does not say {undocumented:#?}");
        for &(call, status, kind, why) in NOT_SHOWN {
            let fits = |it: &&Shown| (call == "*" || it.0 == call) && it.1 == status && it.2 == kind;
            ensure!(!why.is_empty(), "{call} {status} {kind} has no reason");
            ensure!(
                said.iter().any(|it| fits(&it)),
                "{call} {status} {kind}: nobody says that it can happen"
            );
            let all_shown = said.iter().filter(fits).all(|it| shown.contains(it));
            ensure!(!all_shown, "{call} {status} {kind}: an event shows it");
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
        matched: &Matched,
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
            "linkCookie" => cookies.iter().any(|cookie| cookie.starts_with("__Host-doorward-reset=")),
            "tenantKey" => header("x-tenant-key").is_some(),
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

    /// Whether it is valid, and would not be with a member more anywhere: a new member must be documented.
    fn valid_and_closed(&self, value: &Value, schema: SchemaIndex) -> Result<()> {
        self.valid(value, schema)?;
        for pointer in objects(value, String::new()) {
            let mut more = value.clone();
            let object = more.pointer_mut(&pointer).and_then(Value::as_object_mut);
            object.context("no object")?.insert(SURPRISE.to_owned(), json!(1));
            ensure!(self.valid(&more, schema).is_err(), "anything may be in {pointer:?} of {value}");
        }
        Ok(())
    }
}

/// Pointers to every object in a value.
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

fn matched(function: Function, event: &Value) -> Result<Option<Matched>> {
    let context = &event["requestContext"];
    let method: Method = context["http"]["method"].as_str().context("no method")?.parse()?;
    let path = event["rawPath"].as_str().unwrap_or_default();
    let stage = context["stage"].as_str().filter(|stage| *stage != "$default");
    let path = stage.and_then(|stage| path.strip_prefix(&format!("/{stage}"))).unwrap_or(path);
    Ok(Router::new(function)?.find(&method, path))
}

/// The kind of error that an answer tells of, by its dialect's own member.
fn kind(answer: &Answer) -> String {
    let body = &answer.body;
    let status = &body["trailers"]["grpc-status"];
    if !status.is_null() {
        return plain(status);
    }
    if answer.status < 400 || !body.is_object() {
        return String::new();
    }
    let members = [&body["data"]["errorType"], &body["code"]];
    let member = if body.get("description").is_some() { Some(&body["message"]) } else { None };
    plain(member.into_iter().chain(members).find(|it| !it.is_null()).unwrap_or(&json!("")))
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = Document::load().unwrap();
    let table: BTreeSet<_> =
        served().into_iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    let described: BTreeSet<_> = document.operations.keys().cloned().collect();
    assert_eq!(described, table);

    let declared: BTreeSet<_> =
        document.root["tags"].as_array().unwrap().iter().map(|tag| plain(&tag["name"])).collect();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for route in served() {
        let (path, method) = (route.path, route.method.as_str());
        let operation = &document.root["paths"][path][method.to_ascii_lowercase()];
        assert!(
            ids.insert(plain(&operation["operationId"])),
            "{method} {path}: the operationId is another's"
        );
        let tags: Vec<_> = operation["tags"].as_array().unwrap().iter().map(plain).collect();
        let [tag] = tags.as_slice() else { panic!("{method} {path} has tags {tags:?}") };
        let of_dialect = match route.endpoint {
            Endpoint::Finhub(_) => "FinHub",
            Endpoint::Zitadel(..) => "ZITADEL",
            Endpoint::Ocariot => "OCARIoT",
            Endpoint::Page(_) => "Password page",
            Endpoint::Public(_) => "Public",
            Endpoint::Preflight => "Preflights",
        };
        assert!(tag.starts_with(of_dialect), "{method} {path} has the tag {tag}");
        used.insert(tag.clone());
        let named = path.split(['{', '}']).skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let parameters = &document.operations[&(method.to_owned(), path.to_owned())].parameters;
        let declared = parameters.iter().filter(|it| it.place == "path");
        assert_eq!(declared.map(|it| it.name.clone()).collect::<BTreeSet<_>>(), named, "{method} {path}");
    }
    assert_eq!(used, declared);
}

/// Examples are what people send and programs expect first.
#[test]
fn examples_are_what_the_schemas_say() {
    let document = Document::load().unwrap();
    for ((method, path), operation) in &document.operations {
        for (kind, content) in &operation.request {
            for example in &content.examples {
                document
                    .valid(example, content.schema)
                    .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            }
            assert!(kind != "application/json" || !content.examples.is_empty(), "{method} {path}");
        }
        for (status, reply) in &operation.replies {
            for (kind, content) in &reply.content {
                for example in &content.examples {
                    let checked = document.valid_and_closed(example, content.schema);
                    checked.unwrap_or_else(|error| panic!("{method} {path} {status}: {error}"));
                }
                assert!(
                    kind != "application/json" || !content.examples.is_empty(),
                    "{method} {path} {status}"
                );
            }
        }
    }
}

/// The table of errors in the introduction is complete.
#[test]
fn every_error_type_is_explained() {
    let document = Document::load().unwrap();
    let text = plain(&document.root["info"]["description"]);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: BTreeSet<String> = rows
        .filter_map(|row| row.split_once(" | "))
        .flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`').to_owned()))
        .collect();
    let finhub = document.operations.iter().filter(|((_, path), _)| path.starts_with("/api/"));
    let kinds = finhub.flat_map(|(_, operation)| operation.replies.values().flat_map(|reply| &reply.kinds));
    let mut used: BTreeSet<String> = kinds.filter(|kind| !kind.is_empty()).cloned().collect();
    used.extend(document.no_route.kinds.iter().cloned());
    assert_eq!(used, explained);
}
