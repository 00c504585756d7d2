//! A catalogue of any size in the origin's schema, and the same in the seed's table: for the benchmarks of reading and of
//! searching. Loading is bounded: many rows a statement, nothing in the binary log.

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, QueryBuilder};

use crate::names;

/// Rows of one INSERT.
const ROWS: u64 = 2000;
/// Rows of one INSERT … SELECT, so that no transaction is as large as the catalogue.
const COPIED: u64 = 50_000;
/// Everything is in stock and nobody buys.
const STOCK: i64 = 100;
const CATEGORIES: u64 = 10;

/// Fills an empty schema of the origin's with products 1 to `count`, each with one SKU of the same id.
///
/// # Errors
/// When MySQL refuses.
pub async fn fill(url: &str, count: u64) -> Result<()> {
    let mut connection = quiet(url).await?;
    let mut query = QueryBuilder::new("INSERT INTO categories (id, name) ");
    query.push_values(1..=CATEGORIES, |mut row, id| {
        row.push_bind(id).push_bind(format!("分类 {id}"));
    });
    query.build().execute(&mut connection).await?;
    let mut next = 1;
    while next <= count {
        let end = (next + ROWS - 1).min(count);
        let mut query = QueryBuilder::new(
            "INSERT INTO products (id, name, description, price, stock, category_id, brand, origin, unit, images, \
             tags, sort_order) ",
        );
        query.push_values(next..=end, |mut row, id| {
            row.push_bind(id).push_bind(names::name(id)).push_bind("").push("15.80").push_bind(STOCK);
            row.push_bind(id % CATEGORIES + 1).push_bind("").push_bind("").push_bind("箱");
            row.push("'[\"/static/demo/1f34e.webp\"]'").push("'[]'").push_bind(names::sort_order(id));
        });
        query.build().execute(&mut connection).await?;
        next = end + 1;
    }
    in_parts(
        &mut connection,
        count,
        "INSERT INTO product_skus (id, product_id, specifications, price_fen, weight_grams) \
         SELECT id, id, '五斤装', 1580, 2500 FROM products",
    )
    .await?;
    let stock =
        format!("INSERT INTO stock (sku_id, total, available) SELECT id, {STOCK}, {STOCK} FROM products");
    in_parts(&mut connection, count, &stock).await?;
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Copies the first `count` products of the schema `from` into the seed's table of the database at `url`, and gives that
/// table the index that its list wants.
///
/// # Errors
/// When MySQL refuses.
pub async fn copy_to_seed(url: &str, from: &str, count: u64) -> Result<()> {
    let mut connection = quiet(url).await?;
    sqlx::query("DELETE FROM products").execute(&mut connection).await?;
    let copy = format!(
        "INSERT INTO products (id, name, description, price, stock, category_id, brand, origin, unit, images, tags, \
         sort_order) SELECT id, name, description, price, stock, category_id, brand, origin, unit, images, tags, \
         sort_order FROM {from}.products"
    );
    in_parts(&mut connection, count, &copy).await?;
    sqlx::query("ALTER TABLE products ADD INDEX products_shown (status, sort_order, id)")
        .execute(&mut connection)
        .await?;
    sqlx::query("ANALYZE TABLE products").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn in_parts(connection: &mut MySqlConnection, count: u64, statement: &str) -> Result<()> {
    let mut next = 1;
    while next <= count {
        let end = (next + COPIED - 1).min(count);
        let part = format!("{statement} WHERE id BETWEEN {next} AND {end}");
        sqlx::query(AssertSqlSafe(part)).execute(&mut *connection).await?;
        next = end + 1;
    }
    Ok(())
}

/// A connection whose writes are not logged for replicas; what it loads can be loaded again.
async fn quiet(url: &str) -> Result<MySqlConnection> {
    let mut connection = MySqlConnection::connect(url).await.context("MySQL")?;
    for setting in ["SET sql_log_bin = 0", "SET foreign_key_checks = 0", "SET unique_checks = 0"] {
        connection.execute(setting).await?;
    }
    Ok(connection)
}

/// Room for the largest table in memory, so that no disk decides.
///
/// # Errors
/// When MySQL refuses.
pub async fn enlarge_memory(mysql_url: &str, bytes: u64) -> Result<()> {
    let mut connection = MySqlConnection::connect(mysql_url).await?;
    let statement = format!("SET GLOBAL innodb_buffer_pool_size = {bytes}");
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}
