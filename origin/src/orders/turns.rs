//! One shopper's orders, one after the other within this process.

use farmgate_shared::ids::UserId;
use tokio::sync::{Mutex, MutexGuard};

/// Enough that two shoppers seldom share one.
const LANES: usize = 4096;

/// A fixed number of locks; a shopper always has the same one.
#[derive(Debug)]
pub struct Turns {
    lanes: Vec<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { lanes: (0..LANES).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    /// Waits for the shopper's turn and keeps it until the guard is dropped.
    pub async fn take(&self, user: UserId) -> MutexGuard<'_, ()> {
        self.lane(user).lock().await
    }

    /// Whether the shopper may have an order in the making.
    pub fn is_taken(&self, user: UserId) -> bool {
        self.lane(user).try_lock().is_err()
    }

    fn lane(&self, user: UserId) -> &Mutex<()> {
        let lane = usize::try_from(user.0.unsigned_abs()).unwrap_or(0) % LANES;
        &self.lanes[lane]
    }
}
