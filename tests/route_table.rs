//! infra/routes.json, which the deployment reads, is the route table. `DOORWARD_REGENERATE=1` writes it anew.

use std::{fs, path::Path};

use doorward::route::{Function, served};
use serde_json::json;

fn table() -> String {
    let functions: Vec<_> = Function::ALL
        .map(|function| json!({ "name": function.name(), "trigger": function.trigger().name() }))
        .into();
    let routes: Vec<_> = served()
        .iter()
        .map(|route| {
            json!({
                "method": route.method.as_str(),
                "path": route.path,
                "function": route.endpoint.function().name(),
                "dialect": route.endpoint.dialect(),
                "action": route.endpoint.action(),
            })
        })
        .collect();
    let line = |values: Vec<serde_json::Value>| {
        values.iter().map(|value| format!("    {value}")).collect::<Vec<_>>().join(",\n")
    };
    format!("{{\n  \"functions\": [\n{}\n  ],\n  \"routes\": [\n{}\n  ]\n}}\n", line(functions), line(routes))
}

#[test]
fn what_is_deployed_is_the_route_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/routes.json");
    let fresh = table();
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(&file, fresh).unwrap();
    } else {
        let kept = fs::read_to_string(&file).unwrap();
        assert_eq!(kept, fresh, "infra/routes.json is not as route.rs: DOORWARD_REGENERATE=1 writes it anew");
    }
}
