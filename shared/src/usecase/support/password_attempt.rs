//! Password verification with attempt limits (docs/design/security.md#rule-7 to #rule-11).
//!
//! [`Service::reserve_attempt`] takes one of the user's attempt slots. Each slot ends in exactly one of
//! [`AttemptSlot::wrong`], [`AttemptSlot::right`] and [`AttemptSlot::unused`].

use std::{net::IpAddr, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use jiff::Timestamp;

use super::{
    budgets::{BudgetCharge, hourly_budgets},
    tenant_request::TenantRequest,
};
use crate::{
    domain::{
        AttemptBudget, AttemptCount, AttemptId, AttemptState, Failure, GrantedSlot, HourBudget, Limit,
        Password, Reservation, SessionId, TrustedDevice, User, UserId,
    },
    port::PasswordCheck,
    store::{AttemptKey, Verdict},
    usecase::Service,
};

/// Maximum total wait for an attempt slot. It is well below the timeout of a function.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Maximum time to store the result of an attempt. Longer than a burst of throttling, because an attempt without a
/// result holds its slot.
const MAX_SETTLING: Duration = Duration::from_secs(4);

/// The source of a password attempt. It decides which limits apply.
#[derive(Debug, Clone, Copy)]
pub(in crate::usecase) struct AttemptSource {
    /// A trusted device: only its own attempts count (docs/design/security.md#rule-10). `None` for an unknown
    /// device: the attempts of all unknown devices count together, and the budgets of address and tenant apply.
    pub(in crate::usecase) device: Option<TrustedDevice>,
    /// Client address.
    pub(in crate::usecase) ip: Option<IpAddr>,
}

impl AttemptSource {
    /// The hourly budgets that apply to an attempt at `user`'s password.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub(in crate::usecase) fn budgets(
        self,
        request: &TenantRequest<'_>,
        user: &UserId,
    ) -> Result<Vec<HourBudget>, Failure> {
        if self.device.is_some() {
            return Ok(Vec::new());
        }
        hourly_budgets(request, self.ip, user.as_str())
    }
}

/// A reserved attempt slot of a user, with the units that the attempt took from hourly budgets.
///
/// A slot that is dropped without an outcome stays reserved for a minute and then counts as failed.
#[must_use = "end the slot with wrong(), right() or unused()"]
pub(in crate::usecase) struct AttemptSlot<'a> {
    service: &'a Service,
    request: &'a TenantRequest<'a>,
    user: UserId,
    id: AttemptId,
    source: AttemptSource,
    budget: AttemptBudget,
    granted: GrantedSlot,
    /// Units of hourly budgets.
    charge: BudgetCharge,
}

/// How a password attempt ended.
#[derive(Debug, Clone, Copy)]
enum AttemptOutcome {
    Wrong,
    Right,
    Unused,
}

impl Service {
    /// Reserves an attempt slot. While other attempts hold all slots, waits for up to 4 s.
    ///
    /// # Errors
    /// - `AccountLocked`; `PasswordDisabled`.
    /// - `RateLimited`: every slot stayed busy, or too many attempts at this user's password failed within the
    ///   hour.
    /// - `Unavailable`.
    pub(in crate::usecase) async fn reserve_attempt<'a>(
        &'a self,
        request: &'a TenantRequest<'a>,
        user: &UserId,
        source: AttemptSource,
    ) -> Result<AttemptSlot<'a>, Failure> {
        let (tenant, policy, now) = (&request.tenant.id, request.policy(), request.now());
        let budget = AttemptBudget {
            max: policy.max_attempts,
            per_hour: usize::try_from(policy.failures_per_user).unwrap_or(usize::MAX),
            disable_after: policy.disable_after,
            lockout_millis: i64::try_from(policy.lockout.as_millis()).unwrap_or(i64::MAX),
        };
        let id = self.attempt_id(now)?;
        let key = |source: AttemptSource| AttemptKey { tenant, user, device: source.device, id };
        let (mut source, mut reserved) = (source, self.wait_for_slot(&key(source), budget, now).await?);
        if reserved == Reservation::UnknownDevice {
            source.device = None;
            reserved = self.wait_for_slot(&key(source), budget, now).await?;
        }
        let granted = match reserved {
            Reservation::Granted(granted) => granted,
            Reservation::Locked(count) => return Err(Failure::AccountLocked(count)),
            Reservation::Limited(until) => {
                let wait = until.duration_since(now).unsigned_abs();
                return Err(Failure::RateLimited(Limit::User, wait));
            }
            Reservation::Disabled(count) => return Err(Failure::PasswordDisabled(count)),
            Reservation::Busy | Reservation::UnknownDevice => {
                return Err(Failure::RateLimited(Limit::Busy, Duration::from_secs(1)));
            }
        };
        Ok(AttemptSlot {
            service: self,
            request,
            user: user.clone(),
            id,
            source,
            budget,
            granted,
            charge: BudgetCharge::default(),
        })
    }

    /// Reserves a slot. While all slots are busy, reads the attempts until a slot may be free, and then tries again.
    async fn wait_for_slot(
        &self,
        key: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        // A slot is held for one hash: about 10 ms, longer when hashes wait for the same cores.
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_millis(250))
            .without_max_times()
            .with_total_delay(Some(MAX_WAIT))
            .with_jitter()
            .build();
        let mut reserved = self.store.reserve_attempt(key, budget, now).await?;
        while let (Reservation::Busy, Some(wait)) = (&reserved, waits.next()) {
            tokio::time::sleep(wait).await;
            if self.store.may_reserve(key, budget, now).await? {
                reserved = self.store.reserve_attempt(key, budget, now).await?;
            }
        }
        Ok(reserved)
    }

    /// Compares `password` with `user`'s hash. Without a user, does the same work and returns `Wrong`.
    pub(in crate::usecase) async fn verify_password(
        &self,
        request: &TenantRequest<'_>,
        password: Password,
        user: Option<&User>,
    ) -> Result<PasswordCheck, Failure> {
        let hash = user.map(|user| user.password.clone());
        self.passwords.verify(password, hash, request.policy().hash_cost).await
    }
}

impl AttemptSlot<'_> {
    /// Whether the attempt counts as one of an unknown device.
    pub(in crate::usecase) fn is_of_unknown_device(&self) -> bool {
        self.source.device.is_none()
    }

    /// Moves the attempt to the slots of unknown devices, because the proof of the device is older than the password.
    ///
    /// # Errors
    /// As [`Service::reserve_attempt`].
    pub(in crate::usecase) async fn of_unknown_device(self) -> Result<Self, Failure> {
        let (service, request, user) = (self.service, self.request, self.user.clone());
        let source = AttemptSource { device: None, ..self.source };
        self.unused().await;
        service.reserve_attempt(request, &user, source).await
    }

    /// ID of the session that a login with this attempt creates.
    pub(in crate::usecase) fn session_id(&self) -> SessionId {
        SessionId::of_attempt(self.id)
    }

    /// Applies `budgets`, of which `used` units were used when they were read ([`BudgetCharge::charge`]).
    ///
    /// # Errors
    /// `RateLimited` until the end of the hour; `Unavailable`. The slot gives back what it took.
    pub(in crate::usecase) async fn charge(
        &mut self,
        budgets: Vec<HourBudget>,
        used: &[u32],
    ) -> Result<(), Failure> {
        self.charge.charge(&self.service.store, self.request.context, budgets, used).await
    }

    /// Takes a unit of every budget that applies to the slot, without reading how much is used.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub(in crate::usecase) async fn charge_all(&mut self) -> Result<(), Failure> {
        let budgets = self.source.budgets(self.request, &self.user)?;
        self.charge.take(&self.service.store, budgets).await
    }

    /// Ends the attempt: the password was wrong. Returns the failed attempts, this one included.
    ///
    /// # Errors
    /// `Unavailable`: the slot stays reserved and counts as failed after a minute.
    pub(in crate::usecase) async fn wrong(self) -> Result<AttemptCount, Failure> {
        let (budget, now) = (self.budget, self.request.now());
        Ok(self.end(AttemptOutcome::Wrong).await?.count(budget, now))
    }

    /// Ends the attempt: the password was right and the request succeeded. Forgives the failures before it.
    pub(in crate::usecase) async fn right(self) {
        self.end_quietly(AttemptOutcome::Right).await;
    }

    /// Ends the attempt without a trace: the password was not verified, or was right but the request failed for
    /// another reason. Forgives nothing.
    pub(in crate::usecase) async fn unused(self) {
        self.end_quietly(AttemptOutcome::Unused).await;
    }

    /// Logs an outcome that cannot be stored, because the response no longer depends on it.
    async fn end_quietly(self, outcome: AttemptOutcome) {
        if let Err(failure) = self.end(outcome).await {
            tracing::warn!(%failure, "attempt.not_settled");
        }
    }

    async fn end(self, outcome: AttemptOutcome) -> Result<AttemptState, Failure> {
        let store = &self.service.store;
        let tenant = &self.request.tenant.id;
        let attempt = AttemptKey { tenant, user: &self.user, device: self.source.device, id: self.id };
        let verdict = match outcome {
            AttemptOutcome::Wrong => {
                let GrantedSlot { is_expired, .. } = self.granted;
                Verdict::Failed { budget: self.budget, now: self.request.now(), is_expired }
            }
            AttemptOutcome::Right => Verdict::Succeeded(&self.granted.seen),
            AttemptOutcome::Unused => Verdict::Unused,
        };
        let adjusted = async {
            match outcome {
                AttemptOutcome::Wrong => self.charge.failed(store).await,
                AttemptOutcome::Right | AttemptOutcome::Unused => self.charge.give_back(store).await,
            }
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_millis(500))
            .without_max_times()
            .with_jitter();
        let is_temporary = |failure: &Failure| matches!(failure, Failure::Unavailable(_));
        let settle = (|| store.settle_attempt(&attempt, &verdict)).retry(backoff).when(is_temporary);
        let settle = async {
            let timeout = |_| Failure::Unavailable("storing the result of an attempt timed out".into());
            tokio::time::timeout(MAX_SETTLING, settle).await.map_err(timeout)?
        };
        let (settled, adjusted) = tokio::join!(settle, adjusted);
        let settled = settled?;
        adjusted?;
        Ok(settled)
    }
}
