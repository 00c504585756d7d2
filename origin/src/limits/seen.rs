//! The nonces that any replica has seen, in Redis: a set for each second that requests were signed at. Promises that of two
//! requests with one nonce at most one is new, while Redis answers. Those of many requests are taken in one trip.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{RedisError, RedisResult};

use crate::db::batch::{Asked, Batcher, Rules};
use crate::redis::Redis;

/// A request that comes while a call is under way goes with the next one; none waits for others to come.
const RULES: Rules = Rules { name: "nonces", most: 128, lanes: 2, crowd: 32, pace: Duration::ZERO };

/// A nonce and how long a request with it could pass.
#[derive(Clone, Debug)]
pub struct Nonce {
    /// With the key that it was signed by.
    pub name: String,
    /// That it was signed at, since 1970.
    pub second: u64,
    /// Seconds from the first to the last moment at which it could, whichever way the edge's clock is off.
    pub lifetime: u64,
}

impl Nonce {
    /// The set that it is in.
    pub fn key(&self, redis: &Redis) -> String {
        key(redis, self.second)
    }

    /// Seconds that its set is kept for, unless it is dropped before.
    pub fn kept(&self) -> u64 {
        3 * self.lifetime
    }
}

fn key(redis: &Redis, second: u64) -> String {
    redis.key(&format!("edge-nonces:{second}"))
}

type Answer = Result<bool, Arc<RedisError>>;

/// Takes nonces for many requests at once.
pub struct Seen {
    batcher: Batcher<Asked<Nonce, Answer>>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batcher.fmt(f)
    }
}

impl Seen {
    pub fn new(redis: &Redis) -> Seen {
        let redis = redis.clone();
        let dropped = Arc::new(AtomicU64::new(0));
        let batcher = Batcher::new(RULES, move |asked: Vec<Asked<Nonce, Answer>>| {
            let (redis, dropped) = (redis.clone(), dropped.clone());
            Box::pin(async move {
                let (nonces, askers): (Vec<Nonce>, Vec<_>) = asked.into_iter().unzip();
                let added = add_all(&redis, &nonces, &dropped).await.map_err(Arc::new);
                for (position, asker) in askers.into_iter().enumerate() {
                    let is_new =
                        added.as_ref().map(|added| added.get(position) == Some(&1)).map_err(Arc::clone);
                    // Whoever asked may have gone away.
                    let _ = asker.send(is_new);
                }
            })
        });
        Seen { batcher }
    }

    /// Whether it is new; from now on it is not.
    ///
    /// # Errors
    /// When Redis is away: then it may be remembered or not.
    pub async fn take(&self, nonce: Nonce) -> Answer {
        let gone = || RedisError::from((redis::ErrorKind::Client, "the nonces' batch was given up"));
        self.batcher.ask(nonce).await.unwrap_or_else(|| Err(Arc::new(gone())))
    }
}

/// For each nonce 1 if it is new and 0 if not. `dropped` is the last second whose set this process has dropped.
async fn add_all(redis: &Redis, nonces: &[Nonce], dropped: &AtomicU64) -> RedisResult<Vec<u8>> {
    let mut pipe = redis::pipe();
    for nonce in nonces {
        pipe.sadd(nonce.key(redis), &nonce.name);
    }
    let sets: BTreeMap<u64, &Nonce> = nonces.iter().map(|nonce| (nonce.second, nonce)).collect();
    for nonce in sets.values() {
        pipe.expire(nonce.key(redis), i64::try_from(nonce.kept()).unwrap_or(i64::MAX)).ignore();
    }
    if let Some((_, newest)) = sets.last_key_value() {
        drop_old(&mut pipe, redis, newest, dropped);
    }
    redis.call_for_many(pipe.query_async(&mut redis.connection())).await
}

/// Drops the sets that no replica looks at any more, even one whose clock is a lifetime behind: freed beside Redis' work, while
/// their expiry would hold everybody up, the longer the more requests a rush had.
fn drop_old(pipe: &mut redis::Pipeline, redis: &Redis, newest: &Nonce, dropped: &AtomicU64) {
    let until = newest.second.saturating_sub(2 * newest.lifetime);
    let last = dropped.fetch_max(until, Ordering::Relaxed);
    for second in last.max(until.saturating_sub(newest.lifetime)) + 1..=until {
        pipe.cmd("UNLINK").arg(key(redis, second)).ignore();
    }
}
