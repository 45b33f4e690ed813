//! Stored proofs of codes: MACs bound to tenant, user and purpose (docs/design/security.md#rule-19).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::{
    framed,
    keys::{MacPurpose, TenantKeys},
};
use crate::domain::{Code, CodeProof, CodePurpose, Failure, TenantId, UserId};

/// First part of the MAC's input for a form submission.
const SUBMISSION: &str = "submission";

impl CodeProof {
    /// Returns the proof to store for a new code.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn of(
        code: &Code,
        purpose: CodePurpose,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
    ) -> Result<Self, Failure> {
        let key_version = keys.root_version();
        let message = framed(&[purpose.name(), tenant.as_str(), user.as_str(), code.expose()]);
        let digest = URL_SAFE_NO_PAD.encode(keys.mac(MacPurpose::Code, key_version, &message)?);
        Ok(Self { kind: code.kind(), digest, key_version })
    }

    /// Returns whether this is the proof of `code` for this purpose.
    pub fn is(
        &self,
        code: &Code,
        purpose: CodePurpose,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
    ) -> bool {
        let message = framed(&[purpose.name(), tenant.as_str(), user.as_str(), code.expose()]);
        code.kind() == self.kind
            && keys.is_encoded_mac(MacPurpose::Code, self.key_version, &message, &self.digest)
    }
}

impl TenantKeys {
    /// Returns the digest to store for a form submission, so that a repeated submission is recognised.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn submission_digest(
        &self,
        tenant: &TenantId,
        user: &UserId,
        submission: &SecretString,
    ) -> Result<String, Failure> {
        let message = framed(&[SUBMISSION, tenant.as_str(), user.as_str(), submission.expose_secret()]);
        Ok(URL_SAFE_NO_PAD.encode(self.mac(MacPurpose::Code, self.root_version(), &message)?))
    }
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
    fn code_proof_is_bound_to_purpose_tenant_user_and_kind() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let of = (&tenant, &user);
        let code = Code::from_random(CodeKind::Typed, &[9; 20]);
        let proof = CodeProof::of(&code, CodePurpose::Password, of, &keys("t")).unwrap();
        let is = |code: &Code, (tenant, user): (&TenantId, &UserId)| {
            proof.is(code, CodePurpose::Password, (tenant, user), &keys("t"))
        };
        assert!(!proof.digest.contains(code.expose()));
        assert!(is(&code, of));
        assert!(is(&Code::parse(&code.expose().to_lowercase()).unwrap(), of));
        assert!(!is(&Code::from_random(CodeKind::Typed, &[8; 20]), of));
        assert!(!is(&code, (&TenantId::parse("other").unwrap(), &user)));
        assert!(!is(&code, (&tenant, &UserId::parse("v").unwrap())));
        for purpose in [CodePurpose::Email, CodePurpose::Phone] {
            assert!(!proof.is(&code, purpose, of, &keys("t")), "{purpose:?}");
        }
        let other_key = keys_of(&tenant, 9);
        assert!(!proof.is(&code, CodePurpose::Password, of, &other_key), "proof of another key");
        let as_link = CodeProof { kind: CodeKind::Link, ..proof.clone() };
        assert!(!as_link.is(&code, CodePurpose::Password, of, &keys("t")));
    }

    #[test]
    fn submission_digest_differs_from_code_proof() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let code = Code::from_random(CodeKind::Typed, &[9; 20]);
        let proof = CodeProof::of(&code, CodePurpose::Password, (&tenant, &user), &keys("t")).unwrap();
        let digest = keys("t").submission_digest(&tenant, &user, &SecretString::from(code.expose())).unwrap();
        assert_ne!(digest, proof.digest);
    }

    // docs/design/security.md#rule-20
    #[test]
    fn submission_digest_is_bound_to_tenant_user_and_submission() {
        let digest = |tenant: &str, user: &str, submission: &str| {
            let (tenant, user) = (TenantId::parse(tenant).unwrap(), UserId::parse(user).unwrap());
            keys("t").submission_digest(&tenant, &user, &SecretString::from(submission)).unwrap()
        };
        assert_eq!(digest("t", "u", "one"), digest("t", "u", "one"));
        for (tenant, user, submission) in [("t", "u", "two"), ("t", "v", "one"), ("other", "u", "one")] {
            assert_ne!(
                digest(tenant, user, submission),
                digest("t", "u", "one"),
                "{tenant} {user} {submission}"
            );
        }
    }
}
