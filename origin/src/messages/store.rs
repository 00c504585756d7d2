//! SQL of `shopper_messages`.

use farmgate_shared::ids::OrderId;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

/// `shopper_messages.outcome`.
pub const SENT: i8 = 1;
pub const NOT_AGREED: i8 = 2;

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
