//! Checks of the deployed functions. Each returns the number of passed checks.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use doorward::{domain::HashCost, route};
use e2e::{
    Actor, Login,
    api::{Server, expect},
    emulator::ACCOUNT,
};
use http::Method;
use local::{
    clients,
    demo::{self, SeedContext},
    project::Project,
    stack,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, MissedTickBehavior},
};
use url::Url;

use crate::cloud::{Cloud, MAIL_FROM, Outputs};

/// Password of the user that the operator creates.
const PASSPHRASE: &str = "nine brass lanterns";
/// Time limit for a mail. It passes the table's stream, which the emulator reads about once a second.
const MAIL_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Creates the demo tenants and users in the deployed table and Secrets Manager.
pub(crate) async fn seed(cloud: &Cloud, outputs: &Outputs) -> Result<Server> {
    ensure!(outputs.secret_prefix == local::SECRET_PREFIX, "the secret prefix is {}", outputs.secret_prefix);
    let url = cloud.emulator.url();
    let context = SeedContext {
        dynamodb: clients::dynamodb(&url),
        secrets: clients::secrets_manager(&url),
        table: outputs.table_name.clone(),
        keep_credentials: false,
        hash_cost: HashCost::default(),
        public_url: outputs.api_url.clone(),
    };
    let seeded = demo::seed(&context).await.context("cannot create the demo tenants")?;
    cloud.server(outputs, seeded.tenants)
}

/// Checks that Doorward responds to each row of the route table, and the gateway to all other requests.
///
/// The emulator responds to `OPTIONS` itself, unlike API Gateway without a CORS configuration. The test
/// therefore invokes the functions of those rows directly.
pub(crate) async fn every_route_is_deployed(
    cloud: &Cloud,
    server: &Server,
    outputs: &Outputs,
) -> Result<u32> {
    let routes: Vec<_> = route::table().collect();
    let deployed = cloud.routes(outputs).await?;
    let requests =
        routes.iter().flat_map(|(_, it)| it.methods().map(|method| format!("{method} {}", it.path)));
    let expected: BTreeSet<_> = requests.collect();
    ensure!(deployed == expected, "deployed {deployed:#?}, expected {expected:#?}");
    println!("  {} routes: equal to the route table", deployed.len());

    let (asked, called): (Vec<_>, Vec<_>) = routes.iter().partition(|(_, it)| it.method == Method::OPTIONS);
    for (_, route) in &called {
        let path = route.path.replace(['{', '}'], "");
        let answer = server.send(route.method.clone(), &path, "nobody", None, None).await?;
        let by_function = !answer.header("x-request-id").is_empty();
        ensure!(by_function, "{} {}: {} {}", route.method, route.path, answer.status, answer.text);
    }
    println!("  {} routes called: each function responded", called.len());
    for (function, route) in &asked {
        let path = route.path.replace(['{', '}'], "");
        let answer = cloud.invoke(function.name(), &preflight_event(&path)).await?;
        ensure!(answer["statusCode"] == 204, "OPTIONS {path}: {answer}");
    }
    println!("  {} preflights: each function responded", asked.len());
    for (method, path) in [(Method::GET, "/"), (Method::PATCH, "/healthz")] {
        let answer = server.send(method.clone(), path, "nobody", None, None).await?;
        let by_function = !answer.header("x-request-id").is_empty();
        ensure!(answer.status == 404 && !by_function, "{method} {path}: {} {}", answer.status, answer.text);
    }
    println!("  unknown routes: 404 from the gateway");
    Ok(4)
}

/// Preflight request of a browser for a page of another origin.
fn preflight_event(path: &str) -> Value {
    let mut event = e2e::event(&Method::OPTIONS, path, "nobody", None, None);
    event["headers"] = json!({
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
    });
    event
}

/// Follows a mail from the request through table, stream and function to SES, and its link to the page.
pub(crate) async fn mail_with_link_is_sent(cloud: &Cloud, server: &Server, outputs: &Outputs) -> Result<u32> {
    let marcus = server.actor("marcus.jensen@example.com")?;
    let ses = clients::ses(&cloud.emulator.url());
    for address in [MAIL_FROM, &marcus.user.email] {
        ses.create_email_identity()
            .email_identity(address)
            .send()
            .await
            .context("SES rejects an identity")?;
    }
    let tenant = &marcus.tenant;
    let headers = [
        ("X-Tenant-ID", tenant.tenant_id.as_str()),
        ("X-Tenant-Key", &tenant.tenant_key),
        ("X-Tenant-Secret", &tenant.tenant_secret),
    ];
    let path = format!("/v2/users/{}/password_reset", marcus.user.user_id);
    let asked = server.send_with(Method::POST, &path, &headers, Some(&json!({ "sendLink": {} }))).await?;
    let mut passed = expect("request for a code", &asked, 200, "")?;

    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let link = loop {
        looks.tick().await;
        let sent = cloud.call("email", Method::GET, "/_ministack/ses/messages", None, &Value::Null).await?;
        let mails = sent["messages"][ACCOUNT].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut words = mails.iter().filter_map(|it| it["BodyText"].as_str()).flat_map(str::split_whitespace);
        if let Some(link) = words.find(|word| word.starts_with(&outputs.public_url)) {
            break link.to_owned();
        }
        ensure!(
            begun.elapsed() < MAIL_WITHIN,
            "no mail with a link to {} arrived within 60 seconds",
            outputs.public_url
        );
    };
    println!("  mail: sent by SES with a link to the hosted page");
    let path = link.strip_prefix(&outputs.public_url).context("the link has another host")?;
    let opened = server.send_with(Method::GET, path, &[], None).await?;
    passed += expect("link of the mail: redirect without the code", &opened, 303, "")?;
    let cookie = opened.header("set-cookie");
    let attributes = cookie.split_once(';').map_or("", |(_, attributes)| attributes);
    ensure!(
        attributes.contains("Secure; HttpOnly; SameSite=Lax"),
        "unexpected cookie attributes: {attributes:?}"
    );
    // The emulator does not move cookies from the headers to `cookies`, unlike API Gateway, so that the
    // function receives none. The recorded events and the browser tests cover requests with a cookie.
    let location = Url::parse(&link)?.join(opened.header("location"))?;
    let shown = server.send_with(Method::GET, location.path(), &[], None).await?;
    passed += expect("hosted page", &shown, 200, "")?;
    ensure!(shown.header("content-type").starts_with("text/html"), "{:?}", shown.headers);
    Ok(passed + 1)
}

/// Creates a tenant and a user with `doorwardctl`, then logs in and out, as in docs/deploy.md.
/// `doorwardctl` reads the environment variables of AWS tools.
pub(crate) async fn operator_creates_tenant_and_user(
    cloud: &Cloud,
    project: &Project,
    outputs: &Outputs,
    server: &Server,
) -> Result<u32> {
    let ctl = Operator { cloud, project, outputs };
    let tenant = ctl.run(&["tenant", "create", "acme", "--name", "Acme"], "").await?;
    let user = ctl
        .run(
            &[
                "user",
                "create",
                "acme",
                "--username",
                "ada@acme.example",
                "--organization",
                "acme-staff",
                "--role",
                "ADMIN",
                "--change-required",
                "false",
                "--password-stdin",
            ],
            &format!("{PASSPHRASE}\n"),
        )
        .await?;
    println!("  doorwardctl: tenant and user created");
    let text = |value: &Value, name: &str| {
        value[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("the output of doorwardctl contains no {name}"))
    };
    let actor = Actor {
        tenant: stack::Tenant {
            tenant_id: "acme".to_owned(),
            tenant_key: text(&tenant, "tenantKey")?,
            tenant_secret: text(&tenant, "tenantSecret")?,
            alg: text(&tenant, "algorithm")?,
            users: Vec::new(),
        },
        user: stack::User {
            user_id: text(&user, "user")?,
            username: text(&user, "username")?,
            password: PASSPHRASE.to_owned(),
            email: String::new(),
            roles: vec!["ADMIN".to_owned()],
            organization_id: text(&user, "organization")?,
            customer_id: None,
        },
        collection: String::new(),
    };
    let answer = server.try_login(&actor, PASSPHRASE).await?;
    let mut passed = expect("login of this user", &answer, 200, "NONE")?;
    let login = Login::from_answer(&actor, &answer)?;
    let asked = authorizer_event(&login.token);
    let known = cloud.invoke("authorize", &asked).await?;
    ensure!(known["isAuthorized"] == true && known["context"]["tenantId"] == "acme", "authorize: {known}");
    println!("  authorizer: accepts the token");
    let answer = server.send(Method::DELETE, &login.path(), "acme", Some(&login.token), None).await?;
    passed += expect("logout of this user", &answer, 200, "")?;
    passed += expect("refresh after the logout", &server.refresh(&login).await?, 401, "SESSION_TERMINATED")?;
    let known = cloud.invoke("authorize", &asked).await?;
    ensure!(known == json!({ "isAuthorized": false }), "authorize: {known}");
    println!("  authorizer: rejects the token after the logout");
    Ok(passed + 3 + functions_without_route_work(cloud, server, outputs).await?)
}

/// Checks the published keys of the new tenant, and the functions that Secrets Manager and the log invoke.
async fn functions_without_route_work(cloud: &Cloud, server: &Server, outputs: &Outputs) -> Result<u32> {
    let keys = server.send(Method::GET, "/tenants/acme/.well-known/jwks.json", "acme", None, None).await?;
    ensure!(keys.status == 200 && keys.body["keys"][0]["alg"] == "ES256", "keys: {}", keys.text);
    println!("  public keys: published");

    let step = json!({
        "Step": "createSecret",
        "SecretId": format!("{}acme", outputs.secret_prefix),
        "ClientRequestToken": "0f8e3c52-6a1b-4c7d-9e2f-5b4a3c2d1e0f",
    });
    let refused = cloud.invoke("rotate-secret", &step).await?;
    let message = refused["errorMessage"].as_str().unwrap_or_default();
    ensure!(message.contains("is disabled"), "rotate-secret: {refused}");
    println!("  rotate-secret: rejected, because rotation is off");

    let recorded: Value =
        serde_json::from_str(include_str!("../../../events/anchor-audit/logs-one-chain.json"))?;
    let anchored = cloud.invoke("anchor-audit", &recorded).await?;
    ensure!(anchored == recorded["doorward"]["expect"]["answer"], "anchor-audit: {anchored}");
    println!("  anchor-audit: accepted a recorded batch");
    Ok(3)
}

/// Event of API Gateway for an authorizer, payload format 2.0.
fn authorizer_event(token: &str) -> Value {
    let bearer = format!("Bearer {token}");
    json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": "arn:aws:execute-api:us-east-1:000000000000:a1b2c3d4e5/$default/GET/orders",
        "identitySource": [bearer],
        "routeKey": "GET /orders",
        "rawPath": "/orders",
        "rawQueryString": "",
        "headers": { "authorization": bearer },
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "a1b2c3d4e5",
            "http": { "method": "GET", "path": "/orders", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "shop" },
            "requestId": "authorize-deployed",
            "routeKey": "GET /orders",
            "stage": "$default",
            "timeEpoch": 0,
        },
    })
}

/// Runs `doorwardctl` with the environment variables of AWS tools.
struct Operator<'a> {
    cloud: &'a Cloud,
    project: &'a Project,
    outputs: &'a Outputs,
}

impl Operator<'_> {
    /// Runs a command and returns its JSON output. `stdin` may contain a secret.
    async fn run(&self, arguments: &[&str], stdin: &str) -> Result<Value> {
        let mut command = self.cloud.emulator.command(&self.project.cargo);
        command
            .args(["run", "--quiet", "--bin", "doorwardctl", "--", "--json"])
            .args(["--table", &self.outputs.table_name, "--secret-prefix", &self.outputs.secret_prefix])
            .args(arguments)
            .current_dir(&self.project.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start cargo")?;
        let mut input = child.stdin.take().context("stdin of doorwardctl is not piped")?;
        input.write_all(stdin.as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "doorwardctl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("doorwardctl did not print JSON")
    }
}

/// Checks that a changed stack keeps its address, table and sessions.
pub(crate) async fn changed_stack_keeps_its_data(
    server: &Server,
    kept: &Login,
    (first, second): (&Outputs, &Outputs),
    (before, after): (&Value, &Value),
) -> Result<u32> {
    ensure!(first == second, "the outputs of the stack changed: {first:?}, {second:?}");
    let level = |configuration: &Value| configuration["Environment"]["Variables"]["DOORWARD_LOG"].clone();
    ensure!(
        level(before) == "info" && level(after) == "warn",
        "the functions were not deployed again: {before} {after}"
    );
    let refreshed = server.refresh(kept).await?;
    let mut passed = expect("refresh of a session from before the deployment", &refreshed, 200, "NONE")?;
    let again = Login::from_answer(&kept.actor, &refreshed)?;
    let answer = server
        .send(Method::DELETE, &again.path(), &again.actor.tenant.tenant_id, Some(&again.token), None)
        .await?;
    passed += expect("logout of that session", &answer, 200, "")?;
    let actor = &kept.actor;
    passed += expect("login", &server.try_login(actor, &actor.user.password).await?, 200, "NONE")?;
    Ok(passed)
}
