//! The pages that were asked for, at one version. Promises that a page is made once however many ask for it at the same
//! time, that whoever finds one waits for nobody, and that odd questions cannot take more than [`BYTES`] or drive out
//! what is asked for again and again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use axum::body::Bytes;
use tokio::sync::OnceCell;

use super::levels::Levels;
use super::page::Page;

/// Memory for pages.
const BYTES: usize = 8 * 1024 * 1024;
const SHARDS: usize = 16;
const SHARD_BYTES: usize = BYTES / SHARDS;
/// A page longer than this would drive out too many others, and is not kept.
const LONGEST: usize = SHARD_BYTES / 4;
/// What an entry costs besides its page and its key.
const OVERHEAD: usize = 192;

type Slots = HashMap<Arc<str>, Arc<Slot>>;

/// Pages by the one spelling of their path and query.
#[derive(Debug)]
pub struct Pages {
    shards: [Shard; SHARDS],
    hasher: RandomState,
    /// Grows with every page that is made: what was not asked for the longest is what shows the lowest.
    age: AtomicU64,
}

/// Read without a lock; writers copy the table of keys, which the bound keeps short.
#[derive(Debug, Default)]
struct Shard {
    slots: ArcSwap<Slots>,
    /// Bytes in use; held while the table is copied.
    writing: Mutex<usize>,
}

/// The place of a page that is being made or has been.
#[derive(Debug, Default)]
struct Slot {
    page: OnceCell<Page>,
    weight: AtomicUsize,
    last_used: AtomicU64,
    is_wanted_again: AtomicBool,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages {
            shards: std::array::from_fn(|_| Shard::default()),
            hasher: RandomState::new(),
            age: AtomicU64::new(1),
        }
    }
}

impl Pages {
    /// The page under this key with the numbers of now, if it has been made.
    pub fn body(&self, key: &str, levels: &Levels) -> Option<Bytes> {
        let slots = self.shard(key)?.slots.load();
        let slot = slots.get(key)?;
        let page = slot.page.get()?;
        // Looked at first: a hot page's memory is then shared by all cores, and written by none.
        let age = self.age.load(Ordering::Relaxed);
        if slot.last_used.load(Ordering::Relaxed) != age {
            slot.last_used.store(age, Ordering::Relaxed);
        }
        if !slot.is_wanted_again.load(Ordering::Relaxed) {
            slot.is_wanted_again.store(true, Ordering::Relaxed);
        }
        Some(page.body(levels))
    }

    /// The same; makes the page if nobody has. Those who ask meanwhile wait for the one who makes it, and one of them
    /// goes on where that one fails or goes away.
    ///
    /// # Errors
    /// What `make` said.
    pub async fn body_or_make<E>(
        &self,
        key: &str,
        levels: &Levels,
        make: impl Future<Output = Result<Page, E>>,
    ) -> Result<Bytes, E> {
        let Some(shard) = self.shard(key) else { return Ok(make.await?.body(levels)) };
        let slot = shard.slot(key, self.age.fetch_add(1, Ordering::Relaxed));
        let page = slot.page.get_or_try_init(|| make).await?;
        let body = page.body(levels);
        shard.settle(key, &slot, page.weight());
        Ok(body)
    }

    fn shard(&self, key: &str) -> Option<&Shard> {
        #[allow(clippy::cast_possible_truncation, reason = "a remainder of a small number")]
        let at = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        self.shards.get(at)
    }

    /// Bytes in use, and how many pages there are.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let of_shard = |shard: &Shard| (*shard.writing.lock().unwrap(), shard.slots.load().len());
        self.shards.iter().map(of_shard).fold((0, 0), |sum, of_it| (sum.0 + of_it.0, sum.1 + of_it.1))
    }
}

impl Shard {
    /// The place for this key, made if there is none.
    fn slot(&self, key: &str, age: u64) -> Arc<Slot> {
        let mut used = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.slots.load().get(key) {
            return slot.clone();
        }
        let weight = OVERHEAD + key.len();
        let slot = Arc::new(Slot { weight: weight.into(), last_used: age.into(), ..Slot::default() });
        let mut slots = Slots::clone(&self.slots.load());
        slots.insert(key.into(), slot.clone());
        *used += weight;
        make_room(&mut slots, &mut used);
        self.slots.store(Arc::new(slots));
        slot
    }

    /// Counts what was made, once.
    fn settle(&self, key: &str, slot: &Arc<Slot>, page_weight: usize) {
        let mut used = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load();
        let is_kept = slots.get(key).is_some_and(|kept| Arc::ptr_eq(kept, slot));
        let weight = OVERHEAD + key.len() + page_weight;
        if !is_kept || slot.weight.load(Ordering::Relaxed) >= weight {
            return;
        }
        *used += weight - slot.weight.swap(weight, Ordering::Relaxed);
        if page_weight > LONGEST || *used > SHARD_BYTES {
            let mut slots = Slots::clone(&slots);
            if page_weight > LONGEST {
                slots.remove(key);
                *used -= weight;
            }
            make_room(&mut slots, &mut used);
            self.slots.store(Arc::new(slots));
        }
    }
}

/// Drops what was asked for only once first, then what was not asked for the longest, an eighth at a time, so that
/// looking for it is rare.
fn make_room(slots: &mut Slots, used: &mut usize) {
    if *used <= SHARD_BYTES {
        return;
    }
    let mut in_order: Vec<(bool, u64, Arc<str>)> = slots
        .iter()
        .map(|(key, slot)| {
            let is_wanted_again = slot.is_wanted_again.load(Ordering::Relaxed);
            (is_wanted_again, slot.last_used.load(Ordering::Relaxed), key.clone())
        })
        .collect();
    in_order.sort_unstable();
    for (.., key) in in_order {
        if *used <= SHARD_BYTES / 8 * 7 {
            break;
        }
        if let Some(dropped) = slots.remove(&key) {
            *used = used.saturating_sub(dropped.weight.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    fn page(bytes: usize) -> Page {
        Page::new(&json!({"text": "x".repeat(bytes)}), vec![]).unwrap()
    }

    async fn made(pages: &Pages, key: &str, bytes: usize) -> Bytes {
        let levels = Levels::new(0);
        pages.body_or_make(key, &levels, async { Ok::<_, Infallible>(page(bytes)) }).await.unwrap()
    }

    #[tokio::test]
    async fn parallel_misses_make_a_page_once() {
        let (pages, levels) = (Pages::default(), Levels::new(0));
        let count = AtomicUsize::new(0);
        let ask = async || {
            let make = async {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(page(3))
            };
            pages.body_or_make("a", &levels, make).await.unwrap()
        };
        let all = tokio::join!(ask(), ask(), ask(), ask());
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(all.0.as_ptr(), all.3.as_ptr());
        assert_eq!(pages.body("a", &levels), Some(all.1));
        assert_eq!(pages.body("b", &levels), None);
    }

    #[tokio::test]
    async fn one_who_fails_leaves_the_page_to_the_next() {
        let (pages, levels) = (Pages::default(), Levels::new(0));
        let failed = pages.body_or_make("a", &levels, async { Err("no") }).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(pages.body("a", &levels), None);
        assert!(!made(&pages, "a", 3).await.is_empty());
    }

    #[tokio::test]
    async fn memory_is_bounded_and_what_is_wanted_again_stays() {
        let (pages, levels) = (Pages::default(), Levels::new(0));
        for number in 0..20 {
            made(&pages, &format!("hot{number}"), 2000).await;
            assert!(pages.body(&format!("hot{number}"), &levels).is_some());
        }
        for number in 0..20_000 {
            made(&pages, &format!("odd{number}"), 2000).await;
        }
        let (bytes, count) = pages.size();
        assert!(bytes <= BYTES && bytes > BYTES / 2, "{bytes}");
        assert!(count < 8000, "{count}");
        for number in 0..20 {
            assert!(pages.body(&format!("hot{number}"), &levels).is_some(), "{number}");
        }
        assert!(pages.body("odd0", &levels).is_none());
    }

    #[tokio::test]
    async fn a_page_that_is_too_long_is_given_and_not_kept() {
        let (pages, levels) = (Pages::default(), Levels::new(0));
        assert!(made(&pages, "long", LONGEST + 1).await.len() > LONGEST);
        assert!(pages.body("long", &levels).is_none());
        assert_eq!(pages.size(), (0, 0));
    }
}
