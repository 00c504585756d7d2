//! The life of an order. Promises an operator every event of an order that was delivered, once, with the moment at which
//! it happened, for as long as the order is kept.

mod store;

use farmgate_shared::ids::OrderNo;
use futures_core::future::BoxFuture;
use sqlx::{MySqlConnection, MySqlPool};

use crate::outbox::model::{ALWAYS, Consumer, Effect, Event, EventKind, Failure};

pub use store::Entry;

/// All but the placing, which the order itself tells: a rush then writes nothing here.
const WANTS: [EventKind; 12] = [
    EventKind::OrderPaid,
    EventKind::OrderCancelled,
    EventKind::OrderCompleted,
    EventKind::PaidTooLate,
    EventKind::RefundStarted,
    EventKind::RefundPaid,
    EventKind::RefundClosed,
    EventKind::RefundStuck,
    EventKind::OrderRefunded,
    EventKind::OrderShipped,
    EventKind::OrderReshipped,
    EventKind::ReviewWritten,
];

pub const CONSUMER: Consumer =
    Consumer { name: "order_timeline", wants: &WANTS, is_on: ALWAYS, effect: Effect::Books(apply) };

fn apply<'c>(connection: &'c mut MySqlConnection, events: &'c [Event]) -> BoxFuture<'c, Result<(), Failure>> {
    Box::pin(async move { Ok(store::insert(connection, events).await?) })
}

/// What happened to an order, as far as it was delivered, the earliest first; empty when there is no such order.
///
/// # Errors
/// When MySQL is away.
pub async fn of_order(pool: &MySqlPool, order_no: &OrderNo) -> Result<Vec<Entry>, sqlx::Error> {
    store::of_order(pool, order_no).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_but_the_placing_is_wanted() {
        let told_by_the_order = |kind: &EventKind| *kind == EventKind::OrderPlaced;
        assert!(EventKind::ALL.iter().all(|kind| WANTS.contains(kind) != told_by_the_order(kind)));
    }
}
