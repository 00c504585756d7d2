//! Login and the shopper's own record.

use farmgate_tests::{Call, Problem, Shop, Shopper, json};

use crate::keys;

#[tokio::test]
async fn login_and_user_info_are_the_seeds_to_the_letter() {
    let shop = Shop::start().await;
    let body = json!({"code": Shopper::code("小王"), "userInfo": {"nickName": "小王", "avatarUrl": "https://example.com/a.png"}});
    let reply = shop.api.post("/api/user/login", &body).await;
    assert_eq!(reply.json()["message"], "登录成功");
    let data = reply.data();
    assert_eq!(keys(&data), ["token", "userInfo"]);
    let info = &data["userInfo"];
    assert_eq!(keys(info), ["avatar", "id", "level", "nickname", "points"]);
    assert_eq!(
        *info,
        json!({"id": info["id"], "nickname": "小王", "avatar": "https://example.com/a.png", "points": 0, "level": 1})
    );
    assert_eq!(data["token"].as_str().unwrap().split('.').count(), 3, "a JWT has three parts");

    let shown = shop.api.with_token(data["token"].as_str().unwrap()).get("/api/user/info").await;
    let shown = shown.data();
    for field in keys(info) {
        assert_eq!(shown[field], info[field], "{field}");
    }
}

#[tokio::test]
async fn a_shopper_is_one_account_however_often_they_log_in() {
    let shop = Shop::start().await;
    let first = shop.shopper("小王").await;
    let again = shop.shopper("小王").await;
    let other = shop.shopper("小李").await;
    assert_eq!(first.id, again.id);
    assert_ne!(first.id, other.id);
    // A later login without a nickname keeps the one that was given.
    let named = json!({"code": Shopper::code("小王"), "userInfo": {"nickname": "王", "avatar": "https://example.com/b.png"}});
    shop.api.post("/api/user/login", &named).await.data();
    let last = shop.shopper("小王").await;
    assert_eq!(last.api.get("/api/user/info").await.data()["nickname"], "王");
    // Ten at once are still one account.
    let logins = (0..10).map(|_| {
        let api = shop.api.clone();
        tokio::spawn(async move { Shopper::log_in(&api, "小赵").await.id })
    });
    let mut ids = Vec::new();
    for login in logins.collect::<Vec<_>>() {
        ids.push(login.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn a_login_code_works_once() {
    let shop = Shop::start().await;
    let body = json!({"code": Shopper::code("小王")});
    shop.api.post("/api/user/login", &body).await.data();
    shop.api.post("/api/user/login", &body).await.fails_with(Problem::WechatCodeInvalid);
}

#[tokio::test]
async fn what_wechat_says_of_a_code_reaches_the_shopper_in_our_words() {
    let shop = Shop::start().await;
    for (errcode, problem) in [
        (40029, Problem::WechatCodeInvalid),
        (40163, Problem::WechatCodeInvalid),
        (45011, Problem::RateLimited),
        (-1, Problem::WechatUnavailable),
    ] {
        shop.wechat.misbehave(json!({"login": [{"errcode": errcode, "times": 1}]})).await;
        let reply = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
        reply.fails_with(problem);
        assert!(!reply.text().contains("errcode"), "{}", reply.text());
    }
    for fault in [json!({"fault": "drop"}), json!({"fault": "status", "status": 502, "code": "x"})] {
        let mut fault = fault;
        fault["path"] = json!("/sns/");
        shop.wechat.misbehave(json!({"api": [fault]})).await;
        let reply = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
        reply.fails_with(Problem::WechatUnavailable);
        shop.wechat.behave().await;
    }
    shop.shopper("小王").await;
}

#[tokio::test]
async fn a_login_without_a_usable_code_names_the_field() {
    let shop = Shop::start().await;
    for body in [
        json!({}),
        json!({"code": ""}),
        json!({"code": "  "}),
        json!({"code": 1}),
        json!({"code": null}),
        json!({"code": "x".repeat(129)}),
    ] {
        shop.api.post("/api/user/login", &body).await.refuses_fields(&["code"]);
    }
    assert_eq!(shop.wechat.calls("/sns/").await.len(), 0, "WeChat is not asked for what cannot be a code");
}

#[tokio::test]
async fn user_info_at_login_is_a_courtesy_that_cannot_break_it() {
    let shop = Shop::start().await;
    for odd in [
        json!("用户信息"),
        json!(null),
        json!([1, 2]),
        json!({"nickName": {"a": 1}, "avatarUrl": "javascript:alert(1)"}),
    ] {
        let body = json!({"code": Shopper::code("小王"), "userInfo": odd});
        let info = shop.api.post("/api/user/login", &body).await.data()["userInfo"].clone();
        assert_eq!((info["nickname"].as_str(), info["avatar"].as_str()), (Some(""), Some("")), "{odd}");
    }
}

#[tokio::test]
async fn a_disabled_account_is_shut_out_at_once() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    sqlx::query("UPDATE users SET status = 0 WHERE id = ?").bind(shopper.id).execute(&shop.db).await.unwrap();
    shopper.api.get("/api/user/info").await.fails_with(Problem::AccountDisabled);
    let again = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
    again.fails_with(Problem::AccountDisabled);
}

#[tokio::test]
async fn raising_the_token_version_ends_every_session() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    sqlx::query("UPDATE users SET token_version = token_version + 1 WHERE id = ?")
        .bind(shopper.id)
        .execute(&shop.db)
        .await
        .unwrap();
    shopper.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    shop.shopper("小王").await.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn the_public_keys_are_published_without_the_private_one() {
    let shop = Shop::start().await;
    let published = shop.api.send(Call::get("/.well-known/jwks.json")).await.json();
    for key in published["keys"].as_array().unwrap() {
        assert_eq!(keys(key), ["alg", "crv", "kid", "kty", "use", "x"], "a private key would have `d`");
    }
}
