//! What a request with an `Idempotency-Key` is known again by (docs/design/contract.md#every-request).
//!
//! Nothing is kept of the key but a digest, and of the request but a keyed hash: a body holds
//! passwords, and a plain hash of one could be guessed at by whoever reads the table.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{TenantKeys, framed};
use crate::{
    domain::{IdempotencyKey, TenantId, UserId},
    port::OnceKey,
};

/// A request that its client may send again to have what it did done once.
#[derive(Clone)]
pub struct Repeatable {
    key: IdempotencyKey,
    route: &'static str,
    request: digest::Digest,
}

impl std::fmt::Debug for Repeatable {
    /// Without the request: its digest is one of a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repeatable")
            .field("key", &self.key)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl Repeatable {
    /// A request to `route` that says these `parts`, in their order.
    pub fn new(key: IdempotencyKey, route: &'static str, parts: &[&[u8]]) -> Self {
        Self { key, route, request: digest::digest(&digest::SHA256, &framed(parts)) }
    }

    /// Where its success is kept, asked for by that user; by the tenant itself where it is none.
    pub fn key(&self, tenant: &TenantId, caller: Option<&UserId>) -> OnceKey {
        let kind = caller.map_or("tenant", |_| "user");
        let caller = caller.map_or("", UserId::as_str);
        let parts = framed(&[tenant.as_str(), self.route, kind, caller, self.key.as_str()]);
        let digest = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &parts));
        OnceKey { tenant: tenant.clone(), digest }
    }

    /// What to keep of the request, with the version of the key that it is made with; `None` when the
    /// tenant's root key is gone.
    pub fn fingerprint(&self, keys: &TenantKeys) -> Option<(String, u32)> {
        let version = keys.root_version();
        let tag = hmac::sign(keys.fingerprint_key(version)?, self.request.as_ref());
        Some((URL_SAFE_NO_PAD.encode(tag), version))
    }

    /// Whether the request is the one of which that was kept.
    pub fn is(&self, fingerprint: &str, version: u32, keys: &TenantKeys) -> bool {
        match (keys.fingerprint_key(version), URL_SAFE_NO_PAD.decode(fingerprint)) {
            (Some(key), Ok(kept)) => hmac::verify(key, self.request.as_ref(), &kept).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::token::tests::{keys, keys_of};

    fn request(key: &str, route: &'static str, parts: &[&[u8]]) -> Repeatable {
        Repeatable::new(IdempotencyKey::parse(key).unwrap(), route, parts)
    }

    // docs/design/security.md#rule-20
    #[test]
    fn a_key_is_one_tenants_one_routes_and_one_callers() {
        let (tenant, other) = (TenantId::parse("t").unwrap(), TenantId::parse("other").unwrap());
        let (user, another) = (UserId::parse("u").unwrap(), UserId::parse("v").unwrap());
        let one = request("k", "/a", &[b"body"]);
        let keys: HashSet<_> = [
            one.key(&tenant, None),
            one.key(&other, None),
            one.key(&tenant, Some(&user)),
            one.key(&tenant, Some(&another)),
            request("k2", "/a", &[b"body"]).key(&tenant, None),
            request("k", "/b", &[b"body"]).key(&tenant, None),
        ]
        .into_iter()
        .map(|key| (key.tenant.to_string(), key.digest))
        .collect();
        assert_eq!(keys.len(), 6);
        assert_eq!(one.key(&tenant, None), request("k", "/a", &[b"other"]).key(&tenant, None));
    }

    #[test]
    fn a_request_is_known_again_by_every_part_and_the_tenants_key() {
        let tenant = TenantId::parse("t").unwrap();
        let one = request("k", "/a", &[b"POST", b"/a", b"body"]);
        let (kept, version) = one.fingerprint(&keys("t")).unwrap();
        assert!(one.is(&kept, version, &keys("t")));
        for other in
            [&[b"PUT".as_slice(), b"/a", b"body"], &[b"POST", b"/ab", b"ody"], &[b"POST", b"/a", b""]]
        {
            assert!(!request("k", "/a", other).is(&kept, version, &keys("t")));
        }
        assert!(!one.is(&kept, version, &keys_of(&tenant, 9)), "another key");
        assert!(!one.is(&kept, version + 1, &keys("t")), "a key that is gone");
        assert!(!one.is("no base64!", version, &keys("t")));
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_shows_nothing_of_the_request() {
        let one = request("k", "/a", &[b"password"]);
        let digest = format!("{:?}", one.request);
        assert!(!format!("{one:?}").contains(&digest));
    }
}
