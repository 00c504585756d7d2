//! What WeChat is told of shipments, under kills and while it is away: every shipment reaches it, and in the ordinary case it
//! is told once.

use std::collections::HashSet;

use farmgate_tests::{LONG, Shop, ShopPlan, Value, bought, eventually, json, number};

const UPLOAD: &str = "/wxa/sec/order/upload_shipping_info";
const BY_SF: [&str; 4] = ["--express", "SF", "--tracking", "SF1234567890"];

/// What takes minutes at a shop takes moments here; an event may still fail often, and a call takes its time.
fn hasty() -> ShopPlan {
    ShopPlan::new()
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
        .setting("FARMGATE_OUTBOX__LONGEST_RETRY_MS", 300)
        .setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000)
        .setting("FARMGATE_OUTBOX__AWAY_RETRY_MS", 200)
        .setting("FARMGATE_SHIPPING__UNKNOWN_RETRY_MS", 200)
        .setting("FARMGATE_WECHAT__TIMEOUT_MS", 20_000)
}

/// The same; a call whose worker died is made again after moments.
fn impatient() -> ShopPlan {
    hasty().setting("FARMGATE_OUTBOX__CALL_LEASE_MS", 24_000).setting("FARMGATE_WECHAT__TIMEOUT_MS", 8000)
}

/// How often WeChat was told of a shipment.
async fn told(shop: &Shop) -> usize {
    shop.wechat.calls(UPLOAD).await.len()
}

async fn nothing_is_left(shop: &Shop) {
    eventually(LONG, "everything is delivered", async || {
        let waiting = shop.count("SELECT COUNT(*) FROM outbox_deliveries").await
            + shop.redis_number(&["XLEN", ":events:shipping_upload"]).await;
        (waiting == 0).then_some(())
    })
    .await;
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn every_kind_of_shipment_reaches_wechat() {
    let shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let orders = [
        (bought(&shop, &shopper).await, &BY_SF[..], 1),
        (bought(&shop, &shopper).await, &["--express", "ZTO", "--tracking", "78001"], 1),
        (bought(&shop, &shopper).await, &["--city", "张师傅", "--phone", "13900001111"], 2),
        (bought(&shop, &shopper).await, &["--pick-up"], 4),
    ];
    for (order, by, _) in &orders {
        shop.ship(order, by).await;
    }
    shop.all_is_uploaded().await;
    for (order, _, logistics) in &orders {
        let (rounds, said) = shop.wechat.shipment(order).await;
        assert_eq!((rounds, &said[0], &said[1]), (1, &json!(logistics), &json!(false)), "{said}");
    }
    let parcel = shop.wechat.shipment(&orders[0].0).await.1[2][0].clone();
    let contact = json!({"receiver_contact": "138****0000"});
    assert_eq!((&parcel["express_company"], &parcel["tracking_no"]), (&json!("SF"), &json!("SF1234567890")));
    assert_eq!(parcel["contact"], contact);
    assert!(parcel["item_desc"].as_str().unwrap().ends_with("×2"), "{parcel}");
    let (_, said) = shop.command(&["order", "list", "--not-uploaded"]).await;
    assert_eq!(said, "WeChat knows of all shipments\n");
    nothing_is_left(&shop).await;
    assert_eq!(told(&shop).await, 4);
}

#[tokio::test]
async fn a_number_that_was_put_right_reaches_wechat_too() {
    let shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.ship(&order, &BY_SF).await;
    shop.all_is_uploaded().await;
    shop.ship(&order, &["--express", "ZTO", "--tracking", "78001"]).await;
    shop.all_is_uploaded().await;
    let (rounds, said) = shop.wechat.shipment(&order).await;
    assert_eq!((rounds, &said[2][0]["tracking_no"]), (2, &json!("78001")));
    nothing_is_left(&shop).await;
}

/// Put right while WeChat could not be told: it hears of the right number alone, and its one change is not spent.
#[tokio::test]
async fn an_hour_without_wechat_loses_nothing() {
    let shop = hasty().setting("FARMGATE_OUTBOX__ATTEMPTS", 2).worker().start().await;
    let shopper = shop.shopper("小王").await;
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(bought(&shop, &shopper).await);
    }
    // At first not even a token is to be had; then WeChat's gate answers, and what is behind it does not.
    let away = json!({"fault": "drop", "path": "/cgi-bin/stable_token", "times": 3});
    let busy = json!({"fault": "status", "status": 502, "code": "", "path": UPLOAD});
    shop.wechat.misbehave(json!({"api": [away, busy]})).await;
    for order in &orders {
        shop.ship(order, &BY_SF).await;
    }
    shop.ship(&orders[0], &["--express", "ZTO", "--tracking", "78001"]).await;
    eventually(LONG, "each was tried more often than an event may fail", async || {
        let calls = shop.wechat.calls(UPLOAD).await;
        let tried = |payment: &Value| {
            calls.iter().filter(|call| call["body"]["order_key"]["transaction_id"] == *payment).count()
        };
        let payments: HashSet<&Value> =
            calls.iter().map(|call| &call["body"]["order_key"]["transaction_id"]).collect();
        // The one that was put right has two events.
        let enough = payments.len() == orders.len() && calls.len() >= 5 * 3;
        (enough && payments.into_iter().all(|payment| tried(payment) >= 3)).then_some(())
    })
    .await;
    assert!(
        shop.wechat.calls("/cgi-bin/stable_token").await.len() > 3,
        "a token was asked for again and again"
    );
    eventually(LONG, "each of its events has heard so", async || {
        let (_, said) = shop.command(&["outbox", "status"]).await;
        said.contains("5 wait for somebody who is away").then_some(())
    })
    .await;
    assert_eq!(shop.count("SELECT CAST(MAX(attempts) AS SIGNED) FROM outbox_deliveries").await, 0);
    // Nobody else waits behind them.
    let late = bought(&shop, &shopper).await;
    eventually(LONG, "the sale is counted", async || {
        (shop.count("SELECT CAST(SUM(orders) AS SIGNED) FROM product_sales").await == 5).then_some(())
    })
    .await;
    let (_, said) = shop.command(&["order", "list", "--not-uploaded"]).await;
    assert_eq!(said.matches("shipped").count(), 5, "{said}");

    shop.wechat.behave().await;
    shop.ship(&late, &["--pick-up"]).await;
    shop.all_is_uploaded().await;
    for order in orders.iter().chain([&late]) {
        assert_eq!(shop.wechat.shipment(order).await.0, 1);
    }
    assert_eq!(shop.wechat.shipment(&orders[0]).await.1[2][0]["tracking_no"], "78001");
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn a_payment_that_is_not_yet_known_there_is_told_again() {
    let shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    let unknown = json!({"api": [{"fault": "errcode", "errcode": 10_060_001, "path": UPLOAD, "times": 3}]});
    shop.wechat.misbehave(unknown).await;
    shop.ship(&order, &BY_SF).await;
    shop.all_is_uploaded().await;
    assert_eq!((shop.wechat.shipment(&order).await.0, told(&shop).await), (1, 4));
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn an_order_of_which_a_part_went_back_is_uploaded_like_any_other() {
    let shop = hasty().hasty_refunds().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    let part = ["refund", "start", number(&order), "--amount", "0.50", "--reason", "少了一个"];
    let (is_done, said) = shop.command(&part).await;
    assert!(is_done, "{said}");
    shop.refunds_become(&order, &[2]).await;
    shop.ship(&order, &BY_SF).await;
    shop.all_is_uploaded().await;
    assert_eq!((shop.wechat.shipment(&order).await.0, told(&shop).await), (1, 1));
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn a_lost_reply_tells_twice_and_is_one_shipment() {
    let shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.wechat.misbehave(json!({"api": [{"fault": "lost_reply", "path": UPLOAD, "times": 1}]})).await;
    shop.ship(&order, &BY_SF).await;
    shop.all_is_uploaded().await;
    assert_eq!((shop.wechat.shipment(&order).await.0, told(&shop).await), (1, 2));
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn what_wechat_refuses_is_a_dead_letter_that_says_why() {
    let mut shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    let refused = json!({"api": [{"fault": "errcode", "errcode": 48001, "path": UPLOAD}]});
    shop.wechat.misbehave(refused).await;
    shop.ship(&order, &BY_SF).await;
    eventually(LONG, "it is dead", async || {
        (shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NOT NULL").await == 1)
            .then_some(())
    })
    .await;
    let (_, said) = shop.command(&["outbox", "dead"]).await;
    for part in ["order_shipped", "shipping_upload", "1 attempts", "48001"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (_, said) = shop.command(&["order", "list", "--not-uploaded"]).await;
    assert!(said.contains(number(&order)) && said.contains("outbox dead"), "{said}");
    assert_eq!(told(&shop).await, 1, "asking again would not help");
    shop.worker().logs("a dead letter", 1).await;

    shop.wechat.behave().await;
    let (_, said) = shop.command(&["outbox", "replay", "--all"]).await;
    assert!(said.starts_with("1 "), "{said}");
    shop.all_is_uploaded().await;
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn two_workers_tell_wechat_once() {
    let mut shop = hasty().worker().start().await;
    shop.another_worker().await;
    let shopper = shop.shopper("小王").await;
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(bought(&shop, &shopper).await);
    }
    shop.wechat.hold(&[UPLOAD]).await;
    for order in &orders {
        shop.ship(order, &BY_SF).await;
    }
    shop.wechat.holds(6).await;
    // While each is under way it comes again and again, to both.
    for id in 1..=shop.count("SELECT MAX(id) FROM outbox").await {
        for _ in 0..3 {
            shop.redis_command(&["XADD", ":events:shipping_upload", "*", "event", &id.to_string()]).await;
        }
    }
    eventually(LONG, "all of it was read, and left to whoever is at it", async || {
        (shop.redis_number(&["XLEN", ":events:shipping_upload"]).await == 6).then_some(())
    })
    .await;
    shop.wechat.holds(6).await;
    shop.wechat.behave().await;
    shop.all_is_uploaded().await;
    nothing_is_left(&shop).await;
    assert_eq!(told(&shop).await, orders.len());
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other_consumer() {
    let shop = hasty().setting("FARMGATE_OUTBOX__CALLS", 1).worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.wechat.hold(&[UPLOAD]).await;
    shop.ship(&order, &BY_SF).await;
    shop.wechat.holds(1).await;
    eventually(LONG, "the timeline knows of it", async || {
        (shop.count("SELECT COUNT(*) FROM order_events WHERE kind = 'order_shipped'").await == 1)
            .then_some(())
    })
    .await;
    assert_eq!(shop.wechat.shipment(&order).await.0, 0, "and WeChat does not");
    shop.wechat.behave().await;
    shop.all_is_uploaded().await;
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn death_between_the_call_and_its_end_calls_again() {
    let mut shop = impatient().worker().worker_dies_at(Some("outbox_after_call")).start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.ship(&order, &BY_SF).await;
    shop.worker().died_at("outbox_after_call").await;
    assert_eq!(shop.wechat.shipment(&order).await.0, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments WHERE uploaded_at IS NULL").await, 1);
    shop.start_worker().await;
    shop.all_is_uploaded().await;
    assert_eq!((shop.wechat.shipment(&order).await.0, told(&shop).await), (1, 2));
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn workers_that_are_killed_all_the_time_tell_of_every_shipment() {
    let mut shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let mut orders = Vec::new();
    for round in 0..5_usize {
        for by in [&BY_SF[..], &["--pick-up"]] {
            let order = bought(&shop, &shopper).await;
            shop.ship(&order, by).await;
            orders.push(order);
        }
        eventually(LONG, "WeChat is told of something", async || (told(&shop).await > round).then_some(()))
            .await;
        shop.worker().kill();
        shop.start_worker().await;
    }
    shop.all_is_uploaded().await;
    for order in &orders {
        assert_eq!(shop.wechat.shipment(order).await.0, 1);
    }
    nothing_is_left(&shop).await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_its_call() {
    let mut shop = hasty().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.wechat.hold(&[UPLOAD]).await;
    shop.ship(&order, &BY_SF).await;
    shop.wechat.holds(1).await;
    shop.worker().tell_to_stop();
    shop.worker().logs("stopping", 1).await;
    shop.wechat.behave().await;
    assert!(shop.worker().ended().await.success());
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments WHERE uploaded_at IS NULL").await, 0);
    assert_eq!((shop.wechat.shipment(&order).await.0, told(&shop).await), (1, 1));
}

#[tokio::test]
async fn without_redis_wechat_is_told_later() {
    let shop = hasty().worker().redis_cable().start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.redis_cable().pull();
    shop.ship(&order, &BY_SF).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_shipped'").await, 1);
    shop.redis_cable().plug();
    shop.all_is_uploaded().await;
    nothing_is_left(&shop).await;
}
