//! What a test may ask of the outbox: that it has nothing left to do, and what came of it.

use crate::shop::Shop;
use crate::until::{LONG, eventually};

/// As `origin/src/outbox/consumers.rs` names them.
const CONSUMERS: [&str; 6] = [
    "order_timeline",
    "product_sales",
    "late_refunds",
    "shipping_upload",
    "subscribe_messages",
    "review_check",
];

impl Shop {
    /// Every event was handed out and handled by everyone who wants it, or is a dead letter, and its entries have left the
    /// streams.
    pub async fn all_is_delivered(&self) {
        eventually(LONG, "everything is delivered", async || {
            let waiting = self.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await
                + self.count("SELECT COUNT(*) FROM outbox_deliveries WHERE died_at IS NULL").await;
            if waiting > 0 {
                return None;
            }
            for consumer in CONSUMERS {
                if self.redis_number(&["XLEN", &format!(":events:{consumer}")]).await > 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Units and orders that `product_sales` counts of a product.
    pub async fn sales(&self, product: i64) -> (i64, i64) {
        sqlx::query_as("SELECT units, orders FROM product_sales WHERE product_id = ?")
            .bind(product)
            .fetch_optional(&self.db)
            .await
            .expect("the sales can be read")
            .unwrap_or_default()
    }
}
