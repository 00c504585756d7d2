//! Tokens at the edge: what is not good is refused there, and the origin is not asked.

use farmgate_tests::{Call, EdgeShop, Problem, json};

#[tokio::test]
async fn the_origin_never_sees_a_token_that_is_not_good() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.shop.tokens();
    let claims = tokens.claims(shopper.id);
    let mut expired = claims.clone();
    (expired.iat, expired.exp) = (claims.iat - 7200, claims.iat - 3600);
    let mut audience = claims.clone();
    audience.aud = "farmgate-admin".into();
    let mut kind = claims.clone();
    kind.typ = "refresh".into();
    let mut bad = vec![
        ("nonsense", "nonsense".to_owned(), Problem::Unauthenticated),
        ("another key", tokens.sign_as_stranger(&claims), Problem::Unauthenticated),
        ("an unknown key id", tokens.sign_as("unknown", &claims), Problem::Unauthenticated),
        ("another audience", tokens.sign(&audience), Problem::Unauthenticated),
        ("another kind of token", tokens.sign(&kind), Problem::Unauthenticated),
        (
            "exchanged claims",
            tokens.tampered(&tokens.claims(shopper.id + 1), &claims),
            Problem::Unauthenticated,
        ),
        ("an expired forgery", tokens.sign_as_stranger(&expired), Problem::Unauthenticated),
        ("expired", tokens.sign(&expired), Problem::TokenExpired),
    ];
    bad.extend(
        tokens.unsigned(&claims).into_iter().map(|token| ("alg none", token, Problem::Unauthenticated)),
    );
    bad.extend(
        tokens
            .hmac_with_public_key(&claims)
            .into_iter()
            .map(|token| ("HS256 with the public key", token, Problem::Unauthenticated)),
    );
    shop.line.forget();
    for (what, token, problem) in bad {
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
    shop.phone.with_token(&tokens.sign(&claims)).get("/api/user/info").await.data();
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
