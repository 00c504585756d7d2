//! The auditor sees what is wrong, and only that.

use farmgate_tests::{LONG, Shop, ShopPlan, eventually, json};

#[tokio::test]
async fn clean_books_are_called_clean() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let paid = shopper.order(product, 2).await;
    shopper.prepay(&paid).await;
    shop.wechat.pay(paid["order_no"].as_str().unwrap()).await;
    let overdue = shopper.order(product, 3).await;
    shop.let_time_run_out(&overdue).await;
    eventually(LONG, "the overdue order is closed", async || {
        (shopper.see(&overdue).await["status"] == 4).then_some(())
    })
    .await;
    shopper.order(product, 1).await;
    let coupon = shopper.api.post("/api/coupons/1/claim", &json!({})).await.data();
    let body = json!({
        "product_id": product, "quantity": 2, "address_id": shopper.address().await, "coupon_id": coupon["id"],
    });
    shopper.api.post("/api/orders", &body).await.data();

    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
    for name in ["I1", "I2", "I3", "I4", "I5"] {
        assert!(
            report.lines().any(|line| line.starts_with(name) && line.contains("holds")),
            "{name}:\n{report}"
        );
    }
}

#[tokio::test]
async fn each_broken_invariant_is_named() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    shopper.order(product, 2).await;
    shop.shopper("小李").await;
    let coupon = shopper.api.post("/api/coupons/1/claim", &json!({})).await.data();
    let address = shopper.address().await;
    let body =
        json!({"product_id": product, "quantity": 3, "address_id": address, "coupon_id": coupon["id"]});
    shopper.api.post("/api/orders", &body).await.data();
    // What is done to the books, which rules must be named, and how it is undone.
    let misdeeds = [
        ("UPDATE stock SET held = held + 1, available = available - 1 WHERE sku_id = ", vec!["I2"], {
            "UPDATE stock SET held = held - 1, available = available + 1 WHERE sku_id = "
        }),
        ("UPDATE orders SET status = 1 WHERE 1 <= ", vec!["I2", "I3"], {
            "UPDATE orders SET status = 0 WHERE 1 <= "
        }),
        (
            "UPDATE stock_movements SET reason = 'released' WHERE order_id IS NOT NULL AND sku_id = ",
            vec!["I3"],
            { "UPDATE stock_movements SET reason = 'held' WHERE order_id IS NOT NULL AND sku_id = " },
        ),
        ("UPDATE outbox SET kind = 'order_eaten' WHERE 1 <= ", vec!["I3"], {
            "UPDATE outbox SET kind = 'order_placed' WHERE 1 <= "
        }),
        (
            "INSERT INTO outbox (kind, order_id, created_at) SELECT kind, order_id, '2020-01-01' FROM outbox WHERE 1 <= ",
            vec!["I3"],
            "DELETE FROM outbox WHERE created_at < '2021-01-01' AND 1 <= ",
        ),
        (
            "INSERT INTO outbox (kind, order_id, created_at) SELECT 'order_paid', order_id, '2020-01-01' FROM outbox \
             WHERE 1 <= ",
            vec!["I3"],
            "DELETE FROM outbox WHERE created_at < '2021-01-01' AND 1 <= ",
        ),
        ("UPDATE orders SET shipped_at = UTC_TIMESTAMP(3) WHERE 1 <= ", vec!["I3"], {
            "UPDATE orders SET shipped_at = NULL WHERE 1 <= "
        }),
        (
            "INSERT INTO shipments (order_id, round, kind, shipped_at) SELECT MAX(id), 1, 4, UTC_TIMESTAMP(3) FROM orders \
             WHERE 1 <= ",
            vec!["I3"],
            "DELETE FROM shipments WHERE 1 <= ",
        ),
        (
            "INSERT INTO product_sales (product_id, units, orders) \
             SELECT MAX(product_id), SUM(quantity), COUNT(*) FROM order_items WHERE sku_id = ",
            vec!["I3"],
            "DELETE FROM product_sales WHERE 1 <= ",
        ),
        (
            "INSERT INTO order_tombstones (order_no) SELECT order_no FROM orders WHERE 1 <= ",
            vec!["I5"],
            "DELETE FROM order_tombstones WHERE 1 <= ",
        ),
        (
            "UPDATE idempotency_keys SET reply = JSON_SET(reply, '$.order_id', 999) WHERE 1 <= ",
            vec!["I5"],
            "UPDATE idempotency_keys SET reply = JSON_SET(reply, '$.order_id', (SELECT MAX(id) FROM orders)) \
             WHERE 1 <= ",
        ),
        (
            "UPDATE coupons SET claimed = claimed + 1 WHERE 1 <= ",
            vec!["I1"],
            "UPDATE coupons SET claimed = claimed - 1 WHERE 1 <= ",
        ),
        (
            "UPDATE order_items SET discount_fen = discount_fen + 1 WHERE sku_id = ",
            vec!["I2"],
            "UPDATE order_items SET discount_fen = discount_fen - 1 WHERE sku_id = ",
        ),
        (
            "UPDATE user_coupons SET order_id = NULL, used_at = NULL WHERE 1 <= ",
            vec!["I2"],
            "UPDATE user_coupons SET used_at = claimed_at, order_id = (SELECT MAX(id) FROM orders) WHERE 1 <= ",
        ),
        (
            "UPDATE user_coupons SET user_id = (SELECT MAX(id) FROM users) WHERE 1 <= ",
            vec!["I3"],
            "UPDATE user_coupons SET user_id = (SELECT MIN(id) FROM users) WHERE 1 <= ",
        ),
    ];
    for (misdeed, named, undo) in misdeeds {
        shop.change(misdeed, sku).await;
        let (is_clean, report) = shop.reconcile(&["--repair"]).await;
        shop.change(undo, sku).await;
        assert!(!is_clean, "{misdeed}:\n{report}");
        let broken: Vec<&str> =
            report.lines().filter(|line| line.contains("BROKEN")).filter_map(|line| line.get(..2)).collect();
        for name in &named {
            assert!(broken.contains(name), "{misdeed} should break {named:?}:\n{report}");
        }
        assert!(
            broken.iter().all(|name| named.contains(name)),
            "{misdeed} should break {named:?} only:\n{report}"
        );
    }
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}
