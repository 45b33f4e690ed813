//! One policy field: its name, its value and its limits.

use serde_json::{Map, Value};

use super::Policy;
use crate::domain::{FieldError, Invalid};

/// Upper end of a range that is limited only by its type.
pub(super) const NO_LIMIT: u64 = u32::MAX as u64;

/// The policy in a tenant record: values by field name.
pub type PolicyDocument = Map<String, Value>;

/// An error in a policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    /// Name of the policy field, and the message.
    pub error: FieldError,
    /// Effect on the tenant.
    pub severity: Severity,
}

/// The effect of a fault in a stored policy. A change that would leave a fault is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The nearest end of the range is used instead of the number.
    Bounded,
    /// The setting is ignored, so that users can still log in.
    Ignored,
    /// The tenant is unavailable until the setting is corrected, because the intended value is unknown.
    Unusable,
}

impl PolicyFault {
    pub(super) fn new(
        field: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
        severity: Severity,
    ) -> Self {
        Self { error: FieldError::new(field, message), severity }
    }
}

/// One field of a policy.
#[derive(Debug)]
pub struct PolicyField {
    /// Name in a tenant record.
    pub name: &'static str,
    /// Description, with the sources of default and range.
    pub meaning: &'static str,
    /// Effect of an unusable value.
    severity: Severity,
    pub(super) kind: FieldKind,
}

/// Type of a field, with access to its value in a [`Policy`].
#[derive(Debug)]
pub(super) enum FieldKind {
    Number { least: u64, most: u64, of: fn(&Policy) -> Option<u64>, set: fn(&mut Policy, u64) },
    Flag { of: fn(&Policy) -> bool, set: fn(&mut Policy, bool) },
    Text { format: &'static str, of: fn(&Policy) -> Option<String>, set: SetText },
    List { format: &'static str, most: usize, of: fn(&Policy) -> Vec<String>, add: SetText },
}

pub(super) type SetText = fn(&mut Policy, &str) -> Result<(), Invalid>;

/// A rule that involves several fields.
pub(super) struct Rule {
    pub(super) field: &'static str,
    pub(super) message: &'static str,
    pub(super) holds: fn(&Policy, &PolicyDocument) -> bool,
}

pub(super) const fn number(
    name: &'static str,
    (least, most): (u64, u64),
    meaning: &'static str,
    of: fn(&Policy) -> Option<u64>,
    set: fn(&mut Policy, u64),
) -> PolicyField {
    PolicyField::new(name, meaning, FieldKind::Number { least, most, of, set })
}

pub(super) const fn flag(
    name: &'static str,
    meaning: &'static str,
    of: fn(&Policy) -> bool,
    set: fn(&mut Policy, bool),
) -> PolicyField {
    PolicyField::new(name, meaning, FieldKind::Flag { of, set })
}

pub(super) const fn text(
    name: &'static str,
    format: &'static str,
    meaning: &'static str,
    of: fn(&Policy) -> Option<String>,
    set: SetText,
) -> PolicyField {
    PolicyField::new(name, meaning, FieldKind::Text { format, of, set })
}

pub(super) const fn list(
    name: &'static str,
    (format, most): (&'static str, usize),
    meaning: &'static str,
    of: fn(&Policy) -> Vec<String>,
    add: SetText,
) -> PolicyField {
    PolicyField::new(name, meaning, FieldKind::List { format, most, of, add })
}

impl PolicyField {
    const fn new(name: &'static str, meaning: &'static str, kind: FieldKind) -> Self {
        Self { name, meaning, severity: Severity::Unusable, kind }
    }

    pub(super) const fn ignored(self) -> Self {
        Self { severity: Severity::Ignored, ..self }
    }

    /// Returns the value in a policy, if it is set.
    pub fn value(&self, policy: &Policy) -> Option<Value> {
        match self.kind {
            FieldKind::Number { of, .. } => of(policy).map(Value::from),
            FieldKind::Flag { of, .. } => Some(of(policy).into()),
            FieldKind::Text { of, .. } => of(policy).map(Value::from),
            FieldKind::List { of, .. } => Some(of(policy).into()),
        }
    }

    /// Brings a number that is outside this field's range to the nearest end of the range.
    pub(super) fn clamp(&self, policy: &mut Policy) {
        if let FieldKind::Number { least, most, of, set } = self.kind
            && let Some(number) = of(policy)
        {
            set(policy, number.clamp(least, most));
        }
    }

    /// Returns a description of the allowed values.
    pub fn allowed(&self) -> String {
        match self.kind {
            FieldKind::Number { least, most: NO_LIMIT, .. } => format!("at least {least}"),
            FieldKind::Number { least, most, .. } => format!("{least} to {most}"),
            FieldKind::Flag { .. } => "true or false".to_owned(),
            FieldKind::Text { format, .. } => format.to_owned(),
            FieldKind::List { format, most, .. } => format!("up to {most}: {format}"),
        }
    }

    /// Converts a value from the command line. List elements are separated by commas.
    pub fn typed(&self, text: &str) -> Value {
        let whole = || Value::from(text);
        match self.kind {
            FieldKind::Number { .. } => text.parse::<i64>().map_or_else(|_| whole(), Value::from),
            FieldKind::Flag { .. } => text.parse::<bool>().map_or_else(|_| whole(), Value::from),
            FieldKind::Text { .. } => whole(),
            FieldKind::List { .. } => {
                let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
                elements.collect::<Vec<_>>().into()
            }
        }
    }

    /// Sets the usable part of `value` in `policy`, and adds a fault for the rest.
    pub(super) fn read(&self, value: &Value, policy: &mut Policy, faults: &mut Vec<PolicyFault>) {
        let mut unusable = |message: String| faults.push(PolicyFault::new(self.name, message, self.severity));
        match self.kind {
            FieldKind::Number { least, most, set, .. } => {
                // A negative number is below every range.
                let Some(given) = value.as_u64().or_else(|| value.as_i64().map(|_| 0)) else {
                    return unusable("must be a whole number".to_owned());
                };
                set(policy, given.clamp(least, most));
                if value.as_u64().is_none_or(|given| !(least..=most).contains(&given)) {
                    let message = format!("must be {}", self.allowed());
                    faults.push(PolicyFault::new(self.name, message, Severity::Bounded));
                }
            }
            FieldKind::Flag { set, .. } => match value.as_bool() {
                Some(given) => set(policy, given),
                None => unusable("must be true or false".to_owned()),
            },
            FieldKind::Text { set, .. } => match value.as_str().map(|given| set(policy, given)) {
                Some(Ok(())) => {}
                Some(Err(invalid)) => unusable(invalid.to_string()),
                None => unusable("must be a string".to_owned()),
            },
            FieldKind::List { most, add, .. } => {
                let given = value.as_array().map(|given| given.iter().map(Value::as_str));
                let Some(Some(given)) = given.map(Iterator::collect::<Option<Vec<_>>>) else {
                    return unusable("must be a list of strings".to_owned());
                };
                if given.len() > most {
                    unusable(format!("must have at most {most} elements"));
                }
                for element in given {
                    if let Err(invalid) = add(policy, element) {
                        unusable(format!("contains {element:?}, but each element {invalid}"));
                    }
                }
            }
        }
    }
}
