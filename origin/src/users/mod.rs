//! Shoppers: login with a WeChat code, sessions, and their own record. Promises that a session is worth nothing once it
//! expired, its user logged out or was disabled, and that no reply holds an openid or a session key.

mod remembered;
pub mod routes;
pub mod service;
pub mod session;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::login))
        .routes(routes!(routes::get_user_info))
        .routes(routes!(routes::get_public_keys))
}
