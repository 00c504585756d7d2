//! The physical ceiling: the SQL of the origin's batched order writer in a bare loop, with no HTTP, no Redis, no shopper
//! and no check. Batches of one size, each one transaction, over several connections, all of one SKU. The schema is the
//! origin's own, migrated by the origin; [`write`] writes the same rows in the same order as the origin, in prepared
//! statements where the origin has scripts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Connection as _, Executor as _, MySqlConnection, QueryBuilder};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::load::next_number;

/// Orders in one transaction, as the origin's writer has at most.
pub const BATCH: usize = 64;
/// Orders in one INSERT. sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), and a statement that does not fit into
/// one write to the socket then waits 40 ms for the server's delayed acknowledgement: that is no physical limit.
const MOST_ORDERS: usize = 16;
/// A deadlock or lock time-out rolls a batch back, as it does in the origin; more often than this in a row it is a fault.
const TRIES: u32 = 10;
/// As long as a sealed address is.
const SEALED: &str = r#"{"sealed":"data-00000000:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

/// What the loop got done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Orders in committed batches, the last ones included.
    pub orders: u64,
    pub orders_in_time: u64,
    /// Microseconds of each batch, from BEGIN to the end of COMMIT, in order of size: what each order in it waited.
    pub batch_us: Vec<u32>,
    /// Batches that were rolled back and written again.
    pub retried: u64,
}

/// Writes batches over `connections` until the time is over.
///
/// # Errors
/// When MySQL refuses a batch for good.
pub async fn run(url: &str, sku: i64, connections: u32, time: Duration) -> Result<Written> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut connection = MySqlConnection::connect(url).await?;
        // As the origin's connections are.
        connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        open.push(connection);
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

async fn keep_writing(mut connection: MySqlConnection, sku: i64, end: Instant) -> Result<Written> {
    let mut written = Written::default();
    let batch = u64::try_from(BATCH)?;
    while Instant::now() < end {
        let started = Instant::now();
        let mut tries = 0;
        while let Err(error) = transaction(&mut connection, sku).await {
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

async fn transaction(connection: &mut MySqlConnection, sku: i64) -> Result<(), sqlx::Error> {
    connection.execute("BEGIN").await?;
    write(connection, sku).await?;
    connection.execute("COMMIT").await?;
    Ok(())
}

/// One order of a batch.
struct Row {
    number: String,
    user: i64,
    id: i64,
}

/// What one batch writes, in the order of the origin's writer (`orders/writer.rs`): the guarded update of the SKU last, since
/// it locks what all batches want. To be kept equal to that writer.
async fn write(connection: &mut MySqlConnection, sku: i64) -> Result<(), sqlx::Error> {
    let now = OffsetDateTime::now_utc();
    let mut orders: Vec<Row> = (0..BATCH)
        .map(|_| next_number())
        .map(|number| Row {
            number: format!("{number:022}"),
            user: i64::try_from(number % 1024).unwrap_or(0) + 1,
            id: 0,
        })
        .collect();
    insert_orders(connection, &mut orders, now).await?;
    look_for_tombstones(connection, &orders).await?;
    insert_keys(connection, &orders, now).await?;
    insert_items(connection, &orders, sku).await?;
    insert_events(connection, &orders).await?;
    insert_movements(connection, &orders, sku).await?;
    hold(connection, sku).await
}

async fn insert_orders(
    connection: &mut MySqlConnection,
    orders: &mut [Row],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    for portion in orders.chunks(MOST_ORDERS) {
        let mut query = QueryBuilder::new(
            "INSERT INTO orders (order_no, user_id, total_amount, discount_amount, actual_amount, status, \
             delivery_address, delivery_fee, remark, created_at, pay_deadline) ",
        );
        query.push_values(portion, |mut row, order| {
            row.push_bind(&order.number).push_bind(order.user);
            for fen in [1580_i64, 0, 2380] {
                row.push_bind(fen).push_unseparated(" / 100");
            }
            row.push_bind(0_u8).push_bind(SEALED).push_bind(800_i64).push_unseparated(" / 100");
            row.push_bind("").push_bind(now).push_bind(now + time::Duration::days(1));
        });
        query.build().execute(&mut *connection).await?;
    }
    let mut query = QueryBuilder::new("SELECT order_no, id FROM orders WHERE order_no IN ");
    push_numbers(&mut query, orders);
    let ids: HashMap<String, i64> = query.build_query_as().fetch_all(connection).await?.into_iter().collect();
    for order in orders {
        order.id = *ids.get(&order.number).ok_or(sqlx::Error::RowNotFound)?;
    }
    Ok(())
}

async fn insert_items(connection: &mut MySqlConnection, orders: &[Row], sku: i64) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new(
        "INSERT INTO order_items (order_id, sku_id, product_id, name, image, specifications, price_fen, quantity, \
         amount_fen) ",
    );
    query.push_values(orders, |mut row, order| {
        row.push_bind(order.id).push_bind(sku).push_bind(sku);
        row.push_bind("红富士苹果").push_bind("/static/demo/apple.jpg").push_bind("5 斤装");
        row.push_bind(1580_i64).push_bind(1_i64).push_bind(1580_i64);
    });
    query.build().execute(connection).await?;
    Ok(())
}

async fn insert_events(connection: &mut MySqlConnection, orders: &[Row]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("INSERT INTO outbox (kind, order_id) ");
    query.push_values(orders, |mut row, order| {
        row.push_bind("order_placed").push_bind(order.id);
    });
    query.build().execute(connection).await?;
    Ok(())
}

async fn insert_keys(
    connection: &mut MySqlConnection,
    orders: &[Row],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new(
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, reply, created_at) ",
    );
    query.push_values(orders, |mut row, order| {
        row.push_bind(order.user).push_bind(format!("bare-{}", order.number)).push_bind(&[7_u8; 32][..]);
        row.push_bind(format!(
            r#"{{"order_id":{},"order_no":"{}","total_amount":15.8,"actual_amount":23.8,"delivery_fee":8,"pay_deadline":"2026-01-01T00:00:00+08:00"}}"#,
            order.id, order.number
        ));
        row.push_bind(now);
    });
    query.build().execute(connection).await?;
    Ok(())
}

async fn look_for_tombstones(connection: &mut MySqlConnection, orders: &[Row]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT order_no FROM order_tombstones WHERE order_no IN ");
    push_numbers(&mut query, orders);
    query.push(" FOR UPDATE");
    let buried: Vec<String> = query.build_query_scalar().fetch_all(connection).await?;
    if buried.is_empty() { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

async fn insert_movements(
    connection: &mut MySqlConnection,
    orders: &[Row],
    sku: i64,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new(
        "INSERT INTO stock_movements (sku_id, order_id, reason, available_change, held_change, sold_change) ",
    );
    query.push_values(orders, |mut row, order| {
        row.push_bind(sku).push_bind(order.id).push_bind("held");
        row.push_bind(-1_i64).push_bind(1_i64).push_bind(0_i64);
    });
    query.build().execute(connection).await?;
    Ok(())
}

async fn hold(connection: &mut MySqlConnection, sku: i64) -> Result<(), sqlx::Error> {
    let units = i64::try_from(BATCH).unwrap_or(0);
    let held = sqlx::query(
        "UPDATE stock SET available = available - ?, held = held + ? WHERE sku_id = ? AND available >= ?",
    )
    .bind(units)
    .bind(units)
    .bind(sku)
    .bind(units)
    .execute(connection)
    .await?;
    if held.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn push_numbers(query: &mut QueryBuilder<sqlx::MySql>, orders: &[Row]) {
    query.push("(");
    let mut numbers = query.separated(", ");
    for order in orders {
        numbers.push_bind(order.number.clone());
    }
    query.push(")");
}
