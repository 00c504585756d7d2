//! The auditor sees what is wrong, and only that.

use std::collections::{BTreeMap, BTreeSet};

use farmgate_tests::{LONG, ShopPlan, eventually, json};

use crate::misdeeds::{Misdeed, Stage};
use crate::rush::becomes_clean;

#[tokio::test]
async fn clean_books_are_called_clean() {
    let shop = ShopPlan::new().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let paid = shopper.order(product, 2).await;
    shopper.prepay(&paid).await;
    shop.wechat.pay(paid["order_no"].as_str().unwrap()).await;
    let overdue = shopper.order(product, 3).await;
    shop.let_time_run_out(&overdue).await;
    eventually(LONG, "the overdue order is closed", async || {
        (shopper.see(&overdue).await["status"] == 4).then_some(())
    })
    .await;
    shopper.order(product, 1).await;
    let coupon = shopper.api.post("/api/coupons/1/claim", &json!({})).await.data();
    let body = json!({
        "product_id": product, "quantity": 2, "address_id": shopper.address().await, "coupon_id": coupon["id"],
    });
    shopper.api.post("/api/orders", &body).await.data();

    let report = becomes_clean(&shop, &[]).await;
    for name in ["I1", "I2", "I3", "I4", "I5"] {
        assert!(
            report.lines().any(|line| line.starts_with(name) && line.contains("holds")),
            "{name}:\n{report}"
        );
    }
}

/// Of each promise in a report, the breaches that are named; nothing of one that holds.
fn promises(report: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut promises: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut promise = "";
    for line in report.lines().take_while(|line| !line.starts_with("error: ")) {
        if let Some(row) = line.strip_prefix("      ") {
            promises.get_mut(promise).unwrap().push(row);
        } else {
            let (verdict, of) = line.split_once("  BROKEN   ").or(line.split_once("  holds    ")).unwrap();
            assert!(verdict.starts_with('I') && promises.insert(of, Vec::new()).is_none(), "{report}");
            promise = of;
        }
    }
    promises
}

fn broken(report: &str) -> BTreeMap<&str, Vec<&str>> {
    promises(report).into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
}

#[tokio::test]
async fn each_broken_invariant_is_named() {
    let (shop, stage) = Stage::set().await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
    let all: BTreeSet<&str> = promises(&report).into_keys().collect();

    // Promises that a misdeed breaks, and no other promise with it.
    let mut alone: BTreeSet<&str> = BTreeSet::new();
    for Misdeed { does, undo, breaks } in stage.misdeeds() {
        shop.script(&does).await;
        let (is_clean, report) = shop.reconcile(&[]).await;
        shop.script(&undo).await;
        let named = broken(&report);
        let expected: BTreeMap<&str, Vec<&str>> =
            breaks.iter().map(|(promise, row)| (*promise, vec!["1 breach:", row])).collect();
        assert_eq!((is_clean, named), (false, expected), "{does}:\n{report}");
        if let [(promise, _)] = breaks[..] {
            alone.insert(promise);
        }
    }
    shop.redis_command(&["INCR", &stage.gate_key()]).await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    let (promise, row) = stage.gate_is_off("1 too much");
    let expected = BTreeMap::from([(promise, vec!["1 breach:", &row])]);
    assert_eq!((is_clean, broken(&report)), (false, expected), "{report}");
    alone.insert(promise);
    shop.redis_command(&["DECR", &stage.gate_key()]).await;

    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "a misdeed was not undone:\n{report}");
    assert_eq!(alone, all, "each promise has a misdeed of its own");
}
