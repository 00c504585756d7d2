//! Tokens whose signature was checked before. Promises to spare a shopper's next request the curve arithmetic, in bounded
//! memory; whether the token is still good (its time, the account) is looked at each time.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

use farmgate_shared::ids::UserId;
use ring::digest::{SHA256, digest};

/// Tokens of one generation; two are kept.
const MOST: usize = 8192;

type Digest = [u8; 32];

/// What a token of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub user: UserId,
    pub version: u32,
    /// Seconds since 1970.
    pub issued_at: u64,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// What was read from tokens with a good signature, by the token's SHA-256.
#[derive(Debug, Default)]
pub struct Remembered {
    generations: Mutex<Generations>,
}

/// New and used ones are in `young`; when that is full it becomes `old`, and what was in `old` is forgotten.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Verified>,
    old: HashMap<Digest, Verified>,
}

impl Generations {
    fn insert(&mut self, key: Digest, token: Verified) {
        if self.young.len() >= MOST {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, token);
    }
}

impl Remembered {
    /// What the token says, read with `check` if its signature was not seen before.
    ///
    /// # Errors
    /// Those of `check`, which are not remembered.
    pub fn verified<E>(
        &self,
        token: &str,
        check: impl FnOnce() -> Result<Verified, E>,
    ) -> Result<Verified, E> {
        let key = digest(&SHA256, token.as_bytes());
        let Ok(key) = Digest::try_from(key.as_ref()) else { return check() };
        if let Some(verified) = self.find(&key) {
            return Ok(verified);
        }
        let verified = check()?;
        self.lock().insert(key, verified);
        Ok(verified)
    }

    fn find(&self, key: &Digest) -> Option<Verified> {
        let mut generations = self.lock();
        if let Some(verified) = generations.young.get(key) {
            return Some(*verified);
        }
        let verified = generations.old.remove(key)?;
        generations.insert(*key, verified);
        Some(verified)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Verified = Verified { user: UserId(7), version: 1, issued_at: 1000, expires_at: 1060 };

    #[test]
    fn a_good_token_is_checked_once_and_a_bad_one_each_time() {
        let remembered = Remembered::default();
        assert_eq!(remembered.verified("good", || Ok::<_, &str>(TOKEN)), Ok(TOKEN));
        assert_eq!(remembered.verified("good", || Err("checked again")), Ok(TOKEN));
        assert_eq!(remembered.verified("bad", || Err("bad")), Err("bad"));
        assert_eq!(remembered.verified("bad", || Err("still bad")), Err("still bad"));
    }

    #[test]
    fn memory_is_bounded_and_those_in_use_stay() {
        let remembered = Remembered::default();
        let see = |name: &str| remembered.verified(name, || Ok::<_, ()>(TOKEN)).is_ok();
        for number in 0..3 * MOST {
            assert!(see(&number.to_string()) && see("in use"));
        }
        let generations = remembered.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
        drop(generations);
        assert!(remembered.verified("in use", || Err(())).is_ok());
        assert!(remembered.verified("0", || Err(())).is_err(), "long forgotten");
    }
}
