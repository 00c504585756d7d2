//! Refunds that WeChat takes its time over: asked for on one day, paid back on another, and in the bill of whichever day.
//! What one bill says of them may decide about a day that was compared long before.

use farmgate_tests::{Shop, ShopPlan, json};

use crate::bills::{day, one, open, reconcile, refunded, sold};

/// A refund that WeChat accepted seven days ago, which is where its line stands, and paid back, as our books have it, two days
/// ago. The bills of the days between agree.
async fn slow_refund() -> (Shop, String) {
    let shop = ShopPlan::new().worker().hasty_refunds().start().await;
    let number = sold(&shop, 40, "12:00:00").await;
    let refund = refunded(&shop, &number, 7).await;
    was_here(&shop, 7, 2).await;
    (shop, refund)
}

/// When our books say that it was asked for, and paid back.
async fn was_here(shop: &Shop, asked: i64, paid_back: i64) {
    sqlx::query("UPDATE refunds SET created_at = ? - INTERVAL 8 HOUR, refunded_at = ? - INTERVAL 8 HOUR")
        .bind(format!("{} 15:00:00", day(asked)))
        .bind(format!("{} 15:00:00", day(paid_back)))
        .execute(&shop.db)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bill_that_was_missing_decides_about_a_slow_refund_once_it_comes() {
    let (shop, refund) = slow_refund().await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "dropped_line", "number": refund}]})).await;
    for back in (2..=6).rev() {
        let (is_clean, said) = reconcile(&shop, &day(back)).await;
        assert!(is_clean, "the missing bill may have it: {said}");
    }
    let (is_clean, said) = reconcile(&shop, &day(7)).await;
    assert!(is_clean, "nothing is wrong with this day: {said}");
    assert_eq!(open(&shop, &day(2)).await, one("missing_there", &refund), "no bill has it");
    // WeChat writes the bill anew, with the line.
    shop.wechat.behave().await;
    assert!(reconcile(&shop, &day(7)).await.0);
    assert_eq!(open(&shop, &day(2)).await, []);
}

#[tokio::test]
async fn a_bill_that_loses_the_line_of_a_slow_refund_leaves_a_difference_where_it_was_paid_back() {
    let (shop, refund) = slow_refund().await;
    for back in (2..=7).rev() {
        assert!(reconcile(&shop, &day(back)).await.0);
    }
    shop.wechat.misbehave(json!({"bill": [{"fault": "dropped_line", "number": refund}]})).await;
    assert!(reconcile(&shop, &day(7)).await.0, "nothing is wrong with this day");
    assert_eq!(open(&shop, &day(2)).await, one("missing_there", &refund));
}

#[tokio::test]
async fn a_later_bill_ends_the_difference_of_the_day_on_which_a_refund_was_paid_back() {
    let shop = ShopPlan::new().worker().hasty_refunds().start().await;
    let number = sold(&shop, 40, "12:00:00").await;
    // WeChat's bill has it five days after our books.
    let refund = refunded(&shop, &number, 2).await;
    was_here(&shop, 7, 7).await;
    assert!(!reconcile(&shop, &day(7)).await.0);
    assert_eq!(open(&shop, &day(7)).await, one("missing_there", &refund));
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean, "{said}");
    assert_eq!(open(&shop, &day(7)).await, [], "a bill has it after all");
}
