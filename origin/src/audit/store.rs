//! SQL of the audit: one query an invariant, each naming the rows that break it.

use sqlx::{Connection as _, Executor as _, MySqlConnection, MySqlPool, QueryBuilder};

/// An invariant and the query that finds what breaks it.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    pub promise: &'static str,
    /// What it looks at, in the plural.
    pub rows: &'static str,
    /// What the ids of its breaches are ids of.
    pub row: &'static str,
    looked_at: &'static str,
    /// Names them in the column `id`.
    breaches: &'static str,
}

/// Breaches named for one broken rule.
pub const MOST_NAMED: u32 = 20;

/// In the order of DESIGN 6. I4 is about Redis and stands in the service.
pub const RULES: [Rule; 17] = [
    Rule {
        name: "I1",
        promise: "available + held + sold = total, none negative",
        rows: "SKUs",
        row: "SKU",
        looked_at: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT sku_id AS id FROM stock \
                   WHERE available + held + sold <> total OR available < 0 OR held < 0 OR sold < 0",
    },
    Rule {
        name: "I1",
        promise: "as many of a coupon are with shoppers as were counted, never more than issued",
        rows: "coupons",
        row: "coupon",
        looked_at: "SELECT COUNT(*) FROM coupons",
        breaches: "SELECT k.id FROM coupons k LEFT JOIN (SELECT coupon_id, COUNT(*) AS held FROM user_coupons \
                   GROUP BY coupon_id) h ON h.coupon_id = k.id \
                   WHERE k.claimed <> COALESCE(h.held, 0) OR k.claimed > k.issued",
    },
    Rule {
        name: "I2",
        promise: "held is what orders awaiting payment hold",
        rows: "SKUs",
        row: "SKU",
        looked_at: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT s.sku_id AS id FROM stock s LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity \
                   FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.status = 0 GROUP BY i.sku_id) h \
                   ON h.sku_id = s.sku_id WHERE s.held <> COALESCE(h.quantity, 0)",
    },
    Rule {
        name: "I2",
        promise: "sold is what paid orders bought, but for what was returned",
        rows: "SKUs",
        row: "SKU",
        looked_at: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT s.sku_id AS id FROM stock s LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity \
                   FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.status IN (1, 2, 3, 5, 6) \
                   GROUP BY i.sku_id) p ON p.sku_id = s.sku_id LEFT JOIN (SELECT sku_id, SUM(sold_change) AS quantity \
                   FROM stock_movements WHERE reason = 'returned' GROUP BY sku_id) r ON r.sku_id = s.sku_id \
                   WHERE s.sold <> COALESCE(p.quantity, 0) + COALESCE(r.quantity, 0)",
    },
    Rule {
        name: "I2",
        promise: "the movements add up to each column",
        rows: "SKUs",
        row: "SKU",
        looked_at: "SELECT COUNT(*) FROM stock",
        breaches: "SELECT s.sku_id AS id FROM stock s LEFT JOIN (SELECT sku_id, SUM(available_change) AS available, \
                   SUM(held_change) AS held, SUM(sold_change) AS sold FROM stock_movements GROUP BY sku_id) m \
                   ON m.sku_id = s.sku_id WHERE s.available <> COALESCE(m.available, 0) \
                   OR s.held <> COALESCE(m.held, 0) OR s.sold <> COALESCE(m.sold, 0)",
    },
    Rule {
        name: "I2",
        promise: "what of a payment is promised back is its refunds', never more than was paid",
        rows: "payments",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM payments",
        breaches: "SELECT p.order_id AS id FROM payments p LEFT JOIN (SELECT order_id, SUM(amount_fen) AS live FROM refunds \
                   WHERE status <> 3 GROUP BY order_id) r ON r.order_id = p.order_id \
                   WHERE p.refunded_fen <> COALESCE(r.live, 0) OR p.refunded_fen > p.amount_fen \
                   OR (p.refunded_fen > 0 AND p.status <> 1)",
    },
    Rule {
        name: "I2",
        promise: "an order's discount is its coupon's and its lines'",
        rows: "orders",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM orders",
        // A cancelled order has given its coupon back.
        breaches: "SELECT o.id FROM orders o LEFT JOIN user_coupons c ON c.order_id = o.id \
                   LEFT JOIN (SELECT order_id, SUM(discount_fen) AS shares FROM order_items GROUP BY order_id) i \
                   ON i.order_id = o.id WHERE o.discount_amount * 100 <> COALESCE(i.shares, 0) \
                   OR (o.status <> 4 AND (o.discount_amount > 0) <> (c.id IS NOT NULL))",
    },
    Rule {
        name: "I3",
        promise: "a spent coupon belongs to a live order of its shopper",
        rows: "claimed coupons",
        row: "claimed coupon",
        looked_at: "SELECT COUNT(*) FROM user_coupons",
        breaches: "SELECT c.id FROM user_coupons c LEFT JOIN orders o ON o.id = c.order_id \
                   WHERE c.order_id IS NOT NULL AND (o.id IS NULL OR o.user_id <> c.user_id OR o.status = 4)",
    },
    Rule {
        name: "I3",
        promise: "each order left its states once, and its movements say the same",
        rows: "orders",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM orders",
        breaches: "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, sku_id, SUM(reason = 'held') AS held, \
                   SUM(reason = 'sold') AS sold, SUM(reason = 'released') AS released, SUM(reason = 'returned') AS returned \
                   FROM stock_movements WHERE order_id IS NOT NULL GROUP BY order_id, sku_id) m ON m.order_id = o.id \
                   LEFT JOIN (SELECT f.order_id, f.order_status FROM refunds f JOIN (SELECT MAX(id) AS id FROM refunds \
                   WHERE order_status IS NOT NULL GROUP BY order_id) w ON w.id = f.id) r ON r.order_id = o.id \
                   WHERE COALESCE(m.held, 0) <> 1 OR m.sold <> (o.status IN (1, 2, 3, 5, 6)) \
                   OR m.released <> (o.status = 4) \
                   OR m.returned <> (o.status = 6 AND COALESCE(r.order_status, 0) = 1) GROUP BY o.id",
    },
    Rule {
        name: "I3",
        promise: "an order is paid when its payment is, and not otherwise",
        rows: "orders",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM orders",
        // A cancelled order beside a payment is one that came too late; the rule of refunds looks at it.
        breaches: "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id \
                   WHERE (o.status IN (1, 2, 3, 5, 6) AND COALESCE(p.status, 0) <> 1) OR (o.status = 0 AND p.status = 1)",
    },
    Rule {
        name: "I3",
        promise: "an order is refunded when all of its money was paid back, refunding while all is promised, else neither",
        rows: "payments",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM payments",
        breaches: "SELECT o.id FROM orders o JOIN payments p ON p.order_id = o.id LEFT JOIN (SELECT order_id, \
                   SUM(amount_fen) AS paid FROM refunds WHERE status IN (2, 5) GROUP BY order_id) r \
                   ON r.order_id = o.id WHERE o.status <> 4 AND \
                   ((o.status IN (5, 6)) <> (p.refunded_fen > 0 AND p.refunded_fen = p.amount_fen) \
                   OR (o.status = 6) <> (COALESCE(r.paid, 0) = p.amount_fen))",
    },
    Rule {
        name: "I3",
        promise: "money that came for a cancelled order is promised back, but for events still in delivery",
        rows: "payments",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM payments",
        breaches: "SELECT o.id FROM orders o JOIN payments p ON p.order_id = o.id LEFT JOIN (SELECT e.order_id \
                   FROM outbox e LEFT JOIN outbox_deliveries d ON d.event_id = e.id AND d.consumer = 'late_refunds' \
                   WHERE e.kind = 'paid_too_late' AND (e.published_at IS NULL OR d.event_id IS NOT NULL)) w \
                   ON w.order_id = o.id WHERE o.status = 4 AND p.status = 1 AND p.refunded_fen < p.amount_fen \
                   AND w.order_id IS NULL",
    },
    Rule {
        name: "I3",
        promise: "each change of state has its one event, for orders of the last 29 days",
        // Events are kept for 30 days after they were handed out (`outbox/service.rs`), so each of these has all of its.
        rows: "orders",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM orders WHERE created_at > UTC_TIMESTAMP() - INTERVAL 29 DAY",
        breaches: "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id LEFT JOIN (SELECT order_id, \
                   SUM(kind = 'order_placed') AS placed, SUM(kind = 'order_paid') AS paid, \
                   SUM(kind = 'order_cancelled') AS cancelled, SUM(kind = 'order_completed') AS completed, \
                   SUM(kind = 'paid_too_late') AS too_late, SUM(kind = 'refund_started') AS started, \
                   SUM(kind = 'refund_paid') AS paid_back, SUM(kind = 'refund_closed') AS closed, \
                   SUM(kind = 'refund_stuck') AS stuck, SUM(kind = 'order_refunded') AS refunded \
                   FROM outbox GROUP BY order_id) e ON e.order_id = o.id \
                   LEFT JOIN (SELECT order_id, COUNT(*) AS started, SUM(status IN (2, 5)) AS paid_back, \
                   SUM(status = 3) AS closed, SUM(status = 4) AS stuck FROM refunds GROUP BY order_id) r \
                   ON r.order_id = o.id WHERE o.created_at > UTC_TIMESTAMP() - INTERVAL 29 DAY AND (COALESCE(e.placed, 0) <> 1 \
                   OR e.paid <> (o.status IN (1, 2, 3, 5, 6)) OR e.cancelled <> (o.status = 4) \
                   OR e.completed <> (o.completed_at IS NOT NULL) OR (o.status = 3 AND o.completed_at IS NULL) \
                   OR e.too_late <> (o.status = 4 AND COALESCE(p.status, 0) = 1) \
                   OR e.started <> COALESCE(r.started, 0) OR e.paid_back <> COALESCE(r.paid_back, 0) \
                   OR e.closed <> COALESCE(r.closed, 0) OR e.stuck < COALESCE(r.stuck, 0) \
                   OR e.refunded <> (o.status = 6))",
    },
    Rule {
        name: "I3",
        promise: "each order that went out has its shipment and its event, for orders of the last 29 days",
        rows: "orders",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM orders WHERE created_at > UTC_TIMESTAMP() - INTERVAL 29 DAY",
        breaches: "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, SUM(kind = 'order_shipped') AS shipped, \
                   SUM(kind = 'order_reshipped') AS anew FROM outbox GROUP BY order_id) e ON e.order_id = o.id \
                   LEFT JOIN (SELECT order_id, SUM(round = 1) AS firsts, SUM(round = 2) AS seconds FROM shipments \
                   GROUP BY order_id) s ON s.order_id = o.id WHERE o.created_at > UTC_TIMESTAMP() - INTERVAL 29 DAY \
                   AND (COALESCE(e.shipped, 0) <> (o.shipped_at IS NOT NULL) \
                   OR COALESCE(s.firsts, 0) <> (o.shipped_at IS NOT NULL) \
                   OR COALESCE(s.seconds, 0) <> COALESCE(e.anew, 0) OR (o.status = 2 AND o.shipped_at IS NULL) \
                   OR (o.status IN (0, 1, 4) AND o.shipped_at IS NOT NULL))",
    },
    Rule {
        name: "I3",
        promise: "each sale was counted once, but for those still in delivery",
        rows: "products",
        row: "product",
        looked_at: "SELECT COUNT(*) FROM products",
        breaches: "SELECT p.id FROM products p LEFT JOIN product_sales s ON s.product_id = p.id LEFT JOIN (SELECT \
                   i.product_id, SUM(i.quantity) AS units, COUNT(DISTINCT i.order_id) AS orders FROM order_items i \
                   JOIN orders o ON o.id = i.order_id LEFT JOIN (SELECT e.order_id FROM outbox e \
                   LEFT JOIN outbox_deliveries d ON d.event_id = e.id AND d.consumer = 'product_sales' \
                   WHERE e.kind = 'order_paid' AND (e.published_at IS NULL OR d.event_id IS NOT NULL)) w \
                   ON w.order_id = o.id WHERE o.status IN (1, 2, 3, 5, 6) AND w.order_id IS NULL \
                   GROUP BY i.product_id) b ON b.product_id = p.id \
                   WHERE COALESCE(s.units, 0) <> COALESCE(b.units, 0) OR COALESCE(s.orders, 0) <> COALESCE(b.orders, 0)",
    },
    Rule {
        name: "I5",
        promise: "every order that a client was told of is there",
        rows: "replies",
        row: "user",
        looked_at: "SELECT COUNT(*) FROM idempotency_keys",
        breaches: "SELECT k.user_id AS id FROM idempotency_keys k LEFT JOIN orders o \
                   ON o.id = CAST(JSON_EXTRACT(k.reply, '$.order_id') AS UNSIGNED) AND o.user_id = k.user_id \
                   WHERE JSON_EXTRACT(k.reply, '$.order_id') IS NOT NULL AND o.id IS NULL",
    },
    Rule {
        name: "I5",
        promise: "no order came alive after its hold was given back",
        rows: "buried numbers",
        row: "order",
        looked_at: "SELECT COUNT(*) FROM order_tombstones",
        breaches: "SELECT o.id FROM orders o JOIN order_tombstones t ON t.order_no = o.order_no",
    },
];

/// The books at one moment, whatever is written meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    connection: MySqlConnection,
}

/// What a rule found.
#[derive(Debug)]
pub struct Found {
    /// Rows that the rule looked at.
    pub looked_at: i64,
    /// How many of them break it.
    pub breaches: i64,
    /// The lowest ids among them, at most [`MOST_NAMED`].
    pub ids: Vec<i64>,
}

impl Snapshot {
    /// Opens it, on a connection of its own: one that is left in a transaction must not come back to a pool.
    pub async fn open(pool: &MySqlPool) -> Result<Snapshot, sqlx::Error> {
        let mut connection = pool.acquire().await?.detach();
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        Ok(Snapshot { connection })
    }

    /// Applies a rule.
    pub async fn apply(&mut self, rule: &Rule) -> Result<Found, sqlx::Error> {
        let looked_at = sqlx::query_scalar(rule.looked_at).fetch_one(&mut self.connection).await?;
        let mut query = QueryBuilder::new("SELECT id, COUNT(*) OVER () FROM (");
        query.push(rule.breaches).push(") broken ORDER BY id LIMIT ").push_bind(MOST_NAMED);
        let rows: Vec<(i64, i64)> = query.build_query_as().fetch_all(&mut self.connection).await?;
        let breaches = rows.first().map_or(0, |(_, all)| *all);
        Ok(Found { looked_at, breaches, ids: rows.into_iter().map(|(id, _)| id).collect() })
    }

    /// Lets the moment go.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}
