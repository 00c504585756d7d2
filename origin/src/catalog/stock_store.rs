//! SQL of the stock that pages show. Reads only: [`crate::stock`] owns these tables.

use farmgate_shared::ids::SkuId;
use sqlx::{MySqlConnection, QueryBuilder};

use super::feed::Movement;
use crate::db::{padded, push_list};

pub async fn last_movement(connection: &mut MySqlConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM stock_movements").fetch_one(connection).await
}

/// By number.
pub async fn movements_from(
    connection: &mut MySqlConnection,
    first: i64,
    most: u32,
) -> Result<Vec<Movement>, sqlx::Error> {
    sqlx::query_as("SELECT id, sku_id FROM stock_movements WHERE id >= ? ORDER BY id LIMIT ?")
        .bind(first)
        .bind(most)
        .fetch_all(connection)
        .await
}

/// Those whose numbers lie in one of the ranges, ends included.
pub async fn movements_within(
    connection: &mut MySqlConnection,
    ranges: Vec<(i64, i64)>,
) -> Result<Vec<Movement>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT id, sku_id FROM stock_movements WHERE ");
    let mut either = query.separated(" OR ");
    for (first, last) in padded(ranges) {
        either
            .push("id BETWEEN ")
            .push_bind_unseparated(first)
            .push_unseparated(" AND ")
            .push_bind_unseparated(last);
    }
    query.build_query_as().fetch_all(connection).await
}

/// What is available of each SKU.
pub async fn levels(
    connection: &mut MySqlConnection,
    skus: &[SkuId],
) -> Result<Vec<(i64, i32)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT sku_id, available FROM stock WHERE sku_id IN ");
    push_list(&mut query, skus.iter().map(|sku| sku.0));
    query.build_query_as().fetch_all(connection).await
}

/// The same of the SKUs after this one, by id.
pub async fn levels_after(
    connection: &mut MySqlConnection,
    sku: i64,
    most: u32,
) -> Result<Vec<(i64, i32)>, sqlx::Error> {
    sqlx::query_as("SELECT sku_id, available FROM stock WHERE sku_id > ? ORDER BY sku_id LIMIT ?")
        .bind(sku)
        .bind(most)
        .fetch_all(connection)
        .await
}
