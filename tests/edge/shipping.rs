//! After the sale, through the edge: where the parcel is, and which messages a phone may ask its shopper for.

use farmgate_tests::{EdgeShop, Problem, json};

const TEMPLATES: &str = "/api/messages/templates";

#[tokio::test]
async fn a_parcel_is_followed_through_the_edge_by_its_shopper_alone() {
    let shop = EdgeShop::start().await;
    let (owner, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, ..) = shop.shop.first_product().await;
    let order = owner.buy(&shop.shop.wechat, product, 1).await;
    shop.shop.ship(&order, &["--express", "SF", "--tracking", "SF1234567890"]).await;
    let path = format!("/api/orders/{}/tracking", order["order_id"]);
    let reply = owner.api.get(&path).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.data()["shipment"]["tracking_no"], "SF1234567890");
    stranger.api.get(&path).await.fails_with(Problem::OrderNotFound);
    shop.phone.get(&path).await.fails_with(Problem::Unauthenticated);
}

#[tokio::test]
async fn the_templates_of_messages_are_anybodys_and_may_be_kept() {
    let shop = EdgeShop::start().await;
    let reply = shop.phone.get(TEMPLATES).await;
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    assert_eq!(reply.data(), json!({"paid": null, "shipped": null, "refunded": null}));
    shop.phone.post(TEMPLATES, &json!({})).await.fails_with(Problem::MethodNotAllowed);
}
