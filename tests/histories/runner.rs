//! Execution of one history: callers in parallel, with faults, in several parts. Between two parts, no operation
//! runs, time passes, and the table is read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{
        HashCost, LinkHost, Notification, Password, SessionLimit, TenantId, TenantStatus, User, UserId,
        UserStatus, WhenFull,
    },
    port::Passwords,
    store::{DynamoStore, OutboxKey},
    token::TenantKeys,
};
use e2e::{Actor, Dice, Instance, Login, NORDIC, World, fault_proxy::Random};
use jiff::SignedDuration;
use local::TABLE;
use tokio::task::JoinSet;

use super::{
    checker::is_explained,
    model::{Creation, Facts},
    operations::{Deed, Observation, Operation, Outcome},
    people::Person,
    shrink::shrunk,
};
use crate::{MARCUS, NORDIC_ADMIN};

pub(super) const PASSWORDS: [&str; 3] =
    ["the first of my passphrases", "the second of my passphrases", "the third of my passphrases"];

/// Number of tries to start a history.
const STARTS: usize = 10;
const PARTS: usize = 3;
const PEOPLE: usize = 4;
/// Number of operations of each person in each part.
const DEEDS: usize = 5;
/// Number of operations in each history, without those between the parts.
pub(super) const OPERATIONS: usize = PARTS * PEOPLE * DEEDS;
/// Clocks of the instances. Two differ by at most the leeway of `iat` (docs/design/security.md#rule-16).
const SKEWS: [i64; 3] = [-2_500, 0, 2_500];
/// Longer than a function uses a tenant's record.
const PAST_CACHES: Duration = Duration::from_secs(6);
/// Longer than the grace period of refresh tokens and the difference of clocks.
const PAST_GRACE: Duration = Duration::from_secs(40);

/// One history while it runs.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) actor: Actor,
    administrator: Actor,
    keys: TenantKeys,
    /// Reads the table without the proxy.
    store: DynamoStore,
    state: Mutex<Shared>,
}

/// What the callers know and did.
#[derive(Default)]
struct Shared {
    operations: Vec<Operation>,
    /// Number of calls and responses so far.
    time: usize,
    logins: Vec<Login>,
    admin: Option<Login>,
    codes: Vec<(usize, String)>,
    /// The user's messages that were read so far.
    messages: HashMap<OutboxKey, Notification>,
    last_password: usize,
}

/// A history that no sequential order explains.
pub(super) struct Violation {
    pub(super) seed: u64,
    settings: String,
    operations: Vec<Operation>,
    faults: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: no sequential order explains these results. {}", self.seed, self.settings)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "  {operation}"))?;
        writeln!(f, "  {} faults:", self.faults.len())?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "    {fault}"))
    }
}

/// Settings that follow from a seed.
struct Settings {
    limit: Option<SessionLimit>,
    fault_chance: f64,
    has_conflicts: bool,
}

impl Settings {
    fn of(seed: u64) -> Self {
        let limits = [
            None,
            Some(SessionLimit { max: 3, when_full: WhenFull::Reject }),
            Some(SessionLimit { max: 3, when_full: WhenFull::Oldest }),
            Some(SessionLimit { max: 1, when_full: WhenFull::Single }),
        ];
        let mut dice = Dice::new(seed);
        Self {
            limit: limits[dice.below(limits.len())],
            fault_chance: [0.0, 0.01, 0.01, 0.03][dice.below(4)],
            has_conflicts: dice.below(3) == 0,
        }
    }
}

/// Runs the history of a seed. The seed determines the choices of each caller and the faults, but not the order
/// in which parallel operations take effect.
pub(super) async fn run_history(seed: u64) -> Result<(), Box<Violation>> {
    let settings = Settings::of(seed);
    let run = Arc::new(Run::start_patiently(&settings).await);
    let mut dice = Dice::new(!seed);
    for _ in 0..PARTS {
        run.begin_part(&settings, &mut dice).await;
        let instances = run.instances();
        let mut people = JoinSet::new();
        for number in 0..PEOPLE {
            let (run, instances) = (Arc::clone(&run), Arc::clone(&instances));
            let mut person = Person { number, run, instances, dice: Dice::new(dice.roll()) };
            people.spawn(async move {
                for _ in 0..DEEDS {
                    person.act().await;
                }
            });
        }
        people.join_all().await;
        run.end_part(&mut dice).await;
    }
    let facts = Facts { sessions: run.creations().await, limit: settings.limit };
    let operations = std::mem::take(&mut run.shared().operations);
    assert!(operations.len() >= OPERATIONS, "{} operations", operations.len());
    if is_explained(&operations, &facts) {
        return Ok(());
    }
    let Settings { limit, fault_chance, has_conflicts } = settings;
    Err(Box::new(Violation {
        seed,
        settings: format!("Limit {limit:?}, chance of faults {fault_chance}, conflicts {has_conflicts}."),
        operations: shrunk(&operations, &facts),
        faults: run.world.faults.trace(),
    }))
}

impl Run {
    /// Starts a history. Tries again if the machine is so busy that calls time out before the history begins.
    async fn start_patiently(settings: &Settings) -> Self {
        for _ in 1..STARTS {
            if let Ok(run) = Self::start(settings).await {
                return run;
            }
        }
        Self::start(settings).await.unwrap()
    }

    async fn start(settings: &Settings) -> Result<Self> {
        let world = World::start().await?;
        world
            .change_policy(NORDIC, |policy| {
                (policy.max_attempts, policy.failures_per_user) = (100, 500);
                (policy.codes_per_hour, policy.wrong_codes_per_ip) = (60, 10_000);
                policy.admin_set_password_expires = false;
                policy.link_hosts = vec![LinkHost::parse("login.example.com").unwrap()];
            })
            .await?;
        let (actor, administrator) = (world.actor(MARCUS)?, world.actor(NORDIC_ADMIN)?);
        let login = world.login(&actor).await?;
        let first = serde_json::json!({ "password": PASSWORDS[0], "currentPassword": actor.user.password });
        let changed = world.update(&login, &actor.user.user_id, &first).await?;
        let ended = world.logout(&login).await?;
        ensure!((changed.status, ended.status) == (200, 200), "{changed:?}, {ended:?}");
        let limit = settings.limit;
        world.change_policy(NORDIC, |policy| policy.session_limit = limit).await?;
        if settings.has_conflicts {
            world.faults.set_conflicts(true);
        }
        let keys = world.keys(NORDIC).await?;
        let store = DynamoStore::new(world.dynamodb.clone(), TABLE.to_owned());
        // The first session, so that every caller has tokens. It ended before the history.
        let shared = Shared { admin: Some(world.login(&administrator).await?), ..Shared::default() };
        let state = Mutex::new(Shared { logins: vec![login], ..shared });
        Ok(Self { world, actor, administrator, keys, store, state })
    }

    fn instances(&self) -> Arc<Vec<Instance>> {
        let start = |skew: &i64| self.world.another_instance(SignedDuration::from_millis(*skew)).unwrap();
        Arc::new(SKEWS.iter().map(start).collect())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ids(&self) -> (TenantId, UserId) {
        (TenantId::parse(NORDIC).unwrap(), UserId::parse(&self.actor.user.user_id).unwrap())
    }

    pub(super) fn logins(&self) -> Vec<Login> {
        self.shared().logins.clone()
    }

    pub(super) fn codes(&self) -> Vec<(usize, String)> {
        self.shared().codes.clone()
    }

    pub(super) fn last_password(&self) -> usize {
        self.shared().last_password
    }

    pub(super) fn note_password(&self, password: usize) {
        self.shared().last_password = password;
    }

    pub(super) fn note_tokens(&self, login: Option<Login>) {
        self.shared().logins.extend(login);
    }

    pub(super) fn note_code(&self, issued_by: usize, code: String) {
        self.shared().codes.push((issued_by, code));
    }

    /// The administrator's newest tokens.
    pub(super) fn admin(&self) -> Login {
        self.shared().admin.clone().unwrap()
    }

    /// Notes a call and returns its number.
    pub(super) fn begin(&self, person: usize, deed: Deed) -> usize {
        let mut shared = self.shared();
        shared.time += 1;
        let (number, time) = (shared.operations.len(), shared.time);
        shared.operations.push(Operation::new(number, person, deed, time));
        number
    }

    /// Notes a result and returns it.
    pub(super) fn end(&self, number: usize, outcome: Outcome) -> Outcome {
        let mut shared = self.shared();
        shared.time += 1;
        let time = shared.time;
        let operation = &mut shared.operations[number];
        operation.outcome = outcome.clone();
        if !matches!(outcome, Outcome::Unknown { .. }) {
            operation.returned = time;
        }
        outcome
    }

    /// An operation that no caller executes.
    fn note(&self, deed: Deed, outcome: Outcome) {
        let number = self.begin(PEOPLE, deed);
        self.end(number, outcome);
    }

    /// Logs the administrator in and starts the faults.
    async fn begin_part(&self, settings: &Settings, dice: &mut Dice) {
        let earlier = self.shared().admin.clone().filter(|_| settings.limit.is_some());
        if let Some(earlier) = earlier {
            // Otherwise the session limit would reject the next login.
            self.world.logout(&earlier).await.unwrap();
        }
        let answer =
            self.world.try_login(&self.administrator, &self.administrator.user.password).await.unwrap();
        self.note(Deed::AdminLogIn, Outcome::of(Some(&answer)));
        let login = Login::from_answer(&self.administrator, &answer).ok();
        {
            let mut shared = self.shared();
            shared.admin = login.or(shared.admin.take());
        }
        let faults = |dice: &mut Dice| Random::new(dice.roll()).every_chance(settings.fault_chance);
        self.world.faults.set_random(Some(faults(dice)));
        self.world.secret_faults.set_random(Some(faults(dice)));
    }

    /// Ends the faults, waits for the last writes, lets time pass and reads the table.
    async fn end_part(&self, dice: &mut Dice) {
        self.world.faults.set_random(None);
        self.world.secret_faults.set_random(None);
        self.world.faults.settle().await;
        {
            let mut shared = self.shared();
            shared.time += 1;
            let time = shared.time;
            let running = shared.operations.iter_mut().filter(|operation| operation.returned == usize::MAX);
            for operation in running {
                operation.returned = time;
                operation.outcome = Outcome::Unknown { ended: true };
            }
        }
        let past_grace = dice.below(2) == 0;
        self.world.clock.advance(if past_grace { PAST_GRACE } else { PAST_CACHES });
        self.note(Deed::Wait { past_grace }, Outcome::Done);
        let observation = self.observe().await;
        self.note(Deed::Observe, Outcome::Observed(observation));
    }

    /// The codes in the messages with this link.
    pub(super) async fn mailed_codes(&self, link: &str) -> Vec<String> {
        for key in self.world.outbox_keys(NORDIC, &self.actor.user.user_id).await.unwrap() {
            if !self.shared().messages.contains_key(&key) {
                let sealed = self.store.outbox(&key).await.unwrap().sealed.unwrap();
                let message = self.keys.open_notification(&sealed).unwrap();
                self.shared().messages.insert(key, message);
            }
        }
        let code = |message: &Notification| match message {
            Notification::ResetCode(message) if message.link.as_deref() == Some(link) => {
                Some(message.code.expose().to_owned())
            }
            _ => None,
        };
        self.shared().messages.values().filter_map(code).collect()
    }

    async fn observe(&self) -> Observation {
        let (tenant, id) = self.ids();
        let record = self.store.tenant(&tenant).await.unwrap().unwrap();
        let user = self.store.user(&tenant, &id).await.unwrap().unwrap();
        let code = self.store.recovery(&tenant, &id, None).await.unwrap().code;
        let live = |item: &HashMap<String, AttributeValue>| {
            let is_live = !item.contains_key("ended_at")
                && number(item, "user_epoch") >= user.session_epoch
                && number(item, "tenant_epoch") >= record.session_epoch;
            is_live.then(|| (text(item, "session_id"), number(item, "generation")))
        };
        Observation {
            password: self.stored_password(&user).await,
            is_disabled: user.status == UserStatus::Disabled,
            is_reset: user.reset_required,
            is_suspended: record.status == TenantStatus::Suspended,
            has_code: code.is_some_and(|code| code.proof.is_some() && code.spent.is_none()),
            live: self.session_items().await.iter().filter_map(live).collect(),
        }
    }

    async fn stored_password(&self, user: &User) -> Option<usize> {
        for (index, password) in PASSWORDS.iter().enumerate() {
            let password = Password::parse(password).unwrap();
            let hash = Some(user.password.clone());
            let checked = self.world.passwords.verify(password, hash, HashCost::default()).await;
            if checked.unwrap().is_right() {
                return Some(index);
            }
        }
        None
    }

    async fn session_items(&self) -> Vec<HashMap<String, AttributeValue>> {
        let pk = format!("T#{NORDIC}#U#{}", self.actor.user.user_id);
        let query = self
            .world
            .dynamodb
            .query()
            .table_name(TABLE)
            .key_condition_expression("pk = :pk AND begins_with(sk, :session)")
            .expression_attribute_values(":pk", AttributeValue::S(pk))
            .expression_attribute_values(":session", AttributeValue::S("S#".to_owned()))
            .consistent_read(true);
        query.send().await.unwrap().items.unwrap_or_default()
    }

    /// The sessions that operations of the history created.
    async fn creations(&self) -> BTreeMap<String, Creation> {
        let mut creations = BTreeMap::new();
        let mut creators = BTreeMap::new();
        for item in self.session_items().await {
            // The session before the history has no device ID.
            if let Ok(by) = text(&item, "device_id").parse::<usize>() {
                let session = text(&item, "session_id");
                if let Some(other) = creators.insert(by, session.clone()) {
                    panic!("login {by} created two sessions: {other} and {session}");
                }
                let at = i64::try_from(number(&item, "created_at")).unwrap();
                creations.insert(session, Creation { by, at });
            }
        }
        creations
    }
}

fn text(item: &HashMap<String, AttributeValue>, name: &str) -> String {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
}

fn number(item: &HashMap<String, AttributeValue>, name: &str) -> u64 {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse().ok()).unwrap_or_default()
}
