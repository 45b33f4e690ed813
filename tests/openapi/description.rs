//! Completeness of docs/openapi.yaml.

use super::*;

#[test]
fn description_contains_exactly_the_routes_of_the_route_table() {
    let document = Document::load().unwrap();
    let table: BTreeSet<_> =
        route::table().map(|(_, route)| (route.method.to_string(), route.path.to_owned())).collect();
    let described: BTreeSet<_> = document.operations.keys().cloned().collect();
    assert_eq!(described, table);

    let declared: BTreeSet<_> =
        document.root["tags"].as_array().unwrap().iter().map(|tag| plain(&tag["name"])).collect();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (_, route) in route::table() {
        let (path, method) = (route.path, route.method.as_str());
        let operation = &document.root["paths"][path][method.to_ascii_lowercase()];
        assert!(
            ids.insert(plain(&operation["operationId"])),
            "{method} {path}: the operationId is another's"
        );
        let tags: Vec<_> = operation["tags"].as_array().unwrap().iter().map(plain).collect();
        let [tag] = tags.as_slice() else { panic!("{method} {path} has tags {tags:?}") };
        let of_dialect = match route.dialect.name {
            "finhub" => "FinHub",
            "zitadel" => "ZITADEL",
            "ocariot" => "OCARIoT",
            "oauth" => "OAuth",
            "page" => "Password page",
            "public" => "Public",
            "preflight" => "Preflights",
            other => panic!("no tag for the dialect {other}"),
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

/// Clients copy the examples, so they must be valid.
#[test]
fn examples_match_their_schemas() {
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
fn introduction_explains_every_error_type() {
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
