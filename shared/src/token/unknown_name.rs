//! Stand-ins for the user IDs of unknown usernames (docs/design/storage.md#attempts).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    framed,
    keys::{MacPurpose, TenantKeys},
};
use crate::domain::{Failure, TenantId, UserId, Username};

impl TenantKeys {
    /// Returns the stand-in for the user ID of an unknown username. Spellings of one name have one stand-in. A reader
    /// of the table cannot guess the name from it (docs/design/security.md#rule-9).
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub fn unknown_name(&self, tenant: &TenantId, username: &Username) -> Result<UserId, Failure> {
        let name = username.visible();
        let message = framed(&[tenant.as_str(), name.folded()]);
        let mac = self.mac(MacPurpose::Name, self.root_version(), &message)?;
        Ok(UserId::of_unknown_name(&URL_SAFE_NO_PAD.encode(mac)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::keys;

    // docs/design/security.md#rule-9 and #rule-20
    #[test]
    fn spellings_of_one_name_have_one_stand_in_and_other_names_and_tenants_another() {
        let of = |tenant: &str, name: &str| {
            let (tenant, name) = (TenantId::parse(tenant).unwrap(), Username::parse(name).unwrap());
            keys("t").unknown_name(&tenant, &name).unwrap().as_str().to_owned()
        };
        let one = of("t", "nobody@example.com");
        for spelling in ["Nobody@Example.com", " nobody@example.com", "no\u{200b}body@example.com"] {
            assert_eq!(of("t", spelling), one, "{spelling:?}");
        }
        assert_ne!(of("t", "nobody@example.org"), one);
        assert_ne!(of("other", "nobody@example.com"), one);
    }
}
