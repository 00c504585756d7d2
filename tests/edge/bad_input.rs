//! Bad input through the edge: the same replies as at the origin, and what the edge can tell by itself never gets there.

use farmgate_tests::{Call, EdgeShop, LONG, Problem, eventually, json};
use reqwest::Method;

#[tokio::test]
async fn a_two_megabyte_body_stops_at_the_edge() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shop.line.forget();
    let big = vec![b' '; 2 * 1024 * 1024];
    for (method, path) in [
        ("POST", "/api/orders"),
        ("POST", "/api/user/login"),
        ("PUT", "/api/addresses/1"),
        ("POST", "/api/payments/wechat/notify"),
    ] {
        let method: Method = method.parse().unwrap();
        let call = Call::new(method, path).raw("application/json", big.clone());
        // The edge does not read all of it for long, and one who sends slowly may find the line broken before the answer.
        let reply =
            eventually(LONG, "an answer", async || shopper.api.try_send(call.clone()).await.ok()).await;
        reply.fails_with(Problem::PayloadTooLarge);
    }
    assert_eq!(shop.line.seen("/").len(), 0);
    // The edge is none the worse for it.
    shopper.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn an_oversized_body_is_noticed_by_its_announcement() {
    let shop = EdgeShop::start().await;
    let most = farmgate_tests::shared::MAX_BODY_BYTES;
    shop.phone.announce("POST", "/api/user/login", most + 1).await.fails_with(Problem::PayloadTooLarge);
    let padded = format!("{{\"code\":1,\"x\":\"{}\"}}", "x".repeat(most - 17));
    assert_eq!(padded.len(), most);
    let call = Call::new(Method::POST, "/api/user/login").raw("application/json", padded);
    shop.phone.send(call).await.refuses_fields(&["code"]);
}

#[tokio::test]
async fn bad_input_gets_the_same_replies_as_at_the_origin() {
    let shop = EdgeShop::start().await;
    let (shopper, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, _, _) = shop.shop.first_product().await;
    let address = shopper.address().await;
    for body in ["{", "", "nul"] {
        let call = Call::new(Method::POST, "/api/orders").raw("application/json", body);
        shopper.api.send(call).await.fails_with(Problem::InvalidJson);
    }
    let text = Call::new(Method::POST, "/api/orders").raw("text/plain", "{}");
    shopper.api.send(text).await.fails_with(Problem::UnsupportedMediaType);
    for quantity in [json!(0), json!(-1), json!(1_000_000_000), json!(1.5), json!("2")] {
        let body = json!({"product_id": product, "quantity": quantity, "address_id": address});
        shopper.api.post("/api/orders", &body).await.refuses_fields(&["quantity"]);
    }
    shopper.try_order(999_999_999, 1, address).await.fails_with(Problem::ProductNotFound);
    stranger.try_order(product, 1, address).await.fails_with(Problem::AddressNotFound);
    let order = shopper.order(product, 1).await;
    let path = format!("/api/orders/{}", order["order_id"]);
    stranger.api.get(&path).await.fails_with(Problem::OrderNotFound);
    stranger.api.post(&format!("{path}/pay"), &json!({})).await.fails_with(Problem::OrderNotFound);
    for (query, field) in
        [("page=0", "page"), ("page=-1", "page"), ("page=abc", "page"), ("size=101", "size"), ("x=1", "x")]
    {
        shopper.api.get(&format!("/api/orders?{query}")).await.refuses_fields(&[field]);
    }
    shop.phone.post("/api/user/login", &json!({"code": ""})).await.refuses_fields(&["code"]);
}

#[tokio::test]
async fn odd_requests_do_not_break_the_edge() {
    let shop = EdgeShop::start().await;
    for path in [
        "/api/products?keyword=%FF%FE",
        "/api/products?keyword=%",
        "/api/products?%00=1",
        "/api/products/%FF",
        "/api/products?keyword='",
        "/api/trace/%00",
        "/%",
    ] {
        let reply = shop.phone.get(path).await;
        assert!((200..500).contains(&reply.status), "{path}: {} {}", reply.status, reply.text());
        reply.json();
    }
    let long = format!("/api/products?keyword={}", "a".repeat(8000));
    let status = shop.phone.get(&long).await.status;
    assert!((400..500).contains(&status), "{status}");
    let token = "Bearer \u{e9}\u{20ac}";
    let reply = shop.phone.send(Call::get("/api/user/info").header("authorization", token)).await;
    reply.fails_with(Problem::Unauthenticated);
    shop.phone.get("/api/products").await.data();
}
