//! Hashing and verification of passwords, on blocking threads and with limited memory.
//!
//! New passwords are hashed with argon2id. Imported bcrypt, scrypt and PBKDF2 hashes are verified, and replaced at
//! the first login that proves the whole password (docs/design/security.md#rule-4). Until then, the response time can
//! reveal that the user exists, because the cost of the imported hash differs from the cost of the dummy hash for
//! unknown users (docs/design/security.md#rule-9).

mod argon2id;
mod imported;

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Block, password_hash::phc};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::{
    argon2id::{Argon2Hash, HASH_BYTES, SALT_BYTES},
    imported::Imported,
};

use crate::{
    domain::{Failure, HashCost, Invalid, Password, PasswordHash},
    port::{Entropy, PasswordCheck, Passwords, random},
};

const FORM: Invalid = Invalid::new(
    "must be a bcrypt hash, or a PHC string with a salt of 8 to 48 bytes and a hash of 10 to 64 bytes",
);
const NO_SALT_OR_HASH: Invalid = Invalid::new("must contain a salt and a hash");
/// Maximum size of a buffer that is reused, in blocks of 1 KiB: the memory of a hash with the default cost.
const REUSED_BLOCKS: usize = 19_456;
/// Memory of a function that is not available for hashing.
const RESERVED_MIB: usize = 64;

/// Hashes passwords with argon2id (docs/design/security.md#rule-4).
///
/// Memory buffers are reused. Otherwise, the page faults for 19 MiB of new memory would take as long as the hashing
/// (docs/performance.md).
#[derive(Clone)]
pub struct Argon2id {
    entropy: Arc<dyn Entropy>,
    /// One permit per core.
    cores: Arc<Semaphore>,
    /// One permit per MiB.
    memory: Arc<Semaphore>,
    memory_mib: u32,
    arenas: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Argon2id {
    /// Creates a hasher for a function with `memory_mib` and `cores`, which limit the number of concurrent hashes
    /// (docs/design/security.md#rule-11).
    pub fn new(entropy: Arc<dyn Entropy>, memory_mib: usize, cores: usize) -> Self {
        let memory_mib = u32::try_from(memory_mib.saturating_sub(RESERVED_MIB)).unwrap_or(u32::MAX).max(1);
        Self {
            entropy,
            cores: Arc::new(Semaphore::new(cores.max(1))),
            memory: Arc::new(Semaphore::new(memory_mib as usize)),
            memory_mib,
            arenas: Arc::default(),
        }
    }

    /// Runs `work` on a blocking thread as soon as a core and `needed_mib` of memory are free.
    async fn run<T: Send + 'static>(
        &self,
        needed_mib: u64,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let closed = |closed| Failure::Internal(Box::new(closed));
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(closed)?;
        let needed = u32::try_from(needed_mib).unwrap_or(u32::MAX);
        if needed > self.memory_mib {
            let problem =
                format!("a hash needs {needed} MiB, but the function has only {} MiB", self.memory_mib);
            return Err(Failure::Unavailable(problem.into()));
        }
        let memory = Arc::clone(&self.memory).acquire_many_owned(needed).await.map_err(closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // The task holds the permits, so that an aborted request does not release memory that is in use.
            let _permits = (core, memory);
            work()
        });
        task.await.map_err(|panicked| Failure::Internal(Box::new(panicked)))?
    }

    /// Runs `work` like [`Self::run`], with a memory buffer of `blocks` blocks.
    async fn run_in_blocks<T: Send + 'static>(
        &self,
        blocks: usize,
        work: impl FnOnce(&mut [Block]) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let arenas = Arc::clone(&self.arenas);
        self.run(blocks.div_ceil(1024) as u64, move || {
            let mut arena = arenas.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            if arena.len() < blocks {
                arena.resize(blocks, Block::new());
            }
            let done = arena.get_mut(..blocks).map_or_else(|| Err(argon2id::out_of_bounds()), work);
            // Larger buffers are not reused, because the permits of a default hash do not cover them.
            if arena.len() <= REUSED_BLOCKS {
                arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
            }
            done
        })
        .await
    }
}

#[async_trait]
impl Passwords for Argon2id {
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        cost: HashCost,
    ) -> Result<PasswordCheck, Failure> {
        let kept = match &hash {
            Some(hash) => StoredHash::parse(hash).map_err(unusable)?,
            None => StoredHash::Argon2id(Argon2Hash::dummy(cost)?),
        };
        let checked = match kept {
            StoredHash::Argon2id(kept) => {
                self.run_in_blocks(kept.blocks(), move |memory| {
                    let matching = matching_form(&password, |text| kept.verify(text, memory))?;
                    Ok(matching.map(|(form, _)| kept.replacement(form, cost)))
                })
                .await?
            }
            StoredHash::Imported(kept) => {
                self.run(kept.memory_mib(), move || {
                    let matching = matching_form(&password, |text| kept.verify(text))?;
                    Ok(matching.map(|(_, text)| kept.proves(text).then(|| cost.bounded())))
                })
                .await?
            }
        };
        Ok(match checked {
            // The dummy hash for unknown users never matches.
            Some(replacement) if hash.is_some() => {
                replacement.map_or(PasswordCheck::Right, PasswordCheck::Outdated)
            }
            _ => PasswordCheck::Wrong,
        })
    }

    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure> {
        let params = argon2id::params(cost)?;
        let salt: [u8; SALT_BYTES] = random(&*self.entropy)?;
        self.run_in_blocks(params.block_count(), move |memory| {
            argon2id::hash(&params, &password, &salt, memory)
        })
        .await
    }
}

/// Form in which a password matched a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatchedForm {
    /// NFC, which Doorward hashes.
    Nfc,
    /// As sent, which only other systems hash.
    Sent,
}

/// Returns the form of the password that `verify` accepts, and its bytes.
///
/// Verifies each form even if the first one matches, so that the number of hashes depends only on the request
/// (docs/design/security.md#rule-9).
fn matching_form(
    password: &Password,
    mut verify: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<Option<(MatchedForm, &[u8])>, Failure> {
    let nfc = verify(password.as_bytes())?.then_some((MatchedForm::Nfc, password.as_bytes()));
    let sent = match password.sent_bytes() {
        Some(sent) => verify(sent)?.then_some((MatchedForm::Sent, sent)),
        None => None,
    };
    Ok(nfc.or(sent))
}

/// Checks that a hash can be verified: its scheme is known and its cost is within the limits
/// (docs/design/security.md#rule-4, #rule-11).
///
/// # Errors
/// [`Invalid`] with the rule that the hash breaks. The message does not quote the hash.
pub fn check_hash(hash: &PasswordHash) -> Result<(), Invalid> {
    StoredHash::parse(hash).map(|_| ())
}

/// Creates a random hash, for users who have not set a password yet. No known password matches it, and its
/// verification costs the same as others (docs/design/security.md#rule-9).
///
/// # Errors
/// `Internal` if the system provides no randomness.
pub fn random_hash(entropy: &dyn Entropy, cost: HashCost) -> Result<PasswordHash, Failure> {
    let (salt, hash): ([u8; SALT_BYTES], [u8; HASH_BYTES]) = (random(entropy)?, random(entropy)?);
    argon2id::phc_text(&argon2id::params(cost)?, &salt, &hash)
}

/// A stored hash whose cost is within the limits.
enum StoredHash {
    Argon2id(Argon2Hash),
    Imported(Imported),
}

impl StoredHash {
    fn parse(stored: &PasswordHash) -> Result<Self, Invalid> {
        if let Some(bcrypt) = Imported::bcrypt(stored)? {
            return Ok(Self::Imported(bcrypt));
        }
        let parsed = phc::PasswordHash::new(stored.as_phc()).map_err(|_| FORM)?;
        match Imported::phc(&parsed)? {
            Some(imported) => Ok(Self::Imported(imported)),
            None => Argon2Hash::parse(&parsed).map(Self::Argon2id),
        }
    }
}

fn unusable(why: Invalid) -> Failure {
    Failure::Internal(format!("a stored password hash is not supported; it {why}").into())
}

#[cfg(test)]
mod tests {
    use argon2::{Argon2, password_hash::PasswordVerifier};
    use futures_util::FutureExt;

    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
            bytes.fill(42);
            Ok(())
        }
    }

    // Hashes of "pässwörd 1" from Python's bcrypt and hashlib.
    const BCRYPT: &str = "$2b$04$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
    const SCRYPT: &str =
        "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk";
    const PBKDF2: &str =
        "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc";
    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn hasher() -> Argon2id {
        Argon2id::new(Arc::new(Counting), 512, 2)
    }

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[tokio::test]
    async fn hash_verifies_only_its_password() {
        let hash = hasher().hash(password("right"), CHEAP).await.unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.as_phc());
        assert!(hasher().verify(password("right"), Some(hash.clone()), CHEAP).await.unwrap().is_right());
        assert!(!hasher().verify(password("wrong"), Some(hash), CHEAP).await.unwrap().is_right());
        assert!(!hasher().verify(password("right"), None, CHEAP).await.unwrap().is_right());
    }

    // docs/design/security.md#rule-4: the reference implementation verifies the hash with its stored parameters.
    #[tokio::test]
    async fn reference_implementation_verifies_hashes_from_reused_memory() {
        let hasher = hasher();
        for cost in [HashCost::default(), CHEAP, HashCost { memory_kib: 128, passes: 3, lanes: 2 }] {
            let hash = hasher.hash(password("pässwörd"), cost).await.unwrap();
            let parsed = phc::PasswordHash::new(hash.as_phc()).unwrap();
            assert!(Argon2::default().verify_password("pässwörd".as_bytes(), &parsed).is_ok());
            assert!(hasher.verify(password("pässwörd"), Some(hash), CHEAP).await.unwrap().is_right());
        }
        assert!(hasher.arenas.lock().unwrap().len() <= 2, "one arena per core");
    }

    // docs/design/security.md#rule-4
    #[tokio::test]
    async fn hash_is_replaced_unless_the_new_hash_would_be_weaker() {
        let hasher = hasher();
        let stored = HashCost { memory_kib: 64, passes: 2, lanes: 1 };
        let hash = hasher.hash(password("right"), stored).await.unwrap();
        let checked = async |text: &str, hash: &str, policy| {
            let hash = PasswordHash::from_phc(hash.to_owned());
            hasher.verify(password(text), Some(hash), policy).await.unwrap()
        };
        let current = async |policy| checked("right", hash.as_phc(), policy).await;
        assert_eq!(current(stored).await, PasswordCheck::Right);
        for dearer in [
            HashCost { memory_kib: 65, ..stored },
            HashCost { passes: 3, ..stored },
            HashCost { lanes: 2, ..stored },
        ] {
            assert_eq!(current(dearer).await, PasswordCheck::Outdated(dearer));
        }
        for weaker in [
            HashCost { memory_kib: 63, ..stored },
            HashCost { passes: 1, ..stored },
            HashCost { memory_kib: 1_024, passes: 1, ..stored },
            HashCost { memory_kib: 63, passes: 3, lanes: 2 },
        ] {
            assert_eq!(current(weaker).await, PasswordCheck::Right, "{weaker:?}");
        }
        // A shorter hash of "right", and imported ones, are replaced at the same cost.
        let params = argon2::Params::new(64, 2, 1, Some(16)).unwrap();
        let mut made = [0; 16];
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params.clone())
            .hash_password_into(b"right", &[42; SALT_BYTES], &mut made)
            .unwrap();
        let short = argon2id::phc_text(&params, &[42; SALT_BYTES], &made).unwrap();
        assert_eq!(checked("right", short.as_phc(), stored).await, PasswordCheck::Outdated(stored));
        for text in [BCRYPT, SCRYPT, PBKDF2] {
            assert_eq!(checked("pässwörd 1", text, stored).await, PasswordCheck::Outdated(stored), "{text}");
        }
    }

    // docs/design/security.md#rule-4: the new hash is of the text in NFC, and is not weaker than the stored one.
    #[tokio::test]
    async fn hash_of_the_sent_form_is_replaced() {
        // Argon2id hash of "Fläche für Gemüse" in NFD.
        let hash = "$argon2id$v=19$m=1024,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$cHwBx0emXvDDDL/Vy1xuvwtcEyz6YVh4BXFibV0NDp0";
        let (composed, decomposed) =
            ("Fl\u{e4}che f\u{fc}r Gem\u{fc}se", "Fla\u{308}che fu\u{308}r Gemu\u{308}se");
        let checked = async |text, policy| {
            let hash = PasswordHash::from_phc(hash.to_owned());
            hasher().verify(password(text), Some(hash), policy).await.unwrap()
        };
        for (policy, memory_kib, passes) in [
            (HashCost { memory_kib: 64, passes: 3, lanes: 1 }, 1_024, 3),
            (HashCost { memory_kib: 2_048, passes: 1, lanes: 1 }, 2_048, 2),
            (HashCost { memory_kib: 1_024, passes: 2, lanes: 1 }, 1_024, 2),
        ] {
            let strongest = HashCost { memory_kib, passes, lanes: 1 };
            assert_eq!(checked(decomposed, policy).await, PasswordCheck::Outdated(strongest));
            assert_eq!(checked(composed, policy).await, PasswordCheck::Wrong);
        }
    }

    // docs/design/security.md#rule-9: which form matches does not change the number of hashes.
    #[test]
    fn every_form_of_a_password_is_verified() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        for (sent, right, form, count) in [
            (composed, composed, Some(MatchedForm::Nfc), 1),
            (composed, decomposed, None, 1),
            (decomposed, composed, Some(MatchedForm::Nfc), 2),
            (decomposed, decomposed, Some(MatchedForm::Sent), 2),
            (decomposed, "tea", None, 2),
        ] {
            let mut verified = 0;
            let password = password(sent);
            let found = matching_form(&password, |text| {
                verified += 1;
                Ok(text == right.as_bytes())
            });
            assert_eq!((found.unwrap().map(|(form, _)| form), verified), (form, count), "{sent} {right}");
        }
    }

    // docs/design/security.md#rule-4
    #[tokio::test]
    async fn imported_hashes_are_verified() {
        for text in [BCRYPT, SCRYPT, PBKDF2] {
            let kept = PasswordHash::from_phc(text.into());
            assert!(
                hasher().verify(password("pässwörd 1"), Some(kept.clone()), CHEAP).await.unwrap().is_right()
            );
            assert!(!hasher().verify(password("pässwörd 2"), Some(kept), CHEAP).await.unwrap().is_right());
        }
    }

    // docs/design/security.md#rule-11: a hash that needs 9 MiB does not fit 8 MiB.
    #[tokio::test]
    async fn scrypt_waits_for_memory() {
        let text = SCRYPT.replace("ln=10", "ln=13");
        let kept = || Some(PasswordHash::from_phc(text.clone()));
        let small = Argon2id::new(Arc::new(Counting), RESERVED_MIB + 8, 1);
        let refused = small.verify(password("x"), kept(), CHEAP).await;
        assert!(matches!(refused, Err(Failure::Unavailable(_))));
        let enough = Argon2id::new(Arc::new(Counting), RESERVED_MIB + 9, 1);
        let held = Arc::clone(&enough.memory).acquire_owned().await.unwrap();
        let mut verifying = Box::pin(enough.verify(password("x"), kept(), CHEAP));
        assert!(verifying.as_mut().now_or_never().is_none(), "it waits");
        drop(held);
        assert!(!verifying.await.unwrap().is_right());
    }

    #[tokio::test]
    async fn excessive_costs_are_rejected_before_memory_is_allocated() {
        let hostile = "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for text in [hostile, "", "$2b$10$abc", "plain"] {
            let kept = PasswordHash::from_phc(text.into());
            assert!(hasher().verify(password("x"), Some(kept), CHEAP).await.is_err(), "{text}");
        }
    }

    // docs/design/security.md#rule-9: the dummy hash is current and verified like all others, so that it cannot be
    // distinguished.
    #[tokio::test]
    async fn random_hash_is_verifiable_and_matches_no_password() {
        let (hasher, entropy) = (hasher(), crate::function::SystemEntropy);
        let [one, two] = [(); 2].map(|()| random_hash(&entropy, CHEAP).unwrap());
        assert_ne!(one.as_phc(), two.as_phc());
        let usual = hasher.hash(password("right"), CHEAP).await.unwrap();
        assert_eq!(one.as_phc().len(), usual.as_phc().len());
        assert!(check_hash(&one).is_ok());
        for text in ["right", "", "0"].into_iter().filter_map(|text| Password::parse(text).ok()) {
            assert!(!hasher.verify(text, Some(one.clone()), CHEAP).await.unwrap().is_right());
        }
        for text in [BCRYPT, SCRYPT, PBKDF2] {
            assert!(check_hash(&PasswordHash::from_phc(text.into())).is_ok(), "{text}");
        }
    }

    // docs/design/security.md#rule-4, #rule-11
    #[test]
    fn rejected_hash_has_its_reason_in_the_error() {
        let (salt, hash) = ("AQIDBAUGBwgJCgsMDQ4PEA", "6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc");
        let rest = "fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
        for (text, reason) in [
            (String::new(), "PHC string"),
            ("hunter2".into(), "PHC string"),
            (format!("$argon2id$v=19$m=64,t=1,p=1$AQIDBAU${hash}"), "salt of 8 to 48 bytes"),
            (format!("$argon2id$v=19$m=64,t=1,p=1${salt}$AQIDBAU"), "hash of 10 to 64 bytes"),
            (format!("$argon2id$v=19$m=64,t=1,p=1${salt}"), "a salt and a hash"),
            (format!("$argon2i$v=19$m=64,t=1,p=1${salt}${hash}"), "argon2id (v=19)"),
            (format!("$argon2id$v=16$m=64,t=1,p=1${salt}${hash}"), "argon2id (v=19)"),
            (format!("$argon2id$m=64,t=1,p=1${salt}${hash}"), "argon2id (v=19)"),
            (format!("$argon2id$v=19$m=64,t=1,p=1,keyid=AQID${salt}${hash}"), "no keyid"),
            (format!("$argon2id$v=19$m=131073,t=1,p=1${salt}${hash}"), "131072 KiB"),
            (format!("$argon2id$v=19$m=64,t=17,p=1${salt}${hash}"), "16 (t)"),
            (format!("$argon2id$v=19$m=64,t=1,p=5${salt}${hash}"), "4 (p)"),
            (format!("$2b$16${rest}"), "bcrypt cost of 4 to 15"),
            (format!("$2b$03${rest}"), "bcrypt cost of 4 to 15"),
            (format!("$2b$10${rest}x"), "60 characters"),
            // The last character of the salt has unused bits.
            (format!("$2b$04${}", rest.replacen("R.", "R/", 1)), "unused bits"),
            (format!("$scrypt$ln=18,r=8,p=1${salt}${hash}"), "4194304 and at most 129 MiB"),
            (format!("$scrypt$ln=10,r=8${salt}${hash}"), "ln, r and p"),
            (format!("$scrypt$v=1$ln=10,r=8,p=1${salt}${hash}"), "ln, r and p"),
            (format!("$pbkdf2-sha256$i=5000001${salt}${hash}"), "1 to 5000000"),
            (format!("$pbkdf2-sha256$i=0${salt}${hash}"), "1 to 5000000"),
            (format!("$pbkdf2-sha256$i=1000,l=31${salt}${hash}"), "the length of the hash"),
            (format!("$pbkdf2-md5$i=1000${salt}${hash}"), "PBKDF2 (sha256, sha512, sha1)"),
        ] {
            let error = check_hash(&PasswordHash::from_phc(text.clone())).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    // docs/design/security.md#rule-11
    #[test]
    fn concurrent_hashes_are_limited_by_memory_and_cores() {
        let permits = |memory, cores| {
            let hasher = Argon2id::new(Arc::new(Counting), memory, cores);
            (hasher.memory.available_permits(), hasher.cores.available_permits())
        };
        assert_eq!(permits(128, 4), (64, 4));
        assert_eq!(permits(0, 0), (1, 1));
    }

    // docs/design/security.md#rule-11
    #[tokio::test(flavor = "multi_thread")]
    async fn hash_waits_until_memory_is_available() {
        let hasher = Argon2id::new(Arc::new(Counting), RESERVED_MIB + 4, 4);
        let cost = HashCost { memory_kib: 4_096, passes: 1, lanes: 1 };
        let held = Arc::clone(&hasher.memory).acquire_owned().await.unwrap();
        let mut hashing = Box::pin(hasher.hash(password("right"), cost));
        assert!(hashing.as_mut().now_or_never().is_none(), "it waits");
        drop(held);
        assert!(hashing.await.is_ok());
        let larger = HashCost { memory_kib: 5_000, ..cost };
        let refused = hasher.hash(password("right"), larger).await;
        assert!(matches!(refused, Err(Failure::Unavailable(_))), "a hash that does not fit is rejected");
        let large = HashCost { memory_kib: 32 * 1024, passes: 1, lanes: 1 };
        let roomy = Argon2id::new(Arc::new(Counting), 512, 2);
        assert!(roomy.hash(password("right"), large).await.is_ok());
        assert!(roomy.arenas.lock().unwrap().is_empty(), "larger buffers are not reused");
    }
}
