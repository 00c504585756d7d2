//! `take.lua` and `release.lua` themselves: what one call answers to many orders.

use farmgate_tests::Shop;
use redis::Script;

const TAKE: &str = include_str!("../../origin/src/stock/take.lua");
const RELEASE: &str = include_str!("../../origin/src/stock/release.lua");
/// So long that no period ends during a test.
const MARKER_LIFE_MS: i64 = 1_000_000_000;
const EPOCH: i64 = 1;

/// Number, request, whether an equal request was looked for, and lines: place of the SKU and quantity.
type Asked<'a> = (&'a str, &'a str, bool, &'a [(usize, i64)]);

/// A gate of its own, beside the shop's.
struct Gate {
    redis: redis::aio::MultiplexedConnection,
    prefix: String,
}

impl Gate {
    async fn with_stock(shop: &Shop, levels: &[(&str, &str)]) -> Gate {
        let prefix = format!("{}:own:", shop.redis_prefix());
        let mut gate = Gate { redis: shop.redis().await, prefix };
        gate.set("epoch", &EPOCH.to_string()).await;
        for (sku, level) in levels {
            gate.set(sku, level).await;
        }
        gate
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn set(&mut self, name: &str, value: &str) {
        let set = redis::cmd("SET").arg(self.key(name)).arg(value).exec_async(&mut self.redis).await;
        set.expect("Redis answers");
    }

    async fn get(&mut self, name: &str) -> Option<String> {
        redis::cmd("GET").arg(self.key(name)).query_async(&mut self.redis).await.expect("Redis answers")
    }

    async fn holds(&mut self) -> Vec<String> {
        let key = self.key("held");
        redis::cmd("HKEYS").arg(key).query_async(&mut self.redis).await.expect("Redis answers")
    }

    /// What the script answers to each of some orders for these SKUs.
    async fn take(&mut self, epoch: i64, skus: &[&str], orders: &[Asked<'_>]) -> Vec<[i64; 3]> {
        let script = Script::new(TAKE);
        let mut call = script.key(self.key("epoch"));
        call.key(self.key("held")).key(self.key("twins:"));
        call.arg(epoch).arg(MARKER_LIFE_MS).arg(2000);
        for sku in skus {
            call.key(self.key(sku));
        }
        for (number, request, has_looked, lines) in orders {
            call.arg(*number).arg(*request).arg(u8::from(*has_looked)).arg(lines.len());
            for (place, quantity) in *lines {
                call.arg(*place).arg(*quantity);
            }
        }
        let answers: Vec<i64> = call.invoke_async(&mut self.redis).await.expect("the script runs");
        answers.chunks(3).map(|answer| answer.try_into().expect("three numbers an order")).collect()
    }

    async fn release(&mut self, number: &str, request: Option<&str>) -> i64 {
        let script = Script::new(RELEASE);
        let mut call = script.key(self.key("epoch"));
        call.key(self.key("held")).key(self.key("twins:"));
        call.arg(EPOCH).arg(number).arg(MARKER_LIFE_MS).arg(request);
        call.invoke_async(&mut self.redis).await.expect("the script runs")
    }

    /// The markers are now as those of the period before.
    async fn age_markers(&mut self) {
        let pattern = self.key("twins:*");
        let found: Vec<String> =
            redis::cmd("KEYS").arg(pattern).query_async(&mut self.redis).await.expect("Redis answers");
        for key in found {
            let (name, period) = key.rsplit_once(':').expect("a period ends the name");
            let before = period.parse::<i64>().expect("a period is a number") - 1;
            let renamed = redis::cmd("RENAME")
                .arg(&key)
                .arg(format!("{name}:{before}"))
                .exec_async(&mut self.redis)
                .await;
            renamed.expect("Redis answers");
        }
    }
}

const YES: [i64; 3] = [0, 0, 0];
const TWIN: [i64; 3] = [3, 0, 0];

#[tokio::test]
async fn each_order_of_a_call_is_decided_after_the_one_before() {
    let shop = Shop::start().await;
    let mut gate = Gate::with_stock(&shop, &[("a", "5"), ("b", "1"), ("odd", "5.5")]).await;
    let skus = ["a", "b", "odd", "unknown"];
    let answers = gate
        .take(
            EPOCH,
            &skus,
            &[
                ("n1", "1:k", false, &[(1, 2)]),
                ("n2", "2:k", false, &[(1, 2), (2, 1)]),
                ("n3", "3:k", false, &[(1, 1), (2, 1)]),
                ("n4", "4:k", false, &[(1, 2)]),
                ("n5", "1:k", false, &[(1, 1)]),
                ("n1", "1:k", false, &[(1, 2)]),
                ("n6", "6:k", false, &[(1, 1), (4, 1)]),
                ("n7", "7:k", false, &[(3, 1)]),
                ("n8", "8:k", false, &[(1, 1)]),
                ("n1", "9:k", false, &[(1, 1)]),
            ],
        )
        .await;
    let cannot_say = |line| [2, line, 0];
    let expected = [
        YES,
        YES,
        [1, 2, 0],
        [1, 1, 1],
        TWIN,
        YES,
        cannot_say(2),
        cannot_say(1),
        YES,
        // The number is another order's.
        cannot_say(1),
    ];
    assert_eq!(answers, expected);
    assert_eq!((gate.get("a").await, gate.get("b").await), (Some("0".into()), Some("0".into())));
    assert_eq!(gate.get("odd").await.as_deref(), Some("5.5"));
    let mut holds = gate.holds().await;
    holds.sort();
    assert_eq!(holds, ["n1", "n2", "n8"]);
    assert!(gate.take(EPOCH + 1, &skus, &[("n9", "9:k", false, &[(1, 1)])]).await.is_empty());
}

#[tokio::test]
async fn a_take_is_undone_once_and_by_nobody_else() {
    let shop = Shop::start().await;
    let mut gate = Gate::with_stock(&shop, &[("a", "5"), ("b", "5")]).await;
    let order: Asked = ("n1", "1:k", false, &[(1, 2), (2, 3)]);
    assert_eq!(gate.take(EPOCH, &["a", "b"], &[order]).await, [YES]);
    assert_eq!(gate.release("n1", Some("2:k")).await, 0, "another request of the same number");
    assert_eq!((gate.get("a").await, gate.get("b").await), (Some("3".into()), Some("2".into())));
    for expected in [1, 0] {
        assert_eq!(gate.release("n1", Some("1:k")).await, expected);
        assert_eq!((gate.get("a").await, gate.get("b").await), (Some("5".into()), Some("5".into())));
    }
    // Nothing is left of it: the request may come again under another number.
    assert_eq!(gate.take(EPOCH, &["a"], &[("n2", "1:k", false, &[(1, 1)])]).await, [YES]);
    // The sweeper knows no request.
    assert_eq!(gate.release("n2", None).await, 1);
    assert_eq!((gate.get("a").await, gate.holds().await.len()), (Some("5".into()), 0));
}

#[tokio::test]
async fn a_marker_is_found_in_the_period_after_its_own() {
    let shop = Shop::start().await;
    let mut gate = Gate::with_stock(&shop, &[("a", "5")]).await;
    assert_eq!(gate.take(EPOCH, &["a"], &[("n1", "1:k", false, &[(1, 1)])]).await, [YES]);
    gate.age_markers().await;
    let again: Asked = ("n2", "1:k", false, &[(1, 1)]);
    assert_eq!(gate.take(EPOCH, &["a"], &[again]).await, [TWIN]);
    // Undoing finds it there as well.
    assert_eq!(gate.release("n1", Some("1:k")).await, 1);
    assert_eq!(gate.take(EPOCH, &["a"], &[again]).await, [YES]);
}
