//! The door to Redis. Redis can be lost at any moment and costs speed, never correctness: every caller says what it
//! does without.

use std::time::Duration;

use anyhow::Context;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::ExposeSecret;

use crate::config::RedisConfig;

/// A connection that mends itself, and the prefix of every key. Cloning shares it.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    timeout: Duration,
    connection: ConnectionManager,
    prefix: String,
}

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
        Ok(Redis { client, timeout, connection, prefix: config.prefix.clone() })
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
