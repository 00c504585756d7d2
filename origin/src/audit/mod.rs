//! The auditor: `farmgate-origin reconcile`. Promises an operator that the invariants I1 to I5 of the stock and the order
//! books hold, or says which rows break which; it reads, and mends nothing but the gate, and that only when told to.

mod report;
mod service;
mod store;

pub use service::reconcile;
