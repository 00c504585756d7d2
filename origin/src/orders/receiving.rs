//! The end of an order that went well: its shopper says that it arrived, or it completes by itself some days after it was
//! shipped.

use farmgate_shared::api::orders::Order;
use farmgate_shared::ids::{OrderId, UserId};
use farmgate_shared::problem::Problem;
use sqlx::MySqlConnection;
use time::{Duration, OffsetDateTime};

use super::model::Status;
use super::service::{OrderError, get, leave};
use super::store;
use crate::app::App;
use crate::db::TransactionError;
use crate::error::ApiError;
use crate::outbox;
use crate::outbox::model::{EventKind, NewEvent};

/// The shopper says that the goods arrived. A second click finds the order completed.
///
/// # Errors
/// [`Problem::OrderNotFound`], or [`Problem::OrderStateConflict`] where nothing was shipped or a refund is under way.
pub async fn confirm(app: &App, user: UserId, id: OrderId) -> Result<Order, ApiError> {
    let order = get(app, user, id).await?;
    if order.status == Status::Shipped.number() {
        let now = app.clock.now();
        app.db
            .transaction("confirm_order", move |connection| {
                Box::pin(async move { complete(connection, &[id], now).await })
            })
            .await
            .map_err(TransactionError::<OrderError>::flatten)?;
    }
    let order = get(app, user, id).await?;
    if order.status == Status::Completed.number() {
        Ok(order)
    } else {
        Err(Problem::OrderStateConflict.into())
    }
}

/// Completes orders that were shipped `orders.complete_after_seconds` ago, at most so many; says how many.
///
/// # Errors
/// When MySQL is away.
pub async fn complete_shipped_due(app: &App, most: u32) -> Result<usize, OrderError> {
    let now = app.clock.now();
    let shipped_until = now - Duration::seconds(i64::from(app.config.orders.complete_after_seconds));
    app.db
        .transaction("complete_shipped", move |connection| {
            Box::pin(async move {
                let due = store::lock_shipped_until(connection, shipped_until, most).await?;
                complete(connection, &due, now).await
            })
        })
        .await
        .map_err(TransactionError::flatten)
}

/// Says how many were still on their way.
async fn complete(
    connection: &mut MySqlConnection,
    orders: &[OrderId],
    at: OffsetDateTime,
) -> Result<usize, OrderError> {
    let mut completed = Vec::with_capacity(orders.len());
    for order in orders {
        if leave(connection, *order, Status::Shipped, Status::Completed).await? {
            store::set_completed(connection, *order, at).await?;
            completed.push(NewEvent { kind: EventKind::OrderCompleted, order: *order });
        }
    }
    outbox::service::record(connection, &completed).await?;
    Ok(completed.len())
}
