//! Access tokens: JWTs of type `at+jwt` (RFC 9068), verified as RFC 8725 recommends
//! (docs/design/security.md#rule-16).

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    TenantKeys,
    client_token::{ClientBearer, ClientClaims, client_token_life},
    jwt::{TYPE, member_map, seconds, sign},
};
use crate::domain::{
    Collection, Failure, Policy, Session, SessionId, SigningAlgorithm, SigningEnd, Tenant, TenantId,
    TokenFault, User, UserId,
};

/// Maximum token length that is decoded. A token of Doorward has about 700 characters. The longest possible one has fewer
/// than this maximum, so that every token that is issued is accepted.
const MAX_CHARS: usize = 8_192;
/// Maximum number of seconds by which the time of issue may be ahead of this clock. The expiry has no leeway.
const ISSUED_AHEAD_SECONDS: i64 = 5;

/// `scope` of a token for all operations of its user.
pub const SCOPE_FULL: &str = "full";
/// `scope` of a token that permits only changing one's own password, refresh and logout
/// (docs/design/contract.md#ocariot-v1).
pub const SCOPE_PASSWORD_CHANGE: &str = "credentials:update";

/// Claims of an access token (docs/design/contract.md#create-session).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// User ID; equal to `userId`.
    pub sub: String,
    /// Audience.
    pub aud: String,
    /// Expiry in seconds since the Unix epoch.
    pub exp: i64,
    /// Time of issue in seconds since the Unix epoch.
    pub iat: i64,
    /// Start of validity in seconds since the Unix epoch. Doorward does not set it, but checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Token ID.
    pub jti: String,
    /// Tenant ID.
    pub tenant_id: TenantId,
    /// User ID.
    pub user_id: UserId,
    /// `ADMIN`, `CONSUMER` or `BUSINESS`: the collection in the path that created the session.
    pub user_type: String,
    /// Roles of the user, for other services. Doorward itself checks the roles in the stored user.
    pub roles: Vec<String>,
    /// Session ID.
    pub sid: SessionId,
    /// Session ID; equal to `sid`. Tokens of earlier versions have no such claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// [`SCOPE_FULL`] or [`SCOPE_PASSWORD_CHANGE`].
    pub scope: String,
    /// Organization of an administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Customer of a customer's user; in the token of an administrator equal to `orgId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
}

impl Claims {
    /// Creates the claims of a token issued at `now`. The token expires with its session at the latest.
    pub fn new(session: &Session, user: &User, policy: &Policy, now: Timestamp, jti: &SessionId) -> Self {
        let iat = now.as_second();
        let (org_id, customer_id) = match session.collection {
            Collection::Admin => {
                let organization = session.organization.to_string();
                (Some(organization.clone()), Some(organization))
            }
            Collection::Individual | Collection::Organization => {
                (None, session.customer.as_ref().map(ToString::to_string))
            }
        };
        Self {
            iss: policy.issuer.clone(),
            sub: user.id.to_string(),
            aud: policy.audience.clone(),
            exp: iat.saturating_add(seconds(policy.token_life)).min(session.expires_at.as_second()),
            iat,
            nbf: None,
            jti: jti.to_string(),
            tenant_id: session.tenant.clone(),
            user_id: user.id.clone(),
            user_type: session.collection.user_type().to_owned(),
            roles: user.roles.iter().map(|role| role.name().to_owned()).collect(),
            sid: session.id.clone(),
            session_id: Some(session.id.clone()),
            scope: if user.change_required { SCOPE_PASSWORD_CHANGE } else { SCOPE_FULL }.to_owned(),
            org_id,
            customer_id,
        }
    }

    /// Signs a token with the tenant's current key.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no key for its algorithm; `Internal` when signing fails.
    pub fn sign(&self, keys: &TenantKeys, policy: &Policy) -> Result<SecretString, Failure> {
        sign(self, keys, policy)
    }
}

/// Parsed token whose signature is not verified.
#[derive(Debug)]
pub struct Unverified {
    message: SecretString,
    signature: SecretString,
    algorithm: String,
    kid: String,
    claims: AnyClaims,
}

/// Claims of a user's token or of a client's.
#[derive(Debug)]
enum AnyClaims {
    User(Box<Claims>),
    Client(ClientClaims),
}

impl AnyClaims {
    /// Decodes the claims of a payload. Only the tokens of clients have the claim `client_id`.
    fn read(payload: serde_json::Map<String, Value>) -> Option<Self> {
        if payload.contains_key("client_id") {
            let claims: ClientClaims = serde_json::from_value(Value::Object(payload)).ok()?;
            return (claims.sub == claims.client_id.as_str()).then_some(Self::Client(claims));
        }
        let claims: Claims = serde_json::from_value(Value::Object(payload)).ok()?;
        let is_consistent = claims.sub == claims.user_id.as_str()
            && claims.session_id.as_ref().is_none_or(|id| *id == claims.sid);
        is_consistent.then(|| Self::User(Box::new(claims)))
    }

    fn tenant(&self) -> &TenantId {
        match self {
            Self::User(claims) => &claims.tenant_id,
            Self::Client(claims) => &claims.tenant_id,
        }
    }

    /// Returns issuer and audience.
    fn parties(&self) -> [&str; 2] {
        match self {
            Self::User(claims) => [&claims.iss, &claims.aud],
            Self::Client(claims) => [&claims.iss, &claims.aud],
        }
    }

    fn validity(&self) -> Validity {
        match self {
            Self::User(claims) => Validity { exp: claims.exp, iat: claims.iat, nbf: claims.nbf },
            Self::Client(claims) => Validity { exp: claims.exp, iat: claims.iat, nbf: None },
        }
    }
}

/// Times of a token, in seconds since the Unix epoch.
struct Validity {
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
}

/// Verified access token.
#[derive(Debug)]
pub enum AccessToken {
    /// Token of a user's session.
    User(Bearer),
    /// Token of an API client.
    Client(ClientBearer),
}

/// Content of a user's verified token.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// Tenant ID.
    pub tenant: TenantId,
    /// User ID.
    pub user: UserId,
    /// Session ID.
    pub session: SessionId,
    /// Collection in the path that created the session.
    pub collection: Collection,
    /// Organization or customer in that path.
    pub owner: String,
    /// Token ID.
    pub token_id: String,
    /// Time of issue.
    pub issued_at: Timestamp,
    /// Expiry.
    pub expires_at: Timestamp,
    /// Whether the token has expired.
    pub expired: bool,
}

impl Unverified {
    /// Parses a token without verifying it.
    ///
    /// # Errors
    /// `InvalidToken(Malformed)` unless the token has three parts in canonical base64url, no duplicate member,
    /// `typ` `at+jwt`, no `crit`, and the same tenant in key ID and payload.
    pub fn parse(token: &SecretString) -> Result<Self, Failure> {
        Self::read(token.expose_secret()).ok_or(Failure::InvalidToken(TokenFault::Malformed))
    }

    fn read(token: &str) -> Option<Self> {
        if token.len() > MAX_CHARS {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let header = member_map(header)?;
        // `jku`, `x5u`, `x5c` and `jwk` are ignored because keys come only from the tenant's secret.
        if header.get("typ").and_then(Value::as_str) != Some(TYPE) || header.contains_key("crit") {
            return None;
        }
        let kid = header.get("kid")?.as_str()?.to_owned();
        let algorithm = header.get("alg")?.as_str()?.to_owned();
        let claims = AnyClaims::read(member_map(payload)?)?;
        let (tenant, _) = kid.split_once('.')?;
        if tenant != claims.tenant().as_str() {
            return None;
        }
        Some(Self {
            message: SecretString::from(message),
            signature: SecretString::from(signature),
            algorithm,
            kid,
            claims,
        })
    }

    /// Returns the tenant stated in the token.
    pub fn tenant(&self) -> &TenantId {
        self.claims.tenant()
    }

    /// Verifies signature and claims. The key determines the algorithm: a token with another `alg`, including
    /// every spelling of `none`, is rejected as forged. The tenant must sign with this algorithm, or must have
    /// signed with it at the token's time of issue.
    ///
    /// A token expires at `exp`, and at the latest when the tenant's `token_life_seconds` have passed since its
    /// issue, because the owner of a stolen key chooses `exp`.
    ///
    /// # Errors
    /// `InvalidToken` with `UnknownKey`, `Forged`, `WrongAlgorithm`, `RetiredKey`, or `Expired` for a token that is
    /// not valid yet. A token after its expiry is returned with `expired` set.
    pub fn verify(&self, keys: &TenantKeys, tenant: &Tenant, now: Timestamp) -> Result<AccessToken, Failure> {
        let fault = |fault| Err(Failure::InvalidToken(fault));
        let policy = &tenant.policy;
        let Some(verifier) = keys.verifier(&self.kid) else {
            return fault(TokenFault::UnknownKey);
        };
        let signed = self.algorithm == verifier.algorithm.name()
            && verifier.accepts(self.message.expose_secret().as_bytes(), self.signature.expose_secret());
        let Validity { exp, iat, nbf } = self.claims.validity();
        if !signed || self.claims.parties() != [&policy.issuer, &policy.audience] {
            return fault(TokenFault::Forged);
        }
        // An expired token refreshes its session, which may live for `session_life`.
        let may_be_in_use = |end: SigningEnd| {
            Timestamp::from_second(iat).is_ok_and(|issued_at| end.admits(issued_at))
                && end.may_live(policy.session_life, now)
        };
        if verifier.algorithm != policy.algorithm
            && !end_of_algorithm(tenant, verifier.algorithm).is_some_and(may_be_in_use)
        {
            return fault(TokenFault::WrongAlgorithm);
        }
        if !verifier.end().is_none_or(may_be_in_use) {
            return fault(TokenFault::RetiredKey);
        }
        let starts = nbf.unwrap_or(iat).max(iat);
        if starts > now.as_second().saturating_add(ISSUED_AHEAD_SECONDS) {
            return fault(TokenFault::Expired);
        }
        let life = match &self.claims {
            AnyClaims::User(_) => policy.token_life,
            AnyClaims::Client(_) => client_token_life(policy),
        };
        let ends = exp.min(iat.saturating_add(seconds(life)));
        let time = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        let (issued_at, expires_at, expired) = (time(iat), time(ends), now.as_second() >= ends);
        let claims = match &self.claims {
            AnyClaims::User(claims) => claims,
            AnyClaims::Client(claims) => {
                return Ok(AccessToken::Client(claims.bearer(issued_at, expires_at, expired)));
            }
        };
        let collection = Collection::from_user_type(&claims.user_type);
        // The token of a customer has no `orgId`. In that of an administrator, `customerId` is absent or equals it.
        let owner = match (collection, &claims.org_id, &claims.customer_id) {
            (Some(Collection::Admin), org_id, customer_id)
                if customer_id.is_none() || customer_id == org_id =>
            {
                org_id
            }
            (Some(Collection::Individual | Collection::Organization), None, customer_id) => customer_id,
            _ => &None,
        };
        let (Some(collection), Some(owner)) = (collection, owner) else {
            return fault(TokenFault::Forged);
        };
        Ok(AccessToken::User(Bearer {
            tenant: claims.tenant_id.clone(),
            user: claims.user_id.clone(),
            session: claims.sid.clone(),
            collection,
            owner: owner.clone(),
            token_id: claims.jti.clone(),
            issued_at,
            expires_at,
            expired,
        }))
    }
}

/// Returns the latest time at which a tenant signed with an algorithm that its policy has replaced.
fn end_of_algorithm(tenant: &Tenant, algorithm: SigningAlgorithm) -> Option<SigningEnd> {
    let previous = tenant.previous_algorithm.filter(|previous| previous.algorithm == algorithm)?;
    Some(SigningEnd::of_algorithm(previous.replaced_at))
}

#[cfg(test)]
impl AccessToken {
    fn into_user(self) -> Bearer {
        match self {
            Self::User(bearer) => bearer,
            Self::Client(client) => panic!("{client:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::token::{
        keys::Signer,
        tests::{self as fixture, at},
    };

    fn claims() -> Claims {
        Claims::new(
            &fixture::session(),
            &fixture::user(),
            &Policy::default(),
            at(1_000),
            &SessionId::from_random([5; 16]),
        )
    }

    fn policy(algorithm: crate::domain::SigningAlgorithm) -> Policy {
        Policy { algorithm, ..Policy::default() }
    }

    fn verify(token: &str, now: i64) -> Result<Bearer, Failure> {
        let tenant = fixture::tenant(Policy::default());
        let token = Unverified::parse(&SecretString::from(token))?;
        token.verify(&fixture::keys("t"), &tenant, at(now)).map(AccessToken::into_user)
    }

    fn raw(header: &Value, payload: &Value, signature: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", part(header), part(payload))
    }

    #[test]
    fn token_of_every_algorithm_is_verified() {
        let keys = fixture::keys("t");
        for algorithm in <crate::domain::SigningAlgorithm as strum::IntoEnumIterator>::iter() {
            let token = claims().sign(&keys, &policy(algorithm)).unwrap();
            let read = Unverified::parse(&token).unwrap();
            assert_eq!(read.algorithm, algorithm.name());
            let bearer =
                read.verify(&keys, &fixture::tenant(policy(algorithm)), at(1_001)).unwrap().into_user();
            assert_eq!((bearer.user.as_str(), bearer.owner.as_str(), bearer.expired), ("u", "o", false));
        }
    }

    // docs/design/security.md#rule-16
    #[test]
    fn leeway_is_five_seconds_for_issue_and_zero_for_expiry() {
        let token = claims().sign(&fixture::keys("t"), &Policy::default()).unwrap();
        let token = token.expose_secret();
        assert!(!verify(token, 1_000 + 3_599).unwrap().expired);
        assert!(verify(token, 1_000 + 3_600).unwrap().expired);
        assert!(verify(token, 995).is_ok());
        assert!(matches!(verify(token, 994), Err(Failure::InvalidToken(TokenFault::Expired))));
    }

    // docs/design/security.md#rule-16: the owner of a stolen key chooses `exp`.
    #[test]
    fn token_expires_after_the_life_that_the_policy_permits() {
        let long =
            Claims { exp: i64::MAX, ..claims() }.sign(&fixture::keys("t"), &Policy::default()).unwrap();
        let bearer = verify(long.expose_secret(), 1_000 + 3_599).unwrap();
        assert_eq!((bearer.expired, bearer.expires_at), (false, at(1_000 + 3_600)));
        assert!(verify(long.expose_secret(), 1_000 + 3_600).unwrap().expired);
    }

    #[test]
    fn token_expires_with_its_session() {
        let session = Session { expires_at: at(1_500), ..fixture::session() };
        let jti = SessionId::from_random([5; 16]);
        assert_eq!(Claims::new(&session, &fixture::user(), &Policy::default(), at(1_000), &jti).exp, 1_500);
    }

    /// Signs a token of this header and these claims with the tenant's key for its algorithm.
    fn signed(header: &str, claims: &Claims) -> String {
        let keys = fixture::keys("t");
        signed_with(keys.signer(Policy::default().algorithm).unwrap(), header, claims)
    }

    fn signed_with(signer: &Signer, header: &str, claims: &Claims) -> String {
        let claims = serde_json::to_string(claims).unwrap();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, signer.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header() -> Value {
        json!({ "typ": TYPE, "alg": Policy::default().algorithm.name(), "kid": "t.es1" })
    }

    fn fault_of(token: &str) -> Option<TokenFault> {
        match verify(token, 1_001) {
            Ok(_) => None,
            Err(Failure::InvalidToken(fault)) => Some(fault),
            Err(other) => panic!("{other:?}"),
        }
    }

    // docs/design/security.md#rule-16
    #[test]
    fn signed_token_with_another_header_is_rejected() {
        assert_eq!(fault_of(&signed(&header().to_string(), &claims())), None, "only the header differs");
        for (name, value, fault) in [
            ("typ", json!("JWT"), TokenFault::Malformed),
            ("typ", json!(null), TokenFault::Malformed),
            ("crit", json!(["exp"]), TokenFault::Malformed),
            ("crit", json!([]), TokenFault::Malformed),
            ("kid", json!("other.es1"), TokenFault::Malformed),
            ("kid", json!("t"), TokenFault::Malformed),
            ("kid", json!(1), TokenFault::Malformed),
            ("kid", json!("t.unknown"), TokenFault::UnknownKey),
            ("kid", json!("t.ed1"), TokenFault::Forged),
            ("alg", json!("none"), TokenFault::Forged),
            ("alg", json!("None"), TokenFault::Forged),
            ("alg", json!("EdDSA"), TokenFault::Forged),
            ("alg", json!(1), TokenFault::Malformed),
        ] {
            let mut changed = header();
            changed[name] = value;
            assert_eq!(fault_of(&signed(&changed.to_string(), &claims())), Some(fault), "{changed}");
        }
        let twice = header().to_string().replacen('{', r#"{"alg":"none","#, 1);
        assert_eq!(fault_of(&signed(&twice, &claims())), Some(TokenFault::Malformed), "duplicate member");
    }

    // docs/design/security.md#rule-16
    #[test]
    fn token_without_signature_is_rejected() {
        for none in ["none", "None", "NONE", "nOnE"] {
            let mut changed = header();
            changed["alg"] = json!(none);
            let payload = serde_json::to_value(claims()).unwrap();
            assert_eq!(fault_of(&raw(&changed, &payload, "")), Some(TokenFault::Forged), "{none}");
        }
    }

    // docs/design/security.md#rule-16
    #[test]
    fn public_key_is_not_an_hmac_key() {
        let public = fixture::keys("t").public_keys().unwrap();
        let jwk = &public.iter().find(|key| key.algorithm == Policy::default().algorithm).unwrap().jwk;
        let parts: Value = serde_json::from_str(jwk).unwrap();
        let decoded = |name: &str| URL_SAFE_NO_PAD.decode(parts[name].as_str().unwrap()).unwrap();
        let point = [&[4], decoded("x").as_slice(), decoded("y").as_slice()].concat();
        let mut changed = header();
        changed["alg"] = json!("HS256");
        for secret in [jwk.as_bytes(), point.as_slice()] {
            let signer = Signer {
                kid: "t.es1".into(),
                algorithm: jsonwebtoken::Algorithm::HS256,
                key: jsonwebtoken::EncodingKey::from_secret(secret),
            };
            let forged = signed_with(&signer, &changed.to_string(), &claims());
            assert_eq!(fault_of(&forged), Some(TokenFault::Forged));
        }
    }

    // docs/design/security.md#rule-20
    #[test]
    fn token_of_another_tenant_is_rejected() {
        let other = TenantId::parse("other").unwrap();
        let keys = fixture::keys_of(&other, 8);
        let signer = keys.signer(Policy::default().algorithm).unwrap();
        let mut theirs = header();
        theirs["kid"] = json!("other.es1");
        let their_claims = Claims { tenant_id: other, ..claims() };
        let their_token = signed_with(signer, &theirs.to_string(), &their_claims);
        assert_eq!(fault_of(&their_token), Some(TokenFault::UnknownKey));
        let claims_of_t = signed_with(signer, &theirs.to_string(), &claims());
        assert_eq!(fault_of(&claims_of_t), Some(TokenFault::Malformed));
        let key_id_of_t = signed_with(signer, &header().to_string(), &claims());
        assert_eq!(fault_of(&key_id_of_t), Some(TokenFault::Forged));
    }

    // docs/design/security.md#rule-16
    #[test]
    fn token_in_another_encoding_is_rejected() {
        let token = signed(&header().to_string(), &claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, payload) = message.split_once('.').unwrap();
        // Padding, more or fewer parts, and another alphabet.
        for broken in [
            format!("{token}="),
            format!("{header}=.{payload}.{signature}"),
            message.to_owned(),
            format!("{token}.{signature}"),
            format!("{message}.+{}", signature.get(1..).unwrap()),
            format!(" {token}"),
            String::new(),
            ".".into(),
            "..".into(),
            "x".repeat(MAX_CHARS + 1),
        ] {
            assert!(fault_of(&broken).is_some(), "{broken}");
        }
        // Unused bits of the last character.
        let mut last = signature.to_owned();
        let spare = match last.pop().unwrap() {
            'A' => 'B',
            'Q' => 'R',
            'g' => 'h',
            _ => 'x',
        };
        last.push(spare);
        assert_eq!(fault_of(&format!("{message}.{last}")), Some(TokenFault::Forged));
    }

    // docs/design/security.md#rule-16
    #[test]
    fn token_above_the_maximum_length_is_rejected() {
        let mut padded = header();
        padded["x"] = json!("");
        let room = MAX_CHARS - signed(&padded.to_string(), &claims()).len();
        for (extra, fault) in [(room * 3 / 4 - 3, None), (room * 3 / 4 + 3, Some(TokenFault::Malformed))] {
            padded["x"] = json!("x".repeat(extra));
            let token = signed(&padded.to_string(), &claims());
            assert!((token.len() <= MAX_CHARS) == fault.is_none(), "{}", token.len());
            assert_eq!(fault_of(&token), fault);
        }
    }

    // docs/design/security.md#rule-16: the longest values that the policy and new IDs may have, in JSON. A quotation
    // mark takes two bytes there.
    #[test]
    fn longest_possible_token_is_accepted() {
        let id = format!("{}{}", "\"".repeat(96), "\u{1F600}".repeat(104));
        assert_eq!((id.chars().count(), id.len()), (200, 512));
        let tenant = "t".repeat(64);
        let (policy, faults) = Policy::read(&crate::domain::PolicyDocument::from_iter([
            ("issuer".to_owned(), json!("\"".repeat(512))),
            ("audience".to_owned(), json!("\"".repeat(512))),
        ]));
        assert!(faults.is_empty(), "{faults:?}");
        let claims = Claims {
            iss: policy.issuer.clone(),
            aud: policy.audience.clone(),
            sub: id.clone(),
            user_id: UserId::parse(&id).unwrap(),
            tenant_id: TenantId::parse(&tenant).unwrap(),
            org_id: Some(id.clone()),
            customer_id: Some(id),
            roles: ["ADMIN", "TENANT_ADMIN", "USER"].map(str::to_owned).into(),
            ..claims()
        };
        let token = claims.sign(&fixture::keys(&tenant), &policy).unwrap();
        assert!(token.expose_secret().len() > 5_000, "{}", token.expose_secret().len());
        // The signature of an RSA key with 8,192 bits, which is the longest, instead of that of ES256.
        let (message, _) = token.expose_secret().rsplit_once('.').unwrap();
        let longest = message.len() + 1 + 8_192_usize.div_ceil(6);
        assert!(longest <= MAX_CHARS, "{longest}");
        assert!(Unverified::parse(&token).is_ok());
    }

    #[test]
    fn keys_in_the_token_header_are_ignored() {
        let keys = fixture::keys("t");
        let signer = keys.signer(crate::domain::SigningAlgorithm::Es256).unwrap();
        let mut header = jsonwebtoken::Header::new(signer.algorithm);
        header.typ = Some(TYPE.into());
        header.kid = Some(signer.kid.clone());
        header.jku = Some("https://attacker.example/jwks.json".into());
        header.x5u = Some("https://attacker.example/cert.pem".into());
        let ours = jsonwebtoken::encode(&header, &claims(), &signer.key).unwrap();
        assert!(verify(&ours, 1_001).is_ok());
        let theirs = fixture::keys_of(&TenantId::parse("t").unwrap(), 99);
        let other = theirs.signer(crate::domain::SigningAlgorithm::Es256).unwrap();
        let forged = jsonwebtoken::encode(&header, &claims(), &other.key).unwrap();
        assert!(matches!(verify(&forged, 1_001), Err(Failure::InvalidToken(TokenFault::Forged))));
    }

    // docs/design/security.md#rule-16
    #[test]
    fn previous_algorithm_is_accepted_for_tokens_from_before_its_end() {
        let keys = fixture::keys("t");
        let token = claims().sign(&keys, &policy(SigningAlgorithm::EdDsa)).unwrap();
        let token = Unverified::parse(&token).unwrap();
        let session_life = i64::try_from(Policy::default().session_life.as_secs()).unwrap();
        let replaced =
            |algorithm, second| Some(crate::domain::PreviousAlgorithm { algorithm, replaced_at: at(second) });
        for (previous_algorithm, now, is_accepted) in [
            (replaced(SigningAlgorithm::EdDsa, 990), 1_001, true),
            (replaced(SigningAlgorithm::EdDsa, 989), 1_001, false),
            (replaced(SigningAlgorithm::EdDsa, 990), 1_000 + session_life - 1, true),
            (replaced(SigningAlgorithm::EdDsa, 990), 1_000 + session_life, false),
            (replaced(SigningAlgorithm::Rs256, 990), 1_001, false),
            (None, 1_001, false),
        ] {
            let tenant = Tenant { previous_algorithm, ..fixture::tenant(Policy::default()) };
            let result = token.verify(&keys, &tenant, at(now));
            let is_rejected = matches!(result, Err(Failure::InvalidToken(TokenFault::WrongAlgorithm)));
            assert_eq!(
                (result.is_ok(), is_rejected),
                (is_accepted, !is_accepted),
                "{previous_algorithm:?} {now}"
            );
        }
    }

    // docs/design/security.md#rule-16
    #[test]
    fn token_with_invalid_claim_is_rejected() {
        type Change = fn(&mut Claims);
        let keys = fixture::keys("t");
        let changes: [(Change, TokenFault); 11] = [
            (|claims| claims.iss = "other".into(), TokenFault::Forged),
            (|claims| claims.aud = "other".into(), TokenFault::Forged),
            (|claims| claims.user_type = "ROOT".into(), TokenFault::Forged),
            (|claims| claims.user_type = "CONSUMER".into(), TokenFault::Forged),
            (|claims| claims.org_id = None, TokenFault::Forged),
            (|claims| claims.customer_id = Some("other".into()), TokenFault::Forged),
            (|claims| claims.sub = "other".into(), TokenFault::Malformed),
            (|claims| claims.session_id = Some(SessionId::from_random([6; 16])), TokenFault::Malformed),
            (|claims| claims.nbf = Some(1_007), TokenFault::Expired),
            (|claims| (claims.iat, claims.nbf) = (1_007, Some(1_000)), TokenFault::Expired),
            (|claims| claims.tenant_id = TenantId::parse("other").unwrap(), TokenFault::Malformed),
        ];
        for (change, fault) in changes {
            let mut invalid = claims();
            change(&mut invalid);
            let token = invalid.sign(&keys, &Policy::default()).unwrap();
            assert_eq!(fault_of(token.expose_secret()), Some(fault), "{invalid:?}");
        }
        let started = Claims { nbf: Some(1_006), ..claims() };
        let token = started.sign(&keys, &Policy::default()).unwrap();
        assert_eq!(fault_of(token.expose_secret()), None, "5 s of leeway");
    }

    #[test]
    fn token_of_an_earlier_version_without_the_newer_claims_is_accepted() {
        let keys = fixture::keys("t");
        let old = Claims { session_id: None, customer_id: None, ..claims() };
        let token = old.sign(&keys, &Policy::default()).unwrap();
        let bearer = verify(token.expose_secret(), 1_001).unwrap();
        assert_eq!((bearer.owner.as_str(), bearer.session), ("o", claims().sid));
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC{0,300}") {
            let _ = Unverified::parse(&SecretString::from(text));
        }

        // docs/design/security.md#rule-16
        #[test]
        fn token_with_changed_character_is_rejected(position in any::<prop::sample::Index>(), replacement in "[A-Za-z0-9_.-]") {
            let token = claims().sign(&fixture::keys("t"), &policy(crate::domain::SigningAlgorithm::Hs256)).unwrap();
            let token = token.expose_secret();
            let at = position.index(token.len());
            let mut changed = token.to_owned();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != *token);
            prop_assert!(verify(&changed, 1_001).is_err());
        }
    }
}
