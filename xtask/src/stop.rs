//! Whether the work is to stop: Ctrl-C, SIGTERM, a closed terminal, or another part that failed.
//! Every wait in this crate goes through here, so none outlives the wish to stop.

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Stop {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// How many times the user asked; the second time shortens every grace period to nothing.
    signals: u32,
    failed: bool,
}

impl Stop {
    /// Takes the signals over for this process.
    pub fn listen() -> Result<Self> {
        let stop = Self { shared: Arc::default() };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
        let shared = Arc::clone(&stop.shared);
        std::thread::spawn(move || {
            for _ in signals.forever() {
                lock(&shared.0).signals += 1;
                shared.1.notify_all();
            }
        });
        Ok(stop)
    }

    /// One of several parts that run at once has failed: the others are to give up.
    pub fn fail(&self) {
        lock(&self.shared.0).failed = true;
        self.shared.1.notify_all();
    }

    pub fn requested(&self) -> bool {
        let state = *lock(&self.shared.0);
        state.signals > 0 || state.failed
    }

    pub fn interrupted(&self) -> bool {
        lock(&self.shared.0).signals > 0
    }

    pub fn impatient(&self) -> bool {
        lock(&self.shared.0).signals > 1
    }

    pub fn check(&self) -> Result<()> {
        if self.interrupted() {
            bail!("interrupted");
        }
        if self.requested() {
            bail!("given up because another step failed");
        }
        Ok(())
    }

    /// Waits, but not longer than it takes somebody to ask for a stop.
    pub fn pause(&self, time: Duration) {
        let state = lock(&self.shared.0);
        let waited = self.shared.1.wait_timeout_while(state, time, |s| s.signals == 0 && !s.failed);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks `ready` again and again until it holds; false when the time is over.
    pub fn wait_until(&self, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            if ready()? {
                return Ok(true);
            }
            self.check()?;
            if Instant::now() >= end {
                return Ok(false);
            }
            self.pause(Duration::from_millis(50));
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
