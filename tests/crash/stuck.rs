//! A MySQL that says nothing, or that keeps something to itself: others go on.

use farmgate_tests::{Call, Caller, LONG, Mysql, Problem, Reply, Shop, ShopPlan, Shopper, eventually, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::rush::converges;

const STOCK: i32 = 20;

/// Shoppers with an address each.
async fn shoppers(shop: &Shop, count: usize) -> Vec<(Shopper, i64)> {
    let mut shoppers = Vec::new();
    for index in 0..count {
        let shopper = shop.shopper(&format!("顾客{index}")).await;
        let address = shopper.address().await;
        shoppers.push((shopper, address));
    }
    shoppers
}

fn order(product: i64, address: i64, key: &str) -> Call {
    let body = json!({"product_id": product, "quantity": 1, "address_id": address});
    Call::post("/api/orders", &body).idempotent(key)
}

fn send(api: &Caller, call: Call) -> JoinHandle<Reply> {
    let api = api.clone();
    tokio::spawn(async move { api.send(call).await })
}

async fn an_order_waits_for_its_stock(shop: &Shop) {
    eventually(LONG, "an order waits for its stock", async || {
        shop.waiting_for_stock().await.filter(|count| *count > 0)
    })
    .await;
}

/// A product that is not the first and has one SKU.
async fn second_product(shop: &Shop) -> i64 {
    let (first, ..) = shop.first_product().await;
    sqlx::query_scalar(
        "SELECT product_id FROM product_skus WHERE product_id <> ? GROUP BY product_id HAVING COUNT(*) = 1 \
         ORDER BY product_id LIMIT 1",
    )
    .bind(first)
    .fetch_one(&shop.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn reads_that_are_never_answered_stop_no_others() {
    let plan = ShopPlan::new().stock(STOCK).mysql_cable();
    let shop = plan.setting("FARMGATE_MYSQL__ANSWER_TIMEOUT_MS", 6000).start().await;
    let (product, ..) = shop.first_product().await;
    let shoppers = shoppers(&shop, 2).await;
    let ((first, its), (second, address)) = (&shoppers[0], &shoppers[1]);
    shop.mysql_cable().deafen();
    assert_eq!(first.api.send(order(product, *its, "unread")).await.status, 503);
    shop.mysql_cable().plug();
    eventually(LONG, "an order is made", async || {
        (second.api.send(order(product, *address, "mine")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1, "the one that failed was not begun");
}

#[tokio::test]
async fn an_answer_that_never_comes_holds_nobody_else_up() {
    let mut shop = ShopPlan::new()
        .stock(STOCK)
        .worker()
        .mysql_cable()
        .setting("FARMGATE_MYSQL__ANSWER_TIMEOUT_MS", 15_000)
        .start()
        .await;
    let (product, sku, _) = shop.first_product().await;
    let shoppers = shoppers(&shop, 4).await;
    // Nobody sweeps.
    shop.worker().kill();
    let books = shop.lock_stock(sku).await;
    let ((first, address), others) = shoppers.split_first().unwrap();
    let lost = send(&first.api, order(product, *address, "lost"));
    an_order_waits_for_its_stock(&shop).await;
    shop.mysql_cable().deafen();
    books.rollback().await.unwrap();
    let last_words =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'COMMIT%'";
    eventually(LONG, "it is committed, and all that was said of it is lost", async || {
        let is_committed = shop.count("SELECT COUNT(*) FROM orders").await == 1;
        let is_said = shop.count_connections(last_words).await == Some(0);
        (is_committed && is_said && shop.mysql_cable().lost() > 0).then_some(())
    })
    .await;
    // What was said is lost, and the connection stays, as one does whose other end has lost its power.
    shop.mysql_cable().plug();
    for (other, address) in others {
        other.api.send(order(product, *address, "mine")).await.data();
    }
    assert!(!lost.is_finished(), "nobody waited for the lost answer but its own order");
    let mut told = lost.await.unwrap();
    while told.status == 503 {
        told = first.api.send(order(product, *address, "lost")).await;
    }
    let told = told.data()["order_id"].as_i64();
    assert_eq!(told, Some(shop.count("SELECT MIN(id) FROM orders").await));
    shop.start_worker().await;
    converges(&shop).await;
}

#[tokio::test]
async fn a_stock_row_that_somebody_keeps_locked_holds_up_its_own_orders_alone() {
    let plan = ShopPlan::new().stock(STOCK).worker();
    let shop = plan.setting("FARMGATE_MYSQL__LOCK_WAIT_SECONDS", 2).start().await;
    let (locked, sku, _) = shop.first_product().await;
    let free = second_product(&shop).await;
    let shoppers = shoppers(&shop, 10).await;
    let books = shop.lock_stock(sku).await;
    let mut replies = JoinSet::new();
    for (index, (shopper, address)) in shoppers.iter().enumerate() {
        let product = if index == 4 { locked } else { free };
        let (api, call) = (shopper.api.clone(), order(product, *address, "mine"));
        replies.spawn(async move { (index, api.send(call).await) });
    }
    while let Some(reply) = replies.join_next().await {
        match reply.unwrap() {
            (4, reply) => {
                reply.fails_with(Problem::Unavailable);
            }
            (_, reply) => {
                reply.data();
            }
        }
    }
    books.rollback().await.unwrap();
    let (shopper, address) = &shoppers[4];
    shopper.api.send(order(locked, *address, "mine")).await.data();
    converges(&shop).await;
}

#[tokio::test]
async fn an_order_that_waited_until_its_shopper_was_told_is_not_begun() {
    let mut shop = ShopPlan::new().stock(STOCK).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let (shopper, address) = shoppers(&shop, 1).await.remove(0);
    shop.change_setting("FARMGATE_HTTP__REQUEST_TIMEOUT_MS", "3000");
    shop.restart_origin().await;
    let shopper = shopper.through(&shop.api);
    let books = shop.lock_stock(sku).await;
    let first = send(&shopper.api, order(product, address, "first"));
    an_order_waits_for_its_stock(&shop).await;
    // Behind the first one, since they are one shopper's.
    let second = send(&shopper.api, order(product, address, "second"));
    for told in [first, second] {
        assert_eq!(told.await.unwrap().status, 503);
    }
    // So that the second is older than that by any clock.
    assert_eq!(shopper.api.send(order(product, address, "filler")).await.status, 503);
    books.rollback().await.unwrap();
    // Behind them.
    eventually(LONG, "the next one is made", async || {
        (shopper.api.send(order(product, address, "third")).await.status == 200).then_some(())
    })
    .await;
    let second = "SELECT COUNT(*) FROM idempotency_keys WHERE idempotency_key = 'second'";
    assert_eq!(shop.count(second).await, 0);
    converges(&shop).await;
}

#[tokio::test]
async fn the_mirror_of_the_stock_waits_for_no_order_and_no_order_for_it() {
    let shop = ShopPlan::new().stock(STOCK).worker().start().await;
    let (_, kept, _) = shop.first_product().await;
    let product = second_product(&shop).await;
    let books = shop.lock_stock(kept).await;
    let (shopper, address) = shoppers(&shop, 1).await.remove(0);
    shopper.api.send(order(product, address, "mine")).await.data();
    eventually(LONG, "products.stock follows", async || {
        let shown: i32 = sqlx::query_scalar("SELECT stock FROM products WHERE id = ?")
            .bind(product)
            .fetch_one(&shop.db)
            .await
            .unwrap();
        (shown == STOCK - 1).then_some(())
    })
    .await;
    books.rollback().await.unwrap();
}

#[tokio::test]
async fn a_mysql_that_may_not_be_written_to_any_more_is_left() {
    const ORDERS: i64 = 30;
    let mysql = Mysql::start().await;
    let shop = ShopPlan::new().stock(STOCK).on_mysql(&mysql).start().await;
    let (product, ..) = shop.first_product().await;
    let (shopper, address) = shoppers(&shop, 1).await.remove(0);
    shopper.api.send(order(product, address, "before")).await.data();
    shop.script("SET GLOBAL super_read_only = 1").await;
    let connections_so_far = async || -> i64 {
        let (_, count): (String, String) =
            sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Connections'").fetch_one(&shop.db).await.unwrap();
        count.parse().unwrap()
    };
    let before = connections_so_far().await;
    // It may have a successor by now, which a new connection would find: each that is refused is the last on its connection.
    for _ in 0..ORDERS {
        shopper.api.send(order(product, address, "refused")).await.fails_with(Problem::Unavailable);
    }
    let anew = connections_so_far().await - before;
    let at_hand: i64 = shop.setting_of("FARMGATE_MYSQL__MAX_CONNECTIONS").parse().unwrap();
    assert!(anew >= ORDERS - at_hand, "{anew} connections for {ORDERS} orders");
    shop.script("SET GLOBAL super_read_only = 0; SET GLOBAL read_only = 0").await;
    shopper.api.send(order(product, address, "refused")).await.data();
}
