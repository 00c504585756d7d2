//! How much one client may ask. Promises the shop that nobody, by accident or on purpose, can take it from the others,
//! and shoppers that who shops is never in the way of a limit. A limit that cannot be counted in Redis gets stricter,
//! never looser, and stops nothing.
//!
//! Each process lets every client have a share of each limit by its own count. Only what is beyond the share is
//! counted in Redis, against the rest of the limit, in the call that takes the request's nonce: a shopper's request
//! costs Redis nothing more, a busy client is counted across all replicas, and with Redis away the share is all.

pub mod model;
mod seen;
mod service;

pub use seen::Nonce;
pub use service::{Admission, Limits};
