//! Subscribe messages: a shopper who agreed to it is told in WeChat that an order was paid, was shipped, or was refunded.
//! Promises that each is told of once, as far as anybody can know; that a shopper who did not agree is not asked again; and
//! the mini-program, which templates it may ask for.

pub mod model;
pub mod operator;
mod routes;
mod service;
mod store;
mod telling;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub use service::forget_old;
pub use telling::CONSUMER;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(routes::get_templates))
}
