//! An order goes out to its shopper. [`crate::shipments`] knows how; here are the order's own state, its time and its event.

use farmgate_shared::ids::OrderId;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use super::model::Status;
use super::service::{OrderError, leave};
use super::store;
use crate::outbox;
use crate::outbox::model::{EventKind, NewEvent};

/// The state of an order, which nobody else changes until the caller's transaction ends; `None` when there is no such order.
///
/// # Errors
/// When MySQL is away.
pub async fn lock_status(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<Status>, OrderError> {
    let Some(number) = store::lock_status(connection, order).await? else { return Ok(None) };
    Status::from_number(number).map(Some).ok_or(OrderError::UnknownStatus(number))
}

/// In the transaction that writes its shipment: a paid order becomes shipped. False when it is not paid, or not any more.
///
/// # Errors
/// When MySQL is away.
pub async fn mark_shipped(
    connection: &mut MySqlConnection,
    order: OrderId,
    at: OffsetDateTime,
) -> Result<bool, OrderError> {
    if !leave(connection, order, Status::Paid, Status::Shipped).await? {
        return Ok(false);
    }
    store::set_shipped(connection, order, at).await?;
    outbox::service::record(connection, &[NewEvent { kind: EventKind::OrderShipped, order }]).await?;
    Ok(true)
}

/// In the transaction that writes its second shipment: the order stays shipped, and whoever was told of the first is told.
///
/// # Errors
/// When MySQL is away.
pub async fn mark_reshipped(connection: &mut MySqlConnection, order: OrderId) -> Result<(), OrderError> {
    let reshipped = NewEvent { kind: EventKind::OrderReshipped, order };
    Ok(outbox::service::record(connection, &[reshipped]).await?)
}
