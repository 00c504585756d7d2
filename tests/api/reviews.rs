//! Reviews: who may write them, once; what is shown, and when; and what a person decides.

use farmgate_tests::{Call, LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json, unique};

use crate::keys;
use crate::placing::at_once;

const CHECK: &str = "/wxa/msg_sec_check";

fn plan() -> ShopPlan {
    ShopPlan::new()
        .worker()
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
        .setting("FARMGATE_OUTBOX__AWAY_RETRY_MS", 200)
}

/// An order that arrived.
async fn completed(shop: &Shop, shopper: &Shopper) -> (i64, i64, i64) {
    let (product, sku, _) = shop.first_product().await;
    let bought = shopper.buy(&shop.wechat, product, 1).await;
    shop.ship(&bought, &["--pick-up"]).await;
    let order = bought["order_id"].as_i64().unwrap();
    shopper.api.post(&format!("/api/orders/{order}/confirm"), &json!({})).await.data();
    (order, product, sku)
}

/// An order of two SKUs that arrived: it, as [`completed`] tells it, and its second SKU.
async fn completed_two(shop: &Shop, shopper: &Shopper) -> ((i64, i64, i64), i64) {
    let (product, sku, _) = shop.first_product().await;
    let second = shop
        .count(
            "SELECT MIN(sku_id) FROM stock WHERE sku_id > (SELECT MIN(sku_id) FROM stock) AND available > 0",
        )
        .await;
    let items = json!([{"sku_id": sku, "quantity": 1}, {"sku_id": second, "quantity": 1}]);
    let body = json!({"items": items, "address_id": shopper.address().await});
    let order = shopper.api.post("/api/orders", &body).await.data();
    shopper.prepay(&order).await;
    shop.wechat.pay(order["order_no"].as_str().unwrap()).await;
    shop.ship(&order, &["--pick-up"]).await;
    let id = order["order_id"].as_i64().unwrap();
    shopper.api.post(&format!("/api/orders/{id}/confirm"), &json!({})).await.data();
    ((id, product, sku), second)
}

fn review(order: i64, sku: i64, content: &str) -> Call {
    let body = json!({"reviews": [{"sku_id": sku, "rating": 5, "content": content}]});
    Call::post(&format!("/api/orders/{order}/reviews"), &body)
}

async fn shown(shop: &Shop, product: i64) -> Value {
    shop.api.get(&format!("/api/products/{product}/reviews")).await.data()
}

/// Waits until the one review of the order stands there.
async fn stands(shopper: &Shopper, order: i64, status: u8) {
    eventually(LONG, &format!("the review has status {status}"), async || {
        let own = shopper.api.get(&format!("/api/orders/{order}/reviews")).await.data();
        (own[0]["status"] == json!(status)).then_some(())
    })
    .await;
}

async fn check_is_over(shop: &Shop) {
    eventually(LONG, "the check is over", async || {
        let open = "SELECT COUNT(*) FROM outbox_deliveries WHERE consumer = 'review_check'";
        let waiting = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
        (shop.count(open).await + shop.count(waiting).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_review_is_shown_when_wechat_has_passed_it() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    let edit = json!({"nickname": "果园小王", "avatar": "https://example.com/a.png"});
    shopper.api.put("/api/user/info", &edit).await.data();
    let (order, product, sku) = completed(&shop, &shopper).await;
    shop.wechat.hold(&[CHECK]).await;
    let reply = shopper.api.send(review(order, sku, " 很甜，\n下次还买 ")).await;
    assert_eq!(reply.json()["message"], "评价成功");
    let written = &reply.data()[0];
    assert_eq!(
        keys(written),
        [
            "anonymous",
            "content",
            "created_at",
            "id",
            "images",
            "product_id",
            "rating",
            "sku_id",
            "status",
            "status_text"
        ]
    );
    assert_eq!((&written["status"], &written["content"]), (&json!(0), &json!("很甜，\n下次还买")));
    shop.wechat.holds(1).await;
    assert_eq!(shown(&shop, product).await["total"], 0, "not before WeChat was heard");
    shop.wechat.behave().await;
    stands(&shopper, order, 1).await;
    let page = shown(&shop, product).await;
    assert_eq!((&page["total"], &page["page"], &page["size"]), (&json!(1), &json!(1), &json!(20)));
    let one = &page["list"][0];
    assert_eq!(
        keys(one),
        ["avatar", "content", "created_at", "id", "images", "nickname", "rating", "specifications"],
        "no user id, no order"
    );
    assert_eq!((&one["nickname"], &one["avatar"]), (&json!("果***"), &json!("")), "nobody has checked these");
    // A picture of the shop's own is shown.
    let own = shop.own_picture();
    shopper.api.put("/api/user/info", &json!({"avatar": own})).await.data();
    assert_eq!(shown(&shop, product).await["list"][0]["avatar"], own);
    let asked = &shop.wechat.calls(CHECK).await[0]["body"];
    assert_eq!(
        (&asked["version"], &asked["scene"], &asked["content"]),
        (&json!(2), &json!(2), &written["content"])
    );
}

#[tokio::test]
async fn an_anonymous_author_is_masked_and_stars_alone_need_no_check() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    shopper
        .api
        .put("/api/user/info", &json!({"nickname": "果园小王", "avatar": "https://example.com/a.png"}))
        .await
        .data();
    let (order, product, sku) = completed(&shop, &shopper).await;
    let body = json!({"anonymous": true, "reviews": [{"sku_id": sku, "rating": 4}]});
    let written = shopper.api.post(&format!("/api/orders/{order}/reviews"), &body).await.data();
    assert_eq!(written[0]["status"], 1);
    let page = shown(&shop, product).await;
    assert_eq!((&page["list"][0]["nickname"], &page["list"][0]["avatar"]), (&json!("匿名用户"), &json!("")));
    assert!(!page.to_string().contains("小王") && !page.to_string().contains("a.png"), "{page}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'review_written'").await, 0);
}

#[tokio::test]
async fn a_line_that_wechat_cannot_judge_holds_no_other_up() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    let (first, second) = completed_two(&shop, &shopper).await;
    let line = |sku: i64, content: &str| json!({"sku_id": sku, "rating": 5, "content": content});
    let path = format!("/api/orders/{}/reviews", first.0);
    let twice = json!({"reviews": [line(first.2, "好"), line(first.2, "好")]});
    shopper.api.post(&path, &twice).await.refuses_fields(&["reviews[1].sku_id"]);
    let both = json!({"reviews": [line(first.2, "忙碌"), line(second, "很甜")]});
    shopper.api.post(&path, &both).await.data();
    eventually(LONG, "the other line is judged", async || {
        let own = shopper.api.get(&path).await.data();
        (own[1]["status"] == json!(1)).then_some(())
    })
    .await;
    let busy = &shopper.api.get(&path).await.data()[0];
    assert_eq!(busy["status"], 0, "WeChat is asked again");
    let asked = |content: &str, calls: &[Value]| {
        calls.iter().filter(|call| call["body"]["content"] == content).count()
    };
    eventually(LONG, "it is asked again", async || {
        (asked("忙碌", &shop.wechat.calls(CHECK).await) > 2).then_some(())
    })
    .await;
    assert_eq!(asked("很甜", &shop.wechat.calls(CHECK).await), 1, "what was heard is not asked again");
    let (done, said) = shop.command(&["review", "approve", &busy["id"].to_string()]).await;
    assert!(done, "{said}");
}

#[tokio::test]
async fn a_line_is_reviewed_once_however_often_it_is_clicked() {
    let mut shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (order, _, sku) = completed(&shop, &shopper).await;
    let keyed = || (shopper.clone(), review(order, sku, "好").idempotent("one"));
    let replies = at_once((0..50).map(|_| keyed())).await;
    let first = replies[0].data();
    assert!(replies.iter().all(|reply| reply.data() == first), "all get the one reply");
    assert!(
        !shop.origin().log().contains("lost a lock"),
        "those who wait for one key do not kill each other"
    );
    shopper
        .api
        .send(review(order, sku, "坏").idempotent("one"))
        .await
        .fails_with(Problem::IdempotencyKeyReused);
    shopper.api.send(review(order, sku, "坏")).await.fails_with(Problem::AlreadyReviewed);
    for reply in
        at_once((0..5).map(|_| (shopper.clone(), review(order, sku, "好").idempotent(&unique("k"))))).await
    {
        reply.fails_with(Problem::AlreadyReviewed);
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM reviews").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'review_written'").await, 1);
}

#[tokio::test]
async fn only_the_buyer_of_a_completed_order_reviews_its_own_lines() {
    let shop = Shop::start().await;
    let (shopper, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (order, product, sku) = completed(&shop, &shopper).await;
    other.api.send(review(order, sku, "好")).await.fails_with(Problem::OrderNotFound);
    other.api.get(&format!("/api/orders/{order}/reviews")).await.fails_with(Problem::OrderNotFound);
    let unpaid = shopper.order(product, 1).await["order_id"].as_i64().unwrap();
    shopper.api.send(review(unpaid, sku, "好")).await.fails_with(Problem::OrderStateConflict);
    shopper.api.send(review(999_999, sku, "好")).await.fails_with(Problem::OrderNotFound);
    shop.api.send(review(order, sku, "好")).await.fails_with(Problem::Unauthenticated);

    let path = format!("/api/orders/{order}/reviews");
    let one = |change: Value| {
        let mut line = json!({"sku_id": sku, "rating": 5, "content": "好"});
        for (field, value) in change.as_object().unwrap() {
            line[field] = value.clone();
        }
        json!({"reviews": [line]})
    };
    for (body, fields) in [
        (json!({}), &["reviews"][..]),
        (json!({"reviews": []}), &["reviews"]),
        (one(json!({"rating": 0})), &["reviews[0].rating"]),
        (one(json!({"rating": 6})), &["reviews[0].rating"]),
        (one(json!({"rating": 4.5})), &["reviews[0].rating"]),
        (one(json!({"sku_id": 999_999})), &["reviews[0].sku_id"]),
        (one(json!({"content": "字".repeat(501)})), &["reviews[0].content"]),
        (one(json!({"content": "a\u{0}b"})), &["reviews[0].content"]),
        (one(json!({"images": ["https://elsewhere.example/a.png"]})), &["reviews[0].images"]),
        (one(json!({"images": vec!["x"; 7]})), &["reviews[0].images"]),
    ] {
        shopper.api.post(&path, &body).await.refuses_fields(fields);
    }
    assert_eq!(shop.count("SELECT COUNT(*) FROM reviews").await, 0);
    for (query, field) in [("page=0", "page"), ("size=101", "size"), ("sort=new", "sort")] {
        shop.api.get(&format!("/api/products/{product}/reviews?{query}")).await.refuses_fields(&[field]);
    }
    shop.api.get("/api/products/999999/reviews").await.fails_with(Problem::ProductNotFound);
}

#[tokio::test]
async fn wechats_opinion_decides_and_a_persons_word_stands_over_it() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    let mut ids = Vec::new();
    for (content, status) in [("违规广告", 2), ("有点可疑", 3)] {
        let (order, _, sku) = completed(&shop, &shopper).await;
        let written = shopper.api.send(review(order, sku, content)).await.data();
        ids.push(written[0]["id"].to_string());
        stands(&shopper, order, status).await;
    }
    // The author left hours ago: WeChat gives no opinion.
    shop.wechat
        .misbehave(json!({"api": [{"fault": "errcode", "errcode": 61010, "path": CHECK, "times": 1}]}))
        .await;
    let (order, product, sku) = completed(&shop, &shopper).await;
    let written = shopper.api.send(review(order, sku, "很好")).await.data();
    ids.push(written[0]["id"].to_string());
    stands(&shopper, order, 3).await;
    assert_eq!(shown(&shop, product).await["total"], 0);

    let (done, said) = shop.command(&["review", "list"]).await;
    assert!(done && said.contains("有点可疑") && said.contains("很好") && !said.contains("违规"), "{said}");
    let (done, said) = shop.command(&["review", "approve", &ids[2]]).await;
    assert!(done && said.contains("shown"), "{said}");
    assert_eq!(shown(&shop, product).await["total"], 1);
    let (done, said) = shop.command(&["review", "refuse", &ids[2], &ids[1]]).await;
    assert!(done, "{said}");
    assert_eq!(shown(&shop, product).await["total"], 0);
    let (done, said) = shop.command(&["review", "show", &ids[1]]).await;
    assert!(done && said.contains("refused"), "{said}");
    let (done, said) = shop.command(&["review", "approve", &ids[0], "999999"]).await;
    assert!(!done && said.contains("999999"), "{said}");
    assert_eq!(shown(&shop, product).await["total"], 0, "nothing is done when one is not there");
}

#[tokio::test]
async fn a_check_that_fails_in_passing_is_made_again_and_a_person_may_be_faster() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    let faults = json!({"api": [
        {"fault": "errcode", "errcode": -1, "path": CHECK, "times": 1},
        {"fault": "lost_reply", "path": CHECK, "times": 1},
        {"fault": "status", "status": 502, "code": "x", "path": CHECK, "times": 1},
    ]});
    shop.wechat.misbehave(faults).await;
    let (order, product, sku) = completed(&shop, &shopper).await;
    shopper.api.send(review(order, sku, "好")).await.data();
    stands(&shopper, order, 1).await;
    assert_eq!(shown(&shop, product).await["total"], 1);

    // Refused by a person while WeChat takes its time.
    shop.wechat.hold(&[CHECK]).await;
    let (order, ..) = completed(&shop, &shopper).await;
    let id = shopper.api.send(review(order, sku, "还行")).await.data()[0]["id"].to_string();
    shop.wechat.holds(1).await;
    let (done, said) = shop.command(&["review", "refuse", &id]).await;
    assert!(done, "{said}");
    shop.wechat.behave().await;
    check_is_over(&shop).await;
    stands(&shopper, order, 2).await;
}

#[tokio::test]
async fn a_worker_that_dies_after_the_check_leaves_it_to_the_next() {
    let mut shop = plan()
        .setting("FARMGATE_WECHAT__TIMEOUT_MS", 8000)
        .setting("FARMGATE_OUTBOX__CALL_LEASE_MS", 24_000)
        .start()
        .await;
    let shopper = shop.shopper("小王").await;
    let (order, product, sku) = completed(&shop, &shopper).await;
    shop.all_is_delivered().await;
    shop.worker().kill();
    // The check is the only call that is left.
    shop.start_worker_to_die_at(Some("outbox_after_call")).await;
    shopper.api.send(review(order, sku, "好")).await.data();
    shop.worker().died_at("outbox_after_call").await;
    assert_eq!(shown(&shop, product).await["total"], 1, "what was heard is kept");
    shop.start_worker().await;
    check_is_over(&shop).await;
    stands(&shopper, order, 1).await;
    assert_eq!(shop.wechat.calls(CHECK).await.len(), 1, "and not asked again");
}

#[tokio::test]
async fn pages_of_reviews_are_whole_and_in_order() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let mut product = 0;
    for _ in 0..5 {
        let (order, of, sku) = completed(&shop, &shopper).await;
        product = of;
        let body = json!({"reviews": [{"sku_id": sku, "rating": 5}]});
        shopper.api.post(&format!("/api/orders/{order}/reviews"), &body).await.data();
    }
    let mut ids = Vec::new();
    for page in 1..=3 {
        let path = format!("/api/products/{product}/reviews?page={page}&size=2");
        let found = shop.api.get(&path).await.data();
        assert_eq!(found["total"], 5);
        ids.extend(found["list"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()));
    }
    assert_eq!(ids.len(), 5);
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
}
