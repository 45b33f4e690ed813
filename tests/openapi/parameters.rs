//! Parameters of docs/openapi.yaml: a value that its schema allows is accepted by the parser, and others are rejected.

use doorward::domain::{Code, IdempotencyKey, Invalid, SessionId, TenantId, UserId};
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

/// Maximum length of an ID in bytes. A schema can express only characters (docs/design/contract.md#ids).
const MAX_ID_BYTES: usize = 512;

/// Whether the router finds a path with this segment, and the parser accepts the segment.
fn is_segment<T>(text: &str, parse: fn(&str) -> Result<T, Invalid>) -> bool {
    let router = Router::new(Function::UpdateCredentials.routes()).unwrap();
    let found = router.find(&Method::POST, &format!("/v2/users/{text}/password"));
    found.is_some_and(|(_, matched)| matched.parameter("userId") == Some(text)) && parse(text).is_ok()
}

/// What the parsers do with a value of a parameter.
type Accepts = fn(&str) -> bool;

const PARSERS: [(&str, Accepts); 13] = [
    ("OrganizationId", |text| is_segment(text, UserId::parse)),
    ("CustomerId", |text| is_segment(text, UserId::parse)),
    ("UserId", |text| is_segment(text, UserId::parse)),
    ("CustomerUserId", |text| is_segment(text, UserId::parse)),
    ("SessionId", |text| is_segment(text, SessionId::parse)),
    ("PathTenantId", |text| is_segment(text, TenantId::parse)),
    ("TenantId", |text| TenantId::parse(text).is_ok()),
    ("CustomerTenantId", |text| TenantId::parse(text).is_ok()),
    ("OptionalTenantId", |text| TenantId::parse(text).is_ok()),
    ("IdempotencyKey", |text| IdempotencyKey::parse(text).is_ok()),
    ("LinkUser", |text| UserId::parse(text).is_ok()),
    ("LinkCode", |text| Code::parse(text).is_ok()),
    ("OcariotUserId", |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())),
];

#[test]
fn schemas_of_ids_and_codes_allow_exactly_what_the_parsers_accept() {
    let document = Document::load().unwrap();
    let mut compiler = Compiler::new();
    compiler.add_resource(NAME, document.root.clone()).unwrap();
    let mut schemas = Schemas::new();
    for (name, accepts) in PARSERS {
        let pointer = format!("/components/parameters/{name}/schema");
        let schema = document.root.pointer(&pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let pattern = schema["pattern"].as_str().unwrap_or_else(|| panic!("{name} has no pattern"));
        let allowed = proptest::string::string_regex(pattern.trim_start_matches('^').trim_end_matches('$'));
        let allowed = allowed.unwrap_or_else(|error| panic!("{name}: {error}"));
        let index = compiler.compile(&format!("{NAME}#{pointer}"), &mut schemas).unwrap();
        let texts = prop_oneof![
            4 => allowed,
            1 => "\\PC{0,210}",
            1 => "[ -~]{0,260}",
            1 => "[A-Za-z0-9_-]{0,110}",
            1 => "(\\PC|[\\x00-\\x20/?#%.\u{80}-\u{a0}]){1,6}",
        ];
        let mut counts = (0, 0);
        TestRunner::default()
            .run(&texts, |text| {
                prop_assume!(text.len() <= MAX_ID_BYTES);
                let is_valid = schemas.validate(&json!(text), index).is_ok();
                prop_assert_eq!(is_valid, accepts(&text), "{}: {:?}", name, text);
                Ok(())
            })
            .unwrap();
        // The edges of each length.
        for length in 0..=260 {
            let text = "a".repeat(length);
            let is_valid = schemas.validate(&json!(text), index).is_ok();
            assert_eq!(is_valid, accepts(&text), "{name}: {length} characters");
            if is_valid {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
        }
        assert!(counts.0 > 0 && counts.1 > 0, "{name}");
    }
}

/// Every parameter in a path has a parser in [`PARSERS`].
#[test]
fn every_path_parameter_is_compared_with_its_parser() {
    let document = Document::load().unwrap();
    let parameters = document.root["components"]["parameters"].as_object().unwrap();
    for (name, parameter) in parameters.iter().filter(|(_, parameter)| parameter["in"] == "path") {
        assert!(PARSERS.iter().any(|(known, _)| known == name), "{name}: {parameter}");
    }
}
