//! `/api/user/…` and the public keys of the tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::users::{LoggedIn, Login, PhoneCode, UserEdit, UserRecord};
use farmgate_shared::problem::ProblemBody;
use farmgate_shared::token::PublicKeys;
use http::HeaderName;
use http::header::CACHE_CONTROL;

use super::{phone, profile, service};
use crate::app::App;
use crate::error::{ApiResult, ok, ok_with};
use crate::http::extract::ValidJson;
use crate::http::user::{CurrentUser, TokenHolder};

/// Logs a shopper in with the code of `wx.login`; the first login makes the account.
#[utoipa::path(post, path = "/api/user/login", tag = "user", request_body = Login, responses(
    (status = 200, body = Reply<LoggedIn>),
    (status = 400, body = ProblemBody, description = "invalid_json, invalid_parameter, wechat_code_invalid"),
    (status = 403, body = ProblemBody, description = "account_disabled, wechat_high_risk"),
    (status = 503, body = ProblemBody, description = "wechat_unavailable"),
))]
pub async fn login(State(app): State<Arc<App>>, ValidJson(body): ValidJson<Login>) -> ApiResult<LoggedIn> {
    ok_with("登录成功", service::login(&app, body).await?)
}

/// Ends all sessions of the shopper, on every phone. A second click is a 200 too, and ends nothing more.
#[utoipa::path(post, path = "/api/user/logout", tag = "user", security(("token" = [])), responses(
    (status = 200, description = "`data` is null"),
    (status = 401, body = ProblemBody, description = "unauthenticated, token_expired"),
))]
pub async fn logout(State(app): State<Arc<App>>, TokenHolder(claim): TokenHolder) -> ApiResult<()> {
    service::log_out(&app, claim).await?;
    ok_with("已退出登录", ())
}

/// The shopper's own record.
#[utoipa::path(get, path = "/api/user/info", tag = "user", security(("token" = [])), responses(
    (status = 200, body = Reply<UserRecord>),
    (status = 401, body = ProblemBody, description = "unauthenticated, token_expired"),
))]
pub async fn get_user_info(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
) -> ApiResult<UserRecord> {
    ok(profile::record(&app, user).await?)
}

/// Changes what the shopper says of themselves. A field that is absent stays; `null` or `""` clears it.
#[utoipa::path(put, path = "/api/user/info", tag = "user", security(("token" = [])), request_body = UserEdit, responses(
    (status = 200, body = Reply<UserRecord>),
    (status = 400, body = ProblemBody, description = "invalid_json, invalid_parameter"),
    (status = 401, body = ProblemBody, description = "unauthenticated, token_expired"),
))]
pub async fn edit_user_info(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    ValidJson(body): ValidJson<UserEdit>,
) -> ApiResult<UserRecord> {
    ok(profile::edit(&app, user, body).await?)
}

/// Binds the telephone number that WeChat gives for a code of `getPhoneNumber`, in the place of the one before.
#[utoipa::path(post, path = "/api/user/phone", tag = "user", security(("token" = [])), request_body = PhoneCode, responses(
    (status = 200, body = Reply<UserRecord>),
    (status = 400, body = ProblemBody, description = "invalid_json, invalid_parameter, phone_code_invalid"),
    (status = 401, body = ProblemBody, description = "unauthenticated, token_expired"),
    (status = 404, body = ProblemBody, description = "phone_binding_off"),
    (status = 503, body = ProblemBody, description = "wechat_unavailable"),
))]
pub async fn bind_phone(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    ValidJson(body): ValidJson<PhoneCode>,
) -> ApiResult<UserRecord> {
    ok_with("绑定成功", phone::bind_and_show(&app, user, &body.code).await?)
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
