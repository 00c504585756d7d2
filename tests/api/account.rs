//! The shopper's account: logging in again, out and being shut out, what shoppers say of themselves, and their telephone.

use farmgate_tests::{Call, Problem, Shop, ShopPlan, Shopper, json, unique, unix_now};

use crate::keys;
use crate::placing::at_once;

#[tokio::test]
async fn logging_in_again_changes_nothing_and_ends_nothing() {
    let shop = Shop::start().await;
    let first = shop.shopper("小王").await;
    let edit = json!({"nickname": "王", "avatar": "https://example.com/a.png", "gender": 1, "birthday": "1990-05-01"});
    let before = first.api.put("/api/user/info", &edit).await.data();
    shop.change("UPDATE users SET points = 70, level = 3 WHERE id = ", first.id).await;
    let silent = json!({"code": Shopper::code("小王"), "userInfo": {"nickName": "微信用户", "avatarUrl": "https://example.com/grey.png"}});
    let again = shop.api.post("/api/user/login", &silent).await.data();
    assert_eq!(
        again["userInfo"],
        json!({"id": first.id, "nickname": "王", "avatar": "https://example.com/a.png", "points": 70, "level": 3})
    );
    // Both phones stay logged in.
    let second = shop.api.with_token(again["token"].as_str().unwrap()).with_subject(&first.id.to_string());
    for api in [&first.api, &second] {
        let record = api.get("/api/user/info").await.data();
        assert_eq!((&record["birthday"], &record["gender"]), (&before["birthday"], &json!(1)));
    }
    // What was cleared stays cleared: it is no nickname that never was.
    first.api.put("/api/user/info", &json!({"nickname": null})).await.data();
    let silent = json!({"code": Shopper::code("小王"), "userInfo": {"nickName": "微信用户"}});
    assert_eq!(shop.api.post("/api/user/login", &silent).await.data()["userInfo"]["nickname"], "");
}

#[tokio::test]
async fn a_session_that_is_over_is_followed_by_a_silent_login() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let tokens = shop.tokens();
    let mut claims = tokens.claims(shopper.id);
    (claims.iat, claims.exp) = (claims.iat - 7200, claims.iat - 3600);
    let old = shopper.api.with_token(&tokens.sign(&claims));
    old.get("/api/user/info").await.fails_with(Problem::TokenExpired);
    old.send(Call::post("/api/user/logout", &json!({}))).await.fails_with(Problem::TokenExpired);
    let again = shop.shopper("小王").await;
    assert_eq!(again.id, shopper.id);
    again.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn a_login_code_lives_for_five_minutes() {
    let shop = Shop::start().await;
    let aged = |seconds: i64| json!({"code": format!("{}@{}", Shopper::code("小王"), unix_now() - seconds)});
    shop.api.post("/api/user/login", &aged(301)).await.fails_with(Problem::WechatCodeInvalid);
    shop.api.post("/api/user/login", &aged(200)).await.data();
}

#[tokio::test]
async fn wechats_refusals_of_a_login_are_told_apart() {
    let mut shop = Shop::start().await;
    for (errcode, problem) in [
        (40226, Problem::WechatHighRisk),
        (40125, Problem::Internal),
        (40013, Problem::Internal),
        (48001, Problem::Internal),
        (45009, Problem::WechatUnavailable),
    ] {
        shop.wechat.misbehave(json!({"login": [{"errcode": errcode, "times": 1}]})).await;
        let reply = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
        let body = reply.fails_with(problem);
        assert!(!body.to_string().contains(&errcode.to_string()), "{body}");
    }
    shop.wechat.misbehave(json!({"login": [{"errcode": 45011, "times": 1}]})).await;
    let limited = shop.api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
    assert_eq!(limited.is_limited(), 60, "WeChat's quota is one of a minute");
    let log = shop.origin().log();
    assert!(log.contains("40125"), "whoever runs the shop is told what is set up wrong");
}

#[tokio::test]
async fn a_logout_ends_every_session_and_a_second_click_none() {
    let mut shop = Shop::start().await;
    let other = shop.replica().await;
    let first = shop.shopper("小王").await;
    let second = shop.shopper("小王").await;
    let neighbour = shop.shopper("小李").await;
    // Remembered by both origins, so that it is not the first sight of the token that refuses it.
    second.through(&other).api.get("/api/user/info").await.data();

    let logout = Call::post("/api/user/logout", &json!({}));
    let reply = first.api.send(logout.clone()).await;
    assert_eq!(reply.json()["message"], "已退出登录");
    reply.data();
    for shopper in [&first, &second, &first.through(&other), &second.through(&other)] {
        shopper.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
        let order = shopper.try_order(1, 1, 1).await;
        order.fails_with(Problem::Unauthenticated);
    }
    neighbour.api.get("/api/user/info").await.data();

    let again = shop.shopper("小王").await;
    first.api.send(logout.clone()).await.data();
    second.through(&other).api.send(logout).await.data();
    again.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn an_order_that_is_asked_for_after_a_logout_is_refused_whatever_is_going_on() {
    let shop = ShopPlan::new().stock(1000).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let address = shopper.address().await;
    let body = json!({"product_id": product, "quantity": 1, "address_id": address, "coupon_id": null});
    let order = || Call::post("/api/orders", &body).idempotent(&unique("k"));
    let racing = (0..20).map(|n| {
        let logout = Call::post("/api/user/logout", &json!({}));
        (shopper.clone(), if n == 10 { logout } else { order() })
    });
    let replies = at_once(racing).await;
    let mut made = 0;
    for reply in &replies {
        match reply.status {
            200 => made += 1,
            _ => {
                reply.fails_with(Problem::Unauthenticated);
            }
        }
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, made - 1, "all but the logout");
    for late in at_once((0..5).map(|_| (shopper.clone(), order()))).await {
        late.fails_with(Problem::Unauthenticated);
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, made - 1);
}

#[tokio::test]
async fn a_banned_account_is_out_until_it_is_let_in_and_logs_in_anew() {
    let mut shop = Shop::start().await;
    let other = shop.replica().await;
    let shopper = shop.shopper("小王").await;
    let openid: String = sqlx::query_scalar("SELECT openid FROM users WHERE id = ?")
        .bind(shopper.id)
        .fetch_one(&shop.db)
        .await
        .unwrap();
    let id = shopper.id.to_string();
    shopper.through(&other).api.get("/api/user/info").await.data();

    let (done, said) = shop.command(&["user", "ban", &id]).await;
    assert!(done && said.contains("banned"), "{said}");
    for api in [&shop.api, &other] {
        let shopper = shopper.through(api);
        shopper.api.get("/api/user/info").await.fails_with(Problem::AccountDisabled);
        shopper.try_order(1, 1, 1).await.fails_with(Problem::AccountDisabled);
        let login = api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await;
        login.fails_with(Problem::AccountDisabled);
    }
    let (done, said) = shop.command(&["user", "ban", &openid]).await;
    assert!(done && said.contains("already"), "{said}");
    let (done, said) = shop.command(&["user", "show", &openid]).await;
    assert!(done && said.contains("banned") && said.starts_with(&id), "{said}");

    let (done, said) = shop.command(&["user", "unban", &openid]).await;
    assert!(done && said.contains("may log in again"), "{said}");
    shopper.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    shop.shopper("小王").await.api.get("/api/user/info").await.data();

    let (done, said) = shop.command(&["user", "ban", &id, "999999999"]).await;
    assert!(!done && said.contains("999999999"), "{said}");
    shop.shopper("小王").await;
}

#[tokio::test]
async fn an_edit_changes_what_it_names_and_clears_what_it_empties() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let edit = json!({"nickname": " 果园小王 🍎 ", "avatar": "https://example.com/a.png", "gender": 2, "birthday": "1988-02-29"});
    let record = shopper.api.put("/api/user/info", &edit).await.data();
    assert_eq!(
        keys(&record),
        ["avatar", "birthday", "gender", "id", "level", "nickname", "phone", "points"],
        "no openid"
    );
    let whole = json!({"id": shopper.id, "nickname": "果园小王 🍎", "avatar": "https://example.com/a.png", "points": 0,
        "level": 1, "phone": "", "gender": 2, "birthday": "1988-02-29"});
    assert_eq!(record, whole);
    assert_eq!(
        shopper.api.put("/api/user/info", &json!({})).await.data(),
        whole,
        "nothing is named, nothing changes"
    );
    let shown =
        shopper.api.put("/api/user/info", &json!({"points": 9999, "level": 9, "id": 1, "phone": "1"})).await;
    assert_eq!(shown.data(), whole, "the rest is not the shopper's to say");

    shopper.api.put("/api/user/info", &json!({"nickname": "", "birthday": null})).await.data();
    let record = shopper.api.get("/api/user/info").await.data();
    assert_eq!((&record["nickname"], &record["birthday"]), (&json!(""), &json!(null)));
    assert_eq!((&record["avatar"], &record["gender"]), (&whole["avatar"], &json!(2)));
    shopper.api.put("/api/user/info", &json!({"gender": null, "avatar": ""})).await.data();
    let record = shopper.api.get("/api/user/info").await.data();
    assert_eq!((&record["avatar"], &record["gender"]), (&json!(""), &json!(0)));
    // One of the shop's own pictures.
    let own = shop.own_picture();
    assert_eq!(shopper.api.put("/api/user/info", &json!({"avatar": own})).await.data()["avatar"], json!(own));
}

#[tokio::test]
async fn a_bad_edit_names_its_fields_and_changes_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    for (edit, fields) in [
        (json!({"nickname": "x".repeat(101)}), &["nickname"][..]),
        (json!({"nickname": "小\u{0007}王"}), &["nickname"]),
        (json!({"nickname": "小\n王"}), &["nickname"]),
        (json!({"nickname": "a\u{202e}b"}), &["nickname"]),
        (json!({"nickname": 1}), &["nickname"]),
        (json!({"avatar": "http://example.com/a.png"}), &["avatar"]),
        (json!({"avatar": "javascript:alert(1)"}), &["avatar"]),
        (json!({"avatar": format!("https://example.com/{}", "a".repeat(500))}), &["avatar"]),
        (json!({"gender": 3}), &["gender"]),
        (json!({"gender": -1}), &["gender"]),
        (json!({"gender": "1"}), &["gender"]),
        (json!({"gender": 1000}), &["gender"]),
        (json!({"birthday": "1990-02-30"}), &["birthday"]),
        (json!({"birthday": "1990/02/01"}), &["birthday"]),
        (json!({"birthday": "1850-01-01"}), &["birthday"]),
        (json!({"birthday": "9999-01-01"}), &["birthday"]),
        (json!({"nickname": "\t\u{1}x", "gender": 9, "birthday": "x"}), &["birthday", "gender", "nickname"]),
        (
            json!({"nickname": "好名字", "avatar": "ftp://x", "birthday": "2999-01-01"}),
            &["avatar", "birthday"],
        ),
    ] {
        shopper.api.put("/api/user/info", &edit).await.refuses_fields(fields);
    }
    shopper.api.put("/api/user/info", &json!("王")).await.refuses_fields(&["body"]);
    let record = shopper.api.get("/api/user/info").await.data();
    assert_eq!((&record["nickname"], &record["birthday"]), (&json!(""), &json!(null)));
}

#[tokio::test]
async fn edits_at_the_same_time_do_not_undo_each_other() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let edits = [
        json!({"nickname": "王"}),
        json!({"avatar": "https://example.com/a.png"}),
        json!({"gender": 1}),
        json!({"birthday": "1990-05-01"}),
    ];
    let calls = edits
        .iter()
        .map(|edit| (shopper.clone(), Call::new("PUT".parse().unwrap(), "/api/user/info").json(edit)));
    for reply in at_once(calls).await {
        reply.data();
    }
    let record = shopper.api.get("/api/user/info").await.data();
    for edit in edits {
        let (field, value) = edit.as_object().unwrap().iter().next().unwrap();
        assert_eq!(&record[field], value);
    }
}

fn phone_code(number: &str) -> Call {
    Call::post("/api/user/phone", &json!({"code": format!("phone:{number}:{}", unique("p"))}))
}

#[tokio::test]
async fn a_telephone_number_is_sealed_shown_masked_and_found_again() {
    let shop = ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on").start().await;
    let shopper = shop.shopper("小王").await;
    assert_eq!(shopper.api.get("/api/user/info").await.data()["phone"], "");
    // The country's code comes as text the first time and as a number the second.
    let bound = shopper.api.send(phone_code("13812345678")).await;
    assert_eq!(bound.data()["phone"], "138****5678");
    shopper.api.send(phone_code("13812345678")).await.data();
    assert_eq!(shopper.api.get("/api/user/info").await.data()["phone"], "138****5678");

    let (phone, sealed, index): (String, Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT phone, phone_sealed, phone_index FROM users WHERE id = ?")
            .bind(shopper.id)
            .fetch_one(&shop.db)
            .await
            .unwrap();
    assert_eq!(phone, "138****5678", "the seed's column");
    let sealed = String::from_utf8(sealed).unwrap();
    assert!(
        sealed.starts_with("data-") && sealed.contains(':') && !sealed.contains("13812345678"),
        "{sealed}"
    );
    assert_eq!(index.len(), 32);

    // A family's second account, and one with another number.
    let family = shop.shopper("小李").await;
    family.api.send(phone_code("13812345678")).await.data();
    let foreign = shop.shopper("小陈").await;
    assert_eq!(foreign.api.send(phone_code("+852-61234567")).await.data()["phone"], "+852 61****67");
    let (done, said) = shop.command(&["user", "show", "--phone", "13812345678"]).await;
    assert!(done && !said.contains("13812345678"), "{said}");
    let ids: Vec<i64> = said
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, [shopper.id, family.id]);
    let (done, said) = shop.command(&["user", "show", "--reveal", "--phone", "+852-61234567"]).await;
    assert!(done && said.contains("+85261234567"), "{said}");
    let (done, said) = shop.command(&["user", "show", "--phone", "13900000000"]).await;
    assert!(!done && said.contains("no account"), "{said}");

    // A new number takes the place of the old one.
    assert_eq!(family.api.send(phone_code("13900000000")).await.data()["phone"], "139****0000");
    let (_, said) = shop.command(&["user", "show", "--phone", "13812345678"]).await;
    assert_eq!(said.lines().filter(|line| !line.starts_with(' ')).count(), 1, "{said}");
    // A sealed number opens in its own row only.
    shop.script(&format!(
        "UPDATE users a JOIN users b ON b.id = {} SET a.phone_sealed = b.phone_sealed WHERE a.id = {}",
        shopper.id, foreign.id
    ))
    .await;
    let (done, said) = shop.command(&["user", "show", "--reveal", &foreign.id.to_string()]).await;
    assert!(!done && !said.contains("13812345678"), "{said}");
}

#[tokio::test]
async fn a_phone_code_works_once_for_five_minutes_and_wechats_refusals_are_told_apart() {
    let mut shop = ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on").start().await;
    let shopper = shop.shopper("小王").await;
    let once = phone_code("13812345678");
    shopper.api.send(once.clone()).await.data();
    shopper.api.send(once).await.fails_with(Problem::PhoneCodeInvalid);
    let stale = format!("phone:13812345678:{}@{}", unique("p"), unix_now() - 301);
    for code in [stale.as_str(), "071abc", &Shopper::code("小王")] {
        shopper
            .api
            .post("/api/user/phone", &json!({"code": code}))
            .await
            .fails_with(Problem::PhoneCodeInvalid);
    }
    for body in [json!({}), json!({"code": " "}), json!({"code": 1}), json!({"code": "x".repeat(129)})] {
        shopper.api.post("/api/user/phone", &body).await.refuses_fields(&["code"]);
    }
    let path = "/wxa/business/getuserphonenumber";
    for (errcode, problem) in [
        (40029, Problem::PhoneCodeInvalid),
        (-1, Problem::WechatUnavailable),
        (45011, Problem::RateLimited),
        (48001, Problem::Internal),
    ] {
        shop.wechat
            .misbehave(json!({"api": [{"fault": "errcode", "errcode": errcode, "path": path, "times": 1}]}))
            .await;
        shopper.api.send(phone_code("13900000000")).await.fails_with(problem);
    }
    // The reply was lost and the code is spent: the number of before stays, and a new click binds.
    shop.wechat.misbehave(json!({"api": [{"fault": "lost_reply", "path": path, "times": 1}]})).await;
    let lost = phone_code("13900000000");
    shopper.api.send(lost.clone()).await.fails_with(Problem::WechatUnavailable);
    shopper.api.send(lost).await.fails_with(Problem::PhoneCodeInvalid);
    assert_eq!(shopper.api.get("/api/user/info").await.data()["phone"], "138****5678");
    assert_eq!(shopper.api.send(phone_code("13900000000")).await.data()["phone"], "139****0000");
    let log = shop.origin().log();
    assert!(!log.contains("13900000000") && !log.contains("13812345678"), "numbers are not logged");
}

#[tokio::test]
async fn a_shop_that_does_not_pay_for_numbers_says_so_and_asks_wechat_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    shopper.api.send(phone_code("13812345678")).await.fails_with(Problem::PhoneBindingOff);
    assert!(shop.wechat.calls("/wxa/").await.is_empty() && shop.wechat.calls("/cgi-bin/").await.is_empty());
}

#[tokio::test]
async fn what_a_shopper_wrote_does_not_write_to_an_operators_terminal() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    // No door lets such a name in today.
    shop.script(&format!(
        "UPDATE users SET nickname = CONCAT('a', CHAR(27), '[2J', CHAR(10), 'b') WHERE id = {}",
        shopper.id
    ))
    .await;
    let (is_shown, said) = shop.command(&["user", "show", &shopper.id.to_string()]).await;
    assert!(is_shown && !said.contains('\u{1b}') && said.contains(r"a\u{1b}[2J\nb"), "{said}");
}
