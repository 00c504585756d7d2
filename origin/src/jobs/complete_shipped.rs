//! Completes orders that were shipped long ago and that nobody confirmed.

use crate::app::App;
use crate::orders;
use crate::orders::service::OrderError;

/// Orders a round: a backlog is worked off in several, so that a stop is never far away.
const MOST: u32 = 100;

/// Says how many were completed.
///
/// # Errors
/// When MySQL is away.
pub async fn run(app: &App) -> Result<usize, OrderError> {
    orders::receiving::complete_shipped_due(app, MOST).await
}
