//! What the edge passes on: signed, once, and nothing that a client could forge.

use farmgate_tests::shared::edge_auth::{
    HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_SIG, HEADER_SUBJECT, HEADER_TS, Signed,
};
use farmgate_tests::{Call, EdgeShop, Line, Problem, Seen, Shop, ShopPlan, json};
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

/// A client's request with every header that somebody could think of.
fn loaded(method: Method, path: &str) -> Call {
    let mut call = Call::new(method, path);
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-language", "zh-CN"),
        ("content-type", "application/json"),
        ("idempotency-key", "key-1"),
        ("if-none-match", "\"none\""),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("range", "bytes=0-3"),
        ("referer", "https://servicewechat.com/"),
        ("origin", "https://elsewhere.example"),
        ("user-agent", "phone"),
        ("wechatpay-serial", "S1"),
        ("wechatpay-signature", "AAAA"),
        ("x-anything", "1"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-requested-with", "XMLHttpRequest"),
        ("cookie", "a=1"),
    ] {
        call = call.header(name, value);
    }
    call
}

#[tokio::test]
async fn each_kind_of_request_takes_its_own_headers_along_and_no_other() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let always = ["accept", "content-type", "user-agent"];
    let signed = [HEADER_KID, HEADER_NONCE, HEADER_SIG, HEADER_TS, "x-request-id"];
    let table: [(Method, &str, &[&str]); 6] = [
        (Method::POST, "/api/user/login", &[]),
        (Method::GET, "/.well-known/jwks.json", &[]),
        (Method::GET, "/static/demo/1f34e.webp", &["if-modified-since", "if-none-match", "range"]),
        (Method::POST, "/api/payments/wechat/notify", &["wechatpay-serial", "wechatpay-signature"]),
        (Method::GET, "/api/user/info", &["authorization", "idempotency-key", HEADER_SUBJECT]),
        (Method::POST, "/api/addresses", &["authorization", "idempotency-key", HEADER_SUBJECT]),
    ];
    for (method, path, own) in table {
        shop.line.forget();
        shopper.api.send(loaded(method.clone(), path)).await;
        let seen = shop.line.seen(path);
        assert_eq!(seen.len(), 1, "{path}");
        is_signed(&seen[0]);
        let mut names: Vec<&str> = seen[0].headers.keys().map(|name| name.as_str()).collect();
        // The host's own words about the connection.
        names.retain(|name| {
            !["host", "connection", "content-length", "accept-encoding", "transfer-encoding"].contains(name)
        });
        names.sort_unstable();
        let mut expected = [&always[..], &signed[..], own].concat();
        expected.sort_unstable();
        assert_eq!(names, expected, "{method} {path}");
    }
    // A page for everybody is asked for in the edge's own words.
    shop.line.forget();
    shopper.api.send(loaded(Method::GET, "/api/categories")).await;
    let seen = shop.line.seen("/api/categories");
    assert_eq!(seen.len(), 1);
    is_signed(&seen[0]);
    for name in ["authorization", "user-agent", "if-none-match", "cookie", "x-anything", HEADER_SUBJECT] {
        assert_ne!(seen[0].header(name), "phone", "{name}");
        assert!(name == "user-agent" || seen[0].header(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_reply_brings_back_what_a_client_needs_and_no_more() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let back = [
        ("etag", "\"e\""),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("retry-after", "7"),
        ("allow", "GET"),
    ];
    let stays = [
        ("set-cookie", "a=1"),
        ("server", "origin/1"),
        ("x-powered-by", "origin"),
        ("x-catalog-version", "7"),
        ("x-edge-kid", "k"),
        ("x-internal-host", "10.0.0.7"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("strict-transport-security", "max-age=1"),
        ("x-request-id", "another"),
        ("www-authenticate", "Basic"),
    ];
    shop.line.adorn(&[&back[..], &stays[..]].concat());
    for reply in [
        shopper.api.get("/api/user/info").await,
        shopper.api.get("/api/orders/999999").await,
        shop.phone.get("/static/demo/none.webp").await,
        shop.phone.post("/api/payments/wechat/notify", &json!({})).await,
    ] {
        for (name, value) in back {
            assert_eq!(reply.header(name), value, "{}: {name}", reply.asked);
        }
        for (name, value) in stays {
            assert_ne!(reply.header(name), value, "{}: {name} came through", reply.asked);
        }
        assert!(reply.header("cache-control").contains("no-store"), "{}", reply.asked);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{}", reply.asked);
    }
}

#[tokio::test]
async fn a_clients_address_is_what_the_host_says_and_nothing_that_the_client_says() {
    let proxied = [("CLIENT_IP_HEADER", "X-Real-IP")];
    let shop = EdgeShop::plan_with(ShopPlan::new(), &proxied).await;
    let shopper = shop.shopper("小王").await;
    let spoofs = [
        ("x-forwarded-for", "198.51.100.1"),
        ("cf-connecting-ip", "198.51.100.2"),
        ("forwarded", "for=198.51.100.3"),
        (HEADER_CLIENT_IP, "198.51.100.4"),
        ("true-client-ip", "198.51.100.5"),
    ];
    for (given, expected) in [
        (Some("203.0.113.9"), "203.0.113.9"),
        (Some("2001:DB8::1"), "2001:db8::1"),
        (Some("203.0.113.9, 10.0.0.1"), ""),
        (Some("unknown"), ""),
        (None, ""),
    ] {
        shop.line.forget();
        let mut call = Call::get("/api/user/info");
        for (name, value) in spoofs {
            call = call.header(name, value);
        }
        if let Some(given) = given {
            call = call.header("x-real-ip", given);
        }
        shopper.api.send(call).await.data();
        let seen = &shop.line.seen("/api/user/info")[0];
        is_signed(seen);
        assert_eq!(seen.header(HEADER_CLIENT_IP), expected, "{given:?}");
    }
}

#[tokio::test]
async fn one_id_names_a_request_at_the_edge_in_the_reply_and_in_the_origins_log() {
    let mut shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let reply =
        shopper.api.send(Call::get("/api/orders/999999").header("x-request-id", "my-own-choice")).await;
    let body = reply.fails_with(Problem::OrderNotFound);
    let id = body["request_id"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("x-request-id"), id);
    assert_ne!(id, "my-own-choice");
    assert_eq!(shop.line.seen("/api/orders/999999")[0].header("x-request-id"), id);
    let refused_here = shop.phone.get("/api/orders/999999").await.fails_with(Problem::Unauthenticated);
    assert_ne!(refused_here["request_id"], json!(id), "each request has its own");
    let log = shop.shop.origin().log();
    let line = log.lines().find(|line| line.contains(&id));
    let line = line.unwrap_or_else(|| panic!("the origin's log does not name {id}:\n{log}"));
    assert!(line.contains("order_not_found") && line.contains("/api/orders/{id}"), "{line}");
    assert!(!log.contains("my-own-choice"));
}

#[tokio::test]
async fn what_the_edge_sent_cannot_be_sent_again() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shopper.address().await;
    let seen = shop.line.seen("/api/addresses")[0].clone();
    let mut replay = Call { body: seen.body.to_vec(), ..Call::new(Method::POST, &seen.path) };
    for (name, value) in &seen.headers {
        if !["host", "content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
            replay = replay.header(name.as_str(), value.to_str().unwrap());
        }
    }
    let thief = shop.shop.call_origin(&shop.shop.origin_url).unsigned();
    thief.send(replay).await.fails_with(Problem::EdgeSignatureRequired);
    assert_eq!(shop.shop.count("SELECT COUNT(*) FROM addresses").await, 1);
}
