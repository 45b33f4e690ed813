//! Verification of hashes imported from other systems, until the first login replaces them (docs/design/security.md#rule-4).

use std::{num::NonZeroU32, ops::RangeInclusive};

use argon2::password_hash::phc;
use aws_lc_rs::pbkdf2;
use bcrypt::HashParts;
use zeroize::Zeroizing;

use super::{NO_SALT_OR_HASH, unusable};
use crate::domain::{Failure, HashCost, Invalid, PasswordHash};

/// Allowed bcrypt costs: from the minimum of bcrypt to 2^15 rounds, which take seconds.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=15;
/// Maximum number of PBKDF2 iterations: several times the recommendations.
const MAX_PBKDF2_ITERATIONS: u32 = 5_000_000;
/// Maximum of scrypt's N·r·p: four times the strongest setting of the OWASP Password Storage Cheat Sheet.
const MAX_SCRYPT_WORK: u64 = 1 << 22;
/// Maximum memory of one scrypt hash in MiB: the maximum of an argon2id hash, plus 1 MiB because scrypt needs
/// slightly more than 128 MiB at the strongest setting of that sheet.
const MAX_SCRYPT_MIB: u64 = HashCost::MAX_MEMORY_KIB as u64 / 1024 + 1;

const BCRYPT_FORM: Invalid =
    Invalid::new("must be a bcrypt hash of 60 characters in which the unused bits of salt and hash are zero");
const BCRYPT_COST: Invalid = Invalid::new("must have a bcrypt cost of 4 to 15");
const SCRYPT_PARAMS: Invalid = Invalid::new("must have exactly the scrypt parameters ln, r and p");
const SCRYPT_COST: Invalid = Invalid::new(
    "must have scrypt parameters of RFC 7914, with N·r·p of at most 4194304 and at most 129 MiB",
);
const PBKDF2_PARAMS: Invalid = Invalid::new(
    "must have the PBKDF2 parameter i, optionally l with the length of the hash, and no other parameter",
);
const PBKDF2_COST: Invalid = Invalid::new("must have 1 to 5000000 PBKDF2 iterations");

/// Number of bytes that bcrypt reads. It appends a zero byte to the password if there is room.
const BCRYPT_BYTES: usize = 72;

/// A hash of another scheme.
pub(super) enum Imported {
    /// `$2a$`, `$2b$` or `$2y$`, which are one scheme. Every text with the same first 72 bytes matches.
    Bcrypt(PasswordHash),
    /// `$scrypt$ln=…,r=…,p=…$salt$hash` (RFC 7914).
    Scrypt {
        /// Cost.
        params: scrypt::Params,
        /// Salt.
        salt: phc::Salt,
        /// Hash.
        hash: phc::Output,
    },
    /// `$pbkdf2-sha256$i=…[,l=…]$salt$hash`, also with `sha512` or `sha1`. No name means `sha1`
    /// (RFC 8018, section 5.2).
    Pbkdf2 {
        /// Hash function.
        algorithm: pbkdf2::Algorithm,
        /// Cost.
        iterations: NonZeroU32,
        /// Salt.
        salt: phc::Salt,
        /// Hash.
        hash: phc::Output,
    },
}

impl Imported {
    /// Parses a bcrypt hash, which is not a PHC string. Returns `None` for other schemes.
    ///
    /// # Errors
    /// [`Invalid`] if the hash is malformed or its cost exceeds the limit.
    pub(super) fn bcrypt(kept: &PasswordHash) -> Result<Option<Self>, Invalid> {
        let text = kept.as_phc();
        if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Ok(None);
        }
        let parts: HashParts = text.parse().map_err(|_| BCRYPT_FORM)?;
        if !BCRYPT_COSTS.contains(&parts.get_cost()) {
            return Err(BCRYPT_COST);
        }
        Ok(Some(Self::Bcrypt(kept.clone())))
    }

    /// Parses a scrypt or PBKDF2 hash. Returns `None` for other schemes.
    ///
    /// # Errors
    /// [`Invalid`] if the hash is malformed or its cost exceeds the limit.
    pub(super) fn phc(parsed: &phc::PasswordHash) -> Result<Option<Self>, Invalid> {
        let algorithm = match parsed.algorithm.as_str() {
            "scrypt" => None,
            "pbkdf2-sha256" => Some(pbkdf2::PBKDF2_HMAC_SHA256),
            "pbkdf2-sha512" => Some(pbkdf2::PBKDF2_HMAC_SHA512),
            "pbkdf2-sha1" | "pbkdf2" => Some(pbkdf2::PBKDF2_HMAC_SHA1),
            _ => return Ok(None),
        };
        let (salt, hash) = parsed.salt.zip(parsed.hash).ok_or(NO_SALT_OR_HASH)?;
        if parsed.version.is_some() {
            return Err(if algorithm.is_none() { SCRYPT_PARAMS } else { PBKDF2_PARAMS });
        }
        let imported = match algorithm {
            None => Self::Scrypt { params: scrypt_params(&parsed.params)?, salt, hash },
            Some(algorithm) => {
                let iterations = pbkdf2_iterations(&parsed.params, hash.len())?;
                Self::Pbkdf2 { algorithm, iterations, salt, hash }
            }
        };
        Ok(Some(imported))
    }

    /// Memory for verification in MiB.
    pub(super) fn memory_mib(&self) -> u64 {
        match self {
            Self::Scrypt { params, .. } => scrypt_mib(params),
            Self::Bcrypt(_) | Self::Pbkdf2 { .. } => 1,
        }
    }

    /// Returns whether a match proves the whole password (docs/design/security.md#rule-4). bcrypt proves it only
    /// if it also read the zero byte at the end, and no zero byte before.
    pub(super) fn proves(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(_) => password.len() < BCRYPT_BYTES && !password.contains(&0),
            Self::Scrypt { .. } | Self::Pbkdf2 { .. } => true,
        }
    }

    /// Verifies a password.
    ///
    /// # Errors
    /// `Internal` if the scheme rejects the parameters.
    pub(super) fn verify(&self, password: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash.as_phc()).map_err(|_| unusable(BCRYPT_FORM)),
            Self::Scrypt { params, salt, hash } => {
                let mut made = Zeroizing::new(vec![0; hash.len()]);
                scrypt::scrypt(password, salt.as_ref(), params, &mut made)
                    .map_err(|_| unusable(SCRYPT_COST))?;
                Ok(aws_lc_rs::constant_time::verify_slices_are_equal(&made, hash.as_bytes()).is_ok())
            }
            Self::Pbkdf2 { algorithm, iterations, salt, hash } => {
                Ok(pbkdf2::verify(*algorithm, *iterations, salt.as_ref(), password, hash.as_bytes()).is_ok())
            }
        }
    }
}

/// Parses scrypt parameters.
///
/// # Errors
/// [`Invalid`] if a parameter is missing or unknown, or the cost exceeds the limit.
fn scrypt_params(params: &phc::ParamsString) -> Result<scrypt::Params, Invalid> {
    if !has_only(params, &["ln", "r", "p"]) {
        return Err(SCRYPT_PARAMS);
    }
    let decimal = |name: &str| params.get_decimal(name).ok_or(SCRYPT_PARAMS);
    let (log_n, r, p) = (decimal("ln")?, decimal("r")?, decimal("p")?);
    let work = 1_u64.checked_shl(log_n).and_then(|n| n.checked_mul(r.into())?.checked_mul(p.into()));
    if log_n == 0 || work.is_none_or(|work| work > MAX_SCRYPT_WORK) {
        return Err(SCRYPT_COST);
    }
    let log_n = u8::try_from(log_n).map_err(|_| SCRYPT_COST)?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| SCRYPT_COST)?;
    if scrypt_mib(&params) > MAX_SCRYPT_MIB { Err(SCRYPT_COST) } else { Ok(params) }
}

/// Returns the memory of scrypt in MiB: N + p + 1 blocks of 128·r bytes.
fn scrypt_mib(params: &scrypt::Params) -> u64 {
    let blocks = params.n() + u64::from(params.p()) + 1;
    (128 * u64::from(params.r()) * blocks).div_ceil(1024 * 1024)
}

/// Parses PBKDF2 parameters.
///
/// # Errors
/// [`Invalid`] if a parameter is missing or unknown, or the cost exceeds the limit.
fn pbkdf2_iterations(params: &phc::ParamsString, hash_bytes: usize) -> Result<NonZeroU32, Invalid> {
    let fits = params.get("l").is_none() || params.get_decimal("l").is_some_and(|l| l as usize == hash_bytes);
    if !has_only(params, &["i", "l"]) || !fits {
        return Err(PBKDF2_PARAMS);
    }
    let iterations = params.get_decimal("i").ok_or(PBKDF2_PARAMS)?;
    let iterations = NonZeroU32::new(iterations).ok_or(PBKDF2_COST)?;
    if iterations.get() > MAX_PBKDF2_ITERATIONS { Err(PBKDF2_COST) } else { Ok(iterations) }
}

/// Returns whether there are no other parameters, whose meaning would be unknown.
fn has_only(params: &phc::ParamsString, names: &[&str]) -> bool {
    params.iter().all(|(name, _)| names.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Imported, Invalid> {
        let kept = PasswordHash::from_phc(text.to_owned());
        if let Some(bcrypt) = Imported::bcrypt(&kept)? {
            return Ok(bcrypt);
        }
        let parsed = phc::PasswordHash::new(text).map_err(|_| Invalid::new("must be a PHC string"))?;
        Imported::phc(&parsed)?.ok_or(Invalid::new("must be a known scheme"))
    }

    fn verifies(text: &str, password: &str) -> bool {
        parse(text).unwrap().verify(password.as_bytes()).unwrap()
    }

    // docs/design/security.md#rule-4. The hashes are from Python's bcrypt 5.0 and hashlib.
    #[test]
    fn hashes_of_other_implementations_verify() {
        for text in [
            "$2b$04$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu",
            "$2a$05$iKCszkPR8bAAp5i5CQ7OW.8chRHPaI2JoqZgU0h0T6PUzCIXKv4Mm",
            "$2y$04$rCNS4REl2VAWjal4M.6kY.1YUnyuj1jhOvelATdLSuDTquNjhISHO",
            "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk",
            "$scrypt$ln=4,r=2,p=3$AQIDBAUGBwgJCgsMDQ4PEA$3HBfLzYwDfLXPZl5BaJX9xL1MbpxGxhtsDhs1FpCYwv5ogXy7XTrtYISKOEG1/9ugNtpL48J5FbSCewYul75CQ",
            "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc",
            "$pbkdf2-sha256$i=1000,l=16$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6g",
            "$pbkdf2-sha512$i=777$AQIDBAUGBwgJCgsMDQ4PEA$y10XonJN2EDMzuP4OaC3O4KLp/j1bXqwDbp4OBy0sTlwPAdAbMdyDFR7RpfhTHhZzN+pr1INL2nF2UxMkUC9Vw",
            "$pbkdf2-sha1$i=1$AQIDBAUGBwgJCgsMDQ4PEA$XpetvVQUixr4oOoCW944u2OXeUM",
            "$pbkdf2$i=10$AQIDBAUGBwgJCgsMDQ4PEA$h/yH/8Qn7mFP3YDnl5uMV1BqWlM",
        ] {
            assert!(verifies(text, "pässwörd 1"), "{text}");
            assert!(!verifies(text, "pässwörd 2"), "{text}");
            assert!(!verifies(text, "p"), "{text}");
        }
    }

    #[test]
    fn bcrypt_uses_the_first_72_bytes() {
        let hash = "$2b$04$Zipr1ZmFMlRVbt89Xn2n9e.SSbky87GKCxEUjv9zpgJp.G6tasRz.";
        assert!(verifies(hash, &"x".repeat(72)) && verifies(hash, &"x".repeat(80)));
        assert!(!verifies(hash, &"x".repeat(71)));
        for (password, is_proved) in [("x".repeat(71), true), ("x".repeat(72), false), ("x\0x".into(), false)]
        {
            assert_eq!(parse(hash).unwrap().proves(password.as_bytes()), is_proved, "{password:?}");
        }
    }

    // docs/design/security.md#rule-4, #rule-11: a stored hash cannot exhaust the memory of a function.
    #[test]
    fn excessive_costs_and_unknown_parameters_are_rejected() {
        let (salt, hash) = ("AQIDBAUGBwgJCgsMDQ4PEA", "6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc");
        let rest = "fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
        for head in ["$2b$16$", "$2b$31$", "$2b$03$", "$2b$99$", "$2x$04$", "$2$04$", "$2b$4$", "$2b$-1$"] {
            let text = format!("{head}{rest}");
            assert!(parse(&text).is_err(), "{text}");
        }
        for head in [
            "scrypt$ln=18,r=8,p=1",
            "scrypt$ln=17,r=8,p=5",
            "scrypt$ln=63,r=8,p=1",
            "scrypt$ln=64,r=8,p=1",
            "scrypt$ln=300,r=8,p=1",
            "scrypt$ln=1,r=4194304,p=1",
            "scrypt$ln=1,r=1,p=2097152",
            "scrypt$ln=1,r=4294967295,p=4294967295",
            "scrypt$ln=0,r=8,p=1",
            "scrypt$ln=10,r=0,p=1",
            "scrypt$ln=10,r=8",
            "scrypt$ln=10,r=8,p=1,x=1",
            "scrypt$v=1$ln=10,r=8,p=1",
            "pbkdf2-sha256$i=5000001",
            "pbkdf2-sha256$i=4294967295",
            "pbkdf2-sha256$i=0",
            "pbkdf2-sha256$l=32",
            "pbkdf2-sha256$i=1000,l=31",
            "pbkdf2-sha256$i=1000,x=1",
            "pbkdf2-sha256",
            "pbkdf2-md5$i=1000",
            "argon2i$v=19$m=64,t=1,p=1",
        ] {
            let text = format!("${head}${salt}${hash}");
            assert!(parse(&text).is_err(), "{text}");
        }
        for text in ["$scrypt$ln=10,r=8,p=1", "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    // docs/design/security.md#rule-11: the settings that the OWASP cheat sheet recommends are within the limits.
    #[test]
    fn scrypt_memory_includes_all_blocks() {
        let mib = |log_n, r, p| {
            parse(&format!(
            "$scrypt$ln={log_n},r={r},p={p}$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc"
        )).map(|hash| hash.memory_mib())
        };
        assert_eq!(mib(17, 8, 1).unwrap(), 129);
        assert_eq!(mib(13, 8, 10).unwrap(), 9);
        assert_eq!(mib(1, 1, 1_000_000).unwrap(), 123);
    }
}
