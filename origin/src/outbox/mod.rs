//! The outbox. Promises whoever changes an order that what is recorded in the change's own transaction reaches every
//! consumer that wants it, at least once and however often anything crashes; a consumer whose effect is in MySQL, that it
//! happens once; and one who calls somebody else, that it is called until it is done, and hardly ever twice. MySQL holds all
//! of it; Redis Streams carry event ids to a worker that is free, and may forget them. docs/OUTBOX.md has the whole path.

mod calls;
mod consumers;
mod delivery;
mod inflow;
pub mod model;
pub mod operator;
mod publisher;
pub mod service;
mod store;
mod stream;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::model::Effect;
use crate::app::App;

/// Delivers until told to stop: one task that publishes, and one a consumer, so that none waits for another.
///
/// # Errors
/// When a task ended before it was told to, which is a defect: the process should end and be started again.
pub async fn run(app: Arc<App>, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(publisher::run(app.clone(), stopped.clone()));
    for consumer in &consumers::CONSUMERS {
        let (app, stopped) = (app.clone(), stopped.clone());
        match consumer.effect {
            Effect::Books(apply) => tasks.spawn(delivery::run(app, consumer, apply, stopped)),
            Effect::Call(call) => tasks.spawn(calls::run(app, consumer, call, stopped)),
        };
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
