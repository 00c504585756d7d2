//! The audit of units: what was stocked against what the orders in the database say was bought. The same function looks
//! at every contestant, so that a zero means the same for all.

use serde::Serialize;
use sqlx::{FromRow, MySqlConnection};

/// Whose tables are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ledger {
    /// The origin's schema: `stock.total` against the items of orders that were not cancelled.
    Origin,
    /// The peer's: `stocked` against `order_items`.
    Repaired,
    /// The seed has no table of items: its peer writes them into `orders.remark`.
    Seed,
}

impl Ledger {
    /// Its owner, as the report has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ledger::Origin => "origin",
            Ledger::Repaired => "repaired",
            Ledger::Seed => "seed",
        }
    }
}

/// Of one SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow, Serialize)]
pub struct Units {
    pub sku: i64,
    pub stocked: i64,
    pub ordered: i64,
}

impl Units {
    /// Units that were sold and never there.
    #[must_use]
    pub fn oversold(&self) -> i64 {
        (self.ordered - self.stocked).max(0)
    }
}

/// Every SKU that was ordered at all.
///
/// # Errors
/// When MySQL is away.
pub async fn units(connection: &mut MySqlConnection, ledger: Ledger) -> Result<Vec<Units>, sqlx::Error> {
    let query = match ledger {
        Ledger::Origin => {
            "SELECT s.sku_id AS sku, CAST(s.total AS SIGNED) AS stocked, CAST(SUM(i.quantity) AS SIGNED) AS ordered \
             FROM order_items i JOIN orders o ON o.id = i.order_id JOIN stock s ON s.sku_id = i.sku_id \
             WHERE o.status <> 4 GROUP BY s.sku_id, s.total ORDER BY s.sku_id"
        }
        Ledger::Repaired => {
            "SELECT s.product_id AS sku, s.quantity AS stocked, CAST(SUM(i.quantity) AS SIGNED) AS ordered \
             FROM order_items i JOIN orders o ON o.id = i.order_id JOIN stocked s ON s.product_id = i.product_id \
             GROUP BY s.product_id, s.quantity ORDER BY s.product_id"
        }
        Ledger::Seed => {
            "SELECT s.product_id AS sku, s.quantity AS stocked, CAST(SUM(o.quantity) AS SIGNED) AS ordered \
             FROM (SELECT CAST(JSON_EXTRACT(remark, '$.product_id') AS SIGNED) AS product_id, \
             CAST(JSON_EXTRACT(remark, '$.quantity') AS SIGNED) AS quantity FROM orders) o \
             JOIN stocked s ON s.product_id = o.product_id GROUP BY s.product_id, s.quantity ORDER BY s.product_id"
        }
    };
    sqlx::query_as(query).fetch_all(connection).await
}

/// Over all SKUs.
#[must_use]
pub fn oversold(units: &[Units]) -> i64 {
    units.iter().map(Units::oversold).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_there_is_oversold_and_nothing_makes_up_for_it() {
        let units = [
            Units { sku: 1, stocked: 5, ordered: 7 },
            Units { sku: 2, stocked: 5, ordered: 1 },
            Units { sku: 3, stocked: 5, ordered: 6 },
        ];
        assert_eq!(oversold(&units), 3);
        assert_eq!(oversold(&units[1..2]), 0);
    }
}
