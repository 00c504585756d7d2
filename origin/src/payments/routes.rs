//! `POST /api/orders/{id}/pay` and WeChat's notification.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use farmgate_shared::api::Reply;
use farmgate_shared::api::payments::PaymentParams;
use farmgate_shared::ids::OrderId;
use farmgate_shared::problem::ProblemBody;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::service::{self, NotificationError};
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

/// The answer that WeChat reads.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NotificationAnswer {
    /// `SUCCESS` or `FAIL`.
    code: &'static str,
    message: String,
}

/// WeChat's notification of a payment. Signed by WeChat over the raw body; answered in WeChat's form.
#[utoipa::path(post, path = "/api/payments/wechat/notify", tag = "payment", request_body = String, responses(
    (status = 200, body = NotificationAnswer, description = "taken, now or before"),
    (status = 400, body = NotificationAnswer, description = "not what the order says"),
    (status = 401, body = NotificationAnswer, description = "not signed by WeChat just now"),
    (status = 404, body = NotificationAnswer, description = "no such order"),
    (status = 503, body = NotificationAnswer, description = "not now: WeChat sends it again"),
))]
pub async fn take_wechat_notification(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match service::take_notification(&app, &headers, &body).await {
        Ok(()) => answer(StatusCode::OK, "SUCCESS", "成功".to_owned()),
        Err(error) => {
            let status = match &error {
                NotificationError::Refused(_) => StatusCode::UNAUTHORIZED,
                NotificationError::Mismatch(_) | NotificationError::Unreadable(_) => StatusCode::BAD_REQUEST,
                NotificationError::UnknownOrder => StatusCode::NOT_FOUND,
                NotificationError::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            // Money is involved: each refusal is worth an operator's eye.
            tracing::warn!(%status, error = format!("{:#}", anyhow::anyhow!(error)), "payment notification refused");
            answer(status, "FAIL", "通知未被接受".to_owned())
        }
    }
}

fn answer(status: StatusCode, code: &'static str, message: String) -> Response {
    (status, Json(NotificationAnswer { code, message })).into_response()
}
