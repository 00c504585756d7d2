//! The origin is killed, or does not answer: what was read goes on being shown for a day and says how old it is, what
//! would change something is refused in words, and nobody who could be shown a page waits.

use farmgate_tests::{Caller, EdgePlan, EdgeShop, LONG, Line, Problem, Reply, ShopPlan, eventually, json};

const HOUR_MS: u64 = 3_600_000;

fn source(reply: &Reply) -> &str {
    reply.header("x-edge-cache")
}

fn age(reply: &Reply) -> u64 {
    reply.header("age").parse().unwrap_or_else(|_| panic!("{}: no age", reply.asked))
}

async fn set_clock_ahead(phone: &Caller, ms: u64) {
    assert_eq!(phone.get(&format!("/provoke/clock/{ms}")).await.status, 200);
}

#[tokio::test]
async fn a_killed_origin_is_outlived_by_its_catalogue() {
    let plan = EdgePlan { to_provoke: true, ..EdgePlan::default() };
    let mut shop = EdgeShop::built(ShopPlan::new(), &plan).await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.shop.first_product().await;
    let page = format!("/api/products/{product}");
    let paths = ["/api/products", "/api/categories", page.as_str()];
    let mut good = Vec::new();
    for path in paths {
        good.push(shop.phone.get(path).await.data());
    }
    shop.shop.origin().kill();

    for (path, good) in paths.iter().zip(&good) {
        let stale = eventually(LONG, "the page is shown as old", async || {
            let reply = shop.phone.get(path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            (source(&reply) == "stale").then_some(reply)
        })
        .await;
        assert_eq!(stale.data(), *good, "{path}");
    }

    set_clock_ahead(&shop.phone, HOUR_MS).await;
    for (path, good) in paths.iter().zip(&good) {
        let stale = shop.phone.get(path).await;
        assert_eq!(stale.data(), *good, "{path}");
        assert_eq!(source(&stale), "stale", "{path}");
        assert!((3600..3700).contains(&age(&stale)), "{path}: {}", age(&stale));
        assert!(stale.header("warning").starts_with("110"), "{path}");
    }
    set_clock_ahead(&shop.phone, 24 * HOUR_MS).await;
    for path in paths {
        shop.phone.get(path).await.fails_with(Problem::Unavailable);
    }
    set_clock_ahead(&shop.phone, 0).await;

    // What changes something, or is one shopper's alone, is refused at once and in words.
    for reply in [
        shopper.api.post("/api/addresses", &json!({"name": "小王"})).await,
        shopper.api.post("/api/orders", &json!({})).await,
        shopper.api.get("/api/orders").await,
    ] {
        let body = reply.fails_with(Problem::Unavailable);
        let message = body["message"].as_str().unwrap();
        assert!(message.chars().any(|char| ('\u{4e00}'..'\u{9fff}').contains(&char)), "{message}");
        assert!(!reply.header("retry-after").is_empty());
        assert_eq!(reply.header("cache-control"), "no-store");
    }

    shop.restart_origin().await;
    for path in paths {
        eventually(LONG, "the page is fresh again", async || {
            let reply = shop.phone.get(path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            (source(&reply) != "stale").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn nobody_who_can_be_shown_a_page_waits_for_a_slow_origin() {
    let shop = EdgeShop::start().await;
    shop.phone.get("/api/products").await.data();
    shop.line.set(Line::Held);
    // Every one of these is answered while the origin answers nothing, whatever the page's age.
    eventually(LONG, "the origin is asked and the page is shown as old", async || {
        let reply = shop.phone.get("/api/products").await;
        reply.data();
        (source(&reply) == "stale" && shop.line.seen("/api/stock").len() >= 2).then_some(())
    })
    .await;
    for _ in 0..50 {
        let reply = shop.phone.get("/api/products").await;
        reply.data();
        assert_eq!(source(&reply), "stale");
    }
    shop.line.set(Line::Up);
    eventually(LONG, "the page is fresh again", async || {
        (source(&shop.phone.get("/api/products").await) != "stale").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_error_is_kept_by_nobody() {
    let shop = EdgeShop::start().await;
    for (size, status) in (1..).zip([500, 502, 503, 429, 403]) {
        shop.line.set(Line::Failing(status));
        let path = format!("/api/products?size={size}");
        let failed = shop.phone.get(&path).await;
        failed.fails_with(Problem::Unavailable);
        assert_eq!(failed.header("cache-control"), "no-store");
        shop.line.set(Line::Up);
        let reply = shop.phone.get(&path).await;
        reply.data();
        assert_eq!(source(&reply), "miss", "{status}: at once, by asking");
    }
}

#[tokio::test]
async fn what_is_one_shoppers_alone_is_asked_for_each_time() {
    let shop = EdgeShop::start().await;
    let (one, two) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, _, _) = shop.shop.first_product().await;
    one.order(product, 1).await;
    for path in ["/api/user/info", "/api/orders", "/api/addresses"] {
        shop.line.forget();
        let replies = [
            one.api.get(path).await,
            two.api.get(path).await,
            one.api.get(path).await,
            shop.phone.get(path).await,
        ];
        assert_eq!(shop.line.seen(path).len(), 3, "{path}: each is asked for, nobody's is not");
        let [first, second, again, nobody] = &replies;
        assert_eq!(first.data(), again.data(), "{path}");
        assert_ne!(first.data(), second.data(), "{path}");
        nobody.fails_with(Problem::Unauthenticated);
        for reply in &replies {
            assert_eq!(reply.header("cache-control"), "no-store", "{path}");
            assert_eq!((source(reply), reply.header("etag")), ("", ""), "{path}");
        }
    }
}
