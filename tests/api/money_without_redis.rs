//! Money while Redis is gone. The gate, the nonces and the streams are Redis's; what was paid and what goes back is MySQL's
//! and WeChat's alone.

use farmgate_tests::{LONG, Shop, ShopPlan, Shopper, Value, eventually, json};

fn number(order: &Value) -> &str {
    order["order_no"].as_str().unwrap()
}

/// Waits until the order is in this state, as MySQL has it.
async fn becomes(shop: &Shop, order: &Value, state: i8, what: &str) {
    eventually(LONG, what, async || {
        let there: i8 = sqlx::query_scalar("SELECT status FROM orders WHERE id = ?")
            .bind(order["order_id"].as_i64())
            .fetch_one(&shop.db)
            .await
            .unwrap();
        (there == state).then_some(())
    })
    .await;
}

async fn prepaid(shop: &Shop, shopper: &Shopper) -> Value {
    let (product, ..) = shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    order
}

#[tokio::test]
async fn payments_are_heard_of_asked_about_and_closed_and_refunds_are_sent_without_redis() {
    let plan = ShopPlan::new().hasty_refunds().worker().redis_cable();
    let shop = plan.setting("FARMGATE_PAY__ASK_AFTER_SECONDS", 1).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let new = shopper.order(product, 2).await;
    let unheard = prepaid(&shop, &shopper).await;
    let unpaid = prepaid(&shop, &shopper).await;
    let stock = shop.stock(sku).await;
    shop.redis_cable().pull();

    // Prepared, paid and told.
    shopper.prepay(&new).await;
    let paid = shop.wechat.pay(number(&new)).await;
    shop.wechat.is_heard(number(&new), &paid).await;
    becomes(&shop, &new, 1, "the notification is taken").await;
    // Paid, and nobody told us.
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent", "times": 1}]})).await;
    shop.wechat.pay(number(&unheard)).await;
    becomes(&shop, &unheard, 1, "the payment is asked about").await;
    // Not paid in time, and then paid all the same.
    shop.let_time_run_out(&unpaid).await;
    becomes(&shop, &unpaid, 4, "the order is closed").await;
    assert!(!shop.wechat.try_pay(number(&unpaid)).await, "at WeChat too");
    let late = shop.wechat.pay_late(number(&unpaid)).await;
    shop.wechat.is_heard(number(&unpaid), &late).await;
    // What an operator refunds goes back too, and its goods with it.
    shop.refund_all(&new).await;
    shop.refunds_become(&new, &[2]).await;
    becomes(&shop, &new, 6, "the order is refunded").await;
    let after = shop.stock(sku).await;
    assert_eq!((after.available, after.held, after.sold), (stock.available + 3, 0, stock.sold + 1));

    // What an event has to start waits in MySQL until Redis is back (docs/OUTBOX.md).
    shop.refunds_become(&unpaid, &[]).await;
    shop.redis_cable().plug();
    shop.refunds_become(&unpaid, &[2]).await;
    eventually(LONG, "the gate learns of the goods", async || {
        (shop.gate(sku).await == Some(i64::from(stock.available) + 3)).then_some(())
    })
    .await;
    eventually(LONG, "all books agree", async || shop.reconcile(&[]).await.0.then_some(())).await;
}
