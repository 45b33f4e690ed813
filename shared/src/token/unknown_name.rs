//! Stand-ins for the user IDs of unknown usernames (docs/design/storage.md#attempts).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::keys::{MacPurpose, TenantKeys};
use crate::domain::{Failure, UserId, Username};

impl TenantKeys {
    /// Returns the stand-in for the user ID of an unknown username. Spellings of one name have one stand-in. A reader
    /// of the table cannot guess the name from it (docs/design/security.md#rule-9).
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub fn unknown_name(&self, username: &Username) -> Result<UserId, Failure> {
        let mac = self.mac(MacPurpose::Name, self.root_version(), username.visible().folded().as_bytes())?;
        Ok(UserId::of_unknown_name(&URL_SAFE_NO_PAD.encode(mac)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::keys;

    // docs/design/security.md#rule-9
    #[test]
    fn spellings_of_one_name_have_one_stand_in_and_other_names_and_tenants_another() {
        let of = |tenant: &str, name: &str| {
            keys(tenant).unknown_name(&Username::parse(name).unwrap()).unwrap().as_str().to_owned()
        };
        let one = of("t", "nobody@example.com");
        for spelling in ["Nobody@Example.com", " nobody@example.com", "no\u{200b}body@example.com"] {
            assert_eq!(of("t", spelling), one, "{spelling:?}");
        }
        assert_ne!(of("t", "nobody@example.org"), one);
        assert_ne!(of("other", "nobody@example.com"), one);
    }
}
