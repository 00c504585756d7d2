//! SQL of `shopper_messages`.

use farmgate_shared::ids::OrderId;
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

pub async fn insert(
    connection: &mut MySqlConnection,
    event: i64,
    order: OrderId,
    occasion: &str,
    outcome: i8,
    told_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO shopper_messages (event_id, order_id, occasion, outcome, told_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(event)
    .bind(order.0)
    .bind(occasion)
    .bind(outcome)
    .bind(told_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Occasion, outcome and number since then.
pub async fn counts(pool: &MySqlPool, since: OffsetDateTime) -> Result<Vec<(String, i8, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT occasion, outcome, COUNT(*) FROM shopper_messages WHERE told_at >= ? \
         GROUP BY occasion, outcome ORDER BY occasion, outcome",
    )
    .bind(since)
    .fetch_all(pool)
    .await
}

/// Occasion, outcome and moment of an order's, the earliest first.
pub async fn of_order(
    pool: &MySqlPool,
    order: OrderId,
) -> Result<Vec<(String, i8, OffsetDateTime)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT occasion, outcome, told_at FROM shopper_messages WHERE order_id = ? ORDER BY event_id",
    )
    .bind(order.0)
    .fetch_all(pool)
    .await
}

pub async fn forget(pool: &MySqlPool, before: OffsetDateTime, most: u32) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM shopper_messages WHERE told_at < ? ORDER BY told_at LIMIT ?")
        .bind(before)
        .bind(most)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
