//! Comparison of a function's DynamoDB calls with the permissions of its role
//! (docs/design/security.md#rule-26). The emulators check no permissions, so this is the only check
//! before a deployment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use doorward::route::Function;
use serde_json::Value;

/// A permission that a call requires: the action, the partition keys and the attributes. A transaction
/// requires one permission for each of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `UpdateItem`, for example.
    pub action: String,
    /// Partition keys (`dynamodb:LeadingKeys`).
    pub keys: BTreeSet<String>,
    /// Index that a query reads.
    pub index: Option<String>,
    /// Attributes that an update names (`dynamodb:Attributes`).
    pub attributes: BTreeSet<String>,
    /// Return values of an update (`dynamodb:ReturnValues`).
    pub returns: Option<String>,
}

/// Return values of an update that is limited to attributes (`RETURN_VALUES` in `infra/aws/src/permissions.ts`).
const RETURN_VALUES: [&str; 2] = ["NONE", "UPDATED_NEW"];

/// Words in expressions that are not attributes.
const WORDS: [&str; 16] = [
    "SET",
    "REMOVE",
    "ADD",
    "DELETE",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "begins_with",
    "contains",
    "if_not_exists",
    "size",
];

impl Asked {
    /// The permissions that a call of DynamoDB's JSON protocol requires.
    pub(crate) fn of(operation: &str, input: &Value) -> Vec<Self> {
        let one = |action: &str, input: &Value, keys: Vec<&Value>| Self {
            action: action.to_owned(),
            keys: keys.into_iter().filter_map(|key| key["S"].as_str()).map(str::to_owned).collect(),
            index: input["IndexName"].as_str().map(str::to_owned),
            attributes: attributes(input),
            returns: input["ReturnValues"].as_str().map(str::to_owned),
        };
        match operation {
            "BatchGetItem" => {
                let tables = input["RequestItems"].as_object().into_iter().flatten();
                let keys = tables.flat_map(|(_, asked)| asked["Keys"].as_array().into_iter().flatten());
                vec![one(operation, input, keys.map(|key| &key["pk"]).collect())]
            }
            "TransactWriteItems" => input["TransactItems"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|item| item.as_object().into_iter().flatten())
                .map(|(kind, part)| {
                    let action =
                        if kind == "ConditionCheck" { "ConditionCheckItem" } else { &format!("{kind}Item") };
                    one(action, part, vec![&part["Key"]["pk"], &part["Item"]["pk"]])
                })
                .collect(),
            "Query" => {
                let condition = input["KeyConditionExpression"].as_str().unwrap_or_default();
                let key = if input.get("IndexName").is_some() { "users_of = " } else { "pk = " };
                let named = condition.split_once(key).map_or("", |(_, rest)| rest);
                let named = named.split([' ', ')']).next().unwrap_or_default();
                vec![one(operation, input, vec![&input["ExpressionAttributeValues"][named]])]
            }
            _ => vec![one(operation, input, vec![&input["Key"]["pk"], &input["Item"]["pk"]])],
        }
    }
}

fn attributes(input: &Value) -> BTreeSet<String> {
    let expressions =
        ["UpdateExpression", "ConditionExpression"].map(|name| input[name].as_str().unwrap_or_default());
    let words = expressions
        .into_iter()
        .flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || "_:#".contains(c))));
    let named = words.filter(|word| word.starts_with(|c: char| c.is_alphabetic()) && !WORDS.contains(word));
    let keys = input["Key"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    named.chain(keys).map(str::to_owned).collect()
}

/// The table permissions of each function's role, and those that were used.
pub struct Roles {
    grants: BTreeMap<String, Vec<Grant>>,
    used: Mutex<BTreeSet<Allowed>>,
}

/// A function, an action and a key pattern.
type Allowed = (String, String, String);

/// Permissions that no recorded event can show, with the reason.
const NEEDED: [(&str, &str, &str, &str); 1] = [(
    "update-credentials",
    "UpdateItem",
    "T#*#F#*",
    "a wrong current password in a session without a device counts as an attempt of an unknown device",
)];

struct Grant {
    actions: Vec<String>,
    keys: Vec<String>,
    index: Option<String>,
    attributes: Option<Vec<String>>,
}

impl Roles {
    /// Reads the roles of the deployment (`infra/permissions.json`).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/permissions.json");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let roles: Value = serde_json::from_str(&text)?;
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let grant = |grant: &Value| Grant {
            actions: texts(&grant["actions"]),
            keys: texts(&grant["keys"]),
            index: grant["index"].as_str().map(str::to_owned),
            attributes: grant.get("attributes").map(texts),
        };
        let of = |role: &Value| role["table"].as_array().into_iter().flatten().map(grant).collect();
        let grants = roles.as_object().context("no roles")?.iter();
        Ok(Self {
            grants: grants.map(|(function, role)| (function.clone(), of(role))).collect(),
            used: Mutex::default(),
        })
    }

    /// Checks that a function's role allows its calls.
    ///
    /// # Errors
    /// When a call is not allowed.
    pub fn check(&self, function: Function, asked: &[Asked]) -> Result<()> {
        let function = function.name();
        let grants = self.grants.get(function).with_context(|| format!("{function} has no role"))?;
        for asked in asked {
            let by = grants.iter().find(|grant| grant.allows(asked));
            let by = by.with_context(|| format!("its role does not allow {function} {asked:?}"))?;
            let keys = by.keys.iter().filter(|pattern| asked.keys.iter().any(|key| matches(pattern, key)));
            let used = keys.map(|keys| (function.to_owned(), asked.action.clone(), keys.clone()));
            self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(used);
        }
        Ok(())
    }

    /// Checks that the calls used every permission.
    ///
    /// # Errors
    /// When a permission was not used.
    pub fn check_all_used(&self) -> Result<()> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = self.grants.iter().flat_map(|(function, grants)| {
            grants.iter().flat_map(move |grant| {
                grant.actions.iter().flat_map(move |action| {
                    grant.keys.iter().map(move |keys| (function.clone(), action.clone(), keys.clone()))
                })
            })
        });
        let needed = |(function, action, keys): &Allowed| {
            NEEDED.iter().any(|needed| (needed.0, needed.1, needed.2) == (function, action, keys))
        };
        let idle: Vec<_> = allowed.filter(|allowed| !used.contains(allowed) && !needed(allowed)).collect();
        ensure!(idle.is_empty(), "no recorded event uses these permissions: {idle:#?}");
        Ok(())
    }
}

impl Grant {
    /// IAM requires one grant that covers all keys and attributes of a call.
    fn allows(&self, asked: &Asked) -> bool {
        let keys = !asked.keys.is_empty()
            && asked.keys.iter().all(|key| self.keys.iter().any(|pattern| matches(pattern, key)));
        let returns = asked.returns.as_deref().is_none_or(|returns| RETURN_VALUES.contains(&returns));
        let attributes =
            |known: &Vec<String>| returns && asked.attributes.iter().all(|name| known.contains(name));
        self.actions.contains(&asked.action)
            && self.index == asked.index
            && keys
            && self.attributes.as_ref().is_none_or(attributes)
    }
}

/// IAM's `StringLike`, limited to `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let (first, rest) = pattern.split_once('*').map_or((pattern, None), |(first, rest)| (first, Some(rest)));
    let Some(after) = text.strip_prefix(first) else {
        return false;
    };
    match rest {
        None => after.is_empty(),
        Some(rest) => (0..=after.len()).any(|at| after.get(at..).is_some_and(|tail| matches(rest, tail))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_patterns_match_like_iam_patterns() {
        for (pattern, text, expected) in [
            ("T#*", "T#a#U#b", true),
            ("T#*#U#*", "T#a#U#b", true),
            ("T#*#U#*", "T#a", false),
            ("T#*#U#*", "O#a#U#b", false),
            ("HEALTH", "HEALTH", true),
            ("HEALTH", "HEALTHY", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn grant_must_cover_all_keys_and_attributes_of_a_call() {
        let grant = |keys: &[&str], attributes: Option<&[&str]>| Grant {
            actions: vec!["UpdateItem".to_owned()],
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            index: None,
            attributes: attributes.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        };
        let input = json!({
            "Key": { "pk": { "S": "T#a" }, "sk": { "S": "X" } },
            "UpdateExpression": "SET last_used_at = :now",
            "ConditionExpression": "attribute_not_exists(last_used_at) OR last_used_at < :due",
        });
        let asked = &Asked::of("UpdateItem", &input)[0];
        let mut returning = input.clone();
        returning["ReturnValues"] = json!("ALL_NEW");
        let returning = &Asked::of("UpdateItem", &returning)[0];
        assert!(grant(&["T#*"], None).allows(returning));
        assert!(!grant(&["T#*"], Some(&["pk", "sk", "last_used_at"])).allows(returning));
        assert!(grant(&["T#*"], None).allows(asked));
        assert!(!grant(&["T#*#U#*"], None).allows(asked));
        assert!(!grant(&["T#*"], Some(&["pk", "sk"])).allows(asked));
        assert!(grant(&["T#*"], Some(&["pk", "sk", "last_used_at"])).allows(asked));
    }

    #[test]
    fn query_of_an_index_needs_a_grant_for_the_index() {
        let query = |index: Option<&str>, condition: &str| {
            let mut input = json!({
                "KeyConditionExpression": condition, "ExpressionAttributeValues": { ":of": { "S": "T#a" } },
            });
            if let Some(index) = index {
                input["IndexName"] = json!(index);
            }
            Asked::of("Query", &input).remove(0)
        };
        let grant = |index: Option<&str>| Grant {
            actions: vec!["Query".to_owned()],
            keys: vec!["T#*".to_owned()],
            index: index.map(str::to_owned),
            attributes: None,
        };
        let (of_table, of_index) = (query(None, "pk = :of"), query(Some("users"), "users_of = :of"));
        assert!(grant(None).allows(&of_table) && grant(Some("users")).allows(&of_index));
        assert!(!grant(None).allows(&of_index) && !grant(Some("users")).allows(&of_table));
        assert!(
            !grant(Some("users")).allows(&query(Some("users"), "pk = :of")),
            "the key of the index counts"
        );
    }
}
