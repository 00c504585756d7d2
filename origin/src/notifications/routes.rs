//! Where WeChat's notifications arrive. Both addresses take both kinds: what a notification is stands in it, signed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::model::NotificationError;
use super::service;
use crate::app::App;

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
    take(&app, &headers, &body).await
}

/// WeChat's notification of a refund. Signed by WeChat over the raw body; answered in WeChat's form.
#[utoipa::path(post, path = "/api/payments/wechat/refund-notify", tag = "payment", request_body = String, responses(
    (status = 200, body = NotificationAnswer, description = "taken, now or before"),
    (status = 400, body = NotificationAnswer, description = "not what the refund says"),
    (status = 401, body = NotificationAnswer, description = "not signed by WeChat just now"),
    (status = 404, body = NotificationAnswer, description = "no such refund"),
    (status = 503, body = NotificationAnswer, description = "not now: WeChat sends it again"),
))]
pub async fn take_wechat_refund_notification(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&app, &headers, &body).await
}

async fn take(app: &Arc<App>, headers: &HeaderMap, body: &[u8]) -> Response {
    match service::take(app, headers, body).await {
        Ok(_) => answer(StatusCode::OK, "SUCCESS", "成功".to_owned()),
        Err(error) => {
            let status = match &error {
                NotificationError::Unverified(_) => StatusCode::UNAUTHORIZED,
                NotificationError::Mismatch(_) | NotificationError::Unreadable(_) => StatusCode::BAD_REQUEST,
                NotificationError::Unknown(_) => StatusCode::NOT_FOUND,
                NotificationError::NotNow(_) | NotificationError::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            };
            // Money is involved: each refusal is worth an operator's eye.
            tracing::warn!(%status, error = format!("{:#}", anyhow::anyhow!(error)), "notification refused");
            answer(status, "FAIL", "通知未被接受".to_owned())
        }
    }
}

fn answer(status: StatusCode, code: &'static str, message: String) -> Response {
    (status, Json(NotificationAnswer { code, message })).into_response()
}
