//! What shoppers say of what they bought. Promises that only who bought a line reviews it, once, after the order is
//! completed; that nothing is shown before WeChat's text check or a person has passed it; and that a person's word stands
//! over WeChat's.

mod check;
mod model;
pub mod operator;
pub mod routes;
pub mod service;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub use check::CONSUMER;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::list_product_reviews))
        .routes(routes!(routes::write_reviews, routes::list_order_reviews))
}
