//! `doorwardctl user …`

use std::{collections::HashMap, os::unix::fs::PermissionsExt, time::Duration};

use doorward::{
    domain::{Tenant, TenantId, TenantStatus, User, UserId, Username},
    function::SystemClock,
    port::Clock,
    store::UsersOf,
};
use e2e::{Actor, Login, NORDIC};
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{Done, MARCUS, NORDIC_ADMIN, Stack, command};

/// The organization of Nordic Bank's demo users.
const ORGANIZATION: &str = "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b";
const PASSPHRASE: &str = "seventeen green umbrellas";

// Hashes of "pässwörd 1", created with Python's bcrypt and hashlib.
const BCRYPT: &str = "$2b$04$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
const SCRYPT: &str =
    "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk";
const PBKDF2: &str =
    "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc";

/// Returns a user of Nordic Bank that logs in on the admin route.
fn actor(stack: &Stack, id: &str, username: &str) -> Actor {
    let mut actor = stack.world.actor(NORDIC_ADMIN).unwrap();
    actor.user = local::stack::User { user_id: id.to_owned(), username: username.to_owned(), ..actor.user };
    actor
}

fn tenant() -> TenantId {
    TenantId::parse(NORDIC).unwrap()
}

async fn stored(stack: &Stack, id: &str) -> Option<User> {
    stack.world.store.user(&tenant(), &UserId::parse(id).unwrap()).await.unwrap()
}

fn line(id: &str, username: &str, more: &Value) -> String {
    let mut line = json!({ "id": id, "username": username, "organization": ORGANIZATION });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("{line}\n")
}

/// Creates a tenant without users.
async fn empty_tenant(stack: &Stack, id: &str) {
    let known = stack.world.store.tenant(&tenant()).await.unwrap().unwrap();
    let new = Tenant {
        id: TenantId::parse(id).unwrap(),
        status: TenantStatus::Active,
        session_epoch: 0,
        version: 0,
        ..known
    };
    stack.world.store.create_tenant(&new, SystemClock.now()).await.unwrap();
}

async fn create(stack: &Stack, more: &[&str], stdin: &str) -> Done {
    let fixed = ["--json", "user", "create", NORDIC, "--organization", ORGANIZATION];
    let all: Vec<_> = fixed.iter().chain(more).copied().collect();
    stack.run_with(&all, stdin).await
}

#[tokio::test]
async fn a_created_user_logs_in_with_its_password() {
    let stack = Stack::start().await;
    let more = ["--username", "New@nordic.example", "--role", "ADMIN", "--password-stdin"];
    let created = create(&stack, &more, &format!("{PASSPHRASE}\n")).await.succeeded().json();
    assert!(!created.to_string().contains("argon2"), "no hash is shown");
    let id = created["user"].as_str().unwrap();
    assert_eq!(
        (created["changeRequired"].as_bool(), id.len()),
        (Some(true), 36),
        "the operator and the user both know the password"
    );
    let login = stack.world.try_login(&actor(&stack, id, "new@NORDIC.example"), PASSPHRASE).await.unwrap();
    assert_eq!((login.status, &login.body["data"]["passwordChangeRequired"]), (200, &json!(true)));

    let [id, name] = ["of-my-choice", "other@nordic.example"];
    let more =
        ["--id", id, "--username", name, "--role=ADMIN", "--password-stdin", "--change-required=false"];
    create(&stack, &more, PASSPHRASE).await.succeeded();
    let login = stack.world.login(&actor(&stack, id, name)).await;
    assert!(login.is_err(), "only with its own password");
    let login = stack.world.try_login(&actor(&stack, id, name), PASSPHRASE).await.unwrap();
    assert!(stack.world.opens(&Login::from_answer(&actor(&stack, id, name), &login).unwrap()).await.unwrap());

    // First the ID, then the username already exists.
    for (id, name) in [(id, "third@nordic.example"), ("third", "OTHER@nordic.example")] {
        let refused = create(&stack, &["--id", id, "--username", name], "").await;
        assert_eq!(refused.code, 1, "{refused:?}");
    }
    assert!(stored(&stack, "third").await.is_none());
}

// docs/design/security.md#rule-1 to #rule-3: a password set by an operator must satisfy the policy.
#[tokio::test]
async fn password_that_violates_the_policy_is_rejected_and_never_printed() {
    let stack = Stack::start().await;
    let name = "somebody@nordic.example";
    for password in ["short", "passwordpassword", name, &"x".repeat(257), ""] {
        let more = ["--id", "somebody", "--username", name, "--password-stdin"];
        let refused = create(&stack, &more, password).await;
        assert_eq!(refused.code, 1, "{password}: {refused:?}");
        assert!(password.is_empty() || !format!("{refused:?}").contains(password), "{refused:?}");
    }
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    let short = stack.run_with(&["user", "update", NORDIC, &marcus, "--password-stdin"], "short\n").await;
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("password must have at least 15 characters"), "{short:?}");
    assert!(stored(&stack, "somebody").await.is_none());
    // Stdin is not a terminal, and a password is never an argument.
    assert_eq!(create(&stack, &["--username", name, "--password"], "").await.code, 2);
    assert_eq!(create(&stack, &["--username", name, "--password", PASSPHRASE], "").await.code, 2);
}

// docs/design/security.md#rule-5, #rule-9: a user without a password cannot log in, and the response equals the
// response for a user that does not exist.
#[tokio::test]
async fn user_without_a_password_sets_one_with_a_reset_code() {
    let stack = Stack::start().await;
    let more = ["--id", "fresh", "--username", "fresh@nordic.example", "--role=ADMIN"];
    let created = create(&stack, &more, "").await.succeeded().json();
    assert_eq!(created["resetRequired"], json!(true));
    let fresh = actor(&stack, "fresh", "fresh@nordic.example");
    let other = actor(&stack, "other", "fresh@nordic.example");
    let [refused, unknown] = [&fresh, &other].map(|who| stack.world.try_login(who, PASSPHRASE));
    let (refused, unknown) = (refused.await.unwrap(), unknown.await.unwrap());
    assert_eq!((refused.verdict(), &refused.text), ((401, "AUTHENTICATION"), &unknown.text));

    let admin = stack.world.login(&stack.world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let ask = json!({ "returnCode": {} });
    let path = "/v2/users/fresh/password_reset";
    let code =
        stack.world.request(&Method::POST, path, NORDIC, Some(&admin.token), Some(&ask)).await.unwrap();
    let set = json!({
        "newPassword": { "password": PASSPHRASE },
        "verificationCode": code.body["verificationCode"],
    });
    let done = stack.world.request(&Method::POST, "/v2/users/fresh/password", NORDIC, None, Some(&set)).await;
    assert_eq!(done.unwrap().status, 200);
    assert_eq!(stack.world.try_login(&fresh, PASSPHRASE).await.unwrap().status, 200);
}

// docs/design/security.md#rule-15: the write that changes the user also ends its sessions.
#[tokio::test]
async fn only_role_owner_and_password_changes_end_sessions() {
    let stack = Stack::start().await;
    let admin = stack.world.actor(NORDIC_ADMIN).unwrap();
    let id = admin.user.user_id.as_str();
    let cases: [(&[&str], &str, bool); 8] = [
        (&["--email", "new@nordic.example"], "", true),
        (&["--unset", "email", "--phone", "+4587654321", "--locale", "de"], "", true),
        (&["--username", "Admin@Nordic.example"], "", true),
        (&["--role", "ADMIN"], "", true),
        (&["--role", "ADMIN", "--role", "TENANT_ADMIN"], "", false),
        (&["--customer", "c1", "--customer-type", "BUSINESS"], "", false),
        (&["--organization", "another"], "", false),
        (
            &["--password-stdin", "--change-required", "false", "--organization", ORGANIZATION],
            PASSPHRASE,
            false,
        ),
    ];
    for (change, stdin, survives) in cases {
        let mut who = admin.clone();
        who.user.organization_id = stored(&stack, id).await.unwrap().organization.to_string();
        let login = stack.world.login(&who).await.unwrap();
        let before = stored(&stack, id).await.unwrap();
        let all: Vec<_> = ["user", "update", NORDIC, id].iter().chain(change).copied().collect();
        stack.run_with(&all, stdin).await.succeeded();
        assert_eq!(stack.world.opens(&login).await.unwrap(), survives, "{change:?}");
        let after = stored(&stack, id).await.unwrap();
        assert_eq!(after.session_epoch, before.session_epoch + u64::from(!survives), "{change:?}");
        assert_eq!(after.sequence, before.sequence + 1, "{change:?}");
    }
    let last = stored(&stack, id).await.unwrap();
    assert_eq!(
        (last.email, last.phone.as_deref(), last.locale.as_deref()),
        (None, Some("+4587654321"), Some("de"))
    );
    assert_eq!(stack.world.try_login(&admin, PASSPHRASE).await.unwrap().status, 200);

    // Contradicting arguments, and a username that another user has.
    for (change, code) in [
        (vec![], 2),
        (vec!["--email", "a@b", "--unset", "email"], 2),
        (vec!["--email", "nobody"], 2),
        (vec!["--role", "ROOT"], 2),
        (vec!["--username", MARCUS], 1),
    ] {
        let all: Vec<_> = ["user", "update", NORDIC, id].iter().chain(&change).copied().collect();
        assert_eq!(stack.run(&all).await.code, code, "{change:?}");
    }
    assert_eq!(stack.run(&["user", "update", NORDIC, "nobody", "--locale", "de"]).await.code, 1);
    assert!(
        stack.world.login(&stack.world.actor(MARCUS).unwrap()).await.is_ok(),
        "the other user keeps its username"
    );
}

// A code that was sent to a replaced address is invalid; failed password attempts stay counted.
#[tokio::test]
async fn new_address_invalidates_sent_codes_and_keeps_the_lockout() {
    let stack = Stack::start().await;
    let admin = stack.world.login(&stack.world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = stack.world.actor(MARCUS).unwrap();
    let id = marcus.user.user_id.as_str();
    for _ in 0..5 {
        stack.world.try_login(&marcus, "wrong").await.unwrap();
    }
    for (change, opens) in [(["--locale", "de"], true), (["--email", "new@example.com"], false)] {
        let ask = json!({ "returnCode": {} });
        let path = format!("/v2/users/{id}/password_reset");
        let code = stack.world.request(&Method::POST, &path, NORDIC, Some(&admin.token), Some(&ask)).await;
        let code = code.unwrap().body["verificationCode"].clone();
        let all: Vec<_> = ["user", "update", NORDIC, id].iter().chain(&change).copied().collect();
        stack.run(&all).await.succeeded();
        let locked = stack.world.try_login(&marcus, &marcus.user.password).await.unwrap();
        if opens {
            assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"), "{change:?}");
        } else {
            // The code before this one was used, which ended the lockout.
            assert_ne!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
        }
        let set = json!({ "newPassword": { "password": PASSPHRASE }, "verificationCode": code });
        let path = format!("/v2/users/{id}/password");
        let done = stack.world.request(&Method::POST, &path, NORDIC, None, Some(&set)).await.unwrap();
        assert_eq!(done.status == 200, opens, "{change:?}: {}", done.text);
    }
}

#[tokio::test]
async fn profile_metadata_and_unverified_addresses_are_created_changed_and_shown() {
    let stack = Stack::start().await;
    let name = ["--id", "ada", "--username", "ada@nordic.example", "--unverified-email", "ada@example.com"];
    let profile =
        ["--given-name", "Ada", "--family-name", "King", "--gender", "FEMALE", "--metadata", "plan=gold"];
    let created = create(&stack, &[&name[..], &profile[..]].concat(), "").await.succeeded().json();
    let shown = stack.run(&["--json", "user", "show", NORDIC, "ada"]).await.succeeded().json();
    assert_eq!(created, shown);
    let members = |value: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| value[*name].clone()).collect::<Vec<_>>().into()
    };
    let all = ["email", "unverifiedEmail", "givenName", "familyName", "nickName", "gender", "metadata"];
    let expected = json!([null, "ada@example.com", "Ada", "King", null, "FEMALE", { "plan": "gold" }]);
    assert_eq!(members(&shown, &all), expected);
    let update = async |change: &[&str]| {
        let all: Vec<_> = ["--json", "user", "update", NORDIC, "ada"].iter().chain(change).copied().collect();
        stack.run(&all).await
    };
    let change = [
        "--email",
        "ada@example.com",
        "--nick-name",
        "Countess",
        "--unset",
        "gender",
        "--metadata",
        "tier=1",
        "--unset-metadata",
        "plan",
    ];
    let changed = update(&change).await.succeeded().json();
    let expected = json!(["ada@example.com", null, "Ada", "King", "Countess", null, { "tier": "1" }]);
    assert_eq!(members(&changed, &all), expected);
    let cleared = update(&["--unset", "metadata", "--unset", "email"]).await.succeeded().json();
    assert_eq!(members(&cleared, &["email", "unverifiedEmail", "metadata"]), json!([null, null, {}]));
    for (change, code) in [
        (&["--metadata", "doorward:roles=ADMIN"][..], 1),
        (&["--metadata", "plan"], 2),
        (&["--gender", "OTHER"], 2),
        (&["--given-name", "A\u{200b}da"], 2),
        (&["--email", "a@b.example", "--unverified-email", "c@d.example"], 2),
        (&["--gender", "MALE", "--unset", "gender"], 2),
    ] {
        assert_eq!(update(change).await.code, code, "{change:?}");
    }
    assert_eq!(stack.run(&["--json", "user", "show", NORDIC, "ada"]).await.succeeded().json(), cleared);
}

#[tokio::test]
async fn customer_type_without_a_customer_is_reported() {
    let stack = Stack::start().await;
    let id = stack.world.actor(NORDIC_ADMIN).unwrap().user.user_id;
    let done = stack.run(&["user", "update", NORDIC, &id, "--customer-type", "BUSINESS"]).await;
    assert!(done.code == 1 && done.stderr.contains("has no customer"), "{done:?}");
    assert_eq!(stored(&stack, &id).await.unwrap().customer_kind, None);
}

#[tokio::test]
async fn list_contains_each_user_of_the_tenant_once() {
    let stack = Stack::start().await;
    let of = |done: Done| -> Vec<String> {
        let stdout = done.succeeded().stdout;
        let users = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        users.map(|user| user["user"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = of(stack.run(&["--json", "user", "list", NORDIC]).await);
    let mut stepwise: Vec<String> = Vec::new();
    loop {
        let last = stepwise.last().cloned().unwrap_or_default();
        let mut arguments = vec!["--json", "user", "list", NORDIC, "--limit", "3"];
        if !last.is_empty() {
            arguments.extend(["--after", last.as_str()]);
        }
        let step = of(stack.run(&arguments).await);
        if step.is_empty() {
            break;
        }
        assert!(step.len() <= 3);
        stepwise.extend(step);
    }
    assert_eq!(stepwise, all);
    all.sort();
    let demo = &stack.world.actor(NORDIC_ADMIN).unwrap().tenant.users;
    let mut expected: Vec<_> = demo.iter().map(|user| user.user_id.clone()).collect();
    expected.sort();
    assert_eq!(all, expected);
    let text = stack.run(&["user", "list", NORDIC, "--limit", "1"]).await.succeeded().stdout;
    assert!(
        text.starts_with("USER ") && text.contains("There can be more users. To continue, pass --after "),
        "{text}"
    );
    let unknown = stack.run(&["user", "list", "nobodys"]).await;
    assert_eq!(unknown.code, 1);
}

// docs/design/security.md#rule-4: the first login replaces an imported hash; a second import skips the user.
#[tokio::test]
async fn imported_users_log_in_and_a_second_import_skips_them() {
    let stack = Stack::start().await;
    let admin = json!(["ADMIN"]);
    let mut lines = String::new();
    for (id, hash) in [("bcrypt", BCRYPT), ("scrypt", SCRYPT), ("pbkdf2", PBKDF2)] {
        lines += &line(id, &format!("{id}@nordic.example"), &json!({ "password": hash, "roles": admin }));
    }
    lines += &line("none", "none@nordic.example", &json!({}));
    let path = stack.path("users.ndjson");
    std::fs::write(&path, &lines).unwrap();
    let import = async || stack.run(&["--json", "user", "import", NORDIC, &path]).await.succeeded().json();
    let dry = stack.run(&["--json", "user", "import", NORDIC, &path, "--dry-run"]).await.succeeded().json();
    assert_eq!((&dry["created"], &dry["dryRun"]), (&json!(4), &json!(true)));
    assert!(stored(&stack, "bcrypt").await.is_none(), "nothing was written");
    let first = import().await;
    assert_eq!((&first["created"], &first["already"], &first["refused"]), (&json!(4), &json!(0), &json!(0)));
    for id in ["bcrypt", "scrypt", "pbkdf2"] {
        let who = actor(&stack, id, &format!("{id}@nordic.example"));
        assert_eq!(stack.world.try_login(&who, "pässwörd 2").await.unwrap().status, 401, "{id}");
        assert_eq!(stack.world.try_login(&who, "pässwörd 1").await.unwrap().status, 200, "{id}");
        assert!(stored(&stack, id).await.unwrap().password.as_phc().starts_with("$argon2id$"), "{id}");
    }
    stack.run(&["user", "update", NORDIC, "bcrypt", "--locale", "de"]).await.succeeded();
    let again = import().await;
    assert_eq!((&again["created"], &again["already"], &again["refused"]), (&json!(0), &json!(4), &json!(0)));
    assert_eq!(
        stored(&stack, "bcrypt").await.unwrap().locale.as_deref(),
        Some("de"),
        "an import never changes a user"
    );
}

// docs/design/contract.md#ids: two names that look equal cannot belong to two users.
#[tokio::test]
async fn usernames_with_invisible_characters_or_outer_white_space_are_rejected() {
    let stack = Stack::start().await;
    let path = stack.path("space.ndjson");
    let lines = "{\"id\": \"u7\", \"username\": \"gil@example.com \", \"organization\": \"org\"}
{\"id\": \"u8\", \"username\": \"gil@example.com\u{200b}\", \"organization\": \"org\"}
{\"id\": \"u9\", \"username\": \"gil@example.com\", \"organization\": \"org\"}
";
    std::fs::write(&path, lines).unwrap();
    let done = stack.run(&["--json", "user", "import", NORDIC, &path]).await;
    assert_eq!((done.code, &done.json()["created"], &done.json()["refused"]), (1, &json!(1), &json!(2)));
    for error in done.json()["errors"].as_array().unwrap() {
        assert_eq!(error["errors"][0]["field"], "username");
    }
    let more = ["--id", "u10", "--username", "\u{202e}gil@example.com"];
    assert_eq!(create(&stack, &more, "").await.code, 2);
    // A user of an earlier version, and what the client sends, may contain them.
    let marcus = stack.world.actor(MARCUS).unwrap();
    let stored = stack.world.user(&marcus).await.unwrap();
    let odd = Username::parse(&format!("{MARCUS}\u{200b} ")).unwrap();
    let earlier = User { username: odd.clone(), sequence: stored.sequence + 1, ..stored.clone() };
    stack.world.store.replace_user(&stored, &earlier).await.unwrap();
    for typed in [MARCUS, odd.as_written(), &format!(" {MARCUS}")] {
        let mut who = marcus.clone();
        who.user.username = typed.to_owned();
        assert_eq!(
            stack.world.try_login(&who, &marcus.user.password).await.unwrap().status,
            200,
            "{typed:?}"
        );
    }
}

// docs/design/contract.md#ids
#[tokio::test]
async fn ids_that_a_path_cannot_contain_are_rejected() {
    let stack = Stack::start().await;
    let path = stack.path("ids.ndjson");
    let lines = r#"{"id": "a/b", "username": "h1@example.com", "organization": "org"}
{"id": "a%2Fb", "username": "h2@example.com", "organization": "org"}
{"id": "a?b", "username": "h3@example.com", "organization": "org"}
{"id": "u1", "username": "h4@example.com", "organization": "o/1"}
{"id": "u2", "username": "h5@example.com", "organization": "org", "customer": "c\u200b"}
"#;
    std::fs::write(&path, lines).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let all: Vec<_> = ["--json", "user", "import", NORDIC, &path].iter().chain(more).copied().collect();
        let done = stack.run(&all).await;
        assert_eq!((done.code, &done.json()["created"], &done.json()["refused"]), (1, &json!(0), &json!(5)));
        let errors = done.json()["errors"].as_array().unwrap().clone();
        let fields: Vec<_> =
            errors.iter().map(|error| error["errors"][0]["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["id", "id", "id", "organization", "customer"]);
    }
    let create = async |id, organization| {
        let all = [
            "user",
            "create",
            NORDIC,
            "--username",
            "h@example.com",
            "--organization",
            organization,
            "--id",
            id,
        ];
        stack.run(&all).await
    };
    for (id, organization) in
        [("a/b", "org"), ("a%2Fb", "org"), ("a?b", "org"), ("..", "org"), ("ab", "o\\1")]
    {
        assert_eq!(create(id, organization).await.code, 2, "{id} {organization}");
    }
    let marcus = stack.world.actor(MARCUS).unwrap().user.user_id;
    for (member, id) in [("--organization", "o/1"), ("--customer", "c#1")] {
        let update = stack.run(&["user", "update", NORDIC, &marcus, member, id]).await;
        assert!(update.code == 2 && update.stderr.contains("paths contain the ID"), "{update:?}");
    }
}

#[tokio::test]
async fn mail_domains_are_stored_in_ascii_and_other_local_parts_are_rejected() {
    let stack = Stack::start().await;
    let path = stack.path("idn.ndjson");
    let lines = r#"{"id": "u10", "username": "ida@example.com", "organization": "org", "email": "ida@bücher.example"}
{"id": "u11", "username": "jo@example.com", "organization": "org", "email": "jörg@example.com"}
"#;
    std::fs::write(&path, lines).unwrap();
    let done = stack.run(&["--json", "user", "import", NORDIC, &path]).await;
    assert_eq!((done.code, &done.json()["created"]), (1, &json!(1)), "{done:?}");
    let error = &done.json()["errors"][0]["errors"][0];
    assert_eq!(error["field"], "email");
    assert!(error["message"].as_str().unwrap().contains("only ASCII characters before the @"), "{error}");
    assert_eq!(stored(&stack, "u10").await.unwrap().email.as_deref(), Some("ida@xn--bcher-kva.example"));
}

#[tokio::test]
async fn byte_order_mark_is_skipped_and_a_file_that_is_not_ndjson_is_one_error() {
    let stack = Stack::start().await;
    let path = stack.path("bom.ndjson");
    let line = "\u{feff}{\"id\": \"u6\", \"username\": \"fay@example.com\", \"organization\": \"org\"}\n";
    std::fs::write(&path, line).unwrap();
    let done = stack.run(&["--json", "user", "import", NORDIC, &path]).await.succeeded();
    assert_eq!(done.json()["created"], json!(1));
    let again = stack.run_with(&["--json", "user", "import", NORDIC, "-"], line).await.succeeded();
    assert_eq!(again.json()["already"], json!(1));
    std::fs::write(&path, format!("[\n{}]\n", line.trim_start_matches('\u{feff}').repeat(3))).unwrap();
    let refused = stack.run(&["user", "import", NORDIC, &path]).await;
    assert_eq!((refused.code, refused.stderr.matches("NDJSON").count()), (1, 1), "{refused:?}");
    assert_eq!((refused.stderr.lines().count(), refused.stdout.as_str()), (1, ""), "{refused:?}");
}

// docs/design/security.md#rule-25: a rejected line is reported by number and reason and never quoted.
#[tokio::test]
async fn rejected_lines_are_reported_and_other_lines_are_imported() {
    let stack = Stack::start().await;
    let lines = [
        line("one", "one@nordic.example", &json!({ "password": BCRYPT })),
        "{\"id\": \"hunter2\n".to_owned(),
        line("plain", "plain@nordic.example", &json!({ "password": "hunter2" })),
        line("two", MARCUS, &json!({ "password": BCRYPT })),
        line("one", "another@nordic.example", &json!({ "password": BCRYPT })),
        line("three", "ONE@nordic.example", &json!({ "password": BCRYPT })),
        line("four", "four@nordic.example", &json!({ "emial": "a@b" })),
        line("one", "one@nordic.example", &json!({ "password": BCRYPT })),
        line("five", "five@nordic.example", &json!({ "password": SCRYPT })),
    ]
    .concat();
    for dry_run in [true, false, false] {
        let mut arguments = vec!["--json", "user", "import", NORDIC, "-"];
        arguments.extend(dry_run.then_some("--dry-run"));
        let done = stack.run_with(&arguments, &lines).await;
        assert_eq!(done.code, 1);
        assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
        let told = done.json();
        let of = |error: &Value| (error["line"].as_u64().unwrap(), error["errors"][0]["field"].clone());
        let mut refused: Vec<_> = told["errors"].as_array().unwrap().iter().map(of).collect();
        refused.sort_by_key(|(line, _)| *line);
        let mut expected = vec![
            (2, json!("line")),
            (3, json!("password")),
            (4, json!("username")),
            (5, json!("id")),
            (6, json!("username")),
            (7, json!("emial")),
        ];
        if dry_run {
            // A dry run cannot compare a line with users that it did not write.
            for at in [3, 4] {
                expected[at].1 = json!("line");
            }
            expected.push((8, json!("line")));
        }
        assert_eq!(refused, expected);
        assert_eq!(told["lines"], json!(9));
    }
    assert_eq!(stored(&stack, "one").await.unwrap().username.as_written(), "one@nordic.example");
    assert!(stored(&stack, "five").await.is_some() && stored(&stack, "three").await.is_none());
    let told = stack.run_with(&["user", "import", NORDIC, "-"], &lines).await;
    assert!(told.stderr.contains("line 4 (user two): username belongs to another user"), "{told:?}");
    assert!(told.stdout.starts_with("Lines: 9, created: 0, already imported: 3, rejected: 6."), "{told:?}");
}

/// Returns lines for `count` users.
fn many(count: usize) -> String {
    (0..count)
        .map(|n| line(&format!("u{n}"), &format!("u{n}@example.com"), &json!({ "password": BCRYPT })))
        .collect()
}

#[tokio::test]
async fn killed_import_is_completed_by_a_second_run() {
    const ALL: usize = 1_200;
    let stack = Stack::start().await;
    empty_tenant(&stack, "imported").await;
    let lines = many(ALL);
    let local = stack.local_option();
    let arguments = [local.as_str(), "user", "import", "imported", "-"];
    let mut child = command(&arguments, &HashMap::new()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let half = lines.match_indices('\n').nth(ALL / 2).unwrap().0;
    stdin.write_all(&lines.as_bytes()[..half]).await.unwrap();
    let some_are_there = async {
        let imported = TenantId::parse("imported").unwrap();
        let of = UsersOf { tenant: &imported, organization: None };
        while stack.world.store.users_after(&of, None, 1).await.unwrap().users.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), some_are_there).await.unwrap();
    child.kill().await.unwrap();

    let done =
        stack.run_with(&["--json", "user", "import", "imported", "-"], &lines).await.succeeded().json();
    let count = |name: &str| usize::try_from(done[name].as_u64().unwrap()).unwrap();
    assert_eq!((count("created") + count("already"), count("refused")), (ALL, 0));
    assert!(count("already") > 0 && count("created") > 0, "{done}");
    let exported = stack.run(&["user", "export", "imported"]).await.succeeded().stdout;
    assert_eq!(exported.lines().count(), ALL);
}

#[tokio::test]
async fn export_round_trips_byte_for_byte_and_only_its_owner_can_read_it() {
    let stack = Stack::start().await;
    for tenant in ["there", "there_2"] {
        empty_tenant(&stack, tenant).await;
    }
    let [first, second, third] = ["1.ndjson", "2.ndjson", "3.ndjson"].map(|name| stack.path(name));
    let mixed = many(70)
        + &line(
            "ü|\"",
            "Zo\u{eb}",
            &json!({
                "password": SCRYPT, "passwordHistory": [BCRYPT, PBKDF2], "roles": ["TENANT_ADMIN", "USER"],
                "status": "LOCKED", "customer": "c", "customerType": "CONSUMER", "email": "zoe@example.com",
                "unverifiedPhone": "+4512345678", "locale": "pt-BR", "givenName": "Zo\u{eb}", "gender": "DIVERSE",
                "metadata": { "plan": "gold", "raw": { "base64": "/wA=" } }, "resetRequired": true, "changeRequired": true,
                "createdAt": "2001-02-03T04:05:06.007Z", "changedAt": "2026-01-01T00:00:00Z",
            }),
        );
    stack.run_with(&["user", "import", NORDIC, "-"], &mixed).await.succeeded();
    let told = stack.run(&["user", "export", NORDIC, "--out", &first]).await.succeeded();
    assert!(told.stdout.contains("password hashes"), "{told:?}");
    assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = stack.run(&["user", "export", NORDIC, "--out", &first]).await;
    assert_eq!(refused.code, 1, "an existing file is not overwritten");

    stack.run(&["user", "import", "there", &first]).await.succeeded();
    stack.run(&["user", "export", "there", "--out", &second]).await.succeeded();
    let exported = std::fs::read(&first).unwrap();
    assert_eq!(exported, std::fs::read(&second).unwrap(), "identical bytes");
    let stdout = stack.run(&["--json", "user", "export", "there"]).await.succeeded();
    assert_eq!((stdout.stdout.as_bytes(), stdout.stderr.as_str()), (exported.as_slice(), ""));
    let count = stack.world.actor(NORDIC_ADMIN).unwrap().tenant.users.len() + 71;
    assert_eq!(stdout.stdout.lines().count(), count);

    // docs/design/security.md#rule-20: no users of a tenant with the same ID prefix or of a missing tenant.
    stack.run(&["user", "export", "there_2", "--out", &third]).await.succeeded();
    assert_eq!(std::fs::read(&third).unwrap(), b"");
    let [nowhere, unwritten] = ["nowhere", &stack.path("4.ndjson")].map(str::to_owned);
    assert_eq!(stack.run(&["user", "export", &nowhere, "--out", &unwritten]).await.code, 1);
    assert!(!std::path::Path::new(&unwritten).exists());
    // An import of existing users creates nothing.
    let again = stack.run(&["--json", "user", "import", NORDIC, &first]).await.succeeded().json();
    assert_eq!(again["already"], json!(count));
}
