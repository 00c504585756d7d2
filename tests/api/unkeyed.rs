//! `POST /api/orders` without an Idempotency-Key: a double tap is one order, wherever its taps arrive, and the same basket
//! a while later is another one.

use std::collections::HashSet;

use farmgate_tests::{Call, LONG, Problem, Reply, Shop, ShopPlan, Shopper, Value, eventually, json};

use crate::orders::seed_body;
use crate::placing::at_once;

/// A shopper with a basket, and the request that orders it.
async fn basket(shop: &Shop, quantity: i64) -> (Shopper, Call) {
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let body = seed_body(product, json!(quantity), shopper.address().await);
    (shopper, Call::post("/api/orders", &body))
}

/// The last order of everybody is now longer ago than a double tap takes, and the gate has forgotten who asked for it. An hour:
/// a shop that stands still between MySQL's answer and its own look at the clock takes an order for so much younger.
async fn a_while_passes(shop: &Shop) {
    shop.change(
        "UPDATE idempotency_keys SET created_at = created_at - INTERVAL 1 HOUR \
         WHERE idempotency_key LIKE 'auto:%' AND user_id > ",
        0,
    )
    .await;
    shop.forget_requests().await;
}

/// The one order that all of them are told of.
fn the_one_order(replies: &[Reply]) -> Value {
    let first = replies[0].data();
    for reply in replies {
        assert_eq!(reply.data(), first, "all get the one reply");
    }
    first
}

async fn orders(shop: &Shop) -> i64 {
    shop.count("SELECT COUNT(*) FROM orders").await
}

#[tokio::test]
async fn a_double_tap_without_a_key_is_one_order() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let body = seed_body(product, json!(1), shopper.address().await);
    let replies = at_once((0..5).map(|_| (shopper.clone(), Call::post("/api/orders", &body)))).await;
    let numbers: HashSet<String> = replies.iter().map(|reply| reply.data()["order_no"].to_string()).collect();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
    // Something else is no double tap.
    let other = seed_body(product, json!(2), body["address_id"].as_i64().unwrap());
    shopper.api.post("/api/orders", &other).await.data();
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 2);
}

#[tokio::test]
async fn the_same_basket_after_a_while_is_a_second_order() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, call) = basket(&shop, 2).await;
    let (_, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let first = shopper.send_order(call.clone()).await.data();
    assert_eq!(shopper.send_order(call.clone()).await.data(), first, "a double tap");

    a_while_passes(&shop).await;
    let written = "SELECT CAST(UNIX_TIMESTAMP(MAX(created_at)) * 1000 AS SIGNED) FROM idempotency_keys WHERE user_id > 0";
    let first_written = shop.count(written).await;
    let second = shopper.send_order(call.clone()).await.data();
    assert_ne!(second["order_no"], first["order_no"]);
    assert_eq!((orders(&shop).await, shop.stock(sku).await.held), (2, before.held + 4));
    // The one row was written anew, and has the second order's reply.
    let replies: Vec<String> =
        sqlx::query_scalar("SELECT JSON_UNQUOTE(JSON_EXTRACT(reply, '$.order_no')) FROM idempotency_keys")
            .fetch_all(&shop.db)
            .await
            .unwrap();
    assert_eq!(replies, [second["order_no"].as_str().unwrap()]);
    assert!(shop.count(written).await >= first_written + 3_600_000);
    assert_eq!(shopper.send_order(call.clone()).await.data(), second, "a double tap of the second order");
    // Where the gate knows nothing, too.
    shop.forget_requests().await;
    assert_eq!(shopper.send_order(call.clone()).await.data(), second);
    assert_eq!(orders(&shop).await, 2);

    a_while_passes(&shop).await;
    let third = shopper.send_order(call).await.data();
    assert!(third["order_no"] != first["order_no"] && third["order_no"] != second["order_no"]);
    assert_eq!(shop.stock(sku).await.held, before.held + 6);
}

#[tokio::test]
async fn taps_at_replicas_whose_clocks_differ_are_one_order() {
    let plan = ShopPlan::new().worker().setting("FARMGATE_HTTP__DOUBLE_TAP_SECONDS", 15);
    let mut shop = plan.start().await;
    let (shopper, call) = basket(&shop, 2).await;
    // More than a double tap takes, and less than the edge's signature allows.
    shop.change_setting("FARMGATE_CLOCK__OFFSET_SECONDS", "20");
    let ahead = shopper.through(&shop.replica().await);
    let first = shopper.send_order(call.clone()).await.data();
    assert_eq!(ahead.send_order(call.clone()).await.data(), first);
    // Nor does the clock that is behind take another order for a double tap.
    a_while_passes(&shop).await;
    let second = ahead.send_order(call.clone()).await.data();
    assert_ne!(second, first);
    a_while_passes(&shop).await;
    assert_ne!(shopper.send_order(call).await.data(), second);
    assert_eq!(orders(&shop).await, 3);
}

#[tokio::test]
async fn a_second_tap_that_had_to_wait_for_the_first_is_one_with_it() {
    let plan = ShopPlan::new().worker().setting("FARMGATE_HTTP__DOUBLE_TAP_SECONDS", 10);
    let shop = plan.start().await;
    let (shopper, call) = basket(&shop, 1).await;
    // Longer than a double tap takes.
    shop.script("CREATE TRIGGER slow AFTER INSERT ON order_items FOR EACH ROW SET @slept = SLEEP(12)").await;
    let first = tokio::spawn({
        let (shopper, call) = (shopper.clone(), call.clone());
        async move { shopper.send_order(call).await }
    });
    let sleeping =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User sleep'";
    eventually(LONG, "the first is being written", async || {
        shop.count_connections(sleeping).await.filter(|count| *count > 0)
    })
    .await;
    let second = shopper.send_order(call).await;
    the_one_order(&[first.await.unwrap(), second]);
    assert_eq!(orders(&shop).await, 1);
}

#[tokio::test]
async fn a_second_order_that_fails_leaves_the_first_one_as_it_was() {
    // Without the worker there is no gate, so that MySQL alone refuses, where the key is renewed.
    let shop = ShopPlan::new().stock(3).start().await;
    let (shopper, call) = basket(&shop, 2).await;
    let (_, sku, _) = shop.first_product().await;
    let first = shopper.send_order(call.clone()).await.data();
    a_while_passes(&shop).await;
    let row = "SELECT CAST(CRC32(CONCAT(reply, created_at)) AS SIGNED) FROM idempotency_keys";
    let before = shop.count(row).await;
    shopper.send_order(call.clone()).await.fails_with(Problem::OutOfStock);
    assert_eq!((shop.count(row).await, orders(&shop).await, shop.stock(sku).await.held), (before, 1, 2));

    let cancel = format!("/api/orders/{}/cancel", first["order_id"]);
    shopper.api.post(&cancel, &json!({})).await.data();
    let second = shopper.send_order(call.clone()).await.data();
    assert_ne!(second["order_no"], first["order_no"]);
    assert_eq!(shopper.send_order(call).await.data(), second);
}

#[tokio::test]
async fn another_shopper_and_another_basket_are_no_double_tap() {
    let shop = Shop::start().await;
    let (shopper, call) = basket(&shop, 1).await;
    let first = shopper.send_order(call.clone()).await.data();
    let (product, ..) = shop.first_product().await;
    let other = shop.shopper("小李").await;
    let theirs = seed_body(product, json!(1), other.address().await);
    let theirs = other.send_order(Call::post("/api/orders", &theirs)).await.data();
    let mut larger = call.json_body();
    larger["quantity"] = json!(2);
    let larger = shopper.send_order(Call::post("/api/orders", &larger)).await.data();
    let numbers: HashSet<String> =
        [&first, &theirs, &larger].iter().map(|order| order["order_no"].to_string()).collect();
    assert_eq!(numbers.len(), 3);
    // With a key of the client's own, the same basket is wanted once more.
    let keyed = shopper.send_order(call.idempotent("once-more")).await.data();
    assert_ne!(keyed["order_no"], first["order_no"]);
}

/// The same basket a while later, tapped wildly at two replicas at once, some times over.
async fn again_at_two_replicas(plan: ShopPlan) {
    let mut shop = plan.start().await;
    let replicas = [shop.api.clone(), shop.replica().await];
    let (shopper, call) = basket(&shop, 1).await;
    let (_, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let mut numbers = HashSet::new();
    numbers.insert(shopper.send_order(call.clone()).await.data()["order_no"].to_string());
    for round in 2..=4 {
        a_while_passes(&shop).await;
        let taps = (0..10).map(|tap| (shopper.through(&replicas[tap % 2]), call.clone()));
        let made = the_one_order(&at_once(taps).await);
        assert!(numbers.insert(made["order_no"].to_string()), "{made} is an earlier order");
        assert_eq!(orders(&shop).await, round);
    }
    assert_eq!(shop.stock(sku).await.held, before.held + 4);
    assert_eq!(shop.count("SELECT COUNT(*) FROM idempotency_keys").await, 1);
}

#[tokio::test]
async fn the_same_basket_after_a_while_at_two_replicas_at_once_is_one_more_order() {
    again_at_two_replicas(ShopPlan::new().worker()).await;
}

#[tokio::test]
async fn the_same_basket_after_a_while_at_two_replicas_without_a_gate_is_one_more_order() {
    again_at_two_replicas(ShopPlan::new()).await;
}

/// A first order, tapped wildly at three replicas at once.
async fn double_tap_at_three_replicas(plan: ShopPlan) {
    let mut shop = plan.stock(1).start().await;
    let replicas = [shop.api.clone(), shop.replica().await, shop.replica().await];
    let (shopper, call) = basket(&shop, 1).await;
    let (_, sku, _) = shop.first_product().await;
    let taps = (0..30).map(|tap| (shopper.through(&replicas[tap % 3]), call.clone()));
    the_one_order(&at_once(taps).await);
    assert_eq!((orders(&shop).await, shop.stock(sku).await.held), (1, 1));
}

#[tokio::test]
async fn a_double_tap_for_the_last_unit_at_three_replicas_is_one_order() {
    double_tap_at_three_replicas(ShopPlan::new().worker()).await;
}

#[tokio::test]
async fn a_double_tap_at_three_replicas_without_a_gate_is_one_order() {
    double_tap_at_three_replicas(ShopPlan::new()).await;
}
