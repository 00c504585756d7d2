//! The audit and its report.

use std::fmt;

use super::store::{self, RULES};
use crate::app::App;
use crate::stock;

/// What the audit found.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: &'static str,
    promise: &'static str,
    counted: i64,
    breaches: Vec<String>,
}

impl Report {
    /// Whether every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.lines.iter().all(|line| line.breaches.is_empty())
    }
}

/// One line an invariant: name, rows looked at, verdict, promise; and the rows at fault.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let verdict = if line.breaches.is_empty() { "holds" } else { "BROKEN" };
            writeln!(f, "{}  {:>8} rows  {verdict:<6}  {}", line.name, line.counted, line.promise)?;
            for breach in &line.breaches {
                writeln!(f, "      {breach}")?;
            }
        }
        Ok(())
    }
}

/// Checks I1 to I5. With `repair`, levels of the gate that differ from MySQL's are moved first, and a gate that is lost is built
/// anew.
///
/// # Errors
/// When MySQL or Redis is away: then nothing is known.
pub async fn reconcile(app: &App, repair: bool) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for rule in &RULES {
        let breaches = store::breaches(app.db.pool(), rule).await?;
        report.lines.push(Line {
            name: rule.name,
            promise: rule.promise,
            counted: store::counted(app.db.pool(), rule).await?,
            breaches: breaches.iter().map(|id| format!("id {id}")).collect(),
        });
    }
    let mut drift = stock::drift::lasting(app).await?;
    if repair && !drift.is_empty() {
        stock::drift::mend(app, &drift).await?;
        drift = stock::drift::lasting(app).await?;
    }
    let mut breaches: Vec<String> =
        drift.is_lost.then(|| "the gate is empty or of another generation".to_owned()).into_iter().collect();
    breaches.extend(drift.levels.iter().map(|(sku, difference)| format!("SKU {sku}: {difference}")));
    report.lines.push(Line {
        name: "I4",
        promise: "the stock gate shows what MySQL has",
        counted: i64::try_from(drift.looked_at)?,
        breaches,
    });
    report.lines.sort_by_key(|line| line.name);
    Ok(report)
}
