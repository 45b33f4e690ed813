//! Comparison of docs/policy.md with the policy fields in the code. `DOORWARD_REGENERATE=1` rewrites
//! its table.

use std::{fmt::Write, fs, path::Path};

use doorward::domain::{FIELDS, Policy};
use serde_json::Value;

const BEGIN: &str = "<!-- fields: written by the test policy_docs -->\n";
const END: &str = "<!-- end of fields -->";

fn shown(value: Option<Value>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(Value::Array(values)) if values.is_empty() => "none".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    }
}

fn table() -> String {
    let mut table = "| field | default | allowed | what it decides |\n|---|---|---|---|\n".to_owned();
    let usual = Policy::default();
    for field in FIELDS {
        let default = shown(field.value(&usual));
        let (name, allowed, meaning) = (field.name, field.allowed(), field.meaning);
        writeln!(table, "| `{name}` | {default} | {allowed} | {meaning} |").unwrap();
    }
    table
}

#[test]
fn documentation_lists_every_policy_field() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (kept, after) = rest.split_once(END).unwrap();
    let fresh = table();
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{fresh}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            kept, fresh,
            "docs/policy.md differs from shared/src/domain/policy/fields.rs; run the test with DOORWARD_REGENERATE=1 to rewrite it"
        );
    }
}
