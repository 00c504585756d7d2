//! Payments. Promises that an order becomes paid only when WeChat says so, for the right amount, merchant, app and
//! payer; that WeChat's word may come twice, late or never; and that what one order is asked to pay never changes.

pub mod asking;
pub mod closing;
pub mod money_back;
pub mod operator;
pub mod receipt;
mod routes;
pub mod service;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(routes::pay_order))
}
