//! Use cases of the catalogue. Pages are given as the bytes of whole replies.

use std::sync::Arc;

use axum::body::Bytes;
use farmgate_shared::api::catalog::{ProductQuery, StockQuery};
use farmgate_shared::api::orders::Wanted;
use farmgate_shared::api::{Page as ListPage, Reply};
use farmgate_shared::ids::ProductId;
use farmgate_shared::problem::Problem;

use super::page::{Page, PageError};
use super::snapshot::Snapshot;
pub use super::snapshot::absolute;
use crate::app::App;
use crate::error::{ApiError, SUCCESS};
use crate::stock::Line;

/// How the one spelling of every list's query begins. It is the list's key among the pages; those of the others begin
/// with a slash.
const LIST: &str = "page=";
const CATEGORIES: &str = "/categories";
const HOME: &str = "/home";

/// The snapshot, once there is one: a process that has not reached MySQL yet must not say that the shop is empty.
///
/// # Errors
/// Before the first load.
pub fn loaded(app: &App) -> Result<Arc<Snapshot>, ApiError> {
    let snapshot = app.catalog.snapshot();
    if snapshot.version == 0 { Err(Problem::Unavailable.into()) } else { Ok(snapshot) }
}

/// A page of products.
///
/// # Errors
/// A query that is out of range.
pub async fn list_products(app: &App, snapshot: &Arc<Snapshot>, query: &str) -> Result<Bytes, ApiError> {
    // The edge asks in this spelling, so that most queries need not be read at all.
    if query.starts_with(LIST)
        && let Some(body) = snapshot.pages.body(query, &snapshot.levels)
    {
        return Ok(body);
    }
    let query = ProductQuery::parse(query).map_err(ApiError::fields)?;
    page(snapshot, &query.canonical(), list_page(app, snapshot.clone(), query.clone())).await
}

async fn list_page(app: &App, snapshot: Arc<Snapshot>, query: ProductQuery) -> Result<Page, ApiError> {
    if query.keyword.is_none() {
        return Ok(write_list(&snapshot, &query)?);
    }
    // A word takes a large shop milliseconds: away from the threads that answer, and no more at a time than there are
    // processors.
    let turn = app.catalog.searches.clone().acquire_owned().await.map_err(internal)?;
    let search = tokio::task::spawn_blocking(move || {
        let page = write_list(&snapshot, &query);
        drop(turn);
        page
    });
    Ok(search.await.map_err(internal)??)
}

fn write_list(snapshot: &Snapshot, query: &ProductQuery) -> Result<Page, PageError> {
    let (rows, total) = snapshot.page(query);
    let list = rows.iter().filter_map(|row| snapshot.summary(*row)).collect();
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    let list = ListPage { list, total, page: query.paging.page, size: query.paging.size };
    Page::new(&Reply::new(SUCCESS, list), rows.into_iter().map(|row| snapshot.skus_of(row)).collect())
}

/// One product.
///
/// # Errors
/// [`Problem::ProductNotFound`] when it is not on sale.
pub async fn product(snapshot: &Snapshot, id: ProductId) -> Result<Bytes, ApiError> {
    // Looked up first: what does not exist takes no room among the pages.
    let row = snapshot.row_of(id).ok_or(Problem::ProductNotFound)?;
    let detail = async {
        let detail = snapshot.detail(row).ok_or(Problem::ProductNotFound)?;
        let skus = snapshot.skus_of(row);
        let counted = std::iter::once(skus.clone()).chain(skus.map(|sku| sku..sku + 1)).collect();
        Ok(Page::new(&Reply::new(SUCCESS, detail), counted)?)
    };
    page(snapshot, &format!("/{id}"), detail).await
}

/// The categories, in the shopkeeper's order.
///
/// # Errors
/// None that is known of: the reply cannot be written.
pub async fn categories(snapshot: &Snapshot) -> Result<Bytes, ApiError> {
    let categories = async { Ok(Page::new(&Reply::new(SUCCESS, &snapshot.categories), Vec::new())?) };
    page(snapshot, CATEGORIES, categories).await
}

/// The shop's first page.
///
/// # Errors
/// None that is known of: the reply cannot be written.
pub async fn home(snapshot: &Snapshot) -> Result<Bytes, ApiError> {
    let home = async {
        let (home, rows) = snapshot.home();
        Ok(Page::new(
            &Reply::new(SUCCESS, home),
            rows.into_iter().map(|row| snapshot.skus_of(row)).collect(),
        )?)
    };
    page(snapshot, HOME, home).await
}

async fn page(
    snapshot: &Snapshot,
    key: &str,
    make: impl Future<Output = Result<Page, ApiError>>,
) -> Result<Bytes, ApiError> {
    match snapshot.pages.body(key, &snapshot.levels) {
        Some(body) => Ok(body),
        None => snapshot.pages.body_or_make(key, &snapshot.levels, make).await,
    }
}

/// What can be ordered of some SKUs now, in the order of their ids or of their products'; what is not on sale is left
/// out.
///
/// # Errors
/// A query that is out of range.
pub fn stock(snapshot: &Snapshot, query: &str) -> Result<Bytes, ApiError> {
    let query = StockQuery::parse(query).map_err(ApiError::fields)?;
    let reply = serde_json::to_vec(&Reply::new(SUCCESS, snapshot.stock(&query))).map_err(internal)?;
    Ok(reply.into())
}

impl From<PageError> for ApiError {
    fn from(error: PageError) -> ApiError {
        internal(error)
    }
}

fn internal(error: impl Into<anyhow::Error>) -> ApiError {
    ApiError::caused(Problem::Internal, error)
}

/// The lines that an order most likely will have, as far as the snapshot knows: a hint, for asking whether they are sold
/// out.
pub fn likely_lines(app: &App, wanted: &Wanted) -> Vec<Line> {
    match wanted {
        Wanted::Product(product, quantity) => {
            let sku = app.catalog.snapshot().default_offer(*product);
            sku.map(|sku| Line { sku_id: sku.sku_id, quantity: quantity.get() }).into_iter().collect()
        }
        Wanted::Skus(lines) => {
            lines.iter().map(|line| Line { sku_id: line.sku_id, quantity: line.quantity.get() }).collect()
        }
    }
}

/// Whether equal words have always meant the same SKUs: a product is ordered by its default SKU, and its keeper may have made
/// another one that.
pub fn is_lasting(app: &App, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Product(product, _) => app.catalog.snapshot().has_one_sku(*product),
        Wanted::Skus(_) => true,
    }
}
