//! Cursors of a user's session list. They are opaque to clients and valid only for the list that returned them.
//!
//! A cursor is the base64url encoding of: layout (1 byte), root key version (4 bytes), HMAC-SHA256 (32 bytes),
//! creation time of the session (8 bytes, epoch milliseconds), session ID. The MAC covers tenant, user, the collection and owner in the path, and all other fields of the
//! cursor. Only the canonical encoding is accepted, without padding and with unused bits set to 0.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    framed,
    keys::{MAC_BYTES, MacPurpose, TenantKeys},
};
use crate::domain::{Collection, Failure, SessionId, SessionPosition, TenantId, UserId};

const LAYOUT: u8 = 2;
/// List that a cursor belongs to.
#[derive(Debug, Clone, Copy)]
pub struct PageCursor<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User whose sessions are listed.
    pub user: &'a UserId,
    /// Collection in the path.
    pub collection: Collection,
    /// Organization or customer in the path.
    pub owner: &'a str,
}

impl PageCursor<'_> {
    /// Length of a cursor with the longest session ID (100 bytes).
    pub const MAX_CHARS: usize = ((1 + 4 + MAC_BYTES + 8 + 100) * 4).div_ceil(3);

    /// Creates the cursor of the page after the position `after`.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn make(&self, after: &SessionPosition, keys: &TenantKeys) -> Result<String, Failure> {
        let version = keys.root_version();
        let mac = keys.mac(MacPurpose::Cursor, version, &self.message(version, after))?;
        let version = version.to_be_bytes();
        let created_at = after.created_at().to_be_bytes();
        let id = after.id().as_str().as_bytes();
        let bytes = [&[LAYOUT], version.as_slice(), mac.as_ref(), &created_at, id].concat();
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns the position after which the next page starts, or `None` for a text that is not a cursor of this
    /// list.
    pub fn read(&self, text: &str, keys: &TenantKeys) -> Option<SessionPosition> {
        let (version, mac, after) = parts(text)?;
        keys.is_mac(MacPurpose::Cursor, version, &self.message(version, &after), &mac).then_some(after)
    }

    fn message(&self, version: u32, after: &SessionPosition) -> Vec<u8> {
        let Self { tenant, user, collection, owner } = self;
        let texts = [tenant.as_str(), user.as_str(), collection.user_type(), owner, after.id().as_str()];
        let (version, created_at) = (version.to_be_bytes(), after.created_at().to_be_bytes());
        [framed(&texts).as_slice(), &[LAYOUT], &version, &created_at].concat()
    }
}

fn parts(text: &str) -> Option<(u32, [u8; MAC_BYTES], SessionPosition)> {
    if text.len() > PageCursor::MAX_CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.strip_prefix(&[LAYOUT])?.split_first_chunk::<4>()?;
    let (mac, after) = rest.split_first_chunk::<MAC_BYTES>()?;
    let (created_at, id) = after.split_first_chunk::<8>()?;
    let id = SessionId::parse(std::str::from_utf8(id).ok()?).ok()?;
    let after = SessionPosition::new(i64::from_be_bytes(*created_at), id);
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
    fn cursor_is_valid_for_one_list() {
        let keys = keys("t");
        let (own, other) = (ids(), (TenantId::parse("other").unwrap(), UserId::parse("v").unwrap()));
        let list = list(&own);
        let after = SessionPosition::new(7, SessionId::from_random([7; 16]));
        let cursor = list.make(&after, &keys).unwrap();
        assert_eq!(list.read(&cursor, &keys), Some(after));
        assert_eq!(list.read(&cursor, &keys_of(&own.0, 9)), None, "cursor of another key");
        for foreign in [
            PageCursor { tenant: &other.0, ..list },
            PageCursor { user: &other.1, ..list },
            PageCursor { collection: Collection::Organization, ..list },
            PageCursor { owner: "d", ..list },
        ] {
            assert_eq!(foreign.read(&cursor, &keys), None, "{foreign:?}");
        }
    }

    // docs/design/security.md#rule-17: a cursor is valid as long as its root key is listed.
    #[test]
    fn cursor_is_valid_after_root_key_rotation() {
        let own = ids();
        let keys = |roots: &[u32]| TenantKeys::from_documents(&own.0, &[document(1, roots)]).unwrap();
        let after = SessionPosition::new(7, SessionId::from_random([7; 16]));
        let cursor = list(&own).make(&after, &keys(&[1])).unwrap();
        assert_eq!(list(&own).read(&cursor, &keys(&[1, 2])), Some(after.clone()));
        assert_eq!(list(&own).read(&cursor, &keys(&[2])), None);
        let newer = list(&own).make(&after, &keys(&[1, 2])).unwrap();
        assert_eq!(list(&own).read(&newer, &keys(&[1])), None);
    }

    proptest! {
        #[test]
        fn every_cursor_is_read_back(created_at in any::<i64>(), session in "[!-~]{1,100}", owner in "\\PC{1,40}", user in "\\PC{1,40}") {
            let (tenant, _) = ids();
            let Ok(user) = UserId::parse(&user) else { return Ok(()) };
            let list = PageCursor { tenant: &tenant, user: &user, collection: Collection::Admin, owner: &owner };
            let after = SessionPosition::new(created_at, SessionId::parse(&session).unwrap());
            let cursor = list.make(&after, &keys("t")).unwrap();
            prop_assert_eq!(list.read(&cursor, &keys("t")), Some(after));
        }

        #[test]
        fn cursor_with_changed_character_is_rejected(at in 0_usize..108, replacement in "[A-Za-z0-9_=-]") {
            let own = ids();
            let cursor = list(&own).make(&SessionPosition::new(7, SessionId::from_random([7; 16])), &keys("t")).unwrap();
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != cursor);
            prop_assert_eq!(list(&own).read(&changed, &keys("t")), None);
            prop_assert_eq!(list(&own).read(&format!("{cursor}="), &keys("t")), None);
        }

        #[test]
        fn arbitrary_text_is_rejected(text in "AgAAAA[A-Za-z0-9_-]{0,150}|\\PC{0,200}") {
            let own = ids();
            prop_assert_eq!(list(&own).read(&text, &keys("t")), None);
        }
    }
}
