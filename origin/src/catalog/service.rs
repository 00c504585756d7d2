//! Use cases of the catalogue.

use std::collections::HashMap;
use std::sync::Arc;

use farmgate_shared::api::Page;
use farmgate_shared::api::catalog::{
    Category, ProductDetail, ProductQuery, ProductSummary, Sku, SkuStock, StockQuery,
};
use farmgate_shared::api::orders::Wanted;
use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::Problem;

use super::model::{Snapshot, sku_ids};
use super::store::{self, CategoryRow, ProductRow, SkuRow};
use crate::app::App;
use crate::error::ApiError;
use crate::stock::{self, Line};

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
/// When MySQL is away.
pub async fn list_products(
    app: &App,
    snapshot: &Snapshot,
    query: &ProductQuery,
) -> Result<Page<ProductSummary>, ApiError> {
    let (products, total) = snapshot.page(query);
    let stock = stock::service::available(app, &sku_ids(products.iter().copied())).await?;
    let list = products
        .into_iter()
        .map(|product| ProductSummary {
            id: product.id,
            name: product.name.clone(),
            price: product.price,
            original_price: product.original_price,
            images: product.images.clone(),
            stock: total_stock(product, &stock),
            category_id: product.category_id,
            unit: product.unit.clone(),
            origin: product.origin.clone(),
            tags: product.tags.clone(),
        })
        .collect();
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    Ok(Page { list, total, page: query.paging.page, size: query.paging.size })
}

/// One product, or `None` when it is not on sale.
///
/// # Errors
/// When MySQL is away.
pub async fn product(
    app: &App,
    snapshot: &Snapshot,
    id: ProductId,
) -> Result<Option<ProductDetail>, ApiError> {
    let Some(product) = snapshot.product(id) else { return Ok(None) };
    let stock = stock::service::available(app, &sku_ids([product])).await?;
    let mut product = product.clone();
    product.stock = total_stock(&product, &stock);
    for sku in &mut product.skus {
        sku.stock = stock.get(&sku.id).copied().unwrap_or(0);
    }
    Ok(Some(product))
}

fn total_stock(product: &ProductDetail, stock: &HashMap<SkuId, i64>) -> i64 {
    product.skus.iter().filter_map(|sku| stock.get(&sku.id)).sum()
}

/// What can be ordered of some SKUs now, in the order of their ids or of their products'; unknown ids are left out.
///
/// # Errors
/// When MySQL is away.
pub async fn stock(app: &App, snapshot: &Snapshot, query: &StockQuery) -> Result<Vec<SkuStock>, ApiError> {
    let skus: Vec<(SkuId, ProductId)> = match query {
        StockQuery::Skus(ids) => {
            ids.iter().filter_map(|id| snapshot.product_of(*id).map(|product| (*id, product.id))).collect()
        }
        StockQuery::Products(ids) => ids
            .iter()
            .filter_map(|id| snapshot.product(*id))
            .flat_map(|product| product.skus.iter().map(|sku| (sku.id, product.id)))
            .collect(),
    };
    let ids: Vec<SkuId> = skus.iter().map(|(sku, _)| *sku).collect();
    let stock = stock::service::available(app, &ids).await?;
    let entry = |(sku_id, product_id): (SkuId, ProductId)| SkuStock {
        sku_id,
        product_id,
        stock: stock.get(&sku_id).copied().unwrap_or(0),
    };
    Ok(skus.into_iter().map(entry).collect())
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

/// Loads a new snapshot if the catalogue's version is not the one at hand; says whether it did.
///
/// # Errors
/// When MySQL is away; the old snapshot stays.
pub async fn refresh(app: &App) -> Result<bool, sqlx::Error> {
    let pool = app.db.pool();
    let version = store::version(pool).await?;
    if version == app.catalog.snapshot().version {
        return Ok(false);
    }
    // The version is read before the rows: an edit in between is loaded twice, never missed.
    let (categories, products, skus) =
        (store::categories(pool).await?, store::products(pool).await?, store::skus(pool).await?);
    app.catalog.replace(assemble(version, categories, products, skus, &app.config.http.public_url));
    Ok(true)
}

fn assemble(
    version: i64,
    categories: Vec<CategoryRow>,
    products: Vec<ProductRow>,
    skus: Vec<SkuRow>,
    public_url: &str,
) -> Snapshot {
    let mut skus_of: HashMap<i64, Vec<Sku>> = HashMap::new();
    for row in skus {
        skus_of.entry(row.product_id).or_default().push(Sku {
            id: SkuId(row.id),
            specifications: row.specifications,
            price: Fen(row.price_fen),
            original_price: row.original_price_fen.map(Fen),
            weight_grams: row.weight_grams,
            stock: 0,
        });
    }
    let products: Vec<(ProductDetail, Arc<str>)> = products
        .into_iter()
        .filter_map(|row| {
            // A product whose SKUs are all off sale cannot be bought, so it is not shown.
            let skus = skus_of.remove(&row.id)?;
            let cheapest = skus.iter().min_by_key(|sku| sku.price)?;
            let image = row.images.0.first().map_or("", String::as_str).into();
            let product = ProductDetail {
                id: ProductId(row.id),
                name: row.name,
                description: row.description,
                price: cheapest.price,
                original_price: cheapest.original_price,
                images: row.images.0.iter().map(|image| absolute(image, public_url)).collect(),
                specifications: row.specifications,
                stock: 0,
                category_id: CategoryId(row.category_id),
                brand: row.brand,
                origin: row.origin,
                unit: row.unit,
                weight_grams: cheapest.weight_grams,
                tags: row.tags.0,
                skus,
            };
            Some((product, image))
        })
        .collect();
    let mut counts: HashMap<CategoryId, u64> = HashMap::new();
    for (product, _) in &products {
        *counts.entry(product.category_id).or_default() += 1;
    }
    let categories = categories
        .into_iter()
        .map(|row| Category {
            id: CategoryId(row.id),
            name: row.name,
            icon: absolute(&row.icon, public_url),
            product_count: counts.get(&CategoryId(row.id)).copied().unwrap_or(0),
        })
        .collect();
    Snapshot::new(version, categories, products)
}

/// A picture's address as a phone can load it: the shop's own pictures are stored as paths.
pub fn absolute(image: &str, public_url: &str) -> String {
    if image.starts_with('/') {
        format!("{}{image}", public_url.trim_end_matches('/'))
    } else {
        image.to_owned()
    }
}
