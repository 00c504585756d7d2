//! Session tokens at the origin: only its own, in time, of the right kind.

use farmgate_tests::{Forgery, Problem, Shop, Value, json};
use reqwest::Method;

/// Everything that needs a user, as (method, path).
const PRIVATE: [(&str, &str); 15] = [
    ("GET", "/api/user/info"),
    ("PUT", "/api/user/info"),
    ("POST", "/api/user/phone"),
    ("POST", "/api/user/logout"),
    ("GET", "/api/addresses"),
    ("POST", "/api/addresses"),
    ("GET", "/api/addresses/1"),
    ("PUT", "/api/addresses/1"),
    ("DELETE", "/api/addresses/1"),
    ("GET", "/api/orders"),
    ("POST", "/api/orders"),
    ("GET", "/api/orders/1"),
    ("POST", "/api/orders/1/pay"),
    ("GET", "/api/orders/1/reviews"),
    ("POST", "/api/orders/1/reviews"),
];

#[tokio::test]
async fn whatever_is_a_shoppers_needs_a_token() {
    let shop = Shop::start().await;
    for (method, path) in PRIVATE {
        let method: Method = method.parse().unwrap();
        let call = farmgate_tests::Call::new(method.clone(), path).json(&json!({}));
        shop.api.send(call.clone()).await.fails_with(Problem::Unauthenticated);
        shop.api.with_token("nonsense").send(call).await.fails_with(Problem::Unauthenticated);
    }
    let basic = farmgate_tests::Call::get("/api/user/info").header("authorization", "Basic dXNlcjpwYXNz");
    shop.api.send(basic).await.fails_with(Problem::Unauthenticated);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_whatever_the_edge_says() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.tokens();
    for Forgery { what, token, problem } in tokens.forgeries(shopper.id) {
        // As an edge would pass it on that had let it through: signed, with its subject.
        for api in
            [shop.api.with_token(&token), shop.api.with_token(&token).with_subject(&shopper.id.to_string())]
        {
            let reply = api.get("/api/user/info").await;
            assert_eq!(reply.status, 401, "{what}");
            reply.fails_with(problem);
        }
    }
    let claims = tokens.claims(shopper.id);
    let mut unknown = claims.clone();
    unknown.sub = "999999999".into();
    let mut version = claims.clone();
    version.ver = 2;
    for wrong in [unknown, version] {
        let reply = shop.api.with_token(&tokens.sign(&wrong)).get("/api/user/info").await;
        reply.fails_with(Problem::Unauthenticated);
    }
    // The same claims under our own signature pass, so each refusal above was for its own reason.
    let data = shop.api.with_token(&tokens.sign(&claims)).get("/api/user/info").await.data();
    assert_eq!(data["id"], json!(shopper.id));
}

#[tokio::test]
async fn a_token_of_one_shopper_under_another_ones_subject_is_refused() {
    let shop = Shop::start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let mixed = first.api.with_subject(&second.id.to_string());
    mixed.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    // An edge's word alone is no token.
    shop.api
        .with_subject(&first.id.to_string())
        .get("/api/user/info")
        .await
        .fails_with(Problem::Unauthenticated);
}

#[tokio::test]
async fn a_token_says_what_it_must_and_no_more() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let decode = |part: &str| -> Value {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let parts: Vec<&str> = shopper.api.token().split('.').collect();
    let header = decode(parts[0]);
    assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("EdDSA"), Some("JWT")));
    assert!(header["kid"].is_string());
    let claims = decode(parts[1]);
    let keys: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["aud", "exp", "iat", "iss", "sub", "typ", "ver"],
        "no openid, no session key, no phone"
    );
    assert_eq!(claims["sub"], json!(shopper.id.to_string()));
    assert!(claims["exp"].as_u64().unwrap() > claims["iat"].as_u64().unwrap());
}
