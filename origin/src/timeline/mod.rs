//! The life of an order. Promises an operator every event of an order that was delivered, once, with the moment at which
//! it happened, for as long as the order is kept.

mod store;

use farmgate_shared::ids::OrderNo;
use futures_core::future::BoxFuture;
use sqlx::{MySqlConnection, MySqlPool};

use crate::outbox::model::{Consumer, Event, EventKind, Failure};

pub use store::Entry;

pub const CONSUMER: Consumer = Consumer { name: "order_timeline", wants: &EventKind::ALL, apply };

fn apply<'c>(connection: &'c mut MySqlConnection, events: &'c [Event]) -> BoxFuture<'c, Result<(), Failure>> {
    Box::pin(async move { Ok(store::insert(connection, events).await?) })
}

/// What happened to an order, the earliest first; empty when there is no such order, or nothing was delivered yet.
///
/// # Errors
/// When MySQL is away.
pub async fn of_order(pool: &MySqlPool, order_no: &OrderNo) -> Result<Vec<Entry>, sqlx::Error> {
    store::of_order(pool, order_no).await
}
