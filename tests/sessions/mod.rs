//! Sessions of one user: limits, lists, ends, and who may see them.

mod access;
mod ending;
mod grants;
mod limits;
mod listing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use doorward::{
    domain::{Collection, Role, SessionLimit, TenantId, User, UserId, WhenFull},
    port::Clock,
    store::SessionsOf,
};
use e2e::{Actor, Answer, Login, NORDIC, World};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN};

const HOUR: Duration = Duration::from_secs(3_600);
const INGRID: &str = "ingrid.larsen@example.com";

/// Limits the sessions of the demo bank's users and raises the limit of concurrent logins.
async fn limit(world: &World, max: u32, when_full: WhenFull) {
    let limit = SessionLimit { max, when_full };
    let policy = world.change_policy(NORDIC, |policy| {
        policy.session_limit = Some(limit);
        policy.max_attempts = 100;
    });
    policy.await.unwrap();
}

/// Sends `count` concurrent logins.
async fn logins(world: &Arc<World>, actor: &Actor, count: usize) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (world, actor) = (Arc::clone(world), actor.clone());
        tasks.spawn(async move { world.try_login(&actor, &actor.user.password).await.unwrap() });
    }
    tasks.join_all().await
}

/// IDs of the user's live sessions, read from the table.
async fn live(world: &World, actor: &Actor) -> BTreeSet<String> {
    let user = world.user(actor).await.unwrap();
    let tenant = world.store.tenant(&user.tenant).await.unwrap().unwrap();
    let of = SessionsOf::user(&user, tenant.session_epoch, world.clock.now());
    let live = world.store.live_sessions(&of).await.unwrap();
    live.into_iter().map(|session| session.id.as_str().to_owned()).collect()
}

/// The successful logins among the responses.
fn granted(actor: &Actor, answers: &[Answer]) -> Vec<Login> {
    answers.iter().filter_map(|answer| Login::from_answer(actor, answer).ok()).collect()
}

fn verdicts(answers: &[Answer]) -> BTreeMap<(i64, &str), usize> {
    answers.iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry(answer.verdict()).or_default() += 1;
        counts
    })
}

/// Asserts that exactly the tokens of live sessions are accepted.
async fn assert_tokens_follow(world: &World, actor: &Actor, logins: &[Login]) {
    let live = live(world, actor).await;
    for login in logins {
        let is_live = live.contains(&login.session);
        assert_eq!(world.opens(login).await.unwrap(), is_live, "{}", login.session);
        let refreshed = world.refresh(login).await.unwrap();
        let expected = if is_live { (200, "NONE") } else { (401, "SESSION_TERMINATED") };
        assert_eq!(refreshed.verdict(), expected);
    }
}

async fn change_user(world: &World, actor: &Actor, change: impl FnOnce(&mut User)) {
    let user = world.user(actor).await.unwrap();
    let mut changed = User { sequence: user.sequence + 1, ..user.clone() };
    change(&mut changed);
    world.store.replace_user(&user, &changed).await.unwrap();
}

/// Ends every session of the demo bank by suspending and resuming the tenant.
async fn end_tenants_sessions(world: &World) {
    world.change_tenant(NORDIC, true, None).await.unwrap();
    world.change_tenant(NORDIC, false, None).await.unwrap();
}

async fn ask(world: &World, by: &Login, method: Method, path: &str) -> Answer {
    world.request(&method, path, &by.actor.tenant.tenant_id, Some(&by.token), None).await.unwrap()
}

/// Sessions of all pages of a list, in order.
async fn listed(world: &World, by: &Login, path: &str, limit: usize) -> Vec<Value> {
    let mut sessions = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ask(world, by, Method::GET, &format!("{path}?limit={limit}{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let found = page.body["data"]["sessions"].as_array().unwrap();
        assert!(found.len() <= limit);
        sessions.extend(found.iter().cloned());
        match page.data("nextCursor") {
            "" => return sessions,
            next => cursor = format!("&cursor={next}"),
        }
    }
}

/// The paths of a user's sessions: the user's own, the other customer collection's and the organization's.
pub(crate) fn paths(actor: &Actor) -> [String; 3] {
    let own = actor.sessions();
    let organization = format!(
        "/api/v2.1/admin/organization/{}/users/{}/sessions",
        actor.user.organization_id, actor.user.user_id
    );
    [own.clone(), own.replace("/individual/", "/organization/"), organization]
}

/// The routes under such a path: list the sessions, read one, end all.
pub(crate) fn routes(path: &str, session: &str) -> [(Method, String); 3] {
    [
        (Method::GET, path.to_owned()),
        (Method::GET, format!("{path}/{session}")),
        (Method::DELETE, path.to_owned()),
    ]
}

fn ids(sessions: &[Value]) -> Vec<String> {
    sessions.iter().map(|session| session["sessionId"].as_str().unwrap().to_owned()).collect()
}
