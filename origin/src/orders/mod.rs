//! Orders. Promises that prices come from the database, that what was said to be ordered is committed, that stock is
//! held for exactly the orders that await payment, and that an order leaves a state once.

pub mod closing;
mod draft;
pub mod fate;
pub mod model;
pub mod of_shop;
mod placing;
pub mod receiving;
pub mod refunding;
mod routes;
pub mod service;
pub mod shipping;
mod store;
pub mod turns;
pub mod writer;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::create_order, routes::list_orders))
        .routes(routes!(routes::get_order))
        .routes(routes!(routes::cancel_order))
        .routes(routes!(routes::confirm_order))
}
