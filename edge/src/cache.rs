//! A bounded map, least recently used out first, which holds both the catalogue's pages and the tokens that were
//! found good. It lives in the isolate's memory: what it promises is never to outgrow its limit.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A map of at most `limit` in weight, whatever the caller counts as weight: bytes for pages, one each for tokens.
#[derive(Debug)]
pub struct Lru<V> {
    slots: HashMap<Rc<str>, Slot<V>>,
    /// Keys by when they were last used; the first is the next to go.
    by_use: BTreeMap<u64, Rc<str>>,
    uses: u64,
    weight: usize,
    limit: usize,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<V> Lru<V> {
    #[must_use]
    pub fn new(limit: usize) -> Lru<V> {
        Lru { slots: HashMap::new(), by_use: BTreeMap::new(), uses: 0, weight: 0, limit }
    }

    /// What is kept under `key`, which by this becomes the most recently used.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let slot = self.slots.get_mut(key)?;
        if let Some(key) = self.by_use.remove(&slot.used) {
            self.uses += 1;
            slot.used = self.uses;
            self.by_use.insert(slot.used, key);
        }
        Some(&mut slot.value)
    }

    /// Keeps `value` in place of what was there, and drops the least recently used until the limit holds. What is
    /// heavier than the whole limit is not kept.
    pub fn insert(&mut self, key: &str, value: V, weight: usize) {
        self.remove(key);
        if weight > self.limit {
            return;
        }
        while self.weight + weight > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(slot) = self.slots.remove(&oldest) {
                self.weight -= slot.weight;
            }
        }
        let key: Rc<str> = key.into();
        self.uses += 1;
        self.by_use.insert(self.uses, Rc::clone(&key));
        self.slots.insert(key, Slot { value, weight, used: self.uses });
        self.weight += weight;
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(slot) = self.slots.remove(key) {
            self.by_use.remove(&slot.used);
            self.weight -= slot.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lru: &Lru<u8>) -> Vec<&str> {
        lru.by_use.values().map(AsRef::as_ref).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            lru.insert(key, value, 1);
        }
        assert_eq!(lru.get_mut("a"), Some(&mut 1));
        lru.insert("d", 4, 1);
        assert_eq!(keys(&lru), ["c", "a", "d"]);
        assert_eq!(lru.get_mut("b"), None);
    }

    #[test]
    fn weight_never_exceeds_the_limit() {
        let mut lru = Lru::new(10);
        for turn in 0..100_u8 {
            lru.insert(&format!("k{}", turn % 7), turn, usize::from(turn % 12));
            let held: usize = lru.slots.values().map(|slot| slot.weight).sum();
            assert_eq!(held, lru.weight);
            assert!(lru.weight <= 10);
            assert_eq!(lru.slots.len(), lru.by_use.len());
        }
    }

    #[test]
    fn a_value_replaces_its_predecessor() {
        let mut lru = Lru::new(10);
        lru.insert("a", 1, 4);
        lru.insert("a", 2, 6);
        assert_eq!((lru.weight, lru.get_mut("a")), (6, Some(&mut 2)));
        lru.insert("a", 3, 11);
        assert_eq!((lru.weight, lru.get_mut("a")), (0, None));
    }
}
