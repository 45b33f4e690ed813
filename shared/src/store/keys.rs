//! Partition and sort keys. Each key contains its tenant, and IDs are encoded so that keys of different items never
//! collide (docs/design/security.md#rule-20).

use std::{collections::HashMap, net::IpAddr};

use aws_sdk_dynamodb::types::AttributeValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    audit::{ChainId, Partition, hash},
    domain::{
        AttemptId, BudgetOf, ClientId, CodePurpose, HourBudget, OrganizationId, SessionId, TenantId, User,
        UserId, Username, WebOrigin, folded,
    },
};

/// Identity of a message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboxKey {
    /// Tenant.
    pub tenant: TenantId,
    /// Recipient.
    pub user: UserId,
    /// Message ID.
    pub id: AttemptId,
}

/// Identity of a stored result: a digest of `Idempotency-Key`, route and caller
/// (docs/design/contract.md#every-request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultKey {
    /// Tenant.
    pub tenant: TenantId,
    /// Digest.
    pub digest: String,
}

/// Primary key of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

/// Characters to percent-encode in keys, in particular the separator `#` and `%` itself.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@');

/// Maximum number of bytes of one encoded ID in a sort key with two IDs.
const MAX_SORT_KEY_PART: usize = 480;

/// Prefix of the sort keys of sessions.
pub(super) const SESSION_PREFIX: &str = "S#";
/// Sort key of tenant items.
pub(super) const TENANT_SORT_KEY: &str = "TENANT";
/// Sort key of user items.
pub(super) const USER_SORT_KEY: &str = "USER";
/// Sort key of attempts items.
pub(super) const ATTEMPTS_SORT_KEY: &str = "ATTEMPTS";
/// Prefix of the sort keys of codes.
pub(super) const CODE_PREFIX: &str = "CODE#";
/// Sort key of username items.
pub(super) const USERNAME_SORT_KEY: &str = "USERNAME";
/// Prefix of the sort keys of secret uses.
pub(super) const SECRET_PREFIX: &str = "SECRET#";
/// Prefix of the sort keys of messages. The filter of the stream contains it too (infra/delivery.json).
pub(super) const OUTBOX_PREFIX: &str = "OUT#";

/// Prefix of the sort keys of mail items.
pub(super) const MAIL_PREFIX: &str = "U#";

/// Name of the index that lists the users of a tenant (infra/table.json).
pub(super) const USERS_INDEX: &str = "users";
/// Partition key of the index. Only user items have it.
pub(super) const USERS_OF: &str = "users_of";
/// Sort key of the index.
pub(super) const USERS_POSITION: &str = "users_position";

/// Prefix of the sort keys of anchors.
pub(super) const ANCHOR_PREFIX: &str = "A#";

impl Key {
    pub(super) fn tenant(tenant: &TenantId) -> Self {
        Self { pk: format!("T#{}", encode(tenant.as_str())), sk: TENANT_SORT_KEY.to_owned() }
    }

    /// Message templates of a tenant.
    pub(super) fn templates(tenant: &TenantId) -> Self {
        Self { sk: "TEMPLATES".to_owned(), ..Self::tenant(tenant) }
    }

    /// Public keys of a tenant.
    pub(super) fn published_keys(tenant: &TenantId) -> Self {
        Self { pk: format!("T#{}#P#KEYS", encode(tenant.as_str())), sk: "KEYS".to_owned() }
    }

    pub(super) fn user(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: USER_SORT_KEY.to_owned() }
    }

    pub(super) fn attempts(tenant: &TenantId, user: &UserId) -> Self {
        Self { pk: user_partition(tenant, user), sk: ATTEMPTS_SORT_KEY.to_owned() }
    }

    pub(super) fn session(tenant: &TenantId, user: &UserId, session: &SessionId) -> Self {
        Self { pk: user_partition(tenant, user), sk: format!("{SESSION_PREFIX}{}", encode(session.as_str())) }
    }

    pub(super) fn username(tenant: &TenantId, username: &Username) -> Self {
        Self {
            pk: format!("T#{}#N#{}", encode(tenant.as_str()), encode(username.folded())),
            sk: USERNAME_SORT_KEY.to_owned(),
        }
    }

    /// Newest code of a user for a purpose.
    pub(super) fn code(tenant: &TenantId, user: &UserId, purpose: CodePurpose) -> Self {
        Self { pk: user_partition(tenant, user), sk: format!("{CODE_PREFIX}{}", purpose.name()) }
    }

    /// Item that finds a user by its mail address. Several users can have the same address.
    pub(super) fn mail(tenant: &TenantId, address: &str, user: &UserId) -> Self {
        let sk = format!("{MAIL_PREFIX}{}", short(user.as_str()));
        Self { pk: Self::mail_partition(tenant, address), sk }
    }

    /// Returns the partition of the users with a mail address.
    pub(super) fn mail_partition(tenant: &TenantId, address: &str) -> String {
        format!("T#{}#M#{}", encode(tenant.as_str()), encode(&folded(address)))
    }

    pub(super) fn outbox(key: &OutboxKey) -> Self {
        Self { pk: user_partition(&key.tenant, &key.user), sk: format!("{OUTBOX_PREFIX}{}", key.id) }
    }

    /// Hourly budget.
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

    /// Stored result of an idempotency key.
    pub(super) fn result(key: &ResultKey) -> Self {
        let ResultKey { tenant, digest } = key;
        Self { pk: format!("T#{}#K#{}", encode(tenant.as_str()), encode(digest)), sk: "KEY".to_owned() }
    }

    /// List of the IDs of the tenant's API clients.
    pub(super) fn clients(tenant: &TenantId) -> Self {
        Self { sk: "CLIENTS".to_owned(), ..Self::tenant(tenant) }
    }

    /// An API client. It has its own partition, because each of its requests reads it.
    pub(super) fn client(tenant: &TenantId, client: &ClientId) -> Self {
        Self {
            pk: format!("T#{}#C#{}", encode(tenant.as_str()), encode(client.as_str())),
            sk: "CLIENT".to_owned(),
        }
    }

    /// Use of a client assertion. It is in the partition of the client.
    pub(super) fn assertion(tenant: &TenantId, client: &ClientId, digest: &str) -> Self {
        Self { sk: format!("J#{}", encode(digest)), ..Self::client(tenant, client) }
    }

    /// Revoked token of a client.
    pub(super) fn revoked_token(tenant: &TenantId, token_id: &str) -> Self {
        Self { pk: format!("T#{}#R#{}", encode(tenant.as_str()), encode(token_id)), sk: "REVOKED".to_owned() }
    }

    /// Last use of one version of the tenant's secret.
    pub(super) fn secret_use(tenant: &TenantId, version: &str) -> Self {
        Self { sk: format!("{SECRET_PREFIX}{}", encode(version)), ..Self::tenant(tenant) }
    }

    /// Anchor of an audit chain.
    pub(super) fn anchor(partition: &Partition, chain: ChainId) -> Self {
        Self { pk: Self::anchors(partition), sk: format!("{ANCHOR_PREFIX}{chain}") }
    }

    /// Returns the partition of a tenant's anchors for one day. Events without a tenant have a partition with a
    /// prefix that no tenant's key has.
    pub(super) fn anchors(partition: &Partition) -> String {
        let Partition { tenant, day } = partition;
        match tenant {
            Some(tenant) => format!("T#{}#A#{day}", encode(tenant.as_str())),
            None => format!("A#{day}"),
        }
    }

    /// Tenants that allow an origin. The key contains no tenant, because a preflight request names none.
    pub(super) fn origin(origin: &WebOrigin) -> Self {
        Self { pk: format!("O#{}", encode(origin.as_str())), sk: "ORIGIN".to_owned() }
    }

    /// Key of the health check. No item has this key.
    pub(super) fn health() -> Self {
        Self { pk: "HEALTH".to_owned(), sk: "HEALTH".to_owned() }
    }

    /// Returns the key as SDK attributes.
    pub(super) fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

/// Key of a user in the index of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexKey {
    /// Partition key.
    pub(super) of: String,
    /// Sort key.
    pub(super) position: String,
}

impl IndexKey {
    pub(super) fn of(user: &User) -> Self {
        Self { of: Self::partition(&user.tenant), position: Self::position(&user.organization, &user.id) }
    }

    pub(super) fn position(organization: &OrganizationId, user: &UserId) -> String {
        format!("{}{}", Self::prefix(organization), short(user.as_str()))
    }

    /// Returns the key as attributes of the user item.
    pub(super) fn attributes(&self) -> [(String, AttributeValue); 2] {
        let string = |text: &String| AttributeValue::S(text.clone());
        [(USERS_OF.to_owned(), string(&self.of)), (USERS_POSITION.to_owned(), string(&self.position))]
    }

    /// Returns the partition of a tenant's users.
    pub(super) fn partition(tenant: &TenantId) -> String {
        format!("T#{}", encode(tenant.as_str()))
    }

    /// Returns the prefix of the positions of an organization's users. Positions of other users do not have it.
    pub(super) fn prefix(organization: &OrganizationId) -> String {
        format!("O#{}#U#", short(organization.as_str()))
    }
}

/// Encodes an address.
fn address(ip: Option<IpAddr>) -> String {
    let ip = ip.map_or_else(|| "unknown".to_owned(), |ip| network(ip).to_string());
    encode(&ip).to_string()
}

/// Returns the network of one customer of a provider: the address for IPv4, its /64 network for IPv6 (RFC 6177).
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

/// Returns the message that a key from the table's stream belongs to, or `None` for another item.
pub fn outbox_key(pk: &str, sk: &str) -> Option<OutboxKey> {
    let (tenant, user) = pk.strip_prefix("T#")?.split_once("#U#")?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).ok();
    let key = OutboxKey {
        tenant: TenantId::parse(&decoded(tenant)?).ok()?,
        user: UserId::parse(&decoded(user)?).ok()?,
        id: AttemptId::parse(sk.strip_prefix(OUTBOX_PREFIX)?).ok()?,
    };
    // Only the canonical encoding is accepted.
    (Key::outbox(&key) == Key { pk: pk.to_owned(), sk: sk.to_owned() }).then_some(key)
}

fn user_partition(tenant: &TenantId, user: &UserId) -> String {
    format!("T#{}#U#{}", encode(tenant.as_str()), encode(user.as_str()))
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ENCODED)
}

/// Encodes an ID as one of up to two parts of a sort key, which has at most 1,024 bytes. A long encoding is replaced by
/// its hash. The prefix `~` does not occur in encodings.
fn short(id: &str) -> String {
    let encoded = encode(id).to_string();
    if encoded.len() <= MAX_SORT_KEY_PART { encoded } else { format!("~{}", hash(&encoded)) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KINDS: usize = 24;

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
            Key::code(&tenant, &user, CodePurpose::Password),
            Key::outbox(&message),
            Key::budget(&budget(&tenant, BudgetOf::WrongCodes(Some([192, 0, 2, 1].into())))),
            Key::templates(&tenant),
            Key::budget(&budget(&tenant, BudgetOf::WrongPasswords(Some([192, 0, 2, 1].into())))),
            Key::budget(&budget(&tenant, BudgetOf::TenantPart(3))),
            Key::result(&ResultKey { tenant: tenant.clone(), digest: "digest".to_owned() }),
            Key::secret_use(&tenant, "version"),
            anchor(&tenant),
            Key::origin(&WebOrigin::parse("https://app.example.com").ok()?),
            Key::health(),
            Key::published_keys(&tenant),
            Key::clients(&tenant),
            Key::client(&tenant, &client_id()),
            Key::assertion(&tenant, &client_id(), "digest"),
            Key::revoked_token(&tenant, "token"),
            Key::code(&tenant, &user, CodePurpose::Email),
            Key::code(&tenant, &user, CodePurpose::Phone),
            Key::mail(&tenant, name.as_written(), &user),
        ])
    }

    fn anchor(tenant: &TenantId) -> Key {
        let chain = ChainId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let day = jiff::civil::date(2026, 1, 31);
        Key::anchor(&Partition { tenant: Some(tenant.clone()), day }, chain)
    }

    /// A budget of the seventh hour.
    fn budget(tenant: &TenantId, of: BudgetOf) -> HourBudget {
        let now = jiff::Timestamp::from_second(7 * 3_600 + 1_000).unwrap();
        HourBudget { tenant: tenant.clone(), of, max: 1, now }
    }

    fn client_id() -> ClientId {
        ClientId::parse("dwc_1").unwrap()
    }

    fn message_id() -> AttemptId {
        AttemptId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()
    }

    #[test]
    fn long_ids_have_different_sort_keys() {
        let [one, two] = ["a", "b"].map(|last| UserId::parse(&("\u{20ac}".repeat(100) + last)).unwrap());
        let owner = OrganizationId::parse(one.as_str()).unwrap();
        let positions = [&one, &two].map(|user| IndexKey::position(&owner, user));
        assert_ne!(positions[0], positions[1]);
        assert!(positions.iter().all(|position| position.starts_with(&IndexKey::prefix(&owner))));
    }

    #[test]
    fn keys_match_the_documentation() {
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
            result,
            secret,
            anchor,
            origin,
            health,
            keys,
            clients,
            client,
            assertion,
            revoked,
            email_code,
            phone_code,
            mail,
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
        assert_eq!(result, Key { pk: "T#t_1#K#digest".into(), sk: "KEY".into() });
        assert_eq!(secret, Key { pk: "T#t_1".into(), sk: "SECRET#version".into() });
        let tenant = TenantId::parse("t").unwrap();
        let of_address = |ip: &str| Key::budget(&budget(&tenant, BudgetOf::WrongPasswords(ip.parse().ok())));
        assert_eq!(
            of_address("::ffff:192.0.2.1").pk,
            "T#t#IP#192.0.2.1",
            "both forms of an address share a budget (docs/design/security.md#rule-22)"
        );
        let [home, neighbour] = ["2001:db8::1", "2001:db8::ffff:1"].map(of_address);
        assert_eq!(home, neighbour, "a /64 network shares a budget");
        assert_eq!(
            anchor,
            Key { pk: "T#t_1#A#2026-01-31".into(), sk: "A#01ARZ3NDEKTSV4RRFFQ69G5FAV".into() }
        );
        assert_eq!(origin, Key { pk: "O#https%3A%2F%2Fapp.example.com".into(), sk: "ORIGIN".into() });
        assert_eq!(keys, Key { pk: "T#t_1#P#KEYS".into(), sk: "KEYS".into() });
        assert_eq!(health, Key { pk: "HEALTH".into(), sk: "HEALTH".into() });
        assert_eq!(clients, Key { pk: "T#t_1".into(), sk: "CLIENTS".into() });
        assert_eq!(client, Key { pk: "T#t_1#C#dwc_1".into(), sk: "CLIENT".into() });
        assert_eq!(assertion, Key { pk: "T#t_1#C#dwc_1".into(), sk: "J#digest".into() });
        assert_eq!(revoked, Key { pk: "T#t_1#R#token".into(), sk: "REVOKED".into() });
        assert_eq!((email_code.sk.as_str(), phone_code.sk.as_str()), ("CODE#email", "CODE#phone"));
        assert_eq!(mail, Key { pk: "T#t_1#M#%C3%BC@x".into(), sk: "U#a%23b%2Fc".into() });
    }

    // docs/design/security.md#rule-22
    #[test]
    fn addresses_of_one_network_share_a_budget() {
        let key = |ip: &str| {
            Key::budget(&budget(&TenantId::parse("t").unwrap(), BudgetOf::WrongCodes(ip.parse().ok())))
        };
        for (one, two, is_same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("2001:db8:0:1::1", "2001:db9:0:1::1", false),
            ("2001:db8:0:1::1", "", false),
        ] {
            assert_eq!(key(one) == key(two), is_same, "{one} {two}");
        }
    }

    proptest! {
        // docs/design/security.md#rule-20
        #[test]
        fn keys_of_different_items_never_collide(
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
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                tenants[0] == tenants[1],
                user,
                user,
                user && Username::parse(&names[0]).unwrap().is_same(&Username::parse(&names[1]).unwrap()),
            ];
            for ((one, two), same) in one.iter().zip(&two).zip(same) {
                prop_assert_eq!(one == two, same);
            }
        }

        // docs/design/security.md#rule-20
        #[test]
        fn index_keys_of_different_users_never_collide(
            tenants in prop::array::uniform2("[A-Za-z0-9_-]{1,3}"),
            organizations in prop::array::uniform2("[a%#/U.2 3\\PC]{1,6}"),
            users in prop::array::uniform2("[a%#/U.2 3\\PC]{1,6}"),
        ) {
            let user = |index: usize| -> Option<User> {
                Some(User {
                    tenant: TenantId::parse(&tenants[index]).ok()?,
                    organization: OrganizationId::parse(&organizations[index]).ok()?,
                    id: UserId::parse(&users[index]).ok()?,
                    ..crate::token::tests::user()
                })
            };
            let (Some(one), Some(two)) = (user(0), user(1)) else { return Ok(()) };
            let keys = [&one, &two].map(IndexKey::of);
            let is_same_organization = organizations[0] == organizations[1];
            let is_same = tenants[0] == tenants[1] && is_same_organization && users[0] == users[1];
            prop_assert_eq!(keys[0] == keys[1], is_same);
            let prefix = IndexKey::prefix(&one.organization);
            prop_assert_eq!(keys[1].position.starts_with(&prefix), is_same_organization);
        }

        #[test]
        fn key_of_a_message_is_parsed(tenant in "[A-Za-z0-9_-]{1,64}", user in "[a%#/U.2 3\\PC]{1,20}") {
            let Ok(user) = UserId::parse(&user) else { return Ok(()) };
            let message = OutboxKey { tenant: TenantId::parse(&tenant).unwrap(), user, id: message_id() };
            let key = Key::outbox(&message);
            prop_assert_eq!(outbox_key(&key.pk, &key.sk), Some(message));
        }

        #[test]
        fn other_keys_are_not_messages(pk in "T#[a%#U]{0,8}|\\PC{0,20}", sk in "OUT#[0-9A-Z]{0,26}|\\PC{0,20}") {
            if let Some(message) = outbox_key(&pk, &sk) {
                prop_assert_eq!(Key::outbox(&message), Key { pk, sk });
            }
        }

        #[test]
        fn keys_do_not_exceed_dynamodb_limits(tenant in "[A-Za-z0-9_-]{64}", user in "\\PC{200}", session in "[!-~]{100}", name in "\\PC{100}") {
            if let Some(keys) = all(&tenant, &user, &session, &name) {
                for key in keys {
                    prop_assert!(key.pk.len() <= 2_048 && key.sk.len() <= 1_024, "{key:?}");
                }
                let (owner, user) = (OrganizationId::parse(&user).unwrap(), UserId::parse(&user).unwrap());
                prop_assert!(IndexKey::position(&owner, &user).len() <= 1_024);
            }
        }
    }
}
