//! Calls of WeChat that are due or under way when their worker, Redis or MySQL goes away: none is lost, and none is made
//! again that WeChat has answered, as far as anybody can know.

use farmgate_tests::{LONG, Mysql, Redis, Shop, ShopPlan, Shopper, Value, bought, eventually, json};

const UPLOAD: &str = "/wxa/sec/order/upload_shipping_info";
const SEND: &str = "/cgi-bin/message/subscribe/send";
const CHECK: &str = "/wxa/msg_sec_check";
const CALLS: [&str; 3] = [UPLOAD, SEND, CHECK];

/// A shop that calls WeChat for all that it can, with a worker, and waits for moments where a shop waits for minutes; but
/// for WeChat, which is slow where the machine is.
fn talkative() -> ShopPlan {
    ShopPlan::new()
        .setting("FARMGATE_MESSAGES__PAID_TEMPLATE", "PAID-1")
        .setting("FARMGATE_OUTBOX__POLL_MS", 50)
        .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
        .setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000)
        .setting("FARMGATE_OUTBOX__AWAY_RETRY_MS", 200)
        .setting("FARMGATE_WECHAT__TIMEOUT_MS", 20_000)
        .worker()
}

/// The same; a call whose worker died is made again after moments.
fn impatient() -> ShopPlan {
    talkative().setting("FARMGATE_OUTBOX__CALL_LEASE_MS", 24_000).setting("FARMGATE_WECHAT__TIMEOUT_MS", 8000)
}

async fn agrees(shop: &Shop, times: u32) {
    shop.wechat.add_template("PAID-1", &["character_string1", "thing2", "amount3", "time4"]).await;
    shop.wechat.subscribe("小王", "PAID-1", times).await;
}

async fn called(shop: &Shop, path: &str) -> usize {
    shop.wechat.calls(path).await.len()
}

/// What became of messages, the earliest event first.
async fn outcomes(shop: &Shop) -> Vec<i8> {
    sqlx::query_scalar("SELECT outcome FROM shopper_messages ORDER BY event_id")
        .fetch_all(&shop.db)
        .await
        .unwrap()
}

/// A worker that dies when WeChat has sent the message of a payment and the shop has written nothing of it, and the
/// next worker. The shopper took so many messages.
async fn die_telling(agreed: u32) -> (Shop, Value) {
    let mut shop = impatient().worker_dies_at(Some("outbox_after_call")).start().await;
    agrees(&shop, agreed).await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.worker().died_at("outbox_after_call").await;
    assert_eq!(shop.wechat.messages().await.len(), 1);
    assert!(outcomes(&shop).await.is_empty(), "nothing is written of it");
    shop.start_worker().await;
    shop.all_is_delivered().await;
    assert_eq!(called(&shop, SEND).await, 2, "nobody knew whether it was sent");
    (shop, order)
}

#[tokio::test]
async fn a_message_whose_worker_died_is_refused_by_wechat_the_second_time() {
    let (shop, order) = die_telling(1).await;
    let messages = shop.wechat.messages().await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["data"]["character_string1"]["value"], order["order_no"]);
    assert_eq!(outcomes(&shop).await, [2], "WeChat has said no to the call that was written down");
}

/// A message has no number by which WeChat could know it again: only who agreed to more gets it twice, word for word.
#[tokio::test]
async fn a_message_whose_worker_died_comes_twice_to_who_agreed_to_more() {
    let (shop, _) = die_telling(5).await;
    let messages = shop.wechat.messages().await;
    assert_eq!((messages.len(), &messages[0]), (2, &messages[1]));
    assert_eq!(outcomes(&shop).await, [1]);
}

/// An order that arrived; its path and its SKU.
async fn completed(shop: &Shop, shopper: &Shopper) -> (String, i64) {
    let (_, sku, _) = shop.first_product().await;
    let order = bought(shop, shopper).await;
    shop.ship(&order, &["--pick-up"]).await;
    let path = format!("/api/orders/{}", order["order_id"]);
    shopper.api.post(&format!("{path}/confirm"), &json!({})).await.data();
    (path, sku)
}

/// One call of each kind becomes due: an upload, a message and a text check.
struct Due {
    shipped: Value,
    paid: Value,
    reviews: String,
    before: Vec<usize>,
}

impl Due {
    async fn now(shop: &Shop, shopper: &Shopper, between: impl AsyncFnOnce()) -> Due {
        let (reviewed, sku) = completed(shop, shopper).await;
        let shipped = bought(shop, shopper).await;
        shop.all_is_delivered().await;
        agrees(shop, 5).await;
        let mut before = Vec::new();
        for path in CALLS {
            before.push(called(shop, path).await);
        }
        between().await;
        shop.ship(&shipped, &["--express", "ZTO", "--tracking", "78001"]).await;
        let paid = bought(shop, shopper).await;
        let reviews = format!("{reviewed}/reviews");
        let body = json!({"reviews": [{"sku_id": sku, "rating": 5, "content": "很甜"}]});
        shopper.api.post(&reviews, &body).await.data();
        Due { shipped, paid, reviews, before }
    }

    /// How often WeChat answered each since.
    async fn called(&self, shop: &Shop) -> Vec<usize> {
        let mut since = Vec::new();
        for (path, before) in CALLS.into_iter().zip(&self.before) {
            since.push(called(shop, path).await - before);
        }
        since
    }

    /// All three have had their effect, and the books know.
    async fn are_done(&self, shop: &Shop, shopper: &Shopper) {
        assert_eq!(shop.wechat.shipment(&self.shipped).await.0, 1);
        assert_eq!(shop.count("SELECT COUNT(*) FROM shipments WHERE uploaded_at IS NULL").await, 0);
        let messages = shop.wechat.messages().await;
        let told: Vec<&Value> =
            messages.iter().map(|message| &message["data"]["character_string1"]["value"]).collect();
        assert_eq!(told, [&self.paid["order_no"]]);
        assert_eq!(outcomes(shop).await.last(), Some(&1));
        assert_eq!(shopper.api.get(&self.reviews).await.data()[0]["status"], 1);
    }
}

#[tokio::test]
async fn calls_that_become_due_without_redis_are_made_when_it_is_back() {
    let shop = talkative().redis_cable().start().await;
    let shopper = shop.shopper("小王").await;
    let due = Due::now(&shop, &shopper, async || shop.redis_cable().pull()).await;
    let (_, said) = shop.command(&["outbox", "status"]).await;
    let unpublished = said.lines().next().unwrap_or_default();
    assert!(unpublished.starts_with("unpublished") && unpublished.contains(" 3  the oldest"), "{said}");
    assert_eq!(due.called(&shop).await, [0, 0, 0]);
    shop.redis_cable().plug();
    shop.all_is_delivered().await;
    assert_eq!(due.called(&shop).await, [1, 1, 1]);
    due.are_done(&shop, &shopper).await;
}

#[tokio::test]
async fn calls_that_wait_for_wechat_survive_a_redis_that_comes_back_empty() {
    let mut redis = Redis::start().await;
    let mut shop = talkative().on_redis(&redis).start().await;
    let shopper = shop.shopper("小王").await;
    let due = Due::now(&shop, &shopper, async || {
        let busy = |path| json!({"fault": "status", "status": 502, "code": "", "path": path});
        shop.wechat.misbehave(json!({"api": CALLS.map(busy)})).await;
    })
    .await;
    eventually(LONG, "each was tried", async || {
        due.called(&shop).await.iter().all(|times| *times > 0).then_some(())
    })
    .await;
    redis.kill();
    eventually(LONG, "the worker knows", async || {
        shop.worker().log().contains("events wait in MySQL").then_some(())
    })
    .await;
    let waiting = "SELECT COUNT(*) FROM outbox_deliveries WHERE held_until IS NOT NULL";
    assert_eq!(shop.count(waiting).await, 3);
    shop.wechat.behave().await;
    redis.restart_empty().await;
    shop.all_is_delivered().await;
    due.are_done(&shop, &shopper).await;
}

#[tokio::test]
async fn calls_that_are_under_way_when_redis_dies_are_not_made_again() {
    let mut redis = Redis::start().await;
    let shop = talkative().on_redis(&redis).start().await;
    let shopper = shop.shopper("小王").await;
    let due = Due::now(&shop, &shopper, async || shop.wechat.hold(&CALLS).await).await;
    shop.wechat.holds(3).await;
    redis.kill();
    shop.wechat.behave().await;
    eventually(LONG, "MySQL knows that they are over", async || {
        (shop.count("SELECT COUNT(*) FROM outbox_deliveries WHERE held_until IS NOT NULL").await == 0)
            .then_some(())
    })
    .await;
    due.are_done(&shop, &shopper).await;
    redis.restart_empty().await;
    shop.all_is_delivered().await;
    assert_eq!(due.called(&shop).await, [1, 1, 1]);
}

#[tokio::test]
async fn calls_that_are_under_way_when_mysql_dies_are_written_down_when_it_is_back() {
    let mut mysql = Mysql::start().await;
    let mut shop = talkative().on_mysql(&mysql).start().await;
    let shopper = shop.shopper("小王").await;
    let due = Due::now(&shop, &shopper, async || shop.wechat.hold(&CALLS).await).await;
    shop.wechat.holds(3).await;
    mysql.kill();
    shop.wechat.behave().await;
    eventually(LONG, "the outcomes wait for MySQL", async || {
        let log = shop.worker().log();
        let waits = |name: &str| {
            let says = |line: &str| line.contains("MySQL is away") && line.contains(name);
            log.lines().any(says)
        };
        (waits("shipping_upload") && waits("subscribe_messages") && waits("review_check")).then_some(())
    })
    .await;
    assert_eq!(due.called(&shop).await, [1, 1, 1]);
    mysql.restart().await;
    shop.all_is_delivered().await;
    assert_eq!(due.called(&shop).await[..2], [1, 1], "their outcome was in good hands");
    due.are_done(&shop, &shopper).await;
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

/// A worker that is told to stop while MySQL is away leaves what it could not write to the next one.
#[tokio::test]
async fn a_worker_that_stops_while_mysql_is_away_leaves_its_calls_to_the_next() {
    let mut mysql = Mysql::start().await;
    let mut shop = impatient().on_mysql(&mysql).start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.all_is_delivered().await;
    shop.wechat.hold(&[UPLOAD]).await;
    shop.ship(&order, &["--pick-up"]).await;
    shop.wechat.holds(1).await;
    mysql.kill();
    shop.wechat.behave().await;
    eventually(LONG, "its outcome waits for MySQL", async || {
        shop.worker().log().contains("MySQL is away, an event waits").then_some(())
    })
    .await;
    assert!(shop.worker().stop().await.success());
    mysql.restart().await;
    shop.start_worker().await;
    shop.all_is_delivered().await;
    assert_eq!((shop.wechat.shipment(&order).await.0, called(&shop, UPLOAD).await), (1, 2));
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments WHERE uploaded_at IS NULL").await, 0);
}
