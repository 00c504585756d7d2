//! wechat-sim itself, judged by an implementation that is not ours: what it signs verifies and what it seals opens, or the
//! other tests prove nothing.

use farmgate_tests::{ForeignWechat, Shop, ShopPlan, Value, json};

#[tokio::test]
async fn the_simulators_replies_verify() {
    let wechat = ForeignWechat::start().await;
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    let pathname = format!("v3/pay/transactions/out-trade-no/{}", order["order_no"].as_str().unwrap());
    let ask = |pathname: &str| {
        json!({"base_url": shop.wechat.url(), "method": "get", "pathname": pathname,
               "params": {"mchid": shop.setting_of("FARMGATE_PAY__MCHID")}})
    };
    let seen = wechat.control("ask", &ask(&pathname)).await;
    assert_eq!((&seen["status"], &seen["body"]["trade_state"]), (&json!(200), &json!("NOTPAY")), "{seen}");

    shop.wechat.pay(order["order_no"].as_str().unwrap()).await;
    let seen = wechat.control("ask", &ask(&pathname)).await;
    assert_eq!(seen["body"]["trade_state"], "SUCCESS", "{seen}");

    let close = json!({"base_url": shop.wechat.url(), "method": "post", "pathname": format!("{pathname}/close"),
                       "data": {"mchid": shop.setting_of("FARMGATE_PAY__MCHID")}});
    let refused = wechat.control("ask", &close).await;
    assert_eq!(
        (&refused["status"], &refused["body"]["code"]),
        (&json!(400), &json!("ORDERPAID")),
        "{refused}"
    );

    // The package notices when a reply is not WeChat's.
    shop.wechat.misbehave(json!({"api": [{"fault": "forged_signature", "times": 1}]})).await;
    let forged = wechat.control("ask", &ask(&pathname)).await;
    assert_eq!(forged["code"], "EV3_RES_HEADER_SIGNATURE_DIGEST", "{forged}");
}

#[tokio::test]
async fn the_simulators_notifications_verify_and_open() {
    let wechat = ForeignWechat::start().await;
    let inbox = format!("{}/peer/inbox", wechat.url());
    let shop = ShopPlan::new().setting("FARMGATE_PAY__NOTIFY_URL", inbox).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    let number = order["order_no"].as_str().unwrap();
    assert_eq!(shop.wechat.pay(number).await["notify_status"], 200);
    for fault in ["forged_signature", "stale_timestamp", "signtest"] {
        assert_eq!(shop.wechat.notify(number, &[fault]).await["notify_status"], 401, "{fault}");
    }
    let seen = wechat.calls("/peer/inbox").await;
    let verdicts: Vec<&Value> = seen.iter().map(|call| &call["verified"]).collect();
    assert_eq!(verdicts, [true, false, false, false]);
    assert_eq!(seen[0]["envelope"]["event_type"], "TRANSACTION.SUCCESS");
    assert_eq!(seen[0]["envelope"]["resource_type"], "encrypt-resource");
    assert_eq!(seen[0]["resource"]["out_trade_no"], order["order_no"]);
    assert_eq!(seen[0]["resource"]["amount"]["currency"], "CNY");
}
