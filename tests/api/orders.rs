//! Orders: what is asked, what it costs, who may see it, and that stock is sold once.

use std::collections::HashSet;

use farmgate_tests::{Call, LONG, Problem, Shop, ShopPlan, Value, eventually, json};

use crate::placing::at_once;
use crate::{fen, has_keys, keys};

/// Freight as `config.default.toml` sets it, in fen.
pub const FLAT_FEN: i64 = 800;
pub const FREE_FROM_FEN: i64 = 5900;

/// The seed's own body.
pub fn seed_body(product: i64, quantity: Value, address: i64) -> Value {
    json!({"product_id": product, "quantity": quantity, "address_id": address, "coupon_id": null})
}

#[tokio::test]
async fn creating_an_order_is_the_seeds_to_the_letter() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, price) = shop.first_product().await;
    let before = shop.stock(sku).await;
    let address = shopper.address().await;

    let order = shopper.api.post("/api/orders", &seed_body(product, json!(2), address)).await.data();
    has_keys(
        &order,
        &["order_id", "order_no", "total_amount", "actual_amount", "delivery_fee", "pay_deadline"],
    );
    let goods = 2 * price;
    let freight = if goods >= FREE_FROM_FEN { 0 } else { FLAT_FEN };
    assert_eq!(fen(&order["total_amount"]), goods);
    assert_eq!(fen(&order["delivery_fee"]), freight);
    assert_eq!(fen(&order["actual_amount"]), goods + freight);
    let number = order["order_no"].as_str().unwrap();
    assert!((6..=32).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()), "{number}");
    assert!(order["pay_deadline"].as_str().unwrap().ends_with("+08:00"), "{order}");

    let after = shop.stock(sku).await;
    assert_eq!(
        (after.available, after.held, after.sold),
        (before.available - 2, before.held + 2, before.sold)
    );
}

#[tokio::test]
async fn an_order_shows_what_was_bought_and_where_it_goes() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, price) = shop.first_product().await;
    let address = shopper.address().await;
    let mut body = seed_body(product, json!(2), address);
    body["remark"] = json!("  请放门口 ");
    let made = shopper.api.post("/api/orders", &body).await.data();
    // The order keeps its own copy of the address.
    shopper.api.delete(&format!("/api/addresses/{address}")).await.data();

    let order = shopper.see(&made).await;
    assert_eq!((&order["id"], &order["order_no"]), (&made["order_id"], &made["order_no"]));
    assert_eq!((&order["status"], order["status_text"].as_str()), (&json!(0), Some("待付款")));
    assert_eq!(order["remark"], "请放门口");
    assert_eq!(fen(&order["discount_amount"]), 0);
    assert_eq!(fen(&order["actual_amount"]), fen(&made["actual_amount"]));
    assert!(order["payment_time"].is_null());
    assert!(order["created_at"].as_str().unwrap().ends_with("+08:00"));
    let item = &order["items"][0];
    assert_eq!(
        keys(item),
        ["amount", "image", "name", "price", "product_id", "quantity", "sku_id", "specifications"]
    );
    assert_eq!(
        (&item["product_id"], &item["sku_id"], &item["quantity"]),
        (&json!(product), &json!(sku), &json!(2))
    );
    assert_eq!((fen(&item["price"]), fen(&item["amount"])), (price, 2 * price));
    assert!(item["image"].as_str().unwrap().starts_with("http"));
    let to = &order["delivery_address"];
    assert_eq!(
        (to["name"].as_str(), to["phone"].as_str(), to["detail"].as_str()),
        (Some("小王"), Some("13800000000"), Some("果园路 1 号"))
    );
    assert_eq!(
        shopper.api.get("/api/orders").await.data(),
        json!({"list": [order], "total": 1, "page": 1, "size": 20})
    );
}

#[tokio::test]
async fn several_skus_go_in_one_order_and_equal_ones_are_added_up() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let skus: Vec<(i64, i64)> =
        sqlx::query_as("SELECT id, price_fen FROM product_skus WHERE status = 1 ORDER BY id LIMIT 3")
            .fetch_all(&shop.db)
            .await
            .unwrap();
    let [(a, price_a), (b, price_b), _] = skus[..] else { panic!("the demo shop has three SKUs") };
    let address = shopper.address().await;
    let body = json!({"address_id": address, "items": [
        {"sku_id": b, "quantity": 1}, {"sku_id": a, "quantity": 2}, {"sku_id": b, "quantity": 3},
    ]});
    let made = shopper.api.post("/api/orders", &body).await.data();
    assert_eq!(fen(&made["total_amount"]), 2 * price_a + 4 * price_b);
    let order = shopper.see(&made).await;
    let items: HashSet<(i64, i64)> = order["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["sku_id"].as_i64().unwrap(), item["quantity"].as_i64().unwrap()))
        .collect();
    assert_eq!(items, HashSet::from([(a, 2), (b, 4)]));
    for (field, bad) in [
        ("items", json!([])),
        ("items[0].quantity", json!([{"sku_id": a, "quantity": 0}])),
        ("items[0].sku_id", json!([{"sku_id": "1", "quantity": 1}])),
        ("items[1].quantity", json!([{"sku_id": a, "quantity": 999}, {"sku_id": a, "quantity": 1}])),
        ("items", json!((1..=51).map(|sku| json!({"sku_id": sku, "quantity": 1})).collect::<Vec<_>>())),
    ] {
        let body = json!({"address_id": address, "items": bad});
        shopper.api.post("/api/orders", &body).await.refuses_fields(&[field]);
    }
    let both = json!({"address_id": address, "product_id": 1, "quantity": 1, "items": [{"sku_id": a, "quantity": 1}]});
    shopper.api.post("/api/orders", &both).await.refuses_fields(&["items"]);
}

#[tokio::test]
async fn an_edit_counts_for_the_next_order_whatever_the_snapshot_knows() {
    // A snapshot that is never renewed.
    let shop = ShopPlan::new().setting("FARMGATE_CATALOG__REFRESH_MS", 3_600_000).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, price) = shop.first_product().await;
    let address = shopper.address().await;
    let by_product = json!({"address_id": address, "product_id": product, "quantity": 2});
    let by_sku = json!({"address_id": address, "items": [{"sku_id": sku, "quantity": 2}]});
    let edit = "BEGIN; UPDATE catalog_version SET version = version + 1; UPDATE product_skus SET ";
    for body in [&by_product, &by_sku] {
        let made = shopper.api.post("/api/orders", body).await.data();
        assert_eq!(fen(&made["total_amount"]), 2 * price);
    }
    shop.script(&format!("{edit} price_fen = {} WHERE id = {sku}; COMMIT", price + 7)).await;
    for body in [&by_product, &by_sku] {
        let call =
            Call::post("/api/orders", body).idempotent(&format!("edited-{}", body.get("items").is_some()));
        let made = shopper.send_order(call).await.data();
        assert_eq!(fen(&made["total_amount"]), 2 * (price + 7));
    }
    shop.script(&format!("{edit} status = 0 WHERE product_id = {product}; COMMIT")).await;
    for body in [&by_product, &by_sku] {
        let call =
            Call::post("/api/orders", body).idempotent(&format!("gone-{}", body.get("items").is_some()));
        shopper.send_order(call).await.fails_with(Problem::ProductNotFound);
    }
}

#[tokio::test]
async fn what_a_client_says_of_money_is_not_believed() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, price) = shop.first_product().await;
    let mut body = seed_body(product, json!(1), shopper.address().await);
    for lie in ["price", "total_amount", "actual_amount", "delivery_fee", "discount_amount"] {
        body[lie] = json!(0.01);
    }
    let reply = shopper.api.post("/api/orders", &body).await;
    // Refusing the lie by name would be as good; charging it would not.
    if reply.status == 200 {
        assert_eq!(fen(&reply.data()["total_amount"]), price);
    } else {
        reply.fails_with(Problem::InvalidParameter);
    }
    let charged = shop.count("SELECT COUNT(*) FROM orders WHERE total_amount < 1").await;
    assert_eq!(charged, 0);
}

#[tokio::test]
async fn a_quantity_is_one_to_999_and_whole() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let address = shopper.address().await;
    for bad in [
        json!(0),
        json!(-1),
        json!(1_000_000_000),
        json!(1000),
        json!(1.5),
        json!(2.0),
        json!("2"),
        json!([2]),
        json!(1e300),
    ] {
        shopper
            .api
            .post("/api/orders", &seed_body(product, bad, address))
            .await
            .refuses_fields(&["quantity"]);
    }
    for missing in ["quantity", "product_id", "address_id"] {
        let mut body = seed_body(product, json!(1), address);
        body.as_object_mut().unwrap().remove(missing);
        shopper.api.post("/api/orders", &body).await.refuses_fields(&[missing]);
    }
    for (field, bad) in [
        ("product_id", json!("1")),
        ("product_id", json!(-1)),
        ("address_id", json!(0)),
        ("address_id", json!({})),
        ("remark", json!("字".repeat(201))),
        ("coupon_id", json!("x")),
    ] {
        let mut body = seed_body(product, json!(1), address);
        body[field] = bad;
        shopper.api.post("/api/orders", &body).await.refuses_fields(&[field]);
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
}

#[tokio::test]
async fn what_is_not_there_or_not_yours_cannot_be_ordered() {
    let shop = Shop::start().await;
    let (shopper, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, _, _) = shop.first_product().await;
    let (own, others) = (shopper.address().await, stranger.address().await);
    let order = async |body: Value| shopper.api.post("/api/orders", &body).await;
    order(seed_body(999_999_999, json!(1), own)).await.fails_with(Problem::ProductNotFound);
    order(json!({"address_id": own, "items": [{"sku_id": 999_999_999, "quantity": 1}]}))
        .await
        .fails_with(Problem::ProductNotFound);
    order(seed_body(product, json!(1), others)).await.fails_with(Problem::AddressNotFound);
    order(seed_body(product, json!(1), 999_999_999)).await.fails_with(Problem::AddressNotFound);
    let mut with_coupon = seed_body(product, json!(1), own);
    with_coupon["coupon_id"] = json!(1);
    order(with_coupon).await.fails_with(Problem::CouponNotFound);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
}

#[tokio::test]
async fn another_users_order_is_not_found() {
    let shop = Shop::start().await;
    let (owner, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, _, _) = shop.first_product().await;
    let order = owner.order(product, 1).await;
    let path = format!("/api/orders/{}", order["order_id"]);
    stranger.api.get(&path).await.fails_with(Problem::OrderNotFound);
    stranger.api.post(&format!("{path}/pay"), &json!({})).await.fails_with(Problem::OrderNotFound);
    assert_eq!(stranger.api.get("/api/orders").await.data()["total"], json!(0));
    assert_eq!(shop.wechat.calls("/v3/").await.len(), 0, "WeChat is not asked on a stranger's behalf");
    for id in ["999999999", "0", "-1", "abc"] {
        owner.api.get(&format!("/api/orders/{id}")).await.fails_with(Problem::OrderNotFound);
    }
}

#[tokio::test]
async fn the_list_pages_and_narrows_to_a_state() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let mut numbers = Vec::new();
    for quantity in 1..=5 {
        numbers.push(shopper.order(product, quantity).await["order_no"].clone());
    }
    numbers.reverse();
    let mut seen = Vec::new();
    for page in 1..=3 {
        let part = shopper.api.get(&format!("/api/orders?size=2&page={page}")).await.data();
        assert_eq!((&part["total"], &part["page"], &part["size"]), (&json!(5), &json!(page), &json!(2)));
        seen.extend(part["list"].as_array().unwrap().iter().map(|order| order["order_no"].clone()));
    }
    assert_eq!(seen, numbers, "the newest first, each once");
    assert_eq!(shopper.api.get("/api/orders?status=0").await.data()["total"], json!(5));
    assert_eq!(shopper.api.get("/api/orders?status=1").await.data()["total"], json!(0));
    for (query, field) in [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=abc", "page"),
        ("size=101", "size"),
        ("status=7", "status"),
        ("status=a", "status"),
        ("user_id=1", "user_id"),
    ] {
        shopper.api.get(&format!("/api/orders?{query}")).await.refuses_fields(&[field]);
    }
}

#[tokio::test]
async fn the_gate_falls_with_an_order_and_rises_when_it_closes() {
    let shop = ShopPlan::new().worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let level = shop.gate(sku).await.unwrap();
    assert_eq!(level, i64::from(shop.stock(sku).await.available));
    let shopper = shop.shopper("小王").await;
    let order = shopper.order(product, 3).await;
    assert_eq!(shop.gate(sku).await, Some(level - 3));
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the unpaid order is cancelled", async || {
        (shopper.see(&order).await["status"] == json!(4)).then_some(())
    })
    .await;
    eventually(LONG, "the gate has the goods again", async || {
        (shop.gate(sku).await == Some(level)).then_some(())
    })
    .await;
    let stock = shop.stock(sku).await;
    assert_eq!((i64::from(stock.available), stock.held), (level, 0));
}

#[tokio::test]
async fn an_order_larger_than_the_stock_is_refused_whole() {
    let shop = ShopPlan::new().stock(3).start().await;
    let shopper = shop.shopper("小王").await;
    let skus: Vec<i64> = sqlx::query_scalar("SELECT sku_id FROM stock ORDER BY sku_id LIMIT 2")
        .fetch_all(&shop.db)
        .await
        .unwrap();
    let body = json!({"address_id": shopper.address().await, "items": [
        {"sku_id": skus[0], "quantity": 3}, {"sku_id": skus[1], "quantity": 4},
    ]});
    shopper.api.post("/api/orders", &body).await.fails_with(Problem::OutOfStock);
    for sku in skus {
        let stock = shop.stock(sku).await;
        assert_eq!((stock.available, stock.held), (3, 0), "all or nothing");
    }
}

#[tokio::test]
async fn without_redis_orders_go_on_by_mysql_alone_and_oversell_nothing() {
    let shop = ShopPlan::new().stock(3).redis_cable().worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let mut buyers = Vec::new();
    for buyer in 0..6 {
        let shopper = shop.shopper(&format!("买家{buyer}")).await;
        let address = shopper.address().await;
        buyers.push((shopper, Call::post("/api/orders", &seed_body(product, json!(1), address))));
    }
    shop.redis_cable().pull();
    let replies = at_once(buyers.into_iter()).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 3);
    for lost in replies.iter().filter(|reply| reply.status != 200) {
        lost.fails_with(Problem::OutOfStock);
    }
    // The gate missed three sales: it may cost the next buyer a refused insert, never a sale too many.
    shop.redis_cable().plug();
    let late = shop.shopper("迟到").await;
    late.try_order(product, 1, late.address().await).await.fails_with(Problem::OutOfStock);
    eventually(LONG, "the gate has learnt that nothing is left", async || {
        (shop.gate(sku).await == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_that_forgot_everything_is_filled_again() {
    let shop = ShopPlan::new().worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let shopper = shop.shopper("小王").await;
    shopper.order(product, 2).await;
    shop.forget_redis().await;
    eventually(LONG, "the gate shows what MySQL has", async || {
        (shop.gate(sku).await == Some(i64::from(shop.stock(sku).await.available))).then_some(())
    })
    .await;
    shopper.order(product, 3).await;
}

#[tokio::test]
async fn freight_is_flat_below_a_sum_and_free_from_it() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    for (price, freight) in [(FREE_FROM_FEN - 1, FLAT_FEN), (FREE_FROM_FEN, 0)] {
        sqlx::query("UPDATE product_skus SET price_fen = ? WHERE id = ?")
            .bind(price)
            .bind(sku)
            .execute(&shop.db)
            .await
            .unwrap();
        sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&shop.db).await.unwrap();
        let order = eventually(LONG, "the order has the new price", async || {
            let order = shopper.order(product, 1).await;
            (fen(&order["total_amount"]) == price).then_some(order)
        })
        .await;
        assert_eq!((fen(&order["delivery_fee"]), fen(&order["actual_amount"])), (freight, price + freight));
    }
}
