//! What stands between a socket and a handler: the edge's signature, the extractors, and the one place where replies
//! get their request id and failures their body.

pub mod edge_signature;
pub mod extract;
mod nonces;
pub mod replies;
pub mod user;
