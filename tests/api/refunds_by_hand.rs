//! Refunds that only a person can end, and the word of WeChat's that comes in between: what WeChat has is never paid a second
//! time by hand.

use farmgate_tests::{LONG, Shop, ShopPlan, Value, eventually, json};
use sqlx::{Connection as _, Row as _};

/// A refund that is stuck here, of which WeChat was not known to have heard, while it has: an answer was lost.
async fn stuck_while_wechat_has_it() -> (Shop, Value, String) {
    let shop = ShopPlan::new().hasty_refunds().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 2).await;
    shop.wechat.misbehave(json!({"refund": [{"fault": "hold", "times": 1}]})).await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[1]).await;
    // Under the lock of the order's books, as whoever writes of its refunds does.
    shop.script(
        "START TRANSACTION; SELECT id FROM payments FOR UPDATE; \
         UPDATE refunds SET status = 4, wechat_refund_id = NULL, due_at = NULL; COMMIT",
    )
    .await;
    let refund = format!("{}-all", order["order_no"].as_str().unwrap());
    (shop, order, refund)
}

async fn pay_by_hand(shop: &Shop, refund: &str) -> (bool, String) {
    shop.command(&["refund", "by-hand", refund, "--note", "现金，老板娘，周一"]).await
}

/// WeChat's own number of the one refund, and whether it is asked about.
async fn known(shop: &Shop) -> (Option<String>, bool) {
    let row = sqlx::query("SELECT wechat_refund_id, due_at IS NOT NULL FROM refunds")
        .fetch_one(&shop.db)
        .await
        .unwrap();
    (row.get(0), row.get::<i64, _>(1) != 0)
}

#[tokio::test]
async fn a_stuck_refund_that_wechat_turns_out_to_have_is_wechats_to_end() {
    let (shop, order, refund) = stuck_while_wechat_has_it().await;
    assert_eq!(known(&shop).await, (None, false));
    let told = shop.wechat.decide_refund(&refund, "ABNORMAL").await;
    assert_eq!(told["notify_status"], 200, "{told}");
    let (number, is_asked_about) = known(&shop).await;
    assert!(number.is_some() && is_asked_about, "{number:?}");
    let (is_done, said) = pay_by_hand(&shop, &refund).await;
    assert!(!is_done && said.contains("merchant console"), "{said}");
    // The same once more is no news.
    let again = shop.wechat.notify_refund(&refund, "ABNORMAL", &[]).await;
    assert_eq!(again["notify_status"], 200, "{again}");
    assert_eq!(known(&shop).await.0, number);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'refund_stuck'").await, 0);
    shop.wechat.decide_refund(&refund, "SUCCESS").await;
    shop.refunds_become(&order, &[2]).await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn what_is_learnt_of_wechat_while_an_operator_pays_by_hand_stops_the_operator() {
    let (shop, order, refund) = stuck_while_wechat_has_it().await;
    // The books of this order are busy: the operator has looked at the refund and waits for them.
    let mut busy = shop.db.acquire().await.unwrap();
    let mut books = busy.begin().await.unwrap();
    sqlx::query("SELECT id FROM payments FOR UPDATE").fetch_all(&mut *books).await.unwrap();
    let by_hand = pay_by_hand(&shop, &refund);
    let meanwhile = async {
        eventually(LONG, "the operator waits", async || {
            let waiting = shop.count_connections(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() \
                 AND id <> CONNECTION_ID() AND info LIKE '%FROM payments%FOR UPDATE%'",
            );
            waiting.await.filter(|waiting| *waiting > 0)
        })
        .await;
        sqlx::query("UPDATE refunds SET wechat_refund_id = '50300000001'")
            .execute(&mut *books)
            .await
            .unwrap();
        books.commit().await.unwrap();
    };
    let ((is_done, said), ()) = tokio::join!(by_hand, meanwhile);
    assert!(!is_done && said.contains("merchant console"), "{said}");
    shop.refunds_become(&order, &[4]).await;
}
