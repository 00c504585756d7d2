//! Coupons. Promises a shopper that what they were given does not change, and that a coupon of theirs is spent on one
//! order at most and comes back when that order is cancelled; promises the shopkeeper that never more are given out than
//! were issued, in all and to one shopper. What a coupon takes off is computed here, never by the client.

pub mod model;
mod routes;
pub mod service;
mod show;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use store::{IssueRow, Spend, TermsRow, upsert_issue};

use crate::app::App;

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(routes::list_coupons))
        .routes(routes!(routes::list_my_coupons))
        .routes(routes!(routes::claim_coupon))
}
