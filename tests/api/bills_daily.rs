//! The worker's part of the daily reconciliation: the last days' bills by themselves, once each, and numbers about it.

use std::collections::HashSet;

use farmgate_tests::{Caller, LONG, Shop, ShopPlan, Value, eventually, json};
use sqlx::Connection as _;

use crate::bills::{day, one, open, paid_here_at, reconcile, sold};

/// A shop that looks back so many days and is in a hurry to ask again, without a worker yet.
async fn shop(days: u32) -> Shop {
    shop_that_asks_again_after(1, days).await
}

async fn shop_that_asks_again_after(seconds: u32, days: u32) -> Shop {
    ShopPlan::new()
        .setting("FARMGATE_BILLS__LOOK_BACK_DAYS", days)
        .setting("FARMGATE_BILLS__RETRY_SECONDS", seconds)
        .start()
        .await
}

async fn compared(shop: &Shop) -> i64 {
    shop.count("SELECT COUNT(*) FROM bill_days WHERE status = 1").await
}

/// Waits until so many days are compared. At ten in the morning one more can be had.
async fn all_compared(shop: &Shop, days: i64) {
    eventually(LONG, "every day is compared", async || (compared(shop).await >= days).then_some(())).await;
}

#[tokio::test]
async fn two_workers_fetch_each_missing_day_once() {
    // Neither takes the other for dead.
    let mut shop = shop_that_asks_again_after(60, 4).await;
    sold(&shop, 2, "12:00:00").await;
    assert!(shop.reconcile(&["--bill", &day(3)]).await.0, "one day was had before");
    shop.start_worker().await;
    shop.another_worker().await;
    // Before ten in the morning the newest day is the day before yesterday.
    all_compared(&shop, 4).await;
    let calls = shop.wechat.calls("/v3/bill/tradebill").await;
    let days: HashSet<&str> = calls.iter().filter_map(|call| call["path"].as_str()).collect();
    assert!(calls.len() >= 4 && days.len() == calls.len(), "{calls:?}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM bill_differences").await, 0);
}

#[tokio::test]
async fn a_bill_that_is_late_is_asked_for_again() {
    let mut shop = shop(1).await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "being_written"}]})).await;
    shop.start_worker().await;
    eventually(LONG, "the reason is on record", async || {
        let reason: Option<Option<String>> =
            sqlx::query_scalar("SELECT last_error FROM bill_days").fetch_optional(&shop.db).await.unwrap();
        reason.flatten().filter(|reason| reason.contains("still writing"))
    })
    .await;
    shop.wechat.behave().await;
    all_compared(&shop, 1).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM bill_days WHERE last_error IS NOT NULL").await, 0);
}

#[tokio::test]
async fn a_day_that_wechat_first_has_no_bill_of_is_asked_for_again_and_differs_until_then() {
    let mut shop = shop(1).await;
    // The newest day is one of these, by the hour.
    for back in [1, 2] {
        sold(&shop, back, "12:00:00").await;
    }
    let none =
        json!({"fault": "refuse", "status": 400, "code": "NO_STATEMENT_EXIST", "path": "/v3/bill/tradebill"});
    shop.wechat.misbehave(json!({"api": [none]})).await;
    shop.start_worker().await;
    let asked = async || shop.wechat.calls("/v3/bill/tradebill").await.len();
    eventually(LONG, "it is asked for again", async || (asked().await >= 3).then_some(())).await;
    let open = "SELECT COUNT(*) FROM bill_differences WHERE kind = 'missing_there' AND settled_at IS NULL";
    assert_eq!(shop.count(open).await, 1, "our payment is in no bill");
    let (_, said) = shop.command(&["bills", "status"]).await;
    assert!(said.contains("WeChat had no bill") && said.contains("1 open"), "{said}");
    shop.wechat.behave().await;
    eventually(LONG, "the bill is had", async || {
        (shop.count("SELECT COUNT(*) FROM bill_days WHERE hash IS NOT NULL").await == 1).then_some(())
    })
    .await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM bill_differences").await, 0);
    assert_eq!(
        shop.count("SELECT COUNT(*) FROM bill_days WHERE due_at IS NOT NULL").await,
        0,
        "and is final"
    );
}

#[tokio::test]
async fn a_day_without_a_bill_and_without_trades_is_asked_for_once_a_day() {
    let mut shop = shop(1).await;
    shop.start_worker().await;
    all_compared(&shop, 1).await;
    let hours = "SELECT TIMESTAMPDIFF(HOUR, checked_at, due_at) FROM bill_days";
    assert_eq!(shop.count(hours).await, 24);
    shop.script("UPDATE bill_days SET due_at = due_at - INTERVAL 1 DAY").await;
    eventually(LONG, "the next day it is asked for again", async || {
        (shop.wechat.calls("/v3/bill/tradebill").await.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_dies_over_a_bill_leaves_it_to_the_next() {
    let mut shop = shop(1).await;
    shop.wechat.hold(&["/v3/bill/"]).await;
    shop.start_worker().await;
    shop.wechat.holds(1).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM bill_days").await, 1, "the day is taken");
    shop.worker().kill();
    shop.wechat.behave().await;
    assert_eq!(compared(&shop).await, 0);
    shop.start_worker().await;
    all_compared(&shop, 1).await;
}

#[tokio::test]
async fn the_worker_shows_how_the_bills_stand() {
    let mut shop = shop(3).await;
    let number = sold(&shop, 2, "12:00:00").await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "dropped_line", "number": number}]})).await;
    shop.start_worker().await;
    all_compared(&shop, 3).await;
    let log = shop.worker().log();
    let address = log.lines().find(|line| line.contains("metrics are served")).unwrap();
    let address = address.split("address=").nth(1).unwrap().trim();
    let metrics = Caller::phone(&format!("http://{address}"));
    let page = eventually(LONG, "the gauges are there", async || {
        let page = metrics.get("/metrics").await;
        assert_eq!(page.status, 200);
        // The two are set one after the other.
        Some(page.text()).filter(|text| {
            text.contains("\nfarmgate_bill_differences_open 1\n")
                && text.contains("\nfarmgate_bill_last_compared_timestamp_seconds ")
        })
    })
    .await;
    assert!(page.contains("# HELP farmgate_bill_differences_open "), "{page}");
    let stamp =
        page.lines().find_map(|line| line.strip_prefix("farmgate_bill_last_compared_timestamp_seconds "));
    let age = farmgate_tests::unix_now() as f64 - stamp.unwrap().parse::<f64>().unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
    assert_eq!(metrics.get("/api/products").await.status, 404, "nothing but the metrics");
}

#[tokio::test]
async fn without_a_setting_nothing_is_fetched_and_nothing_listens() {
    let mut shop = ShopPlan::new()
        .setting("FARMGATE_BILLS__LOOK_BACK_DAYS", 0)
        .setting("FARMGATE_METRICS__LISTEN", "")
        .worker()
        .start()
        .await;
    sold(&shop, 2, "12:00:00").await;
    // Some rounds of the worker's other jobs go by.
    let product_sales = "SELECT COUNT(*) FROM product_sales";
    eventually(LONG, "the worker works", async || (shop.count(product_sales).await > 0).then_some(())).await;
    assert_eq!(shop.wechat.calls("/v3/bill").await, Vec::<Value>::new());
    assert!(!shop.worker().log().contains("metrics are served"));
}

#[tokio::test]
async fn neighbouring_days_that_are_compared_at_once_see_each_others_lines() {
    let shop = Shop::start().await;
    // One trade that the later bill has though our books have it on the evening before, and one that no bill has.
    let (kept, lost) = (sold(&shop, 2, "00:00:01").await, sold(&shop, 3, "23:59:58").await);
    paid_here_at(&shop, &kept, 3, "23:59:59").await;
    sold(&shop, 3, "12:00:00").await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "dropped_line", "number": lost}]})).await;
    let (earlier, later) = (day(3), day(2));
    for day in [&earlier, &later] {
        reconcile(&shop, day).await;
    }
    shop.script("DELETE FROM bill_differences; UPDATE bill_days SET status = 0").await;
    // Neither day was had, and each has lines to replace: here both meet.
    let mut busy = shop.db.acquire().await.unwrap();
    let mut lines = busy.begin().await.unwrap();
    sqlx::query("SELECT line FROM bill_lines FOR UPDATE").fetch_all(&mut *lines).await.unwrap();
    let meet = async {
        eventually(LONG, "one is in the middle of it and the other as far as it may go", async || {
            let waiting = shop.count_connections(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() \
                 AND id <> CONNECTION_ID() AND (info LIKE 'DELETE FROM bill_lines%' OR info LIKE '%bill_days%')",
            );
            (waiting.await == Some(2)).then_some(())
        })
        .await;
        lines.commit().await.unwrap();
    };
    tokio::join!(reconcile(&shop, &earlier), reconcile(&shop, &later), meet);
    assert_eq!(open(&shop, &later).await, []);
    assert_eq!(open(&shop, &earlier).await, one("missing_there", &lost));
}
