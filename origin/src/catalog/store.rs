//! SQL of the catalogue.

use farmgate_shared::ids::{ProductId, SkuId};
use futures_core::stream::BoxStream;
use sqlx::types::Json;
use sqlx::{Executor, FromRow, MySqlConnection, MySqlExecutor};

use crate::db::script::{Said, Script};

#[derive(Debug, FromRow)]
pub struct CategoryRow {
    pub id: i64,
    pub name: String,
    pub icon: String,
    pub sort_order: i32,
}

#[derive(Debug, FromRow)]
pub struct ProductRow {
    pub id: i64,
    pub name: String,
    pub description: String,
    pub category_id: i64,
    pub brand: String,
    pub origin: String,
    pub unit: String,
    pub images: Json<Vec<String>>,
    pub tags: Json<Vec<String>>,
    pub specifications: String,
    pub sort_order: i32,
}

#[derive(Clone, Debug, FromRow)]
pub struct SkuRow {
    pub id: i64,
    pub product_id: i64,
    pub specifications: String,
    pub price_fen: i64,
    pub original_price_fen: Option<i64>,
    pub weight_grams: Option<i64>,
    pub sort_order: i32,
}

/// A SKU as an order line needs it.
#[derive(Debug, FromRow)]
pub struct OfferRow {
    pub sku_id: i64,
    pub product_id: i64,
    pub category_id: i64,
    pub name: String,
    pub images: Json<Vec<String>>,
    pub specifications: String,
    pub price_fen: i64,
}

/// The columns of [`OfferRow`].
macro_rules! offer_columns {
    () => {
        "s.id AS sku_id, p.id AS product_id, COALESCE(p.category_id, 0) AS category_id, p.name, \
         COALESCE(p.images, JSON_ARRAY()) AS images, s.specifications, s.price_fen"
    };
}

/// From now on, and until the connection is closed, everything is read as it is now.
pub async fn begin_reading(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    Ok(())
}

pub async fn version(executor: impl MySqlExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(VERSION).fetch_one(executor).await
}

/// The same, as a part of a script.
pub fn say_version(script: &mut Script) -> Said {
    script.statement(|sql| {
        sql.sql(VERSION);
    })
}

const VERSION: &str = "SELECT version FROM catalog_version WHERE id = 1";

/// In the transaction of every edit, and last in it: readers reload once it commits. The row is one for the whole shop,
/// so edits commit one after the other, each waiting for the COMMIT of the one before and for no more; and because
/// nothing is locked after it, no two of them wait for each other in a circle over it.
pub async fn raise_version(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE catalog_version SET version = version + 1 WHERE id = 1").execute(connection).await?;
    Ok(())
}

pub async fn categories(connection: &mut MySqlConnection) -> Result<Vec<CategoryRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, name, icon, sort_order FROM categories WHERE status = 1 ORDER BY sort_order, id",
    )
    .fetch_all(connection)
    .await
}

/// What is on sale, in the shopkeeper's order.
pub fn products(connection: &mut MySqlConnection) -> BoxStream<'_, Result<ProductRow, sqlx::Error>> {
    sqlx::query_as(
        "SELECT id, name, COALESCE(description, '') AS description, COALESCE(category_id, 0) AS category_id, \
         COALESCE(brand, '') AS brand, COALESCE(origin, '') AS origin, COALESCE(unit, '') AS unit, \
         COALESCE(images, JSON_ARRAY()) AS images, COALESCE(tags, JSON_ARRAY()) AS tags, specifications, \
         COALESCE(sort_order, 0) AS sort_order FROM products WHERE status = 1 ORDER BY sort_order, id",
    )
    .fetch(connection)
}

/// On sale, the default of each product first.
pub fn skus(connection: &mut MySqlConnection) -> BoxStream<'_, Result<SkuRow, sqlx::Error>> {
    sqlx::query_as(
        "SELECT id, product_id, specifications, price_fen, original_price_fen, weight_grams, sort_order \
         FROM product_skus WHERE status = 1 ORDER BY product_id, sort_order, id",
    )
    .fetch(connection)
}

/// The first SKU on sale of each product that is on sale.
pub fn default_offers(script: &mut Script, products: &[ProductId]) -> Said {
    script.statement(|sql| {
        sql.sql(concat!(
            "SELECT ",
            offer_columns!(),
            " FROM products p JOIN product_skus s ON s.id = (SELECT k.id FROM product_skus k WHERE k.product_id = p.id \
             AND k.status = 1 ORDER BY k.sort_order, k.id LIMIT 1) WHERE p.status = 1 AND p.id IN "
        ));
        sql.list(products, |sql, product| {
            sql.int(product.0);
        });
    })
}

/// Those of the SKUs that are on sale.
pub fn offers(script: &mut Script, skus: &[SkuId]) -> Said {
    script.statement(|sql| {
        sql.sql(concat!(
            "SELECT ",
            offer_columns!(),
            " FROM product_skus s JOIN products p ON p.id = s.product_id \
             WHERE p.status = 1 AND s.status = 1 AND s.id IN "
        ));
        sql.list(skus, |sql, sku| {
            sql.int(sku.0);
        });
    })
}

pub async fn upsert_category(connection: &mut MySqlConnection, row: &CategoryRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO categories (id, name, icon, sort_order) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE name = VALUES(name), icon = VALUES(icon), sort_order = VALUES(sort_order)",
    )
    .bind(row.id)
    .bind(&row.name)
    .bind(&row.icon)
    .bind(row.sort_order)
    .execute(connection)
    .await?;
    Ok(())
}

/// `price` and `original_price` (fen) and `weight_grams` fill the seed's columns; the SKUs hold the truth.
pub async fn upsert_product(
    connection: &mut MySqlConnection,
    row: &ProductRow,
    price: i64,
    original_price: Option<i64>,
    weight_grams: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO products (id, name, description, price, original_price, category_id, brand, origin, weight, \
         unit, images, tags, specifications, sort_order) \
         VALUES (?, ?, ?, ? / 100, ? / 100, ?, ?, ?, ? / 1000, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE name = VALUES(name), description = VALUES(description), price = VALUES(price), \
         original_price = VALUES(original_price), category_id = VALUES(category_id), brand = VALUES(brand), \
         origin = VALUES(origin), weight = VALUES(weight), unit = VALUES(unit), images = VALUES(images), \
         tags = VALUES(tags), specifications = VALUES(specifications), sort_order = VALUES(sort_order)",
    )
    .bind(row.id)
    .bind(&row.name)
    .bind(&row.description)
    .bind(price)
    .bind(original_price)
    .bind(row.category_id)
    .bind(&row.brand)
    .bind(&row.origin)
    .bind(weight_grams)
    .bind(&row.unit)
    .bind(&row.images)
    .bind(&row.tags)
    .bind(&row.specifications)
    .bind(row.sort_order)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn upsert_sku(connection: &mut MySqlConnection, row: &SkuRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO product_skus (id, product_id, specifications, price_fen, original_price_fen, weight_grams, \
         sort_order) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE product_id = VALUES(product_id), specifications = VALUES(specifications), \
         price_fen = VALUES(price_fen), original_price_fen = VALUES(original_price_fen), \
         weight_grams = VALUES(weight_grams), sort_order = VALUES(sort_order)",
    )
    .bind(row.id)
    .bind(row.product_id)
    .bind(&row.specifications)
    .bind(row.price_fen)
    .bind(row.original_price_fen)
    .bind(row.weight_grams)
    .bind(row.sort_order)
    .execute(connection)
    .await?;
    Ok(())
}
