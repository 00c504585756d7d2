//! The physical ceiling: the SQL of the origin's batched order writer in a bare loop, with no HTTP, no Redis, no shopper
//! and no check. Batches of one size, each one transaction, over several connections, all of one SKU. The schema is the
//! origin's own, migrated by the origin; the text and its trips are the origin's own too (`batch.rs`).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_core::Stream as _;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::batch::{self, MOST_ORDERS, Order, Sku};
use crate::load::next_number;
use crate::shop;

/// A deadlock or lock time-out rolls a batch back, as it does in the origin; more often than this in a row it is a fault.
const TRIES: u32 = 10;

/// What the loop got done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Orders in committed batches, the last ones included.
    pub orders: u64,
    pub orders_in_time: u64,
    /// Microseconds of each batch, from its first statement to the end of COMMIT, in order of size: what each order in it waited.
    pub batch_us: Vec<u32>,
    /// Batches that were rolled back and written again.
    pub retried: u64,
}

/// A connection as the origin's for transactions are.
///
/// # Errors
/// When MySQL is away.
pub async fn connect(url: &str) -> Result<MySqlConnection, sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    connection.execute("SET SESSION autocommit = 0").await?;
    Ok(connection)
}

/// Writes batches over `connections` until the time is over.
///
/// # Errors
/// When MySQL refuses a batch for good.
pub async fn run(url: &str, sku: Sku, connections: u32, time: Duration) -> Result<Written> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(url).await?);
    }
    let end = Instant::now() + time;
    let mut writers = JoinSet::new();
    for connection in open {
        writers.spawn(keep_writing(connection, sku, end));
    }
    let mut all = Written::default();
    while let Some(part) = writers.join_next().await {
        let part = part??;
        all.orders += part.orders;
        all.orders_in_time += part.orders_in_time;
        all.retried += part.retried;
        all.batch_us.extend(part.batch_us);
    }
    all.batch_us.sort_unstable();
    Ok(all)
}

async fn keep_writing(mut connection: MySqlConnection, sku: Sku, end: Instant) -> Result<Written> {
    let mut written = Written::default();
    let batch = u64::try_from(MOST_ORDERS)?;
    while Instant::now() < end {
        let trips = batch::trips(sku, &new_orders());
        let started = Instant::now();
        let mut tries = 0;
        while let Err(error) = write(&mut connection, &trips).await {
            tries += 1;
            ensure!(is_conflict(&error) && tries < TRIES, "the bare loop: {error}");
            connection.execute("ROLLBACK").await?;
            written.retried += 1;
        }
        written.orders += batch;
        written.orders_in_time += if Instant::now() <= end { batch } else { 0 };
        written.batch_us.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    connection.close().await.context("closing a connection of the bare loop")?;
    Ok(written)
}

/// A lost deadlock, or a lock that was waited for too long.
fn is_conflict(error: &sqlx::Error) -> bool {
    let mysql = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    mysql.is_some_and(|error| [1205, 1213].contains(&error.number()))
}

fn new_orders() -> Vec<Order> {
    let now = OffsetDateTime::now_utc();
    let order = |number: u64| {
        let user = i64::try_from(number).unwrap_or(0) % shop::USERS + 1;
        Order::new(number, user, now)
    };
    (0..MOST_ORDERS).map(|_| order(next_number())).collect()
}

/// Sends the trips of one transaction over a connection of [`connect`].
///
/// # Errors
/// When MySQL refuses; the transaction is then the caller's to roll back.
pub async fn write(connection: &mut MySqlConnection, trips: &[String]) -> Result<(), sqlx::Error> {
    for trip in trips {
        // Made of our own words and numbers.
        let results = sqlx::raw_sql(AssertSqlSafe(trip.as_str())).fetch_many(&mut *connection);
        let mut results = std::pin::pin!(results);
        while let Some(result) = std::future::poll_fn(|context| results.as_mut().poll_next(context)).await {
            result?;
        }
    }
    Ok(())
}
