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
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = pause.tick() => {}
        }
        match refunds::send_due(&app, MOST).await {
            Ok(0) => {}
            Ok(changed) => tracing::info!(changed, "refunds went on"),
            Err(error) => tracing::warn!(%error, "refunds wait"),
        }
    }
}
