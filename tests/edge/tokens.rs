//! Tokens at the edge: what is not good is refused there, and the origin is not asked.

use farmgate_tests::{Call, EdgePlan, EdgeShop, Forgery, Problem, ShopPlan, json};

#[tokio::test]
async fn the_origin_never_sees_a_token_that_is_not_good() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.shop.tokens();
    shop.line.forget();
    for Forgery { what, token, problem } in tokens.forgeries(shopper.id) {
        let phone = shop.phone.with_token(&token);
        for path in ["/api/user/info", "/api/orders", "/api/addresses/1"] {
            let reply = phone.get(path).await;
            assert_eq!(reply.status, 401, "{what}");
            reply.fails_with(problem);
        }
        phone.post("/api/orders", &json!({})).await.fails_with(problem);
    }
    for path in ["/api/user/info", "/api/orders", "/api/addresses", "/api/orders/1", "/api/nothing"] {
        shop.phone.get(path).await.fails_with(Problem::Unauthenticated);
    }
    let basic = Call::get("/api/user/info").header("authorization", "Basic dXNlcjpwYXNz");
    shop.phone.send(basic).await.fails_with(Problem::Unauthenticated);
    assert_eq!(shop.line.seen("/").len(), 0, "the origin was asked: {:?}", shop.line.seen("/"));
    let good = tokens.sign(&tokens.claims(shopper.id));
    shop.phone.with_token(&good).get("/api/user/info").await.data();
    assert_eq!(shop.line.seen("/api/user/info").len(), 1);
}

#[tokio::test]
async fn an_ended_session_is_refused_by_the_origin_through_the_edge() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shopper.api.get("/api/user/info").await.data();
    sqlx::query("UPDATE users SET token_version = token_version + 1").execute(&shop.shop.db).await.unwrap();
    shopper.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
}

#[tokio::test]
async fn two_shoppers_never_see_each_others_replies() {
    let shop = EdgeShop::start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    for _ in 0..3 {
        for shopper in [&first, &second] {
            let reply = shopper.api.get("/api/user/info").await;
            assert_eq!(reply.data()["id"], json!(shopper.id));
            assert!(
                reply.header("cache-control").contains("no-store"),
                "{:?}",
                reply.header("cache-control")
            );
            assert_eq!(reply.header("etag"), "", "a private reply has nothing to revalidate");
        }
    }
    assert_eq!(shop.line.seen("/api/user/info").len(), 6, "each private read asks the origin");
    for path in ["/api/orders", "/api/addresses"] {
        let reply = first.api.get(path).await;
        reply.data();
        assert!(reply.header("cache-control").contains("no-store"), "{path}");
    }
    let login =
        shop.phone.post("/api/user/login", &json!({"code": farmgate_tests::Shopper::code("小赵")})).await;
    assert!(login.header("cache-control").contains("no-store"), "a token must not be stored");
}

#[tokio::test]
async fn an_expired_token_is_told_apart_so_that_the_phone_can_log_in_again_silently() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.shop.tokens();
    let mut claims = tokens.claims(shopper.id);
    (claims.iat, claims.exp) = (claims.iat - 7200, claims.iat - 3600);
    let old = shop.phone.with_token(&tokens.sign(&claims));
    shop.line.forget();
    for call in [Call::get("/api/user/info"), Call::post("/api/orders", &json!({}))] {
        old.send(call).await.fails_with(Problem::TokenExpired);
    }
    assert_eq!(shop.line.seen("/").len(), 0, "the origin is not asked");
    let again = shop.shopper("小王").await;
    assert_eq!(again.id, shopper.id);
    again.api.get("/api/user/info").await.data();
    shopper.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn the_edge_remembers_a_token_and_cannot_keep_its_session_alive() {
    let shop = EdgeShop::start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小王").await);
    for _ in 0..2 {
        first.api.get("/api/user/info").await.data();
        second.api.get("/api/user/info").await.data();
    }
    let edit = json!({"nickname": "王"});
    assert_eq!(first.api.put("/api/user/info", &edit).await.data()["nickname"], "王");
    first.api.post("/api/user/phone", &json!({"code": "x"})).await.fails_with(Problem::PhoneBindingOff);
    first.api.post("/api/user/logout", &json!({})).await.data();
    for shopper in [&first, &second] {
        shopper.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
        shopper.api.put("/api/user/info", &edit).await.fails_with(Problem::Unauthenticated);
        shopper.try_order(1, 1, 1).await.fails_with(Problem::Unauthenticated);
    }
    first.api.post("/api/user/logout", &json!({})).await.data();
    shop.shopper("小王").await.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn a_remembered_token_is_good_no_longer_than_it_says() {
    let plan = EdgePlan { to_provoke: true, ..EdgePlan::default() };
    let shop = EdgeShop::built(ShopPlan::new(), &plan).await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.shop.tokens();
    let mut claims = tokens.claims(shopper.id);
    // Over by its own time within the minute, with the leeway that both sides give.
    let leeway = farmgate_tests::shared::token::LEEWAY_SECONDS;
    claims.exp = claims.iat - leeway + 60;
    let phone = shop.phone.with_token(&tokens.sign(&claims));
    phone.get("/api/user/info").await.data();
    assert_eq!(shop.phone.get("/provoke/clock/60000").await.status, 200);
    shop.line.forget();
    phone.get("/api/user/info").await.fails_with(Problem::TokenExpired);
    assert_eq!(shop.line.seen("/").len(), 0);
}
