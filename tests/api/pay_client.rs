//! The client of WeChat Pay: what it repeats, what it does not, and the backup host.

use farmgate_tests::{Line, Problem, Shop, ShopPlan, Tap, Value, json, ordered};

const PREPAY: &str = "/v3/pay/transactions/jsapi";

fn pay_path(order: &Value) -> String {
    format!("/api/orders/{}/pay", order["order_id"])
}

#[tokio::test]
async fn what_passes_by_itself_is_asked_again_to_the_byte() {
    let shop = Shop::start().await;
    for fault in [
        json!({"fault": "refuse", "status": 500, "code": "SYSTEM_ERROR", "times": 2}),
        json!({"fault": "status", "status": 500, "code": "SYSTEMERROR", "times": 2}),
        json!({"fault": "refuse", "status": 429, "code": "FREQUENCY_LIMITED", "times": 1}),
        json!({"fault": "status", "status": 502, "code": "", "times": 2}),
        json!({"fault": "drop", "times": 2}),
        json!({"fault": "lost_reply", "times": 2}),
    ] {
        let (shopper, order) = ordered(&shop).await;
        let before = shop.wechat.calls(PREPAY).await.len();
        shop.wechat.misbehave(json!({"api": [fault]})).await;
        let parameters = shopper.prepay(&order).await;
        let calls = &shop.wechat.calls(PREPAY).await[before..];
        let times = fault["times"].as_u64().unwrap();
        assert_eq!(calls.len() as u64, times + 1, "{fault}");
        assert!(calls.iter().all(|call| call["body"] == calls[0]["body"]), "{fault}");
        let number = order["order_no"].as_str().unwrap();
        let paid = shop.wechat.pay_with(number, &parameters).await;
        shop.wechat.is_heard(number, &paid).await;
    }
}

#[tokio::test]
async fn what_wechat_decided_and_what_is_not_believed_is_not_asked_again() {
    let shop = Shop::start().await;
    let (shopper, order) = ordered(&shop).await;
    for (fault, problem) in [
        (json!({"fault": "refuse", "status": 400, "code": "PARAM_ERROR", "times": 1}), Problem::Internal),
        (json!({"fault": "refuse", "status": 400, "code": "INVALID_REQUEST", "times": 1}), Problem::Internal),
        (
            json!({"fault": "refuse", "status": 400, "code": "APPID_MCHID_NOT_MATCH", "times": 1}),
            Problem::Internal,
        ),
        (json!({"fault": "status", "status": 401, "code": "SIGN_ERROR", "times": 1}), Problem::Internal),
        (json!({"fault": "refuse", "status": 403, "code": "NO_AUTH", "times": 1}), Problem::Internal),
        (
            json!({"fault": "refuse", "status": 403, "code": "OUT_TRADE_NO_USED", "times": 1}),
            Problem::WechatUnavailable,
        ),
        (
            json!({"fault": "refuse", "status": 400, "code": "ORDERPAID", "times": 1}),
            Problem::OrderStateConflict,
        ),
        (
            json!({"fault": "refuse", "status": 400, "code": "ORDER_CLOSED", "times": 1}),
            Problem::OrderStateConflict,
        ),
        // Without WeChat's signature the same words settle nothing.
        (
            json!({"fault": "status", "status": 400, "code": "ORDERPAID", "times": 1}),
            Problem::WechatUnavailable,
        ),
        (json!({"fault": "forged_signature", "times": 1}), Problem::WechatUnavailable),
    ] {
        let before = shop.wechat.calls(PREPAY).await.len();
        shop.wechat.misbehave(json!({"api": [fault]})).await;
        shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(problem);
        assert_eq!(shop.wechat.calls(PREPAY).await.len() - before, 1, "{fault}");
    }
    assert_eq!(shopper.see(&order).await["status"], 0);
    shopper.prepay(&order).await;
}

#[tokio::test]
async fn an_unsigned_word_closes_no_order() {
    let shop = Shop::start().await;
    let (shopper, order) = ordered(&shop).await;
    shopper.prepay(&order).await;
    let cancel = format!("/api/orders/{}/cancel", order["order_id"]);
    for code in ["ORDER_NOT_EXIST", "ORDER_CLOSED", "RESOURCE_NOT_EXISTS"] {
        shop.wechat
            .misbehave(json!({"api": [{"fault": "status", "status": 404, "code": code, "times": 1}]}))
            .await;
        shopper.api.post(&cancel, &json!({})).await.fails_with(Problem::WechatUnavailable);
        assert_eq!(shopper.see(&order).await["status"], 0, "{code}");
    }
    shopper.api.post(&cancel, &json!({})).await.data();
}

/// A shop that reaches WeChat through two lines.
async fn with_two_hosts() -> (Shop, Tap, Tap) {
    let (first, backup) = (Tap::open().await, Tap::open().await);
    let shop = ShopPlan::new()
        .setting("FARMGATE_PAY__BASE_URL", first.url())
        .setting("FARMGATE_PAY__BACKUP_BASE_URL", backup.url())
        .start()
        .await;
    first.lead_to(shop.wechat.url());
    backup.lead_to(shop.wechat.url());
    (shop, first, backup)
}

#[tokio::test]
async fn the_backup_host_is_asked_where_the_first_one_fails_and_it_is_remembered() {
    for failure in [Line::Down, Line::Failing(502), Line::Failing(504)] {
        let (shop, first, backup) = with_two_hosts().await;
        let (shopper, order) = ordered(&shop).await;
        shopper.prepay(&order).await;
        assert_eq!((first.seen(PREPAY).len(), backup.seen(PREPAY).len()), (1, 0), "{failure:?}");
        first.set(failure);
        for times in 1..=3 {
            let (shopper, order) = ordered(&shop).await;
            shopper.prepay(&order).await;
            let seen = (first.seen(PREPAY).len(), backup.seen(PREPAY).len());
            assert_eq!(seen, (2, times), "{failure:?}: the first host is left alone after it failed");
        }
    }
}

#[tokio::test]
async fn where_both_hosts_fail_it_is_a_503_and_either_brings_the_shop_back() {
    let (shop, first, backup) = with_two_hosts().await;
    let (shopper, order) = ordered(&shop).await;
    first.set(Line::Down);
    backup.set(Line::Down);
    shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(Problem::WechatUnavailable);
    let tries = first.seen(PREPAY).len() + backup.seen(PREPAY).len();
    assert_eq!(tries, 3, "a call ends");
    first.set(Line::Up);
    shopper.prepay(&order).await;
}
