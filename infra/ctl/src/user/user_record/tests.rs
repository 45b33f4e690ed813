use doorward::function::SystemEntropy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BCRYPT: &str = "$2b$04$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
const SCRYPT: &str =
    "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk";

fn now() -> Timestamp {
    Timestamp::from_millisecond(1_795_000_000_123).unwrap()
}

fn new(record: UserRecord) -> NewUser {
    record.into_new(&TenantId::parse("t").unwrap(), HashCost::default(), &SystemEntropy, now()).unwrap()
}

fn wrong(line: &str) -> Vec<String> {
    match UserRecord::parse(line.as_bytes()) {
        Err(Failure::Validation(errors)) => {
            errors.into_iter().map(|error| format!("{} {}", error.field, error.message)).collect()
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn minimal_line_creates_a_user_without_a_password() {
    let line = br#"{"id":"u1","username":"Zoe\u0308@example.com","organization":"o1"}"#;
    let new = new(UserRecord::parse(line).unwrap());
    assert_eq!(new.user.username.as_written(), "Zo\u{eb}@example.com");
    assert!(new.user.reset_required && check_hash(&new.user.password).is_ok());
    assert_eq!((new.user.roles.as_slice(), new.user.status), ([Role::User].as_slice(), UserStatus::Active));
    assert_eq!((new.user.created_at, new.user.changed_at), (now(), now()));
}

#[test]
fn digest_depends_on_content_and_not_on_spelling() {
    let digest = |line: &str| new(UserRecord::parse(line.as_bytes()).unwrap()).imported_as;
    let one = digest(r#"{"id":"u","username":"n","organization":"o"}"#);
    let spelled = r#" {"organization":"o", "username":"n","roles":["USER"], "id":"u","email":null} "#;
    assert_eq!(one, digest(spelled));
    for other in [
        r#"{"id":"v","username":"n","organization":"o"}"#,
        r#"{"id":"u","username":"N","organization":"o"}"#,
        r#"{"id":"u","username":"n","organization":"o","roles":["ADMIN"]}"#,
    ] {
        assert_ne!(one, digest(other), "{other}");
    }
}

// docs/design/security.md#rule-25: all faults are reported, and the input is never quoted.
#[test]
fn all_faults_of_a_line_are_reported_without_quoting_it() {
    let line = json!({
        "id": "", "username": 7, "status": "GONE", "roles": ["ROOT"], "customerType": "ADMIN",
        "email": "A <hunter2@b>", "phone": "hunter2", "locale": "hunter2 de", "resetRequired": "no",
        "createdAt": "yesterday", "unverifiedEmail": "hunter2", "unverifiedPhone": "hunter2",
        "givenName": "hunter2\n", "gender": "hunter2", "metadata": "hunter2", "password": "hunter2", "passwordHistory": [7], "hunter2 and so on": 1,
        "passwrod": "hunter2",
    });
    let errors = wrong(&line.to_string());
    let fields: Vec<_> = errors.iter().map(|error| error.split(' ').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "id",
            "username",
            "status",
            "roles",
            "organization",
            "customerType",
            "email",
            "phone",
            "unverifiedEmail",
            "unverifiedPhone",
            "locale",
            "givenName",
            "gender",
            "metadata",
            "resetRequired",
            "createdAt",
            "password",
            "passwordHistory",
            "a",
            "passwrod",
        ]
    );
    assert!(!errors.concat().contains("hunter2"), "{errors:?}");
    for line in
        ["", "[]", "7", "{", r#"{"password":"hunter2","password":"hunter2"}"#, r#"{"hunter2"}"#, "\u{fffe}"]
    {
        let errors = wrong(line);
        assert!(errors.len() == 1 && !errors[0].contains("hunter2"), "{errors:?}");
    }
    let contradicting = r#"{"id":"u","username":"n","organization":"o","resetRequired":false,"roles":[]}"#;
    assert_eq!(wrong(contradicting).len(), 2);
    let twice = r#"{"id":"u","username":"n","organization":"o","email":"a@b","unverifiedEmail":"c@d"}"#;
    assert_eq!(
        wrong(twice),
        ["unverifiedEmail must not be combined with email; a user has only one of them"]
    );
    let customer = format!(
        r#"{{"id":"u","username":"n","organization":"o","customerType":"CONSUMER","password":"{BCRYPT}"}}"#
    );
    assert_eq!(wrong(&customer), ["customerType needs a customer; add the member customer"]);
}

#[test]
fn column_of_invalid_json_exists_in_the_line() {
    for line in ["{", "{\"id\":\"ü\" x}", "{\"id\":\"üüüüü\"", "{]", "{\"id\":\"u\"}}", "x"] {
        let text = wrong(line).concat();
        let column =
            text.split("column ").nth(1).unwrap().split(':').next().unwrap().parse::<usize>().unwrap();
        assert!((1..=line.chars().count()).contains(&column), "{line}: {text}");
    }
    assert!(wrong("{\"id\":\"ü\" x}")[0].contains("column 11:"), "{:?}", wrong("{\"id\":\"ü\" x}"));
}

// docs/design/security.md#rule-4, #rule-11: a hash that a login would not verify is rejected.
#[test]
fn hash_that_a_login_cannot_verify_is_rejected() {
    for bad in [
        "plain",
        "",
        "$2b$31$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu",
        "$scrypt$ln=18,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk",
        "$argon2i$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc",
    ] {
        let error = hash(bad).unwrap_err();
        assert!(
            error.ends_with("; see docs/users.md") && (bad.is_empty() || !error.contains(bad)),
            "{error}"
        );
    }
    assert!([BCRYPT, SCRYPT].into_iter().all(|good| hash(good).is_ok()));
}

prop_compose! {
    fn record()(
        id in "[a-zA-Z0-9|@ü\"]{1,20}",
        username in "\\PC{1,40}",
        status in prop::sample::select(vec!["ACTIVE", "DISABLED", "LOCKED"]),
        roles in prop::sample::subsequence(vec!["USER", "ADMIN", "TENANT_ADMIN"], 1..=3).prop_shuffle(),
        organization in "\\PC{1,40}",
        customer in prop::option::of("\\PC{1,40}"),
        customer_type in prop::option::of(prop::sample::select(vec!["CONSUMER", "BUSINESS"])),
        email in prop::option::of("[a-z]{1,9}@[a-z]{1,9}\\.example"),
        phone in prop::option::of("\\+[1-9][0-9]{5,10}"),
        is_verified in any::<bool>(),
        locale in prop::option::of("[a-z]{2}(-[A-Z]{2})?"),
        names in prop::array::uniform4(prop::option::of("\\PC{1,20}")),
        gender in prop::option::of(prop::sample::select(vec!["FEMALE", "MALE", "DIVERSE"])),
        metadata in prop::collection::btree_map("\\PC{1,20}", "\\PC{1,20}", 0..4),
        flags in any::<(bool, bool)>(),
        created in prop::option::of(-1_000_000_000_000_000_i64..4_000_000_000_000_000),
        changed in prop::option::of(0_i64..4_000_000_000_000_000),
        password in prop::option::of(prop::sample::select(vec![BCRYPT, SCRYPT])),
        history in prop::collection::vec(prop::sample::select(vec![BCRYPT, SCRYPT]), 0..3),
    ) -> Value {
        // A line can contain microseconds; the table stores milliseconds.
        let time = |micros: Option<i64>| micros.map(|at| Timestamp::from_microsecond(at).unwrap().to_string());
        json!({
            "id": id, "username": username, "status": status, "roles": roles, "organization": organization,
            "customerType": customer.as_ref().and(customer_type), "customer": customer,
            if is_verified { "email" } else { "unverifiedEmail" }: email,
            if is_verified { "phone" } else { "unverifiedPhone" }: phone, "locale": locale,
            "givenName": names[0], "familyName": names[1], "nickName": names[2], "displayName": names[3],
            "gender": gender, "metadata": metadata, "resetRequired": flags.0 || password.is_none(),
            "changeRequired": flags.1, "createdAt": time(created), "changedAt": time(changed),
            "password": password, "passwordHistory": history,
        })
    }
}

proptest! {
    #[test]
    fn export_of_an_import_is_identical_byte_for_byte(line in record()) {
        let Ok(record) = UserRecord::parse(line.to_string().as_bytes()) else { return Ok(()) };
        let once = new(record);
        let exported = UserRecord::of(&once.user).to_line().unwrap();
        let again = new(UserRecord::parse(exported.as_bytes()).unwrap());
        prop_assert!(again.user.has_same_content(&once.user));
        prop_assert_eq!(UserRecord::of(&again.user).to_line().unwrap(), exported);
    }

    #[test]
    fn parsing_never_panics(line in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = (UserRecord::parse(line.as_bytes()), UserRecord::parse(&bytes));
    }
}
