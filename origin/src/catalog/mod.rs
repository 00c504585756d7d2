//! The catalogue as shoppers see it. Promises that lists and pages come from one consistent snapshot of the products,
//! at most `catalog.refresh_ms` old, while the stock beside them is read when they are asked for.

mod model;
pub mod offers;
mod routes;
pub mod service;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use model::Catalog;
pub use store::{
    CategoryRow, ProductRow, SkuRow, raise_version, upsert_category, upsert_product, upsert_sku,
};

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::list_products))
        .routes(routes!(routes::get_product))
        .routes(routes!(routes::list_categories))
        .routes(routes!(routes::list_stock))
}
