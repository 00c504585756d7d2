//! Which differences between the gate and MySQL stay, decided from look after look. Promises that a SKU that was right once is
//! let go, and that one is named only when it was wrong at every look.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use farmgate_shared::ids::SkuId;

/// Between which two mendings of the gate something was seen: its generation, and how often its levels were moved to MySQL's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub epoch: i64,
    pub mends: i64,
}

/// How the gate differs from MySQL in one SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// What must be added to its level.
    Off(i64),
    /// The gate has no level of it, and should have this one. Orders for it go by MySQL alone.
    Unknown(i64),
    /// It was never right, and no amount was seen often enough; the last one.
    Restless(i64),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let too = |change: i64| if change > 0 { "little" } else { "much" };
        match *self {
            Difference::Off(change) => write!(f, "the gate shows {} too {}", change.abs(), too(change)),
            Difference::Unknown(_) => write!(f, "not in the gate"),
            Difference::Restless(change) => {
                let (by, too) = (change.abs(), too(change));
                write!(f, "the gate is off by another amount at each look, the last time {by} too {too}")
            }
        }
    }
}

/// The SKUs that were wrong at each look so far.
#[derive(Debug)]
pub struct Suspects {
    moment: Moment,
    open: BTreeMap<SkuId, Sightings>,
    proven: BTreeMap<SkuId, Difference>,
}

#[derive(Debug)]
struct Sightings {
    /// How often it was off by each amount; `None` stands for no level, whatever MySQL has.
    times: HashMap<Option<i64>, usize>,
    newest: Difference,
}

impl Suspects {
    /// A difference is believed when it was seen so often.
    pub const ENOUGH: usize = 10;

    /// What a look at every SKU found.
    pub fn first_seen(moment: Moment, differences: BTreeMap<SkuId, Difference>) -> Suspects {
        let none = BTreeMap::new();
        let mut suspects = Suspects { moment, open: none, proven: BTreeMap::new() };
        suspects.see(moment, differences);
        suspects
    }

    /// The SKUs to look at once more.
    pub fn open(&self) -> Vec<SkuId> {
        self.open.keys().copied().collect()
    }

    /// What a look at the open SKUs found: those that it does not name are right. After the gate was mended by somebody, all
    /// that was seen before proves nothing.
    pub fn see(&mut self, moment: Moment, differences: BTreeMap<SkuId, Difference>) {
        let mut seen = std::mem::take(&mut self.open);
        if moment != self.moment {
            self.moment = moment;
            seen.clear();
            let doubted = std::mem::take(&mut self.proven).into_iter();
            self.open =
                doubted.map(|(sku, newest)| (sku, Sightings { times: HashMap::new(), newest })).collect();
        }
        for (sku, difference) in differences {
            let mut times = seen.remove(&sku).map(|seen| seen.times).unwrap_or_default();
            let count = times.entry(difference.amount()).or_default();
            *count += 1;
            if *count == Suspects::ENOUGH {
                self.proven.insert(sku, difference);
            } else {
                self.open.insert(sku, Sightings { times, newest: difference });
            }
        }
    }

    /// What is wrong, and when that was so. To be asked when no more looks are taken.
    pub fn verdict(self) -> (Moment, BTreeMap<SkuId, Difference>) {
        let restless = |seen: Sightings| match seen.newest {
            Difference::Off(change) => Difference::Restless(change),
            other => other,
        };
        let mut wrong = self.proven;
        wrong.extend(self.open.into_iter().map(|(sku, seen)| (sku, restless(seen))));
        (self.moment, wrong)
    }
}

impl Difference {
    fn amount(self) -> Option<i64> {
        match self {
            Difference::Off(change) | Difference::Restless(change) => Some(change),
            Difference::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Difference::{Off, Restless, Unknown};
    use super::*;

    const MOMENT: Moment = Moment { epoch: 3, mends: 5 };

    fn look(differences: &[(i64, Difference)]) -> BTreeMap<SkuId, Difference> {
        differences.iter().map(|(sku, difference)| (SkuId(*sku), *difference)).collect()
    }

    fn after(looks: impl IntoIterator<Item = Vec<(i64, Difference)>>) -> Suspects {
        let mut looks = looks.into_iter();
        let mut suspects = Suspects::first_seen(MOMENT, look(&looks.next().unwrap()));
        for differences in looks {
            suspects.see(MOMENT, look(&differences));
        }
        suspects
    }

    #[test]
    fn what_was_right_once_is_let_go() {
        let mut looks = vec![vec![(7, Off(-1)), (8, Off(2))]; Suspects::ENOUGH - 1];
        looks.push(vec![(8, Off(2))]);
        let suspects = after(looks);
        assert!(suspects.open().is_empty());
        assert_eq!(suspects.verdict(), (MOMENT, look(&[(8, Off(2))])));
    }

    #[test]
    fn an_amount_is_believed_when_it_was_seen_often_enough_whatever_came_between() {
        let noisy = (0..2 * Suspects::ENOUGH - 1).map(|n| vec![(7, Off(if n % 2 == 0 { 5 } else { 5 - 1 }))]);
        let suspects = after(noisy);
        assert!(suspects.open().is_empty());
        assert_eq!(suspects.verdict().1, look(&[(7, Off(5))]));
    }

    #[test]
    fn what_is_never_right_is_named_without_an_amount() {
        let suspects = after((1..40).map(|n| vec![(7, Off(-n))]));
        assert_eq!(suspects.open(), [SkuId(7)]);
        assert_eq!(suspects.verdict().1, look(&[(7, Restless(-39))]));
    }

    #[test]
    fn a_sku_without_a_level_is_one_whatever_mysql_sells_meanwhile() {
        let looks = (0..).take(Suspects::ENOUGH).map(|sold| vec![(7, Unknown(100 - sold))]);
        assert_eq!(after(looks).verdict().1, look(&[(7, Unknown(91))]));
    }

    #[test]
    fn what_was_seen_before_the_gate_was_mended_proves_nothing() {
        let mut looks = vec![vec![(7, Off(1)), (8, Off(2)), (9, Off(3))]; Suspects::ENOUGH - 1];
        looks.push(vec![(7, Off(1)), (8, Off(2)), (9, Off(4))]);
        let mut suspects = after(looks);
        assert_eq!(suspects.open(), [SkuId(9)]);
        let mended = Moment { mends: MOMENT.mends + 1, ..MOMENT };
        suspects.see(mended, look(&[(9, Off(3))]));
        assert_eq!(suspects.open(), [SkuId(7), SkuId(8), SkuId(9)]);
        suspects.see(mended, look(&[(8, Off(2))]));
        assert_eq!(suspects.open(), [SkuId(8)]);
        for _ in 1..Suspects::ENOUGH {
            suspects.see(mended, look(&[(8, Off(2))]));
        }
        assert_eq!(suspects.verdict(), (mended, look(&[(8, Off(2))])));
    }

    #[test]
    fn differences_are_told_in_words() {
        let said = |difference: Difference| difference.to_string();
        assert_eq!(said(Off(-5)), "the gate shows 5 too much");
        assert_eq!(said(Off(1)), "the gate shows 1 too little");
        assert_eq!(said(Unknown(9)), "not in the gate");
        assert_eq!(
            said(Restless(-2)),
            "the gate is off by another amount at each look, the last time 2 too much"
        );
    }
}
