//! The physical ceiling: the SQL of the origin's batched order writer in a bare loop, with no HTTP, no Redis, no shopper
//! and no check. Batches of one size, each one transaction, over several connections, all of one SKU. The schema is the
//! origin's own, migrated by the origin; [`write`] writes the same rows in the same order as the origin, in scripts as it
//! does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_core::Stream as _;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::load::next_number;

/// Orders in one transaction, as the origin's writer has at most.
pub const BATCH: usize = 64;
/// Bytes of one trip. sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), and what goes out in two writes waits 40 ms
/// for the server's delayed acknowledgement of the first: that is no physical limit.
const MOST_BYTES: usize = 15 * 1024;
/// A deadlock or lock time-out rolls a batch back, as it does in the origin; more often than this in a row it is a fault.
const TRIES: u32 = 10;
/// As long as a sealed address is.
const SEALED: &str = r#"{"sealed":"data-00000000:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

/// Of a body, in hexadecimal digits, as the next two are.
const HASH: &str = "0707070707070707070707070707070707070707070707070707070707070707";
/// 红富士苹果
const NAME: &str = "E7BAA2E5AF8CE5A3ABE88BB9E69E9C";
/// 5 斤装
const SIZE: &str = "3520E696A4E8A385";

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
        connection.execute("SET SESSION autocommit = 0").await?;
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
        while let Err(error) = write(&mut connection, sku).await {
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

/// One order of a batch.
struct Row {
    number: String,
    user: i64,
    /// How the statements after its own name its id.
    id: String,
}

/// What one batch writes, in the order and in the trips of the origin's writer (`orders/writer.rs`): the guarded update of the
/// SKU last but for COMMIT, since it locks what all batches want. To be kept equal to that writer.
async fn write(connection: &mut MySqlConnection, sku: i64) -> Result<(), sqlx::Error> {
    let mut orders: Vec<Row> = (0..BATCH)
        .map(|_| next_number())
        .map(|number| Row {
            number: format!("{number:022}"),
            user: i64::try_from(number % 1024).unwrap_or(0) + 1,
            id: String::new(),
        })
        .collect();
    let mut script = Script::default();
    let now = moment(OffsetDateTime::now_utc());
    let rows = orders.iter().map(|Row { number, user, .. }| {
        format!("('{number}',{user},15.80,0.00,23.80,0,'{SEALED}',8.00,'','{now}','{now}')")
    });
    let sizes = script.insert(
        "INSERT INTO orders (order_no, user_id, total_amount, discount_amount, actual_amount, status, delivery_address, \
         delivery_fee, remark, created_at, pay_deadline) VALUES",
        rows,
        true,
    );
    let last_of_each = sizes.iter().scan(0, |rows, size| {
        *rows += size;
        Some(*rows - 1)
    });
    let lasts: Vec<usize> = last_of_each.collect();
    let ids = sizes.into_iter().enumerate().flat_map(|(piece, size)| (0..size).map(move |nth| (piece, nth)));
    for (order, (piece, nth)) in orders.iter_mut().zip(ids) {
        order.id = format!("@id{piece}+{nth}*@@auto_increment_increment");
    }
    script.insert(
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, reply, created_at) VALUES",
        orders.iter().map(|Row { number, user, id }| {
            let after = format!(
                r#","order_no":"{number}","total_amount":15.8,"discount_amount":0.0,"actual_amount":23.8,"delivery_fee":8.0,"pay_deadline":"2026-01-01T00:00:00+08:00"}}"#
            );
            format!(r#"({user},'bare-{number}',X'{HASH}',CONCAT('{{"order_id":',{id},'{after}'),'{now}')"#)
        }),
        false,
    );
    let of_each = |row: fn(&str, i64) -> String| orders.iter().map(move |order| row(&order.id, sku));
    script.insert(
        "INSERT INTO order_items (order_id, sku_id, product_id, name, image, specifications, price_fen, quantity, \
         amount_fen) VALUES",
        of_each(|id, sku| {
            format!("({id},{sku},{sku},_utf8mb4 X'{NAME}','/static/demo/apple.jpg',_utf8mb4 X'{SIZE}',1580,1,1580)")
        }),
        false,
    );
    script.insert(
        "INSERT INTO outbox (kind, order_id, published_at) VALUES",
        of_each(|id, _| format!("('order_placed',{id},UTC_TIMESTAMP(3))")),
        false,
    );
    let quoted: Vec<String> = orders.iter().map(|order| format!("'{}'", order.number)).collect();
    let numbers = quoted.join(",");
    let require = |condition: String| format!("SET @ok = IF({condition}, 1, EXP(999))");
    script.say(require(format!(
        "(SELECT COUNT(*) FROM order_tombstones WHERE order_no IN ({numbers}) FOR UPDATE) = 0"
    )));
    for Row { number, id, .. } in lasts.into_iter().filter_map(|last| orders.get(last)) {
        script.say(require(format!("(SELECT id FROM orders WHERE order_no = '{number}') = {id}")));
    }
    script.say("SELECT CAST(@@auto_increment_increment AS SIGNED)");
    script.insert(
        "INSERT INTO stock_movements (sku_id, order_id, reason, available_change, held_change, sold_change) VALUES",
        of_each(|id, sku| format!("({sku},{id},'held',-1,1,0)")),
        false,
    );
    script.say(format!(
        "UPDATE stock SET available = available - {BATCH}, held = held + {BATCH} \
         WHERE sku_id = {sku} AND available >= {BATCH}"
    ));
    script.say(require("ROW_COUNT() = 1".to_owned()));
    script.say("COMMIT");
    script.run(connection).await
}

/// As MySQL reads it.
fn moment(at: OffsetDateTime) -> String {
    let (hour, minute, second, micro) = at.to_hms_micro();
    format!("{} {hour:02}:{minute:02}:{second:02}.{micro:06}", at.date())
}

/// Statements in as few trips as the origin's scripts take.
#[derive(Default)]
struct Script {
    trips: Vec<String>,
}

impl Script {
    fn say(&mut self, statement: impl AsRef<str>) {
        match self.trips.last_mut() {
            Some(trip) if trip.len() + statement.as_ref().len() < MOST_BYTES => {
                trip.push(';');
                trip.push_str(statement.as_ref());
            }
            _ => self.trips.push(statement.as_ref().to_owned()),
        }
    }

    /// As many rows as fit go into one INSERT; says how many each of them has.
    fn insert(&mut self, opening: &str, rows: impl Iterator<Item = String>, keeps_ids: bool) -> Vec<usize> {
        let mut sizes: Vec<usize> = Vec::new();
        for row in rows {
            match (self.trips.last_mut(), sizes.last_mut()) {
                (Some(trip), Some(size)) if trip.len() + row.len() < MOST_BYTES => {
                    trip.push(',');
                    trip.push_str(&row);
                    *size += 1;
                }
                _ => {
                    self.keep_id(&sizes, keeps_ids);
                    self.say(format!("{opening} {row}"));
                    sizes.push(1);
                }
            }
        }
        self.keep_id(&sizes, keeps_ids);
        sizes
    }

    fn keep_id(&mut self, sizes: &[usize], keeps_ids: bool) {
        if let Some(piece) = sizes.len().checked_sub(1).filter(|_| keeps_ids) {
            self.say(format!("SET @id{piece} = LAST_INSERT_ID()"));
        }
    }

    async fn run(self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        for trip in self.trips {
            let results = sqlx::raw_sql(AssertSqlSafe(trip)).fetch_many(&mut *connection);
            let mut results = std::pin::pin!(results);
            while let Some(result) = std::future::poll_fn(|context| results.as_mut().poll_next(context)).await
            {
                result?;
            }
        }
        Ok(())
    }
}
