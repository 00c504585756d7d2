//! Which SKUs' stock changed, told by `stock_movements`: every change of a row of `stock` writes a movement in its own
//! transaction, and movements are only ever added. So the rows after the last one seen are what changed, at the price of
//! one look at the end of a primary key, and no write anywhere pays for it.
//!
//! Numbers are given out when a movement is written and seen when it commits, so a movement may turn up *below* the last
//! one seen. What is missing below is therefore remembered and looked for again, for [`LATE`], which is longer than MySQL
//! lets a transaction wait for a lock and so longer than any of ours takes from its first movement to its COMMIT; what has
//! not turned up by then was rolled back. When a process starts it looks at the last [`OVERLAP`] movements for what is
//! missing in them. Whatever slips through all the same (stock changed by hand without a movement, a longer transaction)
//! is found by the sweep of [`super::follow`], in its round over all SKUs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farmgate_shared::ids::SkuId;
use tokio::time::Instant;

/// For how long a missing movement may still turn up.
const LATE: Duration = Duration::from_secs(60);
/// How many movements before the last one are looked at when a process starts.
const OVERLAP: i64 = 20_000;

/// A row of `stock_movements`: its number and its SKU.
pub type Movement = (i64, i64);

/// How far the movements have been read.
#[derive(Debug, Default)]
pub struct Feed {
    /// Up to here all is seen or among the gaps.
    newest: i64,
    /// Whether `newest` is the number of a movement, which must then stay there.
    is_anchored: bool,
    /// Missing numbers, first to last, and when they were missed.
    gaps: BTreeMap<i64, (i64, Instant)>,
    /// Where there are many gaps, whose turn it is to be looked into.
    turn: i64,
}

/// The movements that were read are no longer there: another server, or an older state of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten;

impl Feed {
    /// A feed that begins before `last`, the number of the last movement. What changed before is to be read by reading
    /// all stock *after* the feed was advanced for the first time.
    pub fn before(last: i64) -> Feed {
        Feed { newest: (last - OVERLAP).max(0), ..Feed::default() }
    }

    /// New movements are to be read from this number on.
    pub fn next(&self) -> i64 {
        self.newest
    }

    /// Takes the movements from [`Feed::next`] on, or as many of them as were read, by number.
    ///
    /// # Errors
    /// [`Rewritten`]: begin again.
    pub fn take_new(&mut self, movements: &[Movement], now: Instant) -> Result<BTreeSet<SkuId>, Rewritten> {
        let mut rest = movements;
        if self.is_anchored {
            match movements.split_first() {
                Some(((number, _), others)) if *number == self.newest => rest = others,
                _ => return Err(Rewritten),
            }
        }
        for (number, _) in rest {
            if *number > self.newest + 1 {
                self.gaps.insert(self.newest + 1, (number - 1, now));
            }
            self.newest = *number;
            self.is_anchored = true;
        }
        Ok(rest.iter().map(|(_, sku)| SkuId(*sku)).collect())
    }

    /// Where missing movements may turn up, as at most `most` ranges, ends included: the newest, where they mostly do, and
    /// others in turn. Gives up what is too old.
    pub fn missing(&mut self, most: usize, now: Instant) -> Vec<(i64, i64)> {
        self.gaps.retain(|_, (_, since)| now.duration_since(*since) < LATE);
        let range = |(first, (last, _)): (&i64, &(i64, Instant))| (*first, *last);
        let newest = if self.gaps.len() <= most { most } else { most / 2 };
        let mut ranges: Vec<(i64, i64)> = self.gaps.iter().rev().take(newest).map(range).collect();
        let others = ..ranges.last().map_or(i64::MAX, |(first, _)| *first);
        let in_turn = self.gaps.range(self.turn..).chain(self.gaps.range(..self.turn)).map(range);
        ranges.extend(in_turn.filter(|(first, _)| others.contains(first)).take(most - newest));
        if newest < most {
            self.turn = ranges.last().map_or(0, |(first, _)| first + 1);
        }
        ranges
    }

    /// Takes what turned up within the ranges of [`Feed::missing`].
    pub fn take_late(&mut self, movements: &[Movement]) -> BTreeSet<SkuId> {
        let mut late = BTreeSet::new();
        for (number, sku) in movements {
            let Some((first, (last, since))) =
                self.gaps.range(..=number).next_back().map(|(first, gap)| (*first, *gap))
            else {
                continue;
            };
            if *number > last {
                continue;
            }
            late.insert(SkuId(*sku));
            self.gaps.remove(&first);
            if first < *number {
                self.gaps.insert(first, (number - 1, since));
            }
            if *number < last {
                self.gaps.insert(number + 1, (last, since));
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What MySQL shows of the movements from `from` to `to`. Each movement's SKU is its number.
    fn shown(committed: &BTreeSet<i64>, from: i64, to: i64) -> Vec<Movement> {
        committed.range(from..=to).map(|number| (*number, *number)).collect()
    }

    /// One look, as the follower does it.
    fn look(feed: &mut Feed, committed: &BTreeSet<i64>, now: Instant) -> BTreeSet<SkuId> {
        let mut changed = BTreeSet::new();
        for (first, last) in feed.missing(2, now) {
            changed.extend(feed.take_late(&shown(committed, first, last)));
        }
        changed.extend(feed.take_new(&shown(committed, feed.next(), i64::MAX), now).unwrap());
        changed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Transactions commit in any order, some never; looks are taken at any time.
        #[test]
        fn every_committed_movement_is_told_once(
            fates in proptest::collection::vec((0..30_u64, any::<bool>()), 1..60), looks in proptest::collection::vec(0..40_u64, 0..12),
        ) {
            let start = Instant::now();
            let mut feed = Feed::before(0);
            let mut told: Vec<SkuId> = Vec::new();
            let mut times = looks;
            times.sort_unstable();
            let gaps = fates.len();
            // Movement n is written at second n/4 at the earliest and commits that much later.
            // In the end each gap has had its turn.
            for time in times.into_iter().chain(std::iter::repeat_n(44, gaps)) {
                let is_there = |(number, (delay, commits)): &(i64, &(u64, bool))| *commits && u64::try_from(*number).unwrap() / 4 + delay <= time;
                let committed: BTreeSet<i64> = (1..).zip(&fates).filter(is_there).map(|(number, _)| number).collect();
                told.extend(look(&mut feed, &committed, start + SECOND * u32::try_from(time).unwrap()));
            }
            let expected: Vec<SkuId> = (1..).zip(&fates).filter(|(_, (_, commits))| *commits).map(|(number, _)| SkuId(number)).collect();
            told.sort_unstable();
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn what_never_turns_up_is_given_up_after_a_minute() {
        let now = Instant::now();
        let mut feed = Feed::before(0);
        feed.take_new(&[(1, 10), (5, 10), (9, 10)], now).unwrap();
        assert_eq!(feed.missing(8, now), [(6, 8), (2, 4)]);
        assert_eq!(feed.take_late(&[(3, 7), (5, 10)]), BTreeSet::from([SkuId(7)]), "5 was seen");
        assert_eq!(feed.missing(8, now), [(6, 8), (4, 4), (2, 2)]);
        assert_eq!(feed.missing(8, now + LATE), []);
    }

    #[test]
    fn of_many_gaps_the_newest_are_looked_into_and_the_others_in_turn() {
        let now = Instant::now();
        let mut feed = Feed::before(0);
        let movements: Vec<Movement> = (1..=9).map(|number| (2 * number, 10)).collect();
        feed.take_new(&movements, now).unwrap();
        let gap = |number| (number, number);
        assert_eq!(feed.missing(4, now), [17, 15, 1, 3].map(gap));
        assert_eq!(feed.missing(4, now), [17, 15, 5, 7].map(gap));
        assert_eq!(feed.missing(4, now), [17, 15, 9, 11].map(gap));
        assert_eq!(feed.missing(4, now), [17, 15, 13, 1].map(gap), "nothing that was seen is read again");
        assert_eq!(feed.missing(1, now), [3].map(gap));
        assert_eq!(feed.missing(9, now).len(), 9);
    }

    #[test]
    fn a_server_that_lost_movements_is_noticed() {
        let now = Instant::now();
        let mut feed = Feed::before(0);
        assert_eq!(feed.take_new(&[], now), Ok(BTreeSet::new()));
        feed.take_new(&[(7, 1)], now).unwrap();
        assert_eq!(feed.take_new(&[(7, 1)], now), Ok(BTreeSet::new()));
        assert_eq!(feed.take_new(&[], now), Err(Rewritten));
        assert_eq!(feed.take_new(&[(8, 1)], now), Err(Rewritten));
    }
}
