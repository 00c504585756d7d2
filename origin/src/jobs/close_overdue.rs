//! Closes orders that nobody paid in time: first at WeChat, and only then here, so that no payment can still arrive for
//! goods that somebody else may buy.

use std::sync::Arc;

use crate::app::App;
use crate::orders;
use crate::payments::service::{Closing, close_at_wechat};

/// Orders a round: a backlog is worked off in several, so that a stop is never far away.
const MOST: u32 = 50;

/// Says how many were closed.
///
/// # Errors
/// When they cannot be listed. One that cannot be closed is logged and left for the next round.
pub async fn run(app: &Arc<App>) -> anyhow::Result<u32> {
    let mut closed = 0;
    for (order, order_no) in orders::service::overdue(app, MOST).await? {
        match close_at_wechat(app, &order_no).await {
            Ok(Closing::Closed) => match orders::service::cancel_unpaid(app, order).await {
                Ok(true) => closed += 1,
                Ok(false) => {}
                Err(error) => tracing::warn!(%order_no, error = %error, "an overdue order was not cancelled"),
            },
            Ok(Closing::Paid) => {}
            Err(error) => {
                tracing::warn!(%order_no, error = format!("{error:#}"), "an overdue order stays open for now");
            }
        }
    }
    Ok(closed)
}
