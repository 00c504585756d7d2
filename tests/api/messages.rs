//! Subscribe messages, and `GET /api/messages/templates`.

use farmgate_tests::{LONG, Shop, ShopPlan, Value, eventually, json};

const SEND: &str = "/cgi-bin/message/subscribe/send";
const FIELDS: [&str; 4] = ["character_string1", "thing2", "amount3", "time4"];

/// A shop that tells of payments and shipments, with a worker.
fn talkative() -> ShopPlan {
    ShopPlan::new()
        .setting("FARMGATE_MESSAGES__PAID_TEMPLATE", "PAID-1")
        .setting("FARMGATE_MESSAGES__SHIPPED_TEMPLATE", "SHIPPED-1")
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
        .setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000)
        .setting("FARMGATE_OUTBOX__AWAY_RETRY_MS", 200)
        .worker()
}

async fn knows_the_templates(shop: &Shop) {
    shop.wechat.add_template("PAID-1", &FIELDS).await;
    let fields = ["character_string1", "thing2", "thing3", "character_string4", "time5"];
    shop.wechat.add_template("SHIPPED-1", &fields).await;
}

/// Occasions and outcomes as the shop has counted them.
async fn counted(shop: &Shop) -> Vec<(String, i8)> {
    sqlx::query_as("SELECT occasion, outcome FROM shopper_messages ORDER BY event_id")
        .fetch_all(&shop.db)
        .await
        .unwrap()
}

async fn buy(shop: &Shop, name: &str) -> Value {
    let shopper = shop.shopper(name).await;
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await
}

#[tokio::test]
async fn the_phone_learns_which_templates_to_ask_for() {
    let shop = Shop::start().await;
    let reply = shop.api.get("/api/messages/templates").await;
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    assert_eq!(reply.data(), json!({"paid": null, "shipped": null, "refunded": null}));
    drop(shop);
    let plan = ShopPlan::new()
        .setting("FARMGATE_MESSAGES__PAID_TEMPLATE", "PAID-1")
        .setting("FARMGATE_MESSAGES__REFUNDED_TEMPLATE", "REFUNDED_1");
    let shop = plan.start().await;
    let shown = shop.api.get("/api/messages/templates").await.data();
    assert_eq!(shown, json!({"paid": "PAID-1", "shipped": null, "refunded": "REFUNDED_1"}));
}

#[tokio::test]
async fn a_shopper_who_agreed_is_told_of_payment_and_shipping() {
    let shop = talkative().start().await;
    knows_the_templates(&shop).await;
    for template in ["PAID-1", "SHIPPED-1"] {
        shop.wechat.subscribe("小王", template, 1).await;
    }
    let order = buy(&shop, "小王").await;
    shop.all_is_delivered().await;
    shop.ship(&order, &["--express", "SF", "--tracking", "SF1234567890"]).await;
    shop.all_is_delivered().await;

    let messages = shop.wechat.messages().await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    let (paid, shipped) = (&messages[0], &messages[1]);
    let page = format!("pages/order/detail?id={}", order["order_id"]);
    assert_eq!((&paid["template_id"], &paid["page"]), (&json!("PAID-1"), &json!(page)));
    assert_eq!(paid["data"]["character_string1"]["value"], order["order_no"]);
    let amount = order["actual_amount"].as_f64().unwrap();
    assert_eq!(paid["data"]["amount3"]["value"], json!(format!("¥{amount:.2}")));
    assert_eq!(shipped["template_id"], "SHIPPED-1");
    assert_eq!(shipped["data"]["thing3"]["value"], "顺丰速运");
    assert_eq!(shipped["data"]["character_string4"]["value"], "SF1234567890");
    assert_eq!(counted(&shop).await, [("paid".to_owned(), 1), ("shipped".to_owned(), 1)]);
}

#[tokio::test]
async fn a_shopper_who_agreed_is_told_how_much_went_back() {
    let plan = talkative().hasty_refunds().setting("FARMGATE_MESSAGES__REFUNDED_TEMPLATE", "REFUNDED-1");
    let shop = plan.start().await;
    knows_the_templates(&shop).await;
    shop.wechat.add_template("REFUNDED-1", &FIELDS).await;
    shop.wechat.subscribe("小王", "REFUNDED-1", 2).await;
    let order = buy(&shop, "小王").await;
    let number = order["order_no"].as_str().unwrap();
    let (is_done, said) =
        shop.command(&["refund", "start", number, "--amount", "1.50", "--reason", "少了一个"]).await;
    assert!(is_done, "{said}");
    shop.refunds_become(&order, &[2]).await;
    shop.all_is_delivered().await;
    let other = buy(&shop, "小王").await;
    shop.refund_all(&other).await;
    shop.refunds_become(&other, &[2]).await;
    shop.all_is_delivered().await;
    let whole = other["actual_amount"].as_f64().unwrap();
    let messages = shop.wechat.messages().await;
    let told: Vec<(&Value, &Value)> = messages
        .iter()
        .map(|message| (&message["data"]["character_string1"]["value"], &message["data"]["amount3"]["value"]))
        .collect();
    let whole = json!(format!("¥{whole:.2}"));
    assert_eq!(told, [(&order["order_no"], &json!("¥1.50")), (&other["order_no"], &whole)]);
    let refunded: Vec<_> = counted(&shop).await.into_iter().filter(|(what, _)| what == "refunded").collect();
    assert_eq!(refunded, vec![("refunded".to_owned(), 1); 2]);
}

#[tokio::test]
async fn each_of_two_refunds_tells_its_own_sum() {
    let plan = talkative().hasty_refunds().setting("FARMGATE_MESSAGES__REFUNDED_TEMPLATE", "REFUNDED-1");
    let shop = plan.setting("FARMGATE_OUTBOX__CALLS", 1).start().await;
    knows_the_templates(&shop).await;
    shop.wechat.add_template("REFUNDED-1", &FIELDS).await;
    shop.wechat.subscribe("小王", "REFUNDED-1", 2).await;
    // The message of the payment is still under way when both refunds are paid back.
    shop.wechat.hold(&[SEND]).await;
    shop.wechat.misbehave(json!({"refund_gap_seconds": 0.0})).await;
    let order = buy(&shop, "小王").await;
    shop.wechat.holds(1).await;
    let number = order["order_no"].as_str().unwrap();
    for (amount, key) in [("1.50", "one"), ("2.50", "two")] {
        let refund = ["refund", "start", number, "--amount", amount, "--reason", "少了一个", "--key", key];
        let (is_done, said) = shop.command(&refund).await;
        assert!(is_done, "{said}");
    }
    shop.refunds_become(&order, &[2, 2]).await;
    shop.wechat.behave().await;
    shop.all_is_delivered().await;
    let messages = shop.wechat.messages().await;
    let mut told: Vec<&Value> = messages.iter().map(|message| &message["data"]["amount3"]["value"]).collect();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [&json!("¥1.50"), &json!("¥2.50")]);
}

#[tokio::test]
async fn a_shopper_who_did_not_agree_is_left_in_peace() {
    let shop = talkative().start().await;
    knows_the_templates(&shop).await;
    shop.wechat.subscribe("小李", "PAID-1", 1).await;
    buy(&shop, "小王").await;
    buy(&shop, "小李").await;
    // Agreed once, and bought twice.
    buy(&shop, "小李").await;
    shop.all_is_delivered().await;
    assert_eq!(shop.wechat.messages().await.len(), 1);
    assert_eq!(shop.wechat.calls(SEND).await.len(), 3, "each was asked once");
    let mut outcomes: Vec<i8> = counted(&shop).await.into_iter().map(|(_, outcome)| outcome).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [1, 2, 2]);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox_deliveries").await, 0);
}

#[tokio::test]
async fn a_shopkeeper_sees_whom_the_messages_reach_and_old_ones_are_forgotten() {
    let shop = talkative().start().await;
    knows_the_templates(&shop).await;
    let (_, said) = shop.command(&["messages", "summary"]).await;
    assert_eq!(said, "nobody was told of anything in 30 days\n");
    shop.wechat.subscribe("小王", "PAID-1", 1).await;
    let order = buy(&shop, "小王").await;
    let other = buy(&shop, "小李").await;
    shop.all_is_delivered().await;
    shop.ship(&order, &["--pick-up"]).await;
    shop.all_is_delivered().await;
    let (_, said) = shop.command(&["messages", "summary", "--days", "7"]).await;
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let not = |occasion| vec![occasion, "1", "not", "agreed", "to"];
    assert_eq!(lines, [vec!["paid", "1", "sent"], not("paid"), not("shipped")], "{said}");
    let show = async |number: &str| shop.command(&["messages", "show", number]).await;
    let (_, said) = show(order["order_no"].as_str().unwrap()).await;
    let told: Vec<&str> = said.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(told, ["paid      sent", "shipped   not agreed to"]);
    assert!(!show("2020010100000000000000").await.0);

    shop.script(&format!(
        "UPDATE shopper_messages SET told_at = told_at - INTERVAL 91 DAY WHERE order_id = {}",
        order["order_id"]
    ))
    .await;
    eventually(LONG, "what is old is forgotten", async || {
        (shop.count("SELECT COUNT(*) FROM shopper_messages").await == 1).then_some(())
    })
    .await;
    assert_eq!(show(order["order_no"].as_str().unwrap()).await.1, "nothing was told of it\n");
    assert!(show(other["order_no"].as_str().unwrap()).await.1.contains("not agreed to"));
}

#[tokio::test]
async fn a_lost_reply_and_a_busy_wechat_end_in_one_message() {
    let shop = talkative().start().await;
    knows_the_templates(&shop).await;
    shop.wechat.subscribe("小王", "PAID-1", 1).await;
    let faults = json!({"api": [
        {"fault": "errcode", "errcode": -1, "path": SEND, "times": 2},
        {"fault": "lost_reply", "path": SEND, "times": 3},
    ]});
    shop.wechat.misbehave(faults).await;
    buy(&shop, "小王").await;
    shop.all_is_delivered().await;
    assert_eq!(shop.wechat.messages().await.len(), 1);
    assert_eq!(counted(&shop).await.len(), 1);
}

#[tokio::test]
async fn a_template_that_wechat_does_not_know_is_a_dead_letter_that_says_so() {
    let shop = talkative().start().await;
    // One is missing, the other has a field more than the settings fill.
    shop.wechat.add_template("SHIPPED-1", &["thing1"]).await;
    let order = buy(&shop, "小王").await;
    shop.ship(&order, &["--pick-up"]).await;
    shop.all_is_delivered().await;
    let (_, said) = shop.command(&["outbox", "dead"]).await;
    for part in ["40037 invalid template_id", "47003 argument invalid", "subscribe_messages", "1 attempts"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    knows_the_templates(&shop).await;
    shop.wechat.subscribe("小王", "PAID-1", 1).await;
    shop.wechat.subscribe("小王", "SHIPPED-1", 1).await;
    let (_, said) = shop.command(&["outbox", "replay", "--all"]).await;
    assert!(said.starts_with("2 "), "{said}");
    shop.all_is_delivered().await;
    let messages = shop.wechat.messages().await;
    assert_eq!(messages.len(), 2);
    let shipped = messages.iter().find(|message| message["template_id"] == "SHIPPED-1").unwrap();
    assert_eq!(shipped["data"]["thing3"]["value"], "到店自提");
    assert_eq!(shipped["data"]["character_string4"]["value"], "-", "WeChat takes no empty field");
}

#[tokio::test]
async fn a_shop_without_templates_has_no_work_with_them() {
    let shop = ShopPlan::new()
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .worker_dies_at(Some("outbox_after_call"))
        .worker()
        .start()
        .await;
    buy(&shop, "小王").await;
    shop.all_is_delivered().await;
    assert!(shop.wechat.calls("/cgi-bin/").await.is_empty());
    assert_eq!(shop.redis_number(&["XLEN", ":events:subscribe_messages"]).await, 0);
    assert_eq!(shop.count("SELECT COUNT(*) FROM shopper_messages").await, 0);
}

#[tokio::test]
async fn settings_that_no_template_could_have_are_refused_at_the_start() {
    let mut shop = Shop::start().await;
    shop.change_setting("FARMGATE_MESSAGES__PAID_TEMPLATE", "PAID-1");
    for (name, value, said) in [
        ("PAID_FIELDS", "thing1=prise", "there is no value \"prise\""),
        ("PAID_FIELDS", "amount1=product", "cannot show that"),
        ("STATE", "release", "developer, trial or formal"),
        ("PAGE", "/pages/order", "without a leading slash"),
    ] {
        let good = shop.settings();
        shop.change_setting(&format!("FARMGATE_MESSAGES__{name}"), value);
        let (is_served, log) = shop.command(&["serve"]).await;
        assert!(!is_served && log.contains(said), "{name} {value}: {log}");
        let before = good.iter().find(|(known, _)| known.ends_with(name)).map(|(_, value)| value.clone());
        let default = match name {
            "STATE" => "formal",
            "PAGE" => "pages/order/detail?id={id}",
            _ => "thing1=product",
        };
        shop.change_setting(&format!("FARMGATE_MESSAGES__{name}"), before.as_deref().unwrap_or(default));
    }
}
