//! What the origin sends to WeChat Pay, judged by an implementation that is not ours; and what that one answers, believed
//! by the origin only when it verifies.

use farmgate_tests::{ForeignWechat, LONG, Problem, Shop, ShopPlan, Value, eventually, json, ordered};

/// A shop whose WeChat Pay is the foreign one.
async fn shop_at(wechat: &ForeignWechat) -> Shop {
    plan_at(wechat).start().await
}

fn plan_at(wechat: &ForeignWechat) -> ShopPlan {
    ShopPlan::new().setting("FARMGATE_PAY__BASE_URL", wechat.url())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Every call verified, and these are all there were, as (method, path).
#[track_caller]
fn all_verified(calls: &[Value], expected: &[(&str, String)]) {
    assert!(calls.iter().all(|call| call["verified"] == true), "{calls:?}");
    let made: Vec<(&str, String)> =
        calls.iter().map(|call| (text(&call["method"]), text(&call["path"]).to_owned())).collect();
    assert_eq!(made, expected);
}

#[tokio::test]
async fn a_prepay_verifies_and_its_parameters_open_the_payment_sheet() {
    let wechat = ForeignWechat::start().await;
    let shop = shop_at(&wechat).await;
    let (shopper, order) = ordered(&shop).await;
    let parameters = shopper.prepay(&order).await;

    let calls = wechat.calls("/v3/").await;
    all_verified(&calls, &[("POST", "/v3/pay/transactions/jsapi".into())]);
    let asked: Value = serde_json::from_str(text(&calls[0]["body"])).unwrap();
    assert_eq!(asked["out_trade_no"], order["order_no"]);
    assert_eq!(text(&asked["description"]), "笑姐家农产品", "more than ASCII was signed");

    // wx.requestPayment: the lines that WeChat's app verifies with the merchant's key.
    assert_eq!(parameters["signType"], "RSA");
    let lines = [
        text(&asked["appid"]),
        text(&parameters["timeStamp"]),
        text(&parameters["nonceStr"]),
        text(&parameters["package"]),
    ];
    assert!(wechat.verifies(&lines, text(&parameters["paySign"])).await, "{parameters}");
    for changed in 0..lines.len() {
        let mut others = lines;
        let other = format!("{}0", others[changed]);
        others[changed] = &other;
        assert!(!wechat.verifies(&others, text(&parameters["paySign"])).await, "line {changed}");
    }
}

#[tokio::test]
async fn a_cancelled_order_is_asked_about_and_closed() {
    let wechat = ForeignWechat::start().await;
    let shop = shop_at(&wechat).await;
    let (shopper, order) = ordered(&shop).await;
    shopper.prepay(&order).await;
    let path = format!("/api/orders/{}/cancel", order["order_id"]);
    shopper.api.post(&path, &json!({})).await.data();

    let number = text(&order["order_no"]);
    let mchid = shop.setting_of("FARMGATE_PAY__MCHID");
    all_verified(
        &wechat.calls("/v3/pay/transactions/out-trade-no/").await,
        &[
            ("GET", format!("/v3/pay/transactions/out-trade-no/{number}?mchid={mchid}")),
            // Its answer has no body: an empty one is signed too.
            ("POST", format!("/v3/pay/transactions/out-trade-no/{number}/close")),
        ],
    );
    assert_eq!(shopper.see(&order).await["status"], 4);
}

#[tokio::test]
async fn a_query_that_says_paid_is_believed_only_when_wechat_signed_it() {
    let wechat = ForeignWechat::start().await;
    let shop = shop_at(&wechat).await;
    let (shopper, order) = ordered(&shop).await;
    shopper.prepay(&order).await;
    wechat.control("pay", &json!({"out_trade_no": order["order_no"]})).await;
    let path = format!("/api/orders/{}/cancel", order["order_id"]);

    wechat.control("stranger-signs", &json!({"signs": true})).await;
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::WechatUnavailable);
    assert_eq!(shopper.see(&order).await["status"], 0, "a stranger said that it is paid");

    wechat.control("stranger-signs", &json!({"signs": false})).await;
    shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
    assert_eq!(shopper.see(&order).await["status"], 1);
}

#[tokio::test]
async fn a_refund_is_asked_for_and_asked_about() {
    let wechat = ForeignWechat::start().await;
    let shop = plan_at(&wechat).worker().hasty_refunds().start().await;
    let (shopper, order) = ordered(&shop).await;
    shopper.prepay(&order).await;
    let transaction = wechat.control("pay", &json!({"out_trade_no": order["order_no"]})).await;
    let paid = wechat.notification("TRANSACTION.SUCCESS", "transaction", &transaction).await;
    assert_eq!(shop.api.send(paid).await.status, 200);
    shop.refund_all(&order).await;

    let asked = eventually(LONG, "WeChat is asked about the refund that it has", async || {
        let calls = wechat.calls("/v3/refund/").await;
        calls.iter().any(|call| call["method"] == "GET").then_some(calls)
    })
    .await;
    assert!(asked.iter().all(|call| call["verified"] == true), "{asked:?}");
    let request: Value = serde_json::from_str(text(&asked[0]["body"])).unwrap();
    assert_eq!(request["amount"]["refund"], transaction["amount"]["total"]);
    let number = text(&request["out_refund_no"]);
    // The question finds it paid back, or the notification does.
    let refund = wechat.control("pay-back", &json!({"out_refund_no": number})).await;
    let mut notice =
        json!({"mchid": transaction["mchid"], "refund_status": "SUCCESS", "amount": refund["amount"]});
    for field in [
        "out_trade_no",
        "transaction_id",
        "out_refund_no",
        "refund_id",
        "success_time",
        "user_received_account",
    ] {
        notice[field] = refund[field].clone();
    }
    let mut told = wechat.notification("REFUND.SUCCESS", "refund", &notice).await;
    told.path = "/api/payments/wechat/refund-notify".to_owned();
    let mut other = told.clone();
    other.body[200] ^= 1;
    assert_eq!(shop.api.send(other).await.status, 401);
    let reply = shop.api.send(told).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (200, Some("SUCCESS")), "{}", reply.text());
    shop.refunds_become(&order, &[2]).await;
    assert_eq!(shopper.see(&order).await["status"], 6);
}

#[tokio::test]
async fn what_another_key_signed_is_refused() {
    // The judge itself: with a key that is not the merchant's, nothing verifies.
    let wechat = ForeignWechat::start().await;
    let stranger = farmgate_tests::wechat_keys().join("stranger_key.pem");
    let plan = plan_at(&wechat).setting("FARMGATE_PAY__MERCHANT_PRIVATE_KEY_FILE", stranger.display());
    let shop = plan.start().await;
    let (shopper, order) = ordered(&shop).await;
    let path = format!("/api/orders/{}/pay", order["order_id"]);
    let reply = shopper.api.post(&path, &json!({})).await;
    assert!(reply.status >= 500, "{}", reply.text());
    let calls = wechat.calls("/v3/").await;
    assert!(!calls.is_empty() && calls.iter().all(|call| call["verified"] == false), "{calls:?}");
}
