//! Paying: the prepay, WeChat's notification, and what is not believed.

use farmgate_tests::{Call, LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json, number, status};

use reqwest::Method;

use crate::{fen, keys};

/// A shopper with an order of two that awaits payment, and the SKU of it.
async fn ordered(shop: &Shop) -> (Shopper, Value, i64) {
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    (shopper, order, sku)
}

#[tokio::test]
async fn an_order_is_paid_through_wechat() {
    let shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    let before = shop.stock(sku).await;

    let parameters = shopper.prepay(&order).await;
    assert_eq!(keys(&parameters), ["nonceStr", "package", "paySign", "signType", "timeStamp"]);
    assert!(parameters.as_object().unwrap().values().all(Value::is_string), "{parameters}");
    let asked = &shop.wechat.calls("/v3/pay/transactions/jsapi").await[0]["body"];
    assert_eq!(
        asked["amount"]["total"].as_i64().unwrap(),
        fen(&order["actual_amount"]),
        "what is to be paid, in fen"
    );
    assert_eq!(asked["out_trade_no"], order["order_no"]);
    assert_eq!(status(&shopper, &order).await, 0, "asking for parameters pays nothing");

    // The simulator checks paySign as WeChat's app does.
    let paid = shop.wechat.pay_with(number(&order), &parameters).await;
    assert_eq!(
        (&paid["notify_status"], &paid["notify_body"]["code"]),
        (&json!(200), &json!("SUCCESS")),
        "{paid}"
    );
    let shown = shopper.see(&order).await;
    assert_eq!((&shown["status"], shown["status_text"].as_str()), (&json!(1), Some("待发货")));
    assert!(shown["payment_time"].as_str().unwrap().ends_with("+08:00"), "{shown}");
    let after = shop.stock(sku).await;
    assert_eq!(
        (after.available, after.held, after.sold),
        (before.available, before.held - 2, before.sold + 2)
    );
    let stored: String =
        sqlx::query_scalar("SELECT transaction_id FROM payments").fetch_one(&shop.db).await.unwrap();
    assert_eq!(json!(stored), paid["transaction_id"]);
    assert_eq!(shop.count("SELECT payment_method FROM orders").await, 1);
}

#[tokio::test]
async fn asking_twice_to_pay_is_one_prepay() {
    let shop = Shop::start().await;
    let (shopper, order, _) = ordered(&shop).await;
    let first = shopper.prepay(&order).await;
    let second = shopper.prepay(&order).await;
    assert_eq!(first["package"], second["package"]);
    assert_ne!(first["nonceStr"], second["nonceStr"], "each signature has a nonce of its own");
    shop.wechat.pay_with(number(&order), &second).await;
    assert_eq!(status(&shopper, &order).await, 1);
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
}

#[tokio::test]
async fn a_lost_reply_of_wechats_does_not_spoil_the_order() {
    let shop = Shop::start().await;
    let (shopper, order, _) = ordered(&shop).await;
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    for fault in [
        json!({"fault": "lost_reply", "times": 3}),
        json!({"fault": "drop", "times": 3}),
        json!({"fault": "forged_signature", "times": 1}),
        json!({"fault": "status", "status": 500, "code": "SYSTEM_ERROR", "times": 3}),
        json!({"fault": "status", "status": 429, "code": "FREQUENCY_LIMITED", "times": 3}),
    ] {
        shop.wechat.misbehave(json!({"api": [fault]})).await;
        let reply = shopper.api.post(&path, &json!({})).await;
        reply.fails_with(Problem::WechatUnavailable);
        assert_eq!(status(&shopper, &order).await, 0, "{fault}");
    }
    let parameters = shopper.prepay(&order).await;
    let requests = shop.wechat.calls("/v3/pay/transactions/jsapi").await;
    assert!(requests.len() >= 14, "{}", requests.len());
    assert!(
        requests.iter().all(|request| request["body"] == requests[0]["body"]),
        "the same request each time"
    );
    shop.wechat.pay_with(number(&order), &parameters).await;
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn a_slow_wechat_is_a_503_and_not_a_hang() {
    let mut shop = Shop::start().await;
    let (shopper, order, _) = ordered(&shop).await;
    // Only from here on is WeChat given so little time.
    for name in ["FARMGATE_PAY__TIMEOUT_MS", "FARMGATE_WECHAT__TIMEOUT_MS"] {
        shop.change_setting(name, "300");
    }
    shop.restart_origin().await;
    let shopper = shopper.through(&shop.api);
    shop.wechat.misbehave(json!({"api": [{"fault": "slow", "ms": 3000, "path": "/"}]})).await;
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::WechatUnavailable);
    let login = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小李")})).await;
    login.fails_with(Problem::WechatUnavailable);
}

#[tokio::test]
async fn a_notification_told_twice_pays_once() {
    let shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "doubled", "times": 1}]})).await;
    let paid = shop.wechat.pay(number(&order)).await;
    assert_eq!(paid["notify_status"], 200, "{paid}");
    for _ in 0..3 {
        let again = shop.wechat.notify(number(&order), &[]).await;
        assert_eq!(
            (&again["notify_status"], &again["notify_body"]["code"]),
            (&json!(200), &json!("SUCCESS"))
        );
    }
    assert_eq!(status(&shopper, &order).await, 1);
    assert_eq!(shop.stock(sku).await.sold, 2);
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}

#[tokio::test]
async fn what_does_not_agree_with_the_order_is_refused_and_pays_nothing() {
    let shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    for fault in [
        "forged_signature",
        "signtest",
        "stale_timestamp",
        "wrong_amount",
        "wrong_currency",
        "wrong_mchid",
        "wrong_appid",
        "wrong_payer",
        "unknown_order",
    ] {
        let answer = shop.wechat.notify(number(&order), &[fault]).await;
        let status_code = answer["notify_status"].as_u64().unwrap_or_default();
        assert!((400..500).contains(&status_code), "{fault}: {answer}");
        assert_eq!(keys(&answer["notify_body"]), ["code", "message"], "{fault}: {answer}");
        assert_eq!(answer["notify_body"]["code"], "FAIL", "{fault}: {answer}");
        assert_eq!(status(&shopper, &order).await, 0, "{fault} must pay nothing");
        assert_eq!(shop.stock(sku).await.sold, 0, "{fault}");
    }
    // The same shop takes the true one afterwards.
    let paid = shop.wechat.pay(number(&order)).await;
    shop.wechat.is_heard(number(&order), &paid).await;
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn a_wrong_notification_is_made_good_by_the_retry() {
    let shop = Shop::start().await;
    let (shopper, order, _) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat
        .misbehave(json!({"notify": [{"fault": "wrong_amount", "times": 1}], "retry_scale": 0.01}))
        .await;
    let paid = shop.wechat.pay(number(&order)).await;
    assert_eq!(paid["notify_status"], 400, "{paid}");
    let before_the_retry = status(&shopper, &order).await;
    // The retry comes in its own time.
    if shop.door().seen("/api/payments/wechat/notify").len() == 1 {
        assert_eq!(before_the_retry, 0);
    }
    eventually(LONG, "the retry pays the order", async || {
        (status(&shopper, &order).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn notifications_may_come_late_and_in_another_order() {
    let shop = Shop::start().await;
    let (shopper, first, _) = ordered(&shop).await;
    let (other, second, _) = {
        let shopper = shop.shopper("小李").await;
        let (product, sku, _) = shop.first_product().await;
        let order = shopper.order(product, 1).await;
        (shopper, order, sku)
    };
    shopper.prepay(&first).await;
    other.prepay(&second).await;
    shop.wechat
        .misbehave(json!({"notify": [{"fault": "reordered", "times": 1}, {"fault": "late", "ms": 200}]}))
        .await;
    assert_eq!(shop.wechat.pay(number(&first)).await["notify_status"], Value::Null, "kept back");
    assert_eq!(status(&shopper, &first).await, 0);
    let paid = shop.wechat.pay(number(&second)).await;
    shop.wechat.is_heard(number(&second), &paid).await;
    assert_eq!(status(&other, &second).await, 1);
    eventually(LONG, "the one kept back arrives", async || {
        (status(&shopper, &first).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_notification_is_refused_in_wechats_form() {
    let shop = Shop::start().await;
    for (kind, body) in [
        ("application/json", "{}"),
        ("application/json", ""),
        ("application/json", "{\"id\":"),
        ("text/xml", "<xml><return_code>SUCCESS</return_code></xml>"),
        ("application/json", "\u{0}"),
    ] {
        let call = Call::new(Method::POST, "/api/payments/wechat/notify").raw(kind, body);
        let reply = shop.api.send(call).await;
        assert!((400..500).contains(&reply.status), "{body:?}: {}", reply.status);
        assert_eq!(reply.json()["code"], "FAIL", "{body:?}");
    }
}

#[tokio::test]
async fn an_order_past_its_time_cannot_be_paid_and_closes() {
    let mut shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.let_time_run_out(&order).await;
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderExpired);
    shop.start_worker().await;
    eventually(LONG, "the order is cancelled", async || (status(&shopper, &order).await == 4).then_some(()))
        .await;
    assert_eq!(shop.stock(sku).await.held, 0);
    // Asked first, closed there, and only then cancelled here.
    let calls = shop.wechat.calls(&format!("/v3/pay/transactions/out-trade-no/{}", number(&order))).await;
    let methods: Vec<&str> = calls.iter().filter_map(|call| call["method"].as_str()).collect();
    assert_eq!(methods, ["GET", "POST"], "{calls:?}");
    let (refused, _) = shop.wechat.pay_refused(number(&order)).await;
    assert_eq!(refused, 409);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
}

#[tokio::test]
async fn an_order_paid_in_silence_is_found_paid_when_its_time_is_up() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.wechat.pay(number(&order)).await;
    assert_eq!(status(&shopper, &order).await, 0, "nobody told the shop");
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the shop asks before it cancels", async || {
        (status(&shopper, &order).await == 1).then_some(())
    })
    .await;
    assert_eq!(shop.stock(sku).await.sold, 2);
}

#[tokio::test]
async fn an_overdue_order_stays_while_wechat_cannot_be_asked() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"api": [{"fault": "status", "status": 500, "code": "SYSTEM_ERROR"}]})).await;
    shop.let_time_run_out(&order).await;
    let query = format!("/v3/pay/transactions/out-trade-no/{}", number(&order));
    eventually(LONG, "the shop has asked a few times", async || {
        (shop.wechat.calls(&query).await.len() >= 3).then_some(())
    })
    .await;
    assert_eq!(status(&shopper, &order).await, 0, "nothing may be concluded");
    assert_eq!(shop.stock(sku).await.held, 2);
    shop.wechat.behave().await;
    eventually(LONG, "then it closes", async || (status(&shopper, &order).await == 4).then_some(())).await;
}

#[tokio::test]
async fn an_order_whose_prepay_never_arrived_closes_too() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, _) = ordered(&shop).await;
    shop.wechat.misbehave(json!({"api": [{"fault": "drop", "times": 3}]})).await;
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::WechatUnavailable);
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the order is cancelled", async || (status(&shopper, &order).await == 4).then_some(()))
        .await;
}

#[tokio::test]
async fn an_order_that_was_never_to_be_paid_closes_without_asking_wechat() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the order is cancelled", async || (status(&shopper, &order).await == 4).then_some(()))
        .await;
    assert_eq!(shop.stock(sku).await.held, 0);
    assert_eq!(shop.wechat.calls("/v3/").await.len(), 0);
}

#[tokio::test]
async fn a_payment_of_a_cancelled_order_is_recorded_and_sells_nothing() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the order is cancelled", async || (status(&shopper, &order).await == 4).then_some(()))
        .await;
    let late = shop.wechat.notify(number(&order), &[]).await;
    assert_eq!(late["notify_status"], 200, "WeChat need not tell it again: {late}");
    assert_eq!(status(&shopper, &order).await, 4);
    let stock = shop.stock(sku).await;
    assert_eq!((stock.held, stock.sold), (0, 0), "the goods may be somebody else's by now");
    let refund_due = shop.count("SELECT COUNT(*) FROM payments p JOIN orders o ON o.id = p.order_id WHERE p.status = 1 AND o.status = 4").await;
    assert_eq!(refund_due, 1, "the money is on record");
}

#[tokio::test]
async fn a_shopper_cancels_an_unpaid_order_and_the_goods_return() {
    let shop = ShopPlan::new().worker().start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    let level = shop.gate(sku).await.unwrap();
    shopper.prepay(&order).await;
    let path = format!("/api/orders/{}/cancel", order["order_id"]);
    let stranger = shop.shopper("小李").await;
    stranger.api.post(&path, &json!({})).await.fails_with(Problem::OrderNotFound);
    assert_eq!(status(&shopper, &order).await, 0);

    for click in ["first", "second"] {
        let cancelled = shopper.api.post(&path, &json!({})).await.data();
        assert_eq!(
            (&cancelled["status"], &cancelled["status_text"]),
            (&json!(4), &json!("已取消")),
            "{click}"
        );
    }
    assert_eq!(shop.stock(sku).await.held, 0);
    eventually(LONG, "the goods are back at the gate", async || {
        (shop.gate(sku).await == Some(level + 2)).then_some(())
    })
    .await;
    let (refused, _) = shop.wechat.pay_refused(number(&order)).await;
    assert_eq!(refused, 409, "closed at WeChat before it was cancelled here");
}

#[tokio::test]
async fn a_paid_order_cannot_be_cancelled_even_if_only_wechat_knows() {
    let shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.wechat.pay(number(&order)).await;
    let path = format!("/api/orders/{}/cancel", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
    assert_eq!(status(&shopper, &order).await, 1, "asking WeChat told that it is paid");
    assert_eq!(shop.stock(sku).await.sold, 2);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
}

#[tokio::test]
async fn an_order_is_not_cancelled_while_wechat_cannot_be_asked() {
    let shop = Shop::start().await;
    let (shopper, order, sku) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"api": [{"fault": "drop"}]})).await;
    let path = format!("/api/orders/{}/cancel", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::WechatUnavailable);
    assert_eq!((status(&shopper, &order).await, shop.stock(sku).await.held), (0, 2));
    shop.wechat.behave().await;
    shopper.api.post(&path, &json!({})).await.data();
}

#[tokio::test]
async fn a_payment_and_a_cancel_that_meet_have_one_winner() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    for round in 0..8 {
        let order = shopper.order(product, 1).await;
        shopper.prepay(&order).await;
        let path = format!("/api/orders/{}/cancel", order["order_id"]);
        let nothing = json!({});
        let (cancel, paid) =
            tokio::join!(shopper.api.post(&path, &nothing), shop.wechat.try_pay(number(&order)));
        let ended = status(&shopper, &order).await;
        match (cancel.status, paid) {
            (200, false) => assert_eq!(ended, 4, "round {round}"),
            (409, true) => assert_eq!(ended, 1, "round {round}"),
            (cancel, paid) => panic!("round {round}: cancel {cancel}, paid {paid}, status {ended}"),
        }
    }
    assert_eq!(shop.stock(sku).await.held, 0);
}

#[tokio::test]
async fn a_killed_origin_forgets_no_payment() {
    let mut shop = Shop::start().await;
    let (shopper, order, _) = ordered(&shop).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"retry_scale": 0.02})).await;
    shop.origin().kill();
    let paid = shop.wechat.pay(number(&order)).await;
    assert_ne!(paid["notify_status"], 200, "nobody is there: {paid}");
    shop.restart_origin().await;
    let shopper = shop.shopper("小王").await;
    eventually(LONG, "the retry reaches the new process", async || {
        (status(&shopper, &order).await == 1).then_some(())
    })
    .await;
}
