//! Closes orders that nobody paid in time, and asks about payments of which nothing was heard. Goes on beside the other jobs,
//! which a WeChat that does not answer must not hold up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use farmgate_shared::ids::OrderNo;
use tokio::sync::watch;

use crate::app::App;
use crate::orders;
use crate::payments::asking;
use crate::payments::closing::Closing;

/// Orders a round: a backlog is worked off in several.
const MOST: u32 = 50;
/// While WeChat is away, the pause between two rounds grows to this many times the usual one.
const LONGEST_PAUSE: u32 = 30;

/// An order that cannot be closed for a reason of its own is left alone this long.
const REST: Duration = Duration::from_secs(60);

/// What earlier rounds could not close.
#[derive(Debug, Default)]
struct Resting {
    /// For reasons of their own, and until when they are left alone.
    until: HashMap<OrderNo, Instant>,
    /// At which a round ended, as if WeChat or MySQL were away.
    last: HashSet<OrderNo>,
}

/// Runs rounds until told to stop, which cuts one off where it is.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pauses = 1;
    let mut resting = Resting::default();
    loop {
        let next = async {
            tokio::time::sleep(app.config.worker.interval() * pauses).await;
            super::at_most(super::LONGEST_AT_WECHAT, round(&app, &mut resting)).await.unwrap_or(false)
        };
        let went_well = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            went_well = next => went_well,
        };
        pauses = if went_well { 1 } else { (pauses * 2).min(LONGEST_PAUSE) };
    }
}

/// One round; false when WeChat or MySQL was away.
async fn round(app: &Arc<App>, resting: &mut Resting) -> bool {
    let closed = close_overdue(app, resting).await;
    match &closed {
        Ok(0) => {}
        Ok(closed) => tracing::info!(closed, "overdue orders closed"),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "overdue orders stay open for now"),
    }
    let found = asking::ask_due(app, MOST).await.map_err(anyhow::Error::from);
    match &found {
        Ok(0) => {}
        Ok(found) => tracing::info!(found, "payments found by asking"),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "payments are asked about later"),
    }
    closed.is_ok() && found.is_ok()
}

/// Says how many were closed.
///
/// # Errors
/// When they cannot be listed, or WeChat or MySQL is away: those after it would each wait for their own time-out. One that
/// alone cannot be closed is logged and left alone for a minute.
async fn close_overdue(app: &Arc<App>, resting: &mut Resting) -> anyhow::Result<u32> {
    let mut closed = 0;
    resting.until.retain(|_, until| Instant::now() < *until);
    let most = MOST.saturating_add(u32::try_from(resting.until.len()).unwrap_or(u32::MAX));
    let mut overdue = orders::closing::overdue(app, most).await?;
    overdue.retain(|(_, order_no)| !resting.until.contains_key(order_no));
    // What looked like an outage may be one order's alone: the others come first.
    overdue.sort_by_key(|(_, order_no)| resting.last.contains(order_no));
    for (order, order_no) in overdue {
        match orders::closing::close_unpaid(app, order, &order_no).await {
            Ok(Closing::Closed) => closed += 1,
            Ok(Closing::Paid) => {}
            Err(error) if error.is_outage() => {
                resting.last.insert(order_no.clone());
                return Err(anyhow::Error::from(error).context(order_no));
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(%order_no, error, "an overdue order stays open for now");
                resting.until.insert(order_no, Instant::now() + REST);
            }
        }
    }
    resting.last.clear();
    Ok(closed)
}
