//! `/api/addresses`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::addresses::{Address, AddressInput};
use farmgate_shared::ids::AddressId;
use farmgate_shared::problem::ProblemBody;

use super::service;
use crate::app::App;
use crate::error::{ApiResult, ok};
use crate::http::extract::{PathId, ValidJson};
use crate::http::user::CurrentUser;

/// The shopper's addresses, the default first.
#[utoipa::path(get, path = "/api/addresses", tag = "address", security(("token" = [])), responses(
    (status = 200, body = Reply<Vec<Address>>),
    (status = 401, body = ProblemBody),
))]
pub async fn list_addresses(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
) -> ApiResult<Vec<Address>> {
    ok(service::list(&app, user).await?)
}

/// Adds an address.
#[utoipa::path(post, path = "/api/addresses", tag = "address", security(("token" = [])),
    request_body = AddressInput, responses(
    (status = 200, body = Reply<Address>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "address_limit"),
))]
pub async fn create_address(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    ValidJson(input): ValidJson<AddressInput>,
) -> ApiResult<Address> {
    ok(service::create(&app, user, input).await?)
}

/// One address.
#[utoipa::path(get, path = "/api/addresses/{id}", tag = "address", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Address>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "address_not_found"),
))]
pub async fn get_address(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<AddressId>,
) -> ApiResult<Address> {
    ok(service::get(&app, user, id).await?)
}

/// Replaces an address.
#[utoipa::path(put, path = "/api/addresses/{id}", tag = "address", security(("token" = [])),
    params(("id" = i64, Path)), request_body = AddressInput, responses(
    (status = 200, body = Reply<Address>),
    (status = 400, body = ProblemBody),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "address_not_found"),
))]
pub async fn update_address(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<AddressId>,
    ValidJson(input): ValidJson<AddressInput>,
) -> ApiResult<Address> {
    ok(service::update(&app, user, id, input).await?)
}

/// Deletes an address. Orders keep their own copy.
#[utoipa::path(delete, path = "/api/addresses/{id}", tag = "address", security(("token" = [])),
    params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<Option<bool>>),
    (status = 401, body = ProblemBody),
    (status = 404, body = ProblemBody, description = "address_not_found"),
))]
pub async fn delete_address(
    State(app): State<Arc<App>>,
    CurrentUser(user): CurrentUser,
    PathId(id): PathId<AddressId>,
) -> ApiResult<Option<bool>> {
    service::delete(&app, user, id).await?;
    ok(None)
}
