//! Rules for new passwords (docs/design/security.md#rule-3): minimum length, and a blocklist of common passwords,
//! public names, repeated texts, sequences and keyboard runs.
//!
//! The rules apply to the whole password: a listed word inside a longer text is allowed. Only these rules
//! compare case-folded letters; the password that is hashed is not folded (docs/design/security.md#rule-2).

mod list;
mod run;

pub use list::fingerprint;
use zeroize::Zeroizing;

use super::{FieldError, Password, TenantId, Username, folded};

/// Rules of a tenant for new passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    min_length: usize,
}

impl PasswordPolicy {
    /// Default minimum length: NIST SP 800-63B-4, 3.1.1.2, single-factor passwords (docs/design/security.md#rule-1).
    pub const DEFAULT_MIN_LENGTH: usize = 15;
    /// Lowest minimum length that a tenant can set (docs/design/security.md#rule-1).
    pub const FLOOR: usize = 8;
    /// Highest minimum length that a tenant can set: 64 characters of 4 bytes fill [`Password::MAX_BYTES`].
    pub const CEILING: usize = 64;

    /// Creates a policy that requires `min_length` code points, clamped to the range between [`Self::FLOOR`] and [`Self::CEILING`].
    pub fn new(min_length: usize) -> Self {
        Self { min_length: min_length.clamp(Self::FLOOR, Self::CEILING) }
    }

    /// Returns the minimum length in code points.
    pub fn min_length(self) -> usize {
        self.min_length
    }

    /// Returns the rules that `password` breaks. An empty list means that the password is allowed.
    pub fn broken_rules(
        self,
        password: &Password,
        field: &'static str,
        names: &ForbiddenNames<'_>,
    ) -> Vec<FieldError> {
        let mut broken = Vec::new();
        if password.as_str().chars().count() < self.min_length {
            broken.push(FieldError::new(field, format!("must have at least {} characters", self.min_length)));
        }
        broken.extend(
            broken_rules(password.as_str(), self.min_length, names).map(|rule| FieldError::new(field, rule)),
        );
        broken
    }
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MIN_LENGTH)
    }
}

/// Names that a password must not consist of. The service's own name is forbidden, too.
#[derive(Debug, Clone, Copy)]
pub struct ForbiddenNames<'a> {
    /// Username.
    pub username: &'a Username,
    /// Tenant ID.
    pub tenant: &'a TenantId,
    /// Display name of the tenant.
    pub tenant_name: &'a str,
}

const SERVICE: &str = "doorward";
/// Minimum length of a name that is checked. Shorter names occur in too many words.
const SHORTEST_NAME: usize = 3;
/// Maximum number of digits and punctuation characters around a word that do not make it a good password:
/// for example a date, or a year with two exclamation marks.
const TRIVIAL: usize = 6;

/// Returns the blocklist rules that `password` breaks. A repeated text is allowed if one repetition has
/// the minimum length.
fn broken_rules(
    password: &str,
    min_length: usize,
    names: &ForbiddenNames<'_>,
) -> impl Iterator<Item = &'static str> {
    let text = Zeroizing::new(folded(password));
    let chars: Zeroizing<Vec<char>> = Zeroizing::new(text.chars().collect());
    let unit = chars.get(..period(&chars)).unwrap_or(&chars);
    [
        (names.make(&chars), "must not be made of the username or the names of tenant and service"),
        (unit.len() < chars.len().min(min_length), "must not be a shorter text repeated"),
        (run::is_walk(&chars), "must not be a sequence or a keyboard run"),
        (
            [&*chars, unit, core(unit)].into_iter().any(list::contains),
            "must not be one of the most common passwords",
        ),
    ]
    .into_iter()
    .filter_map(|(broken, rule)| broken.then_some(rule))
}

impl ForbiddenNames<'_> {
    /// Returns whether `password` consists of names, keyboard runs and at most [`TRIVIAL`] other characters.
    fn make(&self, password: &[char]) -> bool {
        let username = self.username.folded();
        let local_part = username.rsplit_once('@').map_or(username, |(local, _)| local);
        let names: Vec<Vec<char>> = [username, local_part, self.tenant.as_str(), self.tenant_name, SERVICE]
            .into_iter()
            .map(|name| folded(name).chars().filter(|c| c.is_alphanumeric()).collect())
            .filter(|name: &Vec<char>| name.len() >= SHORTEST_NAME)
            .collect();
        let with_names = outside(password, |rest| {
            names.iter().filter_map(|name| prefix_length(rest, name)).chain(run::heads(rest)).collect()
        });
        let without = run::outside_any(password);
        with_names.is_some_and(|left| left <= TRIVIAL && without.is_none_or(|more| left < more))
            || password.iter().copied().eq(username.chars())
    }
}

/// Returns the minimum number of characters of `chars` outside all parts, or `None` if a letter is outside.
///
/// `parts` returns the lengths of the parts that a text starts with.
fn outside(chars: &[char], parts: impl Fn(&[char]) -> Vec<usize>) -> Option<usize> {
    let mut fewest = vec![None; chars.len() + 1];
    if let Some(start) = fewest.first_mut() {
        *start = Some(0);
    }
    for (index, c) in chars.iter().enumerate() {
        let Some((so_far, rest)) = fewest.get(index).copied().flatten().zip(chars.get(index..)) else {
            continue;
        };
        let alone = (!c.is_alphabetic()).then_some((1, so_far + 1));
        for (length, left) in parts(rest).into_iter().map(|length| (length, so_far)).chain(alone) {
            if let Some(known) = fewest.get_mut(index + length) {
                *known = Some(known.map_or(left, |known: usize| known.min(left)));
            }
        }
    }
    fewest.last().copied().flatten()
}

/// Returns the length of `name` at the start of `text`. Other characters between its letters and digits are
/// ignored.
fn prefix_length(text: &[char], name: &[char]) -> Option<usize> {
    let mut left = name.iter();
    let mut next = left.next()?;
    for (index, c) in text.iter().enumerate() {
        if c == next {
            match left.next() {
                Some(following) => next = following,
                None => return Some(index + 1),
            }
        } else if index == 0 || c.is_alphanumeric() {
            return None;
        }
    }
    None
}

/// Returns the length of the shortest text that `chars` repeats at least twice, or the length of `chars` if
/// it repeats none. The last repetition may be incomplete.
fn period(chars: &[char]) -> usize {
    (1..=chars.len().div_ceil(2))
        .find(|length| chars.iter().zip(chars.iter().skip(*length)).all(|(a, b)| a == b))
        .unwrap_or(chars.len())
}

/// Removes trivial digits and punctuation from both ends.
fn core(chars: &[char]) -> &[char] {
    let letter = |c: &char| c.is_alphabetic();
    let Some((first, last)) = chars.iter().position(letter).zip(chars.iter().rposition(letter)) else {
        return chars;
    };
    let trivial = |end: &[char]| run::outside_any(end).is_some_and(|left| left <= TRIVIAL);
    let (head, _) = chars.split_at(first);
    let (_, tail) = chars.split_at(last + 1);
    let start = if trivial(head) { first } else { 0 };
    let end = if trivial(tail) { last + 1 } else { chars.len() };
    chars.get(start..end).unwrap_or(chars)
}

#[cfg(test)]
mod tests;
