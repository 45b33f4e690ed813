//! `doorwardctl client …`

use doorward::{
    domain::{ApiClient, ClientId, ClientName, ClientScope, ClientStatus, MAX_CLIENTS, TenantId},
    function::SystemClock,
    port::Clock,
    store::ClientCreation,
};
use e2e::NORDIC;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{Done, Stack};

const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"one","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ED_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"two","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// Runs `doorwardctl --json client …` with arguments separated by blanks.
async fn client(stack: &Stack, line: &str) -> Done {
    let arguments: Vec<_> = ["--json", "client"].into_iter().chain(line.split(' ')).collect();
    stack.run(&arguments).await
}

/// Creates a client and returns its ID and its secret.
async fn created(stack: &Stack, options: &str) -> (String, String) {
    let done = client(stack, &format!("create {NORDIC} --name Shop {options}")).await.succeeded().json();
    let text = |name: &str| done[name].as_str().unwrap().to_owned();
    (text("clientId"), text("clientSecret"))
}

async fn shown(stack: &Stack, id: &str) -> Value {
    client(stack, &format!("show {NORDIC} {id}")).await.succeeded().json()
}

/// Returns the versions of the live and of the retired credentials.
fn versions(client: &Value) -> (Vec<u64>, Vec<u64>) {
    let credentials = client["credentials"].as_array().unwrap();
    let (live, retired): (Vec<&Value>, Vec<&Value>) =
        credentials.iter().partition(|credential| credential["retiredAt"].is_null());
    let numbers =
        |credentials: Vec<&Value>| credentials.iter().map(|it| it["version"].as_u64().unwrap()).collect();
    (numbers(live), numbers(retired))
}

// docs/design/security.md#rule-27
#[tokio::test(flavor = "multi_thread")]
async fn client_secret_is_shown_once_and_stored_nowhere() {
    let stack = Stack::start().await;
    let options = "--scope users:read --scope introspect --organization org-1 --ip-allow 192.0.2.0/24";
    let (id, secret) = created(&stack, options).await;
    assert!(secret.starts_with("dws1_") && secret.len() == 48, "{}", secret.len());
    let rotated = client(&stack, &format!("rotate {NORDIC} {id}")).await.succeeded().json();
    let second = rotated["clientSecret"].as_str().unwrap();
    assert_ne!(second, secret);

    let shown = shown(&stack, &id).await;
    assert_eq!(shown["scopes"], json!(["users:read", "introspect"]));
    assert_eq!((&shown["organization"], &shown["ipAllow"]), (&json!("org-1"), &json!(["192.0.2.0/24"])));
    assert_eq!((&shown["status"], &shown["lastUsedAt"]), (&json!("ACTIVE"), &Value::Null));
    let list = client(&stack, &format!("list {NORDIC}")).await.succeeded();
    assert_eq!(list.json(), json!([shown]));
    let table = stack.world.dynamodb.scan().table_name(local::TABLE).send().await.unwrap();
    let stored = format!("{:?} {list:?} {shown}", table.items());
    let is_stored = |secret: &str| stored.contains(secret.trim_start_matches("dws1_"));
    assert!(stored.contains(&id) && !is_stored(&secret) && !is_stored(second));
    assert!(!list.stdout.contains("mac"), "the hash is not shown either");

    let text = stack.run(&["client", "show", NORDIC, &id]).await.succeeded().stdout;
    assert!(text.contains("VERSION  TYPE") && text.contains("users:read, introspect"), "{text}");
    let text = stack.run(&["client", "list", NORDIC]).await.succeeded().stdout;
    assert!(text.contains("LAST USED") && text.contains("never"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_keeps_the_old_secret_until_it_is_retired() {
    let stack = Stack::start().await;
    let (id, _) = created(&stack, "--scope recovery").await;
    let rotate = format!("rotate {NORDIC} {id}");
    client(&stack, &rotate).await.succeeded();
    assert_eq!(versions(&shown(&stack, &id).await), (vec![1, 2], vec![]));
    let third = client(&stack, &rotate).await;
    assert!(third.code == 1 && third.stderr.contains("client retire"), "{third:?}");

    let retire = format!("retire {NORDIC} {id}");
    let asked = client(&stack, &retire).await;
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    let retired = client(&stack, &format!("{retire} --yes")).await.succeeded().json();
    assert_eq!(retired["retired"], 1, "the oldest");
    assert_eq!(versions(&shown(&stack, &id).await), (vec![2], vec![1]));
    let only = client(&stack, &format!("{retire} --yes")).await;
    assert!(only.code == 1 && only.stderr.contains("rotate first"), "{only:?}");

    client(&stack, &rotate).await.succeeded();
    let asked = client(&stack, &format!("{rotate} --leaked")).await;
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    client(&stack, &format!("{rotate} --leaked --yes")).await.succeeded();
    assert_eq!(versions(&shown(&stack, &id).await).0, [4]);
    let mixed = client(&stack, &format!("{rotate} --jwks {}", stack.path("stack.json"))).await;
    assert_eq!(mixed.code, 1, "{mixed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_public_keys_has_no_secret() {
    let stack = Stack::start().await;
    let (file, both) = (stack.path("one.json"), stack.path("both.json"));
    std::fs::write(&file, EC_KEY).unwrap();
    std::fs::write(&both, format!(r#"{{"keys":[{EC_KEY},{ED_KEY}]}}"#)).unwrap();
    let create = format!("create {NORDIC} --name Shop --scope recovery --jwks {file}");
    let done = client(&stack, &create).await.succeeded().json();
    assert!(done.get("clientSecret").is_none(), "{done}");
    let id = done["clientId"].as_str().unwrap();
    let first = shown(&stack, id).await;
    assert_eq!(
        (&first["credentials"][0]["type"], &first["credentials"][0]["keyId"]),
        (&json!("ES256"), &json!("one"))
    );
    client(&stack, &format!("rotate {NORDIC} {id} --jwks {both}")).await.succeeded();
    assert_eq!(versions(&shown(&stack, id).await), (vec![1, 2], vec![]));
    std::fs::write(&file, ED_KEY).unwrap();
    client(&stack, &format!("rotate {NORDIC} {id} --jwks {file}")).await.succeeded();
    assert_eq!(versions(&shown(&stack, id).await), (vec![2], vec![1]));
    let secret = client(&stack, &format!("rotate {NORDIC} {id}")).await;
    assert!(secret.code == 1 && secret.stderr.contains("--jwks"), "{secret:?}");

    std::fs::write(&file, EC_KEY.replace("\"x\"", "\"d\":\"marker\",\"x\"")).unwrap();
    let private = client(&stack, &create).await;
    assert!(private.code == 1 && private.stderr.contains("only public keys"), "{private:?}");
    assert!(!private.stderr.contains("marker"), "the error shows no part of a private key");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_disabled_enabled_and_deleted() {
    let stack = Stack::start().await;
    let (id, _) = created(&stack, "--scope recovery").await;
    for (command, state, changed) in
        [("disable", "disabled", true), ("disable", "disabled", false), ("enable", "enabled", true)]
    {
        let done = client(&stack, &format!("{command} {NORDIC} {id}")).await.succeeded().json();
        assert_eq!((&done["state"], &done["changed"]), (&json!(state), &json!(changed)));
    }
    assert_eq!(shown(&stack, &id).await["status"], "ACTIVE");
    let asked = client(&stack, &format!("delete {NORDIC} {id}")).await;
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    client(&stack, &format!("delete {NORDIC} {id} --yes")).await.succeeded();
    assert_eq!(client(&stack, &format!("list {NORDIC}")).await.succeeded().json(), json!([]));
    for (command, options) in
        [("show", ""), ("disable", ""), ("rotate", ""), ("delete", " --yes"), ("retire", " --yes")]
    {
        let missing = client(&stack, &format!("{command} {NORDIC} {id}{options}")).await;
        assert!(missing.code == 1 && missing.stderr.contains("client list"), "{missing:?}");
    }
    let scope = client(&stack, &format!("create {NORDIC} --name Shop --scope everything")).await;
    assert!(scope.code == 2 && scope.stderr.contains("users:read"), "{scope:?}");
    let tenant = client(&stack, "create tenant_missing --name Shop --scope recovery").await;
    assert!(tenant.code == 1 && tenant.stderr.contains("tenant list"), "{tenant:?}");
}

/// A client without credentials, as the store accepts it.
fn record(number: u8) -> ApiClient {
    ApiClient {
        tenant: TenantId::parse(NORDIC).unwrap(),
        id: ClientId::from_random([number; 16]),
        name: ClientName::parse("Shop").unwrap(),
        scopes: vec![ClientScope::Recovery],
        organization: None,
        ip_allow: Vec::new(),
        status: ClientStatus::Active,
        credentials: Vec::new(),
        revision: 1,
        created_at: SystemClock.now(),
        last_used_at: None,
    }
}

// docs/design/storage.md#api-clients: the transaction counts the clients, also in parallel.
#[tokio::test(flavor = "multi_thread")]
async fn tenant_has_at_most_fifty_clients() {
    let stack = Stack::start().await;
    let store = &stack.world.store;
    let records: Vec<_> = (0..60).map(record).collect();
    let created = join_all(records.iter().map(|record| store.create_client(record))).await;
    let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    let done = created.iter().filter(|creation| **creation == ClientCreation::Done).count();
    assert_eq!(done, MAX_CLIENTS);
    assert!(created.iter().all(|creation| *creation != ClientCreation::NoTenant));
    let tenant = TenantId::parse(NORDIC).unwrap();
    assert_eq!(store.clients(&tenant).await.unwrap().len(), MAX_CLIENTS);

    let full = client(&stack, &format!("create {NORDIC} --name Shop --scope recovery")).await;
    assert!(full.code == 1 && full.stderr.contains("already has 50 clients"), "{full:?}");
    let first = &store.clients(&tenant).await.unwrap()[0];
    client(&stack, &format!("delete {NORDIC} {} --yes", first.id)).await.succeeded();
    client(&stack, &format!("create {NORDIC} --name Shop --scope recovery")).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_a_client_that_changed_meanwhile_is_refused() {
    let stack = Stack::start().await;
    let store = &stack.world.store;
    let stale = record(1);
    store.create_client(&stale).await.unwrap();
    store.change_client(&ApiClient { status: ClientStatus::Disabled, ..stale.clone() }).await.unwrap();
    assert!(store.change_client(&stale).await.is_err(), "the client would be enabled again");
    let stored = store.client(&stale.tenant, &stale.id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.revision), (ClientStatus::Disabled, 2));
}
