//! The end of an order that was not paid, by its shopper or by time-out. Promises that it is closed at WeChat first, so that no
//! payment can arrive for goods that somebody else may buy.

use std::sync::Arc;

use farmgate_shared::api::orders::Order;
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use farmgate_shared::problem::Problem;

use super::model::Status;
use super::service::{OrderError, get, leave, move_stock, stored_order_no};
use super::store;
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{Retryable, TransactionError};
use crate::error::ApiError;
use crate::outbox::model::{EventKind, NewEvent};
use crate::payments::closing::{Closing, ClosingError};
use crate::{coupons, outbox, payments, stock};

/// Why an unpaid order stays open.
#[derive(Debug, thiserror::Error)]
pub enum CloseUnpaidError {
    #[error(transparent)]
    AtWechat(#[from] ClosingError),
    #[error(transparent)]
    Here(#[from] OrderError),
}

impl From<CloseUnpaidError> for ApiError {
    fn from(error: CloseUnpaidError) -> ApiError {
        match error {
            CloseUnpaidError::AtWechat(error) => ApiError::caused(Problem::WechatUnavailable, error),
            CloseUnpaidError::Here(error) => error.into(),
        }
    }
}

impl CloseUnpaidError {
    /// Whether the next order would fare no better.
    pub fn is_outage(&self) -> bool {
        match self {
            CloseUnpaidError::AtWechat(error) => error.is_outage(),
            CloseUnpaidError::Here(error) => error.database().is_some_and(crate::db::is_away),
        }
    }
}

/// Closes an order that was not paid: at WeChat first, and only then here, so that no payment can still arrive for
/// goods that somebody else may buy.
///
/// # Errors
/// When WeChat or MySQL does not answer: the order stays as it is, to be tried again.
pub async fn close_unpaid(
    app: &Arc<App>,
    order: OrderId,
    order_no: &OrderNo,
) -> Result<Closing, CloseUnpaidError> {
    let closing = payments::closing::close_at_wechat(app, order_no).await?;
    if closing == Closing::Closed {
        // False where another worker or a notification was quicker; either way it no longer awaits payment.
        cancel_unpaid(app, order).await?;
    }
    Ok(closing)
}

/// Cancels an order for its shopper, who may change their mind until it is paid. A second click finds it cancelled.
///
/// # Errors
/// [`Problem::OrderNotFound`], [`Problem::OrderStateConflict`] once it was paid, or
/// [`Problem::WechatUnavailable`] while WeChat cannot be told.
pub async fn cancel(app: &Arc<App>, user: UserId, id: OrderId) -> Result<Order, ApiError> {
    let order = get(app, user, id).await?;
    if order.status == Status::AwaitingPayment.number() {
        close_unpaid(app, id, &order.order_no).await?;
    }
    let order = get(app, user, id).await?;
    if order.status == Status::Cancelled.number() {
        Ok(order)
    } else {
        Err(Problem::OrderStateConflict.into())
    }
}

/// Gives the stock of an order that can no longer be paid back. False when it no longer awaits payment.
async fn cancel_unpaid(app: &App, order: OrderId) -> Result<bool, OrderError> {
    let released = app
        .db
        .transaction("cancel_unpaid", move |connection| {
            Box::pin(async move {
                if !leave(connection, order, Status::AwaitingPayment, Status::Cancelled).await? {
                    return Ok(None);
                }
                let cancelled = NewEvent { kind: EventKind::OrderCancelled, order };
                outbox::service::record(connection, &[cancelled]).await?;
                coupons::service::give_back(connection, order).await?;
                let lines = move_stock(connection, order, Status::AwaitingPayment, Status::Cancelled).await?;
                Ok(Some(lines))
            })
        })
        .await
        .map_err(TransactionError::<OrderError>::flatten)?;
    let Some(lines) = released else { return Ok(false) };
    crash::point(Point::AfterCancelCommit);
    stock::service::give_back(app, &lines).await;
    Ok(true)
}

/// Orders that await payment past their deadline.
///
/// # Errors
/// When MySQL is away.
pub async fn overdue(app: &App, most: u32) -> Result<Vec<(OrderId, OrderNo)>, OrderError> {
    let rows = store::overdue(app.db.pool(), app.clock.now(), most).await?;
    rows.into_iter().map(|(id, number)| Ok((OrderId(id), stored_order_no(&number)?))).collect()
}
