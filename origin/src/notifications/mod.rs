//! WeChat Pay's notifications, of payments and of refunds. Promises WeChat an answer well within its five seconds, and the
//! shop that nothing is acted on which WeChat did not sign just now, that everything it did sign is kept as it came, and
//! that telling a thing twice does it once.

pub mod model;
mod routes;
pub mod service;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::take_wechat_notification))
        .routes(routes!(routes::take_wechat_refund_notification))
}
