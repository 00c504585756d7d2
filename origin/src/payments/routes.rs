//! `POST /api/orders/{id}/pay`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::payments::PaymentParams;
use farmgate_shared::ids::OrderId;
use farmgate_shared::problem::ProblemBody;

use super::service;
use crate::app::App;
use crate::error::{ApiResult, ok};
use crate::http::extract::PathId;
use crate::http::user::CurrentUser;

/// Prepares the payment of an order: the parameters of `wx.requestPayment`. May be asked again until it is paid.
#[utoipa::path(post, path = "/api/orders/{id}/pay", tag = "order", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<PaymentParams>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
    (status = 409, body = ProblemBody, description = "order_state_conflict, order_expired"),
    (status = 503, body = ProblemBody, description = "wechat_unavailable"),
))]
pub async fn pay_order(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<PaymentParams> {
    ok(service::prepare(&app, user, id).await?)
}
