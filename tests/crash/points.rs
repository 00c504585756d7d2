//! A process that dies at a named point (`origin/src/crash.rs`): what it leaves is what docs/STOCK.md says, and all of it
//! is mended.

use farmgate_tests::{Call, LONG, Shop, ShopPlan, eventually, json};

use crate::rush::{Rush, converges};

/// Orders that are told of before the origin dies with the next one.
const BEFORE: usize = 2;

/// An origin that dies at the third passing of `point` while shoppers order one after the other.
async fn die_ordering(point: &str) -> (Shop, Rush) {
    let die_at = format!("{point}:{}", BEFORE + 1);
    let mut shop = ShopPlan::new().stock(9).worker().origin_dies_at(Some(&die_at)).start().await;
    let mut rush = Rush::gather(&shop, BEFORE + 3).await;
    let api = shop.api.clone();
    rush.order_until_the_line_breaks(&api).await;
    shop.origin().died_at(point).await;
    assert_eq!(rush.told(), BEFORE);
    assert_eq!(shop.holds().await.len(), 1, "the hold of the order that was at hand");
    (shop, rush)
}

/// A new origin: everybody gets an order, the broken one's shopper too, and the books are clean.
async fn recover(mut shop: Shop, mut rush: Rush) {
    shop.restart_origin().await;
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), BEFORE + 3);
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

async fn orders(shop: &Shop) -> usize {
    usize::try_from(shop.count("SELECT COUNT(*) FROM orders").await).unwrap()
}

#[tokio::test]
async fn death_after_the_gate_leaves_a_hold_and_no_order() {
    let (shop, rush) = die_ordering("after_gate").await;
    assert_eq!(orders(&shop).await, BEFORE);
    recover(shop, rush).await;
}

#[tokio::test]
async fn death_in_the_batch_leaves_a_hold_and_no_order() {
    let (shop, rush) = die_ordering("in_batch").await;
    assert_eq!(orders(&shop).await, BEFORE);
    recover(shop, rush).await;
}

#[tokio::test]
async fn death_after_commit_leaves_an_order_that_its_shopper_finds() {
    let (shop, rush) = die_ordering("after_commit").await;
    assert_eq!(orders(&shop).await, BEFORE + 1);
    recover(shop, rush).await;
}

/// Shoppers of a crowd: more than enough for a batch of several.
const CROWD: usize = 24;
/// The writer's, and the one that stands in for those that are stuck.
const LANES: usize = 3;

/// An origin that dies with the batch behind the first three orders: they fill the writer's lanes, one each, waiting for their
/// stock, so that the rest of the crowd is written together. How many that were.
async fn die_in_a_crowd(point: &str) -> (Shop, Rush, usize) {
    const STOCK: i32 = 50;
    let die_at = format!("{point}:{}", LANES + 1);
    let mut shop = ShopPlan::new().stock(STOCK).worker().origin_dies_at(Some(&die_at)).start().await;
    let mut rush = Rush::gather(&shop, CROWD).await;
    let (_, sku, _) = shop.first_product().await;
    shop.note_writers().await;
    let lock = shop.lock_stock(sku).await;
    let api = shop.api.clone();
    for waiting in 1..=LANES {
        rush.begin(&api, 1);
        eventually(LONG, "an order waits for its stock", async || {
            (shop.waiting_for_stock().await == i64::try_from(waiting).ok()).then_some(())
        })
        .await;
    }
    shop.forget_writers().await;
    rush.begin(&api, CROWD - LANES);
    let left = i64::from(STOCK) - i64::try_from(CROWD).unwrap();
    eventually(LONG, "all have passed the gate", async || (shop.gate(sku).await == Some(left)).then_some(()))
        .await;
    lock.rollback().await.unwrap();
    rush.end().await;
    shop.origin().died_at(point).await;
    let batch = usize::try_from(shop.most_by_one_writer().await).unwrap();
    assert!(batch > 1, "a batch of {batch}");
    (shop, rush, batch)
}

/// A new origin: everybody of the crowd gets one order.
async fn recover_the_crowd(mut shop: Shop, mut rush: Rush) {
    shop.restart_origin().await;
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), CROWD);
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn death_in_a_batch_of_several_orders_leaves_none_of_them() {
    let (shop, rush, batch) = die_in_a_crowd("in_batch").await;
    let holds = shop.holds().await.len();
    assert!(holds >= batch, "{holds} holds, of {batch} at least");
    assert_eq!(orders(&shop).await, LANES);
    recover_the_crowd(shop, rush).await;
}

#[tokio::test]
async fn death_after_the_commit_of_several_orders_leaves_all_of_them() {
    let (shop, rush, batch) = die_in_a_crowd("after_commit").await;
    assert_eq!(orders(&shop).await, LANES + batch);
    recover_the_crowd(shop, rush).await;
}

/// Without a key of the shopper's own the second order renews the first one's, in a transaction of its own.
#[tokio::test]
async fn death_after_a_second_order_without_a_key_leaves_it_to_be_found() {
    let mut shop = ShopPlan::new().stock(9).worker().origin_dies_at(Some("after_commit:2")).start().await;
    let (product, sku, _) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    let body = json!({"product_id": product, "quantity": 2, "address_id": shopper.address().await});
    let call = Call::post("/api/orders", &body);
    let first = shopper.send_order(call.clone()).await.data();
    shop.change("UPDATE idempotency_keys SET created_at = created_at - INTERVAL 1 HOUR WHERE user_id > ", 0)
        .await;
    shop.forget_requests().await;
    assert!(shopper.api.try_send(call.clone()).await.is_err(), "the origin lived on");
    shop.origin().died_at("after_commit").await;
    assert_eq!((orders(&shop).await, shop.stock(sku).await.held), (2, 4));

    shop.restart_origin().await;
    // However long that took, it is the same tap of the finger.
    shop.change("UPDATE idempotency_keys SET created_at = UTC_TIMESTAMP(3) WHERE user_id > ", 0).await;
    let found = shopper.through(&shop.api).send_order(call).await.data();
    assert_ne!(found["order_no"], first["order_no"]);
    assert_eq!((orders(&shop).await, shop.stock(sku).await.held), (2, 4));
    converges(&shop).await;
}

#[tokio::test]
async fn death_in_the_sweeper_leaves_a_buried_hold_that_the_next_worker_gives_back() {
    let (mut shop, rush) = die_ordering("after_gate").await;
    shop.worker().kill();
    shop.start_worker_to_die_at(Some("in_sweeper")).await;
    shop.age_holds().await;
    shop.worker().died_at("in_sweeper").await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_tombstones").await, 1);
    assert_eq!(shop.holds().await.len(), 1);
    shop.start_worker().await;
    recover(shop, rush).await;
}

#[tokio::test]
async fn death_after_a_cancel_leaves_the_gate_too_low_until_the_worker_looks() {
    let die_at = Some("after_cancel_commit");
    let mut shop = ShopPlan::new().stock(9).worker().origin_dies_at(die_at).start().await;
    let (product, sku, _) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    let order = shopper.order(product, 4).await;
    let cancel = Call::new(reqwest::Method::POST, &format!("/api/orders/{}/cancel", order["order_id"]));
    assert!(shopper.api.try_send(cancel.clone()).await.is_err(), "the origin lived on");
    shop.origin().died_at("after_cancel_commit").await;
    assert_eq!(shop.stock(sku).await.available, 9);

    shop.restart_origin().await;
    let again = shopper.through(&shop.api).api.send(cancel).await.data();
    assert_eq!(again["status"], 4);
    converges(&shop).await;
    assert_eq!(shop.gate(sku).await, Some(9));
}

#[tokio::test]
async fn death_of_the_worker_that_closes_an_overdue_order_gives_its_goods_back_once() {
    let die_at = Some("after_cancel_commit");
    let mut shop = ShopPlan::new().stock(9).worker().worker_dies_at(die_at).start().await;
    let (product, sku, _) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    let order = shopper.order(product, 4).await;
    shop.let_time_run_out(&order).await;
    shop.worker().died_at("after_cancel_commit").await;
    shop.start_worker().await;
    converges(&shop).await;
    eventually(LONG, "the order is closed", async || {
        (shopper.see(&order).await["status"] == 4).then_some(())
    })
    .await;
    assert_eq!((shop.stock(sku).await.available, shop.gate(sku).await), (9, Some(9)));
}

#[tokio::test]
async fn an_origin_told_to_die_at_no_known_point_does_not_start() {
    let shop = Shop::start().await;
    let (is_serving, said) = shop.try_to_serve("after_gates:2").await;
    assert!(!is_serving && said.contains("after_gates is none of after_gate, in_batch"), "{said}");
}
