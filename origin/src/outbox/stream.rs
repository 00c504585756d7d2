//! The Redis streams, one a consumer, so that one which is slow costs the others nothing. An entry is an event's id and
//! lives until it was handled; what Redis loses is sent again from MySQL.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};

use crate::redis::Redis;

/// All workers are one group, and share one name in it: a stream's entry belongs to whoever read it until it has been
/// idle for too long, and no name of a worker that died is left behind.
const GROUP: &str = "workers";
const NAME: &str = "worker";
/// Where an entry holds its event's id.
const FIELD: &str = "event";

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    /// `None` when somebody else wrote the entry.
    pub event: Option<i64>,
}

impl From<StreamId> for Entry {
    fn from(read: StreamId) -> Entry {
        Entry { event: read.get(FIELD), id: read.id }
    }
}

fn key(redis: &Redis, consumer: &str) -> String {
    redis.key(&format!("events:{consumer}"))
}

/// How many entries each consumer's stream holds.
///
/// # Errors
/// When Redis is away.
pub async fn lengths(redis: &Redis, consumers: &[&str]) -> redis::RedisResult<Vec<usize>> {
    let mut pipe = redis::pipe();
    for consumer in consumers {
        pipe.xlen(key(redis, consumer));
    }
    pipe.query_async(&mut redis.connection()).await
}

/// Sends events to consumers, in this order.
///
/// # Errors
/// When Redis is away: some may have been sent.
pub async fn send(redis: &Redis, sent: &[(&str, i64)]) -> redis::RedisResult<()> {
    if sent.is_empty() {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    for (consumer, event) in sent {
        pipe.xadd(key(redis, consumer), "*", &[(FIELD, *event)]).ignore();
    }
    pipe.query_async(&mut redis.connection()).await
}

/// A consumer's end of its stream.
#[derive(Clone)]
pub struct Inbox {
    key: String,
    /// Its own connection: a reader that waits would hold up everybody on a shared one.
    reader: ConnectionManager,
    redis: Redis,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({})", self.key)
    }
}

impl Inbox {
    /// # Errors
    /// When the Redis URL cannot be read, which the process has found out before.
    pub fn open(redis: &Redis, consumer: &str, longest_wait: Duration) -> anyhow::Result<Inbox> {
        Ok(Inbox {
            key: key(redis, consumer),
            reader: redis.waiting_connection(longest_wait)?,
            redis: redis.clone(),
        })
    }

    /// Makes the stream and its group where they are missing; says whether they were. Whatever stands in a stream
    /// without a group is read.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn prepare(&self) -> redis::RedisResult<bool> {
        let made: redis::RedisResult<()> =
            self.redis.connection().xgroup_create_mkstream(&self.key, GROUP, "0").await;
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// New entries; none after `wait`.
    ///
    /// # Errors
    /// When Redis is away, or [`is_lost`].
    pub async fn read(&self, most: usize, wait: Duration) -> redis::RedisResult<Vec<Entry>> {
        let wait = usize::try_from(wait.as_millis()).unwrap_or(usize::MAX);
        let options = StreamReadOptions::default().group(GROUP, NAME).count(most).block(wait);
        let reply: Option<StreamReadReply> =
            self.reader.clone().xread_options(&[&self.key], &[">"], &options).await?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(keys.into_iter().flat_map(|key| key.ids).map(Entry::from).collect())
    }

    /// Entries that somebody read `idle` ago or earlier and did not end: their worker died.
    ///
    /// # Errors
    /// When Redis is away, or [`is_lost`].
    pub async fn take_over(&self, most: usize, idle: Duration) -> redis::RedisResult<Vec<Entry>> {
        let idle = usize::try_from(idle.as_millis()).unwrap_or(usize::MAX);
        let options = StreamAutoClaimOptions::default().count(most);
        let reply: StreamAutoClaimReply =
            self.redis.connection().xautoclaim_options(&self.key, GROUP, NAME, idle, "0-0", options).await?;
        Ok(reply.claimed.into_iter().map(Entry::from).collect())
    }

    /// Ends entries: nobody reads them again, and they leave the stream.
    ///
    /// # Errors
    /// When Redis is away: they are read again.
    pub async fn end(&self, entries: &[Entry]) -> redis::RedisResult<()> {
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        redis::pipe()
            .xack(&self.key, GROUP, &ids)
            .ignore()
            .xdel(&self.key, &ids)
            .ignore()
            .query_async(&mut self.redis.connection())
            .await
    }
}

/// Whether Redis has forgotten the stream, perhaps under a reader that was waiting for it.
pub fn is_lost(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}
