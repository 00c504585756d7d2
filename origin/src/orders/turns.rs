//! Who may make an order now, within this process: one shopper's orders go one after the other, and no more than so many of all
//! are in the making, so that a MySQL that is slow, or has nobody in front of it, is not buried under them.

use std::sync::Arc;

use farmgate_shared::ids::UserId;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::config::OrdersConfig;

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

/// How many orders there is room for. A place is free again when its permit is dropped.
#[derive(Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    without_gate: Semaphore,
}

impl Room {
    pub fn new(config: &OrdersConfig) -> Room {
        Room {
            all: Arc::new(Semaphore::new(config.most_at_once)),
            without_gate: Semaphore::new(config.most_without_gate),
        }
    }

    /// A place among all.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().try_acquire_owned().ok()
    }

    /// A place among those that the gate did not let through, so that MySQL alone has to refuse what is sold out.
    pub fn enter_without_gate(&self) -> Option<SemaphorePermit<'_>> {
        self.without_gate.try_acquire().ok()
    }
}
