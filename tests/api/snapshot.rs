//! The snapshot behind the catalogue: every replica follows MySQL, and goes on without it.

use std::time::Duration;

use farmgate_tests::{Caller, LONG, Mysql, Shop, ShopPlan, Value, eventually, json};
use tokio::time::Instant;

/// What DESIGN promises of an edit at the origins. A busy machine may take longer now and then.
const EDIT: Duration = Duration::from_secs(1);

async fn name_of(api: &Caller, product: i64) -> (Value, String) {
    let reply = api.get(&format!("/api/products/{product}")).await;
    (reply.data()["name"].clone(), reply.header("x-catalog-version").to_owned())
}

async fn stock_of(api: &Caller, sku: i64) -> Value {
    api.get(&format!("/api/stock?ids={sku}")).await.data()[0]["stock"].clone()
}

/// Changes the name of a product as every edit does: with the version, in one transaction.
async fn rename(shop: &Shop, product: i64, name: &str) {
    let mut edit = shop.db.begin().await.unwrap();
    sqlx::query("UPDATE products SET name = ? WHERE id = ?")
        .bind(name)
        .bind(product)
        .execute(&mut *edit)
        .await
        .unwrap();
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&mut *edit).await.unwrap();
    edit.commit().await.unwrap();
}

#[tokio::test]
async fn an_edit_is_seen_by_every_replica_within_a_second() {
    let mut shop = Shop::start().await;
    let replica = shop.replica().await;
    let (product, ..) = shop.first_product().await;
    // How soon each origin had it at best: a machine that stands still says nothing about the shop.
    let mut soonest = [Duration::MAX; 2];
    for round in 1..=5 {
        let name = format!("Apple-{round}");
        rename(&shop, product, &name).await;
        let committed = Instant::now();
        let version = shop.count("SELECT version FROM catalog_version").await.to_string();
        for (soonest, api) in soonest.iter_mut().zip([&shop.api, &replica]) {
            eventually(LONG, "the edit is seen", async || {
                let (shown, shown_version) = name_of(api, product).await;
                // A reply of the new version has the new name, and one with the new name is of the new version.
                assert_eq!(shown == json!(name), shown_version == version, "{shown} at {shown_version}");
                (shown_version == version).then_some(())
            })
            .await;
            *soonest = committed.elapsed().min(*soonest);
            let found = api.get(&format!("/api/products?keyword={name}")).await.data();
            assert_eq!(found["total"], 1, "{found}");
        }
    }
    assert!(soonest.iter().all(|time| *time <= EDIT), "{soonest:?}");
}

/// One who takes a piece away in a transaction that stays open, movement and all.
async fn begin_to_take<'a>(shop: &'a Shop, sku: i64) -> sqlx::Transaction<'a, sqlx::MySql> {
    let mut taking = shop.db.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO stock_movements (sku_id, reason, available_change, held_change, sold_change)
         VALUES (?, 'stocked', -1, 0, 0)",
    )
    .bind(sku)
    .execute(&mut *taking)
    .await
    .unwrap();
    sqlx::query("UPDATE stock SET total = total - 1, available = available - 1 WHERE sku_id = ?")
        .bind(sku)
        .execute(&mut *taking)
        .await
        .unwrap();
    taking
}

#[tokio::test]
async fn a_change_that_commits_after_a_later_one_is_not_missed() {
    // Without the sweep, only the movements tell.
    let shop = ShopPlan::new().setting("FARMGATE_CATALOG__STOCK_SWEEP", 0).start().await;
    let skus: Vec<i64> = sqlx::query_scalar("SELECT id FROM product_skus ORDER BY id LIMIT 3")
        .fetch_all(&shop.db)
        .await
        .unwrap();
    let &[early, late, lost] = skus.as_slice() else { panic!("three SKUs") };
    let mut before = Vec::new();
    for sku in &skus {
        before.push(shop.stock(*sku).await.available);
    }
    let rolled_back = begin_to_take(&shop, lost).await;
    let first = begin_to_take(&shop, early).await;
    let second = begin_to_take(&shop, late).await;
    second.commit().await.unwrap();
    eventually(LONG, "the later change is shown", async || {
        (stock_of(&shop.api, late).await == json!(before[1] - 1)).then_some(())
    })
    .await;
    assert_eq!(stock_of(&shop.api, early).await, json!(before[0]), "it has not committed");
    rolled_back.rollback().await.unwrap();
    first.commit().await.unwrap();
    eventually(LONG, "the earlier change is shown", async || {
        (stock_of(&shop.api, early).await == json!(before[0] - 1)).then_some(())
    })
    .await;
    assert_eq!(stock_of(&shop.api, lost).await, json!(before[2]));
}

#[tokio::test]
async fn a_change_that_was_open_when_the_origin_started_is_not_missed() {
    let shop = ShopPlan::new().setting("FARMGATE_CATALOG__STOCK_SWEEP", 0).start().await;
    let (_, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await.available;
    let other = shop.count("SELECT MAX(id) FROM product_skus").await;
    let open = begin_to_take(&shop, sku).await;
    begin_to_take(&shop, other).await.commit().await.unwrap();
    let (_replica, url) = shop.one_more_origin(None).await;
    let replica = shop.call_origin(&url);
    assert_eq!(stock_of(&replica, sku).await, json!(before));
    open.commit().await.unwrap();
    eventually(LONG, "the change is shown", async || {
        (stock_of(&replica, sku).await == json!(before - 1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stock_changed_by_hand_is_found_by_the_sweep() {
    let shop = Shop::start().await;
    let (product, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await.available;
    shop.change("UPDATE stock SET total = 7777 + held + sold, available = 7777 WHERE sku_id = ", sku).await;
    eventually(LONG, "the level set by hand is shown", async || {
        let shown = shop.api.get(&format!("/api/products/{product}")).await.data();
        shown["skus"].as_array().unwrap().iter().any(|sku| sku["stock"] == json!(7777)).then_some(())
    })
    .await;
    // The books are right again.
    sqlx::query("UPDATE stock SET total = total - available + ?, available = ? WHERE sku_id = ?")
        .bind(before)
        .bind(before)
        .bind(sku)
        .execute(&shop.db)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_page_shows_the_stock_that_the_stock_list_tells() {
    let shop = Shop::start().await;
    let (product, sku, _) = shop.first_product().await;
    let pages =
        ["/api/products?size=100".to_owned(), format!("/api/products/{product}"), "/api/home".to_owned()];
    for page in &pages {
        shop.api.get(page).await.data();
    }
    let before = shop.stock(sku).await.available;
    shop.shopper("小王").await.order(product, 2).await;
    for page in &pages {
        eventually(LONG, "a page that was made before shows the stock of now", async || {
            let shown = shop.api.get(page).await.data();
            let lists = [&shown["list"], &shown["recommended"], &shown["skus"]];
            let mut rows = lists.iter().filter_map(|list| list.as_array()).flatten();
            // Lists show the product, its own page shows the SKU as well.
            let id = if shown["skus"].is_array() { sku } else { product };
            let row = rows.find(|row| row["id"] == json!(id)).expect("the first product is on every page");
            (row["stock"] == json!(before - 2)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_mysql_the_catalogue_goes_on() {
    let mut mysql = Mysql::start().await;
    let mut shop = ShopPlan::new().on_mysql(&mysql).start().await;
    let (product, sku, _) = shop.first_product().await;
    let paths = [
        "/api/products?size=100&sort=price_desc".to_owned(),
        "/api/products?keyword=%E8%8B%B9%E6%9E%9C".to_owned(),
        format!("/api/products/{product}"),
        "/api/categories".to_owned(),
        "/api/home".to_owned(),
        format!("/api/stock?products={product}"),
    ];
    let mut before = Vec::new();
    // Some pages are made before the outage, some in it.
    for path in &paths[..3] {
        before.push(shop.api.get(path).await.data());
    }
    mysql.kill();
    eventually(LONG, "the origin says that it is not ready", async || {
        (shop.api.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    for (path, before) in paths.iter().zip(&before) {
        assert_eq!(shop.api.get(path).await.data(), *before, "{path}");
    }
    for path in &paths[3..] {
        let reply = shop.api.get(path).await;
        reply.data();
        assert!(!reply.header("x-catalog-version").is_empty(), "{path}");
    }
    for says in ["serving from the last snapshot", "showing the stock of before"] {
        eventually(LONG, says, async || shop.origin().log().contains(says).then_some(())).await;
    }
    mysql.restart().await;
    eventually(LONG, "the origin is ready", async || {
        (shop.api.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let left = shop.stock(sku).await.available - 1;
    begin_to_take(&shop, sku).await.commit().await.unwrap();
    eventually(LONG, "it follows again", async || {
        (stock_of(&shop.api, sku).await == json!(left)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_catalogue_that_cannot_be_loaded_leaves_the_old_one() {
    let mut shop = Shop::start().await;
    let (product, ..) = shop.first_product().await;
    let before = shop.api.get(&format!("/api/products/{product}")).await.data();
    shop.change("UPDATE products SET images = '{\"no\": \"list\"}' WHERE id = ", product).await;
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&shop.db).await.unwrap();
    eventually(LONG, "the failure is logged", async || {
        shop.origin().log().contains("serving from the last snapshot").then_some(())
    })
    .await;
    assert_eq!(shop.api.get(&format!("/api/products/{product}")).await.data(), before);
    // Mended, it is loaded.
    shop.seed_again().await;
    let version = shop.count("SELECT version FROM catalog_version").await.to_string();
    eventually(LONG, "the mended catalogue is loaded", async || {
        (shop.api.get("/api/categories").await.header("x-catalog-version") == version).then_some(())
    })
    .await;
    assert_eq!(shop.api.get(&format!("/api/products/{product}")).await.data(), before);
}
