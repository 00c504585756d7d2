//! What one client may ask of the origin, however many edges and origins it goes through, and with Redis away.

use farmgate_tests::{Call, LONG, Problem, Shop, ShopPlan, Shopper, eventually, json};
use tokio::task::JoinSet;

/// So slow that nothing comes back within a test: four at once, one of them by the process's own count.
const FOUR: &str = "1/h burst 4";
/// The same with eight, two of them by the process's own count.
const EIGHT: &str = "1/h burst 8";

fn limited(name: &str, rate: &str) -> ShopPlan {
    ShopPlan::new().setting(&format!("FARMGATE_LIMITS__{name}"), rate)
}

#[tokio::test]
async fn a_shopper_who_orders_too_fast_has_to_wait_and_holds_nobody_up() {
    let shop = limited("USER_ORDERS", FOUR).start().await;
    let (hasty, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, sku, _) = shop.first_product().await;
    let address = hasty.address().await;
    for _ in 0..4 {
        hasty.send_order(order(product, address)).await.data();
    }
    for _ in 0..3 {
        let seconds = hasty.send_order(order(product, address)).await.is_limited();
        assert!((600..=4 * 3600).contains(&seconds), "{seconds}");
    }
    assert_eq!(shop.stock(sku).await.held, 4, "a refused order holds nothing");
    hasty.api.get("/api/orders").await.data();
    hasty.api.post("/api/addresses", &hasty.address_body()).await.data();
    other.order(product, 1).await;
}

fn order(product: i64, address: i64) -> Call {
    let body = json!({"product_id": product, "quantity": 1, "address_id": address, "coupon_id": null});
    Call::post("/api/orders", &body).idempotent(&farmgate_tests::unique("key"))
}

#[tokio::test]
async fn after_the_wait_that_it_was_told_a_client_is_served() {
    let shop = limited("USER_READS", "120/min burst 2").start().await;
    let shopper = shop.shopper("小王").await;
    // At once, since on a busy machine one after the other may be slow enough.
    let refused = eventually(LONG, "a client is refused", async || {
        let mut asking = JoinSet::new();
        for _ in 0..8 {
            let api = shopper.api.clone();
            asking.spawn(async move { api.get("/api/user/info").await });
        }
        asking.join_all().await.into_iter().find(|reply| reply.status != 200)
    })
    .await;
    assert!(refused.is_limited() <= 2);
    eventually(LONG, "the client is served again", async || {
        shopper.api.get("/api/user/info").await.status.eq(&200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_guesses_logins_is_stopped_before_wechat_is_asked() {
    let shop = limited("ADDRESS_LOGINS", FOUR).start().await;
    let guess = async |api: &farmgate_tests::Caller| {
        api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await
    };
    for _ in 0..4 {
        guess(&shop.api).await.data();
    }
    let asked = shop.wechat.calls("/").await.len();
    for _ in 0..3 {
        guess(&shop.api).await.is_limited();
    }
    assert_eq!(shop.wechat.calls("/").await.len(), asked);
    guess(&shop.api.with_client_ip("198.51.100.1")).await.data();
    // A line has many addresses of IPv6 and is one client all the same.
    for last in 0..4 {
        guess(&shop.api.with_client_ip(&format!("2001:db8::{last}"))).await.data();
    }
    guess(&shop.api.with_client_ip("2001:db8::ffff")).await.is_limited();
    // Those without an address are one client too.
    for _ in 0..4 {
        guess(&shop.api.with_client_ip("")).await.data();
    }
    guess(&shop.api.with_client_ip("")).await.is_limited();
}

#[tokio::test]
async fn an_account_that_logs_in_too_often_has_to_wait_wherever_it_is() {
    let shop = limited("USER_LOGINS", FOUR).start().await;
    let login = async |name: &str, client_ip: &str| {
        let api = shop.api.with_client_ip(client_ip);
        api.post("/api/user/login", &json!({"code": Shopper::code(name)})).await
    };
    for last in 1..=4 {
        login("小王", &format!("198.51.100.{last}")).await.data();
    }
    login("小王", "198.51.100.9").await.is_limited();
    login("小李", "198.51.100.9").await.data();
}

#[tokio::test]
async fn an_address_is_counted_over_all_its_shoppers() {
    let shop = limited("ADDRESS_WRITES", FOUR).start().await;
    let (first, second) = (shop.shopper("小王").await, shop.shopper("小李").await);
    for shopper in [&first, &second, &first, &second] {
        shopper.address().await;
    }
    for shopper in [&first, &second] {
        shopper.api.post("/api/addresses", &shopper.address_body()).await.is_limited();
        shopper.api.get("/api/addresses").await.data();
        let elsewhere = shopper.through(&shop.api.with_client_ip("198.51.100.1"));
        elsewhere.address().await;
    }
}

#[tokio::test]
async fn replicas_count_together() {
    let mut shop = limited("USER_READS", EIGHT).start().await;
    let shopper = shop.shopper("小王").await;
    let elsewhere = shopper.through(&shop.replica().await);
    let mut served = 0;
    for _ in 0..20 {
        for caller in [&shopper, &elsewhere] {
            let reply = caller.api.get("/api/user/info").await;
            if reply.status == 200 {
                served += 1;
            } else {
                reply.is_limited();
            }
        }
    }
    // Two by each replica's own count and six by Redis, once for both.
    assert_eq!(served, 2 + 2 + 6);
}

#[tokio::test]
async fn what_a_busy_shopper_sent_is_not_sent_again_at_another_replica() {
    let mut shop = limited("USER_READS", EIGHT).start().await;
    let shopper = shop.shopper("小王").await;
    let elsewhere = shopper.through(&shop.replica().await);
    // Beyond its own count the one takes nonces together with the limits, the other still by themselves, and then as the first.
    for busy in [&shopper, &elsewhere] {
        for _ in 0..2 {
            busy.api.get("/api/user/info").await.data();
        }
        let call = Call::get("/api/user/info").stamped();
        shopper.api.send(call.clone()).await.data();
        elsewhere.api.send(call).await.fails_with(Problem::EdgeSignatureRequired);
    }
}

#[tokio::test]
async fn a_replica_whose_clock_is_ahead_speaks_for_nobodys_future() {
    let mut shop = limited("USER_READS", EIGHT).start().await;
    let shopper = shop.shopper("小王").await;
    shop.change_setting("FARMGATE_CLOCK__OFFSET_SECONDS", "10");
    let ahead = shopper.through(&shop.replica().await);
    // Each counts a quarter, two, by itself, and Redis the six that are left: all are used up and none is refused.
    for busy in [&ahead, &shopper] {
        for _ in 0..5 {
            busy.api.get("/api/user/info").await.data();
        }
    }
}

#[tokio::test]
async fn with_redis_away_limits_are_stricter_and_the_shop_goes_on() {
    let shop = limited("USER_READS", EIGHT).redis_cable().start().await;
    let (busy, other) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let (product, _, _) = shop.first_product().await;
    shop.redis_cable().pull();
    for _ in 0..2 {
        busy.api.get("/api/user/info").await.data();
    }
    for _ in 0..3 {
        busy.api.get("/api/user/info").await.is_limited();
    }
    other.api.get("/api/user/info").await.data();
    other.order(product, 1).await;
    for _ in 0..30 {
        shop.api.get("/api/products").await.data();
    }
    shop.redis_cable().plug();
    eventually(LONG, "Redis counts again, and there is more than the share", async || {
        busy.api.get("/api/user/info").await.status.eq(&200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wechat_and_the_edges_own_reads_have_no_limit() {
    let mut plan = ShopPlan::new();
    for name in ["ADDRESS_READS", "ADDRESS_WRITES", "ADDRESS_LOGINS", "USER_READS", "USER_WRITES"] {
        plan = plan.setting(&format!("FARMGATE_LIMITS__{name}"), "1/h burst 8");
    }
    let shop = plan.start().await;
    for _ in 0..30 {
        for path in ["/api/products", "/api/categories", "/api/stock?ids=1"] {
            shop.api.get(path).await.data();
        }
        let forged = shop.api.post("/api/payments/wechat/notify", &json!({})).await;
        assert_eq!(forged.status, 401, "{}", forged.text());
    }
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 1).await;
    assert_eq!(shopper.see(&order).await["status"], json!(1));
}

#[tokio::test]
async fn a_limit_that_makes_no_sense_is_refused_at_the_start_by_name() {
    let shop = Shop::start().await;
    for (name, value) in [
        ("FARMGATE_LIMITS__USER_ORDERS", "lots"),
        ("FARMGATE_LIMITS__ADDRESS_LOGINS", "0/min burst 5"),
        ("FARMGATE_LIMITS__OWN_SHARE_PERCENT", "100"),
    ] {
        let mut settings = shop.settings();
        settings.push((name.to_owned(), value.to_owned()));
        let mut command =
            std::process::Command::new(std::env::var("FARMGATE_ORIGIN_BIN").expect("run `cargo xtask test`"));
        let output = command.arg("serve").env_clear().envs(settings).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let setting = name.trim_start_matches("FARMGATE_LIMITS__").to_lowercase();
        assert!(!output.status.success() && said.contains(&setting), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_refusal_for_the_limit_takes_the_nonce_too() {
    let shop = limited("USER_READS", FOUR).start().await;
    let shopper = shop.shopper("小王").await;
    for _ in 0..4 {
        shopper.api.get("/api/user/info").await.data();
    }
    let call = Call::get("/api/user/info").stamped();
    shopper.api.send(call.clone()).await.is_limited();
    shopper.api.send(call).await.fails_with(Problem::EdgeSignatureRequired);
}
