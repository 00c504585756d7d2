//! Sends refunds that are due to WeChat, and asks about those that WeChat has. Goes on beside the other jobs, which a WeChat
//! that does not answer must not hold up.

use std::sync::Arc;

use tokio::sync::watch;

use crate::app::App;
use crate::refunds;

/// Refunds a round: a backlog is worked off in several, so that a stop is never far away.
const MOST: u32 = 50;

/// Runs rounds until told to stop.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = tokio::time::interval(app.config.worker.interval());
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let round = async {
            pause.tick().await;
            super::at_most(super::LONGEST_AT_WECHAT, refunds::send_due(&app, MOST)).await.unwrap_or(Ok(0))
        };
        // A refund that is cut off here is one whose worker died: its lease ends, and it is asked for again.
        let sent = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            sent = round => sent,
        };
        match sent {
            Ok(0) => {}
            Ok(changed) => tracing::info!(changed, "refunds went on"),
            Err(error) => tracing::warn!(%error, "refunds wait"),
        }
    }
}
