//! The catalogue as shoppers see it. Promises that every reply is made from one consistent snapshot of the products
//! ([`snapshot`]), an edit of which is seen within `catalog.refresh_ms` and the time of a load, and from stock that is at
//! most half a second old ([`follow`]); and that a read waits for no other and for no server.

mod arrangement;
mod assembly;
mod bigrams;
mod feed;
pub mod follow;
mod id_table;
mod levels;
pub mod offers;
mod page;
mod pages;
mod postings;
mod routes;
mod search;
pub mod service;
mod snapshot;
mod stock_store;
mod store;
mod texts;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use snapshot::Snapshot;
pub use store::{
    CategoryRow, ProductRow, SkuRow, raise_version, upsert_category, upsert_product, upsert_sku,
};

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::list_products))
        .routes(routes!(routes::get_product))
        .routes(routes!(routes::list_categories))
        .routes(routes!(routes::get_home))
        .routes(routes!(routes::list_stock))
}

/// The catalogue of this process.
#[derive(Debug)]
pub struct Catalog {
    /// Readers never wait.
    current: ArcSwap<Snapshot>,
    following: Mutex<follow::Following>,
    /// Searches at the same time.
    searches: Arc<Semaphore>,
}

impl Default for Catalog {
    fn default() -> Catalog {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Catalog {
            current: ArcSwap::default(),
            following: Mutex::default(),
            searches: Arc::new(Semaphore::new(processors)),
        }
    }
}

impl Catalog {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    fn replace(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }
}

/// There is more of something than a snapshot can number.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the catalogue is too large to be held in memory")]
pub struct TooLarge;
