//! Whether an order number has an order, decided for good. Promises that a number which is said to have none never gets one: it is
//! buried first, and an order that finds its number buried is rolled back.

use farmgate_shared::ids::{OrderId, OrderNo, UserId};

use super::service::OrderError;
use super::store;
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::TransactionError;

/// What became of a hold in the gate that stood too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Its order was made: the hold was only left over.
    Settled,
    /// Its order was not made and never will be: the hold was given back.
    Released,
}

/// Decides a hold that stood too long. The number is buried before the hold is given back, so that an order whose
/// maker was only slow cannot come alive afterwards.
///
/// # Errors
/// When MySQL is away; the hold stays.
pub async fn sweep_hold(app: &App, order_no: OrderNo) -> Result<Swept, OrderError> {
    if made_for_good(app, &order_no).await?.is_some() {
        app.gate.settle_abandoned(&order_no).await;
        Ok(Swept::Settled)
    } else {
        crash::point(Point::InSweeper);
        app.gate.release_abandoned(&order_no).await;
        Ok(Swept::Released)
    }
}

/// The order of a number, and whose it is; if there is none, there never will be. Waits for a transaction that is about to make
/// it.
///
/// # Errors
/// When MySQL is away; nothing is decided.
pub(super) async fn made_for_good(
    app: &App,
    order_no: &OrderNo,
) -> Result<Option<(OrderId, UserId)>, OrderError> {
    let number = order_no.clone();
    app.db
        .transaction("decide_order", move |connection| {
            let number = number.clone();
            Box::pin(async move {
                store::bury(connection, &number).await?;
                let made = store::lock_number(connection, &number).await?;
                if made.is_some() {
                    store::unbury(connection, &number).await?;
                }
                Ok(made)
            })
        })
        .await
        .map_err(TransactionError::<OrderError>::flatten)
}
