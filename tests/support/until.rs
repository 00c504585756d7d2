//! Waiting for a condition, with a deadline and never longer than needed.

use std::time::Duration;

use tokio::time::{Instant, interval};

/// Enough for anything that is coming at all, on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Looks until `look` returns something, and fails the test when `within` is over.
pub async fn eventually<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    let mut tick = interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
    }
}
