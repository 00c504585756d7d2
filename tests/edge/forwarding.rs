//! What the edge passes on: signed, once, and nothing that a client could forge.

use farmgate_tests::shared::edge_auth::{
    HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_SIG, HEADER_SUBJECT, HEADER_TS, Signed,
};
use farmgate_tests::{Call, EdgeShop, Line, Problem, Seen, Shop, json};
use reqwest::Method;

/// That this request was signed by the tests' edge key over exactly what arrived.
#[track_caller]
fn is_signed(seen: &Seen) {
    let key = Shop::edge_key();
    assert_eq!(seen.header(HEADER_KID), key.kid);
    let signed = Signed {
        method: &seen.method,
        path_and_query: &seen.path,
        timestamp: seen.header(HEADER_TS),
        nonce: seen.header(HEADER_NONCE),
        body: &seen.body,
        subject: seen.header(HEADER_SUBJECT),
        client_ip: seen.header(HEADER_CLIENT_IP),
        request_id: seen.header("x-request-id"),
    };
    assert!(signed.verify(&key.secret, seen.header(HEADER_SIG)), "{seen:?}");
}

#[tokio::test]
async fn everything_that_reaches_the_origin_is_signed_once() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shop.phone.get("/api/products?size=3").await.data();
    let (product, _, _) = shop.shop.first_product().await;
    let order = shopper.order(product, 1).await;
    let path = format!("/api/orders/{}?x=%E8%8B%B9&y=a+b", order["order_id"]);
    let read = shopper.api.get(&path).await;

    let seen = shop.line.seen("/");
    for request in &seen {
        is_signed(request);
    }
    let mut nonces: Vec<&str> = seen.iter().map(|request| request.header(HEADER_NONCE)).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), seen.len(), "every request has a nonce of its own");

    let last = seen.last().unwrap();
    assert_eq!(
        (last.method.as_str(), last.path.as_str()),
        ("GET", path.as_str()),
        "path and query as they were sent"
    );
    assert_eq!(last.header(HEADER_SUBJECT), shopper.id.to_string());
    assert_eq!(
        last.header("x-request-id"),
        read.header("x-request-id"),
        "one id from the edge to the log and back"
    );
    let list = &shop.line.seen("/api/products")[0];
    assert_eq!(list.header(HEADER_SUBJECT), "", "a page for everybody is asked for by nobody");
}

#[tokio::test]
async fn a_client_cannot_speak_with_the_edges_voice() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shop.line.forget();
    let forged = [
        (HEADER_SUBJECT, "424242"),
        (HEADER_CLIENT_IP, "198.51.100.1"),
        (HEADER_SIG, "00"),
        (HEADER_NONCE, "0123456789abcdef"),
        ("x-edge-anything", "1"),
        ("x-request-id", "chosen-by-the-client"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-real-ip", "198.51.100.1"),
        ("cookie", "admin=1"),
        ("x-http-method-override", "DELETE"),
    ];
    let mut call = Call::get("/api/user/info");
    for (name, value) in forged {
        call = call.header(name, value);
    }
    let reply = shopper.api.send(call).await;
    assert_eq!(reply.data()["id"], json!(shopper.id));
    let seen = shop.line.seen("/api/user/info");
    is_signed(&seen[0]);
    for (name, value) in forged {
        assert_ne!(seen[0].header(name), value, "{name} came through");
    }
    assert!(
        reply
            .headers
            .keys()
            .all(|name| name.as_str() == "x-edge-cache" || !name.as_str().starts_with("x-edge-"))
    );
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_becomes_of_it() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    for line in [Line::Down, Line::Failing(502), Line::Failing(500)] {
        shop.line.forget();
        shop.line.set(line);
        let reply = shopper.api.post("/api/addresses", &shopper.address_body()).await;
        reply.fails_with(Problem::Unavailable);
        assert!(!reply.text().contains("gateway"), "{}", reply.text());
        assert_eq!(shop.line.seen("/api/addresses").len(), 1, "{line:?}");
        shopper.api.get("/api/user/info").await.fails_with(Problem::Unavailable);
    }
    shop.line.set(Line::Up);
    shopper.address().await;
}

#[tokio::test]
async fn what_the_client_needs_is_passed_on() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.shop.first_product().await;
    let address = shopper.address().await;
    let body = json!({"product_id": product, "quantity": 1, "address_id": address, "coupon_id": null});
    let first = shopper.api.send(Call::post("/api/orders", &body).idempotent("key-1")).await.data();
    let again = shopper.api.send(Call::post("/api/orders", &body).idempotent("key-1")).await.data();
    assert_eq!(first, again);
    let changed = json!({"product_id": product, "quantity": 2, "address_id": address, "coupon_id": null});
    let reply = shopper.api.send(Call::post("/api/orders", &changed).idempotent("key-1")).await;
    reply.fails_with(Problem::IdempotencyKeyReused);

    let path = format!("/api/addresses/{address}");
    shopper.api.put(&path, &shopper.address_body()).await.data();
    shopper.api.delete(&path).await.data();
    shopper.api.get(&path).await.fails_with(Problem::AddressNotFound);
}

#[tokio::test]
async fn pictures_need_no_token_and_may_be_kept() {
    let shop = EdgeShop::start().await;
    let page = shop.phone.get("/api/products").await.data();
    let picture = page["list"][0]["images"][0].as_str().unwrap();
    let path = &picture[picture.find("/static/").unwrap()..];
    let reply = shop.phone.get(path).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "image/webp"));
    assert!(reply.body.starts_with(b"RIFF"));
    assert!(reply.header("cache-control").contains("max-age="), "{:?}", reply.header("cache-control"));
    shop.phone.get("/static/demo/none.webp").await.fails_with(Problem::NotFound);
}

#[tokio::test]
async fn what_is_not_the_shops_is_not_there_and_not_asked_for() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shop.line.forget();
    for path in
        ["/", "/admin", "/admin/api/orders", "/readyz", "/metrics", "/api", "/.env", "/static/../admin"]
    {
        shopper.api.get(path).await.fails_with(Problem::NotFound);
    }
    for (method, path) in [
        ("DELETE", "/api/products"),
        ("POST", "/api/categories"),
        ("GET", "/api/user/login"),
        ("PUT", "/api/payments/wechat/notify"),
        ("PATCH", "/api/orders"),
    ] {
        let method: Method = method.parse().unwrap();
        let reply = shopper.api.send(Call::new(method, path)).await;
        reply.fails_with(Problem::MethodNotAllowed);
        assert!(!reply.header("allow").is_empty(), "{path}");
    }
    assert_eq!(shop.line.seen("/").len(), 0, "{:?}", shop.line.seen("/"));
    let health = shop.phone.get("/healthz").await;
    health.data();
}
