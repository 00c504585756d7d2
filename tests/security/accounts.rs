//! Accounts: nobody edits, logs out or shows another's, whatever they put where, and a banned one stays out.

use farmgate_tests::{Call, Forgery, Problem, Shop, ShopPlan, json, unique};

#[tokio::test]
async fn a_forged_token_logs_nobody_out_and_changes_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.tokens();
    for Forgery { what, token, problem } in tokens.forgeries(shopper.id) {
        let forger = shop.api.with_token(&token).with_subject(&shopper.id.to_string());
        for call in [
            Call::post("/api/user/logout", &json!({})),
            Call::new("PUT".parse().unwrap(), "/api/user/info").json(&json!({"nickname": "forged"})),
            Call::post("/api/user/phone", &json!({"code": "x"})),
        ] {
            let reply = forger.send(call).await;
            assert_eq!(reply.status, 401, "{what}");
            reply.fails_with(problem);
        }
    }
    // Ours, but of a session that never was or is over: a 200 that ends nothing.
    for version in [0, 2, u32::MAX] {
        let mut claims = tokens.claims(shopper.id);
        claims.ver = version;
        let caller = shop.api.with_token(&tokens.sign(&claims)).with_subject(&shopper.id.to_string());
        caller.post("/api/user/logout", &json!({})).await.data();
    }
    let record = shopper.api.get("/api/user/info").await.data();
    assert_eq!(record["nickname"], "");
}

#[tokio::test]
async fn a_logout_an_edit_and_a_number_are_of_the_tokens_own_shopper() {
    let shop = ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on").start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    // Whoever is named in the body, the query or by the edge: the token decides, and must agree with the edge.
    let named = json!({"id": second.id, "user_id": second.id, "nickname": "王", "openid": "o1"});
    first.api.put("/api/user/info", &named).await.data();
    let code = json!({"code": format!("phone:13812345678:{}", unique("p")), "user_id": second.id});
    let query = format!("/api/user/phone?user_id={}", second.id);
    first.api.post(&query, &code).await.data();
    let mixed = first.api.with_subject(&second.id.to_string());
    mixed.post("/api/user/logout", &json!({})).await.fails_with(Problem::Unauthenticated);
    mixed.put("/api/user/info", &named).await.fails_with(Problem::Unauthenticated);
    let other = second.api.get("/api/user/info").await.data();
    assert_eq!((&other["nickname"], &other["phone"]), (&json!(""), &json!("")));
    first.api.post("/api/user/logout", &json!({"user_id": second.id})).await.data();
    first.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    second.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn a_banned_shopper_gets_nothing_through_any_door() {
    let shop = ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on").start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let address = shopper.address().await;
    let order = shopper.order(product, 1).await;
    let (done, said) = shop.command(&["user", "ban", &shopper.id.to_string()]).await;
    assert!(done, "{said}");
    let body = json!({"product_id": product, "quantity": 1, "address_id": address, "coupon_id": null});
    let of_order = |part: &str| format!("/api/orders/{}/{part}", order["order_id"]);
    let pay = of_order("pay");
    for call in [
        Call::get("/api/user/info"),
        Call::new("PUT".parse().unwrap(), "/api/user/info").json(&json!({"nickname": "x"})),
        Call::post("/api/user/phone", &json!({"code": format!("phone:13812345678:{}", unique("p"))})),
        Call::get("/api/addresses"),
        Call::get("/api/orders"),
        Call::post("/api/orders", &body),
        Call::post(&pay, &json!({})),
        Call::post(&of_order("cancel"), &json!({})),
        Call::post(&of_order("confirm"), &json!({})),
        Call::get(&of_order("tracking")),
        Call::get(&of_order("reviews")),
        Call::post(&of_order("reviews"), &json!({"reviews": [{"sku_id": sku, "rating": 5}]})),
    ] {
        shopper.api.send(call).await.fails_with(Problem::AccountDisabled);
    }
    // The way out is open: it gives nothing, and there is no session left that it could end.
    shopper.api.post("/api/user/logout", &json!({})).await.data();
    assert_eq!(shop.count("SELECT CAST(MAX(token_version) AS SIGNED) FROM users").await, 2, "the ban's own");
    assert!(shop.wechat.calls("/wxa/").await.is_empty(), "a banned shopper costs no paid call");
    // A token of the version that a ban makes, if one could be had.
    let tokens = shop.tokens();
    let mut claims = tokens.claims(shopper.id);
    claims.ver = 2;
    let newer = shopper.api.with_token(&tokens.sign(&claims));
    newer.get("/api/user/info").await.fails_with(Problem::AccountDisabled);
}
