//! Session tokens at the origin: only its own, in time, of the right kind.

use farmgate_tests::{Problem, Shop, Value, json};
use reqwest::Method;

/// Everything that needs a user, as (method, path).
const PRIVATE: [(&str, &str); 10] = [
    ("GET", "/api/user/info"),
    ("GET", "/api/addresses"),
    ("POST", "/api/addresses"),
    ("GET", "/api/addresses/1"),
    ("PUT", "/api/addresses/1"),
    ("DELETE", "/api/addresses/1"),
    ("GET", "/api/orders"),
    ("POST", "/api/orders"),
    ("GET", "/api/orders/1"),
    ("POST", "/api/orders/1/pay"),
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
async fn a_token_that_we_did_not_sign_is_nobodys() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.tokens();
    let claims = tokens.claims(shopper.id);
    let other = tokens.claims(shopper.id + 1);
    let mut forged = vec![
        ("signed with another key", tokens.sign_as_stranger(&claims)),
        ("an unknown key id", tokens.sign_as("unknown", &claims)),
        ("claims exchanged after signing", tokens.tampered(&other, &claims)),
        ("cut short", shopper.api.token()[..shopper.api.token().len() - 4].to_owned()),
        ("empty", String::new()),
        ("two parts", "a.b".to_owned()),
        ("four parts", format!("{}.x", shopper.api.token())),
        ("huge", "x".repeat(8000)),
    ];
    forged.extend(tokens.unsigned(&claims).into_iter().map(|token| ("alg none", token)));
    forged.extend(
        tokens.hmac_with_public_key(&claims).into_iter().map(|token| ("HS256 with the public key", token)),
    );
    for (what, token) in forged {
        let reply = shop.api.with_token(&token).get("/api/user/info").await;
        assert_eq!(reply.status, 401, "{what}");
        reply.fails_with(Problem::Unauthenticated);
    }
    // The same claims under our own signature pass, so each refusal above was for its own reason.
    shop.api.with_token(&tokens.sign(&claims)).get("/api/user/info").await.data();
}

#[tokio::test]
async fn a_token_of_ours_must_be_in_time_and_of_the_right_kind() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.tokens();
    let good = tokens.claims(shopper.id);
    let (iat, exp) = (good.iat, good.exp);
    let check = async |claims: &farmgate_tests::shared::token::Claims| {
        shop.api.with_token(&tokens.sign(claims)).get("/api/user/info").await
    };
    let mut expired = good.clone();
    (expired.iat, expired.exp) = (iat - 7200, iat - 3600);
    check(&expired).await.fails_with(Problem::TokenExpired);
    // An expired forgery is a forgery.
    let forged = tokens.sign_as_stranger(&expired);
    shop.api.with_token(&forged).get("/api/user/info").await.fails_with(Problem::Unauthenticated);

    let mut audience = good.clone();
    audience.aud = "farmgate-admin".into();
    let mut issuer = good.clone();
    issuer.iss = "somebody".into();
    let mut kind = good.clone();
    kind.typ = "refresh".into();
    let mut early = good.clone();
    (early.iat, early.exp) = (iat + 3600, exp + 3600);
    let mut nobody = good.clone();
    nobody.sub = "0".into();
    let mut words = good.clone();
    words.sub = "admin".into();
    let mut unknown = good.clone();
    unknown.sub = "999999999".into();
    let mut version = good.clone();
    version.ver = 2;
    for wrong in [audience, issuer, kind, early, nobody, words, unknown, version] {
        check(&wrong).await.fails_with(Problem::Unauthenticated);
    }
    assert_eq!(check(&good).await.data()["id"], json!(shopper.id));
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
