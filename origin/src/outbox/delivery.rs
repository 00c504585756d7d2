//! One consumer at work: reads its stream, has the consumer's effect and the end of the delivery committed together, and
//! only then ends the entry. An event that fails waits in MySQL for its next attempt and holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::model::{Consumer, Failure};
use super::store;
use super::stream::{self, Entry, Inbox};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{Retryable, TransactionError, is_away};

/// Events in one transaction.
const BATCH: usize = 256;
/// Longest wait for a new entry.
const WAIT: Duration = Duration::from_secs(1);
/// Between two attempts while MySQL or Redis is away.
const AWAY: Duration = Duration::from_secs(1);

impl Retryable for Failure {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Failure::Transient(error) => Some(error),
            Failure::Permanent(_) => None,
        }
    }
}

/// Consumes until told to stop.
pub async fn run(app: Arc<App>, consumer: &'static Consumer, mut stopped: watch::Receiver<bool>) {
    let inbox = match Inbox::open(&app.redis, consumer.name, WAIT) {
        Ok(inbox) => inbox,
        // The same URL made the process's own connection.
        Err(error) => {
            tracing::error!(%error, consumer = consumer.name, "no connection can be prepared");
            return;
        }
    };
    let mut work = Work { app, consumer, inbox, looked_over: None, is_prepared: false };
    let mut was_away = false;
    while !*stopped.borrow() {
        // A stop cuts no read short, for the stream may have handed its entries out already: it waits for them as long as
        // the read does, and they are finished.
        let done = match work.read().await {
            Ok(entries) => work.handle(&entries, &mut stopped).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => was_away = false,
            Err(error) => {
                if !was_away {
                    tracing::warn!(error = format!("{error:#}"), consumer = consumer.name, "events wait");
                }
                was_away = true;
                pause(&mut stopped).await;
            }
        }
    }
}

async fn pause(stopped: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(AWAY) => {}
    }
}

struct Work {
    app: Arc<App>,
    consumer: &'static Consumer,
    inbox: Inbox,
    /// When entries of dead workers were last looked for.
    looked_over: Option<Instant>,
    is_prepared: bool,
}

impl Work {
    /// Entries of workers that died, or new ones.
    async fn read(&mut self) -> anyhow::Result<Vec<Entry>> {
        if !self.is_prepared {
            self.prepare().await?;
            self.is_prepared = true;
        }
        let read = self.read_prepared().await;
        if read.as_ref().is_err_and(stream::is_lost) {
            self.is_prepared = false;
            tracing::warn!(consumer = self.consumer.name, "Redis has lost the stream; it is sent again");
            return Ok(Vec::new());
        }
        Ok(read?)
    }

    /// A stream that is new here has lost whatever was in it: all of it is due again at once.
    async fn prepare(&self) -> anyhow::Result<()> {
        if self.inbox.prepare().await? {
            store::make_sent_due(self.app.db.pool(), self.consumer.name, self.app.clock.now()).await?;
        }
        Ok(())
    }

    async fn read_prepared(&mut self) -> redis::RedisResult<Vec<Entry>> {
        let idle = self.app.config.outbox.resend_after();
        if self.looked_over.is_none_or(|looked| looked.elapsed() >= idle / 4) {
            let left = self.inbox.take_over(BATCH, idle).await?;
            if !left.is_empty() {
                tracing::info!(
                    entries = left.len(),
                    consumer = self.consumer.name,
                    "taken over from a dead worker"
                );
                return Ok(left);
            }
            self.looked_over = Some(Instant::now());
        }
        self.inbox.read(BATCH, WAIT).await
    }

    /// Handles entries and ends them. While MySQL is away it waits here: the entries are this worker's.
    async fn handle(&self, entries: &[Entry], stopped: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut events: Vec<i64> = entries.iter().filter_map(|entry| entry.event).collect();
        events.sort_unstable();
        events.dedup();
        let mut was_away = false;
        while let Err(error) = self.consume(&events).await {
            if !was_away {
                tracing::warn!(%error, consumer = self.consumer.name, "MySQL is away, events wait");
            }
            was_away = true;
            pause(stopped).await;
            if *stopped.borrow() {
                return Ok(());
            }
        }
        crash::point(Point::OutboxAfterEffect);
        Ok(self.inbox.end(entries).await?)
    }

    /// All together; if that fails, one by one, so that an event which fails fails alone. An error means that nothing
    /// is known of some, and all are to be tried again.
    async fn consume(&self, events: &[i64]) -> Result<(), sqlx::Error> {
        match self.apply(events.to_vec()).await {
            Ok(()) => return Ok(()),
            Err(Failure::Transient(error)) if is_away(&error) => return Err(error),
            Err(failure) if events.len() == 1 => {
                for event in events {
                    self.fail(*event, &failure).await?;
                }
                return Ok(());
            }
            Err(_) => {}
        }
        for event in events {
            match self.apply(vec![*event]).await {
                Ok(()) => {}
                Err(Failure::Transient(error)) if is_away(&error) => return Err(error),
                Err(failure) => self.fail(*event, &failure).await?,
            }
        }
        Ok(())
    }

    /// The effect and the end of the deliveries, in one transaction. Those that were ended before are left out.
    async fn apply(&self, events: Vec<i64>) -> Result<(), Failure> {
        let consumer = self.consumer;
        self.app
            .db
            .transaction(consumer.name, move |connection| {
                let events = events.clone();
                Box::pin(async move {
                    let open = store::lock_open(connection, consumer.name, &events).await?;
                    if open.is_empty() {
                        return Ok(());
                    }
                    let events = store::events(connection, &open).await?;
                    if !events.is_empty() {
                        (consumer.apply)(connection, &events).await?;
                    }
                    Ok(store::end(connection, consumer.name, &open).await?)
                })
            })
            .await
            // Committed or not, the next attempt finds out.
            .map_err(TransactionError::<Failure>::flatten)
    }

    async fn fail(&self, event: i64, failure: &Failure) -> Result<(), sqlx::Error> {
        let (pool, name) = (self.app.db.pool(), self.consumer.name);
        // Ended or buried meanwhile by another worker.
        let Some(before) = store::attempts(pool, name, event).await? else { return Ok(()) };
        let failed = before.saturating_add(1);
        let wait = match failure {
            Failure::Permanent(_) => None,
            Failure::Transient(_) => self.app.config.outbox.retries().wait(failed, event),
        };
        let now = self.app.clock.now();
        let written =
            store::fail(pool, (name, event), before, &failure.to_string(), wait.map(|wait| now + wait), now)
                .await?;
        match wait {
            _ if !written => {}
            Some(wait) => {
                tracing::debug!(event, consumer = name, failed, ?wait, error = %failure, "an event failed");
            }
            None => tracing::error!(event, consumer = name, failed, error = %failure, "a dead letter"),
        }
        Ok(())
    }
}
