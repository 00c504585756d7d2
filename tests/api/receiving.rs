//! `POST /api/orders/{id}/confirm`, and orders that nobody confirms.

use farmgate_tests::{LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json};

/// The order left the farm so many seconds ago.
async fn ship(shop: &Shop, order: &Value, seconds_ago: &'static str) {
    shop.ship(order, &["--pick-up"]).await;
    shop.script(&format!(
        "UPDATE orders SET shipped_at = shipped_at - INTERVAL {seconds_ago} SECOND WHERE id = {}",
        order["order_id"]
    ))
    .await;
}

async fn bought(shop: &Shop, shopper: &Shopper) -> (Value, String) {
    let (product, ..) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 1).await;
    let path = format!("/api/orders/{}/confirm", order["order_id"]);
    (order, path)
}

#[tokio::test]
async fn a_shopper_confirms_what_arrived_and_a_second_click_changes_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (order, path) = bought(&shop, &shopper).await;
    ship(&shop, &order, "5").await;
    let shown = shopper.see(&order).await;
    assert!(shown["shipped_at"].is_string() && shown["completed_at"].is_null(), "{shown}");

    let first = shopper.api.post(&path, &json!({})).await.data();
    assert_eq!((&first["status"], &first["status_text"]), (&json!(3), &json!("已完成")));
    assert!(first["completed_at"].is_string(), "{first}");
    let second = shopper.api.post(&path, &json!({})).await.data();
    assert_eq!(second, first);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_completed'").await, 1);
}

#[tokio::test]
async fn ten_clicks_at_once_complete_once() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (order, path) = bought(&shop, &shopper).await;
    ship(&shop, &order, "5").await;
    let mut clicks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (api, path) = (shopper.api.clone(), path.clone());
        clicks.spawn(async move { api.post(&path, &json!({})).await.data()["status"].clone() });
    }
    assert_eq!(clicks.join_all().await, vec![json!(3); 10]);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_completed'").await, 1);
}

#[tokio::test]
async fn what_was_not_shipped_cannot_be_confirmed() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let unpaid = shopper.order(product, 1).await;
    let (paid, paid_path) = bought(&shop, &shopper).await;
    let cancelled = shopper.order(product, 2).await;
    shopper.api.post(&format!("/api/orders/{}/cancel", cancelled["order_id"]), &json!({})).await.data();
    for (order, status) in [(&unpaid, 0), (&paid, 1), (&cancelled, 4)] {
        let path = format!("/api/orders/{}/confirm", order["order_id"]);
        shopper.api.post(&path, &json!({})).await.fails_with(Problem::OrderStateConflict);
        assert_eq!(shopper.see(order).await["status"], status);
    }
    // Neither while its refund is under way, nor afterwards.
    for status in ["5", "6"] {
        let set = format!("UPDATE orders SET status = {status} WHERE id = {}", paid["order_id"]);
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&shop.db).await.unwrap();
        shopper.api.post(&paid_path, &json!({})).await.fails_with(Problem::OrderStateConflict);
    }
    shop.change("UPDATE orders SET status = 1 WHERE status = ", 6).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_completed'").await, 0);
}

#[tokio::test]
async fn nobody_confirms_another_shoppers_order() {
    let shop = Shop::start().await;
    let (owner, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (order, path) = bought(&shop, &owner).await;
    ship(&shop, &order, "5").await;
    stranger.api.post(&path, &json!({})).await.fails_with(Problem::OrderNotFound);
    owner.api.post("/api/orders/999999999/confirm", &json!({})).await.fails_with(Problem::OrderNotFound);
    assert_eq!(owner.see(&order).await["status"], 2);
}

#[tokio::test]
async fn a_shipped_order_that_nobody_confirms_completes_by_itself() {
    let shop =
        ShopPlan::new().setting("FARMGATE_ORDERS__COMPLETE_AFTER_SECONDS", 3600).worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (recent, _) = bought(&shop, &shopper).await;
    let (product, ..) = shop.first_product().await;
    let old = shopper.buy(&shop.wechat, product, 2).await;
    let waiting = shopper.buy(&shop.wechat, product, 3).await;
    ship(&shop, &recent, "3000").await;
    ship(&shop, &old, "3601").await;
    eventually(LONG, "the old one completes", async || {
        (shopper.see(&old).await["status"] == 3).then_some(())
    })
    .await;
    assert!(shopper.see(&old).await["completed_at"].is_string());
    assert_eq!(shopper.see(&recent).await["status"], 2);
    assert_eq!(shopper.see(&waiting).await["status"], 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_completed'").await, 1);
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}
