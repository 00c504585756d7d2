//! WeChat's notifications: what is kept of them, what is decided, and what a crash or a slow database makes of one.

use std::time::{Duration, Instant};

use farmgate_tests::{Call, LONG, Seen, Shop, ShopPlan, Shopper, Value, eventually, json, number, status};
use reqwest::Method;

const NOTIFY: &str = "/api/payments/wechat/notify";

/// A shopper with an order whose payment is prepared.
async fn prepaid(shop: &Shop) -> (Shopper, Value) {
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    shopper.prepay(&order).await;
    (shopper, order)
}

/// What was decided, attempt by attempt: the attempt's row, the word and the reason.
async fn decisions(shop: &Shop) -> Vec<(i64, String, Option<String>)> {
    sqlx::query_as("SELECT notification, decision, reason FROM wechat_notification_decisions ORDER BY id")
        .fetch_all(&shop.db)
        .await
        .unwrap()
}

async fn words(shop: &Shop) -> Vec<String> {
    decisions(shop).await.into_iter().map(|(_, word, _)| word).collect()
}

/// Waits until an attempt is taken; some before it may have been postponed.
async fn one_is_taken(shop: &Shop) {
    eventually(LONG, "an attempt is taken", async || {
        words(shop).await.iter().any(|word| word == "taken" || word == "repeated").then_some(())
    })
    .await;
}

async fn kept(shop: &Shop) -> i64 {
    shop.count("SELECT COUNT(*) FROM wechat_notifications").await
}

/// The same bytes with the same headers, once more.
async fn send_again(shop: &Shop, seen: &Seen, path: &str) -> u16 {
    let mut call = Call { body: seen.body.to_vec(), ..Call::new(Method::POST, path) };
    for name in ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"] {
        call = call.header(name, seen.header(name));
    }
    shop.api.send(call).await.status
}

#[tokio::test]
async fn what_wechat_signed_is_kept_to_the_byte() {
    let shop = Shop::start().await;
    let (_, order) = prepaid(&shop).await;
    shop.wechat.pay(number(&order)).await;
    let (event_type, serial, timestamp, nonce, signature, body): (
        String,
        String,
        String,
        String,
        String,
        Vec<u8>,
    ) = sqlx::query_as(
        "SELECT event_type, signature_serial, signature_timestamp, signature_nonce, signature, body
             FROM wechat_notifications",
    )
    .fetch_one(&shop.db)
    .await
    .unwrap();
    let seen = &shop.door().seen(NOTIFY)[0];
    assert_eq!(event_type, "TRANSACTION.SUCCESS");
    assert_eq!(body, seen.body, "the bytes that the signature is over");
    let headers = [("timestamp", timestamp), ("nonce", nonce), ("serial", serial), ("signature", signature)];
    for (name, stored) in headers {
        assert_eq!(stored, seen.header(&format!("wechatpay-{name}")), "{name}");
    }
    let told: Value = serde_json::from_slice(&body).unwrap();
    let id: String = sqlx::query_scalar("SELECT notification_id FROM wechat_notifications")
        .fetch_one(&shop.db)
        .await
        .unwrap();
    assert_eq!(json!(id), told["id"]);
    assert_eq!(words(&shop).await, ["taken"]);
}

#[tokio::test]
async fn each_attempt_is_kept_and_only_the_first_is_news() {
    let shop = Shop::start().await;
    let (shopper, order) = prepaid(&shop).await;
    shop.wechat.pay(number(&order)).await;
    shop.wechat.notify(number(&order), &[]).await;
    assert_eq!(kept(&shop).await, 2);
    assert_eq!(words(&shop).await, ["taken", "repeated"]);
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn an_attempt_that_somebody_saw_and_sends_again_fills_no_disk() {
    let shop = Shop::start().await;
    let (_, order) = prepaid(&shop).await;
    shop.wechat.pay(number(&order)).await;
    let seen = shop.door().seen(NOTIFY)[0].clone();
    for _ in 0..5 {
        assert_eq!(send_again(&shop, &seen, NOTIFY).await, 200);
    }
    assert_eq!(kept(&shop).await, 1);
    assert_eq!(words(&shop).await, ["taken", "repeated"], "noted once");
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}

#[tokio::test]
async fn a_payment_told_at_the_refunds_address_is_taken_too() {
    let shop = Shop::start().await;
    let (shopper, order) = prepaid(&shop).await;
    shop.door().set(farmgate_tests::Line::Down);
    shop.wechat.pay(number(&order)).await;
    let seen = shop.door().seen(NOTIFY)[0].clone();
    assert_eq!(status(&shopper, &order).await, 0);
    assert_eq!(send_again(&shop, &seen, "/api/payments/wechat/refund-notify").await, 200);
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn what_wechat_did_not_sign_is_not_kept() {
    let mut shop = Shop::start().await;
    let (shopper, order) = prepaid(&shop).await;
    for fault in ["forged_signature", "signtest", "stale_timestamp"] {
        let answer = shop.wechat.notify(number(&order), &[fault]).await;
        assert_eq!(
            (&answer["notify_status"], &answer["notify_body"]["code"]),
            (&json!(401), &json!("FAIL")),
            "{fault}"
        );
    }
    for path in [NOTIFY, "/api/payments/wechat/refund-notify"] {
        let reply = shop.api.send(Call::new(Method::POST, path).raw("application/json", "{}")).await;
        assert_eq!((reply.status, &reply.json()["code"]), (401, &json!("FAIL")), "{path}");
    }
    assert_eq!((kept(&shop).await, status(&shopper, &order).await), (0, 0));
    let log = shop.origin().log();
    assert!(log.contains("the signature does not fit"), "the log says why");
    // Ten minutes old, or our clock is ten minutes ahead: one of the two, and the log says so.
    let told = log.lines().find(|line| line.contains("our clock is")).unwrap_or_default();
    assert!(told.contains("seconds ahead of WeChat's, or this was signed"), "{told}");
}

#[tokio::test]
async fn what_is_refused_is_kept_with_the_reason() {
    let shop = Shop::start().await;
    let (shopper, order) = prepaid(&shop).await;
    let cases = [
        ("wrong_amount", 400, "amount.total"),
        ("wrong_currency", 400, "amount.currency"),
        ("wrong_mchid", 400, "mchid"),
        ("wrong_appid", 400, "appid"),
        ("wrong_payer", 400, "payer.openid"),
        ("unknown_order", 404, "no such order"),
    ];
    for (fault, code, reason) in cases {
        let answer = shop.wechat.notify(number(&order), &[fault]).await;
        assert_eq!(answer["notify_status"], code, "{fault}: {answer}");
        let (_, word, why) = decisions(&shop).await.pop().unwrap();
        assert_eq!(word, "refused", "{fault}");
        assert!(why.as_deref().unwrap_or_default().starts_with(reason), "{fault}: {why:?}");
    }
    assert_eq!(kept(&shop).await, 6);
    assert_eq!(status(&shopper, &order).await, 0);
}

#[tokio::test]
async fn what_cannot_be_recorded_in_time_is_a_503_and_comes_again() {
    let shop = ShopPlan::new().setting("FARMGATE_PAY__NOTIFICATION_WITHIN_MS", 2500).start().await;
    let (shopper, order) = prepaid(&shop).await;
    shop.wechat.misbehave(json!({"retry_scale": 0.02})).await;
    let mut lock = shop.db.begin().await.unwrap();
    sqlx::query("SELECT id FROM payments FOR UPDATE").fetch_all(&mut *lock).await.unwrap();
    shop.wechat.pay(number(&order)).await;
    // A busy machine may be late once.
    eventually(LONG, "a 503 before WeChat hangs up, which is after 5 s", async || {
        let begun = Instant::now();
        let told = shop.wechat.notify(number(&order), &[]).await;
        (told["notify_status"] == 503 && begun.elapsed() < Duration::from_millis(4500)).then_some(())
    })
    .await;
    let so_far = words(&shop).await;
    assert!(!so_far.is_empty() && so_far.iter().all(|word| word == "postponed"), "{so_far:?}");
    lock.rollback().await.unwrap();
    one_is_taken(&shop).await;
    assert_eq!(status(&shopper, &order).await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}

/// An origin that dies at `point` with a notification in hand, and the one after it.
async fn dies_with_a_notification(point: &str) -> (Shop, Value) {
    let mut shop = ShopPlan::new().origin_dies_at(Some(point)).start().await;
    let (_, order) = prepaid(&shop).await;
    shop.wechat.misbehave(json!({"retry_scale": 0.02})).await;
    let paid = shop.wechat.pay(number(&order)).await;
    assert_ne!(paid["notify_status"], 200, "{paid}");
    shop.origin().died_at(point).await;
    assert!(words(&shop).await.is_empty(), "nothing was decided");
    assert_eq!(kept(&shop).await, 1);
    (shop, order)
}

#[tokio::test]
async fn an_origin_that_dies_with_a_notification_in_hand_takes_the_next_attempt() {
    let (mut shop, order) = dies_with_a_notification("notification_kept").await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM payments WHERE status = 1").await, 0);
    shop.restart_origin().await;
    let shopper = shop.shopper("小王").await;
    eventually(LONG, "the next attempt pays", async || (status(&shopper, &order).await == 1).then_some(()))
        .await;
    one_is_taken(&shop).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}

#[tokio::test]
async fn an_origin_that_dies_before_it_answers_has_the_payment_and_pays_once() {
    let (mut shop, order) = dies_with_a_notification("notification_done").await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM payments WHERE status = 1").await, 1);
    shop.restart_origin().await;
    let shopper = shop.shopper("小王").await;
    assert_eq!(status(&shopper, &order).await, 1);
    one_is_taken(&shop).await;
    assert!(!words(&shop).await.contains(&"taken".to_owned()), "it is no news");
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}
