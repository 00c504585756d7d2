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
        "SELECT e.kind, e.happened_at FROM order_events e JOIN orders o ON o.id = e.order_id \
         WHERE o.order_no = ? ORDER BY e.happened_at, e.event_id",
    )
    .bind(order_no.as_str())
    .fetch_all(pool)
    .await
}
