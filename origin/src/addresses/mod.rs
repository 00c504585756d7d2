//! Delivery addresses. Promises that a shopper sees and changes only their own (another's is a 404), that name, phone
//! and street are sealed in the database, and that exactly one address is the default while there is any.

mod routes;
pub mod service;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(routes::list_addresses, routes::create_address)).routes(routes!(
        routes::get_address,
        routes::update_address,
        routes::delete_address
    ))
}
