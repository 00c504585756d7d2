//! `reconcile` beside a shop that sells: it names no order in the making, keeps a gate that is right, and mends one that is not.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farmgate_tests::{Call, Caller, LONG, Redis, Shop, ShopPlan, eventually, json, unix_now};
use tokio::task::JoinSet;

use crate::rush::{becomes_clean, converges};

/// Shoppers at a time.
const CROWD: usize = 12;

/// Shoppers who order without a pause, take most of it back, and tell how often when they are told to end.
struct Bustle {
    is_over: Arc<AtomicBool>,
    shoppers: JoinSet<(usize, usize)>,
}

impl Bustle {
    async fn begin(shop: &Shop, apis: &[Caller]) -> Bustle {
        let (product, ..) = shop.first_product().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut shoppers = JoinSet::new();
        for index in 0..CROWD {
            let shopper = shop.shopper(&format!("顾客{index}")).await.through(&apis[index % apis.len()]);
            let address = shopper.address().await;
            let is_over = is_over.clone();
            shoppers.spawn(async move {
                let (mut ordered, mut cancelled) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    let quantity = 1 + ordered % 3;
                    let body = json!({"product_id": product, "quantity": quantity, "address_id": address});
                    // A key of its own: equal orders of one shopper are one order else.
                    let call = Call::post("/api/orders", &body).idempotent(&format!("{index}-{ordered}"));
                    let order = shopper.api.send(call).await.data();
                    ordered += 1;
                    if ordered % 4 != 0 {
                        let path = format!("/api/orders/{}/cancel", order["order_id"]);
                        shopper.api.post(&path, &json!({})).await.data();
                        cancelled += 1;
                    }
                }
                (ordered, cancelled)
            });
        }
        Bustle { is_over, shoppers }
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for (ordered, cancelled) in self.shoppers.join_all().await {
            assert!(
                ordered > 0 && cancelled > 0,
                "somebody only waited: {ordered} orders, {cancelled} cancelled"
            );
        }
    }
}

/// A shop with so much of everything that nothing is sold out, whose gate only a test makes wrong: on a busy machine Redis may
/// answer late, and orders then go by MySQL alone.
fn plenty() -> ShopPlan {
    ShopPlan::new().stock(1_000_000).setting("FARMGATE_REDIS__RESPONSE_TIMEOUT_MS", 20_000).worker()
}

/// Its gate was built, and nobody keeps it.
async fn without_worker() -> (Shop, i64, i64) {
    let mut shop = plenty().start().await;
    shop.worker().kill();
    let (_, sku, _) = shop.first_product().await;
    let level = shop.gate(sku).await.unwrap();
    (shop, sku, level)
}

/// The lines below the gate's, and whether it is said to be right.
fn gate_of(report: &str) -> (bool, Vec<&str>) {
    let mut lines = report.lines().skip_while(|line| !line.starts_with("I4"));
    let is_right = lines.next().unwrap().contains("  holds  ");
    (is_right, lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect())
}

#[tokio::test]
async fn a_shop_that_sells_has_clean_books_and_keeps_its_gate() {
    let mut shop = plenty().start().await;
    let epoch = shop.gate_epoch().await;
    let apis = [shop.api.clone(), shop.replica().await];
    let bustle = Bustle::begin(&shop, &apis).await;
    for run in 0..12 {
        let arguments: &[&str] = if run % 2 == 0 { &[] } else { &["--repair"] };
        let report = becomes_clean(&shop, arguments).await;
        // All rules see the books at one moment.
        let words = report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let orders = words.filter(|words| words.get(2) == Some(&"orders"));
        let counts: HashSet<String> = orders.map(|words| words[1].to_owned()).collect();
        assert_eq!(counts.len(), 1, "run {run}:\n{report}");
    }
    bustle.end().await;
    assert_eq!(shop.gate_epoch().await, epoch, "a gate that was right was thrown away");
    converges(&shop).await;
}

#[tokio::test]
async fn a_wrong_level_is_found_and_moved_while_the_shop_sells() {
    let (mut shop, sku, _) = without_worker().await;
    let epoch = shop.gate_epoch().await;
    let bustle = Bustle::begin(&shop, std::slice::from_ref(&shop.api)).await;
    for wrong in ["1000", "-1000"] {
        shop.redis_command(&["INCRBY", &format!(":stock:{sku}"), wrong]).await;
        // What is being given back moves about it: a look in which nothing stays is no look.
        eventually(LONG, "it is found", async || {
            let (is_clean, report) = shop.reconcile(&[]).await;
            assert!(!is_clean, "{report}");
            let (is_right, said) = gate_of(&report);
            (!is_right && said.get(1)?.starts_with(&format!("SKU {sku}: the gate "))).then_some(())
        })
        .await;
        eventually(LONG, "it is mended", async || {
            let (is_clean, report) = shop.reconcile(&["--repair"]).await;
            let is_mended = report.contains(&format!("mended: SKU {sku}: the gate shows "));
            assert!(is_mended || !is_clean, "{report}");
            is_mended.then_some(())
        })
        .await;
        becomes_clean(&shop, &["--repair"]).await;
    }
    // The worker does the same by itself.
    shop.start_worker().await;
    shop.redis_command(&["INCRBY", &format!(":stock:{sku}"), "1000"]).await;
    shop.worker().logs("levels of the stock gate differed differed=1 mended=1", 1).await;
    becomes_clean(&shop, &[]).await;
    bustle.end().await;
    assert_eq!(shop.gate_epoch().await, epoch, "levels are moved; the gate stays");
    converges(&shop).await;
}

/// How the gate's levels are moved.
const ADJUST: &str = include_str!("../../origin/src/stock/adjust.lua");

#[tokio::test]
async fn two_who_saw_one_difference_move_it_once() {
    let (shop, sku, level) = without_worker().await;
    let (key, epoch) = (format!(":stock:{sku}"), shop.gate_epoch().await.unwrap());
    let adjust = async |epoch: i64, mends: i64, change: i64| {
        let (epoch, mends, change) = (epoch.to_string(), mends.to_string(), change.to_string());
        let call = ["EVAL", ADJUST, "3", ":gate-epoch", ":gate-mends", &key, &epoch, &mends, "by", &change];
        shop.redis_command(&call).await;
        shop.gate(sku).await.unwrap() - level
    };
    // Both looked before either moved anything.
    assert_eq!(adjust(epoch, 0, 7).await, 7);
    assert_eq!(adjust(epoch, 0, 7).await, 7, "a second time");
    // What was seen of another generation, or moves nothing, is no mending.
    assert_eq!(adjust(epoch - 1, 1, 7).await, 7);
    assert_eq!(adjust(epoch, 1, 0).await, 7);
    assert_eq!(adjust(epoch, 1, -7).await, 0);
    assert_eq!(adjust(epoch, 2, -2_000_000).await, -level, "never below 0");
}

#[tokio::test]
async fn two_who_mend_one_level_move_it_once() {
    let (shop, sku, level) = without_worker().await;
    for wrong in [level + 7, level - 7] {
        shop.redis_command(&["SET", &format!(":stock:{sku}"), &wrong.to_string()]).await;
        let (one, other) = tokio::join!(shop.reconcile(&["--repair"]), shop.reconcile(&["--repair"]));
        for (is_clean, report) in [&one, &other] {
            assert!(is_clean, "{report}");
        }
        assert_eq!(shop.gate(sku).await, Some(level), "{}{}", one.1, other.1);
    }
}

#[tokio::test]
async fn a_level_that_is_none_is_made_anew_and_a_hold_stays() {
    let (shop, sku, level) = without_worker().await;
    let epoch = shop.gate_epoch().await;
    shop.redis_command(&["DECRBY", &format!(":stock:{sku}"), "3"]).await;
    shop.write_hold("2026010100000000000003", sku, 3, unix_now() * 1000).await;
    let key = format!(":stock:{sku}");
    for spoil in [vec!["DEL", &key], vec!["SET", &key, "plenty"], vec!["SET", &key, "1e3"]] {
        shop.redis_command(&spoil).await;
        let (is_clean, report) = shop.reconcile(&[]).await;
        let (is_right, said) = gate_of(&report);
        assert!(!is_clean && !is_right, "{report}");
        assert_eq!(said, ["1 breach:", &format!("SKU {sku}: not in the gate")]);
        let (is_clean, report) = shop.reconcile(&["--repair"]).await;
        assert!(is_clean, "{report}");
        assert_eq!(gate_of(&report).1, [format!("mended: SKU {sku}: not in the gate")]);
        assert_eq!(shop.gate(sku).await, Some(level - 3), "{spoil:?}");
    }
    // A list, where MySQL's level and a text are no longer compared.
    shop.redis_command(&["DEL", &key]).await;
    shop.redis_command(&["RPUSH", &key, "5"]).await;
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    assert_eq!(shop.gate(sku).await, Some(level - 3));
    assert_eq!((shop.gate_epoch().await, shop.holds().await.len()), (epoch, 1), "the gate stays");

    // A gate that is lost has no level to move.
    shop.redis_command(&["DEL", ":gate-epoch"]).await;
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    assert_eq!(gate_of(&report).1, ["mended: the gate is empty or of another generation"]);
    assert_eq!(shop.gate_epoch().await, epoch.map(|epoch| epoch + 1));
    assert_eq!((shop.gate(sku).await, shop.holds().await.len()), (Some(level), 0));
}

#[tokio::test]
async fn a_long_list_of_wrong_levels_is_cut_and_counted() {
    let (shop, sku, level) = without_worker().await;
    let all = shop.count("SELECT COUNT(*) FROM stock").await;
    assert!(all > 25, "the demo shop has {all} SKUs");
    shop.redis_command(&[
        "EVAL",
        "for i = ARGV[1], ARGV[1] + 24 do redis.call('INCR', KEYS[1] .. i) end",
        "1",
        ":stock:",
        &sku.to_string(),
    ])
    .await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    let (is_right, said) = gate_of(&report);
    assert!(!is_clean && !is_right, "{report}");
    assert_eq!((said.len(), said[0], said[21]), (22, "25 breaches:", "and 5 more"), "{report}");
    assert!(said[1..21].iter().all(|line| line.ends_with("the gate shows 1 too much")), "{report}");
    assert!(report.ends_with("error: of 18 promises: 1 broken\n"), "{report}");
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    assert_eq!(shop.gate(sku).await, Some(level));
}

#[tokio::test]
async fn without_redis_the_books_are_audited_and_the_gate_is_called_unknown() {
    let mut redis = Redis::start().await;
    let shop = plenty().on_redis(&redis).start().await;
    let (product, sku, _) = shop.first_product().await;
    shop.shopper("小王").await.order(product, 2).await;
    redis.kill();
    for arguments in [&[][..], &["--repair"]] {
        let (is_clean, report) = shop.reconcile(arguments).await;
        assert!(!is_clean, "{report}");
        let promises: Vec<&str> = report.lines().filter(|line| line.starts_with('I')).collect();
        assert_eq!(promises.len(), 18, "{report}");
        for line in &promises {
            assert_eq!(line.contains("  UNKNOWN  "), line.starts_with("I4"), "{report}");
            assert_eq!(line.contains("  holds  "), !line.starts_with("I4"), "{report}");
        }
        let (_, said) = gate_of(&report);
        assert!(said[0].starts_with("cannot be looked at: "), "{report}");
        assert!(said[0].contains("Connection refused"), "{report}");
        assert!(report.ends_with("error: of 18 promises: 1 not looked at\n"), "{report}");
    }
    // What is wrong with the books is told all the same.
    shop.change("UPDATE stock SET held = held + 1, available = available - 1 WHERE sku_id = ", sku).await;
    let (_, report) = shop.reconcile(&[]).await;
    shop.change("UPDATE stock SET held = held - 1, available = available + 1 WHERE sku_id = ", sku).await;
    assert!(report.contains(&format!("      1 breach:\n      SKU {sku}\n")), "{report}");
    assert!(report.ends_with("error: of 18 promises: 2 broken, 1 not looked at\n"), "{report}");
}

#[tokio::test]
async fn a_redis_that_hangs_leaves_the_gate_unknown() {
    let shop = ShopPlan::new().worker().redis_cable().start().await;
    shop.redis_cable().deafen();
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    shop.redis_cable().pull();
    shop.redis_cable().plug();
    assert!(!is_clean && gate_of(&report).1[0].starts_with("cannot be looked at: "), "{report}");
    assert_eq!(report.matches("  holds  ").count(), 17, "{report}");
}

#[tokio::test]
async fn a_rule_that_cannot_be_asked_hides_no_other() {
    let shop = plenty().start().await;
    shop.script("RENAME TABLE order_tombstones TO somewhere_else").await;
    let (is_clean, report) = shop.reconcile(&[]).await;
    shop.script("RENAME TABLE somewhere_else TO order_tombstones").await;
    assert!(!is_clean && report.matches("  holds  ").count() == 17, "{report}");
    let of_rule = report.lines().skip_while(|line| !line.contains("  UNKNOWN  no order came alive"));
    let why = of_rule.map(str::trim).nth(1).unwrap();
    assert!(why.starts_with("cannot be looked at: ") && why.contains("order_tombstones"), "{report}");
}
