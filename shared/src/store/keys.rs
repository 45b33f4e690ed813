//! Partition and sort keys. Every one carries its tenant, and ids are encoded so that no two keys
//! meet (docs/design/security.md#rule-20).

use std::{collections::HashMap, net::IpAddr};

use aws_sdk_dynamodb::types::AttributeValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    audit::{ChainId, Partition},
    domain::{AttemptId, SessionId, TenantId, UserId, Username, WebOrigin},
    port::{BudgetOf, HourBudget, OnceKey, OutboxKey},
};

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
/// The sort key of tenants' records.
pub(super) const TENANT_SORT_KEY: &str = "TENANT";
/// The sort key of users.
pub(super) const USER_SORT_KEY: &str = "USER";
/// What the sort keys of a secret's uses begin with.
pub(super) const SECRET_PREFIX: &str = "SECRET#";
/// What the sort keys of messages begin with: the stream's filter names it (infra/delivery.json).
pub(super) const OUTBOX_PREFIX: &str = "OUT#";

/// What the sort keys of anchors begin with.
pub(super) const ANCHOR_PREFIX: &str = "A#";

impl Key {
    pub(super) fn tenant(tenant: &TenantId) -> Self {
        Self { pk: format!("T#{}", encode(tenant.as_str())), sk: TENANT_SORT_KEY.to_owned() }
    }

    /// The tenant's own words for its messages.
    pub(super) fn templates(tenant: &TenantId) -> Self {
        Self { sk: "TEMPLATES".to_owned(), ..Self::tenant(tenant) }
    }

    pub(super) fn user(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: USER_SORT_KEY.to_owned() }
    }

    pub(super) fn attempts(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: "ATTEMPTS".to_owned() }
    }

    pub(super) fn session(tenant: &TenantId, user: &UserId, session: &SessionId) -> Self {
        Self { pk: user_partition(tenant, user), sk: format!("{SESSION_PREFIX}{}", encode(session.as_str())) }
    }

    /// The session that a sort key is of; `None` where it is of anything else.
    pub(super) fn session_id(sk: &str) -> Option<SessionId> {
        let id = percent_decode_str(sk.strip_prefix(SESSION_PREFIX)?).decode_utf8().ok()?;
        SessionId::parse(&id).ok()
    }

    pub(super) fn username(tenant: &TenantId, username: &Username) -> Self {
        Self {
            pk: format!("T#{}#N#{}", encode(tenant.as_str()), encode(username.folded())),
            sk: "USERNAME".to_owned(),
        }
    }

    /// A user's newest code for a new password.
    pub(super) fn code(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: "CODE#password".to_owned() }
    }

    pub(super) fn outbox(key: &OutboxKey) -> Self {
        Self { pk: user_partition(&key.tenant, &key.user), sk: format!("{OUTBOX_PREFIX}{}", key.id) }
    }

    /// What may still go wrong within an hour.
    pub(super) fn budget(budget: &HourBudget) -> Self {
        let (whose, what) = match budget.of {
            BudgetOf::WrongCodes(ip) => (format!("IP#{}", address(ip)), "CODES"),
            BudgetOf::WrongPasswords(ip) => (format!("IP#{}", address(ip)), "FAILED"),
            BudgetOf::TenantPart(part) => (format!("F#{part}"), "FAILED"),
        };
        Self {
            pk: format!("T#{}#{whose}", encode(budget.tenant.as_str())),
            sk: format!("{what}#{}", budget.hour()),
        }
    }

    /// What a request with an `Idempotency-Key` succeeded in.
    pub(super) fn once(key: &OnceKey) -> Self {
        let OnceKey { tenant, digest } = key;
        Self { pk: format!("T#{}#K#{}", encode(tenant.as_str()), encode(digest)), sk: "KEY".to_owned() }
    }

    /// The use of one version of the tenant's secret.
    pub(super) fn secret_use(tenant: &TenantId, version: &str) -> Self {
        Self { sk: format!("{SECRET_PREFIX}{}", encode(version)), ..Self::tenant(tenant) }
    }

    /// The anchor of an audit chain.
    pub(super) fn anchor(partition: &Partition, chain: ChainId) -> Self {
        Self { pk: Self::anchors(partition), sk: format!("{ANCHOR_PREFIX}{chain}") }
    }

    /// The partition of a tenant's anchors of one day. What belongs to no tenant's log has one that no
    /// tenant's key begins like.
    pub(super) fn anchors(partition: &Partition) -> String {
        let Partition { tenant, day } = partition;
        match tenant {
            Some(tenant) => format!("T#{}#A#{day}", encode(tenant.as_str())),
            None => format!("A#{day}"),
        }
    }

    /// Which tenants name an origin: the one key without a tenant, since a browser that asks whether it
    /// may call names none.
    pub(super) fn origin(origin: &WebOrigin) -> Self {
        Self { pk: format!("O#{}", encode(origin.as_str())), sk: "ORIGIN".to_owned() }
    }

    /// What a look at the table's health asks for: no item has this key.
    pub(super) fn health() -> Self {
        Self { pk: "HEALTH".to_owned(), sk: "HEALTH".to_owned() }
    }

    /// The key as the SDK takes it.
    pub(super) fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

/// An address in a key.
fn address(ip: Option<IpAddr>) -> String {
    let ip = ip.map_or_else(|| "unknown".to_owned(), |ip| network(ip).to_string());
    encode(&ip).to_string()
}

/// Whom an address stands for: one customer of a provider has a whole /64 of IPv6 (RFC 6177).
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

/// The message that a key of the table is for, as its stream names it; `None` for any other item.
pub fn outbox_key(pk: &str, sk: &str) -> Option<OutboxKey> {
    let (tenant, user) = pk.strip_prefix("T#")?.split_once("#U#")?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).ok();
    let key = OutboxKey {
        tenant: TenantId::parse(&decoded(tenant)?).ok()?,
        user: UserId::parse(&decoded(user)?).ok()?,
        id: AttemptId::parse(sk.strip_prefix(OUTBOX_PREFIX)?).ok()?,
    };
    // One key, one spelling.
    (Key::outbox(&key) == Key { pk: pk.to_owned(), sk: sk.to_owned() }).then_some(key)
}

fn user_partition(tenant: &TenantId, user: &UserId) -> String {
    format!("{}{}", user_partitions(tenant), encode(user.as_str()))
}

/// What the partition keys of a tenant's users begin with, and no other key.
pub(super) fn user_partitions(tenant: &TenantId) -> String {
    format!("T#{}#U#", encode(tenant.as_str()))
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KINDS: usize = 16;

    fn all(tenant: &str, user: &str, session: &str, name: &str) -> Option<[Key; KINDS]> {
        let (tenant, user) = (TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?);
        let (session, name) = (SessionId::parse(session).ok()?, Username::parse(name).ok()?);
        let message = OutboxKey { tenant: tenant.clone(), user: user.clone(), id: message_id() };
        Some([
            Key::tenant(&tenant),
            Key::user(&tenant, &user),
            Key::attempts(&tenant, &user),
            Key::session(&tenant, &user, &session),
            Key::username(&tenant, &name),
            Key::code(&tenant, &user),
            Key::outbox(&message),
            Key::budget(&budget(&tenant, BudgetOf::WrongCodes(Some([192, 0, 2, 1].into())))),
            Key::templates(&tenant),
            Key::budget(&budget(&tenant, BudgetOf::WrongPasswords(Some([192, 0, 2, 1].into())))),
            Key::budget(&budget(&tenant, BudgetOf::TenantPart(3))),
            Key::once(&OnceKey { tenant: tenant.clone(), digest: "digest".to_owned() }),
            Key::secret_use(&tenant, "version"),
            anchor(&tenant),
            Key::origin(&WebOrigin::parse("https://app.example.com").ok()?),
            Key::health(),
        ])
    }

    fn anchor(tenant: &TenantId) -> Key {
        let chain = ChainId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let day = jiff::civil::date(2026, 1, 31);
        Key::anchor(&Partition { tenant: Some(tenant.clone()), day }, chain)
    }

    /// Of the seventh hour.
    fn budget(tenant: &TenantId, of: BudgetOf) -> HourBudget {
        let now = jiff::Timestamp::from_second(7 * 3_600 + 1_000).unwrap();
        HourBudget { tenant: tenant.clone(), of, max: 1, now }
    }

    fn message_id() -> AttemptId {
        AttemptId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()
    }

    #[test]
    fn keys_read_as_documented() {
        let [
            tenant,
            user,
            attempts,
            session,
            name,
            code,
            message,
            codes,
            templates,
            passwords,
            part,
            once,
            secret,
            anchor,
            origin,
            health,
        ] = all("t_1", "a#b/c", "s/1", "Ü@x").unwrap();
        assert_eq!(tenant, Key { pk: "T#t_1".into(), sk: "TENANT".into() });
        assert_eq!(user, Key { pk: "T#t_1#U#a%23b%2Fc".into(), sk: "USER".into() });
        assert_eq!(attempts.sk, "ATTEMPTS");
        assert_eq!(session.sk, "S#s%2F1");
        assert_eq!(name.pk, "T#t_1#N#%C3%BC@x");
        assert_eq!(code.sk, "CODE#password");
        assert_eq!(message.sk, "OUT#01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(codes, Key { pk: "T#t_1#IP#192.0.2.1".into(), sk: "CODES#7".into() });
        assert_eq!(passwords, Key { pk: "T#t_1#IP#192.0.2.1".into(), sk: "FAILED#7".into() });
        assert_eq!(part, Key { pk: "T#t_1#F#3".into(), sk: "FAILED#7".into() });
        assert_eq!(templates, Key { pk: "T#t_1".into(), sk: "TEMPLATES".into() });
        assert_eq!(once, Key { pk: "T#t_1#K#digest".into(), sk: "KEY".into() });
        assert_eq!(secret, Key { pk: "T#t_1".into(), sk: "SECRET#version".into() });
        let tenant = TenantId::parse("t").unwrap();
        let of_address = |ip: &str| Key::budget(&budget(&tenant, BudgetOf::WrongPasswords(ip.parse().ok())));
        assert_eq!(
            of_address("::ffff:192.0.2.1").pk,
            "T#t#IP#192.0.2.1",
            "one address, one budget (docs/design/security.md#rule-22)"
        );
        let [home, neighbour] = ["2001:db8::1", "2001:db8::ffff:1"].map(of_address);
        assert_eq!(home, neighbour, "and one network");
        assert_eq!(
            anchor,
            Key { pk: "T#t_1#A#2026-01-31".into(), sk: "A#01ARZ3NDEKTSV4RRFFQ69G5FAV".into() }
        );
        assert_eq!(origin, Key { pk: "O#https%3A%2F%2Fapp.example.com".into(), sk: "ORIGIN".into() });
        assert_eq!(health, Key { pk: "HEALTH".into(), sk: "HEALTH".into() });
    }

    proptest! {
        // docs/design/security.md#rule-20
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
            prop_assert_eq!(distinct.len(), KINDS);
            let user = tenants[0] == tenants[1] && users[0] == users[1];
            let same = [
                tenants[0] == tenants[1],
                user,
                user,
                tenants[0] == tenants[1] && users[0] == users[1] && sessions[0] == sessions[1],
                tenants[0] == tenants[1]
                    && Username::parse(&names[0]).unwrap().is_same(&Username::parse(&names[1]).unwrap()),
                user,
                user,
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                true,
                true,
            ];
            for ((one, two), same) in one.iter().zip(&two).zip(same) {
                prop_assert_eq!(one == two, same);
            }
        }

        #[test]
        fn a_session_is_found_again_by_its_sort_key(session in "[!-~]{1,100}") {
            let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
            let session = SessionId::parse(&session).unwrap();
            let key = Key::session(&tenant, &user, &session);
            prop_assert_eq!(Key::session_id(&key.sk), Some(session));
            prop_assert_eq!(Key::session_id(&Key::user(&tenant, &user).sk), None);
        }

        #[test]
        fn a_message_is_found_again_by_its_key(tenant in "[A-Za-z0-9_-]{1,64}", user in "[a%#/U.2 3\\PC]{1,20}") {
            let Ok(user) = UserId::parse(&user) else { return Ok(()) };
            let message = OutboxKey { tenant: TenantId::parse(&tenant).unwrap(), user, id: message_id() };
            let key = Key::outbox(&message);
            prop_assert_eq!(outbox_key(&key.pk, &key.sk), Some(message));
        }

        #[test]
        fn no_other_key_is_a_message(pk in "T#[a%#U]{0,8}|\\PC{0,20}", sk in "OUT#[0-9A-Z]{0,26}|\\PC{0,20}") {
            if let Some(message) = outbox_key(&pk, &sk) {
                prop_assert_eq!(Key::outbox(&message), Key { pk, sk });
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
