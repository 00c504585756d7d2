//! What can go wrong between an order and its money while nobody is at fault: notifications that never come, a WeChat that is
//! away, a cancel that meets a payment, a clock that is wrong.

use farmgate_tests::{LONG, Problem, Shop, ShopPlan, Shopper, Value, eventually, json, number, status};

const OF_ORDERS: &str = "/v3/pay/transactions/out-trade-no/";

async fn ordered(shop: &Shop, name: &str) -> (Shopper, Value) {
    let shopper = shop.shopper(name).await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 1).await;
    (shopper, order)
}

async fn prepaid(shop: &Shop, name: &str) -> (Shopper, Value) {
    let (shopper, order) = ordered(shop, name).await;
    shopper.prepay(&order).await;
    (shopper, order)
}

fn pay_path(order: &Value) -> String {
    format!("/api/orders/{}/pay", order["order_id"])
}

async fn asked(shop: &Shop) -> usize {
    usize::try_from(shop.count("SELECT CAST(COALESCE(SUM(asked), 0) AS SIGNED) FROM payments").await).unwrap()
}

#[tokio::test]
async fn a_payment_of_which_nothing_was_heard_is_found_by_asking() {
    let shop = ShopPlan::new().worker().setting("FARMGATE_PAY__ASK_AFTER_SECONDS", 1).start().await;
    let (shopper, order) = prepaid(&shop, "小王").await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.wechat.pay(number(&order)).await;
    eventually(LONG, "the shop asks long before the order is due", async || {
        (status(&shopper, &order).await == 1).then_some(())
    })
    .await;
    assert_eq!(
        shop.count("SELECT COUNT(*) FROM payments WHERE ask_at IS NOT NULL").await,
        0,
        "and asks no more"
    );
    let late = shop.wechat.notify(number(&order), &[]).await;
    assert_eq!(late["notify_status"], 200, "the notification comes after all: {late}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM stock_movements WHERE reason = 'sold'").await, 1);
}

#[tokio::test]
async fn an_unpaid_order_is_asked_about_less_and_less_by_one_worker_at_a_time() {
    let mut shop = ShopPlan::new().worker().setting("FARMGATE_PAY__ASK_AFTER_SECONDS", 1).start().await;
    shop.another_worker().await;
    prepaid(&shop, "小王").await;
    eventually(LONG, "the shop has asked twice", async || (asked(&shop).await >= 2).then_some(())).await;
    eventually(LONG, "each question that was booked is asked once", async || {
        (shop.wechat.calls(OF_ORDERS).await.len() == asked(&shop).await).then_some(())
    })
    .await;
    let seconds = shop
        .count("SELECT CAST(ROUND(TIMESTAMPDIFF(MICROSECOND, prepaid_at, ask_at) / 1000000) AS SIGNED) FROM payments")
        .await;
    // 1 s, then 2 s, then 4 s; a busy machine may be late, never early.
    assert!(seconds >= 7, "the third question comes {seconds} s after the prepay");
}

#[tokio::test]
async fn an_order_that_was_cancelled_is_asked_about_no_more() {
    let shop = ShopPlan::new().worker().setting("FARMGATE_PAY__ASK_AFTER_SECONDS", 1).start().await;
    let (shopper, order) = prepaid(&shop, "小王").await;
    shopper.api.post(&format!("/api/orders/{}/cancel", order["order_id"]), &json!({})).await.data();
    eventually(LONG, "WeChat says that it is closed", async || {
        (shop.count("SELECT COUNT(*) FROM payments WHERE ask_at IS NULL").await == 1).then_some(())
    })
    .await;
    assert_eq!(status(&shopper, &order).await, 4);
}

#[tokio::test]
async fn an_operator_asks_about_a_payment_by_either_number() {
    let shop = Shop::start().await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    let (shopper, first) = prepaid(&shop, "小王").await;
    let (said_yes, said) = shop.command(&["payments", "ask", "--order", number(&first)]).await;
    assert!(said_yes && said.contains("NotPay"), "{said}");
    let transaction = shop.wechat.pay(number(&first)).await["transaction_id"].as_str().unwrap().to_owned();
    let (said_yes, said) = shop.command(&["payments", "ask", "--transaction", &transaction]).await;
    assert!(said_yes && said.contains("the payment is recorded"), "{said}");
    assert_eq!(status(&shopper, &first).await, 1);
    for wrong in [
        &["--transaction", "4200000000000000000000000000"][..],
        &["--transaction", "4200/../../x"],
        &["--order", "20231201000000010000070"],
        &["--order", "x"],
        &[],
    ] {
        let (said_yes, said) = shop.command(&[&["payments", "ask"], wrong].concat()).await;
        assert!(!said_yes, "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn taps_at_the_same_moment_are_one_prepay() {
    let shop = Shop::start().await;
    let (shopper, order) = ordered(&shop, "小王").await;
    let path = pay_path(&order);
    let taps = (0..8).map(|_| {
        let (shopper, path) = (shopper.clone(), path.clone());
        tokio::spawn(async move { shopper.api.post(&path, &json!({})).await.data() })
    });
    let mut packages = Vec::new();
    for tap in taps.collect::<Vec<_>>() {
        packages.push(tap.await.unwrap()["package"].clone());
    }
    packages.dedup();
    assert_eq!(packages.len(), 1, "one prepay_id");
    // The simulator refuses a second prepay that differs in one byte.
    let prepays = shop.wechat.calls("/v3/pay/transactions/jsapi").await;
    assert!(
        prepays.iter().all(|call| call["status"] == 200 && call["body"] == prepays[0]["body"]),
        "{prepays:?}"
    );
    assert_eq!(shop.count("SELECT COUNT(*) FROM payments").await, 1);
}

#[tokio::test]
async fn a_prepay_whose_replies_were_all_lost_is_the_same_prepay_next_time() {
    let shop = Shop::start().await;
    let (shopper, order) = ordered(&shop, "小王").await;
    shop.wechat.misbehave(json!({"api": [{"fault": "lost_reply", "times": 3}]})).await;
    shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(Problem::WechatUnavailable);
    let parameters = shopper.prepay(&order).await;
    assert_eq!(shop.wechat.calls("/v3/pay/transactions/jsapi").await.len(), 4);
    // The simulator compares the prepay_id with the one whose reply was lost.
    shop.wechat.pay_with(number(&order), &parameters).await;
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn a_prepay_for_which_too_little_time_is_left_says_that_the_order_is_over() {
    let shop = Shop::start().await;
    // WeChat counts in whole seconds: of this one only the fraction is left.
    let (shopper, order) = ordered(&shop, "小王").await;
    let id = order["order_id"].as_i64().unwrap();
    shop.change(
        "UPDATE orders SET pay_deadline = UTC_TIMESTAMP() + INTERVAL 999000 MICROSECOND WHERE id = ",
        id,
    )
    .await;
    shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(Problem::OrderExpired);

    let refuse = |code| json!({"fault": "refuse", "status": 400, "code": code, "path": "/v3/pay/transactions/jsapi", "times": 1});
    for (code, seconds, problem) in [
        ("PARAM_ERROR", 30, Problem::OrderExpired),
        ("INVALID_REQUEST", 30, Problem::OrderExpired),
        // Time is not what is wrong.
        ("PARAM_ERROR", 300, Problem::Internal),
        ("NO_AUTH", 30, Problem::Internal),
        ("SYSTEM_ERROR", 300, Problem::WechatUnavailable),
    ] {
        let (shopper, order) = ordered(&shop, "小李").await;
        shop.script(&format!(
            "UPDATE orders SET pay_deadline = UTC_TIMESTAMP(3) + INTERVAL {seconds} SECOND WHERE id = {}",
            order["order_id"]
        ))
        .await;
        let mut fault = refuse(code);
        if code == "SYSTEM_ERROR" {
            fault["times"] = json!(3);
        }
        shop.wechat.misbehave(json!({"api": [fault]})).await;
        shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(problem);
        assert_eq!(status(&shopper, &order).await, 0, "{code}");
        // WeChat may know better a moment later.
        shopper.prepay(&order).await;
    }
}

#[tokio::test]
async fn a_prepay_that_is_refused_while_its_order_is_cancelled_says_so() {
    let shop = Shop::start().await;
    let (shopper, order) = ordered(&shop, "小王").await;
    let faults = json!({"api": [
        {"fault": "hold", "path": "/v3/pay/transactions/jsapi", "times": 1},
        {"fault": "refuse", "status": 400, "code": "PARAM_ERROR", "path": "/v3/pay/transactions/jsapi", "times": 1},
    ]});
    shop.wechat.misbehave(faults).await;
    let nothing = json!({});
    let (path, cancel) = (pay_path(&order), format!("/api/orders/{}/cancel", order["order_id"]));
    let cancelled = async {
        shop.wechat.holds(1).await;
        let cancelled = shopper.api.post(&cancel, &nothing).await.data();
        shop.wechat.behave().await;
        cancelled
    };
    let (refused, _) = tokio::join!(shopper.api.post(&path, &nothing), cancelled);
    refused.fails_with(Problem::OrderStateConflict);
    assert_eq!(status(&shopper, &order).await, 4);
}

/// Where a payment meets a cancel, which asks WeChat first, then closes there, and then cancels here.
#[derive(Clone, Copy, Debug)]
enum Meeting {
    AtOnce,
    BeforeTheQuestion,
    BetweenQuestionAndClose,
    AfterTheClose,
}

#[tokio::test]
async fn a_cancel_and_a_payment_have_one_winner_wherever_they_meet() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, sku, _) = shop.first_product().await;
    let mut sold = 0;
    let meetings = [
        Meeting::AtOnce,
        Meeting::BeforeTheQuestion,
        Meeting::BetweenQuestionAndClose,
        Meeting::AfterTheClose,
    ];
    for (round, meeting) in meetings.into_iter().cycle().take(24).enumerate() {
        let order = shopper.order(product, 1).await;
        shopper.prepay(&order).await;
        let at_wechat = format!("{OF_ORDERS}{}", number(&order));
        match meeting {
            Meeting::BeforeTheQuestion => shop.wechat.hold(&[&at_wechat]).await,
            Meeting::BetweenQuestionAndClose => shop.wechat.hold(&[&format!("{at_wechat}/close")]).await,
            Meeting::AtOnce | Meeting::AfterTheClose => {}
        }
        let path = format!("/api/orders/{}/cancel", order["order_id"]);
        let nothing = json!({});
        let pay = async {
            match meeting {
                Meeting::AtOnce => {}
                Meeting::BeforeTheQuestion | Meeting::BetweenQuestionAndClose => shop.wechat.holds(1).await,
                Meeting::AfterTheClose => {
                    eventually(LONG, "the order is closed at WeChat", async || {
                        (!shop.wechat.calls(&format!("{at_wechat}/close")).await.is_empty()).then_some(())
                    })
                    .await;
                }
            }
            let is_paid = shop.wechat.try_pay(number(&order)).await;
            shop.wechat.behave().await;
            is_paid
        };
        let (cancel, is_paid) = tokio::join!(shopper.api.post(&path, &nothing), pay);
        let ended = status(&shopper, &order).await;
        match (meeting, cancel.status, is_paid, ended) {
            (Meeting::AtOnce | Meeting::AfterTheClose, 200, false, 4) => {}
            (
                Meeting::AtOnce | Meeting::BeforeTheQuestion | Meeting::BetweenQuestionAndClose,
                409,
                true,
                1,
            ) => sold += 1,
            other => panic!("round {round}: (meeting, cancel, paid, status) = {other:?}"),
        }
    }
    let stock = shop.stock(sku).await;
    assert_eq!((stock.held, stock.sold), (0, sold));
    assert_eq!(
        shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'paid_too_late'").await,
        0,
        "no money was lost sight of"
    );
}

#[tokio::test]
async fn money_that_comes_after_a_cancel_is_on_record_once_however_often_it_is_told() {
    let shop = Shop::start().await;
    let (shopper, order) = prepaid(&shop, "小王").await;
    shopper.api.post(&format!("/api/orders/{}/cancel", order["order_id"]), &json!({})).await.data();
    // What WeChat would never send, since it had closed the order: the shop must not fall over it all the same.
    for round in 0..3 {
        let told = shop.wechat.notify(number(&order), &[]).await;
        // Each of these made-up payments has a number of its own, and an order has one payment.
        assert_eq!(told["notify_status"], if round == 0 { 200 } else { 400 }, "{told}");
    }
    assert_eq!(status(&shopper, &order).await, 4);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'paid_too_late'").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM payments WHERE status = 1").await, 1);
}

#[tokio::test]
async fn while_wechat_is_down_orders_stay_and_afterwards_all_converges() {
    let shop = ShopPlan::new().worker().setting("FARMGATE_PAY__ASK_AFTER_SECONDS", 1).start().await;
    let (unpaid_shopper, unpaid) = prepaid(&shop, "小王").await;
    let (paid_shopper, paid) = prepaid(&shop, "小李").await;
    let (new_shopper, new) = ordered(&shop, "小张").await;
    // The last that is heard of WeChat is a payment; no notification of it ever comes.
    shop.wechat
        .misbehave(json!({"notify": [{"fault": "silent"}], "api": [{"fault": "drop", "path": "/v3/"}]}))
        .await;
    shop.wechat.pay(number(&paid)).await;
    new_shopper.api.post(&pay_path(&new), &json!({})).await.fails_with(Problem::WechatUnavailable);
    let cancel = format!("/api/orders/{}/cancel", unpaid["order_id"]);
    unpaid_shopper.api.post(&cancel, &json!({})).await.fails_with(Problem::WechatUnavailable);
    // Their time runs out meanwhile: the closing job and the asking job both turn to WeChat, in vain.
    shop.let_time_run_out(&unpaid).await;
    shop.let_time_run_out(&paid).await;
    let before = shop.wechat.calls(OF_ORDERS).await.len();
    eventually(LONG, "several rounds of the jobs have failed", async || {
        (shop.wechat.calls(OF_ORDERS).await.len() >= before + 12).then_some(())
    })
    .await;
    for (shopper, order) in [(&unpaid_shopper, &unpaid), (&paid_shopper, &paid), (&new_shopper, &new)] {
        assert_eq!(status(shopper, order).await, 0, "nothing may be concluded");
    }
    shop.wechat.behave().await;
    eventually(LONG, "the paid one is paid", async || {
        (status(&paid_shopper, &paid).await == 1).then_some(())
    })
    .await;
    eventually(LONG, "the unpaid one is closed", async || {
        (status(&unpaid_shopper, &unpaid).await == 4).then_some(())
    })
    .await;
    let parameters = new_shopper.prepay(&new).await;
    shop.wechat.pay_with(number(&new), &parameters).await;
    assert_eq!(status(&new_shopper, &new).await, 1);
}

#[tokio::test]
async fn an_order_that_cannot_be_closed_holds_nobody_up_and_is_left_alone() {
    let mut shop = Shop::start().await;
    let (first_shopper, broken) = prepaid(&shop, "小王").await;
    let (other_shopper, other) = prepaid(&shop, "小李").await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    shop.wechat.pay(number(&broken)).await;
    shop.change(
        "UPDATE payments SET amount_fen = amount_fen + 1 WHERE order_id = ",
        broken["order_id"].as_i64().unwrap(),
    )
    .await;
    shop.let_time_run_out(&broken).await;
    shop.let_time_run_out(&other).await;
    shop.start_worker().await;
    eventually(LONG, "the other one closes", async || {
        (status(&other_shopper, &other).await == 4).then_some(())
    })
    .await;
    // A later round, to be sure of more than one.
    let (third_shopper, third) = prepaid(&shop, "小张").await;
    shop.let_time_run_out(&third).await;
    eventually(LONG, "and one more", async || (status(&third_shopper, &third).await == 4).then_some(()))
        .await;
    assert_eq!(
        shop.wechat.calls(&format!("{OF_ORDERS}{}", number(&broken))).await.len(),
        1,
        "asked about once"
    );
    assert!(shop.worker().log().contains("amount.total is not what the order says"));
    assert_eq!(status(&first_shopper, &broken).await, 0, "a person has to look");
    // Which is what a person does, and then asks.
    shop.change(
        "UPDATE payments SET amount_fen = amount_fen - 1 WHERE order_id = ",
        broken["order_id"].as_i64().unwrap(),
    )
    .await;
    let (said_yes, said) = shop.command(&["payments", "ask", "--order", number(&broken)]).await;
    assert!(said_yes, "{said}");
    assert_eq!(status(&first_shopper, &broken).await, 1);
}

#[tokio::test]
async fn what_looks_like_an_outage_and_is_one_orders_alone_holds_nobody_up() {
    let mut shop = Shop::start().await;
    let (product, ..) = shop.first_product().await;
    let earlier =
        shop.shopper("小赵").await.buy(&shop.wechat, product, 1).await["order_id"].as_i64().unwrap();
    let (first_shopper, taken) = prepaid(&shop, "小王").await;
    let (_, refused) = prepaid(&shop, "小张").await;
    let (other_shopper, other) = prepaid(&shop, "小李").await;
    // Of the first, which is paid, MySQL has the transaction's number already; about the second WeChat answers nothing but 500.
    let path = format!("{OF_ORDERS}{}", number(&refused));
    let faults = json!({
        "notify": [{"fault": "silent"}],
        "api": [{"fault": "status", "status": 500, "code": "SYSTEM_ERROR", "path": path}],
    });
    shop.wechat.misbehave(faults).await;
    let paid = shop.wechat.pay(number(&taken)).await;
    let of_earlier = |transaction: &str| {
        format!("UPDATE payments SET transaction_id = '{transaction}' WHERE order_id = {earlier}")
    };
    shop.script(&of_earlier(paid["transaction_id"].as_str().unwrap())).await;
    for order in [&taken, &refused, &other] {
        shop.let_time_run_out(order).await;
    }
    shop.start_worker().await;
    eventually(LONG, "the last one closes", async || {
        (status(&other_shopper, &other).await == 4).then_some(())
    })
    .await;
    assert_eq!(status(&first_shopper, &taken).await, 0, "a person has to look");
    shop.script(&of_earlier("4200000000")).await;
    let (said_yes, said) = shop.command(&["payments", "ask", "--order", number(&taken)]).await;
    assert!(said_yes, "{said}");
    assert_eq!(status(&first_shopper, &taken).await, 1);
}

/// A shop whose edge is told to bear a wrong clock, so that WeChat is the one who minds.
fn with_patient_edge() -> ShopPlan {
    ShopPlan::new().setting("FARMGATE_EDGE__MAX_SKEW_SECONDS", 1200)
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_named_when_wechat_refuses_our_signature() {
    for (offset, word) in [(-600, "behind"), (600, "ahead of")] {
        let mut shop = with_patient_edge().setting("FARMGATE_CLOCK__OFFSET_SECONDS", offset).start().await;
        let (shopper, order) = ordered(&shop, "小王").await;
        shopper.api.post(&pay_path(&order), &json!({})).await.fails_with(Problem::WechatUnavailable);
        let calls = shop.wechat.calls("/v3/pay/transactions/jsapi").await;
        assert_eq!(
            calls.iter().map(|call| call["status"].as_i64()).collect::<Vec<_>>(),
            [Some(401)],
            "not repeated"
        );
        names_the_clock(&mut shop, word);
        assert_eq!(status(&shopper, &order).await, 0);
    }
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_named_when_a_notification_comes_and_made_good_afterwards() {
    for (offset, word) in [("-600", "behind"), ("600", "ahead of")] {
        let mut shop = with_patient_edge().start().await;
        let (_, order) = prepaid(&shop, "小王").await;
        shop.change_setting("FARMGATE_CLOCK__OFFSET_SECONDS", offset);
        shop.restart_origin().await;
        shop.wechat.misbehave(json!({"retry_scale": 0.05})).await;
        let paid = shop.wechat.pay(number(&order)).await;
        assert_eq!(paid["notify_status"], 401, "{paid}");
        names_the_clock(&mut shop, word);
        assert_eq!(shop.count("SELECT COUNT(*) FROM payments WHERE status = 1").await, 0);
        shop.change_setting("FARMGATE_CLOCK__OFFSET_SECONDS", "0");
        shop.restart_origin().await;
        eventually(LONG, "with the clock set right WeChat's retry is taken", async || {
            (shop.count("SELECT COUNT(*) FROM payments WHERE status = 1").await == 1).then_some(())
        })
        .await;
    }
}

/// That the origin's log says which clock is off, and by how much.
fn names_the_clock(shop: &mut Shop, word: &str) {
    let log = shop.origin().log();
    let told = log
        .lines()
        .find_map(|line| line.split_once("our clock is "))
        .map(|(_, told)| told)
        .unwrap_or_default();
    let (seconds, rest) = told.split_once(" seconds ").unwrap_or_default();
    let seconds: u64 = seconds.parse().unwrap_or_default();
    assert!((585..=615).contains(&seconds), "{told}");
    assert!(rest.starts_with(&format!("{word} WeChat's")), "{told}");
}
