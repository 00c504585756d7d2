//! MySQL and Redis that die, forget or come back old while orders are taken. Each test has servers of its own to kill.

use std::time::{Duration, Instant};

use farmgate_tests::{LONG, Mysql, Problem, Redis, ShopPlan, eventually};

use crate::rush::{Rush, converges};

const SHOPPERS: usize = 24;
const STOCK: i32 = 20;

#[tokio::test]
async fn a_redis_flushed_in_the_middle_costs_no_order() {
    let redis = Redis::start().await;
    let shop = ShopPlan::new().stock(STOCK).worker().on_redis(&redis).start().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    let mut is_flushed = false;
    rush.order(std::slice::from_ref(&shop.api), async |told| {
        if told == 5 && !is_flushed {
            is_flushed = true;
            redis.flush().await;
        }
    })
    .await;
    assert!(is_flushed);
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn a_redis_killed_and_restarted_empty_costs_no_order() {
    let mut redis = Redis::start().await;
    let shop = ShopPlan::new().stock(STOCK).worker().on_redis(&redis).start().await;
    let before = shop.gate_epoch().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    rush.order(std::slice::from_ref(&shop.api), async |told| {
        if told == 5 {
            redis.kill();
        }
    })
    .await;
    // Without a gate MySQL alone decides, and sells every unit.
    redis.kill();
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), usize::try_from(STOCK).unwrap());
    rush.nothing_is_lost_or_doubled(&shop).await;

    redis.restart_empty().await;
    converges(&shop).await;
    assert!(shop.gate_epoch().await > before, "an empty gate is filled as a new generation");
}

#[tokio::test]
async fn a_redis_rolled_back_to_an_older_dump_oversells_nothing_and_is_mended() {
    let mut redis = Redis::start().await;
    // No worker at first, so that nothing mends the gate before MySQL has had to refuse.
    let mut shop = ShopPlan::new().stock(STOCK).on_redis(&redis).start().await;
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    let (product, sku, _) = shop.first_product().await;
    // The dump knows an order at hand whose maker dies: its hold is as stale as the levels.
    shop.origin().kill();
    shop.restart_origin_to_die_at(Some("after_gate:2")).await;
    let early = shop.shopper("小李").await;
    early.order(product, 2).await;
    let address = early.address().await;
    let body = farmgate_tests::json!({"product_id": product, "quantity": 3, "address_id": address});
    assert!(early.api.try_send(farmgate_tests::Call::post("/api/orders", &body)).await.is_err());
    shop.origin().died_at("after_gate").await;
    redis.save().await;
    let epoch = shop.gate_epoch().await;

    shop.restart_origin().await;
    let busy = shop.shopper("小王").await;
    busy.order(product, 12).await;
    assert_eq!(shop.stock(sku).await.available, 6);
    redis.roll_back().await;
    assert_eq!(shop.gate_epoch().await, epoch, "an old dump looks like the gate that is believed");
    assert_eq!(shop.gate(sku).await, Some(15), "20 less the order of 2 and the hold of 3");

    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    rush.order(std::slice::from_ref(&shop.api), async |_| {}).await;
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), 6, "MySQL sells what it has, whatever the gate shows");
    assert_eq!(shop.stock(sku).await.available, 0);

    shop.start_worker().await;
    converges(&shop).await;
    assert_eq!(shop.gate(sku).await, Some(0));
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_tombstones").await, 1, "the stale hold's number");
}

#[tokio::test]
async fn a_mysql_killed_in_the_middle_loses_no_order() {
    let mut mysql = Mysql::start().await;
    let shop = ShopPlan::new().stock(STOCK).worker().on_mysql(&mysql).start().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    let mut is_killed = false;
    rush.order(std::slice::from_ref(&shop.api), async |told| {
        if told == 5 && !is_killed {
            is_killed = true;
            mysql.kill();
        }
    })
    .await;
    assert!(is_killed);
    mysql.restart().await;
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn with_mysql_away_each_order_is_refused_at_once() {
    let mut mysql = Mysql::start().await;
    let patience = Duration::from_secs(9);
    let plan = ShopPlan::new().setting("FARMGATE_MYSQL__ACQUIRE_TIMEOUT_MS", patience.as_millis());
    let shop = plan.on_mysql(&mysql).start().await;
    let (product, ..) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    let address = shopper.address().await;
    mysql.kill();
    for _ in 0..40 {
        let begun = Instant::now();
        shopper.try_order(product, 1, address).await.fails_with(Problem::Unavailable);
        assert!(begun.elapsed() < patience, "nobody waits for a connection until the time is up");
    }
    mysql.restart().await;
    eventually(LONG, "an order is made", async || {
        (shopper.try_order(product, 1, address).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
}

#[tokio::test]
async fn a_mysql_restarted_under_load_and_a_worker_killed_beside_it_lose_no_order() {
    let mut mysql = Mysql::start().await;
    let mut shop = ShopPlan::new().stock(STOCK).worker().on_mysql(&mysql).start().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    let mut is_killed = false;
    let apis = [shop.api.clone(), shop.replica().await];
    rush.order(&apis, async |told| {
        if told == 8 && !is_killed {
            is_killed = true;
            mysql.kill();
            shop.worker().kill();
            mysql.restart().await;
        }
    })
    .await;
    assert!(is_killed);
    shop.start_worker().await;
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn a_mysql_that_numbers_rows_in_steps_mixes_no_orders_up() {
    let mysql = Mysql::start().await;
    let mut shop = ShopPlan::new().stock(STOCK * 2).worker().on_mysql(&mysql).start().await;
    // As a member of a group does. Sessions that were there before go on in steps of one.
    shop.script("SET GLOBAL auto_increment_increment = 7").await;
    shop.restart_origin().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    rush.order(std::slice::from_ref(&shop.api), async |_| {}).await;
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), SHOPPERS);
    let span = shop.count("SELECT CAST(MAX(id) - MIN(id) AS SIGNED) FROM orders").await;
    assert_eq!((span % 7, span >= 7 * 23), (0, true), "{span}");
    let odd = "SELECT COUNT(*) FROM idempotency_keys k JOIN orders o \
               ON o.order_no = JSON_UNQUOTE(JSON_EXTRACT(k.reply, '$.order_no')) \
               WHERE o.id <> JSON_EXTRACT(k.reply, '$.order_id') OR o.user_id <> k.user_id";
    assert_eq!(shop.count(odd).await, 0, "each reply names its own order");
    let told_apart = "SELECT COUNT(DISTINCT i.order_id) FROM order_items i JOIN outbox e ON e.order_id = i.order_id \
                      JOIN stock_movements m ON m.order_id = i.order_id WHERE e.kind = 'order_placed'";
    assert_eq!(shop.count(told_apart).await, 24);
    let log = shop.origin().log();
    assert!(!log.contains("one by one"), "the batches stand as they were written: {log}");
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn an_order_whose_connection_breaks_is_settled_at_once() {
    let mut shop = ShopPlan::new().stock(STOCK).worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let address = shopper.address().await;
    // Nobody sweeps.
    shop.worker().kill();
    shop.script("CREATE TRIGGER slow AFTER INSERT ON order_items FOR EACH ROW SET @slept = SLEEP(60)").await;
    let sleeper = "SELECT CAST(COALESCE(MAX(id), 0) AS SIGNED) FROM information_schema.processlist \
                   WHERE db = DATABASE() AND state = 'User sleep'";
    let (reply, ()) = tokio::join!(shopper.try_order(product, 1, address), async {
        let connection = eventually(LONG, "the order's script is at its items", async || {
            shop.count_connections(sleeper).await.filter(|id| *id > 0)
        })
        .await;
        shop.script(&format!("KILL {connection}")).await;
    });
    assert_eq!(reply.status, 503, "{}", reply.text());
    // Buried, so that it never comes alive, and given back.
    eventually(LONG, "the order is buried", async || {
        (shop.count("SELECT COUNT(*) FROM order_tombstones").await == 1).then_some(())
    })
    .await;
    if !shop.holds().await.is_empty() {
        // It took longer than an order is waited for, and is the sweeper's.
        shop.start_worker().await;
        converges(&shop).await;
    }
    assert_eq!((shop.gate(sku).await, shop.holds().await.len()), (Some(i64::from(STOCK)), 0));
    shop.script("DROP TRIGGER slow").await;
    assert_eq!(shopper.try_order(product, 1, address).await.status, 200);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
    shop.start_worker().await;
    converges(&shop).await;
}

#[tokio::test]
async fn an_order_whose_commit_was_not_heard_of_is_told_all_the_same() {
    let mut shop = ShopPlan::new().stock(STOCK).worker().mysql_cable().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let address = shopper.address().await;
    // Nobody sweeps.
    shop.worker().kill();
    let mut books = shop.db.begin().await.unwrap();
    sqlx::query("SELECT sku_id FROM stock WHERE sku_id = ? FOR UPDATE")
        .bind(sku)
        .fetch_one(&mut *books)
        .await
        .unwrap();
    // It is locked, so this statement does not end.
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE db = DATABASE() AND info LIKE 'UPDATE stock %'";
    let (reply, ()) = tokio::join!(shopper.try_order(product, 1, address), async {
        eventually(LONG, "the order waits for its stock", async || {
            (shop.count_connections(waiting).await == Some(1)).then_some(())
        })
        .await;
        shop.mysql_cable().deafen();
        books.rollback().await.unwrap();
        eventually(LONG, "the order is committed", async || {
            (shop.count("SELECT COUNT(*) FROM orders").await == 1).then_some(())
        })
        .await;
        shop.mysql_cable().pull();
        shop.mysql_cable().plug();
    });
    let reply = if reply.status == 503 {
        // It took longer than an order is waited for: asked for again it is told, and its hold is the sweeper's.
        let told = eventually(LONG, "the order is told", async || {
            Some(shopper.try_order(product, 1, address).await).filter(|reply| reply.status != 503)
        })
        .await;
        shop.start_worker().await;
        converges(&shop).await;
        told
    } else {
        reply
    };
    let order = reply.data()["order_id"].as_i64();
    assert_eq!(order, Some(shop.count("SELECT id FROM orders").await));
    eventually(LONG, "its hold is dropped", async || shop.holds().await.is_empty().then_some(())).await;
    assert_eq!(shop.gate(sku).await, Some(i64::from(STOCK - 1)));
    assert_eq!(shop.count("SELECT COUNT(*) FROM order_tombstones").await, 0);
    shop.start_worker().await;
    converges(&shop).await;
}

#[tokio::test]
async fn a_look_at_the_stock_that_breaks_off_is_made_up_for() {
    // Without the sweep, which would find the change some day.
    let shop = ShopPlan::new().stock(STOCK).setting("FARMGATE_CATALOG__STOCK_SWEEP", 0).start().await;
    let (product, sku, _) = shop.first_product().await;
    let page = format!("/api/products/{product}");
    assert_eq!(shop.api.get(&page).await.data()["stock"], STOCK);
    // A connection of its own, whose end unlocks.
    let mut farm = shop.db.acquire().await.unwrap().detach();
    sqlx::raw_sql("LOCK TABLES stock WRITE").execute(&mut farm).await.unwrap();
    shop.script(&format!(
        "INSERT INTO stock_movements (sku_id, reason, available_change, held_change, sold_change) \
         VALUES ({sku}, 'stocked', 5, 0, 0)"
    ))
    .await;
    let reader = "SELECT CAST(COALESCE(MAX(id), 0) AS SIGNED) FROM information_schema.processlist \
                  WHERE db = DATABASE() AND state = 'Waiting for table metadata lock' AND info LIKE '%FROM stock %'";
    let connection = eventually(LONG, "the movement is seen, and its stock asked for", async || {
        shop.count_connections(reader).await.filter(|id| *id > 0)
    })
    .await;
    shop.script(&format!("KILL {connection}")).await;
    let restock = "UPDATE stock SET available = available + 5, total = total + 5 WHERE sku_id = ?";
    sqlx::query(restock).bind(sku).execute(&mut farm).await.unwrap();
    sqlx::raw_sql("UNLOCK TABLES").execute(&mut farm).await.unwrap();
    eventually(LONG, "the page shows it", async || {
        (shop.api.get(&page).await.data()["stock"] == STOCK + 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_hangs_costs_no_order() {
    // As patient as a shop is.
    let plan = ShopPlan::new().setting("FARMGATE_REDIS__RESPONSE_TIMEOUT_MS", 300);
    let shop = plan.stock(STOCK).worker().redis_cable().start().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    shop.redis_cable().deafen();
    rush.order(std::slice::from_ref(&shop.api), async |_| {}).await;
    rush.ask_again(&shop.api).await;
    assert_eq!(rush.told(), usize::try_from(STOCK).unwrap(), "MySQL alone sells every unit");
    // What it heard and could not answer may have been taken.
    shop.redis_cable().pull();
    shop.redis_cable().plug();
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}
