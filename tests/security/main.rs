//! What the origin refuses: strangers, forged tokens and bad input. The edge refuses most of it first (`tests/edge`);
//! here the origin stands alone, as it must when the edge is wrong or somebody got past it.

// Helpers outside `#[test]` functions may fail a test in the shortest way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod bad_input;
mod edge_signature;
mod limits;
mod start;
mod tokens;
