//! A consumer whose effect is in MySQL, at work: reads its stream, has the effect and the end of the delivery committed
//! together, and only then ends the entry. An event that fails waits in MySQL for its next attempt and holds nothing up.

use std::sync::Arc;

use tokio::sync::watch;

use super::inflow::{Inflow, pause};
use super::model::{Apply, Consumer, Failure};
use super::store;
use super::stream::{Entry, Inbox};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{self, Retryable, TransactionError, is_away};

/// Events in one transaction.
const BATCH: usize = 256;

impl Retryable for Failure {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Failure::Transient(error) => Some(error),
            Failure::Permanent(_) => None,
        }
    }
}

/// Consumes until told to stop.
pub async fn run(
    app: Arc<App>,
    consumer: &'static Consumer,
    apply: Apply,
    mut stopped: watch::Receiver<bool>,
) {
    let idle = app.config.outbox.resend_after();
    let Some(mut inflow) = Inflow::open(app.clone(), consumer.name, idle) else { return };
    let work = Work { app, consumer, apply, inbox: inflow.inbox.clone() };
    let mut was_away = false;
    while !*stopped.borrow() {
        // A stop cuts no read short, for the stream may have handed its entries out already: it waits for them as long as
        // the read does, and they are finished.
        let done = match inflow.read(BATCH).await {
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

struct Work {
    app: Arc<App>,
    consumer: &'static Consumer,
    apply: Apply,
    inbox: Inbox,
}

impl Work {
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
        let (consumer, apply) = (self.consumer, self.apply);
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
                        apply(connection, &events).await?;
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
        let Some(before) = db::look(store::attempts(pool, name, event)).await? else { return Ok(()) };
        let failed = before.saturating_add(1);
        let wait = match failure {
            Failure::Permanent(_) => None,
            Failure::Transient(_) => self.app.config.outbox.retries().wait(failed, event),
        };
        let now = self.app.clock.now();
        let (reason, again) = (failure.to_string(), wait.map(|wait| now + wait));
        let written = db::look(store::fail(pool, (name, event), before, &reason, again, now)).await?;
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
