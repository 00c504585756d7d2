//! `/api/products`, `/api/categories`, `/api/stock`.

use std::sync::Arc;

use axum::extract::State;
use farmgate_shared::api::catalog::{
    Category, ProductDetail, ProductQuery, ProductSummary, SkuStock, StockQuery,
};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::ProductId;
use farmgate_shared::problem::{Problem, ProblemBody};

use super::service;
use crate::app::App;
use crate::error::{ApiError, ApiResult, ok};
use crate::http::extract::{PathId, QueryText};

/// A page of products, of one category or matching a keyword.
#[utoipa::path(get, path = "/api/products", tag = "catalogue", params(
    ("page" = Option<u32>, Query, description = "from 1"),
    ("size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
    ("category_id" = Option<i64>, Query),
    ("keyword" = Option<String>, Query, description = "in name, tags or place of origin; at most 50 characters"),
    ("sort" = Option<String>, Query, description = "default, price_asc, price_desc or newest"),
), responses(
    (status = 200, body = Reply<Page<ProductSummary>>),
    (status = 400, body = ProblemBody, description = "invalid_parameter"),
))]
pub async fn list_products(
    State(app): State<Arc<App>>,
    QueryText(query): QueryText,
) -> ApiResult<Page<ProductSummary>> {
    let query = ProductQuery::parse(&query).map_err(ApiError::fields)?;
    ok(service::list_products(&app, &query).await?)
}

/// One product with its SKUs.
#[utoipa::path(get, path = "/api/products/{id}", tag = "catalogue", params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<ProductDetail>),
    (status = 404, body = ProblemBody, description = "product_not_found"),
))]
pub async fn get_product(
    State(app): State<Arc<App>>,
    PathId(id): PathId<ProductId>,
) -> ApiResult<ProductDetail> {
    ok(service::product(&app, id).await?.ok_or(Problem::ProductNotFound)?)
}

/// The categories, in the shopkeeper's order.
#[utoipa::path(get, path = "/api/categories", tag = "catalogue", responses(
    (status = 200, body = Reply<Vec<Category>>),
))]
pub async fn list_categories(State(app): State<Arc<App>>) -> ApiResult<Vec<Category>> {
    ok(service::categories(&app)?)
}

/// What can be ordered of some SKUs now. Unknown ids are left out.
#[utoipa::path(get, path = "/api/stock", tag = "catalogue",
    params(("ids" = String, Query, description = "1 to 100 SKU ids with commas")), responses(
    (status = 200, body = Reply<Vec<SkuStock>>),
    (status = 400, body = ProblemBody, description = "invalid_parameter"),
))]
pub async fn list_stock(
    State(app): State<Arc<App>>,
    QueryText(query): QueryText,
) -> ApiResult<Vec<SkuStock>> {
    let query = StockQuery::parse(&query).map_err(ApiError::fields)?;
    ok(service::stock(&app, &query).await?)
}
