//! The goals of the design, each with the ratio that this run showed. A ratio whose parts were not measured is said to be
//! missing, never met.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contest::Slice;

/// The contests by name.
pub type Contests = BTreeMap<String, Slice>;

pub const SEED: &str = "hot seed";
pub const REPAIRED: &str = "hot repaired";
pub const BARE: &str = "hot bare-sql";
pub const HOT: &str = "hot origin";
pub const SPREAD: &str = "spread origin";
pub const THREE: &str = "three origin";
pub const SOLD_OUT: &str = "sold-out origin";
pub const SOLD_OUT_AGAIN: &str = "sold-out-again origin";
pub const STATIC: &str = "static origin";
pub const HEALTH: &str = "healthz origin";
pub const SINGLE: &str = "single origin";
pub const COMMIT: &str = "commit mysql";

/// What the shop itself is made of; the load generator is none of it.
const ORIGIN_PARTS: [&str; 4] = ["origin", "worker", "mysql", "redis"];

/// Which side of the goal is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    AtLeast,
    AtMost,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    pub what: &'static str,
    pub value: Option<f64>,
    pub sense: Sense,
    /// None where the design sets no goal.
    pub goal: Option<f64>,
}

impl Ratio {
    /// Whether the goal is met; `None` without a goal or a value.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let (value, goal) = (self.value?, self.goal?);
        Some(match self.sense {
            Sense::AtLeast => value >= goal,
            Sense::AtMost => value <= goal,
        })
    }
}

/// All ratios of a run.
#[must_use]
pub fn of(contests: &Contests) -> Vec<Ratio> {
    let speed = |name: &str| contests.get(name).map(|slice| slice.per_second).filter(|speed| *speed > 0.0);
    let faster = |one: &str, other: &str| Some(speed(one)? / speed(other)?);
    let origin_cost = |name: &str| cost(contests.get(name)?, &ORIGIN_PARTS);
    let peer_cost = |name: &str, node: &str| cost(contests.get(name)?, &[node, "mysql", "redis"]);
    let cheaper = |peer: Option<f64>| Some(origin_cost(HOT)? / peer?);
    let at_least = |what, value, goal| Ratio { what, value, sense: Sense::AtLeast, goal };
    let at_most = |what, value, goal| Ratio { what, value, sense: Sense::AtMost, goal };
    let single = || {
        let (order, commit) = (contests.get(SINGLE)?.p99_ms?, contests.get(COMMIT)?.p50_ms?);
        Some(order / (commit + 2.0))
    };
    vec![
        at_least("orders/s of one hot SKU, origin / seed on Express", faster(HOT, SEED), Some(20.0)),
        at_least("orders/s of one hot SKU, origin / repaired Express", faster(HOT, REPAIRED), None),
        at_most(
            "CPU of an order, origin / seed on Express",
            cheaper(peer_cost(SEED, "express-seed")),
            Some(0.1),
        ),
        at_most(
            "CPU of an order, origin / repaired Express",
            cheaper(peer_cost(REPAIRED, "express-repaired")),
            None,
        ),
        at_least("orders/s of one hot SKU, origin / bare loop of its SQL", faster(HOT, BARE), Some(0.5)),
        at_least("orders/s, one hot SKU / spread SKUs", faster(HOT, SPREAD), Some(0.8)),
        at_least("orders/s, three-SKU orders / one-SKU orders, both spread", faster(THREE, SPREAD), None),
        at_most("p99 of one order alone / (median commit + 2 ms)", single(), Some(1.5)),
        at_least("sold-out refusals/s / static page of the same server", faster(SOLD_OUT, STATIC), Some(0.7)),
        at_least(
            "sold-out refusals/s of who bought of it before / the same",
            faster(SOLD_OUT_AGAIN, STATIC),
            None,
        ),
        at_least("sold-out refusals/s / its page outside all layers", faster(SOLD_OUT, HEALTH), None),
    ]
}

/// Microseconds an order of these processes together; `None` when one was not measured.
fn cost(slice: &Slice, parts: &[&str]) -> Option<f64> {
    parts.iter().map(|part| slice.cpu_us.get(*part).copied()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(per_second: f64, cpu: &[(&str, f64)]) -> Slice {
        let cpu_us = cpu.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect();
        Slice { per_second, cpu_us, ..Slice::default() }
    }

    fn value(contests: &Contests, what: &str) -> Ratio {
        of(contests).into_iter().find(|ratio| ratio.what.starts_with(what)).unwrap()
    }

    #[test]
    fn a_goal_has_a_good_side() {
        let ratio = |sense, value| Ratio { what: "", value, sense, goal: Some(2.0) };
        assert_eq!(ratio(Sense::AtLeast, Some(2.0)).met(), Some(true));
        assert_eq!(ratio(Sense::AtLeast, Some(1.9)).met(), Some(false));
        assert_eq!(ratio(Sense::AtMost, Some(2.1)).met(), Some(false));
        assert_eq!(ratio(Sense::AtMost, None).met(), None);
    }

    #[test]
    fn speed_is_compared_with_the_seeds() {
        let contests =
            Contests::from([(HOT.to_owned(), slice(4000.0, &[])), (SEED.to_owned(), slice(160.0, &[]))]);
        let ratio = value(&contests, "orders/s of one hot SKU, origin / seed");
        assert_eq!((ratio.value, ratio.met()), (Some(25.0), Some(true)));
        assert_eq!(value(&contests, "orders/s, one hot SKU / spread").value, None);
    }

    #[test]
    fn a_seed_that_made_no_order_is_no_infinite_ratio() {
        let contests =
            Contests::from([(HOT.to_owned(), slice(4000.0, &[])), (SEED.to_owned(), slice(0.0, &[]))]);
        assert_eq!(value(&contests, "orders/s of one hot SKU, origin / seed").met(), None);
    }

    #[test]
    fn cost_counts_every_part_of_the_shop_and_not_the_generator() {
        let ours = [("origin", 50.0), ("worker", 1.0), ("mysql", 40.0), ("redis", 9.0), ("bench", 999.0)];
        let theirs = [("express-seed", 700.0), ("mysql", 250.0), ("redis", 50.0), ("bench", 1.0)];
        let contests =
            Contests::from([(HOT.to_owned(), slice(1.0, &ours)), (SEED.to_owned(), slice(1.0, &theirs))]);
        let ratio = value(&contests, "CPU of an order, origin / seed");
        assert_eq!((ratio.value, ratio.met()), (Some(0.1), Some(true)));
        let without = Contests::from([
            (HOT.to_owned(), slice(1.0, &ours[..2])),
            (SEED.to_owned(), slice(1.0, &theirs)),
        ]);
        assert_eq!(value(&without, "CPU of an order, origin / seed").value, None);
    }

    #[test]
    fn one_order_alone_is_held_against_the_commit() {
        let timed = |p50_ms, p99_ms| Slice { p50_ms, p99_ms, ..Slice::default() };
        let contests = Contests::from([
            (SINGLE.to_owned(), timed(Some(4.0), Some(6.0))),
            (COMMIT.to_owned(), timed(Some(2.0), Some(50.0))),
        ]);
        assert_eq!(value(&contests, "p99 of one order alone").value, Some(1.5));
    }
}
