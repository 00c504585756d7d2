//! SQL of `order_events`.

use farmgate_shared::ids::OrderNo;
use sqlx::{FromRow, MySqlConnection, MySqlPool, QueryBuilder};
use time::OffsetDateTime;

use crate::outbox::model::Event;

/// One event of an order.
#[derive(Debug, FromRow)]
pub struct Entry {
    pub kind: String,
    pub happened_at: OffsetDateTime,
}

pub async fn insert(connection: &mut MySqlConnection, events: &[Event]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("INSERT INTO order_events (event_id, order_id, kind, happened_at) ");
    query.push_values(events, |mut row, event| {
        row.push_bind(event.id)
            .push_bind(event.order.0)
            .push_bind(event.kind.name())
            .push_bind(event.happened_at);
    });
    query.build().execute(connection).await?;
    Ok(())
}

pub async fn of_order(pool: &MySqlPool, order_no: &OrderNo) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as(
        "SELECT kind, happened_at FROM (SELECT 0 AS event_id, 'order_placed' AS kind, created_at AS happened_at \
         FROM orders WHERE order_no = ? UNION ALL SELECT e.event_id, e.kind, e.happened_at FROM order_events e \
         JOIN orders o ON o.id = e.order_id WHERE o.order_no = ? AND e.kind <> 'order_placed') life \
         ORDER BY event_id > 0, happened_at, event_id",
    )
    .bind(order_no.as_str())
    .bind(order_no.as_str())
    .fetch_all(pool)
    .await
}
