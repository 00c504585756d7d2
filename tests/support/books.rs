//! The shop's books, read straight from MySQL: the stock of a SKU, and the audit of the invariants that every test must
//! leave standing.

use sqlx::{Connection as _, MySqlConnection};

/// A row of `stock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Stock {
    pub total: i32,
    pub available: i32,
    pub held: i32,
    pub sold: i32,
}

/// Each rule of the design with the query that finds its breaches.
const RULES: [(&str, &str); 14] = [
    (
        "I1: available + held + sold = total, none of them negative",
        "SELECT sku_id FROM stock
         WHERE available + held + sold <> total OR available < 0 OR held < 0 OR sold < 0",
    ),
    (
        "I2: held is what orders awaiting payment hold",
        "SELECT s.sku_id FROM stock s
         LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity FROM order_items i
                    JOIN orders o ON o.id = i.order_id WHERE o.status = 0 GROUP BY i.sku_id) h ON h.sku_id = s.sku_id
         WHERE s.held <> COALESCE(h.quantity, 0)",
    ),
    (
        // Goods of a refunded order are sold only where it had been shipped before it was refunding.
        "I2: sold is what paid orders bought and did not return",
        "SELECT s.sku_id FROM stock s
         LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity FROM order_items i
                    JOIN orders o ON o.id = i.order_id
                    WHERE o.status IN (1, 2, 3, 5) OR (o.status = 6 AND 1 <> (SELECT r.order_status FROM refunds r
                          WHERE r.order_id = o.id AND r.order_status IS NOT NULL ORDER BY r.id DESC LIMIT 1))
                    GROUP BY i.sku_id) p
                ON p.sku_id = s.sku_id
         WHERE s.sold <> COALESCE(p.quantity, 0)",
    ),
    (
        "I2: the movements add up to each column",
        "SELECT s.sku_id FROM stock s
         LEFT JOIN (SELECT sku_id, SUM(available_change) AS available, SUM(held_change) AS held, SUM(sold_change) AS sold
                    FROM stock_movements GROUP BY sku_id) m ON m.sku_id = s.sku_id
         WHERE s.available <> COALESCE(m.available, 0) OR s.held <> COALESCE(m.held, 0)
            OR s.sold <> COALESCE(m.sold, 0)",
    ),
    (
        "a spent coupon belongs to a live order of its shopper",
        "SELECT c.id FROM user_coupons c LEFT JOIN orders o ON o.id = c.order_id
         WHERE c.order_id IS NOT NULL AND (o.id IS NULL OR o.user_id <> c.user_id OR o.status = 4)",
    ),
    (
        "a live order has a discount when it has a coupon, and its lines share it",
        "SELECT o.id FROM orders o LEFT JOIN user_coupons c ON c.order_id = o.id
         LEFT JOIN (SELECT order_id, SUM(discount_fen) AS shares FROM order_items GROUP BY order_id) i
                ON i.order_id = o.id
         WHERE o.discount_amount * 100 <> COALESCE(i.shares, 0)
            OR (o.status <> 4 AND (o.discount_amount > 0) <> (c.id IS NOT NULL))",
    ),
    (
        "as many of a coupon are with shoppers as were counted",
        "SELECT k.id FROM coupons k LEFT JOIN (SELECT coupon_id, COUNT(*) AS held FROM user_coupons GROUP BY coupon_id) h
                ON h.coupon_id = k.id
         WHERE k.claimed <> COALESCE(h.held, 0)",
    ),
    (
        // A cancelled order beside a payment is one that came too late, and has its refund.
        "an order is paid when its payment is, and not otherwise",
        "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id
         WHERE (o.status IN (1, 2, 3, 5, 6) AND COALESCE(p.status, 0) <> 1) OR (o.status = 0 AND p.status = 1)",
    ),
    (
        "no more goes back than was paid, and what goes back is written in refunds",
        "SELECT p.order_id FROM payments p
         LEFT JOIN (SELECT order_id, SUM(IF(status = 3, 0, amount_fen)) AS live FROM refunds GROUP BY order_id) r
                ON r.order_id = p.order_id
         WHERE p.refunded_fen <> COALESCE(r.live, 0) OR COALESCE(r.live, 0) > p.amount_fen",
    ),
    (
        "an order is refunded when all of its money was paid back, refunding while all of it is promised",
        "SELECT o.id FROM orders o JOIN payments p ON p.order_id = o.id
         LEFT JOIN (SELECT order_id, SUM(IF(status IN (2, 5), amount_fen, 0)) AS paid, SUM(IF(status = 3, 0, amount_fen)) AS live
                    FROM refunds GROUP BY order_id) r ON r.order_id = o.id
         WHERE o.status <> 4 AND o.status NOT IN (5, 6) AND COALESCE(r.live, 0) = p.amount_fen
            OR o.status = 5 AND (COALESCE(r.live, 0) <> p.amount_fen OR r.paid = p.amount_fen)
            OR o.status = 6 AND COALESCE(r.paid, 0) <> p.amount_fen",
    ),
    (
        "what was paid for a cancelled order is promised back, once its event was delivered",
        "SELECT o.id FROM orders o JOIN payments p ON p.order_id = o.id AND p.status = 1
         LEFT JOIN (SELECT order_id, SUM(IF(status = 3, 0, amount_fen)) AS live FROM refunds GROUP BY order_id) r
                ON r.order_id = o.id
         WHERE o.status = 4 AND COALESCE(r.live, 0) < p.amount_fen AND EXISTS (
               SELECT 1 FROM outbox e LEFT JOIN outbox_deliveries d ON d.event_id = e.id AND d.consumer = 'late_refunds'
               WHERE e.order_id = o.id AND e.kind = 'paid_too_late' AND e.published_at IS NOT NULL
                 AND d.event_id IS NULL)",
    ),
    (
        "I3: each change of state has its one event",
        "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id
         LEFT JOIN (SELECT order_id, SUM(kind = 'order_placed') AS placed, SUM(kind = 'order_paid') AS paid,
                           SUM(kind = 'order_cancelled') AS cancelled, SUM(kind = 'order_completed') AS completed,
                           SUM(kind = 'paid_too_late') AS too_late, SUM(kind = 'refund_started') AS started,
                           SUM(kind = 'refund_paid') AS paid_back, SUM(kind = 'refund_closed') AS closed,
                           SUM(kind = 'order_refunded') AS refunded
                    FROM outbox GROUP BY order_id) e ON e.order_id = o.id
         LEFT JOIN (SELECT order_id, COUNT(*) AS started, SUM(status IN (2, 5)) AS paid_back, SUM(status = 3) AS closed
                    FROM refunds GROUP BY order_id) r ON r.order_id = o.id
         WHERE COALESCE(e.placed, 0) <> 1 OR e.paid <> (o.status IN (1, 2, 3, 5, 6))
            OR e.cancelled <> (o.status = 4) OR e.completed <> (o.completed_at IS NOT NULL)
            OR e.too_late <> (o.status = 4 AND COALESCE(p.status, 0) = 1)
            OR e.started <> COALESCE(r.started, 0) OR e.paid_back <> COALESCE(r.paid_back, 0)
            OR e.closed <> COALESCE(r.closed, 0) OR e.refunded <> (o.status = 6)",
    ),
    (
        "I3: what went out has its shipment and its event",
        "SELECT o.id FROM orders o
         LEFT JOIN (SELECT order_id, SUM(kind = 'order_shipped') AS shipped, SUM(kind = 'order_reshipped') AS anew
                    FROM outbox GROUP BY order_id) e ON e.order_id = o.id
         LEFT JOIN (SELECT order_id, SUM(round = 1) AS firsts, SUM(round = 2) AS seconds
                    FROM shipments GROUP BY order_id) s ON s.order_id = o.id
         WHERE COALESCE(e.shipped, 0) <> (o.shipped_at IS NOT NULL)
            OR COALESCE(s.firsts, 0) <> (o.shipped_at IS NOT NULL)
            OR COALESCE(s.seconds, 0) <> COALESCE(e.anew, 0) OR (o.status = 2 AND o.shipped_at IS NULL)
            OR (o.status IN (0, 1, 4) AND o.shipped_at IS NOT NULL)",
    ),
    (
        "each delivered sale was counted once, no other was",
        "SELECT p.id FROM products p LEFT JOIN product_sales s ON s.product_id = p.id
         LEFT JOIN (SELECT i.product_id, SUM(i.quantity) AS units FROM order_items i
                    JOIN outbox e ON e.order_id = i.order_id AND e.kind = 'order_paid'
                    LEFT JOIN outbox_deliveries d ON d.event_id = e.id AND d.consumer = 'product_sales'
                    WHERE e.published_at IS NOT NULL AND d.event_id IS NULL
                    GROUP BY i.product_id) b ON b.product_id = p.id
         WHERE COALESCE(s.units, 0) <> COALESCE(b.units, 0)",
    ),
];

/// One line a rule that is broken, with the rows that break it.
pub async fn audit(connection: &mut MySqlConnection) -> Vec<String> {
    let mut wrong = Vec::new();
    for (rule, query) in RULES {
        match sqlx::query_scalar::<_, i64>(query).fetch_all(&mut *connection).await {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => wrong.push(format!("{rule}: broken by {rows:?}")),
            Err(error) => wrong.push(format!("{rule}: {error}")),
        }
    }
    // A failed goodbye changes nothing.
    let _ = connection.ping().await;
    wrong
}
