//! The stock gate after crashes: what Redis says may be wrong for seconds, and costs speed only.

use farmgate_tests::{LONG, Shop, ShopPlan, eventually, unix_now};

async fn shows(shop: &Shop, sku: i64, level: i64) {
    eventually(LONG, &format!("the gate shows {level} of SKU {sku}"), async || {
        (shop.gate(sku).await == Some(level)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hold_whose_maker_died_is_given_back_and_its_number_is_buried() {
    let shop = ShopPlan::new().worker().start().await;
    let (_, sku, _) = shop.first_product().await;
    let before = i64::from(shop.stock(sku).await.available);
    shop.leave_hold("2026010100000000000001", sku, 7, (unix_now() - 60) * 1000).await;
    shows(&shop, sku, before).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_tombstones").await, 1);
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn a_hold_left_beside_its_order_is_dropped_and_nothing_is_given_back() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let before = i64::from(shop.stock(sku).await.available);
    let order = shopper.order(product, 2).await;
    shows(&shop, sku, before - 2).await;
    // As after a kill between COMMIT and the reply: the order is there, and so is its hold.
    let number = order["order_no"].as_str().unwrap();
    shop.write_hold(number, sku, 2, (unix_now() - 60) * 1000).await;
    eventually(LONG, "the worker decides the hold", async || shop.holds().await.is_empty().then_some(()))
        .await;
    assert_eq!(shop.gate(sku).await, Some(before - 2));
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_tombstones").await, 0);
}

#[tokio::test]
async fn a_hold_that_cannot_be_decided_keeps_no_other_waiting() {
    let shop = ShopPlan::new().worker().setting("FARMGATE_MYSQL__LOCK_WAIT_SECONDS", 1).start().await;
    let (_, sku, _) = shop.first_product().await;
    let before = i64::from(shop.stock(sku).await.available);
    let (kept, free) = ("2026010100000000000003", "2026010100000000000004");
    let mut books = shop.db.begin().await.unwrap();
    sqlx::query("INSERT INTO order_tombstones (order_no) VALUES (?)")
        .bind(kept)
        .execute(&mut *books)
        .await
        .unwrap();
    // The oldest comes first, round after round.
    shop.leave_hold(kept, sku, 2, (unix_now() - 90) * 1000).await;
    shop.leave_hold(free, sku, 3, (unix_now() - 60) * 1000).await;
    shows(&shop, sku, before - 2).await;
    assert_eq!(shop.holds().await, [kept]);
    books.rollback().await.unwrap();
    shows(&shop, sku, before).await;
}

#[tokio::test]
async fn a_young_hold_is_left_to_its_maker() {
    let shop = ShopPlan::new().worker().start().await;
    let (_, sku, _) = shop.first_product().await;
    let before = i64::from(shop.stock(sku).await.available);
    shop.leave_hold("2026010100000000000002", sku, 3, unix_now() * 1000 + 60_000).await;
    // A level that is wrong besides is mended around the hold: what is held counts as right.
    shop.redis_command(&["INCRBY", &format!(":stock:{sku}"), "50"]).await;
    shows(&shop, sku, before - 3).await;
    assert_eq!(shop.holds().await, ["2026010100000000000002"]);
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn a_gate_that_shows_too_much_or_too_little_is_mended_by_itself() {
    let shop = ShopPlan::new().worker().start().await;
    let (_, sku, _) = shop.first_product().await;
    let level = i64::from(shop.stock(sku).await.available);
    for wrong in ["0", "100000"] {
        shop.redis_command(&["SET", &format!(":stock:{sku}"), wrong]).await;
        shows(&shop, sku, level).await;
    }
    shop.redis_command(&["DEL", &format!(":stock:{sku}")]).await;
    shows(&shop, sku, level).await;
}

#[tokio::test]
async fn reconcile_finds_a_wrong_gate_and_repairs_it_when_told() {
    let shop = Shop::start().await;
    let (_, sku, _) = shop.first_product().await;
    let level = i64::from(shop.stock(sku).await.available);
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(!is_clean && report.contains("empty or of another generation"), "{report}");
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    shop.redis_command(&["SET", &format!(":stock:{sku}"), &(level + 5).to_string()]).await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(!is_clean && report.contains(&format!("SKU {sku}: the gate shows 5 too much")), "{report}");
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    assert_eq!(shop.gate(sku).await, Some(level));
}

#[tokio::test]
async fn an_order_whose_number_was_buried_is_not_made() {
    // The number of an order is drawn by the origin, so every number is buried: a trigger stands in for the sweeper
    // that came first.
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let address = shopper.address().await;
    let before = shop.stock(sku).await;
    shop.change(
        "CREATE TRIGGER bury AFTER INSERT ON orders FOR EACH ROW \
         INSERT INTO order_tombstones (order_no) VALUES (NEW.order_no) -- ",
        0,
    )
    .await;
    let reply = shopper.try_order(product, 1, address).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    shop.change("DROP TRIGGER bury -- ", 0).await;
    assert_eq!(shop.stock(sku).await, before);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
    assert_eq!(shop.gate(sku).await, Some(i64::from(before.available)));
    assert_eq!(shopper.try_order(product, 1, address).await.status, 200);
}
