//! Partition and sort keys. Every one carries its tenant, and ids are encoded so that no two keys
//! meet (security 20).

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::{SessionId, TenantId, UserId, Username};

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

/// What stays as it is in a key: whatever else a text has, `#` and `%` above all, is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@');

/// What the sort keys of sessions begin with.
pub(super) const SESSION_PREFIX: &str = "S#";

impl Key {
    pub(super) fn tenant(tenant: &TenantId) -> Self {
        Self { pk: format!("T#{}", encode(tenant.as_str())), sk: "TENANT".to_owned() }
    }

    pub(super) fn user(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: "USER".to_owned() }
    }

    pub(super) fn attempts(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: "ATTEMPTS".to_owned() }
    }

    pub(super) fn session(tenant: &TenantId, user: &UserId, session: &SessionId) -> Self {
        Self { pk: user_partition(tenant, user), sk: format!("{SESSION_PREFIX}{}", encode(session.as_str())) }
    }

    pub(super) fn username(tenant: &TenantId, username: &Username) -> Self {
        Self {
            pk: format!("T#{}#N#{}", encode(tenant.as_str()), encode(username.folded())),
            sk: "USERNAME".to_owned(),
        }
    }

    /// The key as the SDK takes it.
    pub(super) fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

fn user_partition(tenant: &TenantId, user: &UserId) -> String {
    format!("T#{}#U#{}", encode(tenant.as_str()), encode(user.as_str()))
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn all(tenant: &str, user: &str, session: &str, name: &str) -> Option<[Key; 5]> {
        let (tenant, user) = (TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?);
        let (session, name) = (SessionId::parse(session).ok()?, Username::parse(name).ok()?);
        Some([
            Key::tenant(&tenant),
            Key::user(&tenant, &user),
            Key::attempts(&tenant, &user),
            Key::session(&tenant, &user, &session),
            Key::username(&tenant, &name),
        ])
    }

    #[test]
    fn keys_read_as_documented() {
        let [tenant, user, attempts, session, name] = all("t_1", "a#b/c", "s/1", "Ü@x").unwrap();
        assert_eq!(tenant, Key { pk: "T#t_1".into(), sk: "TENANT".into() });
        assert_eq!(user, Key { pk: "T#t_1#U#a%23b%2Fc".into(), sk: "USER".into() });
        assert_eq!(attempts.sk, "ATTEMPTS");
        assert_eq!(session.sk, "S#s%2F1");
        assert_eq!(name.pk, "T#t_1#N#%C3%BC@x");
    }

    proptest! {
        // security 20
        #[test]
        fn no_two_things_share_a_key(
            tenants in prop::array::uniform2("[A-Za-z0-9_-]{1,3}"),
            users in prop::array::uniform2("[a%#/U.2 3\\PC]{1,6}"),
            sessions in prop::array::uniform2("[a%#/S.]{1,4}"),
            names in prop::array::uniform2("[a%#/N@ ]{1,4}"),
        ) {
            let one = all(&tenants[0], &users[0], &sessions[0], &names[0]);
            let two = all(&tenants[1], &users[1], &sessions[1], &names[1]);
            let (Some(one), Some(two)) = (one, two) else { return Ok(()) };
            let distinct: HashSet<_> = one.iter().map(|key| (&key.pk, &key.sk)).collect();
            prop_assert_eq!(distinct.len(), 5);
            let same = [
                tenants[0] == tenants[1],
                tenants[0] == tenants[1] && users[0] == users[1],
                tenants[0] == tenants[1] && users[0] == users[1],
                tenants[0] == tenants[1] && users[0] == users[1] && sessions[0] == sessions[1],
                tenants[0] == tenants[1]
                    && Username::parse(&names[0]).unwrap().is_same(&Username::parse(&names[1]).unwrap()),
            ];
            for ((one, two), same) in one.iter().zip(&two).zip(same) {
                prop_assert_eq!(one == two, same);
            }
        }

        #[test]
        fn keys_fit_dynamodb(tenant in "[A-Za-z0-9_-]{64}", user in "\\PC{200}", session in "[!-~]{100}", name in "\\PC{100}") {
            if let Some(keys) = all(&tenant, &user, &session, &name) {
                for key in keys {
                    prop_assert!(key.pk.len() <= 2_048 && key.sk.len() <= 1_024, "{key:?}");
                }
            }
        }
    }
}
