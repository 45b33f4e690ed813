//! Random mode: a seed decides which calls get a fault.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use strum::IntoEnumIterator;

use super::{
    arrivals::Delay,
    call::{Call, Operation},
    condition::kind,
    fault::{Effect, Injection},
};
use crate::Dice;

/// Chance of each effect, unless a test sets another.
const DEFAULT_CHANCE: f64 = 0.01;
/// Maximum number of calls that a held or late call lets pass.
const MAX_OVERTAKEN: usize = 4;
/// Maximum delay of a held or late call. It is well below the SDK's timeout of an attempt.
const MAX_DELAY: Duration = Duration::from_millis(20);

/// Random faults. The seed, the operation, the kinds of its items and the number of earlier calls like it
/// determine the fault of a call, so that IDs and unrelated calls do not change it.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    chances: Vec<(Effect, f64)>,
    earlier: HashMap<(Operation, String), u64>,
}

impl Random {
    /// Random faults in which every effect except an earlier answer has a chance of 1 %.
    pub fn new(seed: u64) -> Self {
        let random = Self { seed, chances: Vec::new(), earlier: HashMap::new() };
        random.every_chance(DEFAULT_CHANCE)
    }

    /// Sets the chance of an effect, between 0 and 1.
    #[must_use]
    pub fn chance(mut self, effect: Effect, chance: f64) -> Self {
        self.chances.retain(|(other, _)| *other != effect);
        self.chances.push((effect, chance));
        self
    }

    /// Sets the chance of every effect except an earlier answer, between 0 and 1.
    #[must_use]
    pub fn every_chance(mut self, chance: f64) -> Self {
        let effects = Effect::iter().filter(|effect| *effect != Effect::AnswerEarlier);
        self.chances = effects.map(|effect| (effect, chance)).collect();
        self
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn decide(&mut self, call: &Call) -> Option<Injection> {
        let shape = shape(call);
        let earlier = self.earlier.entry((call.operation, shape.clone())).or_default();
        let mut hasher = DefaultHasher::new();
        (self.seed, call.operation, &shape, *earlier).hash(&mut hasher);
        *earlier += 1;
        let mut dice = Dice::new(hasher.finish());
        let possible = self.chances.iter().filter(|(effect, _)| effect.fits(call.operation));
        let effect = possible.copied().find(|(_, chance)| dice.fraction() < *chance)?.0;
        let others = 1 + dice.below(MAX_OVERTAKEN);
        let delay = Delay { others, within: MAX_DELAY.mul_f64(dice.fraction()) };
        Some(Injection { delay: Some(delay), ..Injection::new(effect) })
    }
}

/// Kinds of the items of a call: keys without their IDs, such as `T#U# S#`.
fn shape(call: &Call) -> String {
    let kinds = call.keys.iter().map(|key| [kind(&key.pk), kind(&key.sk)].join(" "));
    kinds.collect::<Vec<_>>().join(";")
}
