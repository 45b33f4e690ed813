//! Recognition of repeated requests by their `Idempotency-Key` (docs/design/contract.md#every-request).
//!
//! Only a digest of the key and a keyed hash of the request are stored. A plain hash of the request would let a
//! reader of the table guess the password in the request body.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    framed,
    keys::{MacPurpose, TenantKeys},
};
use crate::{
    domain::{ClientId, Failure, IdempotencyKey, TenantId, UserId},
    store::ResultKey,
};

/// The caller that an idempotency key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner<'a> {
    /// The tenant itself.
    Tenant,
    /// A user.
    User(&'a UserId),
    /// An API client.
    Client(&'a ClientId),
}

/// Request with an idempotency key.
#[derive(Clone)]
pub struct KeyedRequest {
    key: IdempotencyKey,
    route: &'static str,
    request: digest::Digest,
}

impl std::fmt::Debug for KeyedRequest {
    /// Omits the request digest, because the request may contain a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRequest")
            .field("key", &self.key)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl KeyedRequest {
    /// Creates the value from a request to `route`, whose content is `parts`.
    pub fn new(key: IdempotencyKey, route: &'static str, parts: &[&[u8]]) -> Self {
        Self { key, route, request: digest::digest(&digest::SHA256, &framed(parts)) }
    }

    /// Returns the storage key of the result for a caller.
    pub fn key(&self, tenant: &TenantId, owner: KeyOwner<'_>) -> ResultKey {
        let (kind, caller) = match owner {
            KeyOwner::Tenant => ("tenant", ""),
            KeyOwner::User(user) => ("user", user.as_str()),
            KeyOwner::Client(client) => ("client", client.as_str()),
        };
        let parts = framed(&[tenant.as_str(), self.route, kind, caller, self.key.as_str()]);
        let digest = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &parts));
        ResultKey { tenant: tenant.clone(), digest }
    }

    /// Returns the fingerprint to store and its root key version.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn fingerprint(&self, keys: &TenantKeys) -> Result<(String, u32), Failure> {
        let version = keys.root_version();
        let mac = keys.mac(MacPurpose::Fingerprint, version, self.request.as_ref())?;
        Ok((URL_SAFE_NO_PAD.encode(mac), version))
    }

    /// Returns whether a stored fingerprint belongs to this request.
    pub fn is(&self, fingerprint: &str, version: u32, keys: &TenantKeys) -> bool {
        keys.is_encoded_mac(MacPurpose::Fingerprint, version, self.request.as_ref(), fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::token::tests::{keys, keys_of};

    fn request(key: &str, route: &'static str, parts: &[&[u8]]) -> KeyedRequest {
        KeyedRequest::new(IdempotencyKey::parse(key).unwrap(), route, parts)
    }

    // docs/design/security.md#rule-20
    #[test]
    fn storage_key_is_bound_to_tenant_route_and_caller() {
        let (tenant, other) = (TenantId::parse("t").unwrap(), TenantId::parse("other").unwrap());
        let (user, another) = (UserId::parse("u").unwrap(), UserId::parse("v").unwrap());
        let client = ClientId::from_random([7; 16]);
        let one = request("k", "/a", &[b"body"]);
        let keys: HashSet<_> = [
            one.key(&tenant, KeyOwner::Tenant),
            one.key(&other, KeyOwner::Tenant),
            one.key(&tenant, KeyOwner::User(&user)),
            one.key(&tenant, KeyOwner::User(&another)),
            one.key(&tenant, KeyOwner::Client(&client)),
            one.key(&tenant, KeyOwner::Client(&ClientId::from_random([8; 16]))),
            one.key(&tenant, KeyOwner::User(&UserId::parse(client.as_str()).unwrap())),
            request("k2", "/a", &[b"body"]).key(&tenant, KeyOwner::Tenant),
            request("k", "/b", &[b"body"]).key(&tenant, KeyOwner::Tenant),
        ]
        .into_iter()
        .map(|key| (key.tenant.to_string(), key.digest))
        .collect();
        assert_eq!(keys.len(), 9);
        assert_eq!(
            one.key(&tenant, KeyOwner::Tenant),
            request("k", "/a", &[b"other"]).key(&tenant, KeyOwner::Tenant)
        );
    }

    #[test]
    fn fingerprint_covers_every_part_and_the_tenant_key() {
        let tenant = TenantId::parse("t").unwrap();
        let one = request("k", "/a", &[b"POST", b"/a", b"body"]);
        let (kept, version) = one.fingerprint(&keys("t")).unwrap();
        assert!(one.is(&kept, version, &keys("t")));
        for other in
            [&[b"PUT".as_slice(), b"/a", b"body"], &[b"POST", b"/ab", b"ody"], &[b"POST", b"/a", b""]]
        {
            assert!(!request("k", "/a", other).is(&kept, version, &keys("t")));
        }
        assert!(!one.is(&kept, version, &keys_of(&tenant, 9)), "fingerprint of another root key");
        assert!(!one.is(&kept, version + 1, &keys("t")), "unknown root key version");
        assert!(!one.is("no base64!", version, &keys("t")));
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_output_omits_the_request() {
        let one = request("k", "/a", &[b"password"]);
        let digest = format!("{:?}", one.request);
        assert!(!format!("{one:?}").contains(&digest));
    }
}
