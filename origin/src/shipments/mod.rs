//! Shipments. Promises a shopper to see how an order went out; a shopkeeper that shipping twice by mistake changes nothing and
//! that one wrong number can be put right; and that WeChat, which keeps the shop's money until then, is told of every
//! shipment for as long as it takes.

pub mod model;
pub mod operator;
mod routes;
pub mod service;
mod store;
pub mod upload;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(routes::track_order))
}
