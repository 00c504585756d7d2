//! `POST /api/orders` when it comes twice, and when it comes from everybody at once.

use std::collections::HashSet;

use farmgate_tests::{Call, LONG, Problem, Reply, Shop, ShopPlan, Shopper, eventually, json};

use crate::orders::seed_body;

#[tokio::test]
async fn a_repeated_key_gets_the_first_reply_and_another_body_is_refused() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let address = shopper.address().await;
    let call = |quantity: i64| {
        Call::post("/api/orders", &seed_body(product, json!(quantity), address)).idempotent("key-1")
    };
    let first = shopper.send_order(call(1)).await;
    let again = shopper.send_order(call(1)).await;
    assert_eq!(first.data(), again.data());
    shopper.send_order(call(2)).await.fails_with(Problem::IdempotencyKeyReused);
    // Another shopper's key of the same name is another key.
    let other = shop.shopper("小李").await;
    let body = seed_body(product, json!(1), other.address().await);
    let theirs = other.send_order(Call::post("/api/orders", &body).idempotent("key-1")).await;
    assert_ne!(theirs.data()["order_id"], first.data()["order_id"]);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 2);

    for bad in ["", "with space", &"x".repeat(65), "键"] {
        let call = Call::post("/api/orders", &seed_body(product, json!(1), address)).idempotent(bad);
        shopper.send_order(call).await.refuses_fields(&["Idempotency-Key"]);
    }
}

#[tokio::test]
async fn a_repetition_that_the_gate_has_forgotten_is_found_by_its_key() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let address = shopper.address().await;
    let call = |quantity: i64| {
        Call::post("/api/orders", &seed_body(product, json!(quantity), address)).idempotent("key-1")
    };
    let first = shopper.send_order(call(1)).await;
    assert_eq!(shop.forget_requests().await, 1, "the gate remembered the request");
    let (stock, gate) = (shop.stock(sku).await, shop.gate(sku).await);
    assert_eq!(shopper.send_order(call(1)).await.data(), first.data());
    shop.forget_requests().await;
    shopper.send_order(call(2)).await.fails_with(Problem::IdempotencyKeyReused);
    // What the repetitions took is back in both places.
    assert_eq!((shop.stock(sku).await, shop.gate(sku).await), (stock, gate));
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
    // One whose address is gone since is a repetition all the same.
    shopper.api.delete(&format!("/api/addresses/{address}")).await.data();
    assert_eq!(shopper.send_order(call(1)).await.data(), first.data());
}

#[tokio::test]
async fn a_key_is_kept_for_a_week_and_then_forgotten() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    for quantity in 1..=2 {
        shopper.order(product, quantity).await;
    }
    shop.change(
        "UPDATE idempotency_keys SET created_at = UTC_TIMESTAMP(3) - INTERVAL 8 DAY ORDER BY created_at LIMIT ",
        1,
    )
    .await;
    eventually(LONG, "the old key is forgotten", async || {
        (shop.count("SELECT COUNT(*) FROM idempotency_keys").await == 1).then_some(())
    })
    .await;
    shop.change("UPDATE idempotency_keys SET created_at = UTC_TIMESTAMP(3) - INTERVAL 6 DAY LIMIT ", 1).await;
    // A later job of the same round tells when a round is over: one that had begun, and then a whole one.
    for _ in 0..2 {
        shop.change("UPDATE products SET stock = 0 LIMIT ", 1).await;
        eventually(LONG, "a round is over", async || {
            (shop.count("SELECT stock FROM products ORDER BY id LIMIT 1").await != 0).then_some(())
        })
        .await;
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM idempotency_keys").await, 1);
}

#[tokio::test]
async fn a_key_whose_order_failed_can_be_used_again() {
    let shop = ShopPlan::new().stock(2).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let address = shopper.address().await;
    let call = |quantity: i64| {
        Call::post("/api/orders", &seed_body(product, json!(quantity), address)).idempotent("key-1")
    };
    shopper.send_order(call(3)).await.fails_with(Problem::OutOfStock);
    shopper.send_order(call(2)).await.data();
}

#[tokio::test]
async fn fifty_equal_requests_at_once_are_one_order() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let body = seed_body(product, json!(1), shopper.address().await);
    let replies =
        at_once((0..50).map(|_| (shopper.clone(), Call::post("/api/orders", &body).idempotent("one")))).await;
    let first = replies[0].data();
    assert!(replies.iter().all(|reply| reply.data() == first), "all get the one reply");
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
    assert_eq!(shop.stock(sku).await.held, before.held + 1);
}

/// Sends all calls at the same time; the replies in the calls' order.
pub async fn at_once(calls: impl Iterator<Item = (Shopper, Call)>) -> Vec<Reply> {
    let sent: Vec<_> =
        calls.map(|(shopper, call)| tokio::spawn(async move { shopper.send_order(call).await })).collect();
    let mut replies = Vec::new();
    for reply in sent {
        replies.push(reply.await.unwrap());
    }
    replies
}

#[tokio::test]
async fn thirty_buyers_of_five_units_get_exactly_five() {
    let shop = ShopPlan::new().stock(5).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let mut calls = Vec::new();
    for buyer in 0..30 {
        let shopper = shop.shopper(&format!("买家{buyer}")).await;
        let body = seed_body(product, json!(1), shopper.address().await);
        calls.push((shopper, Call::post("/api/orders", &body)));
    }
    let replies = at_once(calls.into_iter()).await;
    let won = replies.iter().filter(|reply| reply.status == 200).count();
    for lost in replies.iter().filter(|reply| reply.status != 200) {
        lost.fails_with(Problem::OutOfStock);
    }
    assert_eq!(won, 5);
    let stock = shop.stock(sku).await;
    assert_eq!((stock.available, stock.held, stock.sold), (0, 5, 0));
    assert_eq!(shop.gate(sku).await, Some(0));
}

#[tokio::test]
async fn two_origins_make_one_order_of_a_key_and_oversell_nothing() {
    let mut shop = ShopPlan::new().stock(5).worker().start().await;
    let replica = shop.replica().await;
    let (product, sku, _) = shop.first_product().await;
    let mut calls = Vec::new();
    for buyer in 0..10 {
        let shopper = shop.shopper(&format!("买家{buyer}")).await;
        let body = seed_body(product, json!(1), shopper.address().await);
        let call = Call::post("/api/orders", &body).idempotent("one");
        calls.push((shopper.through(&replica), call.clone()));
        calls.push((shopper, call));
    }
    let replies = at_once(calls.into_iter()).await;
    let mut won = HashSet::new();
    for pair in replies.chunks(2) {
        let numbers: HashSet<String> = pair
            .iter()
            .filter(|reply| reply.status == 200)
            .map(|reply| reply.data()["order_no"].to_string())
            .collect();
        assert!(numbers.len() <= 1, "one key made two orders: {numbers:?}");
        won.extend(numbers);
        for lost in pair.iter().filter(|reply| reply.status != 200) {
            lost.fails_with(Problem::OutOfStock);
        }
    }
    let orders = shop.count("SELECT COUNT(*) FROM orders").await;
    assert_eq!(orders, i64::try_from(won.len()).unwrap(), "an order that nobody was told of");
    let stock = shop.stock(sku).await;
    assert_eq!((i64::from(stock.held), i64::from(stock.available)), (orders, 5 - orders));
}

#[tokio::test]
async fn equal_requests_for_the_last_unit_at_three_replicas_all_get_its_order() {
    let mut shop = ShopPlan::new().stock(1).worker().start().await;
    let replicas = [shop.api.clone(), shop.replica().await, shop.replica().await];
    let (product, sku, _) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    let body = seed_body(product, json!(1), shopper.address().await);
    let call = Call::post("/api/orders", &body).idempotent("last");
    let calls = (0..48).map(|number| (shopper.through(&replicas[number % 3]), call.clone()));
    let replies = at_once(calls).await;
    let first = replies[0].data();
    assert!(replies.iter().all(|reply| reply.data() == first), "all get the one reply");
    assert_eq!(shop.stock(sku).await.held, 1);
}

#[tokio::test]
async fn an_order_whose_number_another_one_has_gets_another_number() {
    let mut shop = ShopPlan::new().stock(9).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    // The first writes, together and alone, meet the number of somebody else; what a trigger counts in MyISAM stays
    // counted when its statement fails.
    let statements = [
        "CREATE TABLE clashes (id INT) ENGINE = MyISAM -- ",
        "CREATE TRIGGER clash BEFORE INSERT ON orders FOR EACH ROW BEGIN \
         INSERT INTO clashes VALUES (1); IF (SELECT COUNT(*) FROM clashes) < 5 THEN SIGNAL SQLSTATE '23000' \
         SET MYSQL_ERRNO = 1062, MESSAGE_TEXT = 'Duplicate entry'; END IF; END -- ",
    ];
    for statement in statements {
        shop.change(statement, 0).await;
    }
    let shopper = shop.shopper("小王").await;
    let order = shopper.order(product, 2).await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM clashes").await, 5);
    shop.change("DROP TRIGGER clash -- ", 0).await;
    let seen = shopper.see(&order).await;
    assert_eq!(seen["delivery_address"]["name"], "小王", "the address was sealed for the new number");
    assert_eq!((shop.stock(sku).await.held, shop.gate(sku).await), (2, Some(7)));
    assert!(!shop.origin().log().contains("ERROR"));
}
