//! `POST /api/orders` from many at once: orders that come together are written together, and what is wrong with one of them
//! is that one's alone.

use std::collections::HashSet;

use farmgate_tests::{Call, LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json};

use crate::orders::seed_body;
use crate::placing::at_once;

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

/// How many orders the largest batch had that the origin rolled back.
pub fn largest_rolled_back(log: &str) -> Option<usize> {
    let rolled_back = log.lines().filter(|line| line.contains("writing its orders one by one"));
    rolled_back.filter_map(|line| line.split("orders=").nth(1)?.trim().parse().ok()).max()
}

/// Waits until a batch of several orders is written and waits for its stock, of which nothing is committed.
async fn until_several_wait_together(shop: &Shop) {
    eventually(LONG, "several orders are written in one transaction", async || {
        (shop.most_by_one_writer().await > 1).then_some(())
    })
    .await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
}

#[tokio::test]
async fn orders_that_come_together_share_a_commit() {
    const BUYERS: usize = 24;
    let mut shop = ShopPlan::new().stock(50).start().await;
    let (product, sku, _) = shop.first_product().await;
    let calls = buyers(&shop, BUYERS, product).await;
    shop.note_writers().await;
    let lock = shop.lock_stock(sku).await;
    let replies = tokio::spawn(at_once(calls.into_iter()));
    until_several_wait_together(&shop).await;
    lock.rollback().await.unwrap();
    let numbers: HashSet<String> =
        replies.await.unwrap().iter().map(|reply| reply.data()["order_no"].to_string()).collect();
    assert_eq!(numbers.len(), BUYERS);
    assert_eq!(usize::try_from(shop.stock(sku).await.held), Ok(BUYERS));
    assert_eq!(usize::try_from(shop.count("SELECT COUNT(*) FROM writers").await), Ok(BUYERS), "each once");
    assert_eq!(largest_rolled_back(&shop.origin().log()), None);
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
    let sku: i64 = sqlx::query_scalar("SELECT MIN(id) FROM product_skus WHERE product_id = ?")
        .bind(products[0])
        .fetch_one(&shop.db)
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
    shop.note_writers().await;
    let lock = shop.lock_stock(sku).await;
    let replies = tokio::spawn(at_once(calls.into_iter()));
    until_several_wait_together(&shop).await;
    lock.rollback().await.unwrap();
    let replies = replies.await.unwrap();
    let (rush, others) = replies.split_at(30);
    assert!(others.iter().all(|reply| reply.status == 200), "they were not sold out");
    assert_eq!(rush.iter().filter(|reply| reply.status == 200).count(), 5);
    for refused in rush.iter().filter(|reply| reply.status != 200) {
        refused.fails_with(Problem::OutOfStock);
    }
    let together = largest_rolled_back(&shop.origin().log());
    assert!(together > Some(1), "no batch of several orders was rolled back: {together:?}");
}

#[tokio::test]
async fn an_order_that_cannot_be_written_takes_no_other_with_it() {
    const OTHERS: usize = 16;
    /// The writer's lanes, and the one that stands in for those that are stuck.
    const LANES: usize = 3;
    let mut shop = ShopPlan::new().worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let (before, level) = (shop.stock(sku).await, shop.gate(sku).await.unwrap());
    let mut calls = buyers(&shop, 1 + OTHERS, product).await;
    shop.change(
        "CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW \
         IF NEW.remark = 'never' THEN SIGNAL SQLSTATE '45000'; END IF -- ",
        0,
    )
    .await;
    let body = json!({"product_id": product, "quantity": 1, "address_id": calls[3].0.address().await, "remark": "never"});
    calls[3].1 = Call::post("/api/orders", &body).idempotent("one");
    // In each lane an order waits for its stock, so that all others come together.
    let lock = shop.lock_stock(sku).await;
    let mut under_way = Vec::new();
    for waiting in 1..=LANES {
        under_way.push(tokio::spawn(at_once([calls[waiting - 1].clone()].into_iter())));
        eventually(LONG, "an order waits for its stock", async || {
            (shop.waiting_for_stock().await == i64::try_from(waiting).ok()).then_some(())
        })
        .await;
    }
    // The one that cannot be written waits the longest, so that it is surely there when the lock goes.
    for (calls, taken) in [(&calls[3..=3], LANES + 1), (&calls[4..], 1 + OTHERS)] {
        let calls = calls.to_vec();
        under_way.push(tokio::spawn(at_once(calls.into_iter())));
        let left = level - i64::try_from(taken).unwrap();
        eventually(LONG, "they have passed the gate", async || {
            (shop.gate(sku).await == Some(left)).then_some(())
        })
        .await;
    }
    lock.rollback().await.unwrap();
    let mut replies = Vec::new();
    for some in under_way {
        replies.extend(some.await.unwrap());
    }
    let together = largest_rolled_back(&shop.origin().log());
    assert!(together > Some(1), "no batch of several orders was rolled back: {together:?}");
    for (index, reply) in replies.iter().enumerate() {
        if index == 3 {
            reply.fails_with(Problem::Internal);
        } else {
            reply.data();
        }
    }
    shop.change("DROP TRIGGER refuse -- ", 0).await;
    assert_eq!(usize::try_from(shop.stock(sku).await.held - before.held), Ok(OTHERS));
    let again = calls[3].0.send_order(calls[3].1.clone()).await;
    assert_eq!(again.status, 200, "{}", again.text());
}
