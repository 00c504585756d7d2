//! The Redis gate: what each SKU has left, decided atomically in front of MySQL. It can refuse a sale, never make one:
//! when it is away, incomplete or of another generation, orders go by MySQL alone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use farmgate_shared::ids::{OrderNo, SkuId};
use redis::{AsyncCommands, Script};

use super::Line;
use crate::db::batch::{Batcher, Rules};
use crate::redis::Redis;

/// How long a request's marker stays, in milliseconds: for so long a repetition is told here that it is one, and its first
/// reply is looked up before anything is written. A later one is found by its key in MySQL, at the cost of a rollback.
const MARKER_LIFE_MS: u32 = 30_000;
/// How long an equal request waits for the one that came first, in milliseconds. An order is decided within a few; a
/// maker that is slower, or died, is no longer waited for.
const IN_THE_MAKING_MS: u32 = 2000;
/// How holds of orders that were made are dropped: nobody waits for it.
const SETTLING: Rules =
    Rules { name: "settle", most: 256, lanes: 1, crowd: 256, pace: Duration::from_millis(5) };

/// The gate, as this process sees it.
#[derive(Debug)]
pub struct Gate {
    redis: Redis,
    /// The generation that MySQL names; 0 until it is known.
    epoch: AtomicI64,
    take: Script,
    release: Script,
    give_back: Script,
    lower: Script,
    levels: Script,
    adjust: Script,
    clear: Script,
    settling: Batcher<OrderNo>,
}

/// Who takes from the gate: an order's number, and the request that it is made for, by which an equal request at another
/// replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub order_no: OrderNo,
    /// User and idempotency key.
    pub request: String,
}

/// The gate at one moment.
#[derive(Debug)]
pub struct Levels {
    shown: HashMap<SkuId, i64>,
    /// By SKU: order number and quantity.
    held: HashMap<SkuId, Vec<(String, i64)>>,
    orders: Vec<String>,
}

impl Levels {
    /// What the gate shows of a SKU; `None` when it does not know it.
    pub fn shown(&self, sku: SkuId) -> Option<i64> {
        self.shown.get(&sku).copied()
    }

    /// The numbers of all orders that have a hold.
    pub fn orders(&self) -> &[String] {
        &self.orders
    }

    /// What is held of a SKU for orders that are not among `made`.
    pub fn held_for_orders_other_than(&self, sku: SkuId, made: &HashSet<String>) -> i64 {
        let holds = self.held.get(&sku).map_or(&[][..], Vec::as_slice);
        holds.iter().filter(|(order, _)| !made.contains(order)).map(|(_, quantity)| quantity).sum()
    }
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

impl Gate {
    pub fn new(redis: Redis) -> Gate {
        let settling = Batcher::new(SETTLING, {
            let redis = redis.clone();
            move |holds: Vec<OrderNo>| {
                let redis = redis.clone();
                Box::pin(async move { settle_all(&redis, &holds).await })
            }
        });
        Gate {
            settling,
            redis,
            epoch: AtomicI64::new(0),
            take: Script::new(include_str!("take.lua")),
            release: Script::new(include_str!("release.lua")),
            give_back: Script::new(include_str!("give_back.lua")),
            lower: Script::new(include_str!("lower.lua")),
            levels: Script::new(include_str!("levels.lua")),
            adjust: Script::new(include_str!("adjust.lua")),
            clear: Script::new(include_str!("clear.lua")),
        }
    }

    pub fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Takes all lines for an order, or none, and writes its hold with the moment it was taken (milliseconds since
    /// 1970). Asking twice for one order takes once. `has_looked` says that no reply to an equal request was found: then
    /// only one that may still be in the making stands in the way.
    pub async fn take(&self, hold: &Hold, lines: &[Line], now_ms: i128, has_looked: bool) -> Taken {
        if self.epoch() == 0 {
            return Taken::Unknown;
        }
        let order = &hold.order_no;
        let mut call = self.take.key(self.key_epoch());
        call.key(key_hold(&self.redis, order)).key(key_holds(&self.redis)).key(key_marker(&self.redis, hold));
        call.arg(self.epoch()).arg(now_ms.to_string()).arg(order.as_str());
        call.arg(MARKER_LIFE_MS).arg(IN_THE_MAKING_MS).arg(u8::from(has_looked));
        for line in lines {
            call.key(self.key_stock(line.sku_id)).arg(line.quantity);
        }
        let answer: redis::RedisResult<(i64, usize, i64)> =
            call.invoke_async(&mut self.redis.connection()).await;
        match answer {
            Ok((0, ..)) => Taken::Yes,
            Ok((1, position, left)) => lines.get(position.wrapping_sub(1)).map_or(Taken::Unknown, |line| {
                // Never above the quantity that was asked for, so it fits; a level below 0 leaves nothing.
                Taken::SoldOut(line.sku_id, u32::try_from(left).unwrap_or(0))
            }),
            Ok((3, ..)) => Taken::Twin,
            Ok(_) => Taken::Unknown,
            Err(error) => {
                tracing::debug!(%error, "the gate did not answer, going by MySQL alone");
                Taken::Unknown
            }
        }
    }

    /// Undoes a take whose order definitely was not made.
    pub async fn release(&self, hold: &Hold) {
        self.undo(&hold.order_no, Some(key_marker(&self.redis, hold))).await;
    }

    /// Gives back the hold of an order whose maker is gone.
    pub async fn release_abandoned(&self, order: &OrderNo) {
        self.undo(order, None).await;
    }

    async fn undo(&self, order: &OrderNo, marker: Option<String>) {
        let mut call = self.release.key(self.key_epoch());
        call.key(key_hold(&self.redis, order)).key(key_holds(&self.redis));
        if let Some(marker) = marker {
            call.key(marker);
        }
        call.arg(self.epoch()).arg(order.as_str());
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
        drop_holds(&self.redis, vec![key_hold(&self.redis, order)], &[order]).await;
    }

    /// Puts a cancelled order's goods back.
    pub async fn give_back(&self, lines: &[Line]) {
        let mut call = self.give_back.key(self.key_epoch());
        call.arg(self.epoch());
        for line in lines {
            call.key(self.key_stock(line.sku_id)).arg(line.quantity);
        }
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, "stock was not put back, the gate shows too little");
        }
    }

    /// Lowers a SKU to `available`; never raises it.
    pub async fn lower(&self, sku: SkuId, available: i64) {
        let mut call = self.lower.key(self.key_epoch());
        call.key(self.key_stock(sku)).arg(self.epoch()).arg(available);
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, %sku, "the gate was not lowered");
        }
    }

    /// What the gate shows of some SKUs, and all of its holds.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn levels(&self, skus: &[SkuId]) -> redis::RedisResult<Levels> {
        let mut call = self.levels.key(key_holds(&self.redis));
        call.arg(self.redis.key("hold:"));
        for sku in skus {
            call.key(self.key_stock(*sku));
        }
        let (levels, holds): (Vec<String>, Vec<String>) =
            call.invoke_async(&mut self.redis.connection()).await?;
        let shown =
            skus.iter().zip(&levels).filter_map(|(sku, level)| Some((*sku, level.parse().ok()?))).collect();
        let sku_of: HashMap<String, SkuId> = skus.iter().map(|sku| (self.key_stock(*sku), *sku)).collect();
        let mut held: HashMap<SkuId, Vec<(String, i64)>> = HashMap::new();
        let mut orders: Vec<String> = Vec::new();
        for line in holds.chunks_exact(3) {
            let [order, key, quantity] = line else { continue };
            if orders.last() != Some(order) {
                orders.push(order.clone());
            }
            if let (Some(sku), Ok(quantity)) = (sku_of.get(key), quantity.parse()) {
                held.entry(*sku).or_default().push((order.clone(), quantity));
            }
        }
        Ok(Levels { shown, held, orders })
    }

    /// Moves a level by `change`, never below 0.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn add(&self, sku: SkuId, change: i64) -> redis::RedisResult<()> {
        self.adjust(sku, change, "known").await
    }

    /// Makes a level that is not there yet.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn add_new(&self, sku: SkuId, level: i64) -> redis::RedisResult<()> {
        self.adjust(sku, level, "new").await
    }

    async fn adjust(&self, sku: SkuId, change: i64, kind: &str) -> redis::RedisResult<()> {
        let mut call = self.adjust.key(self.key_epoch());
        call.key(self.key_stock(sku)).arg(self.epoch()).arg(change).arg(kind);
        call.invoke_async(&mut self.redis.connection()).await
    }

    /// Order numbers whose hold was taken before a moment (milliseconds since 1970), the oldest first.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn holds_taken_before(&self, moment_ms: i128, most: isize) -> redis::RedisResult<Vec<OrderNo>> {
        let numbers: Vec<String> = self
            .redis
            .connection()
            .zrangebyscore_limit(key_holds(&self.redis), "-inf", moment_ms.to_string(), 0, most)
            .await?;
        // Nothing but order numbers is ever added there.
        Ok(numbers.iter().filter_map(|number| number.parse().ok()).collect())
    }

    /// The generation that Redis shows, if any.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn shown_epoch(&self) -> redis::RedisResult<Option<i64>> {
        self.redis.connection().get(self.key_epoch()).await
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
        let mut clear = self.clear.key(self.key_epoch());
        let (): () = clear
            .key(key_holds(&self.redis))
            .arg(self.redis.key("hold:"))
            .invoke_async(&mut connection)
            .await?;
        let levels: Vec<(String, i64)> =
            levels.into_iter().map(|(sku, available)| (self.key_stock(sku), available)).collect();
        for chunk in levels.chunks(1000) {
            let (): () = connection.mset(chunk).await?;
        }
        connection.set(self.key_epoch(), epoch).await
    }

    fn key_epoch(&self) -> String {
        self.redis.key("gate-epoch")
    }

    fn key_stock(&self, sku: SkuId) -> String {
        self.redis.key(&format!("stock:{sku}"))
    }
}

async fn settle_all(redis: &Redis, holds: &[OrderNo]) {
    let keys = holds.iter().map(|order| key_hold(redis, order)).collect();
    drop_holds(redis, keys, &holds.iter().collect::<Vec<_>>()).await;
}

async fn drop_holds(redis: &Redis, keys: Vec<String>, orders: &[&OrderNo]) {
    let numbers: Vec<&str> = orders.iter().map(|order| order.as_str()).collect();
    let mut pipe = redis::pipe();
    pipe.atomic().del(keys).ignore().zrem(key_holds(redis), numbers).ignore();
    let done: redis::RedisResult<()> = pipe.query_async(&mut redis.connection()).await;
    if let Err(error) = done {
        tracing::debug!(%error, orders = orders.len(), "holds were not dropped");
    }
}

fn key_hold(redis: &Redis, order: &OrderNo) -> String {
    redis.key(&format!("hold:{order}"))
}

fn key_holds(redis: &Redis) -> String {
    redis.key("holds")
}

fn key_marker(redis: &Redis, hold: &Hold) -> String {
    redis.key(&format!("twin:{}", hold.request))
}
