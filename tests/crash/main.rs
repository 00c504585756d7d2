//! What a crash leaves behind, and what mends it. Each test is a whole shop of its own (see `support`).

// Helpers outside `#[test]` functions may fail a test in the shortest way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod books;
mod calls;
mod effects;
mod gate;
mod kill;
mod misdeeds;
mod outbox;
mod oversell;
mod points;
mod reconcile;
mod refunds;
mod rush;
mod servers;
mod shipping;
mod stuck;
mod trials;
