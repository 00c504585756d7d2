//! `/api/orders/{id}/reviews`, `/api/products/{id}/reviews`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::reviews::{NewReviews, OwnReview, ProductReview, parse_reviews_query};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::{OrderId, ProductId};
use farmgate_shared::problem::ProblemBody;

use super::service;
use crate::app::App;
use crate::error::{ApiError, ApiResult, ok, ok_with};
use crate::http::extract::{IdempotencyKey, PathId, QueryText, ValidJson};
use crate::http::user::CurrentUser;

/// Reviews lines of a completed order, each once. What has text is shown when WeChat's text check has passed it.
#[utoipa::path(post, path = "/api/orders/{id}/reviews", tag = "review", security(("token" = [])),
    request_body = NewReviews, params(
    ("id" = i64, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 of [A-Za-z0-9_-]"),
), responses(
    (status = 200, body = Reply<Vec<OwnReview>>),
    (status = 400, body = ProblemBody, description = "invalid_json, invalid_parameter"),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
    (status = 409, body = ProblemBody, description = "order_state_conflict, already_reviewed"),
    (status = 422, body = ProblemBody, description = "idempotency_key_reused"),
))]
pub async fn write_reviews(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    IdempotencyKey(key): IdempotencyKey,
    PathId(id): PathId<OrderId>,
    ValidJson(body): ValidJson<NewReviews>,
) -> ApiResult<Vec<OwnReview>> {
    ok_with("评价成功", service::write(&app, user, id, key, body).await?)
}

/// The shopper's own reviews of an order, wherever they stand.
#[utoipa::path(get, path = "/api/orders/{id}/reviews", tag = "review", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Vec<OwnReview>>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
))]
pub async fn list_order_reviews(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<Vec<OwnReview>> {
    ok(service::of_order(&app, user, id).await?)
}

/// The shown reviews of a product, the newest first.
#[utoipa::path(get, path = "/api/products/{id}/reviews", tag = "review", params(
    ("id" = i64, Path),
    ("page" = Option<u32>, Query, description = "from 1"),
    ("size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
), responses(
    (status = 200, body = Reply<Page<ProductReview>>),
    (status = 400, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "product_not_found"),
))]
pub async fn list_product_reviews(
    State(app): State<Arc<App>>,
    PathId(id): PathId<ProductId>,
    QueryText(query): QueryText,
) -> ApiResult<Page<ProductReview>> {
    let paging = parse_reviews_query(&query).map_err(ApiError::fields)?;
    ok(service::of_product(&app, id, paging).await?)
}
