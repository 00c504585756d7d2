//! Recording events, and forgetting old ones.

use sqlx::{MySqlConnection, MySqlPool};
use time::{Duration, OffsetDateTime};

use super::consumers::CONSUMERS;
use super::model::{EventKind, NewEvent};
use super::store;
pub use super::store::{DeadLetter, Totals};
use crate::db::script::{RowId, Script};

/// Delivered events are kept this long for `reconcile`, whose rule looks at orders that are a day younger.
const KEPT: Duration = Duration::days(30);
/// Rows forgotten at once, so that no lock is held for long.
const MOST_FORGOTTEN: u32 = 1000;

/// Records what the caller's transaction does: all of it happens, or none.
///
/// # Errors
/// When MySQL is away; the caller rolls back.
pub async fn record(connection: &mut MySqlConnection, events: &[NewEvent]) -> Result<(), sqlx::Error> {
    let mut script = Script::default();
    add(&mut script, events.iter().map(|event| (event.kind, event.order.into())));
    script.run(connection).await?;
    Ok(())
}

/// The same of one event that is about a row beside its order's, which its consumers are told: `subject` is that row's id.
///
/// # Errors
/// When MySQL is away; the caller rolls back.
pub async fn record_about(
    connection: &mut MySqlConnection,
    event: NewEvent,
    subject: i64,
) -> Result<(), sqlx::Error> {
    store::insert_about(connection, event, subject, is_wanted(event.kind)).await
}

/// [`record`] as a part of a script of the caller's transaction.
pub fn add(script: &mut Script, events: impl IntoIterator<Item = (EventKind, RowId)>) {
    store::insert(script, events, is_wanted);
}

fn is_wanted(kind: EventKind) -> bool {
    CONSUMERS.iter().any(|consumer| consumer.wants.contains(&kind))
}

/// Forgets events that were delivered long ago; says how many. What was not delivered is kept, whatever its age.
///
/// # Errors
/// When MySQL is away.
pub async fn forget_old(pool: &MySqlPool, now: OffsetDateTime) -> Result<u64, sqlx::Error> {
    store::forget(pool, now - KEPT, MOST_FORGOTTEN).await
}

/// How many events wait, are in delivery, or are dead.
///
/// # Errors
/// When MySQL is away.
pub async fn totals(pool: &MySqlPool) -> Result<Totals, sqlx::Error> {
    store::totals(pool).await
}

/// What failed too often, the longest dead first, at most so many.
///
/// # Errors
/// When MySQL is away.
pub async fn dead_letters(pool: &MySqlPool, most: u32) -> Result<Vec<DeadLetter>, sqlx::Error> {
    store::dead_letters(pool, most).await
}

/// Gives dead letters all of their attempts anew, those of these events, or all; says how many.
///
/// # Errors
/// When MySQL is away.
pub async fn replay(
    pool: &MySqlPool,
    events: Option<&[i64]>,
    now: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    store::revive(pool, events, now).await
}
