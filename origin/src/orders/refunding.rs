//! An order whose money goes back: it is refunding while WeChat has yet to pay, refunded when all of it was paid back, and
//! what it was before where WeChat did not. Promises that goods which never left the farm are for sale again when their
//! money is with the shopper; those that were shipped stay sold, and what comes back of them is another's decision.
//! A coupon that the order spent stays spent.

use farmgate_shared::ids::OrderId;
use sqlx::MySqlConnection;

use super::model::Status;
use super::service::{OrderError, leave, move_stock};
use super::store;
use crate::outbox;
use crate::outbox::model::{EventKind, NewEvent};
use crate::stock::Line;

/// In the transaction that promises the last of an order's money back: the order becomes refunding. Says what it was;
/// `None` where it is no live order, such as a cancelled one that was paid too late.
///
/// # Errors
/// When MySQL is away.
pub async fn begin(connection: &mut MySqlConnection, order: OrderId) -> Result<Option<Status>, OrderError> {
    let Some(number) = store::lock_status(connection, order).await? else { return Err(OrderError::NotFound) };
    let was = Status::from_number(number).ok_or(OrderError::UnknownStatus(number))?;
    if !was.may_become(Status::Refunding) {
        return Ok(None);
    }
    Ok(leave(connection, order, was, Status::Refunding).await?.then_some(was))
}

/// In the transaction that records the last of an order's money as paid back: the order becomes refunded, and goods that
/// were not shipped become available. `was` is what [`begin`] said. Says which goods the gate is to get back after the
/// commit; `None` where the order was not refunding.
///
/// # Errors
/// When the books are wrong or MySQL is away.
pub async fn finish(
    connection: &mut MySqlConnection,
    order: OrderId,
    was: Status,
) -> Result<Option<Vec<Line>>, OrderError> {
    if !leave(connection, order, Status::Refunding, Status::Refunded).await? {
        return Ok(None);
    }
    outbox::service::record(connection, &[NewEvent { kind: EventKind::OrderRefunded, order }]).await?;
    Ok(Some(move_stock(connection, order, was, Status::Refunded).await?))
}

/// In the transaction that records that WeChat did not pay: the order is again what it was. False where it was not
/// refunding.
///
/// # Errors
/// When MySQL is away.
pub async fn give_up(
    connection: &mut MySqlConnection,
    order: OrderId,
    was: Status,
) -> Result<bool, OrderError> {
    Ok(leave(connection, order, Status::Refunding, was).await?)
}
