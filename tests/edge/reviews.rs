//! Reviews at the edge: written through it as a shopper, read from it as anybody, within its table of lives.

use farmgate_tests::{EdgeShop, LONG, Problem, eventually, json};

#[tokio::test]
async fn a_review_written_through_the_edge_is_read_there() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.shop.first_product().await;
    let page = format!("/api/products/{product}/reviews");
    assert_eq!(shop.phone.get(&page).await.data()["total"], 0, "nobody needs a token to read");
    let bought = shopper.buy(&shop.shop.wechat, product, 1).await;
    shop.shop.ship(&bought, &["--pick-up"]).await;
    let order = bought["order_id"].as_i64().unwrap();
    shopper.api.post(&format!("/api/orders/{order}/confirm"), &json!({})).await.data();
    let body = json!({"reviews": [{"sku_id": sku, "rating": 5}]});
    let path = format!("/api/orders/{order}/reviews");
    shop.phone.post(&path, &body).await.fails_with(Problem::Unauthenticated);
    let written = shopper.api.post(&path, &body).await.data();
    assert_eq!(shopper.api.get(&path).await.data(), written);
    eventually(LONG, "the page at the edge has it", async || {
        (shop.phone.get(&page).await.data()["total"] == 1).then_some(())
    })
    .await;
    shop.phone.get(&format!("{page}?sort=new")).await.refuses_fields(&["sort"]);
    shop.phone.get("/api/products/999999/reviews").await.fails_with(Problem::ProductNotFound);
}
