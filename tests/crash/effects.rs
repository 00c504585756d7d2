//! Events whose effect is in MySQL, and a MySQL that dies under them: each has its effect once, and none counts as failed.

use farmgate_tests::{LONG, Mysql, Shop, eventually};

use crate::outbox::{hold_up_sales, impatient, is_being_handled};

#[tokio::test]
async fn a_mysql_that_dies_in_the_middle_of_an_effect_delays_it() {
    let mut mysql = Mysql::start().await;
    let mut shop = impatient().worker().on_mysql(&mysql).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let hold = hold_up_sales(&shop, product).await;
    shopper.buy(&shop.wechat, product, 2).await;
    is_being_handled(&shop).await;
    mysql.kill();
    drop(hold);
    eventually(LONG, "the sale waits for MySQL", async || {
        says_away(&mut shop, "product_sales").then_some(())
    })
    .await;
    mysql.restart().await;
    shop.all_is_delivered().await;
    assert_eq!(shop.sales(product).await, (2, 1));
    assert_eq!(shop.worker().log().matches("an event failed").count(), 0, "that was nobody's failure");
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

/// Whether this consumer's worker has said that MySQL is away.
fn says_away(shop: &mut Shop, consumer: &str) -> bool {
    let log = shop.worker().log();
    log.lines().any(|line| line.contains("MySQL is away") && line.contains(consumer))
}
