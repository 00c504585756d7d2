//! Orders with coupons: what is taken off, that a coupon is spent on one order, and that it comes back.

use std::collections::HashSet;
use std::time::Duration;

use farmgate_tests::{Call, LONG, Problem, Reply, Shop, ShopPlan, Shopper, Value, eventually, json};

use crate::batches::largest_rolled_back;
use crate::coupons::{claim, issue};
use crate::fen;
use crate::orders::{FLAT_FEN, FREE_FROM_FEN};
use crate::placing::at_once;

/// An order of one product, paid in part with a coupon.
fn body(product: i64, quantity: i64, address: i64, coupon: &Value) -> Value {
    json!({"product_id": product, "quantity": quantity, "address_id": address, "coupon_id": coupon["id"]})
}

async fn order(shopper: &Shopper, product: i64, quantity: i64, coupon: &Value) -> Reply {
    shopper.api.post("/api/orders", &body(product, quantity, shopper.address().await, coupon)).await
}

/// The coupon's state as its shopper sees it.
async fn status(shopper: &Shopper, coupon: &Value) -> String {
    let mine = shopper.api.get("/api/coupons/mine?size=100").await.data();
    let found = mine["list"].as_array().unwrap().iter().find(|held| held["id"] == coupon["id"]);
    found.expect("the shopper holds the coupon")["status"].as_str().unwrap().to_owned()
}

async fn cancel(shopper: &Shopper, order: &Value) {
    shopper.api.post(&format!("/api/orders/{}/cancel", order["order_id"]), &json!({})).await.data();
}

#[tokio::test]
async fn a_coupon_reduces_what_is_paid_and_wechat_asks_for_that() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, price) = shop.first_product().await;
    let coupon = claim(&shopper, issue(&shop, "").await).await;
    let quantity = 2;
    let goods = quantity * price;
    assert!((3000..FREE_FROM_FEN).contains(&goods), "the usual coupon is for this order");

    let made = order(&shopper, product, quantity, &coupon).await.data();
    let amounts = |order: &Value| {
        ["total_amount", "discount_amount", "delivery_fee", "actual_amount"].map(|name| fen(&order[name]))
    };
    let expected = [goods, 500, FLAT_FEN, goods - 500 + FLAT_FEN];
    assert_eq!(amounts(&made), expected);
    assert_eq!(amounts(&shopper.see(&made).await), expected);
    assert_eq!(status(&shopper, &coupon).await, "used");
    shopper.prepay(&made).await;
    let asked = shop.wechat.calls("/v3/pay/transactions/jsapi").await;
    assert_eq!(asked[0]["body"]["amount"]["total"], goods - 500 + FLAT_FEN);
    shop.wechat.pay(made["order_no"].as_str().unwrap()).await;
    assert_eq!(shopper.see(&made).await["status"], 1);
    assert_eq!(status(&shopper, &coupon).await, "used");
    order(&shopper, product, quantity, &coupon).await.fails_with(Problem::CouponUsed);
}

#[tokio::test]
async fn the_lines_in_scope_share_the_discount_to_the_last_fen() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let skus: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT s.id, s.price_fen, p.category_id FROM product_skus s JOIN products p ON p.id = s.product_id
         JOIN stock k ON k.sku_id = s.id WHERE k.available > 3 ORDER BY p.category_id <> 1, s.id",
    )
    .fetch_all(&shop.db)
    .await
    .unwrap();
    let fruit: Vec<&(i64, i64, i64)> =
        skus.iter().filter(|(_, _, category)| *category == 1).take(2).collect();
    let other = skus.iter().find(|(_, _, category)| *category != 1).unwrap();
    let in_scope = fruit[0].1 + 3 * fruit[1].1;
    let terms = "kind = 'percent'; reduction = 7; cap_fen = 100000; threshold_fen = 0; scope = 'category'; scope_id = 1";
    let coupon = claim(&shopper, issue(&shop, terms).await).await;
    let body = json!({"address_id": shopper.address().await, "coupon_id": coupon["id"], "items": [
        {"sku_id": other.0, "quantity": 2}, {"sku_id": fruit[0].0, "quantity": 1}, {"sku_id": fruit[1].0, "quantity": 3},
    ]});
    let made = shopper.api.post("/api/orders", &body).await.data();
    let discount = (in_scope * 7 + 99) / 100;
    assert_eq!(fen(&made["discount_amount"]), discount, "a started fen is the shopper's");
    let shares: Vec<(i64, i64)> =
        sqlx::query_as("SELECT sku_id, discount_fen FROM order_items ORDER BY discount_fen")
            .fetch_all(&shop.db)
            .await
            .unwrap();
    assert_eq!(shares[0], (other.0, 0));
    assert!(shares[1..].iter().all(|(_, share)| *share > 0), "{shares:?}");
    assert_eq!(shares.iter().map(|(_, share)| share).sum::<i64>(), discount);
}

#[tokio::test]
async fn a_coupon_that_is_not_for_this_order_is_refused_and_stays() {
    let shop = Shop::start().await;
    let (shopper, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, sku, price) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let usual = issue(&shop, "").await;
    let coupon = claim(&shopper, usual).await;
    assert!(price < 3000);
    order(&shopper, product, 1, &coupon).await.fails_with(Problem::CouponNotApplicable);
    let elsewhere = issue(&shop, "threshold_fen = 0; scope = 'product'; scope_id = 2").await;
    let elsewhere = claim(&shopper, elsewhere).await;
    order(&shopper, product, 2, &elsewhere).await.fails_with(Problem::CouponNotApplicable);
    // Another's, one that does not exist, and the id of what was claimed instead of what is held.
    order(&other, product, 2, &coupon).await.fails_with(Problem::CouponNotFound);
    order(&shopper, product, 2, &json!({"id": 999_999})).await.fails_with(Problem::CouponNotFound);
    let later =
        issue(&shop, "valid_days = NULL; valid_from = '2099-01-01'; valid_until = '2099-02-01'").await;
    let later = claim(&shopper, later).await;
    order(&shopper, product, 2, &later).await.fails_with(Problem::CouponNotValidNow);
    shop.change(
        "UPDATE user_coupons SET valid_from = '2025-01-01', valid_until = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE id = ",
        coupon["id"].as_i64().unwrap(),
    )
    .await;
    order(&shopper, product, 2, &coupon).await.fails_with(Problem::CouponNotValidNow);
    for bad in [json!("1"), json!(0), json!(-1), json!(1.5)] {
        order(&shopper, product, 2, &json!({"id": bad})).await.refuses_fields(&["coupon_id"]);
    }
    assert_eq!(shop.stock(sku).await, before);
    assert_eq!(shop.count("SELECT COUNT(*) FROM user_coupons WHERE order_id IS NOT NULL").await, 0);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
}

#[tokio::test]
async fn the_terms_that_were_claimed_are_the_ones_that_count() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let usual = issue(&shop, "").await;
    let coupon = claim(&shopper, usual).await;
    shop.change("UPDATE coupons SET reduction = 1, threshold_fen = 999999, status = 0 WHERE id = ", usual)
        .await;
    let made = order(&shopper, product, 2, &coupon).await.data();
    assert_eq!(fen(&made["discount_amount"]), 500);
}

#[tokio::test]
async fn free_delivery_looks_at_the_goods_before_the_discount_and_one_fen_is_left_to_pay() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, price) = shop.first_product().await;
    let quantity = (FREE_FROM_FEN + price - 1) / price;
    let goods = quantity * price;
    let coupon = claim(&shopper, issue(&shop, "reduction = 2000").await).await;
    assert!(goods - 2000 < FREE_FROM_FEN);
    let made = order(&shopper, product, quantity, &coupon).await.data();
    assert_eq!((fen(&made["delivery_fee"]), fen(&made["actual_amount"])), (0, goods - 2000));

    let all = issue(&shop, "reduction = 1000000; per_user = 2").await;
    let made = order(&shopper, product, quantity, &claim(&shopper, all).await).await.data();
    assert_eq!((fen(&made["discount_amount"]), fen(&made["actual_amount"])), (goods - 1, 1));
    shopper.prepay(&made).await;
    // With delivery to pay, all of the goods can be taken off and no more.
    let second =
        shopper.api.send(Call::post(&format!("/api/coupons/{all}/claim"), &json!({})).idempotent("2"));
    let made = order(&shopper, product, 2, &second.await.data()).await.data();
    assert_eq!((fen(&made["discount_amount"]), fen(&made["actual_amount"])), (2 * price, FLAT_FEN));
}

#[tokio::test]
async fn one_coupon_in_many_orders_at_once_is_spent_on_one() {
    let mut shop = Shop::start().await;
    let replicas = [shop.api.clone(), shop.replica().await, shop.replica().await];
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let address = shopper.address().await;
    for round in 0..5 {
        let coupon = claim(&shopper, issue(&shop, "").await).await;
        let calls = (0..9).map(|number| {
            let call = Call::post("/api/orders", &body(product, 2, address, &coupon));
            (shopper.through(&replicas[number % 3]), call.idempotent(&format!("{round}-{number}")))
        });
        let replies = at_once(calls).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
        for refused in replies.iter().filter(|reply| reply.status != 200) {
            refused.fails_with(Problem::CouponUsed);
        }
    }
    assert_eq!(shop.stock(sku).await.held, before.held + 10);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 5);
}

#[tokio::test]
async fn equal_requests_with_a_coupon_at_three_replicas_all_get_the_one_order() {
    let mut shop = Shop::start().await;
    let replicas = [shop.api.clone(), shop.replica().await, shop.replica().await];
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let address = shopper.address().await;
    for round in 0..5 {
        let coupon = claim(&shopper, issue(&shop, "").await).await;
        let call =
            Call::post("/api/orders", &body(product, 2, address, &coupon)).idempotent(&round.to_string());
        let replies = at_once((0..15).map(|n| (shopper.through(&replicas[n % 3]), call.clone()))).await;
        let first = replies[0].data();
        assert!(replies.iter().all(|reply| reply.data() == first), "all get the one reply");
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 5);
}

#[tokio::test]
async fn a_cancelled_order_gives_its_coupon_back_and_so_does_one_whose_time_is_over() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let coupon = claim(&shopper, issue(&shop, "").await).await;
    let cancelled = order(&shopper, product, 2, &coupon).await.data();
    cancel(&shopper, &cancelled).await;
    assert_eq!(status(&shopper, &coupon).await, "unused");
    assert_eq!(
        fen(&shopper.see(&cancelled).await["discount_amount"]),
        500,
        "what was once asked stays readable"
    );

    let overdue = order(&shopper, product, 2, &coupon).await.data();
    // A second cancel of the first order must not free what the second one has spent.
    cancel(&shopper, &cancelled).await;
    assert_eq!(status(&shopper, &coupon).await, "used");
    shop.let_time_run_out(&overdue).await;
    eventually(LONG, "the overdue order is closed", async || {
        (shopper.see(&overdue).await["status"] == 4).then_some(())
    })
    .await;
    assert_eq!(status(&shopper, &coupon).await, "unused");

    let last = order(&shopper, product, 2, &coupon).await.data();
    shop.change(
        "UPDATE user_coupons SET valid_from = '2025-01-01', valid_until = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE id = ",
        coupon["id"].as_i64().unwrap(),
    )
    .await;
    cancel(&shopper, &last).await;
    assert_eq!(
        status(&shopper, &coupon).await,
        "expired",
        "it comes back, and validity is judged at its use"
    );
}

#[tokio::test]
async fn orders_without_a_coupon_never_touch_the_coupons() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    // Any statement about it fails now.
    shop.change("RENAME TABLE user_coupons TO hidden_coupons -- ", 0).await;
    let made = shopper.order(product, 2).await;
    shop.change("RENAME TABLE hidden_coupons TO user_coupons -- ", 0).await;
    assert_eq!(fen(&made["discount_amount"]), 0);
}

/// Shoppers with a coupon each, and the orders that they would make with it.
async fn holders(shop: &Shop, count: usize, product: i64) -> Vec<(Shopper, Call, Value)> {
    let usual = issue(shop, "").await;
    let mut holders = Vec::new();
    for number in 0..count {
        let shopper = shop.shopper(&format!("持券{number}")).await;
        let coupon = claim(&shopper, usual).await;
        let body = body(product, 2, shopper.address().await, &coupon);
        holders.push((shopper, Call::post("/api/orders", &body).idempotent("one"), coupon));
    }
    holders
}

#[tokio::test]
async fn many_coupons_in_one_batch_go_to_their_own_orders() {
    let shop = Shop::start().await;
    let (product, ..) = shop.first_product().await;
    let holders = holders(&shop, 24, product).await;
    let replies = at_once(holders.iter().map(|(shopper, call, _)| (shopper.clone(), call.clone()))).await;
    let orders: HashSet<i64> =
        replies.iter().map(|reply| reply.data()["order_id"].as_i64().unwrap()).collect();
    assert_eq!(orders.len(), 24);
    for ((shopper, _, coupon), reply) in holders.iter().zip(&replies) {
        let mine = shopper.api.get("/api/coupons/mine?status=used").await.data();
        assert_eq!(mine["list"][0]["id"], coupon["id"]);
        assert_eq!(mine["list"][0]["order_id"], reply.data()["order_id"]);
    }
}

#[tokio::test]
async fn a_batch_with_a_coupon_that_cannot_be_spent_takes_no_neighbours_along() {
    const NEIGHBOURS: usize = 10;
    /// The writer's, and the one that stands in for those that are stuck.
    const LANES: usize = 3;
    let mut shop = ShopPlan::new().stock(100).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let holders = holders(&shop, 1 + LANES, product).await;
    let mut calls = Vec::new();
    for number in 0..NEIGHBOURS {
        let shopper = shop.shopper(&format!("买家{number}")).await;
        let body = crate::orders::seed_body(product, json!(1), shopper.address().await);
        calls.push((shopper, Call::post("/api/orders", &body).idempotent("one")));
    }
    // Ends the coupons, and does not say so yet: the orders' first look finds them good.
    let mut ending = shop.db.begin().await.unwrap();
    sqlx::query("UPDATE user_coupons SET valid_from = '2025-01-01', valid_until = '2025-02-01'")
        .execute(&mut *ending)
        .await
        .unwrap();
    let send = |(shopper, call, _): &(Shopper, Call, Value)| {
        let (shopper, call) = (shopper.clone(), call.clone());
        tokio::spawn(async move { shopper.send_order(call).await })
    };
    // One order each fills the writer's lanes and waits there …
    let mut refused = Vec::new();
    for waiting in 1..=LANES {
        refused.push(send(&holders[waiting - 1]));
        eventually(LONG, "an order waits for its coupon", async || {
            // MySQL shows a copy of this table until nobody has looked for 100 ms.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let so_far =
                "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p
                 ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND t.trx_state = 'LOCK WAIT'";
            (shop.count_connections(so_far).await == i64::try_from(waiting).ok()).then_some(())
        })
        .await;
    }
    // … so that the last one and its neighbours come together.
    refused.push(send(&holders[LANES]));
    let made = tokio::spawn(at_once(calls.into_iter()));
    let left = 100 - i64::try_from(2 * (1 + LANES)).unwrap() - i64::try_from(NEIGHBOURS).unwrap();
    eventually(LONG, "all have passed the gate", async || (shop.gate(sku).await == Some(left)).then_some(()))
        .await;
    ending.commit().await.unwrap();

    for reply in refused {
        reply.await.unwrap().fails_with(Problem::CouponNotValidNow);
    }
    for reply in made.await.unwrap() {
        reply.data();
    }
    let together = largest_rolled_back(&shop.origin().log());
    assert!(together > Some(1), "no batch of several orders was rolled back: {together:?}");
    let stock = shop.stock(sku).await;
    assert_eq!(usize::try_from(stock.held), Ok(NEIGHBOURS));
    eventually(LONG, "the gate has what the refused orders took", async || {
        (shop.gate(sku).await == Some(i64::from(stock.available))).then_some(())
    })
    .await;
}
