//! What every suite stands on: a whole shop of real binaries for one test. Promises a test that nothing of it is
//! shared — own schema, own Redis prefix, own wechat-sim, own origin, own edge — that all of it ends with the test, and
//! that a test which passed also left the books right (I1 and I2 of the design) and no panic in any log.
//!
//! `Shop::start().await` is the shop with the test in the edge's place; `EdgeShop::start().await` has the real edge
//! under workerd in front.

// This is a test library: a shop that cannot be set up has no better answer than to fail the test at once, with the
// reason. Clippy's own exception covers `#[test]` functions alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod books;
mod broken;
mod cache_api;
mod caller;
mod chaos;
mod crowd;
mod edge;
mod env;
mod express;
mod foreign_wechat;
mod gate;
mod keyring;
mod outbox;
mod process;
mod refunds;
mod reply;
mod schema;
mod servers;
mod shipping;
mod shop;
mod shopper;
mod tap;
mod tokens;
mod until;
mod wechat;

pub use books::Stock;
pub use broken::dropped_connection;
pub use cache_api::CacheApi;
pub use caller::{Call, Caller, unique, unix_now};
pub use chaos::Cable;
pub use edge::{Edge, EdgePlan, EdgeShop};
pub use env::wechat_keys;
pub use express::Express;
pub use foreign_wechat::ForeignWechat;
pub use keyring::Keyring;
pub use process::Process;
pub use refunds::Refund;
pub use reply::Reply;
pub use servers::{Mysql, Redis, redis_connection};
pub use shop::{Shop, ShopPlan};
pub use shopper::{Shopper, bought, number, ordered, status};
pub use tap::{Line, Seen, Tap};
pub use tokens::{Forgery, Tokens};
pub use until::{LONG, eventually};
pub use wechat::Wechat;

pub use farmgate_shared as shared;
pub use farmgate_shared::problem::Problem;
pub use serde_json::{Value, json};
