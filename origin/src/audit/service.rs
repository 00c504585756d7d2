//! The audit: what is looked at, and what is mended.

use super::report::{Line, Report, Verdict};
use super::store::{Found, MOST_NAMED, RULES, Rule, Snapshot};
use crate::app::App;
use crate::stock::drift::{self, Drift};

/// Checks I1 to I5. The books are looked at as they were at one moment; the gate is held against MySQL several times, so that
/// an order in the making is no difference. With `repair` its levels are moved to MySQL's, and a gate that is lost is built
/// anew. What cannot be looked at, since Redis is away or MySQL breaks off, stands in the report.
///
/// # Errors
/// When MySQL is away: then nothing is known.
pub async fn reconcile(app: &App, repair: bool) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut books = Snapshot::open(app.db.pool()).await?;
    for rule in &RULES {
        let verdict = match books.apply(rule).await {
            Ok(found) => judge(rule, found),
            Err(error) => Verdict::Unknown(error.to_string()),
        };
        report.add(Line { name: rule.name, promise: rule.promise, verdict });
    }
    if let Err(error) = books.close().await {
        tracing::debug!(%error, "the books were read, and the connection broke");
    }
    let verdict = match look_at_gate(app, repair).await {
        Ok(verdict) => verdict,
        Err(error) => Verdict::Unknown(format!("{error:#}")),
    };
    report.add(Line { name: "I4", promise: "the stock gate shows what MySQL has", verdict });
    Ok(report)
}

fn judge(rule: &Rule, found: Found) -> Verdict {
    Verdict::Seen {
        looked_at: found.looked_at,
        rows: rule.rows,
        breaches: found.breaches,
        named: found.ids.iter().map(|id| format!("{} {id}", rule.row)).collect(),
        mended: Vec::new(),
    }
}

async fn look_at_gate(app: &App, repair: bool) -> anyhow::Result<Verdict> {
    let found = drift::lasting(app).await?;
    if !repair || found.is_empty() {
        return judge_gate(&found, Vec::new());
    }
    let moved = drift::mend(app, &found).await?;
    let mut mended: Vec<String> = found.is_lost.then(|| LOST.to_owned()).into_iter().collect();
    mended.extend(moved.iter().map(|(sku, difference)| format!("SKU {sku}: {difference}")));
    judge_gate(&drift::lasting(app).await?, mended)
}

const LOST: &str = "the gate is empty or of another generation";

fn judge_gate(found: &Drift, mended: Vec<String>) -> anyhow::Result<Verdict> {
    let mut named: Vec<String> = found.is_lost.then(|| LOST.to_owned()).into_iter().collect();
    let breaches = i64::try_from(named.len() + found.levels.len())?;
    let most = usize::try_from(MOST_NAMED)?;
    let levels = found.levels.iter().map(|(sku, difference)| format!("SKU {sku}: {difference}"));
    named.extend(levels.take(most));
    Ok(Verdict::Seen { looked_at: i64::try_from(found.looked_at)?, rows: "SKUs", breaches, named, mended })
}
