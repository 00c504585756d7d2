//! Shoppers: login with a WeChat code, sessions, their own record and telephone number. Promises that a session is worth
//! nothing once it expired, its user logged out or was banned, that no reply holds an openid or a session key, and that a
//! telephone number is shown masked only.

pub mod operator;
pub mod phone;
pub mod profile;
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
        .routes(routes!(routes::logout))
        .routes(routes!(routes::get_user_info, routes::edit_user_info))
        .routes(routes!(routes::bind_phone))
        .routes(routes!(routes::get_public_keys))
}
