//! What one client may ask of the edge: counted by the host where it can, by the isolate where it cannot.

use farmgate_tests::{Call, Caller, EdgeShop, Line, Problem, Reply, ShopPlan, Shopper, json};

/// So slow that nothing comes back within a test.
const THREE: &str = "1/h burst 3";
/// The header in which the test, as a proxy would, gives the client's address.
const PROXY: (&str, &str) = ("CLIENT_IP_HEADER", "x-real-ip");

async fn shop(variables: &[(&str, &str)]) -> EdgeShop {
    EdgeShop::plan_with(ShopPlan::new(), variables).await
}

async fn from(caller: &Caller, client_ip: &str, call: Call) -> Reply {
    caller.send(call.header("x-real-ip", client_ip)).await
}

#[tokio::test]
async fn a_busy_shopper_is_stopped_at_the_edge_and_the_others_are_not() {
    let shop = shop(&[("LOCAL_LIMIT_USER", THREE)]).await;
    let (busy, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    for _ in 0..3 {
        busy.api.get("/api/user/info").await.data();
    }
    shop.line.forget();
    for path in ["/api/user/info", "/api/orders"] {
        busy.api.get(path).await.is_limited();
    }
    busy.api.post("/api/addresses", &busy.address_body()).await.is_limited();
    assert_eq!(shop.line.seen("/").len(), 0, "the origin was asked");
    other.api.get("/api/user/info").await.data();
    busy.api.get("/api/products").await.data();
}

#[tokio::test]
async fn a_flood_of_forged_tokens_is_stopped_by_its_address_before_they_are_looked_at() {
    let shop = shop(&[("LOCAL_LIMIT_ADDRESS", "1/h burst 6"), PROXY]).await;
    // Kept in memory from here on.
    shop.phone.get("/api/products").await.data();
    let forged = shop.phone.with_token("forged");
    let info = || Call::get("/api/user/info");
    for _ in 0..6 {
        from(&forged, "203.0.113.1", info()).await.fails_with(Problem::Unauthenticated);
    }
    // What else the client says of its address changes nothing.
    for name in ["x-forwarded-for", "cf-connecting-ip", "x-edge-client-ip", "forwarded"] {
        from(&forged, "203.0.113.1", info().header(name, "198.51.100.1")).await.is_limited();
    }
    from(&forged, "203.0.113.2", info()).await.fails_with(Problem::Unauthenticated);
    shop.line.forget();
    from(&shop.phone, "203.0.113.1", Call::get("/api/products?page=7")).await.is_limited();
    from(&shop.phone, "203.0.113.1", Call::get("/static/demo/none.webp")).await.is_limited();
    from(&shop.phone, "203.0.113.1", Call::get("/.well-known/jwks.json")).await.is_limited();
    assert!(shop.line.seen("/static").is_empty() && shop.line.seen("/api/products?page=7").is_empty());
    from(&shop.phone, "203.0.113.1", Call::get("/api/products")).await.data();
    from(&shop.phone, "203.0.113.1", Call::get("/healthz")).await.data();
}

#[tokio::test]
async fn logins_from_one_address_have_a_limit_of_their_own() {
    let shop = shop(&[("LOCAL_LIMIT_LOGIN", THREE), PROXY]).await;
    let login = |name: &str| Call::post("/api/user/login", &json!({"code": Shopper::code(name)}));
    for _ in 0..3 {
        from(&shop.phone, "203.0.113.1", login("小王")).await.data();
    }
    let asked = shop.line.seen("/api/user/login").len();
    from(&shop.phone, "203.0.113.1", login("小李")).await.is_limited();
    assert_eq!(shop.line.seen("/api/user/login").len(), asked);
    from(&shop.phone, "203.0.113.2", login("小李")).await.data();
}

#[tokio::test]
async fn notifications_and_questions_of_a_browser_are_never_counted() {
    let shop = shop(&[("LOCAL_LIMIT_ADDRESS", "1/h burst 2"), PROXY]).await;
    for _ in 0..8 {
        let forged =
            from(&shop.phone, "203.0.113.1", Call::post("/api/payments/wechat/notify", &json!({}))).await;
        assert_eq!((forged.status, forged.json()["code"].as_str()), (401, Some("FAIL")));
        let options = Call::new(reqwest::Method::OPTIONS, "/api/orders");
        assert_eq!(from(&shop.phone, "203.0.113.1", options).await.status, 204);
    }
    assert_eq!(shop.line.seen("/api/payments").len(), 8);
}

#[tokio::test]
async fn the_hosts_limiter_decides_where_there_is_one() {
    // It refuses this one key; the isolate's own count would refuse nobody.
    let shop = shop(&[("LIMIT_ADDRESS", "203.0.113.1"), PROXY]).await;
    let info = || Call::get("/api/user/info");
    let refused = from(&shop.phone, "203.0.113.1", info()).await;
    assert_eq!(refused.is_limited(), 10);
    from(&shop.phone, "203.0.113.2", info()).await.fails_with(Problem::Unauthenticated);
    assert_eq!(shop.line.seen("/api/user").len(), 0);
}

#[tokio::test]
async fn each_of_the_hosts_limiters_counts_what_is_its_own() {
    let mut shop = shop(&[PROXY]).await;
    let shopper = shop.shopper("小王").await;
    let id = shopper.id.to_string();
    shop.restart_edge(&[
        ("LIMIT_USER", &id),
        ("LIMIT_LOGIN", "203.0.113.9"),
        ("LIMIT_ADDRESS", "none"),
        PROXY,
    ])
    .await;
    let phone = shopper.through(&shop.phone).api;
    phone.get("/api/user/info").await.is_limited();
    shop.shopper("小李").await.api.get("/api/user/info").await.data();
    let login = || Call::post("/api/user/login", &json!({"code": Shopper::code("小赵")}));
    from(&shop.phone, "203.0.113.9", login()).await.is_limited();
    from(&shop.phone, "203.0.113.8", login()).await.data();
}

#[tokio::test]
async fn a_limiter_that_fails_leaves_the_isolates_own_count_and_an_open_shop() {
    for failing in ["throw", "mumble"] {
        let shop = shop(&[
            ("LIMIT_ADDRESS", failing),
            ("LIMIT_USER", failing),
            ("LIMIT_LOGIN", failing),
            ("LOCAL_LIMIT_USER", THREE),
            PROXY,
        ])
        .await;
        let shopper = shop.shopper("小王").await;
        for _ in 0..3 {
            let call = Call::get("/api/user/info");
            from(&shopper.api, "203.0.113.1", call).await.data();
        }
        from(&shopper.api, "203.0.113.1", Call::get("/api/user/info")).await.is_limited();
        from(&shop.phone, "203.0.113.1", Call::get("/api/products")).await.data();
    }
}

#[tokio::test]
async fn a_limit_of_the_origins_comes_through_with_its_time() {
    let plan = ShopPlan::new().setting("FARMGATE_LIMITS__USER_READS", "1/h burst 4");
    let shop = EdgeShop::plan(plan).await;
    let shopper = shop.shopper("小王").await;
    for _ in 0..4 {
        shopper.api.get("/api/user/info").await.data();
    }
    let reply = shopper.api.get("/api/user/info").await;
    assert!(reply.is_limited() > 10, "the origin's own time");
    assert!(reply.header("cache-control").contains("no-store"));
    // And an edge whose pages are refreshed goes on, whatever its clients have asked.
    shop.line.set(Line::Up);
    shop.phone.get("/api/categories").await.data();
}
