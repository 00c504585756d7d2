//! The main job, as a phone does it: an apple is bought through the edge.

use farmgate_tests::{EdgeShop, json};

#[tokio::test]
async fn an_apple_is_bought_through_the_edge() {
    let shop = EdgeShop::start().await;
    let found = shop.phone.get("/api/products?keyword=%E8%8B%B9%E6%9E%9C").await.data(); // 苹果
    let apple = &found["list"][0];
    let product = shop.phone.get(&format!("/api/products/{}", apple["id"])).await.data();
    assert_eq!(product["name"], apple["name"]);
    let picture = apple["images"][0].as_str().unwrap();
    assert!(picture.starts_with(shop.phone.base()), "{picture} is at the edge, where phones can fetch it");
    let fetched = shop.phone.get(&picture[shop.phone.base().len()..]).await;
    assert_eq!((fetched.status, fetched.header("content-type")), (200, "image/webp"));

    let shopper = shop.shopper("小王").await;
    assert_eq!(shopper.api.get("/api/user/info").await.data()["id"], json!(shopper.id));
    let order = shopper.order(product["id"].as_i64().unwrap(), 2).await;
    let parameters = shopper.prepay(&order).await;
    let number = order["order_no"].as_str().unwrap();
    let paid = shop.shop.wechat.pay_with(number, &parameters).await;
    shop.shop.wechat.is_heard(number, &paid).await;
    assert_eq!(shopper.see(&order).await["status"], json!(1));
    let sku = product["skus"][0]["id"].as_i64().unwrap();
    assert_eq!(shop.shop.stock(sku).await.sold, 2);
    assert_eq!(
        shopper.api.get("/api/orders?status=1").await.data()["list"][0]["order_no"],
        order["order_no"]
    );
}
