//! Refunds under kills and while WeChat is away: each is paid back, once, and the books say so.

use farmgate_tests::{LONG, Shop, ShopPlan, Shopper, Value, eventually, json, number};

use crate::rush::converges;

async fn bought(shop: &Shop) -> (Shopper, Value, i64) {
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 2).await;
    (shopper, order, sku)
}

/// A worker that dies at a named point of an order's refund; then another one starts.
async fn die_refunding(point: &str, faults: Value) -> (Shop, Shopper, Value, i64) {
    let mut shop = ShopPlan::new().hasty_refunds().worker().worker_dies_at(Some(point)).start().await;
    let (shopper, order, sku) = bought(&shop).await;
    shop.wechat.misbehave(faults).await;
    shop.refund_all(&order).await;
    shop.worker().died_at(point).await;
    (shop, shopper, order, sku)
}

async fn is_refunded_once(shop: &Shop, shopper: &Shopper, order: &Value) {
    shop.refunds_become(order, &[2]).await;
    assert_eq!(shopper.see(order).await["status"], 6);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'refund_paid'").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'returned'").await, 1);
    let asked = shop.wechat.refunds_asked().await;
    assert!(asked.iter().all(|request| *request == asked[0]), "{asked:?}");
    converges(shop).await;
}

#[tokio::test]
async fn death_before_wechat_is_asked_delays_a_refund() {
    let (mut shop, shopper, order, _) = die_refunding("refund_before_call", json!({})).await;
    assert_eq!(shop.wechat.refunds_asked().await.len(), 0);
    shop.start_worker().await;
    is_refunded_once(&shop, &shopper, &order).await;
    assert_eq!(shop.wechat.refunds_asked().await.len(), 1);
}

#[tokio::test]
async fn death_after_wechat_answered_asks_again_under_the_same_number() {
    // Neither the reply nor a notification reaches the books.
    let silent = json!({"notify": [{"fault": "silent"}]});
    let (mut shop, shopper, order, _) = die_refunding("refund_after_call", silent).await;
    assert_eq!(shop.refunds(&order).await[0].status, 0, "nothing was recorded");
    shop.start_worker().await;
    is_refunded_once(&shop, &shopper, &order).await;
    assert_eq!(shop.wechat.refunds_asked().await.len(), 2);
}

#[tokio::test]
async fn death_after_a_refund_was_recorded_leaves_the_gate_too_low_until_the_worker_looks() {
    let silent = json!({"notify": [{"fault": "silent"}]});
    let (mut shop, shopper, order, sku) = die_refunding("after_refund_commit", silent).await;
    let available = shop.stock(sku).await.available;
    assert_eq!(shop.gate(sku).await, Some(i64::from(available) - 2));
    shop.start_worker().await;
    is_refunded_once(&shop, &shopper, &order).await;
    assert_eq!(shop.gate(sku).await, Some(i64::from(available)));
}

#[tokio::test]
async fn a_worker_killed_between_a_late_payment_and_its_refund_refunds_once() {
    // The first death may be another consumer's: the refund's entry then waits until the dead worker's is sent again.
    let hasty = ShopPlan::new().hasty_refunds().setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000);
    let mut shop = hasty.worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    shopper.prepay(&order).await;
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the order is cancelled", async || {
        (shopper.see(&order).await["status"] == 4).then_some(())
    })
    .await;
    shop.worker().kill();
    // One that has done something about the payment, and has not said so to the stream.
    shop.start_worker_to_die_at(Some("outbox_after_effect")).await;
    shop.wechat.pay_late(number(&order)).await;
    shop.worker().died_at("outbox_after_effect").await;
    shop.start_worker_to_die_at(Some("refund_before_call")).await;
    shop.worker().died_at("refund_before_call").await;
    shop.start_worker_to_die_at(Some("refund_after_call")).await;
    shop.worker().died_at("refund_after_call").await;
    shop.start_worker().await;
    shop.another_worker().await;
    shop.refunds_become(&order, &[2]).await;
    let asked = shop.wechat.refunds_asked().await;
    assert!(asked.iter().all(|request| *request == asked[0]), "{asked:?}");
    assert_eq!(shopper.see(&order).await["status"], 4);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'refund_started'").await, 1);
    converges(&shop).await;
}

#[tokio::test]
async fn a_wechat_that_is_away_delays_refunds_and_loses_none() {
    let shop = ShopPlan::new().hasty_refunds().worker().start().await;
    let (shopper, order, _) = bought(&shop).await;
    let (product, ..) = shop.first_product().await;
    let second = shopper.buy(&shop.wechat, product, 1).await;
    let path = "/v3/refund";
    shop.wechat.misbehave(json!({"api": [{"fault": "drop", "path": path}]})).await;
    shop.refund_all(&order).await;
    shop.refund_all(&second).await;
    eventually(LONG, "both were tried a few times", async || {
        let attempts = shop.count("SELECT CAST(MIN(attempts) AS SIGNED) FROM refunds").await;
        (attempts >= 3).then_some(())
    })
    .await;
    assert_eq!(shopper.see(&order).await["status"], 5);
    let (_, said) = shop.command(&["refund", "list"]).await;
    assert!(said.contains("could not be reached"), "{said}");
    // It is back, and loses the first reply; then a gateway in front of it has a fault.
    shop.wechat.behave().await;
    shop.wechat
        .misbehave(json!({"api": [
            {"fault": "lost_reply", "path": path, "times": 1},
            {"fault": "status", "status": 502, "code": "", "path": path, "times": 2},
            {"fault": "forged_signature", "path": path, "times": 2},
        ]}))
        .await;
    for order in [&order, &second] {
        shop.refunds_become(order, &[2]).await;
        assert_eq!(shopper.see(order).await["status"], 6);
    }
    let asked = shop.wechat.refunds_asked().await;
    for order in [&order, &second] {
        let number = format!("{}-all", number(order));
        let of_order: Vec<&Value> =
            asked.iter().filter(|request| request["out_refund_no"] == number).collect();
        assert!(of_order.len() > 1 && of_order.iter().all(|request| *request == of_order[0]), "{asked:?}");
    }
    converges(&shop).await;
}
