//! Keeps the stock gate true: decides holds whose maker died, and mends levels that go on to differ from MySQL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::db::{Retryable, is_away};
use crate::{orders, stock};

/// A hold lives for the milliseconds that an order's transaction takes; one this old has lost its maker.
const HOLD_LIFE_MS: i64 = 20_000;
/// Holds a round.
const MOST_HOLDS: usize = 100;
/// Least time between two looks at every level.
const LOOK: Duration = Duration::from_secs(2);

/// The sweeper, with when it looked last.
#[derive(Debug, Default)]
pub struct Sweeper {
    looked: Option<Instant>,
}

impl Sweeper {
    /// One round.
    ///
    /// # Errors
    /// When MySQL or Redis is away.
    pub async fn run(&mut self, app: &Arc<App>) -> anyhow::Result<()> {
        for order_no in stock::service::old_holds(app, HOLD_LIFE_MS, MOST_HOLDS).await? {
            match orders::fate::sweep_hold(app, order_no.clone()).await {
                Ok(swept) => tracing::info!(%order_no, ?swept, "a hold without a maker"),
                Err(error) if error.database().is_some_and(is_away) => return Err(error.into()),
                // Somebody keeps its row: the others do not wait for that.
                Err(error) => tracing::warn!(%order_no, %error, "a hold without a maker stays for now"),
            }
        }
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        let drift = stock::drift::lasting(app).await?;
        self.looked = Some(Instant::now());
        if !drift.is_empty() {
            let mended = stock::drift::mend(app, &drift).await?;
            let (differed, mended, is_lost) = (drift.levels.len(), mended.len(), drift.is_lost);
            tracing::warn!(differed, mended, is_lost, "levels of the stock gate differed");
        }
        Ok(())
    }
}
