//! An origin that is killed while it takes orders: who was told "ok" has an order, who was not may ask again, and the
//! books are clean once the worker has looked.

use farmgate_tests::ShopPlan;

use crate::rush::{Rush, converges};

const SHOPPERS: usize = 24;

async fn survive_a_kill(after: usize) {
    let mut shop = ShopPlan::new().stock(20).worker().start().await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    let apis = [shop.api.clone()];
    rush.order(&apis, async |told| {
        if told == after {
            shop.origin().kill();
        }
    })
    .await;
    assert!(rush.told() >= after, "the origin took {} orders", rush.told());

    shop.restart_origin().await;
    // A hold that the killed origin left keeps the gate too low until the sweeper decides it, which is the one thing
    // that may have cost a sale.
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}

#[tokio::test]
async fn a_kill_after_the_first_order_loses_nothing() {
    survive_a_kill(1).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing() {
    survive_a_kill(8).await;
}

#[tokio::test]
async fn a_kill_near_the_last_unit_oversells_nothing() {
    survive_a_kill(18).await;
}

#[tokio::test]
async fn three_origins_killed_at_once_lose_nothing() {
    let mut shop = ShopPlan::new().stock(20).worker().start().await;
    let (mut second, second_url) = shop.one_more_origin(None).await;
    let (mut third, third_url) = shop.one_more_origin(None).await;
    let mut rush = Rush::gather(&shop, SHOPPERS).await;
    let apis = [shop.api.clone(), shop.call_origin(&second_url), shop.call_origin(&third_url)];
    rush.order(&apis, async |told| {
        if told == 6 {
            for origin in [shop.origin(), &mut second, &mut third] {
                origin.kill();
            }
        }
    })
    .await;
    assert!(rush.told() >= 6, "the origins took {} orders", rush.told());

    shop.restart_origin().await;
    rush.ask_again(&shop.api).await;
    rush.nothing_is_lost_or_doubled(&shop).await;
    converges(&shop).await;
}
