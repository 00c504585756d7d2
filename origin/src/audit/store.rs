//! SQL of the audit: one query an invariant, each naming the rows that break it.

use sqlx::MySqlPool;

/// An invariant and the query that finds what breaks it, at most [`MOST`] rows.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    pub promise: &'static str,
    counted: &'static str,
    breaches: &'static str,
}

/// Rows named for one broken rule.
const MOST: u32 = 20;

/// In the order of DESIGN 6. I4 is about Redis and stands in the service.
pub const RULES: [Rule; 8] = [
    Rule {
        name: "I1",
        promise: "available + held + sold = total, none negative",
        counted: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT sku_id FROM stock \
                   WHERE available + held + sold <> total OR available < 0 OR held < 0 OR sold < 0",
    },
    Rule {
        name: "I2",
        promise: "held is what orders awaiting payment hold",
        counted: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT s.sku_id FROM stock s LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity \
                   FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.status = 0 GROUP BY i.sku_id) h \
                   ON h.sku_id = s.sku_id WHERE s.held <> COALESCE(h.quantity, 0)",
    },
    Rule {
        name: "I2",
        promise: "sold is what paid orders bought",
        counted: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT s.sku_id FROM stock s LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity \
                   FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.status IN (1, 2, 3, 5) \
                   GROUP BY i.sku_id) p ON p.sku_id = s.sku_id WHERE s.sold <> COALESCE(p.quantity, 0)",
    },
    Rule {
        name: "I2",
        promise: "the movements add up to each column",
        counted: "SELECT COUNT(*) FROM stock_movements",
        breaches: "SELECT s.sku_id FROM stock s LEFT JOIN (SELECT sku_id, SUM(available_change) AS available, \
                   SUM(held_change) AS held, SUM(sold_change) AS sold FROM stock_movements GROUP BY sku_id) m \
                   ON m.sku_id = s.sku_id WHERE s.available <> COALESCE(m.available, 0) \
                   OR s.held <> COALESCE(m.held, 0) OR s.sold <> COALESCE(m.sold, 0)",
    },
    Rule {
        name: "I3",
        promise: "each order left its states once, and its movements say the same",
        counted: "SELECT COUNT(*) FROM orders",
        breaches: "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, sku_id, SUM(reason = 'held') AS held, \
                   SUM(reason = 'sold') AS sold, SUM(reason = 'released') AS released FROM stock_movements \
                   WHERE order_id IS NOT NULL GROUP BY order_id, sku_id) m ON m.order_id = o.id \
                   WHERE COALESCE(m.held, 0) <> 1 OR m.sold <> (o.status IN (1, 2, 3, 5, 6)) \
                   OR m.released <> (o.status = 4) GROUP BY o.id",
    },
    Rule {
        name: "I3",
        promise: "an order is paid when its payment is, and not otherwise",
        counted: "SELECT COUNT(*) FROM payments",
        // A cancelled order beside a payment is one that came too late, and waits for its refund.
        breaches: "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id \
                   WHERE (o.status IN (1, 2, 3) AND COALESCE(p.status, 0) <> 1) OR (o.status = 0 AND p.status = 1)",
    },
    Rule {
        name: "I5",
        promise: "every order that a client was told of is there",
        counted: "SELECT COUNT(*) FROM idempotency_keys",
        breaches: "SELECT k.user_id FROM idempotency_keys k LEFT JOIN orders o \
                   ON o.id = CAST(JSON_EXTRACT(k.reply, '$.order_id') AS UNSIGNED) AND o.user_id = k.user_id \
                   WHERE JSON_EXTRACT(k.reply, '$.order_id') IS NOT NULL AND o.id IS NULL",
    },
    Rule {
        name: "I5",
        promise: "no order came alive after its hold was given back",
        counted: "SELECT COUNT(*) FROM order_tombstones",
        breaches: "SELECT o.id FROM orders o JOIN order_tombstones t ON t.order_no = o.order_no",
    },
];

/// How many rows a rule looked at.
pub async fn counted(pool: &MySqlPool, rule: &Rule) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(rule.counted).fetch_one(pool).await
}

/// The ids of rows that break a rule.
pub async fn breaches(pool: &MySqlPool, rule: &Rule) -> Result<Vec<i64>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(rule.breaches);
    query.push(" LIMIT ").push_bind(MOST);
    query.build_query_scalar().fetch_all(pool).await
}
