//! Counting: first in this process, then, for what is beyond its share, in Redis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farmgate_shared::limits::{Buckets as Shares, Rate};
use redis::Script;

use super::model::{Bucket, Buckets};
use super::seen::{Nonce, Seen};
use crate::config::LimitsConfig;
use crate::redis::Redis;

/// Clients that a process remembers at least, of those that were active last: 3 MB at most.
const REMEMBERED: usize = 32_768;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Passed,
    /// Its nonce was used before.
    Replayed,
    /// It may come again after so many microseconds.
    Limited(u64),
}

/// The limits and what this process has counted.
#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    redis: Redis,
    admit: Script,
    seen: Seen,
    shares: Mutex<Shares<Bucket>>,
    was_away: AtomicBool,
}

/// Redis's answer, as `admit.lua` gives it.
type Asked = Result<i64, Arc<redis::RedisError>>;

/// What a process's own count says of a request.
#[derive(Debug, Default)]
struct Own {
    within: Buckets,
    /// With the microseconds after which the share would do.
    beyond: [Option<(Bucket, u64)>; 2],
}

impl Own {
    fn is_within(&self) -> bool {
        self.beyond.iter().all(Option::is_none)
    }
}

impl Limits {
    pub fn new(config: LimitsConfig, redis: Redis) -> Limits {
        Limits {
            config,
            seen: Seen::new(&redis),
            redis,
            admit: Script::new(include_str!("admit.lua")),
            shares: Mutex::new(Shares::new(REMEMBERED)),
            was_away: AtomicBool::new(false),
        }
    }

    /// Takes a nonce and counts a request, in one call to Redis. `now` is in microseconds since 1970. The second value is
    /// whether Redis answered; without it nobody knows of the nonce.
    pub async fn admit(&self, nonce: Nonce, buckets: Buckets, now: u64) -> (Admission, bool) {
        let own = self.look(buckets, now);
        let asked = if own.is_within() {
            self.seen.take(nonce).await.map(|is_new| if is_new { 0 } else { -1 })
        } else {
            self.ask(Some(&nonce), &own).await
        };
        let answered = self.note(&asked);
        (self.decide(&own, asked, now), answered)
    }

    /// Counts a request once more, by a client who became known only on the way; asks Redis if it is a busy one.
    pub async fn count(&self, bucket: Bucket, now: u64) -> Admission {
        let own = self.look([Some(bucket), None], now);
        if own.is_within() {
            return Admission::Passed;
        }
        let asked = self.ask(None, &own).await;
        self.note(&asked);
        self.decide(&own, asked, now)
    }

    /// What this process's count says. What is all within its share is counted at once.
    fn look(&self, buckets: Buckets, now: u64) -> Own {
        let mut own = Own::default();
        let mut shares = self.lock();
        for ((bucket, within), beyond) in buckets.into_iter().zip(&mut own.within).zip(&mut own.beyond) {
            let Some(bucket) = bucket else { continue };
            match shares.wait(&bucket, self.config.share(bucket), now) {
                0 => *within = Some(bucket),
                wait => *beyond = Some((bucket, wait)),
            }
        }
        if own.is_within() {
            self.count_shares(&mut shares, own.within, now);
        }
        own
    }

    fn count_shares(&self, shares: &mut Shares<Bucket>, buckets: Buckets, now: u64) {
        for bucket in buckets.into_iter().flatten() {
            shares.count(bucket, self.config.share(bucket), now);
        }
    }

    fn decide(&self, own: &Own, asked: Asked, now: u64) -> Admission {
        // The shares would do after this; the rest of the limits may do sooner.
        let wait = own.beyond.iter().flatten().map(|(_, wait)| *wait).max().unwrap_or(0);
        match asked {
            Ok(..0) => Admission::Replayed,
            Ok(0) => {
                if !own.is_within() {
                    self.count_shares(&mut self.lock(), own.within, now);
                }
                Admission::Passed
            }
            Ok(rest) => Admission::Limited(wait.min(u64::try_from(rest).unwrap_or(wait))),
            Err(_) if own.is_within() => Admission::Passed,
            Err(_) => Admission::Limited(wait),
        }
    }

    async fn ask(&self, nonce: Option<&Nonce>, own: &Own) -> Asked {
        let mut call = self.admit.key(nonce.map(|nonce| nonce.key(&self.redis)).unwrap_or_default());
        call.arg(nonce.map_or(0, Nonce::kept)).arg(nonce.map_or("", |nonce| &nonce.name));
        for (bucket, _) in own.beyond.iter().flatten() {
            let rest = self.config.rest(*bucket);
            call.key(self.redis.key(&bucket.to_string()));
            call.arg(rest.interval_us).arg(rest.tolerance_us()).arg(seconds_to_forget(rest));
        }
        call.invoke_async(&mut self.redis.connection()).await.map_err(Arc::new)
    }

    /// Says once when Redis goes and once when it is back, and whether it is there.
    fn note(&self, asked: &Asked) -> bool {
        let is_away = asked.is_err();
        if self.was_away.swap(is_away, Ordering::Relaxed) != is_away {
            match asked {
                Err(error) => tracing::warn!(
                    %error,
                    "Redis is away: nonces and limits are kept by this process alone, limits at its share of them"
                ),
                Ok(_) => tracing::info!("Redis is back: nonces and limits are kept there again"),
            }
        }
        !is_away
    }

    fn lock(&self) -> MutexGuard<'_, Shares<Bucket>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket that was not touched for this long is as good as none.
fn seconds_to_forget(rate: Rate) -> u64 {
    rate.tolerance_us().div_ceil(1_000_000) + 1
}
