//! The outbox under kills, a Redis that forgets or is away, and consumers that fail: every event has its effect, and
//! has it once.

use farmgate_tests::{LONG, Shop, ShopPlan, Shopper, eventually, json, number};
use sqlx::{MySql, Transaction};

use crate::rush::converges;

/// Failures come and go quickly: four attempts within a second, and what was lost is sent again after a second.
pub fn impatient() -> ShopPlan {
    ShopPlan::new()
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .setting("FARMGATE_OUTBOX__ATTEMPTS", 4)
        .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
        .setting("FARMGATE_OUTBOX__LONGEST_RETRY_MS", 300)
        .setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000)
}

async fn sold(shop: &Shop, product: i64, wanted: (i64, i64)) {
    eventually(LONG, &format!("{wanted:?} of product {product} are counted"), async || {
        (shop.sales(product).await == wanted).then_some(())
    })
    .await;
}

/// Every event was handed out, handled by everyone who wants it, and its entries have left the streams. The placing of an
/// order is an event that nobody wants: the order itself tells it.
async fn all_is_delivered(shop: &Shop) {
    shop.all_is_delivered().await;
    let (events, entries) = (
        shop.count("SELECT COUNT(*) FROM outbox WHERE kind <> 'order_placed'").await,
        shop.count("SELECT COUNT(*) FROM order_events WHERE kind <> 'order_placed'").await,
    );
    assert_eq!(events, entries, "the timeline has each event once");
}

async fn is_clean(shop: &Shop) {
    // Redis may have lost the gate too; that is another file's matter.
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

/// Two products that are not the same.
async fn two_products(shop: &Shop) -> (i64, i64) {
    let (first, ..) = shop.first_product().await;
    (first, shop.count("SELECT MAX(id) FROM products WHERE status = 1").await)
}

/// A product's sales are locked: whoever counts them waits until this is dropped.
pub async fn hold_up_sales(shop: &Shop, product: i64) -> Transaction<'static, MySql> {
    sqlx::query("INSERT IGNORE INTO product_sales (product_id, units, orders) VALUES (?, 0, 0)")
        .bind(product)
        .execute(&shop.db)
        .await
        .unwrap();
    let mut transaction = shop.db.begin().await.unwrap();
    sqlx::query("SELECT units FROM product_sales WHERE product_id = ? FOR UPDATE")
        .bind(product)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// A worker has read the entries of some events and is at their effect.
pub async fn is_being_handled(shop: &Shop) {
    eventually(LONG, "a worker is at it", async || {
        // Its statement cannot end while the test holds the row.
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
                       WHERE db = DATABASE() AND info LIKE 'INSERT INTO product_sales%'";
        shop.count_connections(waiting).await.filter(|waiting| *waiting > 0)
    })
    .await;
}

/// Counting the sales of this product fails from now on.
async fn break_sales_of(shop: &Shop, product: i64) {
    let trigger = format!(
        "CREATE TRIGGER broken BEFORE INSERT ON product_sales FOR EACH ROW \
         IF NEW.product_id = {product} THEN \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the abacus is broken'; END IF"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&shop.db).await.unwrap();
}

async fn mend_sales(shop: &Shop) {
    shop.change("DROP TRIGGER broken -- ", 0).await;
}

#[tokio::test]
async fn every_change_of_state_is_in_the_timeline_and_a_sale_is_counted() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;

    let completed = shopper.buy(&shop.wechat, product, 2).await;
    // With the settings that shops have, the pay button's effect is seen at once.
    eventually(LONG, "the sale is counted", async || (shop.sales(product).await == (2, 1)).then_some(()))
        .await;
    shop.ship(&completed, &["--express", "ZTO", "--tracking", "78001"]).await;
    shopper.api.post(&format!("/api/orders/{}/confirm", completed["order_id"]), &json!({})).await.data();

    let cancelled = shopper.order(product, 1).await;
    shopper.api.post(&format!("/api/orders/{}/cancel", cancelled["order_id"]), &json!({})).await.data();

    let late = shopper.order(product, 3).await;
    shopper.prepay(&late).await;
    shop.let_time_run_out(&late).await;
    eventually(LONG, "the unpaid one is closed", async || {
        (shopper.see(&late).await["status"] == 4).then_some(())
    })
    .await;
    shop.wechat.pay_late(number(&late)).await;
    shop.refunds_become(&late, &[2]).await;

    all_is_delivered(&shop).await;
    for (order, life) in [
        (&completed, &["order_placed", "order_paid", "order_shipped", "order_completed"][..]),
        (&cancelled, &["order_placed", "order_cancelled"]),
        (&late, &["order_placed", "order_cancelled", "paid_too_late", "refund_started", "refund_paid"]),
    ] {
        let (is_known, said) = shop.command(&["outbox", "timeline", number(order)]).await;
        let kinds: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert!(is_known && kinds == life, "{said}");
    }
    let (is_known, _) = shop.command(&["outbox", "timeline", "2020010100000000000000"]).await;
    assert!(!is_known);
    assert_eq!(shop.sales(product).await, (2, 1));
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_event_that_comes_again_and_again_counts_once() {
    let shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await;
    all_is_delivered(&shop).await;
    for id in 1..=shop.count("SELECT MAX(id) FROM outbox").await {
        for stream in [":events:product_sales", ":events:order_timeline"] {
            for _ in 0..3 {
                shop.redis_command(&["XADD", stream, "*", "event", &id.to_string()]).await;
            }
        }
    }
    // What nobody of ours wrote harms nobody either.
    shop.redis_command(&["XADD", ":events:product_sales", "*", "event", "999999"]).await;
    shop.redis_command(&["XADD", ":events:product_sales", "*", "greeting", "hello"]).await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
    is_clean(&shop).await;
}

/// A shop whose worker died with the sale of two of the product published and read, but not counted.
async fn killed_with_an_entry_in_hand() -> (Shop, Shopper, i64) {
    let mut shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let hold = hold_up_sales(&shop, product).await;
    shopper.buy(&shop.wechat, product, 2).await;
    is_being_handled(&shop).await;
    shop.worker().kill();
    hold.rollback().await.unwrap();
    (shop, shopper, product)
}

#[tokio::test]
async fn what_a_killed_worker_had_read_is_done_by_the_next() {
    let (mut shop, _, product) = killed_with_an_entry_in_hand().await;
    assert_eq!(shop.sales(product).await, (0, 0));
    shop.start_worker().await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
}

#[tokio::test]
async fn workers_that_are_killed_all_the_time_deliver_each_event_once() {
    let mut shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    for round in 1..=6 {
        // Two orders at a time, so that the kill falls somewhere among their two payments and two consumers.
        shopper.buy(&shop.wechat, product, 1).await;
        shopper.buy(&shop.wechat, product, 2).await;
        let before = shop.count("SELECT COUNT(*) FROM order_events").await;
        eventually(LONG, "something is delivered", async || {
            let total = shop.count("SELECT COUNT(*) FROM outbox WHERE kind <> 'order_placed'").await;
            let entries = shop.count("SELECT COUNT(*) FROM order_events").await;
            (entries > before || entries == total).then_some(())
        })
        .await;
        shop.worker().kill();
        shop.start_worker().await;
        assert!(shop.count("SELECT COUNT(*) FROM outbox").await == 4 * round);
    }
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (18, 12));
    is_clean(&shop).await;
}

#[tokio::test]
async fn redis_that_forgot_what_it_carried_loses_no_event() {
    let (mut shop, shopper, product) = killed_with_an_entry_in_hand().await;
    // The stream, the group, and who had read what.
    shop.forget_redis().await;
    shop.start_worker().await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
    // It forgets under a worker that is waiting for entries, too.
    shop.forget_redis().await;
    shopper.buy(&shop.wechat, product, 3).await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (5, 2));
}

#[tokio::test]
async fn an_entry_that_redis_dropped_is_sent_again() {
    let mut shop = impatient().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await;
    // As after a restart with an older dump: MySQL says that the entry was sent, the stream and its group are there, and
    // the entry is not.
    shop.change(
        "INSERT INTO outbox_deliveries (event_id, consumer, due_at) SELECT id, 'product_sales', \
         UTC_TIMESTAMP(3) + INTERVAL 1 SECOND FROM outbox WHERE kind = 'order_paid' LIMIT ",
        1,
    )
    .await;
    shop.change("UPDATE outbox SET published_at = UTC_TIMESTAMP(3) WHERE kind = 'order_paid' LIMIT ", 1)
        .await;
    shop.redis_command(&["XGROUP", "CREATE", ":events:product_sales", "workers", "0", "MKSTREAM"]).await;
    shop.start_worker().await;
    sold(&shop, product, (2, 1)).await;
}

#[tokio::test]
async fn without_redis_events_wait_in_mysql() {
    let shop = impatient().worker().redis_cable().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 1).await;
    all_is_delivered(&shop).await;
    shop.redis_cable().pull();
    shopper.buy(&shop.wechat, product, 2).await;
    shopper.buy(&shop.wechat, product, 3).await;
    let (_, said) = shop.command(&["outbox", "status"]).await;
    let unpublished = said.lines().next().unwrap_or_default();
    assert!(unpublished.starts_with("unpublished") && unpublished.contains(" 2  the oldest for"), "{said}");
    assert_eq!(shop.sales(product).await, (1, 1));
    shop.redis_cable().plug();
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (6, 3));
    converges(&shop).await;
}

#[tokio::test]
async fn a_consumer_that_fails_for_a_while_catches_up_by_itself() {
    let shop = impatient().setting("FARMGATE_OUTBOX__ATTEMPTS", 1000).worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (broken, other) = two_products(&shop).await;
    break_sales_of(&shop, broken).await;
    shopper.buy(&shop.wechat, broken, 2).await;
    eventually(LONG, "it is tried more than once", async || {
        (shop.count("SELECT COALESCE(MAX(attempts), 0) FROM outbox_deliveries").await >= 2).then_some(())
    })
    .await;
    // Nobody waits behind it: not the same consumer's other events, not the other consumer.
    shopper.buy(&shop.wechat, other, 1).await;
    sold(&shop, other, (1, 1)).await;
    eventually(LONG, "the timeline has both payments", async || {
        (shop.count("SELECT COUNT(*) FROM order_events").await == 2).then_some(())
    })
    .await;
    assert_eq!(shop.sales(broken).await, (0, 0));
    let (_, said) = shop.command(&["outbox", "status"]).await;
    assert!(said.contains("1 of them failed before"), "{said}");
    mend_sales(&shop).await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(broken).await, (2, 1));
}

#[tokio::test]
async fn a_dead_letter_is_seen_and_replayed() {
    let mut shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (broken, other) = two_products(&shop).await;
    break_sales_of(&shop, broken).await;
    let order = shopper.buy(&shop.wechat, broken, 2).await;
    eventually(LONG, "it dies", async || {
        (shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NOT NULL").await == 1)
            .then_some(())
    })
    .await;
    shopper.buy(&shop.wechat, other, 1).await;
    sold(&shop, other, (1, 1)).await;

    let (is_listed, said) = shop.command(&["outbox", "dead"]).await;
    let id = said.split_whitespace().next().unwrap_or_default().to_owned();
    for part in ["order_paid", number(&order), "product_sales", "4 attempts", "the abacus is broken"] {
        assert!(is_listed && said.contains(part), "{part}: {said}");
    }
    let (_, said) = shop.command(&["outbox", "status"]).await;
    assert!(said.lines().any(|line| line.starts_with("dead letters") && line.ends_with(" 1")), "{said}");
    shop.worker().logs("a dead letter", 1).await;
    // A dead letter is still a sale that was not counted, and the auditor knows why.
    is_clean(&shop).await;

    let (is_done, _) = shop.command(&["outbox", "replay"]).await;
    assert!(!is_done, "which ones?");
    let (is_done, said) = shop.command(&["outbox", "replay", "999999"]).await;
    assert!(is_done && said.starts_with("0 "), "{said}");
    // Replayed too early, it dies again.
    let (is_done, said) = shop.command(&["outbox", "replay", &id]).await;
    assert!(is_done && said.starts_with("1 "), "{said}");
    shop.worker().logs("a dead letter", 2).await;
    mend_sales(&shop).await;
    let (is_done, said) = shop.command(&["outbox", "replay", "--all"]).await;
    assert!(is_done && said.starts_with("1 "), "{said}");
    sold(&shop, broken, (2, 1)).await;
    let (is_done, said) = shop.command(&["outbox", "replay", "--all"]).await;
    assert!(is_done && said.starts_with("0 "), "{said}");
    let (_, said) = shop.command(&["outbox", "dead"]).await;
    assert_eq!(said, "no dead letters\n");
    all_is_delivered(&shop).await;
}

#[tokio::test]
async fn what_cannot_succeed_is_dead_at_once() {
    let shop = impatient().worker().start().await;
    shop.change("INSERT INTO outbox (kind, order_id) VALUES ('order_paid', 4711) -- ", 0).await;
    eventually(LONG, "a paid order without lines is no sale", async || {
        (shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NOT NULL").await == 1)
            .then_some(())
    })
    .await;
    let (_, said) = shop.command(&["outbox", "dead"]).await;
    assert!(said.contains("1 attempts") && said.contains("order 4711 was paid and has no lines"), "{said}");
}

#[tokio::test]
async fn two_workers_deliver_each_event_once() {
    let mut shop = impatient().worker().start().await;
    shop.another_worker().await;
    let (product, ..) = shop.first_product().await;
    let mut buyers = tokio::task::JoinSet::new();
    let shop = std::sync::Arc::new(shop);
    for index in 0..5 {
        let shopper = shop.shopper(&format!("顾客{index}")).await;
        let shop = shop.clone();
        buyers.spawn(async move {
            for _ in 0..4 {
                shopper.buy(&shop.wechat, product, 1 + index).await;
            }
        });
    }
    while let Some(ended) = buyers.join_next().await {
        ended.unwrap();
    }
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (4 * (1 + 2 + 3 + 4 + 5), 20));
    is_clean(&shop).await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_stops_in_order() {
    let mut shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await;
    assert!(shop.worker().stop().await.success());
    shop.start_worker().await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
}

#[tokio::test]
async fn old_events_are_forgotten_once_they_are_delivered() {
    let shop = impatient().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (broken, other) = two_products(&shop).await;
    break_sales_of(&shop, broken).await;
    shopper.buy(&shop.wechat, broken, 1).await;
    shopper.buy(&shop.wechat, other, 1).await;
    eventually(LONG, "one is dead, all others are delivered", async || {
        let open = shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NULL").await;
        let dead = shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NOT NULL").await;
        let waiting = shop.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await;
        (open + waiting == 0 && dead == 1).then_some(())
    })
    .await;
    // A month goes by.
    shop.change(
        "UPDATE orders SET created_at = created_at - INTERVAL 31 DAY, payment_time = payment_time - INTERVAL 31 DAY \
         WHERE 0 < ",
        1,
    )
    .await;
    let kept = "SELECT COUNT(*) FROM outbox";
    shop.change("UPDATE outbox SET published_at = published_at - INTERVAL 31 DAY WHERE 0 < ", 1).await;
    eventually(LONG, "only the dead letter's event is kept", async || {
        (shop.count(kept).await == 1).then_some(())
    })
    .await;
    is_clean(&shop).await;
    mend_sales(&shop).await;
    let (_, said) = shop.command(&["outbox", "replay", "--all"]).await;
    assert!(said.starts_with("1 "), "{said}");
    sold(&shop, broken, (1, 1)).await;
    is_clean(&shop).await;
    eventually(LONG, "that one is forgotten too", async || (shop.count(kept).await == 0).then_some(())).await;
    // The test's own books know no age: the events of these orders come back for them.
    shop.change(
        "INSERT INTO outbox (kind, order_id, published_at) SELECT kind, order_id, UTC_TIMESTAMP(3) FROM \
         (SELECT kind, order_id FROM order_events UNION ALL SELECT 'order_placed', id FROM orders) life \
         WHERE (kind, order_id) NOT IN (SELECT kind, order_id FROM outbox) AND 0 < ",
        1,
    )
    .await;
}

#[tokio::test]
async fn orders_from_before_the_outbox_are_in_its_books() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await;
    shopper.order(product, 1).await;
    let cancelled = shopper.order(product, 3).await;
    shopper.api.post(&format!("/api/orders/{}/cancel", cancelled["order_id"]), &json!({})).await.data();
    all_is_delivered(&shop).await;
    // Back to the schema of before, with the orders as they are.
    for statement in [
        "DROP TABLE outbox, outbox_deliveries, product_sales, order_events -- ",
        "ALTER TABLE orders DROP KEY orders_to_complete, DROP COLUMN shipped_at, DROP COLUMN completed_at -- ",
        "DELETE FROM _sqlx_migrations WHERE version = ",
    ] {
        shop.change(statement, 5).await;
    }
    // What changed these tables later comes with them.
    for later in [11, 16] {
        shop.change("DELETE FROM _sqlx_migrations WHERE version = ", later).await;
    }
    let (is_migrated, said) = shop.command(&["migrate"]).await;
    assert!(is_migrated, "{said}");
    is_clean(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_events").await, 5);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox_deliveries").await, 0);
    shopper.buy(&shop.wechat, product, 4).await;
    sold(&shop, product, (6, 2)).await;
    is_clean(&shop).await;
}

/// A worker that dies at a named point of the delivery: the next one ends what it left, and nothing happens twice.
async fn die_delivering(point: &str) {
    let mut shop = impatient().worker().worker_dies_at(Some(point)).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await;
    shop.worker().died_at(point).await;
    shop.start_worker().await;
    all_is_delivered(&shop).await;
    assert_eq!(shop.sales(product).await, (2, 1));
    is_clean(&shop).await;
}

#[tokio::test]
async fn death_before_the_stream_delays_an_event() {
    die_delivering("outbox_before_send").await;
}

#[tokio::test]
async fn death_after_the_stream_loses_and_doubles_nothing() {
    die_delivering("outbox_after_send").await;
}

#[tokio::test]
async fn death_after_the_effect_does_not_have_it_twice() {
    die_delivering("outbox_after_effect").await;
}
