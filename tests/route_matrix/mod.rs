//! Cases that every route shares, as one matrix: each route of the route table has a row with the expected
//! result of each case. Recorded events of each dialect show how the failures are rendered.

mod cases;
mod rows;
mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, anyhow, ensure};
use doorward::route::table;
use e2e::permissions::Roles;
use tokio::task::JoinSet;

use Expected::{Is, NotApplicable};
pub(crate) use cases::{Case, Expected};
pub(crate) use rows::{Request, Row, rows};
use scene::{Exchange, Scene};

use crate::{
    openapi::{Document, Shown, call, kind},
    replay::check_common_headers,
};

/// Number of rows that are checked in parallel, each in worlds of its own.
const IN_PARALLEL: usize = 4;

/// The documented responses that the matrix shows.
pub(crate) fn shown() -> BTreeSet<Shown> {
    let calls: BTreeMap<_, _> =
        table().map(|(_, route)| ((route.method.to_string(), route.path), call(route))).collect();
    let mut shown = BTreeSet::new();
    for (method, path, _, results) in rows() {
        let Some(call) = calls.get(&(method.to_owned(), path)) else { continue };
        for case in Case::ALL {
            if let Is(status, kind) = results.of(case) {
                shown.insert((call.clone(), status, kind.to_owned()));
            }
        }
    }
    shown
}

/// Checks one case of one row. Returns the body of an error.
async fn check(
    scene: &mut Scene,
    case: Case,
    (status, error): (u16, &str),
    document: &Document,
    roles: &Roles,
) -> Result<Option<String>> {
    let Exchange { event, answer, asked } = scene.run(case).await?;
    let found = kind(&answer);
    ensure!(
        answer.status == i64::from(status) && (status < 400 || found == error),
        "{} {found:?}, not {status} {error:?}: {:.200}",
        answer.status,
        answer.text
    );
    if let Some(expected) = case.audited(&scene.request) {
        ensure!(scene.audited() == expected, "the audit log has {:?}, not {expected:?}", scene.audited());
    }
    // Public documents may be cached.
    if status >= 400 || !matches!(scene.request, Request::Public) {
        check_common_headers(&answer)?;
    }
    ensure!((answer.header("retry-after") == "2") == (status == 503), "retry-after");
    ensure!(answer.headers.contains_key("www-authenticate") == (status == 401), "www-authenticate");
    roles.check(scene.function, &asked)?;
    document.check(scene.function, &event, || Err(anyhow!("no request is binary")), &answer)?;
    Ok((status >= 400).then_some(answer.text))
}

/// Checks a row. Returns the failures, and the body of each error by case and kind.
async fn check_row(
    row: Row,
    document: &Document,
    roles: &Roles,
) -> Result<(Vec<String>, Vec<(String, String)>)> {
    let (method, path, _, results) = row;
    let (mut failures, mut bodies) = (Vec::new(), Vec::new());
    let mut scene = Scene::start(row).await?;
    for case in Case::ALL {
        let Is(status, error) = results.of(case) else { continue };
        if matches!(case, Case::TenantSuspended | Case::StorageDown) {
            // The valid request and the suspension change what later requests find.
            scene = Scene::start(row).await?;
        }
        match check(&mut scene, case, (status, error), document, roles).await {
            Ok(Some(body)) if !error.is_empty() => bodies.push((format!("{case:?} {error}"), body)),
            Ok(_) => {}
            Err(failure) => failures.push(format!("{method} {path}, {case:?}: {failure:#}\n")),
        }
    }
    Ok((failures, bodies))
}

#[test]
fn every_route_has_one_row() {
    let routes: BTreeSet<_> = table().map(|(_, route)| (route.method.to_string(), route.path)).collect();
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(|row| (row.0.to_owned(), row.1)).collect();
    assert_eq!(named, routes, "each route of the route table needs a row in tests/route_matrix/rows.rs");
    assert_eq!(rows.len(), routes.len(), "a route has two rows");
}

#[test]
fn every_case_that_does_not_apply_has_a_reason() {
    for (method, path, _, results) in rows() {
        for case in Case::ALL {
            if let NotApplicable(reason) = results.of(case) {
                assert!(reason.len() > 10, "{method} {path}, {case:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_handles_the_shared_cases() {
    let document = Arc::new(Document::load().unwrap());
    let roles = Arc::new(Roles::load().unwrap());
    let mut rows = rows().into_iter();
    let (mut running, mut failures) = (JoinSet::new(), Vec::new());
    let mut bodies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        while running.len() < IN_PARALLEL
            && let Some(row) = rows.next()
        {
            let (document, roles) = (document.clone(), roles.clone());
            running.spawn(async move { (row, check_row(row, &document, &roles).await) });
        }
        let Some(done) = running.join_next().await else { break };
        let (row, result) = done.unwrap();
        match result {
            Ok((failed, found)) => {
                failures.extend(failed);
                for (case, body) in found {
                    bodies.entry(case).or_default().insert(body);
                }
            }
            Err(error) => failures.push(format!("{} {}: {error:#}\n", row.0, row.1)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
    let differing: Vec<_> = bodies.iter().filter(|(_, bodies)| bodies.len() > 1).collect();
    assert!(differing.is_empty(), "routes render one failure differently: {differing:#?}");
}
