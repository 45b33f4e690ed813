//! argon2id, off the async threads and bounded by memory.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc};
use async_trait::async_trait;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    domain::{Failure, HashCost, Password, PasswordHash},
    port::{Entropy, Passwords, random},
};

/// Bytes of a salt and of a hash.
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Memory that is kept, in blocks of 1 KiB: a hash of the usual cost.
const KEPT_BLOCKS: usize = 19_456;
/// What a function needs besides hashing.
const RESERVED_MIB: usize = 64;

/// Hashes with argon2id (security 4). Its memory is kept and used again: giving 19 MiB back to the
/// allocator after each login would cost as much in page faults as the hashing itself
/// (docs/performance.md).
#[derive(Clone)]
pub struct Argon2id {
    entropy: Arc<dyn Entropy>,
    /// One permit a core.
    cores: Arc<Semaphore>,
    /// One permit a MiB.
    memory: Arc<Semaphore>,
    memory_mib: u32,
    arenas: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Argon2id {
    /// A hasher for a function with `memory_mib` and `cores`: no more hashes at once than either has
    /// room for (security 11).
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

    /// Runs `work` on a blocking thread with memory for `blocks`, when one of the slots is free.
    async fn run<T: Send + 'static>(
        &self,
        blocks: usize,
        work: impl FnOnce(&mut [Block]) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let closed = |closed| Failure::Internal(Box::new(closed));
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(closed)?;
        let needed = u32::try_from(blocks.div_ceil(1024)).unwrap_or(u32::MAX);
        if needed > self.memory_mib {
            let problem =
                format!("a hash of {needed} MiB does not fit the function's {} MiB", self.memory_mib);
            return Err(Failure::Unavailable(problem.into()));
        }
        let memory = Arc::clone(&self.memory).acquire_many_owned(needed).await.map_err(closed)?;
        let arenas = Arc::clone(&self.arenas);
        let task = tokio::task::spawn_blocking(move || {
            // The permits go along: a request that gives up does not free memory still in use.
            let _permits = (core, memory);
            let mut arena = arenas.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            if arena.len() < blocks {
                arena.resize(blocks, Block::new());
            }
            let done = arena.get_mut(..blocks).map_or_else(|| Err(out_of_bounds()), work);
            // What is kept for the next hash stays within what the permits of a usual one cover.
            if arena.len() <= KEPT_BLOCKS {
                arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
            }
            done
        });
        task.await.map_err(|panicked| Failure::Internal(Box::new(panicked)))?
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
        let parsed = match &hash {
            Some(hash) => Kept::parse(hash)?,
            None => Kept {
                params: params(cost)?,
                salt: vec![0; SALT_BYTES],
                hash: Zeroizing::new(vec![0; HASH_BYTES]),
            },
        };
        let matches = self
            .run(parsed.params.block_count(), move |memory| {
                let made = digest(&parsed.params, &password, &parsed.salt, parsed.hash.len(), memory)?;
                Ok(aws_lc_rs::constant_time::verify_slices_are_equal(&made, &parsed.hash).is_ok())
            })
            .await?;
        // What was hashed without a kept hash matches nothing, whatever it gave.
        Ok(matches && hash.is_some())
    }

    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure> {
        let params = params(cost)?;
        let salt: [u8; SALT_BYTES] = random(&*self.entropy)?;
        self.run(params.block_count(), move |memory| {
            let made = digest(&params, &password, &salt, HASH_BYTES, memory)?;
            phc_text(&params, &salt, &made)
        })
        .await
    }
}

/// A hash as kept, taken apart.
struct Kept {
    params: Params,
    salt: Vec<u8>,
    hash: Zeroizing<Vec<u8>>,
}

impl Kept {
    fn parse(kept: &PasswordHash) -> Result<Self, Failure> {
        let unusable = || Failure::Internal("a kept password hash is not one of ours".into());
        let parsed = phc::PasswordHash::new(kept.as_phc()).map_err(|_| unusable())?;
        if parsed.algorithm.as_str() != Algorithm::Argon2id.as_str()
            || parsed.version != Some(Version::V0x13.into())
        {
            return Err(unusable());
        }
        let params = Params::try_from(&parsed).map_err(|_| unusable())?;
        let (salt, hash) = parsed.salt.zip(parsed.hash).ok_or_else(unusable)?;
        // A stored hash must not be able to exhaust a function.
        let cost = HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        if cost != cost.bounded() {
            return Err(unusable());
        }
        Ok(Self { params, salt: salt.as_ref().to_vec(), hash: Zeroizing::new(hash.as_bytes().to_vec()) })
    }
}

fn params(cost: HashCost) -> Result<Params, Failure> {
    let cost = cost.bounded();
    Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(HASH_BYTES)).map_err(|_| out_of_bounds())
}

fn out_of_bounds() -> Failure {
    Failure::Internal("the tenant's hash cost is out of bounds".into())
}

fn digest(
    params: &Params,
    password: &Password,
    salt: &[u8],
    length: usize,
    memory: &mut [Block],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut out = Zeroizing::new(vec![0; length]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory)
        .map_err(|error| Failure::Internal(error.to_string().into()))?;
    Ok(out)
}

fn phc_text(params: &Params, salt: &[u8], hash: &[u8]) -> Result<PasswordHash, Failure> {
    let broken = |what: &str| Failure::Internal(format!("a new hash could not be written: {what}").into());
    let text = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: phc::ParamsString::try_from(params).map_err(|_| broken("parameters"))?,
        salt: Some(phc::Salt::new(salt).map_err(|_| broken("salt"))?),
        hash: Some(phc::Output::new(hash).map_err(|_| broken("hash"))?),
    };
    Ok(PasswordHash::from_phc(text.to_string()))
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier;
    use futures_util::FutureExt;

    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
            bytes.fill(42);
            Ok(())
        }
    }

    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn hasher() -> Argon2id {
        Argon2id::new(Arc::new(Counting), 512, 2)
    }

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only() {
        let hash = hasher().hash(password("right"), CHEAP).await.unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.as_phc());
        assert!(hasher().verify(password("right"), Some(hash.clone()), CHEAP).await.unwrap());
        assert!(!hasher().verify(password("wrong"), Some(hash), CHEAP).await.unwrap());
        assert!(!hasher().verify(password("right"), None, CHEAP).await.unwrap());
    }

    // security 4: the reference implementation agrees, with the parameters in the text.
    #[tokio::test]
    async fn the_reference_agrees_also_on_used_memory() {
        let hasher = hasher();
        for cost in [HashCost::default(), CHEAP, HashCost { memory_kib: 128, passes: 3, lanes: 2 }] {
            let hash = hasher.hash(password("pässwörd"), cost).await.unwrap();
            let parsed = phc::PasswordHash::new(hash.as_phc()).unwrap();
            assert!(Argon2::default().verify_password("pässwörd".as_bytes(), &parsed).is_ok());
            assert!(hasher.verify(password("pässwörd"), Some(hash), CHEAP).await.unwrap());
        }
        assert!(hasher.arenas.lock().unwrap().len() <= 2, "one arena per core");
    }

    #[tokio::test]
    async fn hostile_costs_are_refused_before_memory_is_taken() {
        let hostile = "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for text in [hostile, "", "$2b$10$abc", "plain"] {
            let kept = PasswordHash::from_phc(text.into());
            assert!(hasher().verify(password("x"), Some(kept), CHEAP).await.is_err(), "{text}");
        }
    }

    // security 11
    #[test]
    fn hashes_at_once_are_bounded_by_memory_and_cores() {
        let permits = |memory, cores| {
            let hasher = Argon2id::new(Arc::new(Counting), memory, cores);
            (hasher.memory.available_permits(), hasher.cores.available_permits())
        };
        assert_eq!(permits(128, 4), (64, 4));
        assert_eq!(permits(0, 0), (1, 1));
    }

    // security 11
    #[tokio::test(flavor = "multi_thread")]
    async fn one_hash_waits_for_the_memory_of_another() {
        let hasher = Argon2id::new(Arc::new(Counting), RESERVED_MIB + 4, 4);
        let cost = HashCost { memory_kib: 4_096, passes: 1, lanes: 1 };
        let held = Arc::clone(&hasher.memory).acquire_owned().await.unwrap();
        let mut hashing = Box::pin(hasher.hash(password("right"), cost));
        assert!(hashing.as_mut().now_or_never().is_none(), "it waits");
        drop(held);
        assert!(hashing.await.is_ok());
        let larger = HashCost { memory_kib: 5_000, ..cost };
        let refused = hasher.hash(password("right"), larger).await;
        assert!(matches!(refused, Err(Failure::Unavailable(_))), "what does not fit is not begun");
        let large = HashCost { memory_kib: 32 * 1024, passes: 1, lanes: 1 };
        let roomy = Argon2id::new(Arc::new(Counting), 512, 2);
        assert!(roomy.hash(password("right"), large).await.is_ok());
        assert!(roomy.arenas.lock().unwrap().is_empty(), "and what is larger than usual is not kept");
    }
}
