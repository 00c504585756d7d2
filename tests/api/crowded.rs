//! More orders at once than one process makes: one more is told to come again, and the others are made.

use farmgate_tests::{Call, Problem, ShopPlan, json};
use tokio::task::JoinSet;

use crate::orders::seed_body;

const ROOM: usize = 2;
const SHOPPERS: usize = 5;

/// The shoppers order at once while nothing can be written, and no worker has filled the gate.
async fn order_at_once(setting: &str) {
    let shop = ShopPlan::new().stock(9).setting(setting, ROOM).start().await;
    let (product, sku, _) = shop.first_product().await;
    let mut buyers = Vec::new();
    for buyer in 0..SHOPPERS {
        let shopper = shop.shopper(&format!("买家{buyer}")).await;
        let address = shopper.address().await;
        let call = Call::post("/api/orders", &seed_body(product, json!(1), address)).idempotent("one-order");
        buyers.push((shopper, call));
    }
    let books = shop.lock_stock(sku).await;
    let mut waiting = JoinSet::new();
    for (buyer, (shopper, call)) in buyers.iter().enumerate() {
        let (api, call) = (shopper.api.clone(), call.clone());
        waiting.spawn(async move { (buyer, api.send(call).await) });
    }
    let mut crowded = Vec::new();
    while waiting.len() > ROOM {
        let (buyer, reply) = waiting.join_next().await.unwrap().unwrap();
        reply.fails_with(Problem::Unavailable);
        assert_eq!(reply.header("retry-after"), "1");
        crowded.push(buyer);
    }
    books.rollback().await.unwrap();
    while let Some(made) = waiting.join_next().await {
        made.unwrap().1.data();
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, i64::try_from(ROOM).unwrap());
    for buyer in crowded {
        let (shopper, call) = &buyers[buyer];
        shopper.api.send(call.clone()).await.data();
    }
    assert_eq!(usize::try_from(shop.stock(sku).await.available).unwrap(), 9 - SHOPPERS);
}

#[tokio::test]
async fn one_order_too_many_is_told_to_come_again() {
    order_at_once("FARMGATE_ORDERS__MOST_AT_ONCE").await;
}

#[tokio::test]
async fn without_the_gate_fewer_orders_wait_for_mysql() {
    order_at_once("FARMGATE_ORDERS__MOST_WITHOUT_GATE").await;
}
