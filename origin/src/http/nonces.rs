//! The nonces that this process has seen, for as long as their time is in the window. Promises that no request passes it
//! twice, in bounded memory, whatever becomes of Redis. It knows nothing of other replicas: that is Redis's part.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Nonces by the second that was signed with them, as keyed hashes.
#[derive(Debug)]
pub struct Nonces {
    hasher: RandomState,
    by_second: BTreeMap<u64, HashSet<u64>>,
    count: usize,
    most: usize,
    /// Nonces of this second and before may have been forgotten.
    forgotten: u64,
}

impl Nonces {
    /// Remembers at most `most`. What was seen before `now`, by the process in whose place this one is, is not known.
    pub fn new(most: usize, now: u64) -> Nonces {
        Nonces {
            hasher: RandomState::new(),
            by_second: BTreeMap::new(),
            count: 0,
            most,
            forgotten: now.saturating_sub(1),
        }
    }

    /// Remembers a nonce that was signed at `second`; false when it was seen before. What is older than `oldest` is
    /// refused for its time, and not remembered any longer.
    pub fn take(&mut self, kid: &str, nonce: &str, second: u64, oldest: u64) -> bool {
        while let Some(entry) = self.by_second.first_entry()
            && (*entry.key() < oldest || self.count >= self.most)
        {
            self.forgotten = self.forgotten.max(*entry.key());
            self.count -= entry.remove().len();
        }
        let is_new = self.by_second.entry(second).or_default().insert(self.hasher.hash_one((kid, nonce)));
        self.count += usize::from(is_new);
        is_new
    }

    /// Whether every nonce of this second that came here is still known, so that a new one is new.
    pub fn knows_all_of(&self, second: u64) -> bool {
        second > self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn a_nonce_is_new_once() {
        let mut nonces = Nonces::new(100, NOW);
        assert!(nonces.take("k1", "a", NOW, NOW - 30));
        assert!(!nonces.take("k1", "a", NOW, NOW - 30));
        assert!(nonces.take("k2", "a", NOW, NOW - 30), "another edge's");
        assert!(nonces.take("k1", "b", NOW, NOW - 30));
        assert!(!nonces.take("k1", "b", NOW, NOW - 29));
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_known_to_be() {
        let mut nonces = Nonces::new(100, NOW);
        for second in NOW..NOW + 20 {
            for number in 0..10 {
                assert!(nonces.take("k1", &format!("{second} {number}"), second, NOW - 30));
                assert!(nonces.count <= 100);
            }
        }
        assert!(!nonces.knows_all_of(NOW + 9), "forgotten for want of room");
        assert!(nonces.knows_all_of(NOW + 11));
        assert!(!nonces.take("k1", &format!("{} 3", NOW + 11), NOW + 11, NOW - 30));
        let held: usize = nonces.by_second.values().map(HashSet::len).sum();
        assert_eq!(held, nonces.count);
    }

    #[test]
    fn an_edge_whose_clock_is_ahead_does_not_shut_the_others_out() {
        let mut nonces = Nonces::new(40, NOW);
        for now in NOW..NOW + 100 {
            assert!(nonces.take("ahead", &now.to_string(), now + 25, now - 30));
            assert!(nonces.take("k1", &now.to_string(), now, now - 30));
            assert!(nonces.knows_all_of(now), "{}", now - NOW);
        }
        assert!(!nonces.knows_all_of(NOW + 50));
    }

    #[test]
    fn time_before_the_process_and_outside_the_window_is_unknown() {
        let mut nonces = Nonces::new(100, NOW);
        assert!(!nonces.knows_all_of(NOW - 1));
        assert!(nonces.knows_all_of(NOW));
        assert!(nonces.take("k1", "a", NOW, NOW - 30));
        assert!(nonces.take("k1", "b", NOW + 61, NOW + 31));
        assert!(!nonces.knows_all_of(NOW));
        assert_eq!(nonces.count, 1);
    }
}
