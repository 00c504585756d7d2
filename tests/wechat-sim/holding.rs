//! Calls that are held: received, and neither done nor answered until the faults end. Promises a test that a call is
//! under way while it does something to the shop, whatever the machine's pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tokio::sync::watch;

use crate::reply::json_reply;
use crate::state::Shared;

/// Who holds calls, and lets them go.
#[derive(Debug, Default)]
pub struct Holding {
    held: Arc<AtomicUsize>,
    released: watch::Sender<()>,
}

impl Holding {
    /// A place for a call that came in now: the next release lets it go.
    pub fn place(&self) -> HeldPlace {
        HeldPlace { held: self.held.clone(), released: self.released.subscribe() }
    }

    pub fn release(&self) {
        self.released.send_replace(());
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub struct HeldPlace {
    held: Arc<AtomicUsize>,
    released: watch::Receiver<()>,
}

impl HeldPlace {
    /// Waits for the release. A caller that hangs up is held no longer.
    pub async fn wait(&mut self) {
        let _counted = Counted::new(&self.held);
        // An error means that the simulator ends.
        let _ = self.released.changed().await;
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn new(held: &AtomicUsize) -> Counted<'_> {
        held.fetch_add(1, Ordering::SeqCst);
        Counted(held)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `GET /sim/held`: how many calls are held.
pub async fn show_held(State(sim): State<Shared>) -> Response {
    let held = sim.books().holding.held();
    json_reply(StatusCode::OK, &json!({"held": held}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_release_lets_go_whoever_came_before_it_and_nobody_after() {
        let holding = Holding::default();
        let (mut early, mut gone) = (holding.place(), holding.place());
        drop(tokio::time::timeout(std::time::Duration::ZERO, gone.wait()).await);
        assert_eq!(holding.held(), 0, "whoever hung up is not counted");
        holding.release();
        early.wait().await;
        let mut late = holding.place();
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), late.wait()).await;
        assert!(waits.is_err(), "the next release is another one");
    }
}
