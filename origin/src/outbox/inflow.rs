//! What a consumer is to handle next: new entries of its stream, and those that a dead worker had read. Promises that a
//! stream which Redis forgot is sent again from MySQL.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::store;
use super::stream::{self, Entry, Inbox};
use crate::app::App;
use crate::db;

/// Longest wait for a new entry.
const WAIT: Duration = Duration::from_secs(1);
/// Between two attempts while MySQL, Redis or the other side of a call is away.
const AWAY: Duration = Duration::from_secs(1);

/// A consumer's entries.
#[derive(Debug)]
pub struct Inflow {
    app: Arc<App>,
    consumer: &'static str,
    pub inbox: Inbox,
    /// An entry that was read this long ago and is not ended belonged to a dead worker.
    idle: Duration,
    /// When entries of dead workers were last looked for.
    looked_over: Option<Instant>,
    is_prepared: bool,
    /// The stream was new here, and what it lost is not due again yet.
    has_lost: bool,
}

impl Inflow {
    /// `None` where no connection can be prepared, which is logged.
    pub fn open(app: Arc<App>, consumer: &'static str, idle: Duration) -> Option<Inflow> {
        match Inbox::open(&app.redis, consumer, WAIT) {
            Ok(inbox) => Some(Inflow {
                app,
                consumer,
                inbox,
                idle,
                looked_over: None,
                is_prepared: false,
                has_lost: false,
            }),
            // The same URL made the process's own connection.
            Err(error) => {
                tracing::error!(%error, consumer, "no connection can be prepared");
                None
            }
        }
    }

    /// Entries of workers that died, or new ones; at most so many, none after a second without any.
    ///
    /// # Errors
    /// When MySQL or Redis is away.
    pub async fn read(&mut self, most: usize) -> anyhow::Result<Vec<Entry>> {
        if !self.is_prepared {
            self.prepare().await?;
            self.is_prepared = true;
        }
        let read = self.read_prepared(most).await;
        if read.as_ref().is_err_and(stream::is_lost) {
            self.is_prepared = false;
            tracing::warn!(consumer = self.consumer, "Redis has lost the stream; it is sent again");
            return Ok(Vec::new());
        }
        Ok(read?)
    }

    /// A stream that is new here has lost whatever was in it: all of it is due again at once.
    async fn prepare(&mut self) -> anyhow::Result<()> {
        self.has_lost |= self.inbox.prepare().await?;
        if self.has_lost {
            db::look(store::make_sent_due(self.app.db.pool(), self.consumer, self.app.clock.now())).await?;
            self.has_lost = false;
        }
        Ok(())
    }

    async fn read_prepared(&mut self, most: usize) -> redis::RedisResult<Vec<Entry>> {
        if self.looked_over.is_none_or(|looked| looked.elapsed() >= self.idle / 4) {
            let left = self.inbox.take_over(most, self.idle).await?;
            if !left.is_empty() {
                tracing::info!(
                    entries = left.len(),
                    consumer = self.consumer,
                    "taken over from a dead worker"
                );
                return Ok(left);
            }
            self.looked_over = Some(Instant::now());
        }
        self.inbox.read(most, WAIT).await
    }
}

/// A moment until the next attempt, or less when told to stop.
pub async fn pause(stopped: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(AWAY) => {}
    }
}
