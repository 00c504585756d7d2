//! Stock. MySQL decides (a guarded update and a CHECK, so nothing is ever sold twice); the Redis gate in front only
//! spares it requests that cannot succeed. Promises that each change of a row is one movement in the same transaction.

pub mod buyers;
pub mod drift;
pub mod gate;
mod held;
pub mod model;
pub mod service;
pub mod sold_out;
mod store;
mod suspects;
pub mod taking;

use farmgate_shared::ids::SkuId;

/// So many of a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub sku_id: SkuId,
    pub quantity: u32,
}
