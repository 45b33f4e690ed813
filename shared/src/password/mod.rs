//! Hashing and verification of passwords, on blocking threads and with limited memory.
//!
//! New passwords are hashed with argon2id. Imported bcrypt, scrypt and PBKDF2 hashes are verified, and replaced at
//! the first login (docs/design/security.md#rule-4). Until then, the response time can reveal that the user exists,
//! because the cost of the imported hash differs from the cost of the dummy hash for unknown users
//! (docs/design/security.md#rule-9).

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
    domain::{Failure, HashCost, Password, PasswordHash},
    port::{Entropy, Passwords, random},
};

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
    ) -> Result<bool, Failure> {
        let kept = match &hash {
            Some(hash) => StoredHash::parse(hash)?,
            None => StoredHash::Argon2id(Argon2Hash::dummy(cost)?),
        };
        let matches = match kept {
            StoredHash::Argon2id(kept) => {
                self.run_in_blocks(kept.blocks(), move |memory| kept.verify(&password, memory)).await?
            }
            StoredHash::Imported(kept) => self.run(kept.memory_mib(), move || kept.verify(&password)).await?,
        };
        // The dummy hash for unknown users never matches.
        Ok(matches && hash.is_some())
    }

    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure> {
        let params = argon2id::params(cost)?;
        let salt: [u8; SALT_BYTES] = random(&*self.entropy)?;
        self.run_in_blocks(params.block_count(), move |memory| {
            argon2id::hash(&params, &password, &salt, memory)
        })
        .await
    }

    fn is_current(&self, hash: &PasswordHash, cost: HashCost) -> bool {
        matches!(StoredHash::parse(hash), Ok(StoredHash::Argon2id(kept)) if kept.has_cost(cost))
    }
}

/// Returns whether this hash can be verified: its scheme is known and its cost is within the limits
/// (docs/design/security.md#rule-4, #rule-11).
pub fn is_verifiable(hash: &PasswordHash) -> bool {
    StoredHash::parse(hash).is_ok()
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
    fn parse(stored: &PasswordHash) -> Result<Self, Failure> {
        if let Some(bcrypt) = Imported::bcrypt(stored)? {
            return Ok(Self::Imported(bcrypt));
        }
        let parsed = phc::PasswordHash::new(stored.as_phc()).map_err(|_| unusable())?;
        match Imported::phc(&parsed)? {
            Some(imported) => Ok(Self::Imported(imported)),
            None => Argon2Hash::parse(&parsed).map(Self::Argon2id),
        }
    }
}

fn unusable() -> Failure {
    Failure::Internal("the scheme or cost of a stored password hash is not supported".into())
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
        assert!(hasher().verify(password("right"), Some(hash.clone()), CHEAP).await.unwrap());
        assert!(!hasher().verify(password("wrong"), Some(hash), CHEAP).await.unwrap());
        assert!(!hasher().verify(password("right"), None, CHEAP).await.unwrap());
    }

    // docs/design/security.md#rule-4: the reference implementation verifies the hash with its stored parameters.
    #[tokio::test]
    async fn reference_implementation_verifies_hashes_from_reused_memory() {
        let hasher = hasher();
        for cost in [HashCost::default(), CHEAP, HashCost { memory_kib: 128, passes: 3, lanes: 2 }] {
            let hash = hasher.hash(password("pässwörd"), cost).await.unwrap();
            let parsed = phc::PasswordHash::new(hash.as_phc()).unwrap();
            assert!(Argon2::default().verify_password("pässwörd".as_bytes(), &parsed).is_ok());
            assert!(hasher.verify(password("pässwörd"), Some(hash), CHEAP).await.unwrap());
        }
        assert!(hasher.arenas.lock().unwrap().len() <= 2, "one arena per core");
    }

    // docs/design/security.md#rule-4
    #[tokio::test]
    async fn hash_is_current_if_its_parameters_match_the_policy() {
        let hasher = hasher();
        let hash = hasher.hash(password("right"), CHEAP).await.unwrap();
        assert!(hasher.is_current(&hash, CHEAP));
        for other in [
            HashCost { memory_kib: 65, ..CHEAP },
            HashCost { passes: 2, ..CHEAP },
            HashCost { memory_kib: 32, ..CHEAP },
            HashCost { lanes: 2, ..CHEAP },
        ] {
            assert!(!hasher.is_current(&hash, other), "{other:?}");
        }
        let short = "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6g";
        for text in [short, BCRYPT, SCRYPT, "plain"] {
            assert!(!hasher.is_current(&PasswordHash::from_phc(text.into()), CHEAP), "{text}");
        }
        // A cost beyond the limits is clamped, and the hash is current.
        let absurd = HashCost { memory_kib: 1, passes: 0, lanes: 1 };
        let least = hasher.hash(password("right"), absurd).await.unwrap();
        assert!(hasher.is_current(&least, absurd));
    }

    // docs/design/security.md#rule-4
    #[tokio::test]
    async fn imported_hashes_are_verified() {
        for text in [BCRYPT, SCRYPT, PBKDF2] {
            let kept = PasswordHash::from_phc(text.into());
            assert!(hasher().verify(password("pässwörd 1"), Some(kept.clone()), CHEAP).await.unwrap());
            assert!(!hasher().verify(password("pässwörd 2"), Some(kept), CHEAP).await.unwrap());
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
        assert!(!verifying.await.unwrap());
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
        assert!(is_verifiable(&one) && hasher.is_current(&one, CHEAP));
        for text in ["right", "", "0"].into_iter().filter_map(|text| Password::parse(text).ok()) {
            assert!(!hasher.verify(text, Some(one.clone()), CHEAP).await.unwrap());
        }
        for text in [BCRYPT, SCRYPT, PBKDF2] {
            assert!(is_verifiable(&PasswordHash::from_phc(text.into())), "{text}");
        }
        for text in ["", "hunter2", "$2b$31$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu"] {
            assert!(!is_verifiable(&PasswordHash::from_phc(text.into())), "{text}");
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
