//! `farmgate-origin seed`: loads the demo shop (`origin/demo/`). Running it again brings names, prices and pictures back
//! and leaves stock and orders alone.

use anyhow::Context;
use farmgate_shared::ids::SkuId;
use farmgate_shared::money::Fen;
use serde::Deserialize;
use sqlx::MySqlConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::catalog::{self, CategoryRow, ProductRow, SkuRow};
use crate::coupons::{IssueRow, TermsRow, upsert_issue};
use crate::db::{Db, TransactionError};
use crate::stock::{self, Line};

const SHOP: &str = include_str!("../demo/shop.json");

#[derive(Deserialize)]
struct Shop {
    categories: Vec<Category>,
    products: Vec<Product>,
    coupons: Vec<Coupon>,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
    icon: String,
    sort_order: i32,
}

#[derive(Deserialize)]
struct Product {
    id: i64,
    name: String,
    category_id: i64,
    description: String,
    price: String,
    original_price: Option<String>,
    brand: String,
    origin: String,
    weight_grams: i64,
    unit: String,
    images: Vec<String>,
    tags: Vec<String>,
    sort_order: i32,
    specifications: String,
    skus: Vec<Sku>,
}

#[derive(Deserialize)]
struct Sku {
    id: i64,
    specifications: String,
    price: String,
    original_price: Option<String>,
    weight_grams: i64,
    stock: u32,
}

/// One that is given out until `claim_until` and good for `valid_days` from its claim.
#[derive(Deserialize)]
struct Coupon {
    id: i64,
    name: String,
    kind: String,
    amount_off: Option<String>,
    percent_off: Option<i64>,
    max_discount: Option<String>,
    threshold: String,
    scope: String,
    scope_id: Option<i64>,
    issued: u32,
    per_user: u32,
    #[serde(with = "time::serde::rfc3339")]
    claim_from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    claim_until: OffsetDateTime,
    valid_days: u32,
}

/// How much was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    pub categories: usize,
    pub products: usize,
    pub skus: usize,
    pub coupons: usize,
}

/// Loads the demo shop in one transaction.
///
/// # Errors
/// When the file is malformed or MySQL refuses.
pub async fn run(db: &Db) -> anyhow::Result<Loaded> {
    // Read before the transaction, which may run twice.
    let shop: Shop = serde_json::from_str(SHOP).context("origin/demo/shop.json")?;
    let rows = shop.products.iter().map(rows_of).collect::<anyhow::Result<Vec<_>>>()?;
    let coupons = shop.coupons.iter().map(coupon_of).collect::<anyhow::Result<Vec<_>>>()?;
    let loaded = Loaded {
        categories: shop.categories.len(),
        products: rows.len(),
        skus: rows.iter().map(|product| product.skus.len()).sum(),
        coupons: coupons.len(),
    };
    let work = std::sync::Arc::new((shop.categories, rows, coupons));
    db.long_transaction("seed", move |connection| {
        let work = work.clone();
        Box::pin(async move { write(connection, &work.0, &work.1, &work.2).await })
    })
    .await
    .map_err(TransactionError::<sqlx::Error>::flatten)
    .context("loading the demo shop")?;
    Ok(loaded)
}

struct Rows {
    product: ProductRow,
    price: Fen,
    original_price: Option<Fen>,
    weight_grams: i64,
    skus: Vec<(SkuRow, u32)>,
}

fn rows_of(product: &Product) -> anyhow::Result<Rows> {
    let fen =
        |text: &str| Fen::parse_yuan(text).with_context(|| format!("the price {text} of {}", product.name));
    let optional_fen = |text: &Option<String>| text.as_deref().map(fen).transpose();
    let skus = product
        .skus
        .iter()
        .zip(0..)
        .map(|(sku, sort_order)| {
            let row = SkuRow {
                id: sku.id,
                product_id: product.id,
                specifications: sku.specifications.clone(),
                price_fen: fen(&sku.price)?.0,
                original_price_fen: optional_fen(&sku.original_price)?.map(|price| price.0),
                weight_grams: Some(sku.weight_grams),
                sort_order,
            };
            Ok((row, sku.stock))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Rows {
        product: ProductRow {
            id: product.id,
            name: product.name.clone(),
            description: product.description.clone(),
            category_id: product.category_id,
            brand: product.brand.clone(),
            origin: product.origin.clone(),
            unit: product.unit.clone(),
            images: Json(product.images.clone()),
            tags: Json(product.tags.clone()),
            specifications: product.specifications.clone(),
            sort_order: product.sort_order,
        },
        price: fen(&product.price)?,
        original_price: optional_fen(&product.original_price)?,
        weight_grams: product.weight_grams,
        skus,
    })
}

fn coupon_of(coupon: &Coupon) -> anyhow::Result<IssueRow> {
    let fen = |text: &str| {
        let amount = Fen::parse_yuan(text).with_context(|| format!("the amount {text} of {}", coupon.name));
        amount.map(|amount| amount.0)
    };
    let amount_off = coupon.amount_off.as_deref().map(fen).transpose()?;
    let reduction = amount_off.or(coupon.percent_off);
    Ok(IssueRow {
        id: coupon.id,
        terms: TermsRow {
            name: coupon.name.clone(),
            kind: coupon.kind.clone(),
            reduction: reduction.with_context(|| format!("{} takes nothing off", coupon.name))?,
            cap_fen: coupon.max_discount.as_deref().map(fen).transpose()?,
            threshold_fen: fen(&coupon.threshold)?,
            scope: coupon.scope.clone(),
            scope_id: coupon.scope_id,
        },
        issued: coupon.issued,
        claimed: 0,
        per_user: coupon.per_user,
        claim_from: coupon.claim_from,
        claim_until: coupon.claim_until,
        valid_from: None,
        valid_until: None,
        valid_days: Some(coupon.valid_days),
    })
}

async fn write(
    connection: &mut MySqlConnection,
    categories: &[Category],
    products: &[Rows],
    coupons: &[IssueRow],
) -> Result<(), sqlx::Error> {
    for category in categories {
        let row = CategoryRow {
            id: category.id,
            name: category.name.clone(),
            icon: category.icon.clone(),
            sort_order: category.sort_order,
        };
        catalog::upsert_category(connection, &row).await?;
    }
    for rows in products {
        let original = rows.original_price.map(|price| price.0);
        catalog::upsert_product(connection, &rows.product, rows.price.0, original, Some(rows.weight_grams))
            .await?;
        for (sku, quantity) in &rows.skus {
            catalog::upsert_sku(connection, sku).await?;
            stock::service::create(connection, Line { sku_id: SkuId(sku.id), quantity: *quantity }).await?;
        }
    }
    for coupon in coupons {
        upsert_issue(connection, coupon).await?;
    }
    catalog::raise_version(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_shop_is_a_whole_shop() {
        let shop: Shop = serde_json::from_str(SHOP).unwrap();
        assert!(shop.categories.len() >= 6 && shop.products.len() >= 40);
        let apple = rows_of(&shop.products[0]).unwrap();
        assert_eq!((apple.product.name.as_str(), apple.price), ("红富士苹果", Fen(1580)));
        assert!(shop.coupons.len() >= 2);
        for coupon in &shop.coupons {
            let row = coupon_of(coupon).unwrap();
            let known = match row.terms.scope.as_str() {
                "shop" => row.terms.scope_id.is_none(),
                "category" => shop.categories.iter().any(|category| Some(category.id) == row.terms.scope_id),
                _ => shop.products.iter().any(|product| Some(product.id) == row.terms.scope_id),
            };
            assert!(known, "{}", coupon.name);
        }
        for product in &shop.products {
            let rows = rows_of(product).unwrap();
            assert!(!rows.skus.is_empty() && !product.images.is_empty(), "{}", product.name);
            let lowest = rows.skus.iter().map(|(sku, _)| sku.price_fen).min();
            assert_eq!(lowest, Some(rows.price.0), "{}", product.name);
            for image in &product.images {
                let file = image.strip_prefix("/static/demo/").unwrap();
                assert!(crate::pictures::Pictures::get(file).is_some(), "{file}");
            }
        }
    }
}
