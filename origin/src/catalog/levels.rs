//! The stock that pages show: what can be ordered of each SKU of a snapshot. Readers never wait; one writer, at a time,
//! sets what MySQL says (see [`super::feed`]) and raises a count when a number changed.

use std::ops::Range;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// By SKU, as the snapshot numbers them.
#[derive(Debug)]
pub struct Levels {
    available: Box<[AtomicI32]>,
    changes: AtomicU64,
}

impl Default for Levels {
    fn default() -> Levels {
        Levels::new(0)
    }
}

impl Levels {
    /// Nothing is known to be available yet.
    pub fn new(skus: usize) -> Levels {
        Levels { available: (0..skus).map(|_| AtomicI32::new(0)).collect(), changes: AtomicU64::new(1) }
    }

    /// Grows, from 1, with every change that readers should see. Whoever reads it first and the numbers then has
    /// numbers at least as new.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is available of one SKU.
    pub fn of(&self, sku: u32) -> i32 {
        self.available.get(sku as usize).map_or(0, |level| level.load(Ordering::Relaxed))
    }

    /// What is available of the SKUs together.
    pub fn sum(&self, skus: &Range<u32>) -> i64 {
        let range = skus.start as usize..skus.end as usize;
        let levels = self.available.get(range).unwrap_or_default();
        levels.iter().map(|level| i64::from(level.load(Ordering::Relaxed))).sum()
    }

    pub fn set(&self, levels: impl IntoIterator<Item = (u32, i32)>) {
        let mut has_changed = false;
        for (sku, available) in levels {
            if let Some(level) = self.available.get(sku as usize) {
                has_changed |= level.swap(available, Ordering::Relaxed) != available;
            }
        }
        if has_changed {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}
