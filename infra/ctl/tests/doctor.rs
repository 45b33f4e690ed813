//! `doorwardctl doctor`: each injected fault is found, and no other. A proxy injects the faults that the
//! emulators cannot produce.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use doorward::{
    domain::{OrganizationId, PublishedKeys, TenantId, TenantStatus, User, UserId, Username},
    function::SystemClock,
    port::Clock,
};
use e2e::NORDIC;
use http::StatusCode;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{SignedDuration, fmt::rfc2822::DateTimePrinter};
use local::{SECRET_PREFIX, TABLE};
use serde_json::{Value, json};

use crate::{Done, Stack, run};

/// A change that the proxy makes to responses.
#[derive(Clone)]
pub(crate) enum Plant {
    Nothing,
    /// Denies a call.
    Deny(&'static str),
    /// Sets a value at a JSON pointer in the response of a call.
    Say(&'static str, &'static str, Value),
    /// Sets the proxy's clock behind this machine, in seconds.
    Behind(i64),
    /// Rejects the credentials as expired.
    Expired,
}

/// The proxy between the command and the emulators.
struct Aws {
    dynamodb: String,
    secrets: String,
    http: Client<HttpConnector, Body>,
    plant: Mutex<Plant>,
}

impl Aws {
    fn plant(&self) -> Plant {
        self.plant.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request) -> Response {
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let Some((service, call)) = target.and_then(|target| target.split_once('.')) else {
            return self.identity();
        };
        let (service, call) = (service.to_owned(), call.to_owned());
        if let Plant::Deny(denied) = self.plant()
            && denied == call
        {
            return refusal("AccessDeniedException");
        }
        let (status, mut told) = if call == "DescribeContinuousBackups" {
            let on = json!({ "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": "ENABLED" } });
            (StatusCode::OK, json!({ "ContinuousBackupsDescription": on }))
        } else {
            self.forward(request, service.starts_with("DynamoDB")).await
        };
        if call == "DescribeTable" && status.is_success() {
            told["Table"]["SSEDescription"] = json!({ "Status": "ENABLED", "SSEType": "KMS" });
        }
        if let Plant::Say(of, pointer, value) = self.plant()
            && of == call
        {
            let (above, last) = pointer.rsplit_once('/').unwrap();
            told.pointer_mut(above).unwrap()[last] = value;
        }
        response(status, "application/x-amz-json-1.0", told.to_string())
    }

    async fn forward(&self, request: Request, to_table: bool) -> (StatusCode, Value) {
        let (mut head, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        head.uri = if to_table { &self.dynamodb } else { &self.secrets }.parse().unwrap();
        head.headers.remove("host");
        let answer = self.http.request(Request::from_parts(head, Body::from(body))).await.unwrap();
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    fn identity(&self) -> Response {
        if matches!(self.plant(), Plant::Expired) {
            let text = "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>It expired.</Message></Error>\
                        </ErrorResponse>";
            return response(StatusCode::FORBIDDEN, "text/xml", text.to_owned());
        }
        let text = "<GetCallerIdentityResponse><GetCallerIdentityResult>\
                    <Arn>arn:aws:sts::123456789012:assumed-role/operator/me</Arn><Account>123456789012</Account>\
                    </GetCallerIdentityResult></GetCallerIdentityResponse>";
        response(StatusCode::OK, "text/xml", text.to_owned())
    }
}

fn refusal(code: &str) -> Response {
    let text = json!({ "__type": format!("com.amazonaws#{code}"), "message": "no" });
    response(StatusCode::BAD_REQUEST, "application/x-amz-json-1.0", text.to_string())
}

fn response(status: StatusCode, kind: &str, text: String) -> Response {
    Response::builder().status(status).header("content-type", kind).body(Body::from(text)).unwrap()
}

/// Adds a date header to each response.
async fn timed(State(aws): State<Arc<Aws>>, request: Request) -> Response {
    let mut answer = aws.answer(request).await;
    let behind = match aws.plant() {
        Plant::Behind(seconds) => seconds,
        _ => 0,
    };
    let now = SystemClock.now() - SignedDuration::from_secs(behind);
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
    answer.headers_mut().insert("date", date.parse().unwrap());
    answer
}

/// A deployment without faults, and the proxy that injects them.
pub(crate) struct Patient {
    pub(crate) stack: Stack,
    aws: Arc<Aws>,
    url: String,
}

impl Patient {
    pub(crate) async fn healthy() -> Self {
        let stack = Stack::start().await;
        // The demo tenant with a broken secret gets the secret of another tenant.
        let good = stack.world.secrets.get_secret_value().secret_id(format!("{SECRET_PREFIX}{NORDIC}"));
        let good = good.send().await.unwrap().secret_string.unwrap();
        let unusable = format!("{SECRET_PREFIX}tenant_unusable");
        stack.world.secrets.put_secret_value().secret_id(unusable).secret_string(good).send().await.unwrap();
        stack.world.publish_keys("tenant_unusable").await.unwrap();
        let aws = Arc::new(Aws {
            dynamodb: stack.world.dynamodb_url.clone(),
            secrets: stack.world.secrets_url.clone(),
            http: Client::builder(TokioExecutor::new()).build_http(),
            plant: Mutex::new(Plant::Nothing),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(timed).with_state(Arc::clone(&aws));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { stack, aws, url }
    }

    pub(crate) fn environment(&self) -> HashMap<&'static str, String> {
        let nowhere = self.stack.path("nowhere");
        HashMap::from([
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", nowhere.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", nowhere.clone()),
            ("HOME", nowhere),
            ("DOORWARD_TABLE", TABLE.to_owned()),
        ])
    }

    async fn examine_in(&self, environment: &HashMap<&'static str, String>) -> Done {
        run(&["--json", "doctor"], environment, "").await
    }

    async fn examine(&self) -> Done {
        self.examine_in(&self.environment()).await
    }

    pub(crate) fn set(&self, plant: Plant) {
        *self.aws.plant.lock().unwrap() = plant;
    }

    async fn with(&self, plant: Plant) -> Done {
        self.set(plant);
        let done = self.examine().await;
        self.set(Plant::Nothing);
        done
    }
}

/// Returns name and message of the checks in a state. Asserts that each has a reason and a fix.
fn found(done: &Done, state: &str) -> Vec<(String, String)> {
    let told = done.json();
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = told["checks"].as_array().unwrap().iter();
    let found = checks.filter(|check| check["state"] == json!(state));
    found
        .map(|check| {
            assert!(
                text(check, "why").len() > 10 && text(check, "fix").len() > 10,
                "check has a reason and a fix: {check}"
            );
            (text(check, "check"), text(check, "message"))
        })
        .collect()
}

/// Asserts that exactly one fault is found, in that check and with that message.
fn is_the_only_fault(done: &Done, check: &str, part: &str) {
    let faults = found(done, "FAULT");
    assert!(faults.len() == 1 && faults[0].0 == check && faults[0].1.contains(part), "{check}: {done:?}");
    assert_eq!(done.code, 1, "{check}");
    assert_eq!(done.json()["healthy"], json!(false), "{check}");
}

fn is_healthy(done: &Done) {
    assert_eq!((done.code, &done.json()["healthy"]), (0, &json!(true)), "{done:?}");
    for state in ["FAULT", "WARNING"] {
        assert_eq!(found(done, state), [], "{done:?}");
    }
}

#[tokio::test]
async fn healthy_deployment_and_local_stack_have_no_faults() {
    let patient = Patient::healthy().await;
    let done = patient.examine().await;
    is_healthy(&done);
    assert_eq!(done.json()["notChecked"], json!(0), "{done:?}");
    let before = patient.stack.world.dynamodb.scan().table_name(TABLE).send().await.unwrap().count();
    let local = patient.stack.run(&["--json", "doctor"]).await;
    is_healthy(&local);
    assert!(local.json()["notChecked"].as_u64().unwrap() > 0, "{local:?}");
    let after = patient.stack.world.dynamodb.scan().table_name(TABLE).send().await.unwrap().count();
    assert_eq!(before, after, "doctor writes nothing");
    let text = patient.stack.run(&["doctor"]).await.succeeded().stdout;
    assert!(text.starts_with("CHECK ") && text.contains("No faults or warnings."), "{text}");
}

// docs/design/contract.md#ids: users of earlier versions keep their IDs.
#[tokio::test]
async fn ids_that_a_path_cannot_contain_are_listed() {
    let patient = Patient::healthy().await;
    let world = &patient.stack.world;
    let marcus = world.user(&world.actor("marcus.jensen@example.com").unwrap()).await.unwrap();
    for (number, (id, organization)) in
        [("a/b", "org"), ("a%2Fb", "org"), ("a?b", "org"), ("plain", "gone\u{200b}")].into_iter().enumerate()
    {
        let user = User {
            id: UserId::parse(id).unwrap(),
            username: Username::parse(&format!("h{number}@example.com")).unwrap(),
            organization: OrganizationId::parse(organization).unwrap(),
            ..marcus.clone()
        };
        world.store.create_user(&user, user.created_at).await.unwrap();
    }
    let done = patient.examine().await;
    assert_eq!(done.code, 0, "{done:?}");
    let warnings: Vec<_> = found(&done, "WARNING")
        .into_iter()
        .map(|(check, message)| {
            assert_eq!(check, "users");
            message.replace("97e7ff29-15f3-49ef-9681-3bbfcce4f6cd: ", "")
        })
        .collect();
    let expected = |user: &str, member: &str, id: &str| {
        format!("user {user:?} has the {member} {id:?}, which a new user must not have")
    };
    assert_eq!(
        warnings,
        [
            expected("a%2Fb", "id", "a%2Fb"),
            expected("a/b", "id", "a/b"),
            expected("a?b", "id", "a?b"),
            expected("plain", "organization", "gone\u{200b}"),
        ]
    );
}

// docs/configuration.md#templates-of-a-tenant: an operator writes the item.
#[tokio::test]
async fn unusable_message_templates_are_found() {
    let patient = Patient::healthy().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let map = |name: &str, value| AttributeValue::M(HashMap::from([(name.to_owned(), value)]));
    for (template, part) in [
        (map("text", text("{{ link }}")), None),
        (map("text", text("{{ secret }}")), Some("template da/reset_code_text")),
        (text("nonsense"), Some("not readable")),
    ] {
        let put = patient.stack.world.dynamodb.put_item().table_name(TABLE);
        let put = put.item("pk", text(&format!("T#{NORDIC}"))).item("sk", text("TEMPLATES"));
        put.item("templates", map("da", map("reset_code_text", template))).send().await.unwrap();
        let done = patient.examine().await;
        assert_eq!(done.code, 0, "{done:?}");
        let warnings = found(&done, "WARNING");
        assert_eq!(warnings.len(), usize::from(part.is_some()), "{done:?}");
        assert!(warnings.iter().all(|(_, told)| told.contains(part.unwrap_or_default())), "{done:?}");
    }
}

#[tokio::test]
async fn wrong_region_credentials_table_and_clock_are_found() {
    let patient = Patient::healthy().await;
    let without = |names: &[&str], more: &[(&'static str, &str)]| {
        let mut environment = patient.environment();
        environment.retain(|name, _| !names.contains(name));
        environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        environment
    };
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    for (environment, check, part) in [
        (without(&["AWS_REGION"], &[]), "region", "no Region"),
        (without(&keys, &[]), "credentials", ""),
        (without(&[], &[("DOORWARD_TABLE", "another")]), "table", "table another does not exist"),
        (
            without(&[], &[("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")]),
            "table",
            "could not be reached",
        ),
    ] {
        is_the_only_fault(&patient.examine_in(&environment).await, check, part);
    }
    let nowhere = patient.examine_in(&without(&["DOORWARD_TABLE"], &[])).await;
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    is_the_only_fault(&patient.with(Plant::Expired).await, "credentials", "ExpiredToken");
    is_the_only_fault(&patient.with(Plant::Behind(301)).await, "clock", "s ahead of AWS");
    is_the_only_fault(&patient.with(Plant::Behind(-310)).await, "clock", "s behind AWS");
    let warned = patient.with(Plant::Behind(200)).await;
    assert_eq!((warned.code, found(&warned, "WARNING")[0].0.as_str()), (0, "clock"), "{warned:?}");
}

#[tokio::test]
async fn wrong_table_settings_are_found() {
    let patient = Patient::healthy().await;
    let keys = json!([{ "AttributeName": "id", "KeyType": "HASH" }]);
    let view = |view: &str| json!({ "StreamEnabled": true, "StreamViewType": view });
    for (call, pointer, value, check) in [
        ("DescribeTable", "/Table/TableStatus", json!("INACCESSIBLE_ENCRYPTION_CREDENTIALS"), "table"),
        ("DescribeTable", "/Table/KeySchema", keys, "table.keys"),
        (
            "DescribeTable",
            "/Table/BillingModeSummary",
            json!({ "BillingMode": "PROVISIONED" }),
            "table.billing",
        ),
        ("DescribeTable", "/Table/BillingModeSummary", Value::Null, "table.billing"),
        ("DescribeTable", "/Table/StreamSpecification", Value::Null, "table.stream"),
        ("DescribeTable", "/Table/StreamSpecification", view("NEW_AND_OLD_IMAGES"), "table.stream"),
        ("DescribeTable", "/Table/DeletionProtectionEnabled", json!(false), "table.protection"),
        ("DescribeTable", "/Table/SSEDescription", Value::Null, "table.encryption"),
        ("DescribeTable", "/Table/SSEDescription/Status", json!("DISABLED"), "table.encryption"),
        ("DescribeTimeToLive", "/TimeToLiveDescription/TimeToLiveStatus", json!("DISABLED"), "table.ttl"),
        ("DescribeTimeToLive", "/TimeToLiveDescription/AttributeName", json!("ttl"), "table.ttl"),
        (
            "DescribeContinuousBackups",
            "/ContinuousBackupsDescription/PointInTimeRecoveryDescription/PointInTimeRecoveryStatus",
            json!("DISABLED"),
            "table.recovery",
        ),
    ] {
        is_the_only_fault(&patient.with(Plant::Say(call, pointer, value)).await, check, "");
    }
    is_healthy(&patient.examine().await);
}

// docs/design/security.md#rule-26: a missing permission is reported by name.
#[tokio::test]
async fn each_missing_permission_is_named() {
    let patient = Patient::healthy().await;
    for (call, action) in [
        ("DescribeTable", "dynamodb:DescribeTable"),
        ("DescribeTimeToLive", "dynamodb:DescribeTimeToLive"),
        ("DescribeContinuousBackups", "dynamodb:DescribeContinuousBackups"),
        ("Scan", "dynamodb:Scan"),
        ("Query", "dynamodb:Query"),
        ("BatchGetItem", "dynamodb:BatchGetItem"),
        ("PutItem", "dynamodb:PutItem"),
        ("UpdateItem", "dynamodb:UpdateItem"),
        ("DeleteItem", "dynamodb:DeleteItem"),
        ("TransactWriteItems", "dynamodb:ConditionCheckItem"),
        ("ListSecrets", "secretsmanager:ListSecrets"),
    ] {
        let done = patient.with(Plant::Deny(call)).await;
        is_the_only_fault(&done, "permissions", &format!("{action} is not allowed"));
    }
    // These calls are made once per tenant.
    for (call, action) in [
        ("DescribeSecret", "secretsmanager:DescribeSecret"),
        ("GetSecretValue", "secretsmanager:GetSecretValue"),
    ] {
        let faults = found(&patient.with(Plant::Deny(call)).await, "FAULT");
        assert_eq!(faults.len(), patient.stack.world.tenants.len(), "{faults:?}");
        assert!(
            faults.iter().all(|(check, told)| check == "permissions" && told.contains(action)),
            "{faults:?}"
        );
    }
    let denied = patient.with(Plant::Deny("GetItem")).await;
    assert!(
        found(&denied, "FAULT")
            .iter()
            .any(|(check, told)| check == "permissions" && told.contains("GetItem"))
    );
}

// Earlier versions published no keys in the table.
#[tokio::test]
async fn tenant_without_published_keys_is_found_and_repaired() {
    let patient = Patient::healthy().await;
    patient.stack.world.unpublish_keys(NORDIC).await.unwrap();
    is_the_only_fault(&patient.examine().await, "keys", "no public keys are published");
    let published = patient.stack.run(&["--json", "tenant", "publish-keys"]).await.json();
    let changed = |tenant: &Value| tenant["changed"] == json!(true);
    let changed: Vec<_> = published.as_array().unwrap().iter().filter(|tenant| changed(tenant)).collect();
    assert_eq!(changed, [&json!({ "tenant": NORDIC, "changed": true })]);
    is_healthy(&patient.examine().await);
    let unknown = patient.stack.run(&["tenant", "publish-keys", "nobody"]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("does not exist"), "{unknown:?}");
}

#[tokio::test]
async fn unpublished_previous_version_is_found_and_repaired() {
    let patient = Patient::healthy().await;
    let store = &patient.stack.world.store;
    let id = TenantId::parse(NORDIC).unwrap();
    let of_first = store.published_keys(&id).await.unwrap().unwrap().keys;
    patient.stack.run(&["tenant", "secret", "rotate", NORDIC]).await.succeeded();
    is_healthy(&patient.examine().await);
    let stored = store.published_keys(&id).await.unwrap().unwrap();
    let without = PublishedKeys { previous: None, keys: of_first.keys, ..stored.keys.clone() };
    assert!(store.publish_keys(&id, Some(&stored), &without).await.unwrap());
    let warned = patient.examine().await;
    let warnings = found(&warned, "WARNING");
    assert!(warned.code == 0 && warnings.len() == 1 && warnings[0].0 == "keys", "{warned:?}");
    patient.stack.run(&["tenant", "publish-keys", NORDIC]).await.succeeded();
    is_healthy(&patient.examine().await);
}

#[tokio::test]
async fn unusable_secrets_and_tenant_records_are_found() {
    let patient = Patient::healthy().await;
    let (world, secrets) = (&patient.stack.world, &patient.stack.world.secrets);
    let name = format!("{SECRET_PREFIX}{NORDIC}");
    let good = secrets.get_secret_value().secret_id(&name).send().await.unwrap().secret_string.unwrap();
    let without = |member: &str, value: Value| {
        let mut document: Value = serde_json::from_str(&good).unwrap();
        document[member] = value;
        document.to_string()
    };
    for (text, part) in [
        ("hunter2".to_owned(), "not a JSON document"),
        (without("signingKeys", json!([])), "no signing key for ES256"),
        (without("rootKeys", json!([])), ""),
        (without("tenantSecret", json!("")), ""),
    ] {
        secrets.put_secret_value().secret_id(&name).secret_string(text).send().await.unwrap();
        let done = patient.examine().await;
        is_the_only_fault(&done, "secrets", part);
        assert!(!done.stdout.contains("hunter2"), "{done:?}");
    }
    secrets.put_secret_value().secret_id(&name).secret_string(&good).send().await.unwrap();
    let warned = patient.examine().await;
    let warnings = found(&warned, "WARNING");
    assert!(
        warned.code == 0 && warnings.len() == 1 && warnings[0].1.contains("published keys"),
        "{warned:?}"
    );
    world.publish_keys(NORDIC).await.unwrap();

    let pending =
        secrets.put_secret_value().secret_id(&name).secret_string(&good).version_stages("AWSPENDING");
    let pending = pending.send().await.unwrap().version_id.unwrap();
    let warned = patient.examine().await;
    let warnings = found(&warned, "WARNING");
    assert!(warned.code == 0 && warnings.len() == 1 && warnings[0].1.contains(&pending), "{warned:?}");
    let ended = secrets.update_secret_version_stage().secret_id(&name).version_stage("AWSPENDING");
    ended.remove_from_version_id(pending).send().await.unwrap();

    secrets.create_secret().name(format!("{SECRET_PREFIX}nobodys")).secret_string("x").send().await.unwrap();
    let warned = patient.examine().await;
    let warnings = found(&warned, "WARNING");
    assert!(warned.code == 0 && warnings.len() == 1 && warnings[0].1.contains("nobodys"), "{warned:?}");
    let delete = secrets.delete_secret().secret_id(format!("{SECRET_PREFIX}nobodys"));
    delete.force_delete_without_recovery(true).send().await.unwrap();

    secrets.delete_secret().secret_id(&name).recovery_window_in_days(7).send().await.unwrap();
    is_the_only_fault(&patient.examine().await, "secrets", "scheduled for deletion");
    secrets.restore_secret().secret_id(&name).send().await.unwrap();
    is_healthy(&patient.examine().await);

    // A tenant without a secret, and records with invalid values.
    let known = world.store.tenant(&TenantId::parse(NORDIC).unwrap()).await.unwrap().unwrap();
    let new = doorward::domain::Tenant {
        id: TenantId::parse("secretless").unwrap(),
        status: TenantStatus::Active,
        version: 0,
        ..known
    };
    world.store.create_tenant(&new, SystemClock.now()).await.unwrap();
    is_the_only_fault(&patient.examine().await, "secrets", "tenant secretless has no secret");
    let key = |sk: &str| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        HashMap::from([("pk".to_owned(), text("T#secretless")), ("sk".to_owned(), text(sk))])
    };
    let delete = world.dynamodb.delete_item().table_name(TABLE).set_key(Some(key("TENANT")));
    delete.send().await.unwrap();
    is_healthy(&patient.examine().await);

    let write = async |update: &str, value: AttributeValue| {
        let mut key = key("TENANT");
        key.insert("pk".to_owned(), AttributeValue::S(format!("T#{NORDIC}")));
        let update =
            world.dynamodb.update_item().table_name(TABLE).set_key(Some(key)).update_expression(update);
        update.expression_attribute_values(":x", value).send().await.unwrap();
    };
    write("SET policy.algorithm = :x", AttributeValue::S("none".to_owned())).await;
    let broken = patient.examine().await;
    assert!(
        found(&broken, "FAULT").iter().any(|(check, told)| check == "tenants" && told.contains("algorithm"))
    );
    write("SET policy.algorithm = :x", AttributeValue::S("ES256".to_owned())).await;
    write("SET policy.grace_seconds = :x", AttributeValue::N("301".to_owned())).await;
    let warned = patient.examine().await;
    assert_eq!((warned.code, found(&warned, "WARNING").len()), (0, 1), "{warned:?}");
    write("SET policy.grace_seconds = :x", AttributeValue::N("30".to_owned())).await;
    write("SET tenant_status = :x", AttributeValue::S("ASLEEP".to_owned())).await;
    let broken = patient.examine().await;
    assert!(found(&broken, "FAULT").iter().any(|(check, told)| check == "tenants" && told.contains(NORDIC)));
    write("SET tenant_status = :x", AttributeValue::S("ACTIVE".to_owned())).await;
    is_healthy(&patient.examine().await);
}
