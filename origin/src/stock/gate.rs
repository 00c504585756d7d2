//! The Redis gate: what each SKU has left, decided atomically in front of MySQL. It can refuse a sale, never make one:
//! when it is away, incomplete or of another generation, orders go by MySQL alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use farmgate_shared::ids::{OrderNo, SkuId};
use redis::{AsyncCommands, Script};

use super::Line;
use super::held::{self, Levels};
use super::suspects::{Difference, Moment};
use super::taking::{Hold, Taken, Taker, Taking};
use crate::db::batch::{Batcher, Rules};
use crate::redis::Redis;

/// How long a request's marker stays at least, in milliseconds, and at most twice as long: for so long a repetition is told
/// here that it is one, and its first reply is looked up before anything is written. A later one is found by its key in
/// MySQL, at the cost of a rollback.
pub(super) const MARKER_LIFE_MS: u32 = 30_000;
/// How holds of orders that were made are dropped: nobody waits for it.
const SETTLING: Rules =
    Rules { name: "settle", most: 256, lanes: 1, crowd: 256, pace: Duration::from_millis(5) };

/// The gate, as this process sees it.
#[derive(Debug)]
pub struct Gate {
    redis: Redis,
    /// The generation that MySQL names; 0 until it is known.
    epoch: Arc<AtomicI64>,
    taker: Taker,
    release: Script,
    give_back: Script,
    lower: Script,
    adjust: Script,
    settling: Batcher<OrderNo>,
}

impl Gate {
    /// An equal request waits `twin_within_ms` milliseconds for the one that came first.
    pub fn new(redis: Redis, twin_within_ms: u32) -> Gate {
        let settling = Batcher::new(SETTLING, {
            let redis = redis.clone();
            move |holds: Vec<OrderNo>| {
                let redis = redis.clone();
                Box::pin(async move { drop_holds(&redis, &holds).await })
            }
        });
        let epoch = Arc::new(AtomicI64::new(0));
        Gate {
            settling,
            taker: Taker::new(&redis, epoch.clone(), twin_within_ms),
            redis,
            epoch,
            release: Script::new(include_str!("release.lua")),
            give_back: Script::new(include_str!("give_back.lua")),
            lower: Script::new(include_str!("lower.lua")),
            adjust: Script::new(include_str!("adjust.lua")),
        }
    }

    pub fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Takes all lines for an order, or none, and writes its hold. Asking twice for one order takes once.
    pub async fn take(&self, taking: Taking) -> Taken {
        if self.epoch() == 0 {
            return Taken::Unknown;
        }
        self.taker.take(taking).await
    }

    /// Undoes a take whose order definitely was not made.
    pub async fn release(&self, hold: &Hold) {
        self.undo(&hold.order_no, Some(&hold.request)).await;
    }

    /// Gives back the hold of an order whose maker is gone.
    pub async fn release_abandoned(&self, order: &OrderNo) {
        self.undo(order, None).await;
    }

    async fn undo(&self, order: &OrderNo, request: Option<&str>) {
        let mut call = self.release.key(keys::epoch(&self.redis));
        call.key(keys::held(&self.redis)).key(keys::markers(&self.redis));
        call.arg(self.epoch()).arg(order.as_str()).arg(MARKER_LIFE_MS).arg(request);
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, %order, "a hold was not released, the gate shows too little");
        }
    }

    /// Drops the hold of an order that was made: MySQL holds the stock now. Done soon, together with others; nobody
    /// needs to wait for it, since a hold that stays is dropped by the sweeper.
    pub fn settle(&self, order: OrderNo) {
        self.settling.submit(order);
    }

    /// Drops the hold of an order that was made and whose maker is gone.
    pub async fn settle_abandoned(&self, order: &OrderNo) {
        drop_holds(&self.redis, std::slice::from_ref(order)).await;
    }

    /// Puts a cancelled order's goods back.
    pub async fn give_back(&self, lines: &[Line]) {
        let mut call = self.give_back.key(keys::epoch(&self.redis));
        call.arg(self.epoch());
        for line in lines {
            call.key(keys::stock(&self.redis, line.sku_id)).arg(line.quantity);
        }
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, "stock was not put back, the gate shows too little");
        }
    }

    /// Lowers a SKU to `available`; never raises it.
    pub async fn lower(&self, sku: SkuId, available: i64) {
        let mut call = self.lower.key(keys::epoch(&self.redis));
        call.key(keys::stock(&self.redis, sku)).arg(self.epoch()).arg(available);
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, %sku, "the gate was not lowered");
        }
    }

    /// What the gate shows of some SKUs, and all of its holds, at one moment.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn levels(&self, skus: &[SkuId]) -> redis::RedisResult<Levels> {
        let stock: Vec<String> = skus.iter().map(|sku| keys::stock(&self.redis, *sku)).collect();
        let mut look = redis::pipe();
        look.atomic().mget(&stock).hgetall(keys::held(&self.redis)).get(keys::mends(&self.redis));
        let (levels, holds, mends): (Vec<Option<String>>, _, Option<i64>) =
            look.query_async(&mut self.redis.connection()).await?;
        let shown: Vec<_> =
            skus.iter().zip(stock).zip(levels).map(|((sku, key), level)| (*sku, key, level)).collect();
        Ok(Levels::new(&shown, holds, mends.unwrap_or(0)))
    }

    /// Moves levels by what they were off, never below 0, and makes those that are not there, unless the gate was mended, or
    /// is another one, since that was seen. Says which were changed.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn adjust(
        &self,
        seen: Moment,
        differences: &[(SkuId, Difference)],
    ) -> redis::RedisResult<Vec<bool>> {
        let mut call = self.adjust.key(keys::epoch(&self.redis));
        call.key(keys::mends(&self.redis)).arg(seen.epoch).arg(seen.mends);
        for (sku, difference) in differences {
            let (kind, by) = match *difference {
                Difference::Off(change) => ("by", change),
                Difference::Unknown(level) => ("new", level),
                Difference::Restless(_) => ("by", 0),
            };
            call.key(keys::stock(&self.redis, *sku)).arg(kind).arg(by);
        }
        call.invoke_async(&mut self.redis.connection()).await
    }

    /// Order numbers whose hold has stood for longer than `life_ms` milliseconds by Redis' own clock, the oldest first.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn holds_older_than(&self, life_ms: i64, most: usize) -> redis::RedisResult<Vec<OrderNo>> {
        let mut look = redis::pipe();
        look.cmd("TIME").hgetall(keys::held(&self.redis));
        let ((seconds, micros), holds): ((i64, i64), _) =
            look.query_async(&mut self.redis.connection()).await?;
        Ok(held::taken_before(seconds * 1000 + micros / 1000 - life_ms, most, holds))
    }

    /// The generation that Redis shows, if any.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn shown_epoch(&self) -> redis::RedisResult<Option<i64>> {
        self.redis.connection().get(keys::epoch(&self.redis)).await
    }

    /// Writes every level, then the generation: a reader that sees the new generation sees all of its levels.
    ///
    /// # Errors
    /// When Redis is away; the gate is then of no generation.
    pub async fn fill(
        &self,
        epoch: i64,
        levels: impl IntoIterator<Item = (SkuId, i64)>,
    ) -> redis::RedisResult<()> {
        let mut connection = self.redis.connection();
        // The generation and all holds at once: a hold of an old generation must not be given back to a new one, whose
        // levels never counted it.
        let (): () = connection.del(&[keys::epoch(&self.redis), keys::held(&self.redis)]).await?;
        let levels: Vec<(String, i64)> =
            levels.into_iter().map(|(sku, available)| (keys::stock(&self.redis, sku), available)).collect();
        for chunk in levels.chunks(1000) {
            let (): () = connection.mset(chunk).await?;
        }
        connection.set(keys::epoch(&self.redis), epoch).await
    }
}

async fn drop_holds(redis: &Redis, orders: &[OrderNo]) {
    let numbers: Vec<&str> = orders.iter().map(OrderNo::as_str).collect();
    let done: redis::RedisResult<()> = redis.connection().hdel(keys::held(redis), numbers).await;
    if let Err(error) = done {
        tracing::debug!(%error, orders = orders.len(), "holds were not dropped");
    }
}

/// The names of the gate's keys.
pub(super) mod keys {
    use farmgate_shared::ids::SkuId;

    use crate::redis::Redis;

    pub fn epoch(redis: &Redis) -> String {
        redis.key("gate-epoch")
    }

    /// How often levels were moved to MySQL's.
    pub fn mends(redis: &Redis) -> String {
        redis.key("gate-mends")
    }

    /// All holds: a hash by order number.
    pub fn held(redis: &Redis) -> String {
        redis.key("held")
    }

    /// What the names of the markers' hashes begin with; a number of the period in which they were made follows.
    pub fn markers(redis: &Redis) -> String {
        redis.key("twins:")
    }

    pub fn stock(redis: &Redis, sku: SkuId) -> String {
        redis.key(&format!("stock:{sku}"))
    }
}
