//! What the edge and the origin must agree on: money, ids, wire types, error slugs, token claims and the signature
//! between them. Nothing here reads a clock, rolls a die or does I/O, so all of it compiles to Wasm and can be
//! tested as plain functions.

pub mod api;
pub mod edge_auth;
pub mod ids;
pub mod limits;
pub mod money;
pub mod problem;
pub mod token;

/// The largest request body that either side reads, in bytes. The biggest honest body (an address) is under 2 KiB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
