//! The origin answers the edge and nobody else.

use farmgate_tests::shared::edge_auth::{EdgeKey, HEADER_KID, HEADER_NONCE, HEADER_SIG, HEADER_TS};
use farmgate_tests::{Call, Problem, Shop, ShopPlan, json, unique};
use reqwest::Method;

#[tokio::test]
async fn an_unsigned_request_learns_nothing() {
    let shop = Shop::start().await;
    let stranger = shop.api.unsigned();
    for path in [
        "/api/products",
        "/api/categories",
        "/api/user/info",
        "/api/nothing",
        "/static/demo/x.webp",
        "/",
        "/admin/api/login",
        "/.well-known/jwks.json",
    ] {
        stranger.get(path).await.fails_with(Problem::EdgeSignatureRequired);
    }
    stranger.post("/api/user/login", &json!({"code": "x"})).await.fails_with(Problem::EdgeSignatureRequired);
    stranger.post("/api/payments/wechat/notify", &json!({})).await.fails_with(Problem::EdgeSignatureRequired);
    assert_eq!(shop.wechat.calls("/").await.len(), 0);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(stranger.get(path).await.status, 200, "{path} answers whoever watches the process");
    }
}

#[tokio::test]
async fn each_part_of_the_signature_counts() {
    let shop = Shop::start().await;
    let path = "/api/products?page=1";
    shop.api.get(path).await.data();
    for header in [HEADER_KID, HEADER_TS, HEADER_NONCE, HEADER_SIG] {
        for value in ["", "0", &"0".repeat(64)] {
            let reply = shop.api.unsigned().send(signed_by_hand(path).replacing(header, value)).await;
            reply.fails_with(Problem::EdgeSignatureRequired);
        }
    }
    // The whole thing unchanged passes: each refusal above was for its own reason.
    shop.api.unsigned().send(signed_by_hand(path)).await.data();
    // Signed for another path, method or body.
    let moved = Call { path: "/api/products?page=2".into(), ..signed_by_hand(path) };
    shop.api.unsigned().send(moved).await.fails_with(Problem::EdgeSignatureRequired);
    let other_method = Call { method: Method::HEAD, ..signed_by_hand(path) };
    assert_eq!(shop.api.unsigned().send(other_method).await.status, 403);
    let other_body = Call { body: b"{}".to_vec(), ..signed_by_hand(path) };
    shop.api.unsigned().send(other_body).await.fails_with(Problem::EdgeSignatureRequired);
    let other_subject = signed_by_hand(path).header("x-edge-subject", "1");
    shop.api.unsigned().send(other_subject).await.fails_with(Problem::EdgeSignatureRequired);
    let other_address = signed_by_hand(path).header("x-edge-client-ip", "198.51.100.1");
    shop.api.unsigned().send(other_address).await.fails_with(Problem::EdgeSignatureRequired);
    let other_id = signed_by_hand(path).replacing("x-request-id", "another-request");
    shop.api.unsigned().send(other_id).await.fails_with(Problem::EdgeSignatureRequired);
    let other_query = Call { path: format!("{path}&x=1"), ..signed_by_hand(path) };
    shop.api.unsigned().send(other_query).await.fails_with(Problem::EdgeSignatureRequired);
}

#[tokio::test]
async fn what_was_signed_for_a_shopper_cannot_be_turned_on_the_way() {
    let shop = Shop::start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let body = first.address_body();
    let mut other_body = body.clone();
    other_body["detail"] = json!("别处 2 号");
    let signed = first.api.sign(&Call::post("/api/addresses", &body));
    let signed_at =
        signed.headers.iter().find(|(name, _)| name == HEADER_TS).unwrap().1.parse::<i64>().unwrap();
    let unsigned = first.api.unsigned();
    let turned = [
        ("the body", Call { body: other_body.to_string().into_bytes(), ..signed.clone() }),
        ("no body", Call { body: vec![], ..signed.clone() }),
        ("the subject", signed.clone().replacing("x-edge-subject", &second.id.to_string())),
        ("nobody's", signed.clone().replacing("x-edge-subject", "")),
        ("the address", signed.clone().replacing("x-edge-client-ip", "198.51.100.1")),
        ("the time", signed.clone().replacing(HEADER_TS, &(signed_at - 1).to_string())),
        ("the nonce", signed.clone().replacing(HEADER_NONCE, &unique("nonce"))),
        ("the path", Call { path: "/api/orders".into(), ..signed.clone() }),
        ("a query", Call { path: "/api/addresses?x=1".into(), ..signed.clone() }),
        ("the method", Call { method: Method::PUT, ..signed.clone() }),
    ];
    for (what, call) in turned {
        let reply = unsigned.send(call).await;
        assert_eq!(reply.status, 403, "{what}");
        reply.fails_with(Problem::EdgeSignatureRequired);
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM addresses").await, 0);
    unsigned.send(signed.clone()).await.data();
    unsigned.send(signed).await.fails_with(Problem::EdgeSignatureRequired);
    assert_eq!(shop.count("SELECT COUNT(*) FROM addresses").await, 1);
}

#[tokio::test]
async fn two_edge_keys_are_good_while_they_are_exchanged() {
    let old = Shop::edge_key();
    let new = EdgeKey { kid: "edge-next".into(), secret: vec![9; 32] };
    let list = |keys: &[&EdgeKey]| {
        let spell =
            |key: &&EdgeKey| format!("{}={}", key.kid, farmgate_tests::shared::edge_auth::hex(&key.secret));
        keys.iter().map(spell).collect::<Vec<_>>().join(",")
    };
    let plan = ShopPlan::new().setting("FARMGATE_EDGE__KEYS", list(&[&old, &new]));
    let mut shop = plan.start().await;
    for key in [&old, &new] {
        shop.api.with_edge_key(key.clone()).get("/api/products").await.data();
    }
    // A nonce belongs to its key: two edges may draw the same.
    let call = Call::get("/api/products").stamped();
    for key in [&old, &new] {
        shop.api.with_edge_key(key.clone()).send(call.clone()).await.data();
    }
    let mixed = EdgeKey { kid: old.kid.clone(), ..new.clone() };
    shop.api.with_edge_key(mixed).get("/api/products").await.fails_with(Problem::EdgeSignatureRequired);

    shop.change_setting("FARMGATE_EDGE__KEYS", &list(&[&new]));
    shop.restart_origin().await;
    shop.api.with_edge_key(new).get("/api/products").await.data();
    shop.api.with_edge_key(old).get("/api/products").await.fails_with(Problem::EdgeSignatureRequired);
}

/// A GET with the edge's headers written out, so that a test can change one of them.
fn signed_by_hand(path: &str) -> Call {
    let key = Shop::edge_key();
    let (nonce, request_id) = (unique("nonce"), unique("request"));
    let timestamp = time::OffsetDateTime::now_utc().unix_timestamp().to_string();
    let signature = farmgate_tests::shared::edge_auth::Signed {
        method: "GET",
        path_and_query: path,
        timestamp: &timestamp,
        nonce: &nonce,
        body: b"",
        subject: "",
        client_ip: "",
        request_id: &request_id,
    }
    .sign(&key.secret);
    Call::get(path)
        .header(HEADER_KID, &key.kid)
        .header(HEADER_TS, &timestamp)
        .header(HEADER_NONCE, &nonce)
        .header(HEADER_SIG, &signature)
        .header("x-request-id", &request_id)
}

trait Replacing {
    fn replacing(self, name: &str, value: &str) -> Self;
}

impl Replacing for Call {
    fn replacing(mut self, name: &str, value: &str) -> Call {
        for header in self.headers.iter_mut().filter(|(known, _)| known == name) {
            value.clone_into(&mut header.1);
        }
        self
    }
}

#[tokio::test]
async fn another_key_is_a_strangers() {
    let shop = Shop::start().await;
    let key = Shop::edge_key();
    let same_id = EdgeKey { secret: vec![7; 32], ..key.clone() };
    let other_id = EdgeKey { kid: "unknown".into(), ..key };
    for key in [same_id, other_id] {
        shop.api.with_edge_key(key).get("/api/products").await.fails_with(Problem::EdgeSignatureRequired);
    }
}

#[tokio::test]
async fn a_replay_is_refused() {
    let shop = Shop::start().await;
    let call = Call::get("/api/products").stamped();
    shop.api.send(call.clone()).await.data();
    shop.api.send(call.clone()).await.fails_with(Problem::EdgeSignatureRequired);
    let elsewhere = Call { path: "/api/categories".into(), ..call };
    shop.api.send(elsewhere).await.fails_with(Problem::EdgeSignatureRequired);
}

#[tokio::test]
async fn a_replay_at_another_origin_is_refused_too() {
    let mut shop = Shop::start().await;
    let replica = shop.replica().await;
    let call = Call::get("/api/products").stamped();
    shop.api.send(call.clone()).await.data();
    replica.send(call).await.fails_with(Problem::EdgeSignatureRequired);
}

#[tokio::test]
async fn a_replay_is_refused_while_redis_is_away() {
    let shop = ShopPlan::new().redis_cable().start().await;
    shop.redis_cable().pull();
    let call = Call::get("/api/products").stamped();
    shop.api.send(call.clone()).await.data();
    shop.api.send(call).await.fails_with(Problem::EdgeSignatureRequired);
}

#[tokio::test]
async fn a_replay_is_refused_when_redis_has_gone_or_forgotten_meanwhile() {
    let shop = ShopPlan::new().redis_cable().start().await;
    let before = Call::get("/api/products").stamped();
    shop.api.send(before.clone()).await.data();
    shop.redis_cable().pull();
    shop.api.send(before.clone()).await.fails_with(Problem::EdgeSignatureRequired);
    let during = Call::get("/api/products").stamped();
    shop.api.send(during.clone()).await.data();
    // Back again, Redis knows nothing of what came meanwhile.
    shop.redis_cable().plug();
    for call in [before, during] {
        shop.api.send(call).await.fails_with(Problem::EdgeSignatureRequired);
    }
}

#[tokio::test]
async fn a_clock_may_differ_by_seconds_and_not_by_more() {
    let shop = Shop::start().await;
    // What is on its way for some seconds is as much older; half a minute is allowed.
    for skew in [-10, 25] {
        shop.api.send(Call { skew, ..Call::get("/api/products") }).await.data();
    }
    for skew in [-35, 50, -3600, 86_400 * 365] {
        shop.api
            .send(Call { skew, ..Call::get("/api/products") })
            .await
            .fails_with(Problem::EdgeSignatureRequired);
    }
}

#[tokio::test]
async fn a_nonce_has_16_to_64_letters_and_digits() {
    let shop = Shop::start().await;
    for nonce in ["short", &"n".repeat(65), "nonce-with-hyphens-in-it", "nonce:with:colons:in"] {
        let call = Call { nonce: Some(nonce.to_owned()), ..Call::get("/api/products") };
        shop.api.send(call).await.fails_with(Problem::EdgeSignatureRequired);
    }
}

#[tokio::test]
async fn the_request_id_of_the_edge_comes_back() {
    let shop = Shop::start().await;
    let reply = shop.api.unsigned().send(signed_by_hand("/api/nothing")).await;
    let body = reply.fails_with(Problem::NotFound);
    assert!(body["request_id"].as_str().unwrap().starts_with("request"), "{body}");
}
