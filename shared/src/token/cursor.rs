//! Where a page of a user's sessions ended: opaque to clients, and of no use for any other list.
//!
//! base64url of: layout (1 byte), root key version (4), HMAC-SHA256 (32), session id. The MAC covers
//! tenant, user, the path's collection and owner, and all of the rest. There is one spelling of it: a
//! text that is padded or has spare bits set is none.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{TenantKeys, framed};
use crate::domain::{Collection, Failure, SessionId, TenantId, UserId};

const LAYOUT: u8 = 1;
const MAC_BYTES: usize = 32;
/// A cursor at the longest session id.
const MAX_CHARS: usize = (1 + 4 + MAC_BYTES + 100) * 4 / 3 + 1;

/// The list that a cursor is of.
#[derive(Debug, Clone, Copy)]
pub struct PageCursor<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// Whose sessions.
    pub user: &'a UserId,
    /// The path's collection.
    pub collection: Collection,
    /// The organization or customer in the path.
    pub owner: &'a str,
}

impl PageCursor<'_> {
    /// A cursor behind that session.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key is gone.
    pub fn make(&self, after: &SessionId, keys: &TenantKeys) -> Result<String, Failure> {
        let version = keys.root_version();
        let key = keys
            .cursor_key(version)
            .ok_or_else(|| Failure::Unavailable("the tenant's root key is gone".into()))?;
        let tag = hmac::sign(key, &self.message(version, after));
        let version = version.to_be_bytes();
        let bytes = [&[LAYOUT], version.as_slice(), tag.as_ref(), after.as_str().as_bytes()].concat();
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Version of the root key that a text says it was made with; `None` for what is no cursor.
    pub fn version(text: &str) -> Option<u32> {
        parts(text).map(|(version, ..)| version)
    }

    /// The session behind which the list goes on; `None` for a text that this tenant did not make for
    /// this list.
    pub fn read(&self, text: &str, keys: &TenantKeys) -> Option<SessionId> {
        let (version, mac, after) = parts(text)?;
        hmac::verify(keys.cursor_key(version)?, &self.message(version, &after), &mac).ok()?;
        Some(after)
    }

    fn message(&self, version: u32, after: &SessionId) -> Vec<u8> {
        let Self { tenant, user, collection, owner } = self;
        let texts = [tenant.as_str(), user.as_str(), collection.user_type(), owner, after.as_str()];
        let mut message = framed(&texts);
        message.push(LAYOUT);
        message.extend_from_slice(&version.to_be_bytes());
        message
    }
}

fn parts(text: &str) -> Option<(u32, [u8; MAC_BYTES], SessionId)> {
    if text.len() > MAX_CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.strip_prefix(&[LAYOUT])?.split_first_chunk::<4>()?;
    let (mac, after) = rest.split_first_chunk::<MAC_BYTES>()?;
    let after = SessionId::parse(std::str::from_utf8(after).ok()?).ok()?;
    Some((u32::from_be_bytes(*version), *mac, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::tests::{document, keys, keys_of};

    fn ids() -> (TenantId, UserId) {
        (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap())
    }

    fn list((tenant, user): &(TenantId, UserId)) -> PageCursor<'_> {
        PageCursor { tenant, user, collection: Collection::Individual, owner: "c" }
    }

    // docs/design/security.md#rule-20
    #[test]
    fn a_cursor_belongs_to_one_list() {
        let keys = keys("t");
        let (own, other) = (ids(), (TenantId::parse("other").unwrap(), UserId::parse("v").unwrap()));
        let list = list(&own);
        let after = SessionId::from_random([7; 16]);
        let cursor = list.make(&after, &keys).unwrap();
        assert_eq!(list.read(&cursor, &keys), Some(after));
        assert_eq!(list.read(&cursor, &keys_of(&own.0, 9)), None, "another key");
        for foreign in [
            PageCursor { tenant: &other.0, ..list },
            PageCursor { user: &other.1, ..list },
            PageCursor { collection: Collection::Organization, ..list },
            PageCursor { owner: "d", ..list },
        ] {
            assert_eq!(foreign.read(&cursor, &keys), None, "{foreign:?}");
        }
    }

    // docs/design/security.md#rule-17: it lives as long as its root key is listed.
    #[test]
    fn a_cursor_outlives_a_rotation_of_the_root_key() {
        let own = ids();
        let keys = |roots: &[u32]| TenantKeys::from_documents(&own.0, &[document(1, roots)]).unwrap();
        let after = SessionId::from_random([7; 16]);
        let cursor = list(&own).make(&after, &keys(&[1])).unwrap();
        assert_eq!(PageCursor::version(&cursor), Some(1));
        assert_eq!(list(&own).read(&cursor, &keys(&[1, 2])), Some(after.clone()));
        assert_eq!(list(&own).read(&cursor, &keys(&[2])), None);
        let newer = list(&own).make(&after, &keys(&[1, 2])).unwrap();
        assert_eq!((PageCursor::version(&newer), list(&own).read(&newer, &keys(&[1]))), (Some(2), None));
    }

    proptest! {
        #[test]
        fn every_place_is_found_again(session in "[!-~]{1,100}", owner in "\\PC{1,40}", user in "\\PC{1,40}") {
            let (tenant, _) = ids();
            let Ok(user) = UserId::parse(&user) else { return Ok(()) };
            let list = PageCursor { tenant: &tenant, user: &user, collection: Collection::Admin, owner: &owner };
            let after = SessionId::parse(&session).unwrap();
            let cursor = list.make(&after, &keys("t")).unwrap();
            prop_assert_eq!(list.read(&cursor, &keys("t")), Some(after));
        }

        #[test]
        fn no_character_can_change(at in 0_usize..98, replacement in "[A-Za-z0-9_=-]") {
            let own = ids();
            let cursor = list(&own).make(&SessionId::from_random([7; 16]), &keys("t")).unwrap();
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != cursor);
            prop_assert_eq!(list(&own).read(&changed, &keys("t")), None);
            prop_assert_eq!(list(&own).read(&format!("{cursor}="), &keys("t")), None);
        }

        #[test]
        fn no_text_is_our_fault(text in "AQAAAA[A-Za-z0-9_-]{0,150}|\\PC{0,200}") {
            let own = ids();
            prop_assert_eq!(list(&own).read(&text, &keys("t")), None);
        }
    }
}
