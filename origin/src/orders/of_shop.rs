//! Orders as the shop itself sees them, whoever's they are.

use std::collections::HashMap;

use farmgate_shared::api::orders::Order;
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use sqlx::MySqlPool;

use super::model::Status;
use super::service::{OrderError, with_items};
use super::store;
use crate::app::App;

/// The order behind a number.
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

/// The names of some orders, by their ids.
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

/// An order and whose it is.
///
/// # Errors
/// [`OrderError::NotFound`], or MySQL being away.
pub async fn get(app: &App, order: OrderId) -> Result<(UserId, Order), OrderError> {
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
