//! What `farmgate-origin worker` does, round after round. Each job may be run by several workers at once and may be
//! cut off anywhere: what it changes goes through the same conditional updates as everything else.

pub mod bills;
mod complete_shipped;
mod payments;
mod refunds;
mod sweep_gate;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::{idempotency, messages, outbox, stock};

/// Rounds from one look at all SKUs to the next.
const MIRROR_EVERY: u32 = 10;
/// What a round may take, and one that asks WeChat.
const LONGEST: Duration = Duration::from_secs(120);
const LONGEST_AT_WECHAT: Duration = Duration::from_secs(600);

/// Runs rounds until `stop` resolves. A job that fails says so and is tried in the next round.
pub async fn run(app: Arc<App>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let told = async {
        stop.await;
        stopping.send_replace(true);
    };
    // An order that is being made meets the queries of one of them and not of all at once.
    let apart = app.config.worker.interval() / 3;
    // A task of its own: a large bill keeps a thread busy for a while.
    let bills = tokio::spawn(bills::run(app.clone(), stopped.clone()));
    tokio::join!(
        told,
        rounds(app.clone(), stopped.clone()),
        later(apart, stopped.clone(), payments::run(app.clone(), stopped.clone())),
        later(apart * 2, stopped.clone(), refunds::run(app, stopped))
    );
    if let Err(error) = bills.await {
        tracing::error!(%error, "the daily reconciliation ended by itself");
    }
}

/// A round, or nothing where it took too long: an answer that never comes must not stop the rounds after it. What is cut off
/// goes on as after a worker's death.
async fn at_most<T>(longest: Duration, round: impl Future<Output = T>) -> Option<T> {
    let ended = tokio::time::timeout(longest, round).await.ok();
    if ended.is_none() {
        tracing::warn!(?longest, "a round of the jobs took too long and was cut off");
    }
    ended
}

async fn later(pause: Duration, mut stopped: watch::Receiver<bool>, job: impl Future<Output = ()>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(pause) => job.await,
    }
}

async fn rounds(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut sweeper = sweep_gate::Sweeper::default();
    let mut pause = tokio::time::interval(app.config.worker.interval());
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tracing::info!("worker ready");
    for number in 0_u32.. {
        let next = async {
            pause.tick().await;
            at_most(LONGEST, async {
                round(&app, &mut sweeper).await;
                if number % MIRROR_EVERY == 0 {
                    mirror(&app).await;
                }
            })
            .await;
        };
        // A round is cut off: while MySQL is away each of its jobs waits for it, and a stop must not.
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = next => {}
        }
    }
}

/// One round of the jobs that need MySQL and Redis alone.
async fn round(app: &Arc<App>, sweeper: &mut sweep_gate::Sweeper) {
    match stock::drift::rebuild_gate_if_lost(app).await {
        Ok(true) => tracing::info!("the stock gate was built anew"),
        Ok(false) => {}
        Err(error) => tracing::warn!(error = format!("{error:#}"), "the stock gate could not be looked at"),
    }
    if let Err(error) = sweeper.run(app).await {
        tracing::warn!(error = format!("{error:#}"), "the stock gate could not be swept");
    }
    match complete_shipped::run(app).await {
        Ok(0) => {}
        Ok(completed) => tracing::info!(completed, "shipped orders completed by themselves"),
        Err(error) => tracing::warn!(%error, "shipped orders could not be completed"),
    }
    if let Err(error) = outbox::service::forget_old(app.db.pool(), app.clock.now()).await {
        tracing::warn!(%error, "old events could not be forgotten");
    }
    if let Err(error) = messages::forget_old(app.db.pool(), app.clock.now()).await {
        tracing::warn!(%error, "old messages could not be forgotten");
    }
    if let Err(error) = idempotency::forget_old(app.db.pool(), app.clock.now()).await {
        tracing::warn!(%error, "old idempotency keys could not be forgotten");
    }
}

/// Nothing of the shop reads the seed's column `products.stock`, and bringing it up to date looks at every SKU.
async fn mirror(app: &Arc<App>) {
    if let Err(error) = stock::service::mirror_into_products(app).await {
        tracing::warn!(%error, "products.stock could not be brought up to date");
    }
}
