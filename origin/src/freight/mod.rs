//! What delivery costs. Promises that the quote and the order agree, since both ask here.

use farmgate_shared::money::Fen;

use crate::config::FreightConfig;

/// The fee for goods worth `goods`: one price, free from a sum on.
pub fn fee(config: FreightConfig, goods: Fen) -> Fen {
    if goods >= config.free_from() { Fen::ZERO } else { config.flat() }
}
