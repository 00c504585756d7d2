//! The catalogue: list, product, categories, stock, pictures.

use std::collections::HashSet;

use farmgate_tests::{LONG, Problem, Shop, Value, eventually, json};

use crate::{fen, has_keys, keys};

async fn list(shop: &Shop, query: &str) -> Value {
    shop.api.get(&format!("/api/products{query}")).await.data()
}

fn entries(page: &Value) -> &Vec<Value> {
    page["list"].as_array().unwrap()
}

#[tokio::test]
async fn the_list_is_the_seeds_to_the_letter() {
    let shop = Shop::start().await;
    let page = list(&shop, "?page=1&size=20&category_id=1&keyword=%E8%8B%B9%E6%9E%9C").await;
    assert_eq!(keys(&page), ["list", "page", "size", "total"]);
    assert_eq!((&page["page"], &page["size"]), (&json!(1), &json!(20)));
    let page = list(&shop, "").await;
    assert_eq!((entries(&page).len(), &page["page"], &page["size"]), (20, &json!(1), &json!(20)));
    for product in entries(&page) {
        has_keys(product, &["id", "name", "price", "original_price", "images", "stock"]);
        assert!(product["id"].as_i64().unwrap() > 0);
        assert!(!product["name"].as_str().unwrap().is_empty());
        assert!(fen(&product["price"]) > 0);
        assert!(
            product["original_price"].is_null() || fen(&product["original_price"]) > fen(&product["price"]),
            "{product}"
        );
        assert!(product["stock"].as_i64().unwrap() >= 0);
        assert!(product["images"][0].as_str().unwrap().starts_with("http"), "{product}");
    }
}

#[tokio::test]
async fn the_demo_shop_is_a_real_shop() {
    let shop = Shop::start().await;
    let categories = shop.api.get("/api/categories").await.data();
    let categories = categories.as_array().unwrap();
    assert!(categories.len() >= 6, "{categories:?}");
    let mut sum = 0;
    for category in categories {
        has_keys(category, &["id", "name", "icon", "product_count"]);
        let of_it = list(&shop, &format!("?size=100&category_id={}", category["id"])).await;
        assert_eq!(of_it["total"], category["product_count"], "{category}");
        assert!(entries(&of_it).iter().all(|product| product["category_id"] == category["id"]));
        sum += of_it["total"].as_i64().unwrap();
    }
    let all = list(&shop, "?size=100").await;
    assert!(all["total"].as_i64().unwrap() >= 40);
    assert_eq!(all["total"], json!(sum), "every product is in a category");
    for product in entries(&all) {
        for text in ["name", "origin", "unit"] {
            assert!(!product[text].as_str().unwrap().is_empty(), "{text} of {product}");
        }
        assert!(!product["tags"].as_array().unwrap().is_empty(), "{product}");
    }
}

#[tokio::test]
async fn the_seed_twice_changes_nothing() {
    let shop = Shop::start().await;
    let before = list(&shop, "?size=100").await;
    shop.seed_again().await;
    assert_eq!(list(&shop, "?size=100").await, before);
}

#[tokio::test]
async fn the_pages_together_are_the_whole_list_once() {
    let shop = Shop::start().await;
    for sort in ["default", "price_asc", "price_desc", "newest"] {
        let total = list(&shop, "?size=1").await["total"].as_u64().unwrap();
        let mut seen = HashSet::new();
        for page in 1..=total.div_ceil(7) {
            let part = list(&shop, &format!("?size=7&sort={sort}&page={page}")).await;
            assert_eq!(part["total"], json!(total));
            seen.extend(entries(&part).iter().map(|product| product["id"].as_i64().unwrap()));
        }
        assert_eq!(seen.len() as u64, total, "{sort}: a product on two pages hides another");
    }
    let beyond = list(&shop, "?page=1000000").await;
    assert_eq!(entries(&beyond).len(), 0, "a page past the end is empty and no error");
}

#[tokio::test]
async fn lists_are_sorted_as_asked() {
    let shop = Shop::start().await;
    let prices = async |sort: &str| {
        let page = list(&shop, &format!("?size=100&sort={sort}")).await;
        entries(&page).iter().map(|product| fen(&product["price"])).collect::<Vec<_>>()
    };
    let up = prices("price_asc").await;
    assert!(up.is_sorted(), "{up:?}");
    let down = prices("price_desc").await;
    assert!(down.is_sorted_by(|a, b| a >= b), "{down:?}");
    assert!(up.first() < up.last(), "the demo shop has more than one price");
}

#[tokio::test]
async fn a_keyword_finds_what_it_names() {
    let shop = Shop::start().await;
    let apples = list(&shop, "?keyword=%E8%8B%B9%E6%9E%9C").await; // 苹果
    assert!(!entries(&apples).is_empty());
    for product in entries(&apples) {
        let text = format!("{}{}{}", product["name"], product["tags"], product["origin"]);
        assert!(text.contains("苹果"), "{product}");
    }
    let nothing = list(&shop, "?keyword=%E6%9C%BA%E5%99%A8%E4%BA%BA").await; // 机器人
    assert_eq!((entries(&nothing).len(), &nothing["total"]), (0, &json!(0)));
    let spaced = list(&shop, "?keyword=+%E8%8B%B9%E6%9E%9C+").await;
    assert_eq!(spaced["total"], apples["total"], "spaces around a word mean nothing");
    // What would be a pattern elsewhere is a plain word here.
    for word in ["%25", "_", "%27", "%5C", "%27%20OR%201%3D1--"] {
        assert_eq!(list(&shop, &format!("?keyword={word}")).await["total"], json!(0), "{word}");
    }
    let other_category = list(&shop, "?keyword=%E8%8B%B9%E6%9E%9C&category_id=999999").await;
    assert_eq!(other_category["total"], json!(0));
}

#[tokio::test]
async fn a_bad_parameter_is_refused_by_name() {
    let shop = Shop::start().await;
    for page in ["0", "-1", "abc", "1.5", "", "%2B1", "99999999999999999999", "1e3"] {
        shop.api.get(&format!("/api/products?page={page}")).await.refuses_fields(&["page"]);
    }
    for size in ["0", "-1", "abc", "101"] {
        shop.api.get(&format!("/api/products?size={size}")).await.refuses_fields(&["size"]);
    }
    shop.api.get("/api/products?category_id=abc").await.refuses_fields(&["category_id"]);
    shop.api.get("/api/products?category_id=-1").await.refuses_fields(&["category_id"]);
    shop.api.get("/api/products?sort=best").await.refuses_fields(&["sort"]);
    shop.api.get("/api/products?_=1").await.refuses_fields(&["_"]);
    shop.api.get("/api/products?page=1&page=2").await.refuses_fields(&["page"]);
    shop.api.get("/api/products?page=0&size=0&x=1").await.refuses_fields(&["page", "size", "x"]);
    let long = "%E8%8B%B9".repeat(51);
    shop.api.get(&format!("/api/products?keyword={long}")).await.refuses_fields(&["keyword"]);
    for ids in ["", "?ids=", "?ids=a", "?ids=1,,2", "?ids=-1"] {
        shop.api.get(&format!("/api/stock{ids}")).await.refuses_fields(&["ids"]);
    }
    for products in ["", "0", "a", "1,,2", "1&ids=1"] {
        shop.api.get(&format!("/api/stock?products={products}")).await.refuses_fields(&["products"]);
    }
}

#[tokio::test]
async fn a_product_is_the_seeds_to_the_letter() {
    let shop = Shop::start().await;
    for summary in entries(&list(&shop, "?size=100").await) {
        let product = shop.api.get(&format!("/api/products/{}", summary["id"])).await.data();
        has_keys(
            &product,
            &["id", "name", "description", "price", "images", "specifications", "stock", "skus"],
        );
        for same in ["id", "name", "price", "original_price", "images", "stock"] {
            assert_eq!(product[same], summary[same], "{same} of {product}");
        }
        assert!(!product["description"].as_str().unwrap().is_empty());
        assert!(!product["specifications"].as_str().unwrap().is_empty());
        let skus = product["skus"].as_array().unwrap();
        assert!(!skus.is_empty(), "a product without options has one SKU");
        let cheapest = skus.iter().map(|sku| fen(&sku["price"])).min().unwrap();
        assert_eq!(cheapest, fen(&product["price"]), "{product}");
        let stock: i64 = skus.iter().map(|sku| sku["stock"].as_i64().unwrap()).sum();
        assert_eq!(json!(stock), product["stock"], "{product}");
    }
}

#[tokio::test]
async fn what_is_no_product_is_not_found() {
    let shop = Shop::start().await;
    for id in ["999999999", "0", "-1", "abc", "1.5", "99999999999999999999", "%00", "1%27"] {
        shop.api.get(&format!("/api/products/{id}")).await.fails_with(Problem::ProductNotFound);
    }
    let (product, _, _) = shop.first_product().await;
    sqlx::query("UPDATE products SET status = 0 WHERE id = ?").bind(product).execute(&shop.db).await.unwrap();
    raise_catalog_version(&shop).await;
    eventually(LONG, "a product taken off sale is gone", async || {
        (shop.api.get(&format!("/api/products/{product}")).await.status == 404).then_some(())
    })
    .await;
}

async fn raise_catalog_version(shop: &Shop) {
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&shop.db).await.unwrap();
}

#[tokio::test]
async fn an_edited_price_is_shown_and_charged() {
    let shop = Shop::start().await;
    let (product, sku, price) = shop.first_product().await;
    let raised = price + 123;
    sqlx::query("UPDATE product_skus SET price_fen = ? WHERE id = ?")
        .bind(raised)
        .bind(sku)
        .execute(&shop.db)
        .await
        .unwrap();
    raise_catalog_version(&shop).await;
    eventually(LONG, "the new price is shown", async || {
        let shown = shop.api.get(&format!("/api/products/{product}")).await.data();
        let skus = shown["skus"].as_array().unwrap().clone();
        skus.iter().any(|shown| shown["id"] == json!(sku) && fen(&shown["price"]) == raised).then_some(())
    })
    .await;
    let order = shop.shopper("小王").await.order(product, 2).await;
    assert_eq!(fen(&order["total_amount"]), 2 * raised);
}

#[tokio::test]
async fn stock_is_told_by_sku_or_product_and_falls_with_an_order() {
    let shop = Shop::start().await;
    let (product, sku, _) = shop.first_product().await;
    let before = shop.stock(sku).await.available;
    let shown = shop.api.get(&format!("/api/stock?ids={sku},999999999")).await.data();
    assert_eq!(
        shown,
        json!([{"sku_id": sku, "product_id": product, "stock": before}]),
        "unknown ids are left out"
    );
    let all = list(&shop, "?size=100").await;
    let ids: Vec<String> = entries(&all).iter().map(|product| product["id"].to_string()).collect();
    let of_all = shop.api.get(&format!("/api/stock?products={},999999999", ids.join(","))).await.data();
    for product in entries(&all) {
        let of_it = of_all.as_array().unwrap().iter().filter(|sku| sku["product_id"] == product["id"]);
        let sum: i64 = of_it.map(|sku| sku["stock"].as_i64().unwrap()).sum();
        assert_eq!(json!(sum), product["stock"], "{product}");
    }
    shop.shopper("小王").await.order(product, 3).await;
    for query in [format!("ids={sku}"), format!("products={product}")] {
        eventually(LONG, "the stock that is shown falls by three", async || {
            let shown = shop.api.get(&format!("/api/stock?{query}")).await.data();
            (shown[0]["stock"] == json!(before - 3)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn every_catalogue_reply_names_its_version() {
    let shop = Shop::start().await;
    let version = shop.count("SELECT version FROM catalog_version").await.to_string();
    let paths = [
        "/api/products",
        "/api/products?keyword=%E8%8B%B9%E6%9E%9C",
        "/api/products/1",
        "/api/products/999999999",
        "/api/products/abc",
        "/api/categories",
        "/api/home",
        "/api/stock?ids=1",
        "/api/stock?products=1",
        "/api/products?page=0",
    ];
    for path in paths {
        assert_eq!(shop.api.get(path).await.header("x-catalog-version"), version, "{path}");
    }
    assert_eq!(shop.api.unsigned().get("/api/products").await.header("x-catalog-version"), "");
}

#[tokio::test]
async fn the_first_page_shows_what_the_lists_show() {
    let shop = Shop::start().await;
    let home = shop.api.get("/api/home").await.data();
    assert_eq!(keys(&home), ["categories", "newest", "on_offer", "recommended"]);
    assert_eq!(home["categories"], shop.api.get("/api/categories").await.data());
    for (name, query) in [("recommended", "?size=10"), ("newest", "?size=10&sort=newest")] {
        assert_eq!(home[name], list(&shop, query).await["list"], "{name}");
    }
    let all = list(&shop, "?size=100").await;
    let was_dearer = |product: &&Value| {
        !product["original_price"].is_null() && fen(&product["original_price"]) > fen(&product["price"])
    };
    let on_offer: Vec<&Value> = entries(&all).iter().filter(was_dearer).collect();
    assert!(!on_offer.is_empty(), "the demo shop has something on offer");
    assert_eq!(home["on_offer"], json!(on_offer[..on_offer.len().min(10)]));
}

#[tokio::test]
async fn every_picture_can_be_fetched_and_kept() {
    let shop = Shop::start().await;
    let page = list(&shop, "?size=100").await;
    let categories = shop.api.get("/api/categories").await.data();
    let mut pictures: HashSet<String> = HashSet::new();
    for product in entries(&page) {
        pictures
            .extend(product["images"].as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned()));
    }
    pictures
        .extend(categories.as_array().unwrap().iter().filter_map(|c| c["icon"].as_str().map(str::to_owned)));
    assert!(pictures.len() >= 40, "{} pictures", pictures.len());
    for url in pictures {
        let path =
            url.find("/static/").map(|at| &url[at..]).unwrap_or_else(|| panic!("{url} is not the shop's"));
        let reply = shop.api.get(path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "image/webp"), "{url}");
        assert!(reply.body.starts_with(b"RIFF"), "{url} is no WebP");
        assert!(
            reply.header("cache-control").contains("max-age="),
            "{url}: {:?}",
            reply.header("cache-control")
        );
    }
    for path in [
        "/static/demo/none.webp",
        "/static/demo/../../etc/passwd",
        "/static/demo/%2e%2e%2fshop.json",
        "/static/",
    ] {
        let status = shop.api.get(path).await.status;
        assert!(status == 404 || status == 403, "{path}: {status}");
    }
}
