//! `/api/orders/{id}/tracking`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::shipments::Tracking;
use farmgate_shared::ids::OrderId;
use farmgate_shared::problem::ProblemBody;

use super::service;
use crate::app::App;
use crate::error::{ApiResult, ok};
use crate::http::extract::PathId;
use crate::http::user::CurrentUser;

/// Where an order is: how it was shipped, or that it was not yet.
#[utoipa::path(get, path = "/api/orders/{id}/tracking", tag = "order", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Tracking>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
))]
pub async fn track_order(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<Tracking> {
    ok(service::tracking(&app, user, id).await?)
}
