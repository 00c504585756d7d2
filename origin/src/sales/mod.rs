//! What sold. Promises whoever sorts or reports by sales that `product_sales` counts each paid order once, seconds after
//! it was paid.

mod store;

use std::collections::{BTreeMap, HashSet};

use farmgate_shared::ids::{OrderId, ProductId};
use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;

use crate::orders;
use crate::outbox::model::{ALWAYS, Consumer, Effect, Event, EventKind, Failure};

pub const CONSUMER: Consumer = Consumer {
    name: "product_sales",
    wants: &[EventKind::OrderPaid],
    is_on: ALWAYS,
    effect: Effect::Books(apply),
};

/// What is added to a product's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sales {
    units: i64,
    orders: i64,
}

fn apply<'c>(connection: &'c mut MySqlConnection, events: &'c [Event]) -> BoxFuture<'c, Result<(), Failure>> {
    Box::pin(async move {
        let paid: Vec<OrderId> = events.iter().map(|event| event.order).collect();
        let bought = orders::service::bought(connection, &paid).await?;
        let known: HashSet<OrderId> = bought.iter().map(|(order, ..)| *order).collect();
        if let Some(order) = paid.iter().find(|order| !known.contains(order)) {
            return Err(Failure::Permanent(format!("order {order} was paid and has no lines")));
        }
        // In the products' order, so that two workers never wait for each other in a circle.
        let mut sales: BTreeMap<ProductId, Sales> = BTreeMap::new();
        for (_, product, quantity) in bought {
            let sold = sales.entry(product).or_default();
            sold.units += quantity;
            sold.orders += 1;
        }
        Ok(store::add(connection, &sales).await?)
    })
}
