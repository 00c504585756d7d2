//! A rush after the last unit: who is refused without a look into MySQL, and that nobody who has an order is.

use farmgate_tests::{Call, Caller, LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json};

use crate::orders::seed_body;

/// Waits until a replica refuses this product outright: then it tells a shopper whose session has ended, which only MySQL
/// knows, that it is sold out. `crowd` goes on asking, so that the replica keeps believing it.
async fn until_refused_outright(passer_by: &Shopper, crowd: &Shopper, product: i64) {
    let (theirs, address) = (crowd.address().await, 1);
    eventually(LONG, "refused outright", async || {
        crowd.try_order(product, 1, theirs).await.fails_with(Problem::OutOfStock);
        (passer_by.try_order(product, 1, address).await.status == 409).then_some(())
    })
    .await;
}

/// Waits until a replica has read all movements so far: what is ordered of another product now, it shows as gone.
async fn until_caught_up(shop: &Shop, replica: &Caller, shopper: &Shopper) {
    let other = shop.count("SELECT MAX(id) FROM products WHERE status = 1").await;
    let page = format!("/api/stock?products={other}");
    let before = replica.get(&page).await.data();
    shopper.order(other, 1).await;
    eventually(LONG, "the replica sees the last order", async || {
        (replica.get(&page).await.data() != before).then_some(())
    })
    .await;
}

/// A shopper whose session has ended.
async fn passer_by(shop: &Shop) -> Shopper {
    let shopper = shop.shopper("路人").await;
    shop.change("UPDATE users SET token_version = token_version + 1 WHERE id = ", shopper.id).await;
    shopper
}

#[tokio::test]
async fn whoever_has_an_order_of_it_is_not_refused_outright() {
    let mut shop = ShopPlan::new().stock(1).worker().start().await;
    let replica = shop.replica().await;
    let (product, _, _) = shop.first_product().await;
    let (buyer, crowd) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let passer_by = passer_by(&shop).await;
    let address = buyer.address().await;
    let call =
        || Call::post("/api/orders", &seed_body(product, json!(1), address)).idempotent("the-last-unit");
    let first = buyer.send_order(call()).await.data();
    for at in [shop.call_origin(&shop.origin_url), replica] {
        until_refused_outright(&passer_by.through(&at), &crowd.through(&at), product).await;
        assert_eq!(buyer.through(&at).send_order(call()).await.data(), first, "a repetition");
        let another =
            Call::post("/api/orders", &seed_body(product, json!(1), address)).idempotent("one-more");
        buyer.through(&at).send_order(another).await.fails_with(Problem::OutOfStock);
    }
}

#[tokio::test]
async fn one_who_buys_elsewhere_what_came_back_is_known_here() {
    let mut shop = ShopPlan::new().stock(1).worker().start().await;
    let replica = shop.replica().await;
    let (product, _, _) = shop.first_product().await;
    let (first, second, crowd) =
        (shop.shopper("小王").await, shop.shopper("小张").await, shop.shopper("小李").await);
    let passer_by = passer_by(&shop).await;
    let address = second.address().await;
    let call = || Call::post("/api/orders", &seed_body(product, json!(1), address)).idempotent("came-back");
    let order = first.order(product, 1).await;
    let (passer_by, crowd) = (passer_by.through(&replica), crowd.through(&replica));
    until_refused_outright(&passer_by, &crowd, product).await;
    second.through(&replica).send_order(call()).await.fails_with(Problem::OutOfStock);
    // The unit returns and is sold again at the other origin, between two questions of this one's crowd.
    first.api.post(&format!("/api/orders/{}/cancel", order["order_id"]), &json!({})).await.data();
    let bought = second.send_order(call()).await.data();
    until_caught_up(&shop, &replica, &first).await;
    assert_eq!(second.through(&replica).send_order(call()).await.data(), bought);
    // It goes on to refuse all others outright.
    until_refused_outright(&passer_by, &crowd, product).await;
    assert_eq!(second.through(&replica).send_order(call()).await.data(), bought);
}

/// A shopper who is refused outright of what another one has ordered, with that order: nobody but the two is there.
async fn refused_outright(shop: &Shop) -> (Shopper, i64, Shopper, Value) {
    let (product, ..) = shop.first_product().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let order = first.order(product, 1).await;
    until_refused_outright(&passer_by(shop).await, &second, product).await;
    let address = second.address().await;
    (second, address, first, order)
}

/// The refused shopper asks, and nobody else, until the unit that came back is theirs.
async fn is_for_sale_again(shop: &Shop, shopper: &Shopper, address: i64) {
    let (product, sku, _) = shop.first_product().await;
    eventually(LONG, "the refused shopper can buy it", async || {
        let reply = shopper.try_order(product, 1, address).await;
        if reply.status != 200 {
            reply.fails_with(Problem::OutOfStock);
        }
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!((shop.stock(sku).await.available, shop.stock(sku).await.held), (0, 1));
}

#[tokio::test]
async fn a_cancel_at_another_replica_is_found_out_by_who_was_refused() {
    let mut shop = ShopPlan::new().stock(1).worker().start().await;
    let replica = shop.replica().await;
    let (second, address, first, order) = refused_outright(&shop).await;
    let cancel = format!("/api/orders/{}/cancel", order["order_id"]);
    first.through(&replica).api.post(&cancel, &json!({})).await.data();
    is_for_sale_again(&shop, &second, address).await;
}

#[tokio::test]
async fn an_unpaid_order_that_the_worker_closes_is_found_out_by_who_was_refused() {
    let shop = ShopPlan::new().stock(1).worker().start().await;
    let (second, address, first, order) = refused_outright(&shop).await;
    shop.let_time_run_out(&order).await;
    is_for_sale_again(&shop, &second, address).await;
    assert_eq!(first.see(&order).await["status"], 4);
}

#[tokio::test]
async fn a_cancel_here_is_known_at_once() {
    let shop = ShopPlan::new().stock(1).worker().start().await;
    let (second, address, first, order) = refused_outright(&shop).await;
    first.api.post(&format!("/api/orders/{}/cancel", order["order_id"]), &json!({})).await.data();
    let (product, ..) = shop.first_product().await;
    second.try_order(product, 1, address).await.data();
}

#[tokio::test]
async fn what_is_sold_out_is_all_that_an_ended_session_is_told() {
    let shop = ShopPlan::new().stock(0).worker().start().await;
    let (product, sku, _) = shop.first_product().await;
    let (crowd, passer_by) = (shop.shopper("小李").await, passer_by(&shop).await);
    until_refused_outright(&passer_by, &crowd, product).await;
    assert_eq!(shop.stock(sku).await.available, 0);
    assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, 0);
    assert_eq!(passer_by.api.get("/api/orders").await.status, 401, "any other door");
}
