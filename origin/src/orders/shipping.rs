//! An order goes out to its shopper. [`crate::shipments`] knows how; here are the order's own state, its time and its event.

use std::collections::HashMap;

use farmgate_shared::api::orders::Order;
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::model::Status;
use super::service::{OrderError, leave, with_items};
use super::store;
use crate::app::App;
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

/// The order behind a number, whoever's it is: for the shop itself.
///
/// # Errors
/// When MySQL is away.
pub async fn find(pool: &MySqlPool, order_no: &OrderNo) -> Result<Option<OrderId>, sqlx::Error> {
    store::id_of(pool, order_no).await
}

/// What the shop calls an order, and where it stands.
#[derive(Clone, Debug)]
pub struct Named {
    pub order_no: String,
    pub status: Status,
}

/// The names of some orders, whoever's they are, by their ids: for the shop itself.
///
/// # Errors
/// When MySQL is away, or an order has an unknown state.
pub async fn named(pool: &MySqlPool, orders: &[OrderId]) -> Result<HashMap<OrderId, Named>, OrderError> {
    if orders.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store::names(pool, orders).await?;
    rows.into_iter()
        .map(|(id, order_no, number)| {
            let status = Status::from_number(number).ok_or(OrderError::UnknownStatus(number))?;
            Ok((OrderId(id), Named { order_no, status }))
        })
        .collect()
}

/// An order and whose it is: for the shop itself, which may see all of them.
///
/// # Errors
/// [`OrderError::NotFound`], or MySQL being away.
pub async fn of_shop(app: &App, order: OrderId) -> Result<(UserId, Order), OrderError> {
    let row = store::find_any(app.db.pool(), order).await?.ok_or(OrderError::NotFound)?;
    let user = UserId(row.user_id);
    let order = with_items(app, vec![row]).await?.pop().ok_or(OrderError::NotFound)?;
    Ok((user, order))
}

/// Orders that are paid and not shipped, the longest paid first, at most so many.
///
/// # Errors
/// When MySQL is away.
pub async fn to_ship(app: &App, most: u32) -> Result<Vec<Order>, OrderError> {
    let rows = store::paid_first(app.db.pool(), most).await?;
    with_items(app, rows).await
}
