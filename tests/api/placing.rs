//! `POST /api/orders` when it comes twice, and when it comes from everybody at once.

use std::collections::HashSet;

use farmgate_tests::{Call, LONG, Problem, Reply, Shop, ShopPlan, Shopper, Value, eventually, json};

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
async fn a_double_tap_without_a_key_is_one_order() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let body = seed_body(product, json!(1), shopper.address().await);
    let replies = at_once((0..5).map(|_| (shopper.clone(), Call::post("/api/orders", &body)))).await;
    let numbers: HashSet<String> = replies.iter().map(|reply| reply.data()["order_no"].to_string()).collect();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 1);
    // Something else is no double tap.
    let other = seed_body(product, json!(2), body["address_id"].as_i64().unwrap());
    shopper.api.post("/api/orders", &other).await.data();
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 2);
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

/// As many shoppers as asked for, each with a call that orders one of `product`.
async fn buyers(shop: &Shop, count: usize, product: i64) -> Vec<(Shopper, Call)> {
    let mut buyers = Vec::new();
    for buyer in 0..count {
        let shopper = shop.shopper(&format!("买家{buyer}")).await;
        let body = seed_body(product, json!(1), shopper.address().await);
        buyers.push((shopper, Call::post("/api/orders", &body).idempotent("one")));
    }
    buyers
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
async fn in_a_batch_that_asks_for_too_much_all_that_can_be_made_is_made() {
    // Without the worker there is no gate, so that MySQL alone refuses.
    let mut shop = ShopPlan::new().stock(5).start().await;
    let products: Vec<i64> =
        sqlx::query_scalar("SELECT MIN(product_id) FROM product_skus GROUP BY product_id LIMIT 2")
            .fetch_all(&shop.db)
            .await
            .unwrap();
    let mut calls = buyers(&shop, 30, products[0]).await;
    let address = |(shopper, call): &(Shopper, Call)| {
        let body: Value = call.json_body();
        (shopper.clone(), body["address_id"].as_i64().unwrap())
    };
    // Four of them want something else as well.
    for (shopper, address) in calls[..4].iter().map(address).collect::<Vec<_>>() {
        let body = seed_body(products[1], json!(1), address);
        calls.push((shopper, Call::post("/api/orders", &body).idempotent("two")));
    }
    let replies = at_once(calls.into_iter()).await;
    let (rush, others) = replies.split_at(30);
    assert!(others.iter().all(|reply| reply.status == 200), "they were not sold out");
    assert_eq!(rush.iter().filter(|reply| reply.status == 200).count(), 5);
    for refused in rush.iter().filter(|reply| reply.status != 200) {
        refused.fails_with(Problem::OutOfStock);
    }
    assert!(shop.origin().log().contains("writing its orders one by one"), "no batch was rolled back");
}

#[tokio::test]
async fn an_order_that_cannot_be_written_takes_no_other_with_it() {
    let shop = Shop::start().await;
    let (product, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let mut calls = buyers(&shop, 12, product).await;
    shop.change(
        "CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW \
         IF NEW.remark = 'never' THEN SIGNAL SQLSTATE '45000'; END IF -- ",
        0,
    )
    .await;
    let body = json!({"product_id": product, "quantity": 1, "address_id": calls[3].0.address().await, "remark": "never"});
    calls[3].1 = Call::post("/api/orders", &body).idempotent("one");
    let replies = at_once(calls.clone().into_iter()).await;
    for (index, reply) in replies.iter().enumerate() {
        if index == 3 {
            reply.fails_with(Problem::Internal);
        } else {
            reply.data();
        }
    }
    shop.change("DROP TRIGGER refuse -- ", 0).await;
    assert_eq!(shop.stock(sku).await.held, before.held + 11);
    let again = calls[3].0.send_order(calls[3].1.clone()).await;
    assert_eq!(again.status, 200, "{}", again.text());
}

#[tokio::test]
async fn what_was_sold_out_is_for_sale_again_when_stock_returns_elsewhere() {
    let mut shop = ShopPlan::new().stock(1).worker().start().await;
    let replica = shop.replica().await;
    let (product, _, _) = shop.first_product().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let order = first.order(product, 1).await;
    let address = second.address().await;
    for _ in 0..20 {
        second.try_order(product, 1, address).await.fails_with(Problem::OutOfStock);
    }
    // Cancelled at the other replica: this one is not told and finds out by itself.
    let path = format!("/api/orders/{}/cancel", order["order_id"]);
    first.through(&replica).api.post(&path, &json!({})).await.data();
    eventually(LONG, "the second shopper can buy it", async || {
        (second.try_order(product, 1, address).await.status == 200).then_some(())
    })
    .await;
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
