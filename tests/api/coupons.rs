//! Coupons: claiming them, and that none is given out or counted twice.

use std::collections::HashSet;

use farmgate_tests::{Call, Problem, Reply, Shop, Shopper, Value, json};

use crate::placing::at_once;
use crate::{fen, keys};

/// A coupon that the shopkeeper issues; its id.
pub async fn issue(shop: &Shop, terms: &'static str) -> i64 {
    // The usual one: 5 yuan off 30, for the whole shop, one each, good for ten days from the claim.
    let usual = [
        ("name", "'满30减5'"),
        ("kind", "'amount'"),
        ("reduction", "500"),
        ("threshold_fen", "3000"),
        ("issued", "100"),
        ("per_user", "1"),
        ("claim_from", "'2025-01-01'"),
        ("claim_until", "'2100-01-01'"),
        ("valid_days", "10"),
    ];
    let own: Vec<(&str, &str)> = terms.split("; ").filter_map(|term| term.split_once(" = ")).collect();
    let kept = usual.into_iter().filter(|(name, _)| own.iter().all(|(column, _)| column != name));
    let (columns, values): (Vec<&str>, Vec<&str>) = kept.chain(own.iter().copied()).unzip();
    let insert = format!("INSERT INTO coupons ({}) VALUES ({})", columns.join(", "), values.join(", "));
    let done = sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&shop.db).await.unwrap();
    i64::try_from(done.last_insert_id()).unwrap()
}

fn claim_call(issue: i64) -> Call {
    Call::post(&format!("/api/coupons/{issue}/claim"), &json!({}))
}

pub async fn try_claim(shopper: &Shopper, issue: i64) -> Reply {
    shopper.api.send(claim_call(issue)).await
}

/// The coupon that the shopper then holds.
pub async fn claim(shopper: &Shopper, issue: i64) -> Value {
    try_claim(shopper, issue).await.data()
}

async fn claimed(shop: &Shop, issue: i64) -> i64 {
    sqlx::query_scalar("SELECT CAST(claimed AS SIGNED) FROM coupons WHERE id = ?")
        .bind(issue)
        .fetch_one(&shop.db)
        .await
        .unwrap()
}

/// The ids on one page of a list.
fn ids(page: &Value) -> Vec<i64> {
    page["list"].as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_claimed_coupon_is_the_shoppers_and_shows_its_terms() {
    let shop = Shop::start().await;
    let (shopper, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let amount = issue(&shop, "").await;
    let percent = issue(
        &shop,
        "kind = 'percent'; reduction = 15; cap_fen = 2000; scope = 'category'; scope_id = 1; valid_days = NULL; \
         valid_from = '2026-01-01'; valid_until = '2099-01-01'",
    )
    .await;

    let coupon = claim(&shopper, amount).await;
    assert_eq!(
        keys(&coupon),
        [
            "amount_off",
            "claimed_at",
            "id",
            "kind",
            "name",
            "scope",
            "status",
            "threshold",
            "used_at",
            "valid_from",
            "valid_until"
        ]
    );
    assert_eq!((fen(&coupon["amount_off"]), fen(&coupon["threshold"])), (500, 3000));
    assert_eq!(
        (&coupon["kind"], &coupon["scope"], &coupon["status"]),
        (&json!("amount"), &json!("shop"), &json!("unused"))
    );
    let fixed = claim(&shopper, percent).await;
    assert_eq!(
        (&fixed["kind"], &fixed["percent_off"], &fixed["category_id"]),
        (&json!("percent"), &json!(15), &json!(1))
    );
    assert_eq!(fen(&fixed["max_discount"]), 2000);
    assert_eq!(
        (&fixed["valid_from"], &fixed["valid_until"]),
        (&json!("2026-01-01T08:00:00+08:00"), &json!("2099-01-01T08:00:00+08:00"))
    );

    let mine = shopper.api.get("/api/coupons/mine").await.data();
    assert_eq!(mine, json!({"list": [fixed, coupon], "total": 2, "page": 1, "size": 20}));
    assert_eq!(other.api.get("/api/coupons/mine").await.data()["total"], 0, "another's are not shown");
    shop.api.get("/api/coupons/mine").await.fails_with(Problem::Unauthenticated);
    shop.api.get("/api/coupons").await.fails_with(Problem::Unauthenticated);
    shop.api.send(claim_call(amount)).await.fails_with(Problem::Unauthenticated);
}

#[tokio::test]
async fn the_list_shows_what_can_be_claimed_now() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let before = shopper.api.get("/api/coupons").await.data();
    let open = issue(&shop, "per_user = 2; issued = 7").await;
    issue(&shop, "status = 0").await;
    issue(&shop, "claim_until = '2026-01-01'").await;
    issue(&shop, "claim_from = '2099-01-01'").await;
    issue(
        &shop,
        "issued = 3; claimed = 0; valid_days = NULL; valid_from = '2025-01-01'; valid_until = '2026-01-01'",
    )
    .await;
    let last = issue(&shop, "issued = 1").await;
    assert_eq!(ids(&shopper.api.get("/api/coupons").await.data())[..2], [last, open]);
    claim(&shopper, last).await;
    claim(&shopper, open).await;

    let page = shopper.api.get("/api/coupons").await.data();
    let total = before["total"].as_i64().unwrap() + 1;
    assert_eq!(page["total"], total, "the last one is gone: {page}");
    let shown = &page["list"][0];
    assert_eq!(
        (&shown["id"], &shown["remaining"], &shown["claimed"], &shown["per_user"], &shown["valid_days"]),
        (&json!(open), &json!(6), &json!(1), &json!(2), &json!(10))
    );
    assert_eq!(shown["claim_until"], "2100-01-01T08:00:00+08:00");
    let second = shopper.api.get("/api/coupons?page=2&size=1").await.data();
    assert_eq!(ids(&second), ids(&before)[..1]);
    shopper.api.get("/api/coupons?size=101").await.refuses_fields(&["size"]);
    shopper.api.get("/api/coupons?status=used").await.refuses_fields(&["status"]);
}

#[tokio::test]
async fn a_second_click_gets_the_same_coupon_and_a_limit_is_a_limit() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let one = issue(&shop, "").await;
    let first = claim(&shopper, one).await;
    let keyed = shopper.api.send(claim_call(one).idempotent("again")).await;
    assert_eq!(keyed.data(), first, "another key, long after a double tap");
    assert_eq!(claim(&shopper, one).await, first);
    assert_eq!(claimed(&shop, one).await, 1);

    let two = issue(&shop, "per_user = 2").await;
    let call = |key: &str| claim_call(two).idempotent(key);
    let a = shopper.api.send(call("a")).await.data();
    assert_eq!(shopper.api.send(call("a")).await.data(), a, "a repetition is no second claim");
    let b = shopper.api.send(call("b")).await.data();
    assert_ne!(a["id"], b["id"]);
    shopper.api.send(call("c")).await.fails_with(Problem::CouponLimit);
    assert_eq!(shopper.api.send(call("a")).await.data(), a);
    assert_eq!(claimed(&shop, two).await, 2);
}

#[tokio::test]
async fn what_cannot_be_claimed_says_why() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    try_claim(&shopper, 999_999).await.fails_with(Problem::CouponNotFound);
    shopper.api.post("/api/coupons/abc/claim", &json!({})).await.fails_with(Problem::CouponNotFound);
    let withdrawn = issue(&shop, "status = 0").await;
    try_claim(&shopper, withdrawn).await.fails_with(Problem::CouponNotFound);
    for closed in [
        issue(&shop, "claim_until = '2026-01-01'").await,
        issue(&shop, "claim_from = '2099-01-01'").await,
        issue(&shop, "valid_days = NULL; valid_from = '2025-01-01'; valid_until = '2026-01-01'").await,
    ] {
        try_claim(&shopper, closed).await.fails_with(Problem::CouponNotClaimable);
    }
    let gone = issue(&shop, "issued = 0").await;
    try_claim(&shopper, gone).await.fails_with(Problem::CouponSoldOut);
}

#[tokio::test]
async fn thirty_shoppers_and_five_coupons_are_five_claims() {
    let mut shop = Shop::start().await;
    let replica = shop.replica().await;
    let five = issue(&shop, "issued = 5").await;
    let mut calls = Vec::new();
    for number in 0..30 {
        let shopper = shop.shopper(&format!("买家{number}")).await;
        calls.push((if number % 2 == 0 { shopper } else { shopper.through(&replica) }, claim_call(five)));
    }
    let replies = at_once(calls.into_iter()).await;
    let won: HashSet<i64> = replies
        .iter()
        .filter(|reply| reply.status == 200)
        .map(|reply| reply.data()["id"].as_i64().unwrap())
        .collect();
    assert_eq!(won.len(), 5);
    for lost in replies.iter().filter(|reply| reply.status != 200) {
        lost.fails_with(Problem::CouponSoldOut);
    }
    assert_eq!((claimed(&shop, five).await, shop.count("SELECT COUNT(*) FROM user_coupons").await), (5, 5));
}

#[tokio::test]
async fn one_shopper_who_clicks_everywhere_at_once_gets_no_more_than_one_may() {
    let mut shop = Shop::start().await;
    let replica = shop.replica().await;
    let shopper = shop.shopper("小王").await;
    for (limit, terms) in [(1, "per_user = 1"), (3, "per_user = 3")] {
        let issue = issue(&shop, terms).await;
        let calls = (0..20).map(|number| {
            let shopper = if number % 2 == 0 { shopper.clone() } else { shopper.through(&replica) };
            (shopper, claim_call(issue).idempotent(&format!("{limit}-{number}")))
        });
        let replies = at_once(calls).await;
        let got: HashSet<i64> = replies
            .iter()
            .filter(|reply| reply.status == 200)
            .map(|reply| reply.data()["id"].as_i64().unwrap())
            .collect();
        assert_eq!(got.len(), limit);
        assert_eq!(claimed(&shop, issue).await, i64::try_from(limit).unwrap());
        for refused in replies.iter().filter(|reply| reply.status != 200) {
            assert!(limit > 1, "everybody gets the one coupon");
            refused.fails_with(Problem::CouponLimit);
        }
    }
}

#[tokio::test]
async fn mine_can_be_narrowed_and_turned_over() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, price) = shop.first_product().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(claim(&shopper, issue(&shop, "threshold_fen = 0").await).await["id"].as_i64().unwrap());
    }
    assert!(price > 500);
    let body = json!({"product_id": product, "quantity": 1, "address_id": shopper.address().await, "coupon_id": held[1]});
    let order = shopper.api.post("/api/orders", &body).await.data();
    shop.change(
        "UPDATE user_coupons SET valid_from = '2025-01-01', valid_until = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE id = ",
        held[0],
    )
    .await;
    for (status, expected) in [("expired", held[0]), ("used", held[1]), ("unused", held[2])] {
        let page = shopper.api.get(&format!("/api/coupons/mine?status={status}")).await.data();
        assert_eq!((ids(&page), &page["total"]), (vec![expected], &json!(1)), "{status}");
        assert_eq!(page["list"][0]["status"], status);
    }
    let used = shopper.api.get("/api/coupons/mine?status=used").await.data();
    assert_eq!(used["list"][0]["order_id"], order["order_id"]);
    assert!(used["list"][0]["used_at"].as_str().unwrap().ends_with("+08:00"));
    let second = shopper.api.get("/api/coupons/mine?page=2&size=2").await.data();
    assert_eq!((ids(&second), &second["total"]), (vec![held[0]], &json!(3)));
    shopper.api.get("/api/coupons/mine?status=new").await.refuses_fields(&["status"]);
}
