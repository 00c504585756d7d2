//! The taking of goods from the gate. Promises what `take.lua` says of one order to each of those that come together: they
//! share one call, which costs Redis little more than one of them alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use farmgate_shared::ids::{OrderNo, SkuId};
use redis::{RedisResult, Script};

use super::Line;
use super::gate::{MARKER_LIFE_MS, keys};
use crate::db::batch::{Asked, Batcher, Rules};
use crate::redis::Redis;

/// An order that comes alone is asked for at once; of a rush, those of a millisecond together.
const RULES: Rules = Rules { name: "take", most: 64, lanes: 2, crowd: 32, pace: Duration::from_millis(1) };

/// Numbers that the script answers of each order.
const ANSWER: usize = 3;

/// Who takes from the gate: an order's number, and the request that it is made for, by which an equal request at another
/// replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub order_no: OrderNo,
    /// User and idempotency key.
    pub request: String,
}

/// What an order asks of the gate.
#[derive(Clone, Debug)]
pub struct Taking {
    pub hold: Hold,
    /// Of different SKUs.
    pub lines: Vec<Line>,
    /// No reply to an equal request was found: then only one that may still be in the making stands in the way.
    pub has_looked: bool,
}

/// What the gate said to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All lines were taken, and the order's hold is written.
    Yes,
    /// This SKU has only so many left; nothing was taken.
    SoldOut(SkuId, u32),
    /// An equal request came first: its reply, which may not be there yet, is this one's too. Nothing was taken.
    Twin,
    /// The gate cannot say; MySQL will.
    Unknown,
}

/// Takes for many orders at once.
pub struct Taker {
    batcher: Batcher<Asked<Taking, Taken>>,
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batcher.fmt(f)
    }
}

impl Taker {
    /// `epoch` is the gate's generation as this process knows it; an equal request waits `twin_within_ms` milliseconds for the
    /// one that came first.
    pub fn new(redis: &Redis, epoch: Arc<AtomicI64>, twin_within_ms: u32) -> Taker {
        let script = Script::new(include_str!("take.lua"));
        let counter = Arc::new(Counter { redis: redis.clone(), script, epoch, twin_within_ms });
        let batcher = Batcher::new(RULES, move |asked: Vec<Asked<Taking, Taken>>| {
            let counter = counter.clone();
            Box::pin(async move {
                let (takings, askers): (Vec<Taking>, Vec<_>) = asked.into_iter().unzip();
                let answers = counter.ask(&takings).await;
                let mut answers = answers.chunks_exact(ANSWER);
                for (taking, asker) in takings.iter().zip(askers) {
                    let taken = answers.next().map_or(Taken::Unknown, |said| understood(said, taking));
                    // Whoever asked may have gone away; the hold is then the sweeper's.
                    let _ = asker.send(taken);
                }
            })
        });
        Taker { batcher }
    }

    /// What the gate says to an order.
    pub async fn take(&self, taking: Taking) -> Taken {
        self.batcher.ask(taking).await.unwrap_or(Taken::Unknown)
    }
}

/// Where all are served.
struct Counter {
    redis: Redis,
    script: Script,
    epoch: Arc<AtomicI64>,
    twin_within_ms: u32,
}

impl Counter {
    /// The script's answers, as many as there are.
    async fn ask(&self, takings: &[Taking]) -> Vec<i64> {
        let answers = self.redis.call_for_many(self.call(takings)).await;
        answers.unwrap_or_else(|error| {
            tracing::debug!(%error, orders = takings.len(), "the gate did not answer, going by MySQL alone");
            Vec::new()
        })
    }

    async fn call(&self, takings: &[Taking]) -> RedisResult<Vec<i64>> {
        let redis = &self.redis;
        let mut call = self.script.key(keys::epoch(redis));
        call.key(keys::held(redis)).key(keys::markers(redis));
        call.arg(self.epoch.load(Ordering::Relaxed)).arg(MARKER_LIFE_MS).arg(self.twin_within_ms);
        let mut places: HashMap<SkuId, usize> = HashMap::new();
        for Taking { hold, lines, has_looked } in takings {
            call.arg(hold.order_no.as_str()).arg(&hold.request).arg(u8::from(*has_looked)).arg(lines.len());
            for line in lines {
                let next = places.len() + 1;
                let place = *places.entry(line.sku_id).or_insert_with(|| {
                    call.key(keys::stock(redis, line.sku_id));
                    next
                });
                call.arg(place).arg(line.quantity);
            }
        }
        call.invoke_async(&mut redis.connection()).await
    }
}

/// What the script's numbers say to an order.
fn understood(said: &[i64], taking: &Taking) -> Taken {
    match *said {
        [0, ..] => Taken::Yes,
        [1, place, left] => {
            let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
            place.and_then(|place| taking.lines.get(place)).map_or(Taken::Unknown, |line| {
                // Never above the quantity that was asked for, so it fits; a level below 0 leaves nothing.
                Taken::SoldOut(line.sku_id, u32::try_from(left).unwrap_or(0))
            })
        }
        [3, ..] => Taken::Twin,
        _ => Taken::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_numbers_are_understood() {
        let line = |sku| Line { sku_id: SkuId(sku), quantity: 3 };
        let hold =
            Hold { order_no: "2026112300000000000001".parse().unwrap(), request: "7:key-1".to_owned() };
        let taking = Taking { hold, lines: vec![line(11), line(12)], has_looked: false };
        let says = |said: [i64; ANSWER]| understood(&said, &taking);
        assert_eq!(says([0, 0, 0]), Taken::Yes);
        assert_eq!(says([1, 2, 1]), Taken::SoldOut(SkuId(12), 1));
        assert_eq!(says([1, 1, -4]), Taken::SoldOut(SkuId(11), 0));
        assert_eq!(says([3, 0, 0]), Taken::Twin);
        for cannot_say in [[2, 1, 0], [1, 3, 0], [1, 0, 0], [9, 0, 0]] {
            assert_eq!(says(cannot_say), Taken::Unknown, "{cannot_say:?}");
        }
    }
}
