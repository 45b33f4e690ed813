//! Lists of users.

use serde_json::{Value, json};

use super::{Scene, address, fields, person};

fn ids(body: &Value) -> Vec<String> {
    let users = body["result"].as_array().cloned().unwrap_or_default();
    users.iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_name_address_id_organization_and_state() {
    let scene = Scene::start().await.unwrap();
    let mut grace = person("grace");
    grace["organizationId"] = json!("org_new");
    for body in [person("ada"), person("alan"), grace] {
        assert_eq!(scene.post("/v2/users/new", &body).await.unwrap().status, 200);
    }
    scene.post("/v2/users/alan/lock", &json!({})).await.unwrap();
    let of_new = json!({ "organizationIdQuery": { "organizationId": "org_new" } });
    let all = json!({ "inUserIdsQuery": { "userIds": ["ada", "alan", "grace", "nobody"] } });
    let name =
        json!({ "userNameQuery": { "userName": "ADA@new.example", "method": "TEXT_QUERY_METHOD_EQUALS" } });
    let login_name = json!({ "loginNameQuery": { "loginName": address("alan") } });
    let email = json!({ "emailQuery": { "emailAddress": address("grace") } });
    let locked = json!({ "stateQuery": { "state": "USER_STATE_LOCKED" } });
    let active = json!({ "stateQuery": { "state": "USER_STATE_ACTIVE" } });
    let cases: [(Vec<&Value>, &[&str]); 10] = [
        (vec![&name], &["ada"]),
        (vec![&login_name], &["alan"]),
        (vec![&email], &["grace"]),
        (vec![&all], &["ada", "alan", "grace"]),
        (vec![&all, &of_new], &["grace"]),
        (vec![&all, &locked], &["alan"]),
        (vec![&all, &active], &["ada", "grace"]),
        (vec![&name, &email], &[]),
        (vec![&of_new], &["grace"]),
        (vec![&locked], &["alan"]),
    ];
    for (queries, expected) in cases {
        let answer = scene.post("/v2/users", &json!({ "queries": queries })).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(ids(&answer.body), expected, "{queries:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_read_in_pages() {
    let scene = Scene::start().await.unwrap();
    for at in 0..5 {
        let mut body = person(&format!("u{at}"));
        body["organizationId"] = json!("org_new");
        body["human"].as_object_mut().unwrap().remove("password");
        assert_eq!(scene.post("/v2/users/new", &body).await.unwrap().status, 200);
    }
    let of_new = json!({ "organizationIdQuery": { "organizationId": "org_new" } });
    let active = json!({ "stateQuery": { "state": 1 } });
    for queries in [json!([of_new]), json!([of_new, active])] {
        for (offset, expected, total) in [(0, vec!["u0", "u1"], "3"), (4, vec!["u4"], "5"), (9, vec![], "9")]
        {
            let body = json!({ "query": { "offset": offset, "limit": 2 }, "queries": queries });
            let answer = scene.post("/v2/users", &body).await.unwrap();
            assert_eq!(
                (answer.status, ids(&answer.body)),
                (200, expected.iter().map(ToString::to_string).collect())
            );
            assert_eq!(answer.body["details"]["totalResult"], total, "{queries} {offset}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_queries_name_themselves() {
    let scene = Scene::start().await.unwrap();
    let one = |query: Value| json!({ "queries": [query] });
    for name in [
        "firstNameQuery",
        "lastNameQuery",
        "nickNameQuery",
        "displayNameQuery",
        "typeQuery",
        "orQuery",
        "andQuery",
        "notQuery",
        "inUserEmailsQuery",
        "phoneQuery",
    ] {
        let answer = scene.post("/v2/users", &one(json!({ name: {} }))).await.unwrap();
        assert_eq!(
            (answer.status, fields(&answer)),
            (400, vec![format!("queries[0].{name}")]),
            "{}",
            answer.text
        );
    }
    let cases = [
        (one(json!({})), "queries[0]"),
        (one(json!({ "futureQuery": {} })), "queries[0]"),
        (
            one(json!({ "userNameQuery": { "userName": "a", "method": 4 } })),
            "queries[0].userNameQuery.method",
        ),
        (one(json!({ "inUserIdsQuery": {} })), "queries[0].inUserIdsQuery.userIds"),
        (one(json!({ "stateQuery": { "state": "USER_STATE_DELETED" } })), "queries[0].stateQuery.state"),
        (json!({ "query": { "limit": 101 } }), "query.limit"),
        (json!({ "query": { "offset": "10001" } }), "query.offset"),
        (json!({ "sortingColumn": "USER_FIELD_NAME_EMAIL" }), "sortingColumn"),
        (json!({ "queries": vec![json!({ "stateQuery": { "state": 1 } }); 21] }), "queries"),
        (json!({ "queries": {} }), "queries"),
    ];
    for (body, field) in cases {
        let answer = scene.post("/v2/users", &body).await.unwrap();
        assert_eq!(
            (answer.status, fields(&answer)),
            (400, vec![field.to_owned()]),
            "{body}: {}",
            answer.text
        );
    }
    let most = json!({ "query": { "limit": 100, "offset": 10_000, "asc": true } });
    assert_eq!(scene.post("/v2/users", &most).await.unwrap().status, 200);
}
