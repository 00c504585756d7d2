//! A bounded map, least recently used out first, which holds both the catalogue's pages and the tokens that were
//! found good. It lives in the isolate's memory: what it promises is never to outgrow its limit. Who has found a value
//! once can find it again by its [`Place`], without its key.

use std::collections::HashMap;
use std::rc::Rc;

/// A map of at most `limit` in weight, whatever the caller counts as weight: bytes for pages, one each for tokens.
#[derive(Debug)]
pub struct Lru<V> {
    by_key: HashMap<Rc<str>, usize>,
    slots: Vec<Slot<V>>,
    /// Slots that hold nothing.
    free: Vec<usize>,
    ends: Ends,
    weight: usize,
    limit: usize,
}

/// Where a value is. After it has gone the place leads nowhere, whatever took its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: usize,
    tenant: u64,
}

/// The first and the last slot in the order of use.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    newest: Option<usize>,
    oldest: Option<usize>,
}

#[derive(Debug)]
struct Slot<V> {
    /// How many values have been here.
    tenant: u64,
    held: Option<Held<V>>,
    newer: Option<usize>,
    older: Option<usize>,
}

#[derive(Debug)]
struct Held<V> {
    key: Rc<str>,
    value: V,
    weight: usize,
}

impl<V> Lru<V> {
    #[must_use]
    pub fn new(limit: usize) -> Lru<V> {
        Lru {
            by_key: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ends: Ends::default(),
            weight: 0,
            limit,
        }
    }

    /// What is kept under `key`, which by this becomes the most recently used.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let slot = *self.by_key.get(key)?;
        self.use_now(slot);
        Some(&mut self.slots.get_mut(slot)?.held.as_mut()?.value)
    }

    /// Where the value of `key` is, if it is kept. Does not count as a use.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<Place> {
        let slot = *self.by_key.get(key)?;
        Some(Place { slot, tenant: self.slots.get(slot)?.tenant })
    }

    /// What is kept at `place`, which by this becomes the most recently used.
    pub fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        self.slots.get(place.slot).filter(|slot| slot.tenant == place.tenant)?;
        self.use_now(place.slot);
        Some(&mut self.slots.get_mut(place.slot)?.held.as_mut()?.value)
    }

    /// Keeps `value` in place of what was there, and drops the least recently used until the limit holds. What is
    /// heavier than the whole limit is not kept.
    pub fn insert(&mut self, key: &str, value: V, weight: usize) {
        self.remove(key);
        if weight > self.limit {
            return;
        }
        while self.weight + weight > self.limit {
            let Some(oldest) = self.ends.oldest else { break };
            self.empty(oldest);
        }
        let key: Rc<str> = key.into();
        let held = Some(Held { key: Rc::clone(&key), value, weight });
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => {
                free.tenant += 1;
                free.held = held;
            }
            None => self.slots.push(Slot { tenant: 0, held, newer: None, older: None }),
        }
        self.link(slot);
        self.by_key.insert(key, slot);
        self.weight += weight;
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(slot) = self.by_key.get(key) {
            self.empty(*slot);
        }
    }

    fn empty(&mut self, at: usize) {
        self.unlink(at);
        if let Some(held) = self.slots.get_mut(at).and_then(|slot| slot.held.take()) {
            self.by_key.remove(&held.key);
            self.weight -= held.weight;
            self.free.push(at);
        }
    }

    fn use_now(&mut self, slot: usize) {
        if self.ends.newest != Some(slot) {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Puts a slot in front of all others.
    fn link(&mut self, at: usize) {
        let second = self.ends.newest.replace(at);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.older = second;
            slot.newer = None;
        }
        match second.and_then(|second| self.slots.get_mut(second)) {
            Some(second) => second.newer = Some(at),
            None => self.ends.oldest = Some(at),
        }
    }

    /// Takes a slot out of the order of use; its neighbours close up.
    fn unlink(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let (newer, older) = (slot.newer.take(), slot.older.take());
        match newer.and_then(|newer| self.slots.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.ends.newest = older,
        }
        match older.and_then(|older| self.slots.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.ends.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys from the least to the most recently used, and that the links of both directions agree.
    fn keys<V>(lru: &Lru<V>) -> Vec<String> {
        let mut forward = Vec::new();
        let mut next = lru.ends.oldest;
        while let Some(at) = next {
            forward.push(at);
            next = lru.slots[at].newer;
        }
        let mut backward = Vec::new();
        let mut next = lru.ends.newest;
        while let Some(at) = next {
            backward.push(at);
            next = lru.slots[at].older;
        }
        backward.reverse();
        assert_eq!(forward, backward);
        forward.iter().map(|at| lru.slots[*at].held.as_ref().unwrap().key.to_string()).collect()
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
    fn a_place_leads_to_its_value_until_that_is_gone() {
        let mut lru = Lru::new(2);
        lru.insert("a", 1, 1);
        lru.insert("b", 2, 1);
        let a = lru.place("a").unwrap();
        assert_eq!(lru.at_mut(a), Some(&mut 1));
        assert_eq!(keys(&lru), ["b", "a"], "a use like any other");
        lru.insert("a", 3, 1);
        assert_eq!(lru.at_mut(a), None, "another value has the slot");
        assert_eq!(lru.place("c"), None);
    }

    #[test]
    fn weight_never_exceeds_the_limit_and_every_key_is_in_order_once() {
        let mut lru = Lru::new(10);
        for turn in 0..200_u8 {
            match turn % 5 {
                0 => lru.remove(&format!("k{}", turn % 11)),
                1 => drop(lru.get_mut(&format!("k{}", turn % 6)).copied()),
                _ => lru.insert(&format!("k{}", turn % 7), turn, usize::from(turn % 12)),
            }
            let held: usize =
                lru.slots.iter().filter_map(|slot| slot.held.as_ref()).map(|held| held.weight).sum();
            assert_eq!(held, lru.weight);
            assert!(lru.weight <= 10);
            assert_eq!(keys(&lru).len(), lru.by_key.len());
            assert_eq!(lru.by_key.len() + lru.free.len(), lru.slots.len());
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
