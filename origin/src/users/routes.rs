//! `/api/user/…` and the public keys of the tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::users::{LoggedIn, Login, UserInfo};
use farmgate_shared::problem::ProblemBody;
use farmgate_shared::token::PublicKeys;
use http::HeaderName;
use http::header::CACHE_CONTROL;

use super::service;
use crate::app::App;
use crate::error::{ApiResult, ok, ok_with};
use crate::http::extract::ValidJson;
use crate::http::user::CurrentUser;

/// Logs a shopper in with the code of `wx.login`; the first login makes the account.
#[utoipa::path(post, path = "/api/user/login", tag = "user", request_body = Login, responses(
    (status = 200, body = Reply<LoggedIn>),
    (status = 400, body = ProblemBody, description = "invalid_json, invalid_parameter, wechat_code_invalid"),
    (status = 403, body = ProblemBody, description = "account_disabled"),
    (status = 503, body = ProblemBody, description = "wechat_unavailable"),
))]
pub async fn login(State(app): State<Arc<App>>, ValidJson(body): ValidJson<Login>) -> ApiResult<LoggedIn> {
    ok_with("登录成功", service::login(&app, body).await?)
}

/// The shopper's own record.
#[utoipa::path(get, path = "/api/user/info", tag = "user", security(("token" = [])), responses(
    (status = 200, body = Reply<UserInfo>),
    (status = 401, body = ProblemBody, description = "unauthenticated, token_expired"),
))]
pub async fn get_user_info(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
) -> ApiResult<UserInfo> {
    ok(service::user_info(&app, user).await?)
}

/// How long anybody may keep the public keys: as long as an operator waits, at least, between showing a new key and
/// signing with it.
const PUBLIC_KEYS_LIFE: &str = "public, max-age=300";

/// The public keys whose tokens are good (RFC 7517), the one that signs first. Two while keys are being rotated.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "user", responses(
    (status = 200, body = PublicKeys, headers(("Cache-Control" = String, description = "public, five minutes"))),
))]
pub async fn get_public_keys(
    State(app): State<Arc<App>>,
) -> ([(HeaderName, &'static str); 1], Json<PublicKeys>) {
    ([(CACHE_CONTROL, PUBLIC_KEYS_LIFE)], Json(app.sessions.public_keys()))
}
