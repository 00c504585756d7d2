//! What happens in a trial, all of it drawn from one seed.

/// SplitMix64: small, and the same everywhere and for ever.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `least` to `most`.
    fn within(&mut self, least: usize, most: usize) -> usize {
        let span = u64::try_from(most - least + 1).unwrap();
        least + usize::try_from(self.next() % span).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.within(1, 100) <= percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.within(0, from.len() - 1)].clone()
    }
}

/// SKUs that orders are about: the first ones of the shop.
pub const SKUS: usize = 3;

/// One trial.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What each of the SKUs has.
    pub stock: Vec<i32>,
    /// One origin each: where it kills itself, if anywhere.
    pub origins: Vec<Option<String>>,
    pub worker_dies_at: Option<String>,
    pub shoppers: usize,
    pub wishes: Vec<Wish>,
    /// Wishes under way at any time.
    pub at_once: usize,
    /// After how many events which fault strikes. An event is a reply or a broken line.
    pub faults: Vec<(usize, Fault)>,
}

/// One order that a shopper wants, under a key of its own.
#[derive(Clone, Debug)]
pub struct Wish {
    pub shopper: usize,
    /// Which SKU, and how many.
    pub lines: Vec<(usize, u32)>,
    pub origin: usize,
    /// The same request goes to this origin at the same time.
    pub twin: Option<usize>,
    /// Where it is asked again in the end.
    pub again_at: usize,
    /// Paid in part with the shopper's coupon. There is one, which other wishes may want too.
    pub coupon: bool,
    pub then: Then,
}

/// What the shopper does with the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Keep,
    Pay,
    Cancel,
    PayWhileCancelling,
    /// Nobody pays, and the time is over.
    Expire,
    /// Payment was prepared, nobody pays, and the time is over.
    PrepareAndExpire,
    PayWhileExpiring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL from outside; `back` at once or only in the end.
    KillOrigin {
        which: usize,
        back: bool,
    },
    KillWorker {
        back: bool,
    },
    /// Every hold looks as if its maker had died long ago, those of living makers too.
    AgeHolds,
    RedisFlush,
    /// Killed and started empty.
    RedisRestart,
    RedisSave,
    /// Killed and started with what `RedisSave` kept.
    RedisRollBack,
    /// It hears, and nobody hears it.
    RedisHang,
    /// The connections to a Redis that hung break, and new ones are as good as ever.
    RedisRecover,
    MysqlRestart,
    /// So many of its replies are lost, then every connection breaks.
    MysqlDeaf {
        replies: u64,
    },
}

impl Plan {
    pub fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let r = &mut random;
        let stock = (0..SKUS).map(|_| i32::try_from(r.within(2, 8)).unwrap()).collect();
        let origins: Vec<Option<String>> = (0..r.within(1, 3)).map(|_| origin_death(r)).collect();
        let worker_dies_at = r.chance(40).then(|| {
            let point = r.pick(&WORKER_POINTS);
            let last = if point == "in_sweeper" { 1 } else { r.within(1, 2) };
            format!("{point}:{last}")
        });
        let shoppers = r.within(4, 10);
        let wishes: Vec<Wish> =
            (0..r.within(shoppers, 14)).map(|_| wish(r, shoppers, origins.len())).collect();
        let at_once = r.within(3, 8);
        let mut faults = faults(r, origins.len(), wishes.len());
        if worker_dies_at.as_ref().is_some_and(|point| point.starts_with("in_sweeper")) {
            faults.push((r.within(1, wishes.len()), Fault::AgeHolds));
        }
        faults.sort_by_key(|(moment, _)| *moment);
        Plan { stock, origins, worker_dies_at, shoppers, wishes, at_once, faults }
    }
}

/// Where an origin may kill itself.
const ORIGIN_POINTS: [&str; 6] = [
    "after_gate",
    "in_batch",
    "after_commit",
    "after_cancel_commit",
    "notification_kept",
    "notification_done",
];
/// Where the worker may.
const WORKER_POINTS: [&str; 6] = [
    "in_sweeper",
    "after_cancel_commit",
    "outbox_before_send",
    "outbox_after_send",
    "outbox_after_effect",
    "outbox_after_call",
];

fn origin_death(r: &mut Random) -> Option<String> {
    r.chance(40).then(|| {
        let point = r.pick(&ORIGIN_POINTS);
        format!("{point}:{}", r.within(1, 4))
    })
}

fn wish(r: &mut Random, shoppers: usize, origins: usize) -> Wish {
    let first = r.within(0, SKUS - 1);
    let lines = (0..r.within(1, SKUS))
        .map(|next| ((first + next) % SKUS, u32::try_from(r.within(1, 2)).unwrap()))
        .collect();
    let then = r.pick(&[
        Then::Keep,
        Then::Pay,
        Then::Pay,
        Then::Cancel,
        Then::Cancel,
        Then::PayWhileCancelling,
        Then::Expire,
        Then::PrepareAndExpire,
        Then::PayWhileExpiring,
    ]);
    Wish {
        shopper: r.within(0, shoppers - 1),
        lines,
        origin: r.within(0, origins - 1),
        twin: r.chance(30).then(|| r.within(0, origins - 1)),
        again_at: r.within(0, origins - 1),
        coupon: r.chance(40),
        then,
    }
}

/// Not sorted yet. No moment is later than the last wish's first reply.
fn faults(r: &mut Random, origins: usize, wishes: usize) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..r.within(1, 3) {
        let moment = r.within(1, wishes);
        match r.within(0, 10) {
            0 | 1 => {
                let which = r.within(0, origins - 1);
                faults.push((moment, Fault::KillOrigin { which, back: r.chance(50) }));
            }
            2 => faults.push((moment, Fault::KillWorker { back: r.chance(50) })),
            3 => faults.push((moment, Fault::AgeHolds)),
            4 => faults.push((moment, Fault::RedisFlush)),
            5 => faults.push((moment, Fault::RedisRestart)),
            6 => {
                faults.push((r.within(0, moment - 1), Fault::RedisSave));
                faults.push((moment, Fault::RedisRollBack));
            }
            7 | 8 => {
                faults.push((r.within(0, moment - 1), Fault::RedisHang));
                faults.push((moment, Fault::RedisRecover));
            }
            9 => faults.push((moment, Fault::MysqlRestart)),
            _ => {
                let replies = u64::try_from(r.within(1, 2)).unwrap();
                faults.push((moment, Fault::MysqlDeaf { replies }));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The reference implementation's first outputs for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let drawn = [random.next(), random.next(), random.next()];
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_kind_of_fault_death_and_wish_is_drawn() {
        let plans: Vec<String> = (0..500).map(|seed| format!("{:?}", Plan::draw(seed))).collect();
        let faults = [
            "KillOrigin",
            "KillWorker",
            "AgeHolds",
            "RedisFlush",
            "RedisRestart",
            "RedisSave",
            "RedisRollBack",
            "RedisHang",
            "RedisRecover",
            "MysqlRestart",
            "MysqlDeaf",
        ];
        let wishes = [
            "coupon: true",
            "coupon: false",
            "twin: Some",
            "twin: None",
            "PayWhileExpiring",
            "PrepareAndExpire",
        ];
        for what in [&faults[..], &ORIGIN_POINTS, &WORKER_POINTS, &wishes].concat() {
            assert!(plans.iter().any(|plan| plan.contains(what)), "{what} is never drawn");
        }
    }

    #[test]
    fn a_seed_is_one_plan_and_every_plan_can_be_played() {
        for seed in 0..2000 {
            let plan = Plan::draw(seed);
            assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::draw(seed)));
            let mut saved = false;
            let mut hung = false;
            for (moment, fault) in &plan.faults {
                assert!(*moment <= plan.wishes.len(), "{plan:?}");
                saved |= *fault == Fault::RedisSave;
                assert!(saved || *fault != Fault::RedisRollBack, "nothing to roll back to: {plan:?}");
                hung = (hung || *fault == Fault::RedisHang) && *fault != Fault::RedisRecover;
            }
            assert!(!hung, "Redis hangs for good: {plan:?}");
            for wish in &plan.wishes {
                let mut skus: Vec<usize> = wish.lines.iter().map(|(sku, _)| *sku).collect();
                skus.sort_unstable();
                skus.dedup();
                assert_eq!(skus.len(), wish.lines.len(), "a SKU twice: {plan:?}");
            }
        }
    }
}
