//! `/api/orders`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::orders::{CreateOrder, CreatedOrder, Order, OrderQuery};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::OrderId;
use farmgate_shared::problem::ProblemBody;

use super::{closing, placing, receiving, service};
use crate::app::App;
use crate::error::{ApiError, ApiResult, ok, ok_with};
use crate::http::extract::{IdempotencyKey, PathId, QueryText, ValidJson};
use crate::http::user::{CurrentUser, TokenHolder};

/// Makes an order and holds its stock until it is paid or its time is over.
#[utoipa::path(post, path = "/api/orders", tag = "order", security(("token" = [])), request_body = CreateOrder,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 of [A-Za-z0-9_-]")), responses(
    (status = 200, body = Reply<CreatedOrder>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody, description = "account_disabled"),
    (status = 404, body = ProblemBody, description = "product_not_found, address_not_found, coupon_not_found"),
    (status = 409, body = ProblemBody, description = "out_of_stock, coupon_used, coupon_not_valid_now, coupon_not_applicable"),
    (status = 422, body = ProblemBody, description = "idempotency_key_reused"),
    (status = 503, body = ProblemBody, description = "unavailable: the order was made or not; repeat with the same key"),
))]
pub async fn create_order(
    State(app): State<Arc<App>>,
    TokenHolder(claim): TokenHolder,
    IdempotencyKey(key): IdempotencyKey,
    ValidJson(body): ValidJson<CreateOrder>,
) -> ApiResult<CreatedOrder> {
    ok_with("下单成功", placing::place(&app, claim, key, body).await?)
}

/// The shopper's orders, the newest first.
#[utoipa::path(get, path = "/api/orders", tag = "order", security(("token" = [])), params(
    ("page" = Option<u32>, Query, description = "from 1"),
    ("size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
    ("status" = Option<u8>, Query, description = "0 to 6"),
), responses(
    (status = 200, body = Reply<Page<Order>>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
))]
pub async fn list_orders(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    QueryText(query): QueryText,
) -> ApiResult<Page<Order>> {
    let query = OrderQuery::parse(&query).map_err(ApiError::fields)?;
    ok(service::list(&app, user, query).await?)
}

/// One order.
#[utoipa::path(get, path = "/api/orders/{id}", tag = "order", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Order>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
))]
pub async fn get_order(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<Order> {
    ok(service::get(&app, user, id).await?)
}

/// Cancels an order that was not paid yet and gives its goods back.
#[utoipa::path(post, path = "/api/orders/{id}/cancel", tag = "order", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Order>, description = "cancelled, now or before"),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
    (status = 409, body = ProblemBody, description = "order_state_conflict: it was paid"),
    (status = 503, body = ProblemBody, description = "wechat_unavailable"),
))]
pub async fn cancel_order(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<Order> {
    ok_with("订单已取消", closing::cancel(&app, user, id).await?)
}

/// Confirms that a shipped order arrived, which completes it. One that nobody confirms completes by itself some days
/// after it was shipped.
#[utoipa::path(post, path = "/api/orders/{id}/confirm", tag = "order", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Order>, description = "completed, now or before"),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "order_not_found"),
    (status = 409, body = ProblemBody, description = "order_state_conflict: it was not shipped"),
))]
pub async fn confirm_order(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<OrderId>,
) -> ApiResult<Order> {
    ok_with("已确认收货", receiving::confirm(&app, user, id).await?)
}
