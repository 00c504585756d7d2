//! The door to Redis. Redis can be lost at any moment and costs speed, never correctness: every caller says what it
//! does without.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisError, RedisResult};
use secrecy::ExposeSecret;

use crate::config::RedisConfig;

/// A connection that mends itself, and the prefix of every key. Cloning shares it.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    timeout: Duration,
    connection: ConnectionManager,
    prefix: String,
    /// Since a call was not answered in time.
    silent_until: Arc<Mutex<Option<Instant>>>,
}

/// After a call that was not answered in time, callers who stand in a queue do without Redis for so long: each would wait for a
/// time-out behind the others.
const SILENCE: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redis({})", self.prefix)
    }
}

impl Redis {
    /// Prepares a connection; it is made when it is first needed, so that a process can start while Redis is away.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Redis> {
        let client =
            redis::Client::open(config.url.expose_secret()).context("redis.url is not a Redis URL")?;
        let timeout = Duration::from_millis(config.response_timeout_ms);
        let connection = prepare(client.clone(), timeout, timeout)?;
        Ok(Redis { client, timeout, connection, prefix: config.prefix.clone(), silent_until: Arc::default() })
    }

    /// A connection of the caller's own, for commands that wait up to `longest` for something to happen: on the shared
    /// one everybody would wait behind them.
    ///
    /// # Errors
    /// When it cannot be prepared, as in [`Redis::new`].
    pub fn waiting_connection(&self, longest: Duration) -> anyhow::Result<ConnectionManager> {
        prepare(self.client.clone(), self.timeout, longest + self.timeout)
    }

    /// A handle for one command; handles share the connection.
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Makes a call for many who stand in a queue, unless Redis left one unanswered a moment ago.
    ///
    /// # Errors
    /// The call's, and at once while Redis is taken to be silent.
    pub async fn call_for_many<T>(&self, call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        if self.silent_until().is_some_and(|until| Instant::now() < until) {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "Redis did not answer a moment ago").into());
        }
        let answer = call.await;
        let is_silent = answer.as_ref().is_err_and(RedisError::is_timeout);
        *self.silent_until() = is_silent.then(|| Instant::now() + SILENCE);
        answer
    }

    fn silent_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The full name of a key.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}

fn prepare(
    client: redis::Client,
    to_connect: Duration,
    to_respond: Duration,
) -> anyhow::Result<ConnectionManager> {
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(to_connect))
        .set_response_timeout(Some(to_respond))
        // A caller goes on without Redis; the next call tries again.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client, settings).context("preparing the Redis connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_time_out_nobody_asks_for_a_while() {
        let config =
            RedisConfig { url: "redis://127.0.0.1:1".into(), prefix: "t".to_owned(), response_timeout_ms: 1 };
        let redis = Redis::new(&config).unwrap();
        let mut asked = 0;
        let mut call = async |answer: RedisResult<()>| {
            let asking = async {
                asked += 1;
                answer
            };
            let _ = redis.call_for_many(asking).await;
            asked
        };
        let failure = |kind| Err(RedisError::from(std::io::Error::from(kind)));
        assert_eq!(call(failure(ErrorKind::ConnectionRefused)).await, 1);
        assert_eq!(call(Ok(())).await, 2, "a refusal is quick, so the next may try");
        assert_eq!(call(failure(ErrorKind::TimedOut)).await, 3);
        assert!(redis.silent_until().is_some());
        *redis.silent_until() = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(call(Ok(())).await, 3);
        *redis.silent_until() = Some(Instant::now());
        assert_eq!(call(Ok(())).await, 4);
        assert_eq!(call(Ok(())).await, 5);
    }
}
