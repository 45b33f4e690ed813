//! What is kept of a reset code: a keyed hash, bound to its tenant, user and purpose (docs/design/security.md#rule-19).

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::{TenantKeys, framed};
use crate::domain::{Code, CodeProof, TenantId, UserId};

/// What a digest under the code key is of.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    PasswordReset,
    Submission,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::PasswordReset => "password",
            Self::Submission => "submission",
        }
    }
}

impl CodeProof {
    /// What to keep of a new code; `None` when the tenant's root key is gone.
    pub fn of(code: &Code, tenant: &TenantId, user: &UserId, keys: &TenantKeys) -> Option<Self> {
        let key_version = keys.root_version();
        let message = message(Purpose::PasswordReset, tenant, user, code.expose());
        let tag = hmac::sign(keys.code_key(key_version)?, &message);
        Some(Self { kind: code.kind(), digest: URL_SAFE_NO_PAD.encode(tag), key_version })
    }

    /// Whether `code` is the one that was kept, of its kind.
    pub fn is(&self, code: &Code, tenant: &TenantId, user: &UserId, keys: &TenantKeys) -> bool {
        let message = message(Purpose::PasswordReset, tenant, user, code.expose());
        let (key, kept) = (keys.code_key(self.key_version), URL_SAFE_NO_PAD.decode(&self.digest));
        match (key, kept) {
            (Some(key), Ok(kept)) => code.kind() == self.kind && hmac::verify(key, &message, &kept).is_ok(),
            _ => false,
        }
    }
}

impl TenantKeys {
    /// What to keep of a form's submission, so that it is known again.
    pub fn submission_digest(&self, tenant: &TenantId, user: &UserId, submission: &SecretString) -> String {
        let message = message(Purpose::Submission, tenant, user, submission.expose_secret());
        self.code_key(self.root_version())
            .map_or_else(String::new, |key| URL_SAFE_NO_PAD.encode(hmac::sign(key, &message)))
    }
}

fn message(purpose: Purpose, tenant: &TenantId, user: &UserId, text: &str) -> Vec<u8> {
    framed(&[purpose.name(), tenant.as_str(), user.as_str(), text])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::CodeKind,
        token::tests::{keys, keys_of},
    };

    // docs/design/security.md#rule-19, #rule-20
    #[test]
    fn a_code_is_one_tenants_one_users_and_of_one_kind() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let code = Code::from_random(CodeKind::Typed, &[9; 20]);
        let proof = CodeProof::of(&code, &tenant, &user, &keys("t")).unwrap();
        assert!(!proof.digest.contains(code.expose()));
        assert!(proof.is(&code, &tenant, &user, &keys("t")));
        assert!(proof.is(&Code::parse(&code.expose().to_lowercase()).unwrap(), &tenant, &user, &keys("t")));
        let other_code = Code::from_random(CodeKind::Typed, &[8; 20]);
        assert!(!proof.is(&other_code, &tenant, &user, &keys("t")));
        assert!(!proof.is(&code, &TenantId::parse("other").unwrap(), &user, &keys("t")));
        assert!(!proof.is(&code, &tenant, &UserId::parse("v").unwrap(), &keys("t")));
        assert!(!proof.is(&code, &tenant, &user, &keys_of(&tenant, 9)), "another key");
        let as_link = CodeProof { kind: CodeKind::Link, ..proof };
        assert!(!as_link.is(&code, &tenant, &user, &keys("t")));
    }

    #[test]
    fn a_submission_is_not_a_code() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let code = Code::from_random(CodeKind::Typed, &[9; 20]);
        let proof = CodeProof::of(&code, &tenant, &user, &keys("t")).unwrap();
        let digest = keys("t").submission_digest(&tenant, &user, &SecretString::from(code.expose()));
        assert_ne!(digest, proof.digest);
    }
}
