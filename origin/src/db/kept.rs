//! Connections that stay at hand between two uses. A pool pings each connection that comes back to it, which is one more trip
//! for a read of one statement; a rush uses the same few over and over. Promises never to hand out a connection that was
//! in an unknown state when it was put away: only whoever knows it to be clean keeps it here, and one that is simply dropped
//! goes back to its pool by way of the ping.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool};

use super::reach::Reach;

/// A connection that nobody used for so long goes back to the pool, which knows how old connections may grow.
const LONGEST_IDLE: Duration = Duration::from_secs(1);

/// A few connections of a pool. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Kept {
    pool: MySqlPool,
    reach: Reach,
    /// At most so many, so that others find one in the pool.
    most: usize,
    /// The last used on top; `None` once closed.
    spare: Arc<Mutex<Option<Vec<Spare>>>>,
}

#[derive(Debug)]
struct Spare {
    connection: PoolConnection<MySql>,
    since: Instant,
}

impl Kept {
    /// Keeps up to `most` of the pool's connections.
    pub fn new(pool: MySqlPool, reach: Reach, most: u32) -> Kept {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Kept { pool, reach, most, spare: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// A connection: one at hand, or one from the pool.
    ///
    /// # Errors
    /// When MySQL is away, which others may have found, or all connections are in use for too long.
    pub async fn take(&self) -> Result<PoolConnection<MySql>, sqlx::Error> {
        match self.at_hand() {
            Some(connection) => Ok(connection),
            None => self.reach.acquire(self.pool.acquire()).await,
        }
    }

    /// Puts away a connection whose last statement was answered, and which is in no transaction that did anything.
    pub fn keep(&self, connection: PoolConnection<MySql>) {
        match self.lock().as_mut() {
            Some(spare) if spare.len() < self.most => {
                spare.push(Spare { connection, since: Instant::now() });
            }
            _ => {}
        }
    }

    /// Gives all back and keeps none from now on.
    pub fn close(&self) {
        *self.lock() = None;
    }

    fn at_hand(&self) -> Option<PoolConnection<MySql>> {
        let mut kept = self.lock();
        let spare = kept.as_mut()?;
        let last = spare.pop()?;
        if last.since.elapsed() < LONGEST_IDLE {
            return Some(last.connection);
        }
        // Those below it were not used since even longer.
        spare.clear();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Spare>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
