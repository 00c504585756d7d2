//! The origin's own files that read what a stranger sends, built again for the fuzzer. The origin is a program without a
//! library; a library beside it would build all of it twice, and a fuzzer needs these files alone.

#![allow(dead_code, unused_imports)]

#[path = "../../origin/src/wechat/hostile.rs"]
pub mod hostile;
#[path = "../../origin/src/wechat/notify.rs"]
mod notify;
#[path = "../../origin/src/wechat/platform.rs"]
mod platform;
#[path = "../../origin/src/wechat/public_key.rs"]
mod public_key;
#[path = "../../origin/src/wechat/skew.rs"]
mod skew;
#[path = "../../origin/src/wechat/pay/transaction.rs"]
mod transaction;

mod pay {
    pub use crate::transaction::Transaction;
}
