//! What must be true when a trial is over: by what the shoppers were told and what WeChat took, beside the shop's own books,
//! which its auditor reads.

use std::collections::HashMap;

use farmgate_tests::{LONG, Shop, Value, eventually, json};

use super::plan::Plan;
use super::shoppers::Errand;
use super::stage::Stage;

/// Each order's status and recorded payment agree with what its shopper did and what WeChat says, once the worker and
/// the repeated notifications had their time.
pub async fn orders_end_as_their_shoppers_wanted(shop: &Shop, errands: &[Errand]) {
    for errand in errands.iter().filter(|errand| errand.order.is_some()) {
        let number = errand.number();
        let mut last = None;
        let what = format!("order {number} ends as {:?} demands", errand.wish.then);
        let verdict = eventually(LONG, &what, async || {
            let row: Option<(i64, bool)> = sqlx::query_as(
                "SELECT CAST(o.status AS SIGNED), COALESCE(p.status, 0) = 1 FROM orders o
                 LEFT JOIN payments p ON p.order_id = o.id WHERE o.order_no = ?",
            )
            .bind(&number)
            .fetch_optional(&shop.db)
            .await
            .unwrap();
            let (status, is_paid) = row.expect("an order that a shopper was told of is there");
            last = Some((status, is_paid));
            errand.accepts(status, is_paid)
        })
        .await;
        assert!(
            verdict,
            "order {number} has status and payment {last:?} after {:?}: paid {:?}, cancelled {:?}",
            errand.wish.then, errand.paid, errand.cancelled
        );
    }
}

/// By what the shoppers were told, not by the shop's own books, which the auditor reads.
pub async fn nothing_is_oversold_or_lost(stage: &Stage, plan: &Plan, errands: &[Errand]) {
    let made: Vec<&Errand> = errands.iter().filter(|errand| errand.order.is_some()).collect();
    let numbers: Vec<String> =
        sqlx::query_scalar("SELECT order_no FROM orders").fetch_all(&stage.shop.db).await.unwrap();
    let mut told: Vec<String> = made.iter().map(|errand| errand.number()).collect();
    told.sort_unstable();
    let mut there = numbers;
    there.sort_unstable();
    assert_eq!(told, there, "the orders that shoppers were told of, and those that are there");

    let mut taken: HashMap<usize, i32> = HashMap::new();
    for errand in made {
        let order = stage.order(&errand.shopper, errand.order.as_ref().unwrap()).await;
        let lines: u32 = errand.wish.lines.iter().map(|(_, quantity)| quantity).sum();
        let items = order["items"].as_array().unwrap();
        let shown: u64 = items.iter().filter_map(|item| item["quantity"].as_u64()).sum();
        assert_eq!((items.len(), shown), (errand.wish.lines.len(), u64::from(lines)), "{order}");
        let discount = if errand.wish.coupon { 5.0 } else { 0.0 };
        assert_eq!(order["discount_amount"].as_f64(), Some(discount), "{order}");
        if order["status"] != 4 {
            for (sku, quantity) in &errand.wish.lines {
                *taken.entry(*sku).or_default() += i32::try_from(*quantity).unwrap();
            }
        }
    }
    for (sku, quantity) in taken {
        assert!(quantity <= plan.stock[sku], "SKU {sku}: {quantity} sold of {}", plan.stock[sku]);
    }
}

/// Each shopper still has the coupon that was claimed: spent on the one order that it was used for, if that one lives, and
/// good for another one otherwise. By what the shoppers see.
pub async fn coupons_are_where_they_belong(stage: &Stage, errands: &[Errand]) {
    let mut live: HashMap<i64, Vec<Value>> = HashMap::new();
    for errand in errands {
        let orders = live.entry(errand.coupon).or_default();
        if let (true, Some(order)) = (errand.wish.coupon, &errand.order) {
            let seen = stage.order(&errand.shopper, order).await;
            if seen["status"] != 4 {
                orders.push(seen["id"].clone());
            }
        }
    }
    for errand in errands {
        let mine = stage.shown(&errand.shopper, "/api/coupons/mine?size=100").await;
        let (orders, list) = (&live[&errand.coupon], mine["list"].as_array().unwrap());
        let shown: Vec<_> =
            list.iter().map(|one| (&one["id"], one["status"].as_str(), &one["order_id"])).collect();
        let id = json!(errand.coupon);
        match &orders[..] {
            [] => assert_eq!(shown, [(&id, Some("unused"), &Value::Null)], "{mine}"),
            [order] => assert_eq!(shown, [(&id, Some("used"), order)], "{mine}"),
            twice => panic!("{}'s coupon is spent on the orders {twice:?}", errand.shopper.name),
        }
    }
}

/// What the worker owes to each order's events is done, and whoever paid was told so.
pub async fn every_event_had_its_effect(shop: &Shop, errands: &[Errand]) {
    shop.all_is_delivered().await;
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox_deliveries").await, 0, "dead letters");
    assert_eq!(
        shop.count("SELECT COUNT(*) FROM outbox WHERE kind <> 'order_placed'").await,
        shop.count("SELECT COUNT(*) FROM order_events WHERE kind <> 'order_placed'").await,
        "the timeline has each event once"
    );
    let messages = shop.wechat.messages().await;
    // A message that its worker died of may come twice.
    let mut told: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["data"]["character_string1"]["value"].as_str())
        .collect();
    told.sort_unstable();
    told.dedup();
    let mut paid: Vec<String> =
        errands.iter().filter(|errand| errand.paid == Some(true)).map(Errand::number).collect();
    paid.sort_unstable();
    assert_eq!(told, paid, "who was told of a payment, and who paid");
}
