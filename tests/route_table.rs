//! Comparison of infra/routes.json, which the deployment reads, with the route table.
//! `DOORWARD_REGENERATE=1` rewrites the file.

use std::{fs, path::Path};

use doorward::route::{self, Function};
use serde_json::json;

fn table() -> String {
    let functions: Vec<_> = Function::all()
        .map(|function| json!({ "name": function.name(), "trigger": function.trigger().name() }))
        .collect();
    let routes: Vec<_> = route::table()
        .map(|(function, route)| {
            json!({
                "method": route.method.as_str(),
                "path": route.path,
                "function": function.name(),
                "dialect": route.dialect.name,
                "action": route.action,
            })
        })
        .collect();
    let line = |values: Vec<serde_json::Value>| {
        values.iter().map(|value| format!("    {value}")).collect::<Vec<_>>().join(",\n")
    };
    format!("{{\n  \"functions\": [\n{}\n  ],\n  \"routes\": [\n{}\n  ]\n}}\n", line(functions), line(routes))
}

#[test]
fn deployed_routes_equal_the_route_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/routes.json");
    let fresh = table();
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(&file, fresh).unwrap();
    } else {
        let kept = fs::read_to_string(&file).unwrap();
        assert_eq!(
            kept, fresh,
            "infra/routes.json differs from the route table; set DOORWARD_REGENERATE=1 to rewrite it"
        );
    }
}
