//! `/api/coupons`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::coupons::{Coupon, CouponIssue, CouponQuery, CouponStatus, parse_issues_query};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::CouponIssueId;
use farmgate_shared::problem::ProblemBody;

use super::service;
use crate::app::App;
use crate::error::{ApiError, ApiResult, ok, ok_with};
use crate::http::extract::{IdempotencyKey, PathId, QueryText};
use crate::http::user::CurrentUser;

/// The coupons that can be claimed now, the newest first.
#[utoipa::path(get, path = "/api/coupons", tag = "coupon", security(("token" = [])), params(
    ("page" = Option<u32>, Query, description = "from 1"),
    ("size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
), responses(
    (status = 200, body = Reply<Page<CouponIssue>>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
))]
pub async fn list_coupons(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    QueryText(query): QueryText,
) -> ApiResult<Page<CouponIssue>> {
    let paging = parse_issues_query(&query).map_err(ApiError::fields)?;
    ok(service::list(&app, user, paging).await?)
}

/// The shopper's coupons, the newest first.
#[utoipa::path(get, path = "/api/coupons/mine", tag = "coupon", security(("token" = [])), params(
    ("page" = Option<u32>, Query, description = "from 1"),
    ("size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
    ("status" = Option<CouponStatus>, Query),
), responses(
    (status = 200, body = Reply<Page<Coupon>>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
))]
pub async fn list_my_coupons(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    QueryText(query): QueryText,
) -> ApiResult<Page<Coupon>> {
    let query = CouponQuery::parse(&query).map_err(ApiError::fields)?;
    ok(service::list_mine(&app, user, query).await?)
}

/// Claims a coupon. Of one that everybody may have once, a second click gets the same coupon.
#[utoipa::path(post, path = "/api/coupons/{id}/claim", tag = "coupon", security(("token" = [])), params(
    ("id" = i64, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 of [A-Za-z0-9_-]"),
), responses(
    (status = 200, body = Reply<Coupon>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "coupon_not_found"),
    (status = 409, body = ProblemBody, description = "coupon_sold_out, coupon_limit, coupon_not_claimable"),
    (status = 422, body = ProblemBody, description = "idempotency_key_reused"),
))]
pub async fn claim_coupon(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    IdempotencyKey(key): IdempotencyKey,
    PathId(id): PathId<CouponIssueId>,
) -> ApiResult<Coupon> {
    ok_with("领取成功", service::claim(&app, user, key, id).await?)
}
