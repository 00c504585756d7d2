//! An origin that is killed while it takes orders: who was told "ok" has an order, who was not may ask again, and the
//! books are clean once the worker has looked.

use farmgate_tests::{Call, LONG, ShopPlan, Shopper, Value, eventually, json};
use tokio::task::JoinSet;

const SHOPPERS: usize = 24;

/// Sends every shopper's order at once. What comes back for a shopper is the reply's data, or nothing where the order was
/// refused or the line broke.
fn order_all(shoppers: &[(Shopper, Call)]) -> JoinSet<(usize, Option<Value>)> {
    let mut waiting = JoinSet::new();
    for (index, (shopper, call)) in shoppers.iter().enumerate() {
        let (api, call) = (shopper.api.clone(), call.clone());
        waiting.spawn(async move {
            let reply = api.try_send(call).await.ok().filter(|reply| reply.status == 200);
            (index, reply.map(|reply| reply.data()))
        });
    }
    waiting
}

async fn survive_a_kill(after: usize) {
    let mut shop = ShopPlan::new().stock(20).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let mut shoppers = Vec::new();
    for index in 0..SHOPPERS {
        let shopper = shop.shopper(&format!("顾客{index}")).await;
        let body = json!({"product_id": product, "quantity": 1, "address_id": shopper.address().await});
        shoppers.push((shopper, Call::post("/api/orders", &body).idempotent(&format!("key-{index}"))));
    }

    let mut waiting = order_all(&shoppers);
    let mut told: Vec<Option<Value>> = vec![None; SHOPPERS];
    let mut ok = 0;
    while let Some(ended) = waiting.join_next().await {
        let (index, reply) = ended.unwrap();
        ok += usize::from(reply.is_some());
        told[index] = reply;
        if ok == after {
            shop.origin().kill();
        }
    }
    assert!(ok >= after, "the origin took {ok} orders");

    shop.restart_origin().await;
    let api = shop.api.clone();
    let again: Vec<(Shopper, Call)> =
        shoppers.iter().map(|(shopper, call)| (shopper.through(&api), call.clone())).collect();
    let mut waiting = order_all(&again);
    let mut orders = 0;
    while let Some(ended) = waiting.join_next().await {
        let (index, reply) = ended.unwrap();
        orders += i64::from(reply.is_some());
        if let Some(first) = &told[index] {
            assert_eq!(reply.as_ref(), Some(first), "who was told of an order finds it again");
        }
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, orders, "an order that nobody can find");
    let stock = shop.stock(sku).await;
    assert_eq!((i64::from(stock.held), i64::from(stock.available)), (orders, 20 - orders));
    // A hold that the killed origin left keeps the gate too low until the sweeper decides it, which is the one thing
    // that may have cost a sale.
    shop.age_holds().await;
    eventually(LONG, "the gate is true again", async || {
        (shop.gate(sku).await == Some(i64::from(shop.stock(sku).await.available))).then_some(())
    })
    .await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn a_kill_after_the_first_order_loses_nothing() {
    survive_a_kill(1).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing() {
    survive_a_kill(8).await;
}

#[tokio::test]
async fn a_kill_near_the_last_unit_oversells_nothing() {
    survive_a_kill(18).await;
}
