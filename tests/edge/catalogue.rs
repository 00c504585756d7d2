//! The catalogue at the edge: asked once, shown while the origin is slow or away, and never an error from a cache.

use std::time::Instant;

use farmgate_tests::{Call, EdgeShop, LONG, Line, Problem, Reply, eventually, json};
use reqwest::Method;

/// What the edge says of where a page came from.
fn source(reply: &Reply) -> &str {
    reply.header("x-edge-cache")
}

#[tokio::test]
async fn the_second_read_does_not_reach_the_origin() {
    let shop = EdgeShop::start().await;
    let begun = Instant::now();
    let first = shop.phone.get("/api/categories").await;
    let second = shop.phone.get("/api/categories").await;
    let seconds = begun.elapsed().as_secs();
    assert_eq!(source(&first), "miss");
    // A page is shown for four seconds, and renewed in their second half.
    assert!(source(&second) == "hit" || seconds >= 4, "{} after {seconds} s", source(&second));
    assert_eq!(first.data(), second.data());
    let asked = shop.line.seen("/api/categories").len();
    assert!(asked <= 1 + usize::try_from(seconds / 2).unwrap(), "{asked} questions in {seconds} s");
    assert_ne!(
        first.header("x-request-id"),
        second.header("x-request-id"),
        "a kept page names the new request"
    );
}

#[tokio::test]
async fn every_spelling_of_a_list_is_one_question() {
    let shop = EdgeShop::start().await;
    for query in ["", "?page=1", "?size=20&page=1", "?sort=default&keyword=&page=1", "?category_id="] {
        shop.phone.get(&format!("/api/products{query}")).await.data();
    }
    let mut asked: Vec<String> = shop.line.seen("/api/products").into_iter().map(|seen| seen.path).collect();
    asked.dedup();
    assert_eq!(asked, ["/api/products?page=1&size=20"]);
    shop.line.forget();
    shop.phone.get("/api/products?_=1700000000").await.refuses_fields(&["_"]);
    for page in ["0", "-1", "abc", "1000001"] {
        shop.phone.get(&format!("/api/products?page={page}")).await.refuses_fields(&["page"]);
    }
    shop.phone.get("/api/products?size=101").await.refuses_fields(&["size"]);
    assert_eq!(shop.line.seen("/api/products").len(), 0, "a cache-buster cannot reach the origin");
}

#[tokio::test]
async fn the_edge_shows_what_the_origin_shows() {
    let shop = EdgeShop::start().await;
    let (product, sku, _) = shop.shop.first_product().await;
    for path in [
        "/api/products?size=100".to_owned(),
        format!("/api/products/{product}"),
        "/api/categories".to_owned(),
        format!("/api/stock?ids={sku}"),
    ] {
        let (at_edge, at_origin) = (shop.phone.get(&path).await, shop.shop.api.get(&path).await);
        assert_eq!(at_edge.data(), at_origin.data(), "{path}");
        assert!(!at_edge.header("etag").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_phone_with_the_same_page_gets_no_body() {
    let shop = EdgeShop::start().await;
    let first = shop.phone.get("/api/categories").await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"'), "a strong validator: {etag}");
    let same = shop.phone.send(Call::get("/api/categories").header("if-none-match", &etag)).await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, etag.as_str()));
    let other = shop.phone.send(Call::get("/api/categories").header("if-none-match", "\"other\"")).await;
    assert_eq!(other.data(), first.data());
    let head = shop.phone.send(Call::new(Method::HEAD, "/api/categories")).await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, etag.as_str()));
}

#[tokio::test]
async fn while_the_origin_is_down_old_pages_are_shown_and_say_so() {
    let shop = EdgeShop::start().await;
    let good = shop.phone.get("/api/products").await.data();
    for line in [Line::Down, Line::Failing(500), Line::Failing(403)] {
        shop.line.set(line);
        let stale = eventually(LONG, "the page is shown as old", async || {
            let reply = shop.phone.get("/api/products").await;
            assert_eq!(reply.status, 200, "{line:?}: {}", reply.text());
            (source(&reply) == "stale").then_some(reply)
        })
        .await;
        assert_eq!(stale.data()["total"], good["total"], "{line:?}");
        assert!(stale.header("warning").starts_with("110"), "{line:?}");
        assert!(!stale.header("age").is_empty(), "{line:?}");
        // What was never read cannot be shown; the failure is our own and is kept by nobody.
        let unread = shop.phone.get("/api/products?size=7").await;
        unread.fails_with(Problem::Unavailable);
        assert!(unread.header("cache-control").contains("no-store"));
        shop.line.set(Line::Up);
        eventually(LONG, "the page is fresh again", async || {
            let reply = shop.phone.get("/api/products").await;
            (source(&reply) != "stale").then_some(())
        })
        .await;
    }
    assert_eq!(shop.phone.get("/api/products?size=7").await.data()["size"], json!(7), "no error was kept");
}

#[tokio::test]
async fn a_missing_product_is_asked_for_once_and_each_reply_names_its_request() {
    let shop = EdgeShop::start().await;
    let first = shop.phone.get("/api/products/999999999").await.fails_with(Problem::ProductNotFound);
    let second = shop.phone.get("/api/products/999999999").await.fails_with(Problem::ProductNotFound);
    assert_ne!(first["request_id"], second["request_id"]);
    assert_eq!(shop.line.seen("/api/products/").len(), 1);
    for id in ["0", "-1", "abc", "1.5", "99999999999999999999"] {
        shop.phone.get(&format!("/api/products/{id}")).await.fails_with(Problem::ProductNotFound);
    }
    assert_eq!(shop.line.seen("/api/products/").len(), 1, "what is no id is not asked for");
}

#[tokio::test]
async fn a_page_for_everybody_is_asked_for_by_nobody() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    shop.line.forget();
    let call = Call::get("/api/categories").header("cookie", "a=b").header("accept-language", "en");
    shopper.api.send(call).await.data();
    let seen = shop.line.seen("/api/categories");
    assert_eq!(
        (seen[0].header("authorization"), seen[0].header("cookie"), seen[0].header("x-edge-subject")),
        ("", "", "")
    );
}
