//! Hands events out: writes a delivery for each consumer that wants an event, and sends the event's id to the consumer's
//! stream. MySQL first, then Redis: a delivery that was not sent, or whose stream was lost, is due again after a while.
//! Any number of workers may do this at once.

use std::sync::Arc;
use std::time::Duration;

use sqlx::MySqlConnection;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::consumers::CONSUMERS;
use super::model::{Consumer, Effect};
use super::store::{self, Delivery};
use super::stream;
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{self, TransactionError};

/// Events handed out in one transaction.
const BATCH: u32 = 256;
/// Most entries of a stream; what a slow consumer has no room for waits in MySQL.
const WINDOW: usize = 5_000;
/// The same for a consumer that makes calls, which take their time: what lies in a stream for long is sent again.
const CALL_WINDOW: usize = 512;
/// Between two looks while MySQL or Redis is away.
const AWAY: Duration = Duration::from_secs(1);

/// Publishes until told to stop.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut was_away = false;
    while !*stopped.borrow() {
        let pause = match db::look(round(&app)).await {
            Ok(is_more) => {
                was_away = false;
                if is_more { Duration::ZERO } else { app.config.outbox.poll() }
            }
            Err(error) => {
                // Once an outage, not once a second.
                if !was_away {
                    tracing::warn!(error = format!("{error:#}"), "events wait in MySQL");
                }
                was_away = true;
                AWAY
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Hands out what waits and what is due again; says whether there may be more.
async fn round(app: &App) -> anyhow::Result<bool> {
    let names = CONSUMERS.each_ref().map(|consumer| consumer.name);
    // One statement while nothing happens, which is most of the time.
    let waiting = store::waiting(app.db.pool(), &names, app.clock.now()).await?;
    if waiting == store::Waiting::default() {
        return Ok(false);
    }
    // Also tells whether Redis is there at all: without it, everything stays in MySQL as it is.
    let lengths = stream::lengths(&app.redis, &names).await?;
    let windows = CONSUMERS.iter().map(|consumer| match consumer.effect {
        Effect::Books(_) => WINDOW,
        Effect::Call(_) => CALL_WINDOW,
    });
    let rooms: Vec<usize> =
        windows.zip(lengths).map(|(window, length)| window.saturating_sub(length)).collect();
    let mut is_more = waiting.is_new && hand_out(app, &rooms).await?;
    if !waiting.is_due {
        return Ok(is_more);
    }
    for (consumer, room) in names.into_iter().zip(rooms) {
        let most = u32::try_from(room).unwrap_or(BATCH).min(BATCH);
        if most > 0 {
            is_more |= send_due(app, consumer, most).await?;
        }
    }
    Ok(is_more)
}

/// New events. A consumer whose stream has room is sent its events at once.
async fn hand_out(app: &App, rooms: &[usize]) -> anyhow::Result<bool> {
    let now = app.clock.now();
    let sent_due = now + app.config.outbox.resend_after();
    let batch = usize::try_from(BATCH)?;
    let due: Vec<OffsetDateTime> =
        rooms.iter().map(|room| if *room >= batch { sent_due } else { now }).collect();
    let getting: Vec<(&'static Consumer, OffsetDateTime)> =
        CONSUMERS.iter().zip(due).filter(|(consumer, _)| (consumer.is_on)(&app.config)).collect();
    let (deliveries, is_more) = app
        .db
        .transaction("hand_out_events", move |connection| {
            let getting = getting.clone();
            Box::pin(async move { write_deliveries(connection, &getting, now).await })
        })
        .await
        .map_err(TransactionError::<sqlx::Error>::flatten)?;
    crash::point(Point::OutboxBeforeSend);
    let sent: Vec<&Delivery> = deliveries.iter().filter(|delivery| delivery.due_at > now).collect();
    let entries: Vec<(&str, i64)> = sent.iter().map(|delivery| (delivery.consumer, delivery.event)).collect();
    if let Err(error) = stream::send(&app.redis, &entries).await {
        for consumer in &CONSUMERS {
            let events: Vec<i64> =
                entries.iter().filter(|(name, _)| *name == consumer.name).map(|(_, event)| *event).collect();
            unsend(app, consumer.name, &events, now).await?;
        }
        return Err(error.into());
    }
    crash::point(Point::OutboxAfterSend);
    Ok(is_more)
}

/// The deliveries that were written, and whether there may be more events.
async fn write_deliveries(
    connection: &mut MySqlConnection,
    getting: &[(&'static Consumer, OffsetDateTime)],
    now: OffsetDateTime,
) -> Result<(Vec<Delivery>, bool), sqlx::Error> {
    let events = store::lock_unpublished(connection, BATCH).await?;
    if events.is_empty() {
        return Ok((Vec::new(), false));
    }
    let mut deliveries = Vec::with_capacity(events.len() * CONSUMERS.len());
    for (event, kind) in &events {
        let wanting = getting.iter().filter(|(consumer, _)| consumer.wants.contains(kind));
        deliveries.extend(wanting.map(|(consumer, due_at)| Delivery {
            event: *event,
            consumer: consumer.name,
            due_at: *due_at,
        }));
    }
    if !deliveries.is_empty() {
        store::insert_deliveries(connection, &deliveries).await?;
    }
    store::mark_published(connection, events.iter().map(|(id, _)| *id), now).await?;
    Ok((deliveries, u32::try_from(events.len()) == Ok(BATCH)))
}

/// What is due at a consumer: a retry whose time has come, or what was sent and not ended in time.
async fn send_due(app: &App, consumer: &'static str, most: u32) -> anyhow::Result<bool> {
    let now = app.clock.now();
    let next = now + app.config.outbox.resend_after();
    let due = app
        .db
        .transaction("send_due_events", move |connection| {
            Box::pin(async move {
                let events = store::lock_due(connection, consumer, now, most).await?;
                if !events.is_empty() {
                    store::set_due(connection, consumer, &events, next).await?;
                }
                Ok(events)
            })
        })
        .await
        .map_err(TransactionError::<sqlx::Error>::flatten)?;
    let entries: Vec<(&str, i64)> = due.iter().map(|event| (consumer, *event)).collect();
    if let Err(error) = stream::send(&app.redis, &entries).await {
        unsend(app, consumer, &due, now).await?;
        return Err(error.into());
    }
    Ok(u32::try_from(due.len())? == most)
}

/// Redis did not take them: they are due as soon as it is back.
async fn unsend(
    app: &App,
    consumer: &'static str,
    events: &[i64],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let mut connection = app.db.pool().acquire().await?;
    store::set_due(&mut connection, consumer, events, now).await
}
