//! Secrets are `secrecy::SecretString`: redacted in `Debug`, no `Display`, no `Serialize`, wiped on
//! drop (docs/design/security.md#rule-25).

use secrecy::{ExposeSecret, SecretString};

/// Whether two secrets are equal, in time that depends on their lengths only (docs/design/security.md#rule-25).
pub fn matches(presented: &SecretString, kept: &SecretString) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(
        presented.expose_secret().as_bytes(),
        kept.expose_secret().as_bytes(),
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_exact() {
        let secret = SecretString::from("your_tenant_secret");
        assert!(matches(&secret, &SecretString::from("your_tenant_secret")));
        for other in ["", "your_tenant_secre", "your_tenant_secret ", "Your_tenant_secret"] {
            assert!(!matches(&SecretString::from(other), &secret), "{other}");
        }
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", SecretString::from("hunter2")).contains("hunter2"));
    }
}
