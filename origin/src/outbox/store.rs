//! SQL of `outbox` and `outbox_deliveries`.

use farmgate_shared::ids::OrderId;
use sqlx::{FromRow, MySqlConnection, MySqlPool, QueryBuilder};
use time::OffsetDateTime;

use super::model::{Event, EventKind, NewEvent};
use crate::db::push_list;
use crate::db::script::{RowId, Script};
use crate::text::cut;

/// Longest `last_error`, in characters.
const ERROR_CHARS: usize = 500;

/// Records events; one that nobody wants counts as handed out.
pub fn insert(
    script: &mut Script,
    events: impl IntoIterator<Item = (EventKind, RowId)>,
    is_wanted: impl Fn(EventKind) -> bool,
) {
    script.insert(
        "INSERT INTO outbox (kind, order_id, published_at) VALUES",
        events,
        |row, (kind, order)| {
            row.text(kind.name()).sql(",").id(order);
            row.sql(if is_wanted(kind) { ",NULL" } else { ",UTC_TIMESTAMP(3)" });
        },
    );
}

/// Records an event about a row beside its order's.
pub async fn insert_about(
    connection: &mut MySqlConnection,
    event: NewEvent,
    subject: i64,
    is_wanted: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (kind, order_id, subject_id, published_at) \
         VALUES (?, ?, ?, IF(?, NULL, UTC_TIMESTAMP(3)))",
    )
    .bind(event.kind.name())
    .bind(event.order.0)
    .bind(subject)
    .bind(is_wanted)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether there is anything to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Events that nobody has handed out.
    pub is_new: bool,
    /// Deliveries whose time has come.
    pub is_due: bool,
}

pub async fn waiting(
    pool: &MySqlPool,
    consumers: &[&str],
    now: OffsetDateTime,
) -> Result<Waiting, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "SELECT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL), \
         EXISTS (SELECT 1 FROM outbox_deliveries WHERE due_at <= ",
    );
    query.push_bind(now).push(" AND consumer IN ");
    push_list(&mut query, consumers.iter().map(|name| (*name).to_owned()));
    query.push(")");
    let (new, due): (i64, i64) = query.build_query_as().fetch_one(pool).await?;
    Ok(Waiting { is_new: new > 0, is_due: due > 0 })
}

/// Events that nobody has handed out, the oldest first, locked for this transaction; those that another worker is
/// handing out are passed over. A kind that only a newer binary knows is left to it.
pub async fn lock_unpublished(
    connection: &mut MySqlConnection,
    most: u32,
) -> Result<Vec<(i64, EventKind)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT id, kind FROM outbox WHERE published_at IS NULL AND kind IN ");
    push_list(&mut query, EventKind::ALL.map(EventKind::name));
    query.push(" ORDER BY id LIMIT ").push_bind(most).push(" FOR UPDATE SKIP LOCKED");
    let rows: Vec<(i64, String)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|(id, kind)| Some((id, EventKind::from_name(&kind)?))).collect())
}

pub async fn mark_published(
    connection: &mut MySqlConnection,
    events: impl IntoIterator<Item = i64>,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("UPDATE outbox SET published_at = ");
    query.push_bind(now).push(" WHERE id IN ");
    push_list(&mut query, events);
    query.build().execute(connection).await?;
    Ok(())
}

/// What one consumer is to get of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub event: i64,
    pub consumer: &'static str,
    pub due_at: OffsetDateTime,
}

pub async fn insert_deliveries(
    connection: &mut MySqlConnection,
    deliveries: &[Delivery],
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("INSERT INTO outbox_deliveries (event_id, consumer, due_at) ");
    query.push_values(deliveries, |mut row, delivery| {
        row.push_bind(delivery.event).push_bind(delivery.consumer).push_bind(delivery.due_at);
    });
    query.build().execute(connection).await?;
    Ok(())
}

/// Events that are due at a consumer, the longest waiting first, locked for this transaction; those that somebody is
/// working on are passed over.
pub async fn lock_due(
    connection: &mut MySqlConnection,
    consumer: &str,
    now: OffsetDateTime,
    most: u32,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT event_id FROM outbox_deliveries WHERE consumer = ? AND due_at <= ? ORDER BY due_at LIMIT ? \
         FOR UPDATE SKIP LOCKED",
    )
    .bind(consumer)
    .bind(now)
    .bind(most)
    .fetch_all(connection)
    .await
}

/// Sets when these events are due; those that a consumer has ended meanwhile stay ended, and the dead stay dead.
pub async fn set_due(
    connection: &mut MySqlConnection,
    consumer: &str,
    events: &[i64],
    due_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("UPDATE outbox_deliveries SET due_at = ");
    query.push_bind(due_at).push(" WHERE died_at IS NULL AND consumer = ").push_bind(consumer);
    query.push(" AND event_id IN ");
    push_list(&mut query, events.iter().copied());
    query.build().execute(connection).await?;
    Ok(())
}

/// All that a consumer was sent and has not failed at is due now: the stream that carried it is gone.
pub async fn make_sent_due(
    pool: &MySqlPool,
    consumer: &str,
    now: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE outbox_deliveries SET due_at = ? WHERE consumer = ? AND due_at > ? AND attempts = 0",
    )
    .bind(now)
    .bind(consumer)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Those of the events that the consumer has yet to handle, locked for this transaction. Waits for another worker that is
/// at one of them, and then finds it ended.
pub async fn lock_open(
    connection: &mut MySqlConnection,
    consumer: &str,
    events: &[i64],
) -> Result<Vec<i64>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT event_id FROM outbox_deliveries WHERE event_id IN ");
    push_list(&mut query, events.iter().copied());
    query.push(" AND consumer = ").push_bind(consumer);
    query.push(" AND died_at IS NULL ORDER BY event_id FOR UPDATE");
    query.build_query_scalar().fetch_all(connection).await
}

#[derive(Debug, FromRow)]
struct EventRow {
    id: i64,
    kind: String,
    order_id: i64,
    created_at: OffsetDateTime,
    subject_id: Option<i64>,
}

/// The events, the oldest first.
pub async fn events(connection: &mut MySqlConnection, ids: &[i64]) -> Result<Vec<Event>, sqlx::Error> {
    let mut query =
        QueryBuilder::new("SELECT id, kind, order_id, created_at, subject_id FROM outbox WHERE id IN ");
    push_list(&mut query, ids.iter().copied());
    query.push(" ORDER BY id");
    let rows: Vec<EventRow> = query.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let kind = EventKind::from_name(&row.kind)
                .ok_or_else(|| sqlx::Error::Decode(format!("no event is called {}", row.kind).into()))?;
            Ok(Event {
                id: row.id,
                kind,
                order: OrderId(row.order_id),
                happened_at: row.created_at,
                subject: row.subject_id,
            })
        })
        .collect()
}

/// Ends deliveries, in the transaction of their effect.
pub async fn end(
    connection: &mut MySqlConnection,
    consumer: &str,
    events: &[i64],
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("DELETE FROM outbox_deliveries WHERE event_id IN ");
    push_list(&mut query, events.iter().copied());
    query.push(" AND consumer = ").push_bind(consumer);
    query.build().execute(connection).await?;
    Ok(())
}

/// Attempts that failed so far.
pub async fn attempts(pool: &MySqlPool, consumer: &str, event: i64) -> Result<Option<u32>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CAST(attempts AS UNSIGNED) FROM outbox_deliveries \
         WHERE event_id = ? AND consumer = ? AND died_at IS NULL",
    )
    .bind(event)
    .bind(consumer)
    .fetch_optional(pool)
    .await
}

/// Writes one more failure; `due_at` is its next attempt, and without one it is dead. False when another worker wrote
/// first: `before` is how many failures this one knew of.
pub async fn fail(
    pool: &MySqlPool,
    delivery: (&str, i64),
    before: u32,
    error: &str,
    due_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let (consumer, event) = delivery;
    let done = sqlx::query(
        "UPDATE outbox_deliveries SET attempts = attempts + 1, last_error = ?, due_at = ?, died_at = ? \
         WHERE event_id = ? AND consumer = ? AND attempts = ? AND died_at IS NULL",
    )
    .bind(cut(error, ERROR_CHARS))
    .bind(due_at)
    .bind(due_at.is_none().then_some(now))
    .bind(event)
    .bind(consumer)
    .bind(before)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A worker's right to call for a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub consumer: &'static str,
    pub event: i64,
    /// Until then nobody else calls. In whole milliseconds: it also tells this claim from another.
    pub until: OffsetDateTime,
}

/// Claims a delivery, which is sent again if the claim runs out. False when it is ended or dead, was put off, or is somebody
/// else's.
pub async fn claim(pool: &MySqlPool, claim: &Claim, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE outbox_deliveries SET held_until = ?, due_at = ? WHERE event_id = ? AND consumer = ? \
         AND died_at IS NULL AND (held_until IS NULL OR held_until <= ?)",
    )
    .bind(claim.until)
    .bind(claim.until)
    .bind(claim.event)
    .bind(claim.consumer)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What becomes of a delivery whose call is not over.
#[derive(Clone, Copy, Debug)]
pub struct PutOff<'a> {
    /// Whether this was a failure of the event.
    pub failed: bool,
    pub error: &'a str,
    /// Nobody calls before; without it, it is dead.
    pub until: Option<OffsetDateTime>,
}

/// Gives a claim back. False when it had run out and another worker took it.
pub async fn put_off(
    pool: &MySqlPool,
    claim: &Claim,
    put_off: &PutOff<'_>,
    now: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE outbox_deliveries SET attempts = attempts + ?, last_error = ?, held_until = ?, due_at = ?, died_at = ? \
         WHERE event_id = ? AND consumer = ? AND held_until = ? AND died_at IS NULL",
    )
    .bind(u8::from(put_off.failed))
    .bind(cut(put_off.error, ERROR_CHARS))
    .bind(put_off.until)
    .bind(put_off.until)
    .bind(put_off.until.is_none().then_some(now))
    .bind(claim.event)
    .bind(claim.consumer)
    .bind(claim.until)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes events that were published before a moment and have no delivery left.
pub async fn forget(pool: &MySqlPool, before: OffsetDateTime, most: u32) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM outbox WHERE published_at < ? \
         AND NOT EXISTS (SELECT 1 FROM outbox_deliveries d WHERE d.event_id = outbox.id) \
         ORDER BY published_at LIMIT ?",
    )
    .bind(before)
    .bind(most)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Numbers for an operator.
#[derive(Debug, FromRow)]
pub struct Totals {
    pub unpublished: i64,
    /// Seconds since the oldest unpublished event.
    pub oldest_seconds: Option<i64>,
    pub open: i64,
    /// Of the open ones.
    pub failing: i64,
    /// Of the open ones: those that never failed and wait for somebody who is away.
    pub waiting: i64,
    pub dead: i64,
}

pub async fn totals(pool: &MySqlPool) -> Result<Totals, sqlx::Error> {
    sqlx::query_as(
        "SELECT u.unpublished, u.oldest_seconds, d.open, d.failing, d.waiting, d.dead FROM \
         (SELECT COUNT(*) AS unpublished, TIMESTAMPDIFF(SECOND, MIN(created_at), UTC_TIMESTAMP(3)) AS oldest_seconds \
          FROM outbox WHERE published_at IS NULL) u, \
         (SELECT CAST(COALESCE(SUM(died_at IS NULL), 0) AS SIGNED) AS open, \
          CAST(COALESCE(SUM(died_at IS NULL AND attempts > 0), 0) AS SIGNED) AS failing, \
          CAST(COALESCE(SUM(died_at IS NULL AND attempts = 0 AND last_error IS NOT NULL), 0) AS SIGNED) AS waiting, \
          CAST(COALESCE(SUM(died_at IS NOT NULL), 0) AS SIGNED) AS dead FROM outbox_deliveries) d",
    )
    .fetch_one(pool)
    .await
}

/// An event that failed too often at a consumer.
#[derive(Debug, FromRow)]
pub struct DeadLetter {
    pub event_id: i64,
    pub kind: String,
    pub order_id: i64,
    pub consumer: String,
    pub attempts: i64,
    pub died_at: OffsetDateTime,
    pub last_error: Option<String>,
}

/// The dead letters, the longest dead first.
pub async fn dead_letters(pool: &MySqlPool, most: u32) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as(
        "SELECT d.event_id, e.kind, e.order_id, d.consumer, CAST(d.attempts AS SIGNED) AS attempts, d.died_at, \
         d.last_error FROM outbox_deliveries d JOIN outbox e ON e.id = d.event_id WHERE d.died_at IS NOT NULL \
         ORDER BY d.died_at, d.event_id, d.consumer LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Gives dead letters all of their attempts anew: those of these events, or all; says how many. What they died of stays
/// to be read until they are delivered.
pub async fn revive(
    pool: &MySqlPool,
    events: Option<&[i64]>,
    now: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let mut query = QueryBuilder::new("UPDATE outbox_deliveries SET attempts = 0, died_at = NULL, due_at = ");
    query.push_bind(now).push(" WHERE died_at IS NOT NULL");
    if let Some(events) = events {
        query.push(" AND event_id IN ");
        push_list(&mut query, events.iter().copied());
    }
    Ok(query.build().execute(pool).await?.rows_affected())
}
