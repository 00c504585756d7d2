//! Shoppers who have to wait for each other: a test decides when an order can go on, and sees what was written together.

use sqlx::{MySql, Transaction};

use crate::shop::Shop;

impl Shop {
    /// Locks a SKU's row of stock until the transaction is rolled back. Orders of it wait there with all else written.
    pub async fn lock_stock(&self, sku: i64) -> Transaction<'static, MySql> {
        let mut lock = self.db.begin().await.expect("MySQL answers");
        sqlx::query("SELECT sku_id FROM stock WHERE sku_id = ? FOR UPDATE")
            .bind(sku)
            .fetch_one(&mut *lock)
            .await
            .expect("the SKU has a row of stock");
        lock
    }

    /// Transactions that wait for a row of stock; `None` while MySQL cannot say.
    pub async fn waiting_for_stock(&self) -> Option<i64> {
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
                       WHERE db = DATABASE() AND info LIKE 'UPDATE stock %'";
        self.count_connections(waiting).await
    }

    /// From now on every order that is written is noted with its connection, whether it is committed or not: MyISAM takes
    /// nothing back.
    pub async fn note_writers(&self) {
        self.script(
            "CREATE TABLE writers (connection BIGINT NOT NULL) ENGINE = MyISAM;
             CREATE TRIGGER note_writer AFTER INSERT ON orders FOR EACH ROW INSERT INTO writers VALUES (CONNECTION_ID())",
        )
        .await;
    }

    /// Forgets those that were noted so far, also while their transactions go on.
    pub async fn forget_writers(&self) {
        self.script("DELETE FROM writers").await;
    }

    /// The most orders that one connection has written since. While nothing is committed, those of a connection are of one
    /// transaction.
    pub async fn most_by_one_writer(&self) -> i64 {
        self.count("SELECT COALESCE(MAX(orders), 0) FROM (SELECT COUNT(*) AS orders FROM writers GROUP BY connection) w").await
    }
}
