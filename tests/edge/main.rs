//! The edge in its real runtime: the built worker on bare workerd, a real shop behind it, and a tap on the line between
//! them that shows what reached the origin and can break the line.

// Helpers outside `#[test]` functions may fail a test in the shortest way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod browsers;
mod callbacks;
mod catalogue;
mod demo;
mod forwarding;
mod freshness;
mod journey;
mod limits;
mod outage;
mod reviews;
mod rotation;
mod second_cache;
mod shipping;
mod stampede;
mod tokens;
mod trap;
