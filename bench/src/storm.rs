//! `bench storm`: far more buyers than units, for a minute. What must hold holds or the run fails: exactly the stock is
//! sold, everybody else hears `out_of_stock`, nothing breaks, and the books are clean.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use sqlx::{Connection as _, MySqlConnection};

use crate::audit::{self, Ledger};
use crate::load::{Load, Tally};
use crate::plan::Plan;
use crate::reconcile::{self, Reconciled};
use crate::stats::{milliseconds, percentile};
use crate::target::{Goods, Target};
use crate::{shop, verdict};

/// How long and how much.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Seconds of load
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Connections, each sending its next order at once
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
}

/// What the storm showed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub stock: i64,
    pub sold: u64,
    /// As the orders in the database say.
    pub sold_in_books: i64,
    pub out_of_stock: u64,
    pub answered_per_second: f64,
    pub order_p99_ms: Option<f64>,
    pub refusal_p50_ms: Option<f64>,
    pub refusal_p99_ms: Option<f64>,
    pub failed: std::collections::BTreeMap<String, u64>,
    pub reconcile: Reconciled,
    /// What did not hold, a line each; empty when all did.
    pub broken: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When a server is gone. What does not hold is in the report.
pub async fn run(plan: &Plan, options: Options) -> Result<Report> {
    let mut target = Target::origin(plan.origin.address, &plan.origin.keys, &shop::users())?;
    target.make_addresses().await.context("the origin takes addresses")?;
    let time = Duration::from_secs(options.seconds);
    let goods = Goods::Hot(shop::STORM);
    let load = Load { target: Arc::new(target), goods, connections: options.connections, time };
    let tally = load.run().await?;
    let reconcile = reconcile::run(&plan.origin).await?;
    let mut connection = MySqlConnection::connect(&plan.database_url(&plan.origin.database)).await?;
    let units = audit::units(&mut connection, Ledger::Origin).await?;
    connection.close().await?;
    let in_books = units.iter().find(|units| units.sku == shop::STORM).map_or(0, |units| units.ordered);
    Ok(Report {
        stock: shop::STORM_STOCK,
        sold: tally.accepted,
        sold_in_books: in_books,
        out_of_stock: tally.out_of_stock,
        answered_per_second: tally.answered() as f64 / time.as_secs_f64(),
        order_p99_ms: percentile(&tally.accepted_us, 99).map(milliseconds),
        refusal_p50_ms: percentile(&tally.out_of_stock_us, 50).map(milliseconds),
        refusal_p99_ms: percentile(&tally.out_of_stock_us, 99).map(milliseconds),
        broken: broken(&tally, in_books, &reconcile),
        failed: tally.failed,
        reconcile,
    })
}

fn broken(tally: &Tally, in_books: i64, reconcile: &Reconciled) -> Vec<String> {
    let stock = shop::STORM_STOCK;
    let mut broken = Vec::new();
    if i64::try_from(tally.accepted) != Ok(stock) {
        broken.push(format!("{} orders were accepted, not {stock}", tally.accepted));
    }
    if in_books != stock {
        broken.push(format!("the books show {in_books} units sold, not {stock}"));
    }
    if tally.out_of_stock == 0 {
        broken.push("nobody was refused: that was no storm".to_owned());
    }
    broken.extend(tally.failed.iter().map(|(said, times)| format!("{times} replies said {said}")));
    if tally.busy > 0 {
        broken.push(format!("{} replies said 503 busy", tally.busy));
    }
    broken.extend(verdict::of_audit(reconcile));
    broken
}

impl Report {
    /// What is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let mut text = format!(
            "\n{} of {} units sold ({} in the books), {} refused as out_of_stock, {} other replies\n\
             {:.0} answers/s; p99 of an order {} ms; of a refusal p50 {} ms, p99 {} ms\n\
             farmgate-origin reconcile:\n{}",
            self.sold,
            self.stock,
            self.sold_in_books,
            self.out_of_stock,
            self.failed.values().sum::<u64>(),
            self.answered_per_second,
            show(self.order_p99_ms),
            show(self.refusal_p50_ms),
            show(self.refusal_p99_ms),
            self.reconcile.report,
        );
        text.push_str(&verdict::text(&self.broken));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Reconciled {
        Reconciled { is_clean: true, report: String::new() }
    }

    #[test]
    fn a_storm_holds_only_when_all_of_it_does() {
        let good = Tally { accepted: 1000, out_of_stock: 9, ..Tally::default() };
        assert!(broken(&good, 1000, &clean()).is_empty());
        let few = Tally { accepted: 999, ..good.clone() };
        assert_eq!(broken(&few, 999, &clean()).len(), 2);
        let many = Tally { accepted: 1001, ..good.clone() };
        assert_eq!(broken(&many, 1001, &clean()).len(), 2);
        assert_eq!(broken(&Tally { out_of_stock: 0, ..good.clone() }, 1000, &clean()).len(), 1);
        let failed = Tally { failed: [("503 unavailable".to_owned(), 3)].into(), ..good.clone() };
        assert_eq!(broken(&failed, 1000, &clean()), ["3 replies said 503 unavailable"]);
        assert_eq!(broken(&Tally { busy: 1, ..good.clone() }, 1000, &clean()).len(), 1);
        let dirty = Reconciled { is_clean: false, report: "I1 BROKEN".to_owned() };
        assert_eq!(broken(&good, 1000, &dirty).len(), 1);
    }
}
