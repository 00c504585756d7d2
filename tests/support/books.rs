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
const RULES: [(&str, &str); 10] = [
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
        "I2: sold is what paid orders bought",
        "SELECT s.sku_id FROM stock s
         LEFT JOIN (SELECT i.sku_id, SUM(i.quantity) AS quantity FROM order_items i
                    JOIN orders o ON o.id = i.order_id WHERE o.status IN (1, 2, 3, 5) GROUP BY i.sku_id) p
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
        // A cancelled order beside a payment is one that came too late, and waits for its refund.
        "an order is paid when its payment is, and not otherwise",
        "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id
         WHERE (o.status IN (1, 2, 3) AND COALESCE(p.status, 0) <> 1) OR (o.status = 0 AND p.status = 1)",
    ),
    (
        "I3: each change of state has its one event",
        "SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id
         LEFT JOIN (SELECT order_id, SUM(kind = 'order_placed') AS placed, SUM(kind = 'order_paid') AS paid,
                           SUM(kind = 'order_cancelled') AS cancelled, SUM(kind = 'order_completed') AS completed,
                           SUM(kind = 'paid_too_late') AS too_late
                    FROM outbox GROUP BY order_id) e ON e.order_id = o.id
         WHERE COALESCE(e.placed, 0) <> 1 OR e.paid <> (o.status IN (1, 2, 3, 5, 6))
            OR e.cancelled <> (o.status = 4) OR e.completed <> (o.status = 3)
            OR e.too_late <> (o.status = 4 AND COALESCE(p.status, 0) = 1)",
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
