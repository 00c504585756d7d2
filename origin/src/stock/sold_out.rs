//! What this process knows to be sold out. Promises to answer most refusals of a rush without asking Redis or taking a
//! hold, and to believe itself for half a second only, so that stock which returns is for sale again within a second.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use farmgate_shared::ids::SkuId;

use super::Line;

/// How long a flag is believed.
const LIFE: Duration = Duration::from_millis(500);
/// How long an outlived flag is remembered: one that is raised again meanwhile was never down.
const MEMORY: Duration = Duration::from_secs(1);
/// A flag that has been up for so long is settled: an order that took the last units before it is made or given up by now.
const SETTLED: Duration = Duration::from_millis(500);
/// When a flag is no longer believed, one asker finds out whether it still stands, and the others believe it for so long.
const PROBE: Duration = Duration::from_millis(50);

/// SKUs that had less left than somebody asked for.
#[derive(Debug, Default)]
pub struct SoldOut {
    flags: RwLock<HashMap<SkuId, Flag>>,
}

/// What the flags say of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// There may be enough.
    Open,
    /// Too little was left a moment ago.
    Short,
    /// The same, and of this SKU for a while now.
    ShortForLong(SkuId),
}

#[derive(Debug)]
struct Flag {
    /// Units that were left.
    left: u32,
    raised: Instant,
    /// It is believed until then.
    until: Instant,
    /// When it was first raised of the times that followed each other closely.
    since: Instant,
}

impl Flag {
    fn is_remembered(&self, now: Instant) -> bool {
        now.duration_since(self.raised) < MEMORY
    }

    fn outlook(&self, sku: SkuId, now: Instant) -> Outlook {
        if now.duration_since(self.since) >= SETTLED { Outlook::ShortForLong(sku) } else { Outlook::Short }
    }
}

impl SoldOut {
    /// Somebody was refused: so much of the SKU was left at `now`.
    pub fn raise(&self, sku: SkuId, left: u32, now: Instant) {
        let mut flags = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        flags.retain(|_, flag| flag.is_remembered(now));
        let since = flags.get(&sku).filter(|flag| left <= flag.left).map_or(now, |flag| flag.since);
        flags.insert(sku, Flag { left, raised: now, until: now + LIFE, since });
    }

    /// Stock came back.
    pub fn lower(&self, lines: &[Line]) {
        let mut flags = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            flags.remove(&line.sku_id);
        }
    }

    /// Somebody was given these lines: a flag that stood against one of them knew too little.
    pub fn lower_if_wrong(&self, lines: &[Line]) {
        let is_wrong = {
            let flags = self.flags.read().unwrap_or_else(PoisonError::into_inner);
            !flags.is_empty() && lines.iter().any(|line| flags.contains_key(&line.sku_id))
        };
        if is_wrong {
            self.lower(lines);
        }
    }

    /// Whether one of the lines asks for more than was left a moment ago.
    pub fn outlook(&self, lines: &[Line], now: Instant) -> Outlook {
        let mut outlook = Outlook::Open;
        for line in lines {
            match self.outlook_of(*line, now) {
                Outlook::Open => {}
                Outlook::Short => outlook = Outlook::Short,
                long @ Outlook::ShortForLong(_) => return long,
            }
        }
        outlook
    }

    fn outlook_of(&self, line: Line, now: Instant) -> Outlook {
        let flags = self.flags.read().unwrap_or_else(PoisonError::into_inner);
        match flags.get(&line.sku_id) {
            Some(flag) if flag.left < line.quantity && flag.is_remembered(now) => {
                if flag.until > now {
                    return flag.outlook(line.sku_id, now);
                }
            }
            _ => return Outlook::Open,
        }
        drop(flags);
        let mut flags = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        match flags.get_mut(&line.sku_id) {
            // Another one has gone to find out meanwhile.
            Some(flag) if flag.until > now => flag.outlook(line.sku_id, now),
            Some(flag) => {
                flag.until = now + PROBE;
                Outlook::Open
            }
            None => Outlook::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: i64, quantity: u32) -> [Line; 1] {
        [Line { sku_id: SkuId(sku), quantity }]
    }

    #[test]
    fn a_flag_stands_against_what_is_more_than_was_left_until_it_is_old_or_lowered() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        sold_out.raise(SkuId(1), 2, start);
        assert_eq!(sold_out.outlook(&line(1, 3), start), Outlook::Short);
        assert_eq!(sold_out.outlook(&line(1, 2), start), Outlook::Open, "two are left");
        assert_eq!(sold_out.outlook(&line(2, 9), start), Outlook::Open, "another SKU");
        assert_eq!(
            sold_out.outlook(&[line(2, 1), line(1, 3)].concat(), start),
            Outlook::Short,
            "all or none"
        );
        assert_eq!(sold_out.outlook(&line(1, 3), start + LIFE), Outlook::Open, "one asks anew after a while");
        sold_out.raise(SkuId(1), 0, start);
        sold_out.lower(&line(1, 3));
        assert_eq!(sold_out.outlook(&line(1, 3), start), Outlook::Open);
    }

    #[test]
    fn a_flag_that_is_raised_again_and_again_is_up_for_long() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 520, 1040] {
            sold_out.raise(SkuId(1), 0, at(ms));
        }
        assert_eq!(sold_out.outlook(&line(1, 1), at(499)), Outlook::Short);
        assert_eq!(sold_out.outlook(&line(1, 1), at(1041)), Outlook::ShortForLong(SkuId(1)));
        // More is left than before: somebody gave back, and may have bought again.
        sold_out.raise(SkuId(1), 1, at(1100));
        assert_eq!(sold_out.outlook(&line(1, 2), at(1101)), Outlook::Short);
        // Long forgotten.
        sold_out.raise(SkuId(1), 1, at(3000));
        assert_eq!(sold_out.outlook(&line(1, 2), at(3001)), Outlook::Short);
    }

    #[test]
    fn one_finds_out_whether_a_flag_still_stands_and_the_others_believe_it() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        sold_out.raise(SkuId(1), 0, start);
        let over = start + LIFE;
        assert_eq!(sold_out.outlook(&line(1, 1), over), Outlook::Open);
        assert_eq!(sold_out.outlook(&line(1, 1), over), Outlook::ShortForLong(SkuId(1)));
        assert_eq!(
            sold_out.outlook(&line(1, 1), over + PROBE),
            Outlook::Open,
            "the first one did not come back"
        );
        assert_eq!(sold_out.outlook(&line(1, 1), start + MEMORY), Outlook::Open);
        assert_eq!(sold_out.outlook(&line(1, 1), start + MEMORY), Outlook::Open, "nobody came back");
    }

    /// Shoppers ask every `every` milliseconds. Who is let through finds out after `takes`, unless the answer is lost, which
    /// every `lost`-th one is. The stock returns after `back`, and nobody here is told. When is it sold?
    fn sold_after(back: u64, every: u64, takes: u64, lost: Option<u64>) -> u64 {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        sold_out.raise(SkuId(1), 0, at(0));
        let (mut under_way, mut asked): (Vec<u64>, u64) = (Vec::new(), 0);
        for now in 0.. {
            for asker in under_way.extract_if(.., |asker| *asker + takes <= now) {
                if asker >= back {
                    return asker;
                }
                sold_out.raise(SkuId(1), 0, at(now));
            }
            if now % every == 0 && sold_out.outlook(&line(1, 1), at(now)) == Outlook::Open {
                asked += 1;
                if lost.is_none_or(|nth| asked % nth != 0) {
                    under_way.push(now);
                }
            }
        }
        unreachable!("somebody asks for ever")
    }

    #[test]
    fn what_returns_is_sold_within_a_second_though_nobody_here_is_told() {
        for back in (0..1600).step_by(7) {
            for (every, takes, lost) in [
                (1, 1, None),
                (3, 20, None),
                (10, 100, None),
                (10, 100, Some(2)),
                (50, 300, None),
                (200, 40, None),
            ] {
                let sold = sold_after(back, every, takes, lost);
                let case =
                    format!("back at {back}, asked every {every} ms, known after {takes}, {lost:?} lost");
                assert!(sold < back + 1000, "{case}: sold at {sold}");
            }
        }
    }

    #[test]
    fn one_shopper_alone_is_let_through_as_soon_as_the_flag_is_no_longer_believed() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        sold_out.raise(SkuId(1), 0, at(0));
        // Being refused makes it no longer.
        for ms in 1..500 {
            assert_ne!(sold_out.outlook(&line(1, 1), at(ms)), Outlook::Open, "after {ms} ms");
        }
        assert_eq!(sold_out.outlook(&line(1, 1), at(500)), Outlook::Open);
        // Refused once more, by the gate: the next time is as far away.
        sold_out.raise(SkuId(1), 0, at(510));
        assert_ne!(sold_out.outlook(&line(1, 1), at(1009)), Outlook::Open);
        assert_eq!(sold_out.outlook(&line(1, 1), at(1010)), Outlook::Open);
        // The answer was lost.
        assert_ne!(sold_out.outlook(&line(1, 1), at(1059)), Outlook::Open);
        assert_eq!(sold_out.outlook(&line(1, 1), at(1060)), Outlook::Open);
    }

    #[test]
    fn a_sale_lowers_the_flags_of_what_was_sold() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        sold_out.raise(SkuId(1), 0, start);
        sold_out.raise(SkuId(2), 0, start);
        sold_out.lower_if_wrong(&line(3, 1));
        sold_out.lower_if_wrong(&line(1, 1));
        assert_eq!(sold_out.outlook(&line(1, 1), start), Outlook::Open);
        assert_eq!(sold_out.outlook(&line(2, 1), start), Outlook::Short);
    }

    #[test]
    fn old_flags_are_not_kept() {
        let (sold_out, start) = (SoldOut::default(), Instant::now());
        for sku in 0..100 {
            sold_out.raise(SkuId(sku), 0, start);
        }
        sold_out.raise(SkuId(100), 0, start + MEMORY);
        assert_eq!(sold_out.flags.read().unwrap().len(), 1);
    }
}
