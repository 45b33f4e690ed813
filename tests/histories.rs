//! Linearizability of one user's sessions under concurrent calls (docs/design/security.md#faults). The
//! checker uses the algorithm of Wing and Gong with Lowe's extension; `Spec` defines the allowed
//! sequential behaviour.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use doorward::token::RefreshToken;
use e2e::{Actor, Answer, Login, NORDIC, World};
use http::Method;
use serde_json::json;
use todc_utils::{
    Action::{self, Call, Response},
    History, Specification, WGLChecker,
};
use tokio::task::JoinSet;

use crate::MARCUS;

/// An operation and its result, once it has completed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    /// A login with a password; the result is the session, or none if the password was wrong.
    LogIn { password: usize, session: Option<String> },
    /// A refresh with the token of a generation; the result is the generation of the returned token.
    Refresh { session: String, presented: u64, got: Option<u64> },
    /// A logout.
    LogOut { session: String },
    /// A password change.
    Change { by: String, from: usize, to: usize, ended: Change },
    /// The end of every session except the caller's.
    EndOthers { by: String, done: bool },
    /// A request with the session's access token; the result is whether it was accepted.
    Use { session: String, opens: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Done,
    WrongPassword,
    SessionDead,
}

/// The sequential model of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Known {
    password: usize,
    /// Generation of each live session.
    live: BTreeMap<String, u64>,
}

struct Spec;

impl Specification for Spec {
    type State = Known;
    type Operation = Deed;

    fn init() -> Known {
        Known::default()
    }

    fn apply(deed: &Deed, before: &Known) -> (bool, Known) {
        let mut after = before.clone();
        let allowed = match deed {
            Deed::LogIn { password, session } => {
                let right = *password == before.password;
                if let Some(session) = session {
                    after.live.insert(session.clone(), 0);
                }
                right == session.is_some()
            }
            // No time passes, so that every retired token is within grace and returns the current one.
            Deed::Refresh { session, presented, got } => match (before.live.get(session), got) {
                (None, None) => true,
                (Some(current), Some(got)) if presented == current => {
                    after.live.insert(session.clone(), *got);
                    *got == current + 1
                }
                (Some(current), Some(got)) => presented < current && got == current,
                _ => false,
            },
            Deed::LogOut { session } => {
                after.live.remove(session);
                true
            }
            Deed::Change { by, from, to, ended } => match ended {
                Change::SessionDead => !before.live.contains_key(by),
                Change::WrongPassword => before.live.contains_key(by) && *from != before.password,
                Change::Done => {
                    after.password = *to;
                    after.live.retain(|session, _| session == by);
                    before.live.contains_key(by) && *from == before.password
                }
            },
            Deed::EndOthers { by, done } => {
                if *done {
                    after.live.retain(|session, _| session == by);
                }
                before.live.contains_key(by) == *done
            }
            Deed::Use { session, opens } => before.live.contains_key(session) == *opens,
        };
        (allowed, after)
    }
}

/// The recorder of operations with the times of call and response.
type Record = Arc<Mutex<Vec<(usize, Action<Deed>)>>>;
/// The newest tokens of every session.
type Tokens = Arc<Mutex<Vec<Login>>>;

struct Person {
    number: usize,
    world: Arc<World>,
    actor: Actor,
    record: Record,
    tokens: Tokens,
}

const PASSWORDS: [&str; 3] =
    ["the first of my passphrases", "the second of my passphrases", "the third of my passphrases"];

impl Person {
    fn note(&self, action: Action<Deed>) {
        self.record.lock().unwrap().push((self.number, action));
    }

    fn any_tokens(&self) -> Login {
        let tokens = self.tokens.lock().unwrap();
        // The newer half, because early sessions soon are ended.
        let from = tokens.len() / 2;
        tokens[from + choice(tokens.len() - from)].clone()
    }

    /// One random operation.
    async fn act(&self) {
        let login = self.any_tokens();
        let session = login.session.clone();
        match choice(11) {
            0 | 1 => self.log_in(choice(PASSWORDS.len())).await,
            2..=5 => {
                let presented = RefreshToken::parse(&login.refresh.clone().into()).unwrap().generation;
                let deed = |got| Deed::Refresh { session: session.clone(), presented, got };
                self.note(Call(deed(None)));
                let answer = self.world.refresh(&login).await.unwrap();
                let granted = self.granted(&answer, "SESSION_TERMINATED");
                let generation =
                    |login: &Login| RefreshToken::parse(&login.refresh.clone().into()).unwrap().generation;
                self.note(Response(deed(granted.as_ref().map(generation))));
                self.tokens.lock().unwrap().extend(granted);
            }
            6 => {
                self.note(Call(Deed::LogOut { session: session.clone() }));
                assert_eq!(self.world.logout(&login).await.unwrap().status, 200);
                self.note(Response(Deed::LogOut { session }));
            }
            7 => {
                let (from, to) = (choice(PASSWORDS.len()), choice(PASSWORDS.len()));
                let deed = |ended| Deed::Change { by: session.clone(), from, to, ended };
                self.note(Call(deed(Change::Done)));
                let body = json!({ "password": PASSWORDS[to], "currentPassword": PASSWORDS[from] });
                let answer = self.world.update(&login, &self.actor.user.user_id, &body).await.unwrap();
                self.note(Response(deed(match answer.verdict() {
                    (200, _) => Change::Done,
                    (401, "AUTHENTICATION") => Change::WrongPassword,
                    (401, "INVALID_TOKEN") => Change::SessionDead,
                    _ => unreachable!("{answer:?}"),
                })));
            }
            8 => {
                let deed = |done| Deed::EndOthers { by: session.clone(), done };
                self.note(Call(deed(false)));
                let done = self.end_others(&login).await;
                self.note(Response(deed(done)));
            }
            _ => {
                let deed = |opens| Deed::Use { session: session.clone(), opens };
                self.note(Call(deed(false)));
                // One of the functions, or the Lambda authorizer.
                let opens = match choice(2) {
                    0 => self.world.opens(&login).await.unwrap(),
                    _ => self.world.passes(&login).await.unwrap(),
                };
                self.note(Response(deed(opens)));
            }
        }
    }

    async fn end_others(&self, login: &Login) -> bool {
        let path = format!("{}?except=current", self.actor.sessions());
        let tenant = &self.actor.tenant.tenant_id;
        let answer = self.world.request(&Method::DELETE, &path, tenant, Some(&login.token), None);
        let answer = answer.await.unwrap();
        match answer.verdict() {
            (200, _) => true,
            (401, "INVALID_TOKEN") => false,
            _ => unreachable!("{answer:?}"),
        }
    }

    async fn log_in(&self, password: usize) {
        let deed = |session| Deed::LogIn { password, session };
        self.note(Call(deed(None)));
        let answer = self.world.try_login(&self.actor, PASSWORDS[password]).await.unwrap();
        let granted = self.granted(&answer, "AUTHENTICATION");
        self.note(Response(deed(granted.as_ref().map(|login| login.session.clone()))));
        self.tokens.lock().unwrap().extend(granted);
    }

    /// The tokens in a response; `None` for the only permitted error.
    fn granted(&self, answer: &Answer, refusal: &str) -> Option<Login> {
        match answer.verdict() {
            (200, _) => Some(Login::from_answer(&self.actor, answer).unwrap()),
            (401, error) if error == refusal => None,
            _ => unreachable!("{answer:?}"),
        }
    }
}

fn choice(among: usize) -> usize {
    getrandom::u32().unwrap() as usize % among
}

async fn history(people: usize, deeds: usize) -> Vec<(usize, Action<Deed>)> {
    let world = Arc::new(World::start().await.unwrap());
    let patient = |policy: &mut doorward::domain::Policy| {
        (policy.max_attempts, policy.failures_per_user, policy.password_history) = (100, 500, 0);
    };
    world.change_policy(NORDIC, patient).await.unwrap();
    let actor = world.actor(MARCUS).unwrap();
    let login = world.login(&actor).await.unwrap();
    let first = json!({ "password": PASSWORDS[0], "currentPassword": actor.user.password });
    assert_eq!(world.update(&login, &actor.user.user_id, &first).await.unwrap().status, 200);
    world.logout(&login).await.unwrap();

    let (record, tokens) = (Record::default(), Tokens::default());
    let person = |number| {
        let (world, actor) = (Arc::clone(&world), actor.clone());
        Person { number, world, actor, record: Arc::clone(&record), tokens: Arc::clone(&tokens) }
    };
    for number in 0..2 {
        person(number).log_in(0).await;
    }
    let mut all = JoinSet::new();
    for number in 0..people {
        let person = person(number);
        all.spawn(async move {
            for _ in 0..deeds {
                person.act().await;
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let mut record = record.lock().unwrap();
    std::mem::take(&mut *record)
}

fn is_linearizable(actions: &[(usize, Action<Deed>)]) -> bool {
    WGLChecker::<Spec>::is_linearizable(History::from_actions(actions.to_vec()))
}

// docs/design/security.md#faults: concurrent refreshes, logouts, password changes and logins of one user.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_are_linearizable() {
    for _ in 0..12 {
        let actions = history(5, 6).await;
        assert!(is_linearizable(&actions), "no sequential order explains these results: {actions:#?}");
    }
}

#[test]
fn linearizability_checker_rejects_impossible_histories() {
    let session = || "s".to_owned();
    let log_in = Deed::LogIn { password: 0, session: Some(session()) };
    let used = |opens| Deed::Use { session: session(), opens };
    let refreshed = |presented, got| Deed::Refresh { session: session(), presented, got };
    let one_after_another = |deeds: &[Deed]| {
        let both = |deed: &Deed| [(0, Call(deed.clone())), (0, Response(deed.clone()))];
        deeds.iter().flat_map(both).collect::<Vec<_>>()
    };
    let log_out = Deed::LogOut { session: session() };
    for (deeds, possible) in [
        (vec![log_in.clone(), used(true), log_out.clone(), used(false)], true),
        (vec![log_in.clone(), log_out.clone(), used(true)], false),
        (vec![log_in.clone(), log_out.clone(), refreshed(0, Some(1))], false),
        (vec![log_in.clone(), refreshed(0, Some(1)), refreshed(0, Some(1)), refreshed(1, Some(2))], true),
        (vec![log_in.clone(), refreshed(0, Some(1)), refreshed(0, Some(2))], false),
        (vec![log_in.clone(), used(false)], false),
    ] {
        assert_eq!(is_linearizable(&one_after_another(&deeds)), possible, "{deeds:?}");
    }
    // Concurrent operations may take effect in either order.
    let mut overlapping = one_after_another(&[log_in]);
    overlapping.extend([(1, Call(log_out.clone())), (2, Call(used(false)))]);
    overlapping.extend([(2, Response(used(true))), (1, Response(log_out))]);
    assert!(is_linearizable(&overlapping));
}
