//! The promises of the product as a sequential model of one user, its tenant and one administrator.
//!
//! The model knows no items, epochs of users or conditions: a session is held from its login until something
//! in the history ends it. Only the tenant has an epoch, because instances use a tenant's record for up to 5 s.

use std::collections::{BTreeMap, BTreeSet};

use doorward::domain::{SessionLimit, WhenFull};

use super::operations::{Deed, Observation, Operation, Outcome, Refusal};

/// Facts that the table shows after the history, and the policy.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The sessions of the user, ended ones included.
    pub(super) sessions: BTreeMap<String, Creation>,
    pub(super) limit: Option<SessionLimit>,
}

/// Creation of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creation {
    /// Number of the login.
    pub(super) by: usize,
    /// Time by the clock of the instance, in milliseconds.
    pub(super) at: i64,
}

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Held {
    /// Generation of the current refresh token.
    generation: u64,
    /// First generation that is not past its grace period.
    in_grace_from: u64,
    tenant_epoch: u64,
}

/// A state of the tenant that an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct View {
    is_suspended: bool,
    epoch: u64,
}

/// Result that is stored for the idempotency key of a login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct KeyedLogin {
    password: usize,
    session: String,
    is_unchanged: bool,
}

/// State of the model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Model {
    password: usize,
    is_disabled: bool,
    is_reset: bool,
    held: BTreeMap<String, Held>,
    /// Number of the operation that issued the code that is still valid.
    code: Option<usize>,
    logins: BTreeMap<usize, KeyedLogin>,
    resets: BTreeSet<usize>,
    /// Current state of the tenant, and the earlier states that may still be in a cache.
    current: View,
    cached: BTreeSet<View>,
    admin_epoch: u64,
}

impl Model {
    /// The state before a history: password 0, no session and no code.
    pub(super) fn new() -> Self {
        Self {
            password: 0,
            is_disabled: false,
            is_reset: false,
            held: BTreeMap::new(),
            code: None,
            logins: BTreeMap::new(),
            resets: BTreeSet::new(),
            current: View { is_suspended: false, epoch: 0 },
            cached: BTreeSet::new(),
            admin_epoch: 0,
        }
    }

    fn views(&self) -> impl Iterator<Item = View> {
        std::iter::once(self.current).chain(self.cached.iter().copied())
    }

    fn may_be_suspended(&self) -> bool {
        self.views().any(|view| view.is_suspended)
    }

    fn may_be_active(&self) -> bool {
        self.views().any(|view| !view.is_suspended)
    }

    fn may_be_live(&self, session: &str) -> bool {
        let held = self.held.get(session);
        held.is_some_and(|held| {
            self.views().any(|view| !view.is_suspended && held.tenant_epoch >= view.epoch)
        })
    }

    fn may_be_ended(&self, session: &str) -> bool {
        let held = self.held.get(session);
        held.is_none_or(|held| self.views().any(|view| held.tenant_epoch < view.epoch))
    }

    fn admin_may_act(&self) -> bool {
        self.views().any(|view| !view.is_suspended && self.admin_epoch >= view.epoch)
    }

    fn admin_may_be_rejected(&self) -> bool {
        self.views().any(|view| view.is_suspended || self.admin_epoch < view.epoch)
    }

    /// Ends all sessions of the user, except one.
    fn end_all(&mut self, except: Option<&str>) {
        self.held.retain(|session, _| Some(session.as_str()) == except);
        for login in self.logins.values_mut() {
            login.is_unchanged = false;
        }
    }

    fn set_password(&mut self, to: usize, keep: Option<&str>) {
        (self.password, self.is_reset, self.code) = (to, false, None);
        self.end_all(keep);
    }

    /// The states that an operation may lead to, with the result that its caller got.
    pub(super) fn after(&self, operation: &Operation, facts: &Facts) -> Vec<Self> {
        let Operation { deed, outcome, .. } = operation;
        match outcome {
            Outcome::Refused(Refusal::Busy) => vec![self.clone()],
            Outcome::Refused(refusal) => self.after_refusal(operation, refusal, facts),
            Outcome::Granted { session, generation } => match deed {
                Deed::LogIn { .. } => self.after_login(operation, session, *generation, facts),
                Deed::Refresh { session: of, presented } if session == of => {
                    self.after_refresh(of, *presented, *generation)
                }
                _ => Vec::new(),
            },
            Outcome::Done => self.done(operation, facts),
            Outcome::Observed(observation) => self.observed(observation),
            Outcome::Unknown { .. } => {
                let effects = self.effects(operation, facts);
                // The table shows which logins without a response created a session.
                let must = matches!(outcome, Outcome::Unknown { ended: true })
                    && created_by(operation, facts).is_some();
                let unchanged = (!must).then(|| self.clone());
                unchanged.into_iter().chain(effects).collect()
            }
            Outcome::Unexpected(_) => Vec::new(),
        }
    }

    /// The states after an operation that took effect, whose result is not known.
    fn effects(&self, operation: &Operation, facts: &Facts) -> Vec<Self> {
        match &operation.deed {
            Deed::LogIn { .. } => {
                let session = created_by(operation, facts);
                session.map(|session| self.after_login(operation, session, 0, facts)).unwrap_or_default()
            }
            Deed::Refresh { session, presented } => {
                let rotated = self.after_refresh(session, *presented, presented + 1);
                rotated.into_iter().chain(self.after_reuse(session, *presented)).collect()
            }
            _ => self.done(operation, facts),
        }
    }

    fn done(&self, operation: &Operation, _facts: &Facts) -> Vec<Self> {
        let mut after = self.clone();
        let is_allowed = match &operation.deed {
            Deed::LogIn { .. } | Deed::Refresh { .. } | Deed::Observe => false,
            Deed::LogOut { session } => {
                after.held.remove(session);
                self.may_be_active()
            }
            Deed::Change { by, from, to } => {
                after.set_password(*to, Some(by));
                self.may_be_live(by) && *from == self.password
            }
            Deed::End { by, keeps_own } => {
                after.end_all(keeps_own.then_some(by));
                self.may_be_live(by)
            }
            Deed::Use { session, .. } => self.may_be_live(session),
            Deed::RequestCode => {
                after.code = Some(operation.number);
                self.may_be_active()
            }
            Deed::SetByCode { issued_by, to } => {
                after.set_password(*to, None);
                self.may_be_active() && self.code == Some(*issued_by) && !self.is_disabled
            }
            Deed::SetByAdmin { to } => {
                after.set_password(*to, None);
                self.admin_may_act()
            }
            Deed::Reset { key } => {
                if key.is_none_or(|key| after.resets.insert(key)) {
                    (after.is_reset, after.code) = (true, Some(operation.number));
                    after.end_all(None);
                }
                self.admin_may_act()
            }
            Deed::SetDisabled(disabled) => {
                if *disabled && !self.is_disabled {
                    after.end_all(None);
                }
                after.is_disabled = *disabled;
                true
            }
            Deed::SetSuspended(suspended) => {
                if *suspended != self.current.is_suspended {
                    after.cached.insert(self.current);
                    after.current.is_suspended = *suspended;
                    after.current.epoch += u64::from(*suspended);
                }
                true
            }
            Deed::Wait { past_grace } => {
                after.cached.clear();
                let epoch = after.current.epoch;
                after.held.retain(|_, held| held.tenant_epoch >= epoch);
                for held in after.held.values_mut().filter(|_| *past_grace) {
                    held.in_grace_from = held.generation;
                }
                true
            }
            Deed::AdminLogIn => {
                after.admin_epoch = self.current.epoch;
                !self.current.is_suspended
            }
        };
        if is_allowed { vec![after] } else { Vec::new() }
    }

    fn after_login(&self, operation: &Operation, session: &str, generation: u64, facts: &Facts) -> Vec<Self> {
        let Deed::LogIn { password, key } = operation.deed else {
            return Vec::new();
        };
        let stored = key.and_then(|key| self.logins.get(&key));
        if created_by(operation, facts) != Some(session) {
            let is_replay = stored.is_some_and(|stored| {
                stored.password == password && stored.is_unchanged && stored.session == session
            });
            let is_unused = self.held.get(session).is_some_and(|held| held.generation == 0);
            let allowed = is_replay && is_unused && generation == 0 && self.may_be_live(session);
            return if allowed { vec![self.clone()] } else { Vec::new() };
        }
        let is_right = password == self.password && !self.is_disabled && !self.is_reset;
        if !is_right || stored.is_some() || generation != 0 || self.held.contains_key(session) {
            return Vec::new();
        }
        let views: BTreeSet<_> = self.views().filter(|view| !view.is_suspended).collect();
        let mut all = Vec::new();
        for view in views {
            for mut after in self.with_room(operation, view, facts) {
                let held = Held { generation: 0, in_grace_from: 0, tenant_epoch: view.epoch };
                after.held.insert(session.to_owned(), held);
                if let Some(key) = key {
                    let session = session.to_owned();
                    after.logins.insert(key, KeyedLogin { password, session, is_unchanged: true });
                }
                all.push(after);
            }
        }
        all
    }

    /// The states in which one more session fits. Under `oldest` and `single`, the oldest sessions end. A login
    /// may also end as many more as other operations ended while it was running.
    fn with_room(&self, operation: &Operation, view: View, facts: &Facts) -> Vec<Self> {
        let Some(SessionLimit { max, when_full }) = facts.limit else {
            return vec![self.clone()];
        };
        let mut live: Vec<_> = self.live_in(view).collect();
        let surplus = (live.len() + 1).saturating_sub(usize::try_from(max).unwrap());
        if when_full == WhenFull::Reject {
            return if surplus == 0 { vec![self.clone()] } else { Vec::new() };
        }
        live.sort_by_key(|session| (facts.sessions.get(*session).map(|created| created.at), *session));
        let most = (surplus + operation.overlapping_ends).min(live.len());
        let without = |count: usize| {
            let mut after = self.clone();
            for session in live.iter().take(count) {
                after.held.remove(*session);
            }
            after
        };
        (surplus..=most).map(without).collect()
    }

    fn live_in(&self, view: View) -> impl Iterator<Item = &String> {
        self.held.iter().filter(move |(_, held)| held.tenant_epoch >= view.epoch).map(|(session, _)| session)
    }

    fn after_refresh(&self, session: &str, presented: u64, got: u64) -> Vec<Self> {
        let Some(held) = self.held.get(session).filter(|_| self.may_be_live(session)) else {
            return Vec::new();
        };
        if presented < held.generation {
            let is_repeated = presented >= held.in_grace_from && got == held.generation;
            return if is_repeated { vec![self.clone()] } else { Vec::new() };
        }
        if presented != held.generation || got != presented + 1 {
            return Vec::new();
        }
        let mut after = self.clone();
        after.held.insert(session.to_owned(), Held { generation: got, ..held.clone() });
        vec![after]
    }

    fn after_reuse(&self, session: &str, presented: u64) -> Vec<Self> {
        let mut after = self.clone();
        match after.held.remove(session) {
            Some(held) if presented < held.in_grace_from && self.may_be_live(session) => vec![after],
            _ => Vec::new(),
        }
    }

    fn after_refusal(&self, operation: &Operation, refusal: &Refusal, facts: &Facts) -> Vec<Self> {
        let unchanged = |is: bool| if is { vec![self.clone()] } else { Vec::new() };
        match (&operation.deed, refusal) {
            (Deed::LogIn { .. }, refusal) => unchanged(self.login_may_fail(operation, refusal, facts)),
            (Deed::Refresh { session, presented }, Refusal::Reused) => {
                // Of two uses, one ends the session.
                if self.held.contains_key(session) {
                    self.after_reuse(session, *presented)
                } else {
                    unchanged(true)
                }
            }
            (
                Deed::Refresh { session, .. }
                | Deed::Change { by: session, .. }
                | Deed::End { by: session, .. },
                Refusal::Ended,
            ) => unchanged(self.may_be_ended(session)),
            (Deed::Use { session, .. }, Refusal::Ended) => {
                unchanged(self.may_be_ended(session) || self.may_be_suspended())
            }
            (Deed::Change { by, from, .. }, Refusal::WrongPassword) => {
                unchanged(self.may_be_live(by) && *from != self.password)
            }
            (Deed::SetByCode { issued_by, .. }, Refusal::InvalidCode) => {
                unchanged(self.code != Some(*issued_by) || self.is_disabled)
            }
            (Deed::SetByAdmin { .. } | Deed::Reset { .. }, Refusal::Ended | Refusal::Suspended) => {
                unchanged(self.admin_may_be_rejected())
            }
            (_, Refusal::Suspended) => unchanged(self.may_be_suspended()),
            _ => Vec::new(),
        }
    }

    fn login_may_fail(&self, operation: &Operation, refusal: &Refusal, facts: &Facts) -> bool {
        let Deed::LogIn { password, key } = operation.deed else {
            return false;
        };
        let stored = key.and_then(|key| self.logins.get(&key));
        let may_be_new = stored.is_none() || operation.overlaps_same_key;
        let is_right = password == self.password && !self.is_disabled;
        match refusal {
            Refusal::Suspended => self.may_be_suspended(),
            Refusal::WrongPassword => may_be_new && !is_right,
            Refusal::ResetRequired => may_be_new && is_right && self.is_reset,
            Refusal::Limit => {
                let Some(SessionLimit { max, when_full: WhenFull::Reject }) = facts.limit else {
                    return false;
                };
                let is_full = |view| self.live_in(view).count() >= usize::try_from(max).unwrap();
                let views = self.views().filter(|view| !view.is_suspended);
                may_be_new && is_right && (operation.overlapping_ends > 0 || views.into_iter().any(is_full))
            }
            Refusal::Mismatch => stored.is_some_and(|stored| stored.password != password),
            Refusal::Expired => stored.is_some_and(|stored| {
                let is_unused = self.held.get(&stored.session).is_some_and(|held| held.generation == 0);
                let is_live = stored.is_unchanged && is_unused && !self.may_be_ended(&stored.session);
                stored.password == password && !is_live
            }),
            _ => false,
        }
    }

    fn observed(&self, observation: &Observation) -> Vec<Self> {
        let live = self.held.iter().map(|(session, held)| (session.clone(), held.generation));
        let seen = Observation {
            password: Some(self.password),
            is_disabled: self.is_disabled,
            is_reset: self.is_reset,
            is_suspended: self.current.is_suspended,
            has_code: self.code.is_some(),
            live: live.collect(),
        };
        if seen == *observation { vec![self.clone()] } else { Vec::new() }
    }
}

/// The session that a login created.
pub(super) fn created_by<'f>(operation: &Operation, facts: &'f Facts) -> Option<&'f str> {
    let mut sessions = facts.sessions.iter().filter(|(_, created)| created.by == operation.number);
    sessions.next().map(|(session, _)| session.as_str())
}
