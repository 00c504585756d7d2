//! Money that goes back: by itself where a payment came too late, and when an operator says so.

use farmgate_tests::{LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json, number, status};

use crate::fen;

/// A shop with the worker, and an order of two that was paid; its shopper, its SKU.
async fn bought() -> (Shop, Shopper, Value, i64) {
    let shop = ShopPlan::new().hasty_refunds().worker().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 2).await;
    (shop, shopper, order, sku)
}

/// An order whose time ran out before its money arrived.
async fn cancelled(shop: &Shop, shopper: &Shopper) -> Value {
    let (product, ..) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    shopper.prepay(&order).await;
    shop.let_time_run_out(&order).await;
    eventually(LONG, "the order is cancelled", async || (status(shopper, &order).await == 4).then_some(()))
        .await;
    order
}

async fn start(shop: &Shop, order: &Value, arguments: &[&str]) -> (bool, String) {
    shop.command(&[&["refund", "start", number(order)], arguments].concat()).await
}

/// Waits until the gate shows so many, since goods come back to it after they came back to the books.
async fn gate_becomes(shop: &Shop, sku: i64, level: i64) {
    eventually(LONG, "the gate has the goods", async || (shop.gate(sku).await == Some(level)).then_some(()))
        .await;
}

async fn is_clean(shop: &Shop) {
    let (is_clean, report) = shop.reconcile(&[]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn a_late_payment_of_a_cancelled_order_is_refunded_by_itself_and_once() {
    let plan = ShopPlan::new().hasty_refunds().setting("FARMGATE_REFUNDS__LEASE_MS", 60_000);
    let mut shop = plan.worker().start().await;
    shop.another_worker().await;
    let shopper = shop.shopper("小王").await;
    let order = cancelled(&shop, &shopper).await;
    let paid = shop.wechat.pay_late(number(&order)).await;
    shop.wechat.is_heard(number(&order), &paid).await;
    shop.refunds_become(&order, &[2]).await;

    let refunds = shop.refunds(&order).await;
    assert_eq!(refunds[0].out_refund_no, format!("{}-late", number(&order)));
    let amount = fen(&order["actual_amount"]);
    assert_eq!((refunds[0].amount_fen, shop.promised_back(&order).await), (amount, amount));
    let asked = shop.wechat.refunds_asked().await;
    assert_eq!(asked.len(), 1, "two workers ask once: {asked:?}");
    assert_eq!(asked[0]["transaction_id"], paid["transaction_id"]);
    assert_eq!(asked[0]["amount"], json!({"refund": amount, "total": amount, "currency": "CNY"}));
    assert_eq!(status(&shopper, &order).await, 4, "what was cancelled stays cancelled");

    // Told again of the payment, the shop owes nothing more.
    assert_eq!(shop.wechat.notify(number(&order), &[]).await["notify_status"], 200);
    let (is_done, said) = start(&shop, &order, &["--reason", "再退一次"]).await;
    assert!(!is_done && said.contains("all of the order's money"), "{said}");
    assert_eq!(shop.wechat.refunds_asked().await.len(), 1);
    let (_, said) = shop.command(&["outbox", "timeline", number(&order)]).await;
    for event in ["paid_too_late", "refund_started", "refund_paid"] {
        eventually(LONG, event, async || {
            let (_, said) = shop.command(&["outbox", "timeline", number(&order)]).await;
            said.contains(event).then_some(())
        })
        .await;
    }
    assert!(!said.contains("order_refunded"), "{said}");
    is_clean(&shop).await;
}

#[tokio::test]
async fn a_whole_refund_of_what_was_not_shipped_gives_its_goods_back() {
    let (shop, shopper, order, sku) = bought().await;
    let (stock, level) = (shop.stock(sku).await, shop.gate(sku).await.unwrap());
    shop.wechat.misbehave(json!({"refund": [{"fault": "hold", "times": 1}]})).await;
    let said = shop.refund_all(&order).await;
    assert!(said.starts_with(&format!("{}-all", number(&order))) && said.ends_with("promised\n"), "{said}");
    let again = shop.refund_all(&order).await;
    assert!(again.contains("was promised before"), "{again}");
    assert_eq!(status(&shopper, &order).await, 5);
    let confirm = format!("/api/orders/{}/confirm", order["order_id"]);
    shopper.api.post(&confirm, &json!({})).await.fails_with(Problem::OrderStateConflict);
    shop.refunds_become(&order, &[1]).await;
    assert_eq!(shop.stock(sku).await, stock, "nothing returns before the money did");
    is_clean(&shop).await;

    let refund = format!("{}-all", number(&order));
    let answer = shop.wechat.decide_refund(&refund, "SUCCESS").await;
    assert_eq!((&answer["notify_status"], &answer["notify_body"]["code"]), (&json!(200), &json!("SUCCESS")));
    let shown = shopper.see(&order).await;
    assert_eq!((&shown["status"], &shown["status_text"]), (&json!(6), &json!("已退款")));
    let after = shop.stock(sku).await;
    assert_eq!((after.available, after.sold), (stock.available + 2, stock.sold - 2));
    gate_becomes(&shop, sku, level + 2).await;
    let moved = "SELECT COUNT(*) FROM stock_movements WHERE reason = 'returned'";
    assert_eq!(shop.count(moved).await, 1);
    // Twice, and out of order: nothing changes any more.
    for said in ["SUCCESS", "CLOSED", "ABNORMAL"] {
        assert_eq!(shop.wechat.notify_refund(&refund, said, &[]).await["notify_status"], 200, "{said}");
    }
    assert_eq!((status(&shopper, &order).await, shop.count(moved).await), (6, 1));
    assert_eq!(shop.promised_back(&order).await, fen(&order["actual_amount"]));
    is_clean(&shop).await;
    let (_, said) = shop.command(&["refund", "show", number(&order)]).await;
    assert!(said.contains("paid back") && said.contains(&refund), "{said}");
    assert_eq!(shop.command(&["refund", "list"]).await.1, "no refunds\n");
}

#[tokio::test]
async fn what_was_shipped_stays_sold_when_its_money_goes_back() {
    let (shop, shopper, order, sku) = bought().await;
    shop.ship(&order, &["--pick-up"]).await;
    let stock = shop.stock(sku).await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[2]).await;
    assert_eq!(status(&shopper, &order).await, 6);
    assert_eq!(shop.stock(sku).await, stock);
    is_clean(&shop).await;
}

#[tokio::test]
async fn a_refund_that_the_balance_does_not_cover_is_asked_for_again_with_the_same_number_and_bytes() {
    let (shop, shopper, order, _) = bought().await;
    // Both spellings.
    let refusals = json!([
        {"fault": "refused", "status": 403, "code": "NOTENOUGH", "times": 2},
        {"fault": "refused", "status": 403, "code": "NOT_ENOUGH"},
    ]);
    shop.wechat.misbehave(json!({"refund": refusals})).await;
    shop.refund_all(&order).await;
    eventually(LONG, "the operator is told", async || {
        let (_, said) = shop.command(&["refund", "list"]).await;
        // By now in either spelling.
        (said.contains("NOT_ENOUGH") && shop.wechat.refunds_asked().await.len() >= 3).then_some(())
    })
    .await;
    assert_eq!(status(&shopper, &order).await, 5, "promised is promised");
    shop.wechat.behave().await;
    shop.refunds_become(&order, &[2]).await;
    let asked = shop.wechat.refunds_asked().await;
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(asked.iter().all(|request| *request == asked[0]), "{asked:?}");
    assert_eq!(status(&shopper, &order).await, 6);
}

#[tokio::test]
async fn parts_that_are_asked_for_at_once_never_exceed_what_was_paid() {
    let shop = std::sync::Arc::new(ShopPlan::new().hasty_refunds().start().await);
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 2).await;
    let paid = fen(&order["actual_amount"]);
    let part = paid / 6;
    let yuan = format!("{}.{:02}", part / 100, part % 100);
    let mut operators = tokio::task::JoinSet::new();
    for index in 0..20 {
        let (shop, order, yuan) = (shop.clone(), order.clone(), yuan.clone());
        operators.spawn(async move {
            let key = format!("part{index}");
            start(&shop, &order, &["--amount", &yuan, "--reason", "坏果", "--key", &key]).await
        });
    }
    let said = operators.join_all().await;
    let promised = said.iter().filter(|(is_done, _)| *is_done).count();
    assert_eq!(i64::try_from(promised).unwrap(), paid / part);
    assert!(
        said.iter().all(|(is_done, said)| *is_done || said.contains("left") || said.contains("all of")),
        "{said:?}"
    );
    let back = shop.promised_back(&order).await;
    assert_eq!((back, shop.refunds(&order).await.len()), (part * (paid / part), promised));
    assert!(back <= paid);
    // A part leaves the order as it is, unless it is the last.
    assert_eq!(status(&shopper, &order).await, if back == paid { 5 } else { 1 });
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn parts_leave_the_order_as_it_is_until_they_are_the_whole() {
    let (shop, shopper, order, sku) = bought().await;
    shop.wechat
        .misbehave(json!({"refund_gap_seconds": 0.0, "refund": [{"fault": "hold", "times": 1}]}))
        .await;
    let (stock, level) = (shop.stock(sku).await, shop.gate(sku).await.unwrap());
    let part = ["--amount", "1.50", "--reason", "坏果"];
    let (is_done, said) = start(&shop, &order, &part).await;
    assert!(is_done && said.contains("1.50 yuan"), "{said}");
    let (_, said) = start(&shop, &order, &part).await;
    assert!(said.contains("was promised before"), "the same command is the same refund: {said}");
    shop.refunds_become(&order, &[1]).await;
    assert_eq!(status(&shopper, &order).await, 1);
    // The rest makes it whole; all of it is back when the first part is too.
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[1, 2]).await;
    assert_eq!((status(&shopper, &order).await, shop.stock(sku).await), (5, stock));
    is_clean(&shop).await;
    let first = shop.refunds(&order).await.remove(0);
    assert_eq!(first.amount_fen, 150);
    shop.wechat.decide_refund(&first.out_refund_no, "SUCCESS").await;
    assert_eq!(status(&shopper, &order).await, 6);
    assert_eq!(shop.stock(sku).await.sold, stock.sold - 2);
    gate_becomes(&shop, sku, level + 2).await;
    is_clean(&shop).await;
}

#[tokio::test]
async fn parts_of_an_order_are_sent_as_far_apart_as_wechat_wants_them() {
    let plan = ShopPlan::new()
        .hasty_refunds()
        .setting("FARMGATE_REFUNDS__SPACING_MS", 4000)
        .setting("FARMGATE_REFUNDS__LEASE_MS", 60_000);
    let mut shop = plan.worker().start().await;
    shop.another_worker().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 2).await;
    // What is sent in time may be slow on its way: WeChat shall not mind, and the books tell when each was sent.
    shop.wechat.misbehave(json!({"refund_gap_seconds": 0.0})).await;
    for key in ["a", "b", "c"] {
        let (is_done, said) =
            start(&shop, &order, &["--amount", "1", "--reason", "坏果", "--key", key]).await;
        assert!(is_done, "{said}");
    }
    shop.refunds_become(&order, &[2, 2, 2]).await;
    assert_eq!(shop.wechat.refunds_asked().await.len(), 3);
    let too_near = "SELECT COUNT(*) FROM refunds a JOIN refunds b ON b.id > a.id
                    WHERE ABS(TIMESTAMPDIFF(MICROSECOND, a.sent_at, b.sent_at)) < 4000000";
    assert_eq!(shop.count(too_near).await, 0);
    assert_eq!(shop.count("SELECT COUNT(*) FROM refunds WHERE sent_at IS NOT NULL").await, 3);
}

#[tokio::test]
async fn a_refund_whose_books_are_wrong_holds_no_other_up() {
    let mut shop = ShopPlan::new().hasty_refunds().start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let broken = shopper.buy(&shop.wechat, product, 2).await;
    let sound = shopper.buy(&shop.wechat, product, 1).await;
    // Promised and due first, and then the payment is not there any more.
    shop.refund_all(&broken).await;
    shop.refund_all(&sound).await;
    let id = broken["order_id"].as_i64().unwrap();
    shop.change("UPDATE payments SET status = 0 WHERE order_id = ", id).await;
    shop.start_worker().await;
    shop.refunds_become(&sound, &[2]).await;
    shop.refunds_become(&broken, &[0]).await;
    // Mended by hand, it goes on by itself.
    shop.change("UPDATE payments SET status = 1 WHERE order_id = ", id).await;
    shop.refunds_become(&broken, &[2]).await;
}

#[tokio::test]
async fn a_refund_whose_notification_is_lost_is_found() {
    let (shop, shopper, order, sku) = bought().await;
    let level = shop.gate(sku).await.unwrap();
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[2]).await;
    assert_eq!(status(&shopper, &order).await, 6);
    assert!(
        shop.wechat.calls("/v3/refund/domestic/refunds/").await.iter().any(|call| call["method"] == "GET")
    );
    gate_becomes(&shop, sku, level + 2).await;
    is_clean(&shop).await;
}

#[tokio::test]
async fn a_notification_that_does_not_agree_with_the_refund_is_refused() {
    let (shop, shopper, order, _) = bought().await;
    shop.wechat.misbehave(json!({"refund": [{"fault": "hold", "times": 1}]})).await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[1]).await;
    let refund = format!("{}-all", number(&order));
    for (fault, refused) in [
        ("forged_signature", 401),
        ("signtest", 401),
        ("stale_timestamp", 401),
        ("wrong_amount", 400),
        ("wrong_mchid", 400),
        ("unknown_order", 404),
    ] {
        let answer = shop.wechat.notify_refund(&refund, "SUCCESS", &[fault]).await;
        assert_eq!(answer["notify_status"], refused, "{fault}: {answer}");
        assert_eq!(answer["notify_body"]["code"], "FAIL", "{fault}: {answer}");
        assert_eq!(status(&shopper, &order).await, 5, "{fault}");
    }
    let answer = shop.wechat.notify_refund(&refund, "PROCESSING", &[]).await;
    assert_eq!(status(&shopper, &order).await, 5, "{answer}");
    // Twice at the same moment.
    shop.wechat.misbehave(json!({"notify": [{"fault": "doubled", "times": 1}]})).await;
    shop.wechat.decide_refund(&refund, "SUCCESS").await;
    assert_eq!(status(&shopper, &order).await, 6);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_refunded'").await, 1);
}

#[tokio::test]
async fn a_refund_that_wechat_closes_leaves_the_order_as_it_was_and_may_be_asked_for_anew() {
    let (shop, shopper, order, sku) = bought().await;
    let (stock, level) = (shop.stock(sku).await, shop.gate(sku).await.unwrap());
    shop.wechat
        .misbehave(json!({"refund_gap_seconds": 0.0, "refund": [{"fault": "closed", "times": 1}]}))
        .await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[3]).await;
    assert_eq!((status(&shopper, &order).await, shop.promised_back(&order).await), (1, 0));
    assert_eq!(shop.stock(sku).await, stock);
    is_clean(&shop).await;
    let said = shop.refund_all(&order).await;
    assert!(said.starts_with(&format!("{}-all-2", number(&order))), "{said}");
    shop.refunds_become(&order, &[3, 2]).await;
    assert_eq!(status(&shopper, &order).await, 6);
    // The first one's end, told late, takes nothing back.
    let first = format!("{}-all", number(&order));
    assert_eq!(shop.wechat.notify_refund(&first, "CLOSED", &[]).await["notify_status"], 200);
    assert_eq!(shop.promised_back(&order).await, fen(&order["actual_amount"]));
    gate_becomes(&shop, sku, level + 2).await;
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_abnormal_refund_waits_for_a_hand_and_ends_when_wechat_says_so() {
    let (shop, shopper, order, _) = bought().await;
    shop.wechat.misbehave(json!({"refund": [{"fault": "abnormal", "times": 1}]})).await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[4]).await;
    let (_, said) = shop.command(&["refund", "list"]).await;
    assert!(said.contains("STUCK") && said.contains("ABNORMAL"), "{said}");
    assert_eq!(status(&shopper, &order).await, 5);
    is_clean(&shop).await;
    let refund = format!("{}-all", number(&order));
    let (is_done, said) = shop.command(&["refund", "by-hand", &refund, "--note", "现金"]).await;
    assert!(!is_done && said.contains("merchant console"), "WeChat may still pay it: {said}");
    // Ended in WeChat's console; its notification is lost, and an operator has WeChat asked.
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.wechat.decide_refund(&refund, "SUCCESS").await;
    let (is_done, said) = shop.command(&["refund", "retry", &refund]).await;
    assert!(is_done, "{said}");
    shop.refunds_become(&order, &[2]).await;
    assert_eq!(status(&shopper, &order).await, 6);
}

#[tokio::test]
async fn a_refund_that_wechat_refuses_for_good_is_retried_or_paid_by_hand() {
    let (shop, shopper, order, _) = bought().await;
    shop.wechat
        .misbehave(json!({"refund": [{"fault": "refused", "status": 403, "code": "USER_ACCOUNT_ABNORMAL", "times": 2}]}))
        .await;
    shop.refund_all(&order).await;
    shop.refunds_become(&order, &[4]).await;
    let refund = format!("{}-all", number(&order));
    assert!(shop.refunds(&order).await[0].last_error.as_ref().unwrap().contains("USER_ACCOUNT_ABNORMAL"));
    let (is_done, said) = shop.command(&["refund", "retry", &refund]).await;
    assert!(is_done, "{said}");
    eventually(LONG, "it is refused again", async || {
        let is_stuck = shop.refunds(&order).await[0].status == 4;
        (is_stuck && shop.wechat.refunds_asked().await.len() == 2).then_some(())
    })
    .await;
    let (is_done, said) = shop.command(&["refund", "by-hand", &refund, "--note", "现金，老板娘，周一"]).await;
    assert!(is_done, "{said}");
    assert_eq!(status(&shopper, &order).await, 6);
    let (is_done, _) = shop.command(&["refund", "by-hand", &refund, "--note", "现金"]).await;
    assert!(!is_done, "once is enough");
    let (is_done, _) = shop.command(&["refund", "retry", &refund]).await;
    assert!(!is_done, "it is paid");
    eventually(LONG, "the gate has the goods", async || shop.reconcile(&[]).await.0.then_some(())).await;
}

#[tokio::test]
async fn what_may_not_be_refunded_is_refused_with_a_reason() {
    let (shop, shopper, order, _) = bought().await;
    let (product, ..) = shop.first_product().await;
    let unpaid = shopper.order(product, 1).await;
    shopper.prepay(&unpaid).await;
    let long = "农".repeat(27);
    for (order, arguments, why) in [
        (&order, &["--amount", "0", "--reason", "坏果"][..], "more than nothing"),
        (&order, &["--amount", "-1", "--reason", "坏果"], "unexpected argument"),
        (&order, &["--amount=-1", "--reason", "坏果"], "more than nothing"),
        (&order, &["--amount", "1.005", "--reason", "坏果"], "two decimals"),
        (&order, &["--amount", "99999", "--reason", "坏果"], "are left"),
        (&order, &["--reason", ""], "the reason must"),
        (&order, &["--reason", &long], "the reason must"),
        (&order, &["--reason", "坏果", "--key", "a b"], "the key must"),
        (&order, &["--amount", "1", "--reason", "坏果", "--key", "late"], "the key must"),
        (&order, &["--amount", "1", "--reason", "坏果", "--key", "all-2"], "the key must"),
        (&order, &["--amount", "1"], "--reason"),
        (&unpaid, &["--reason", "坏果"], "nothing was paid"),
        (&json!({"order_no": "2020010100000000000000"}), &["--reason", "坏果"], "no payment"),
    ] {
        let (is_done, said) = start(&shop, order, arguments).await;
        assert!(!is_done && said.contains(why), "{arguments:?}: {said}");
    }
    shop.change("UPDATE payments SET paid_at = paid_at - INTERVAL 366 DAY WHERE status = ", 1).await;
    let (is_done, said) = start(&shop, &order, &["--reason", "坏果"]).await;
    assert!(!is_done && said.contains("more than a year ago"), "{said}");
    assert_eq!((shop.refunds(&order).await.len(), status(&shopper, &order).await), (0, 1));
    let (is_known, _) = shop.command(&["refund", "retry", "nothing-of-ours"]).await;
    assert!(!is_known);
}

#[tokio::test]
async fn an_order_has_fifty_refunds_whatever_became_of_them() {
    let (shop, _, order, _) = bought().await;
    shop.wechat
        .misbehave(json!({"refund_gap_seconds": 0.0, "refund": [{"fault": "closed", "times": 1}]}))
        .await;
    let part =
        async |key: &str| start(&shop, &order, &["--amount", "0.01", "--reason", "坏果", "--key", key]).await;
    assert!(part("part0").await.0);
    shop.refunds_become(&order, &[3]).await;
    for index in 1..48 {
        let (is_done, said) = part(&format!("part{index}")).await;
        assert!(is_done, "{said}");
    }
    // The last two places, and more who want them than there are.
    let (a, b, c, d) = tokio::join!(part("a"), part("b"), part("c"), part("d"));
    let said = [a, b, c, d];
    assert_eq!(said.iter().filter(|(is_done, _)| *is_done).count(), 2, "{said:?}");
    let refused =
        |(is_done, said): &(bool, String)| *is_done || said.contains("the order has had 50 refunds");
    assert!(said.iter().all(refused), "{said:?}");
    assert_eq!(shop.refunds(&order).await.len(), 50);
    // Those that were promised can still be named.
    let (is_done, said) = part("part1").await;
    assert!(is_done && said.contains("was promised before"), "{said}");
}
