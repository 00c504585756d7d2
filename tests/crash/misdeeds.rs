//! What can be wrong with the books: each misdeed with exactly the promises of `reconcile` that it breaks, and the row that each
//! of them names.

use farmgate_tests::{LONG, Shop, ShopPlan, Value, eventually, json, number};

use crate::rush::converges;

pub const ADDS_UP: &str = "available + held + sold = total, none negative";
pub const COUPONS: &str = "as many of a coupon are with shoppers as were counted, never more than issued";
pub const HELD: &str = "held is what orders awaiting payment hold";
pub const SOLD: &str = "sold is what paid orders bought, but for what was returned";
pub const MOVEMENTS: &str = "the movements add up to each column";
pub const PROMISED_BACK: &str =
    "what of a payment is promised back is its refunds', never more than was paid";
pub const DISCOUNT: &str = "an order's discount is its coupon's and its lines'";
pub const SPENT_COUPON: &str = "a spent coupon belongs to a live order of its shopper";
pub const LEFT_ONCE: &str = "each order left its states once, and its movements say the same";
pub const PAID: &str = "an order is paid when its payment is, and not otherwise";
pub const REFUNDED: &str =
    "an order is refunded when all of its money was paid back, refunding while all is promised, else neither";
pub const LATE: &str =
    "money that came for a cancelled order is promised back, but for events still in delivery";
pub const EVENTS: &str = "each change of state has its one event, for orders of the last 29 days";
pub const SHIPMENTS: &str =
    "each order that went out has its shipment and its event, for orders of the last 29 days";
pub const SALES: &str = "each sale was counted once, but for those still in delivery";
pub const GATE: &str = "the stock gate shows what MySQL has";
pub const TOLD: &str = "every order that a client was told of is there";
pub const BURIED: &str = "no order came alive after its hold was given back";

/// A change of the books, how it is undone, and each promise that it breaks with the row that is named.
#[derive(Debug)]
pub struct Misdeed {
    pub does: String,
    pub undo: String,
    pub breaks: Vec<(&'static str, String)>,
}

/// The ids of a shop in which everything happened once and nobody is at work.
#[derive(Debug)]
pub struct Stage {
    product: i64,
    sku: i64,
    user: i64,
    other_user: i64,
    claimed: i64,
    awaiting: i64,
    couponed: i64,
    paid: i64,
    cancelled: i64,
    late: i64,
    whole: i64,
    part: i64,
    done: i64,
    available: i32,
    held: i32,
    sold: i32,
    total: i32,
}

fn id(order: &Value) -> i64 {
    order["order_id"].as_i64().unwrap()
}

impl Stage {
    /// Orders of every kind, whose effects are all there; then the worker ends. What MySQL itself would refuse is allowed
    /// from now on.
    pub async fn set() -> (Shop, Stage) {
        let mut shop = ShopPlan::new().hasty_refunds().worker().start().await;
        let (product, sku, _) = shop.first_product().await;
        let shopper = shop.shopper("小王").await;
        let other_user = shop.shopper("小李").await.id;
        let post = async |path: String, body: Value| shopper.api.post(&path, &body).await.data();
        let awaiting = shopper.order(product, 2).await;
        shopper.prepay(&awaiting).await;
        let coupon = post("/api/coupons/1/claim".to_owned(), json!({})).await;
        let body = json!({
            "product_id": product, "quantity": 3, "address_id": shopper.address().await, "coupon_id": coupon["id"],
        });
        let couponed = post("/api/orders".to_owned(), body).await;
        let paid = shopper.buy(&shop.wechat, product, 4).await;
        let cancelled = shopper.order(product, 5).await;
        post(format!("/api/orders/{}/cancel", id(&cancelled)), json!({})).await;
        let late = shopper.order(product, 1).await;
        shopper.prepay(&late).await;
        post(format!("/api/orders/{}/cancel", id(&late)), json!({})).await;
        shop.wechat.pay_late(number(&late)).await;
        let whole = shopper.buy(&shop.wechat, product, 6).await;
        shop.refund_all(&whole).await;
        let part = shopper.buy(&shop.wechat, product, 7).await;
        let arguments = ["refund", "start", number(&part), "--amount", "1", "--reason", "坏果"];
        let (is_done, said) = shop.command(&arguments).await;
        assert!(is_done, "{said}");
        for order in [&whole, &part, &late] {
            shop.refunds_become(order, &[2]).await;
        }
        let done = shopper.buy(&shop.wechat, product, 8).await;
        shop.ship(&done, &["--pick-up"]).await;
        post(format!("/api/orders/{}/confirm", id(&done)), json!({})).await;
        shop.all_is_uploaded().await;
        eventually(LONG, "every event is delivered", async || {
            let open = "SELECT (SELECT COUNT(*) FROM outbox_deliveries) + \
                        (SELECT COUNT(*) FROM outbox WHERE published_at IS NULL)";
            (shop.count(open).await == 0).then_some(())
        })
        .await;
        converges(&shop).await;
        shop.worker().kill();
        shop.script(
            "ALTER TABLE stock DROP CONSTRAINT stock_adds_up, DROP CONSTRAINT stock_never_negative; \
             ALTER TABLE coupons DROP CONSTRAINT coupons_given_out; \
             ALTER TABLE payments DROP CONSTRAINT payments_refunded",
        )
        .await;
        let stock = shop.stock(sku).await;
        let stage = Stage {
            product,
            sku,
            user: shopper.id,
            other_user,
            claimed: coupon["id"].as_i64().unwrap(),
            awaiting: id(&awaiting),
            couponed: id(&couponed),
            paid: id(&paid),
            cancelled: id(&cancelled),
            late: id(&late),
            whole: id(&whole),
            part: id(&part),
            done: id(&done),
            available: stock.available,
            held: stock.held,
            sold: stock.sold,
            total: stock.total,
        };
        (shop, stage)
    }

    /// A level of the gate, as [`Shop::redis_command`] writes it.
    pub fn gate_key(&self) -> String {
        format!(":stock:{}", self.sku)
    }

    fn sku(&self) -> String {
        format!("SKU {}", self.sku)
    }

    /// What is said of that level.
    pub fn gate_is_off(&self, by: &str) -> (&'static str, String) {
        (GATE, format!("SKU {}: the gate shows {by}", self.sku))
    }

    pub fn misdeeds(&self) -> Vec<Misdeed> {
        let mut all = self.with_stock();
        all.extend(self.with_money());
        all.extend(self.with_states());
        all.extend(self.with_events());
        all
    }

    fn with_stock(&self) -> Vec<Misdeed> {
        let Stage { sku, product, awaiting, paid, available, held, sold, total, .. } = self;
        let columns = |set: &str| format!("UPDATE stock SET {set} WHERE sku_id = {sku}");
        let undo =
            columns(&format!("total = {total}, available = {available}, held = {held}, sold = {sold}"));
        let stock = |set: &str, breaks| Misdeed { does: columns(set), undo: undo.clone(), breaks };
        let broken =
            |promises: &[&'static str]| promises.iter().map(|p| (*p, self.sku())).collect::<Vec<_>>();
        let and = |mut breaks: Vec<_>, more| {
            breaks.push(more);
            breaks
        };
        let items = |order: &i64, more: i64| {
            format!("UPDATE order_items SET quantity = quantity + {more} WHERE order_id = {order}")
        };
        let counted = |more: i64| {
            format!("UPDATE product_sales SET units = units + {more} WHERE product_id = {product}")
        };
        let moved = |more: i64| {
            format!(
                "UPDATE stock_movements SET available_change = available_change + {more} WHERE order_id = {awaiting}"
            )
        };
        vec![
            stock("total = total + 1", broken(&[ADDS_UP])),
            stock("total = total - available - 1, available = -1", {
                and(broken(&[ADDS_UP, MOVEMENTS]), self.gate_is_off(&format!("{available} too much")))
            }),
            stock("total = total - held - 1, held = -1", broken(&[ADDS_UP, HELD, MOVEMENTS])),
            stock("total = total - sold - 1, sold = -1", broken(&[ADDS_UP, SOLD, MOVEMENTS])),
            stock("held = held + 1, available = available - 1", {
                and(broken(&[HELD, MOVEMENTS]), self.gate_is_off("1 too much"))
            }),
            stock("sold = sold + 1, available = available - 1", {
                and(broken(&[SOLD, MOVEMENTS]), self.gate_is_off("1 too much"))
            }),
            stock("held = held - 1, sold = sold + 1", broken(&[HELD, SOLD, MOVEMENTS])),
            Misdeed { does: items(awaiting, 1), undo: items(awaiting, -1), breaks: broken(&[HELD]) },
            Misdeed {
                does: format!("{}; {}", items(paid, 1), counted(1)),
                undo: format!("{}; {}", items(paid, -1), counted(-1)),
                breaks: broken(&[SOLD]),
            },
            Misdeed { does: moved(1), undo: moved(-1), breaks: broken(&[MOVEMENTS]) },
        ]
    }

    fn with_money(&self) -> Vec<Misdeed> {
        let Stage {
            couponed, cancelled, awaiting, paid, late, whole, part, claimed, user, other_user, ..
        } = self;
        let order = |promise, id: &i64| (promise, format!("order {id}"));
        let payment = |set: &str, id: &i64| format!("UPDATE payments SET {set} WHERE order_id = {id}");
        let refund =
            |status: i8, id: &i64| format!("UPDATE refunds SET status = {status} WHERE order_id = {id}");
        let coupon = |set: &str| format!("UPDATE user_coupons SET {set} WHERE id = {claimed}");
        let issued = |more: &str| format!("UPDATE coupons SET {more} WHERE id = 1");
        let share = |more: i64| {
            format!("UPDATE order_items SET discount_fen = discount_fen + {more} WHERE order_id = {couponed}")
        };
        let misdeed = |does, undo, breaks| Misdeed { does, undo, breaks };
        let spent = || format!("used_at = claimed_at, order_id = {couponed}");
        let coupon_is_wrong = || (COUPONS, "coupon 1".to_owned());
        let claim_is_wrong = || (SPENT_COUPON, format!("claimed coupon {claimed}"));
        vec![
            misdeed(
                issued("claimed = claimed + 1"),
                issued("claimed = claimed - 1"),
                vec![coupon_is_wrong()],
            ),
            misdeed(
                issued("issued = issued - 10000"),
                issued("issued = issued + 10000"),
                vec![coupon_is_wrong()],
            ),
            misdeed(share(1), share(-1), vec![order(DISCOUNT, couponed)]),
            misdeed(
                coupon("order_id = NULL, used_at = NULL"),
                coupon(&spent()),
                vec![order(DISCOUNT, couponed)],
            ),
            misdeed(coupon(&format!("user_id = {other_user}")), coupon(&format!("user_id = {user}")), {
                vec![claim_is_wrong()]
            }),
            misdeed(coupon(&format!("order_id = {cancelled}")), coupon(&spent()), {
                vec![order(DISCOUNT, couponed), claim_is_wrong()]
            }),
            misdeed(
                payment("refunded_fen = refunded_fen - 1", part),
                payment("refunded_fen = refunded_fen + 1", part),
                vec![order(PROMISED_BACK, part)],
            ),
            misdeed(
                payment("amount_fen = amount_fen - 1000000", part),
                payment("amount_fen = amount_fen + 1000000", part),
                vec![order(PROMISED_BACK, part)],
            ),
            misdeed(payment("status = 2", part), payment("status = 1", part), {
                vec![order(PROMISED_BACK, part), order(PAID, part)]
            }),
            misdeed(payment("status = 0", paid), payment("status = 1", paid), vec![order(PAID, paid)]),
            misdeed(
                payment("status = 1", awaiting),
                payment("status = 0", awaiting),
                vec![order(PAID, awaiting)],
            ),
            misdeed(
                payment("amount_fen = amount_fen + 1", whole),
                payment("amount_fen = amount_fen - 1", whole),
                vec![order(REFUNDED, whole)],
            ),
            misdeed(refund(1, whole), refund(2, whole), vec![order(REFUNDED, whole), order(EVENTS, whole)]),
            misdeed(
                payment("amount_fen = amount_fen + 1", late),
                payment("amount_fen = amount_fen - 1", late),
                vec![order(LATE, late)],
            ),
            misdeed(refund(3, late), refund(2, late), vec![order(PROMISED_BACK, late), order(EVENTS, late)]),
            misdeed(payment("refunded_fen = 0", late), payment("refunded_fen = amount_fen", late), {
                vec![order(PROMISED_BACK, late), order(LATE, late)]
            }),
        ]
    }

    fn with_states(&self) -> Vec<Misdeed> {
        let Stage { awaiting, paid, cancelled, whole, part, sku, product, done, .. } = self;
        let order = |promise, id: &i64| (promise, format!("order {id}"));
        let status = |number: i8, id: &i64| format!("UPDATE orders SET status = {number} WHERE id = {id}");
        let renamed = |from: &str, to: &str, id: &i64| {
            format!("UPDATE stock_movements SET reason = '{to}' WHERE reason = '{from}' AND order_id = {id}")
        };
        let renaming = |from: &str, to: &str, id: &i64, breaks| Misdeed {
            does: renamed(from, to, id),
            undo: renamed(to, from, id),
            breaks,
        };
        let shipped = |at: &str, id: &i64| format!("UPDATE orders SET shipped_at = {at} WHERE id = {id}");
        let round = |round: i8| format!("UPDATE shipments SET round = {round} WHERE order_id = {done}");
        let misdeed = |does, undo, breaks| Misdeed { does, undo, breaks };
        let sold = || (SOLD, format!("SKU {sku}"));
        let counted = || (SALES, format!("product {product}"));
        vec![
            renaming("held", "released", awaiting, vec![order(LEFT_ONCE, awaiting)]),
            renaming("sold", "gone", paid, vec![order(LEFT_ONCE, paid)]),
            renaming("released", "gone", cancelled, vec![order(LEFT_ONCE, cancelled)]),
            renaming("returned", "gone", whole, vec![sold(), order(LEFT_ONCE, whole)]),
            misdeed(status(1, awaiting), status(0, awaiting), {
                let of_order = [LEFT_ONCE, PAID, EVENTS].map(|promise| order(promise, awaiting));
                [vec![(HELD, format!("SKU {sku}")), sold(), counted()], of_order.to_vec()].concat()
            }),
            misdeed(status(5, whole), status(6, whole), {
                [LEFT_ONCE, REFUNDED, EVENTS].map(|promise| order(promise, whole)).to_vec()
            }),
            misdeed(status(5, part), status(1, part), vec![order(REFUNDED, part)]),
            misdeed(status(2, paid), status(1, paid), vec![order(SHIPMENTS, paid)]),
            misdeed(shipped("UTC_TIMESTAMP(3)", awaiting), shipped("NULL", awaiting), {
                vec![order(SHIPMENTS, awaiting)]
            }),
            misdeed(round(2), round(1), vec![order(SHIPMENTS, done)]),
        ]
    }

    fn with_events(&self) -> Vec<Misdeed> {
        let Stage { awaiting, paid, cancelled, late, whole, part, done, product, user, .. } = self;
        let order = |promise, id: &i64| vec![(promise, format!("order {id}"))];
        let renamed = |from: &str, to: &str, id: &i64| {
            format!("UPDATE outbox SET kind = '{to}' WHERE kind = '{from}' AND order_id = {id}")
        };
        let lost = |kind: &str, id: &i64, promise| Misdeed {
            does: renamed(kind, "eaten", id),
            undo: renamed("eaten", kind, id),
            breaks: order(promise, id),
        };
        let doubled = |kind: &str, id: &i64, promise| Misdeed {
            does: format!(
                "INSERT INTO outbox (kind, order_id, created_at, published_at) VALUES ('{kind}', {id}, '2020-01-01', UTC_TIMESTAMP(3))"
            ),
            undo: "DELETE FROM outbox WHERE created_at < '2021-01-01'".to_owned(),
            breaks: order(promise, id),
        };
        let stuck = |status: i8| format!("UPDATE refunds SET status = {status} WHERE order_id = {part}");
        let completed = |at: &str| format!("UPDATE orders SET completed_at = {at} WHERE id = {done}");
        let sales = |column: &str, more: i64| {
            format!("UPDATE product_sales SET {column} = {column} + {more} WHERE product_id = {product}")
        };
        let counting = |column: &str| Misdeed {
            does: sales(column, 1),
            undo: sales(column, -1),
            breaks: vec![(SALES, format!("product {product}"))],
        };
        let told = |of: &str, now: &str| {
            format!(
                "UPDATE idempotency_keys SET reply = JSON_SET(reply, '$.order_id', {now}) \
                 WHERE JSON_EXTRACT(reply, '$.order_id') = {of}"
            )
        };
        let shop = [
            ("order_placed", awaiting),
            ("order_paid", paid),
            ("order_cancelled", cancelled),
            ("order_completed", done),
            ("paid_too_late", late),
            ("refund_started", part),
            ("refund_paid", part),
            ("order_refunded", whole),
        ];
        let mut misdeeds: Vec<Misdeed> = shop.map(|(kind, id)| lost(kind, id, EVENTS)).into();
        misdeeds.extend(shop.map(|(kind, id)| doubled(kind, id, EVENTS)));
        misdeeds.extend([
            doubled("order_paid", awaiting, EVENTS),
            doubled("refund_closed", part, EVENTS),
            lost("order_shipped", done, SHIPMENTS),
            doubled("order_shipped", done, SHIPMENTS),
            doubled("order_reshipped", done, SHIPMENTS),
            Misdeed {
                does: format!("{}; {}", stuck(4), renamed("refund_paid", "eaten", part)),
                undo: format!("{}; {}", stuck(2), renamed("eaten", "refund_paid", part)),
                breaks: order(EVENTS, part),
            },
            Misdeed { does: completed("NULL"), undo: completed("shipped_at"), breaks: order(EVENTS, done) },
            counting("units"),
            counting("orders"),
            Misdeed {
                does: told(&awaiting.to_string(), "999999"),
                undo: told("999999", &awaiting.to_string()),
                breaks: vec![(TOLD, format!("user {user}"))],
            },
            Misdeed {
                does: format!(
                    "INSERT INTO order_tombstones (order_no) SELECT order_no FROM orders WHERE id = {paid}"
                ),
                undo: "DELETE FROM order_tombstones".to_owned(),
                breaks: order(BURIED, paid),
            },
        ]);
        misdeeds
    }
}
