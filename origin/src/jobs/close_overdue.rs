//! Closes orders that nobody paid in time.

use std::sync::Arc;

use crate::app::App;
use crate::orders;
use crate::payments::closing::Closing;

/// Orders a round: a backlog is worked off in several, so that a stop is never far away.
const MOST: u32 = 50;

/// Says how many were closed.
///
/// # Errors
/// When they cannot be listed. One that cannot be closed is logged and left for the next round; where WeChat or MySQL is
/// away, so are those after it, lest each waits for its own time-out.
pub async fn run(app: &Arc<App>) -> anyhow::Result<u32> {
    let mut closed = 0;
    for (order, order_no) in orders::service::overdue(app, MOST).await? {
        match orders::service::close_unpaid(app, order, &order_no).await {
            Ok(Closing::Closed) => closed += 1,
            Ok(Closing::Paid) => {}
            Err(error) => {
                let is_outage = error.is_outage();
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(%order_no, error, "an overdue order stays open for now");
                if is_outage {
                    break;
                }
            }
        }
    }
    Ok(closed)
}
