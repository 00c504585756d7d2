//! `/api/products`, `/api/categories`, `/api/home`, `/api/stock`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use farmgate_shared::api::catalog::{
    Category, HEADER_CATALOG_VERSION, Home, ProductDetail, ProductSummary, SkuStock,
};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::ProductId;
use farmgate_shared::problem::ProblemBody;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::service;
use super::snapshot::Snapshot;
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::{PathId, QueryText};

static CATALOG_VERSION: HeaderName = HeaderName::from_static(HEADER_CATALOG_VERSION);

/// A reply, good or bad, with the version of the snapshot that it was made from.
fn versioned(snapshot: &Snapshot, reply: Result<Bytes, ApiError>) -> Response {
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = reply.map(|body| ([json], body)).into_response();
    response.headers_mut().insert(CATALOG_VERSION.clone(), HeaderValue::from(snapshot.version));
    response
}

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
) -> Result<Response, ApiError> {
    let snapshot = service::loaded(&app)?;
    let list = service::list_products(&app, &snapshot, &query).await;
    Ok(versioned(&snapshot, list))
}

/// One product with its SKUs.
#[utoipa::path(get, path = "/api/products/{id}", tag = "catalogue", params(("id" = i64, Path)), responses(
    (status = 200, body = Reply<ProductDetail>),
    (status = 404, body = ProblemBody, description = "product_not_found"),
))]
pub async fn get_product(
    State(app): State<Arc<App>>,
    id: Result<PathId<ProductId>, ApiError>,
) -> Result<Response, ApiError> {
    let snapshot = service::loaded(&app)?;
    let product = match id {
        Ok(PathId(id)) => service::product(&snapshot, id).await,
        Err(error) => Err(error),
    };
    Ok(versioned(&snapshot, product))
}

/// The categories, in the shopkeeper's order.
#[utoipa::path(get, path = "/api/categories", tag = "catalogue", responses(
    (status = 200, body = Reply<Vec<Category>>),
))]
pub async fn list_categories(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let snapshot = service::loaded(&app)?;
    let categories = service::categories(&snapshot).await;
    Ok(versioned(&snapshot, categories))
}

/// The shop's first page: categories, and products recommended, new and on offer.
#[utoipa::path(get, path = "/api/home", tag = "catalogue", responses(
    (status = 200, body = Reply<Home>),
))]
pub async fn get_home(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let snapshot = service::loaded(&app)?;
    let home = service::home(&snapshot).await;
    Ok(versioned(&snapshot, home))
}

/// What can be ordered of some SKUs, or of all SKUs of some products, now. Unknown ids are left out.
#[utoipa::path(get, path = "/api/stock", tag = "catalogue", params(
    ("ids" = Option<String>, Query, description = "1 to 100 SKU ids with commas; exactly one of ids and products"),
    ("products" = Option<String>, Query, description = "1 to 100 product ids with commas"),
), responses(
    (status = 200, body = Reply<Vec<SkuStock>>),
    (status = 400, body = ProblemBody, description = "invalid_parameter"),
))]
pub async fn list_stock(
    State(app): State<Arc<App>>,
    QueryText(query): QueryText,
) -> Result<Response, ApiError> {
    let snapshot = service::loaded(&app)?;
    Ok(versioned(&snapshot, service::stock(&snapshot, &query)))
}
