//! The daily reconciliation by itself: after ten in the morning the worker fetches yesterday's bill, and any of the last days that is missing.
//! Promises that each bill is fetched and compared once, however many workers run; that a failure is tried again; and that a
//! day of which WeChat has no bill is asked for again while it is one of those days.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::bills::day::BillDay;
use crate::bills::service::{self, Fetched};

/// Looks once a minute, more often where failures are tried again sooner.
const LOOK: Duration = Duration::from_secs(60);

/// Looks until told to stop.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = tokio::time::interval(LOOK.min(app.config.bills.retry()));
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = pause.tick() => {}
        }
        // A bill that is being fetched when the process is told to stop is given up: nothing of it was written yet.
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = super::at_most(super::LONGEST_AT_WECHAT, look(&app)) => {}
        }
    }
}

async fn look(app: &Arc<App>) {
    let newest = BillDay::newest(app.clock.now());
    // Oldest first: a day may need its neighbour's lines, and the earlier one is the likelier to be asked about.
    for back in (0..i64::from(app.config.bills.look_back_days)).rev() {
        let day = newest.plus(-back);
        match service::reconcile_once(app, day).await {
            Ok(Fetched::Before) => {}
            Ok(Fetched::Compared(report)) if report.open() == 0 => {
                tracing::info!(%day, payments = report.sums.payments, refunds = report.sums.refunds, "the bill agrees");
            }
            Ok(Fetched::Compared(report)) => {
                tracing::error!(%day, differences = report.open(), "the bill differs from the books");
            }
            Err(error) => {
                tracing::warn!(%day, error = format!("{:#}", anyhow::Error::from(error)), "no bill yet");
            }
        }
    }
    match service::standing(app.db.pool()).await {
        Ok(standing) => show(&standing),
        Err(error) => tracing::warn!(%error, "the standing of the bills could not be read"),
    }
}

/// Gauges without labels: their number does not grow with the days.
#[allow(clippy::cast_precision_loss)] // counts and seconds, far below 2^53
fn show(standing: &service::Standing) {
    metrics::gauge!("farmgate_bill_differences_open").set(standing.open as f64);
    metrics::gauge!("farmgate_bill_differences_last_day").set(standing.open_of_last_day as f64);
    if let Some(checked_at) = standing.checked_at {
        metrics::gauge!("farmgate_bill_last_compared_timestamp_seconds")
            .set(checked_at.unix_timestamp() as f64);
    }
}

/// What each of them says, for those who read the page.
pub fn describe() {
    metrics::describe_gauge!(
        "farmgate_bill_differences_open",
        "Differences between WeChat's bills and the books that nobody has settled"
    );
    metrics::describe_gauge!(
        "farmgate_bill_differences_last_day",
        "The same, of the newest day that was compared"
    );
    metrics::describe_gauge!(
        "farmgate_bill_last_compared_timestamp_seconds",
        "When a bill was last compared; its age is time() minus this"
    );
}
