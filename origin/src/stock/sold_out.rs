//! What this process knows to be sold out. Promises to answer most refusals of a rush without asking Redis or taking a
//! hold, and to believe itself for half a second only, so that stock which returns is for sale again within a second.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use farmgate_shared::ids::SkuId;

use super::Line;

/// How long a flag is believed.
const LIFE: Duration = Duration::from_millis(500);

/// SKUs that had less left than somebody asked for.
#[derive(Debug, Default)]
pub struct SoldOut {
    flags: RwLock<HashMap<SkuId, Flag>>,
}

#[derive(Debug)]
struct Flag {
    /// Units that were left.
    left: u32,
    raised: Instant,
}

impl Flag {
    fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.raised) < LIFE
    }
}

impl SoldOut {
    /// Somebody was refused: so much of the SKU was left at `now`.
    pub fn raise(&self, sku: SkuId, left: u32, now: Instant) {
        let mut flags = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        flags.retain(|_, flag| flag.holds(now));
        flags.insert(sku, Flag { left, raised: now });
    }

    /// Stock came back.
    pub fn lower(&self, lines: &[Line]) {
        let mut flags = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            flags.remove(&line.sku_id);
        }
    }

    /// Whether one of the lines asks for more than was left a moment ago.
    pub fn refuses(&self, lines: &[Line], now: Instant) -> bool {
        let flags = self.flags.read().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| {
            flags.get(&line.sku_id).is_some_and(|flag| flag.left < line.quantity && flag.holds(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: i64, quantity: u32) -> [Line; 1] {
        [Line { sku_id: SkuId(sku), quantity }]
    }

    #[test]
    fn a_flag_refuses_what_is_more_than_was_left_until_it_is_old_or_lowered() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        sold_out.raise(SkuId(1), 2, start);
        assert!(sold_out.refuses(&line(1, 3), start));
        assert!(!sold_out.refuses(&line(1, 2), start), "two are left");
        assert!(!sold_out.refuses(&line(2, 9), start), "another SKU");
        assert!(sold_out.refuses(&[line(2, 1), line(1, 3)].concat(), start), "all lines or none");
        assert!(!sold_out.refuses(&line(1, 3), start + LIFE), "asked anew after a while");
        sold_out.raise(SkuId(1), 0, start);
        sold_out.lower(&line(1, 3));
        assert!(!sold_out.refuses(&line(1, 3), start));
    }

    #[test]
    fn old_flags_are_not_kept() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        for sku in 0..100 {
            sold_out.raise(SkuId(sku), 0, start);
        }
        sold_out.raise(SkuId(100), 0, start + LIFE);
        assert_eq!(sold_out.flags.read().unwrap().len(), 1);
    }
}
