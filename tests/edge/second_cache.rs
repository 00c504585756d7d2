//! The second cache, where the host has a Cache API: pages named by the catalogue's version, shared by all edges of one
//! place. A stand-in keeps what the real runtime gives it.

use std::time::{Duration, Instant};

use farmgate_tests::{CacheApi, EdgePlan, EdgeShop, LONG, Line, Problem, Reply, ShopPlan, eventually, json};

/// For so long an edge goes by the version that it learnt last.
const VERSION_IS_BELIEVED: Duration = Duration::from_secs(2);
/// For so long at least a list is shown without a question.
const IS_FRESH: Duration = Duration::from_millis(1500);
/// What takes longer than these on a slow machine says nothing, and is done again.
const TRIES: usize = 10;

fn source(reply: &Reply) -> &str {
    reply.header("x-edge-cache")
}

async fn version(shop: &EdgeShop) -> i64 {
    shop.shop.count("SELECT version FROM catalog_version").await
}

async fn shared() -> (CacheApi, EdgePlan, EdgeShop) {
    let cache = CacheApi::open().await;
    let plan = EdgePlan { second_cache: Some(cache.address()), ..EdgePlan::default() };
    let shop = EdgeShop::built(ShopPlan::new().stock(5), &plan).await;
    (cache, plan, shop)
}

async fn is_stored(cache: &CacheApi, path: &str) {
    eventually(LONG, "the page is in the second cache", async || {
        cache.entries().contains_key(path).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pages_are_kept_by_version_and_nothing_else_is() {
    let (cache, _, shop) = shared().await;
    let shopper = shop.shopper("小王").await;
    let version = version(&shop).await;
    shop.phone.get("/api/products?size=7&_page=").await;
    shop.phone.get("/api/products?size=7").await.data();
    shop.phone.get("/api/categories?_=1").await.data();
    shop.phone.get("/api/stock?ids=1").await.data();
    shop.phone.get("/api/products/999999999").await.fails_with(Problem::ProductNotFound);
    shopper.api.get("/api/orders").await.data();
    let list = format!("/.edge-cache/v{version}/api/products?page=1&size=7");
    let categories = format!("/.edge-cache/v{version}/api/categories");
    is_stored(&cache, &list).await;
    is_stored(&cache, &categories).await;
    is_stored(&cache, "/.edge-cache/version").await;
    let entries = cache.entries();
    assert_eq!(entries.keys().collect::<Vec<_>>(), [&categories, &list, "/.edge-cache/version"]);
    assert!(entries["/.edge-cache/version"].ends_with(&format!("\r\n\r\n{version}")));
    assert!(
        entries[&list]
            .contains(&String::from_utf8_lossy(&shop.phone.get("/api/products?size=7").await.body)[..40])
    );
}

#[tokio::test]
async fn a_new_edge_takes_its_neighbours_page_and_asks_only_for_its_stock() {
    let (cache, plan, shop) = shared().await;
    let (product, _, _) = shop.shop.first_product().await;
    let page = format!("/api/products/{product}");
    let version = version(&shop).await;
    let before = shop.phone.get(&page).await.data()["stock"].as_i64().unwrap();
    shop.phone.get("/api/categories").await.data();
    is_stored(&cache, &format!("/.edge-cache/v{version}{page}")).await;
    is_stored(&cache, &format!("/.edge-cache/v{version}/api/categories")).await;
    shop.shopper("小王").await.order(product, 2).await;
    eventually(LONG, "the origin's own view shows the order", async || {
        (shop.shop.api.get(&page).await.data()["stock"] == json!(before - 2)).then_some(())
    })
    .await;

    for _ in 0..TRIES {
        let other = shop.another_edge(&plan).await;
        let begun = Instant::now();
        // From this one it learns the version that the shop is at.
        other.phone.get("/api/products?size=3").await.data();
        assert_eq!(
            other.phone.get(&page).await.data()["stock"],
            json!(before - 2),
            "the stock in the cache is not believed"
        );
        other.phone.get("/api/categories").await.data();
        if begun.elapsed() < VERSION_IS_BELIEVED {
            assert_eq!(other.line.seen(&page).len(), 0);
            assert_eq!(other.line.seen("/api/stock").len(), 1);
            assert_eq!(other.line.seen("/api/categories").len(), 0);
            return;
        }
    }
    panic!("the machine was too slow {TRIES} times");
}

#[tokio::test]
async fn a_new_edge_has_something_to_show_while_the_origin_is_away() {
    let (cache, plan, shop) = shared().await;
    let good = shop.phone.get("/api/products").await.data();
    let version = version(&shop).await;
    is_stored(&cache, &format!("/.edge-cache/v{version}/api/products?page=1&size=20")).await;
    is_stored(&cache, "/.edge-cache/version").await;

    let other = shop.another_edge(&plan).await;
    other.line.set(Line::Down);
    let stale = other.phone.get("/api/products").await;
    assert_eq!((stale.data(), source(&stale)), (good.clone(), "stale"));
    assert!(!stale.header("age").is_empty() && stale.header("warning").starts_with("110"));
    // Laid in within its life, it may be a plain hit for the rest of that.
    eventually(LONG, "the page is shown from memory, as old", async || {
        let reply = other.phone.get("/api/products").await;
        assert_eq!(reply.data(), good);
        (source(&reply) == "stale").then_some(())
    })
    .await;
    other.phone.get("/api/products?size=9").await.fails_with(Problem::Unavailable);
    other.line.set(Line::Up);
    eventually(LONG, "the page is fresh again", async || {
        (source(&other.phone.get("/api/products").await) != "stale").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_whose_cache_refuses_costs_nothing() {
    let plan = EdgePlan { second_cache: Some("127.0.0.1:9".to_owned()), ..EdgePlan::default() };
    let shop = EdgeShop::built(ShopPlan::new(), &plan).await;
    let begun = Instant::now();
    let categories = [shop.phone.get("/api/categories").await, shop.phone.get("/api/categories").await];
    let is_over = begun.elapsed() >= Duration::from_secs(4);
    assert!(categories.iter().all(|reply| reply.status == 200));
    assert_eq!(source(&categories[0]), "miss");
    assert!(source(&categories[1]) == "hit" || is_over, "{}", source(&categories[1]));
    for size in 1..=TRIES {
        let path = format!("/api/products?size={size}");
        let begun = Instant::now();
        let replies = [shop.phone.get(&path).await, shop.phone.get(&path).await];
        if begun.elapsed() < IS_FRESH {
            let told = replies.each_ref().map(|reply| (reply.status, source(reply)));
            assert_eq!(told, [(200, "miss"), (200, "hit")]);
            return;
        }
    }
    panic!("the machine was too slow {TRIES} times");
}
