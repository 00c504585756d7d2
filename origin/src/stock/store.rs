//! SQL of `stock`, `stock_movements` and `gate_epoch`.

use std::collections::HashSet;

use farmgate_shared::ids::{SkuId, UserId};
use sqlx::{MySqlConnection, MySqlPool, QueryBuilder};
use time::OffsetDateTime;

use super::Line;
use super::model::{Change, Shift};
use crate::db::push_list;
use crate::db::script::{RowId, Said, Script};
use crate::db::sql::Sql;

pub async fn available(pool: &MySqlPool, skus: &[SkuId]) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT sku_id, CAST(available AS SIGNED) FROM stock WHERE sku_id IN ");
    push_list(&mut query, skus.iter().map(|sku| sku.0));
    query.build_query_as().fetch_all(pool).await
}

/// What is available of each SKU, and which of the orders exist, at one moment: one statement has one view.
pub async fn available_and_made(
    pool: &MySqlPool,
    skus: &[SkuId],
    orders: &[String],
) -> Result<(Vec<(i64, i64)>, HashSet<String>), sqlx::Error> {
    let mut query =
        QueryBuilder::new("SELECT sku_id, CAST(available AS SIGNED), '' FROM stock WHERE sku_id IN ");
    push_list(&mut query, skus.iter().map(|sku| sku.0));
    if !orders.is_empty() {
        query.push(" UNION ALL SELECT 0, 0, order_no FROM orders WHERE order_no IN ");
        push_list(&mut query, orders.iter().cloned());
    }
    let rows: Vec<(i64, i64, String)> = query.build_query_as().fetch_all(pool).await?;
    let mut available = Vec::with_capacity(skus.len());
    let mut made = HashSet::new();
    for (sku, level, order_no) in rows {
        if order_no.is_empty() {
            available.push((sku, level));
        } else {
            made.insert(order_no);
        }
    }
    Ok((available, made))
}

pub async fn all_available(pool: &MySqlPool) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as("SELECT sku_id, CAST(available AS SIGNED) FROM stock").fetch_all(pool).await
}

/// Whose orders of a SKU moved since a moment; `None` when that takes reading more than `most` movements.
pub async fn buyers(
    pool: &MySqlPool,
    sku: SkuId,
    since: OffsetDateTime,
    most: u32,
) -> Result<Option<HashSet<UserId>>, sqlx::Error> {
    // The goods' first stock has no order.
    let rows: Vec<(i64, OffsetDateTime)> = sqlx::query_as(
        "SELECT o.user_id, m.created_at FROM (SELECT id, order_id, created_at FROM stock_movements WHERE sku_id = ? \
         AND order_id IS NOT NULL ORDER BY id DESC LIMIT ?) m JOIN orders o ON o.id = m.order_id ORDER BY m.id DESC",
    )
    .bind(sku.0)
    .bind(most)
    .fetch_all(pool)
    .await?;
    // A movement never comes before its order, which may be much older: a return's is.
    let is_cut = rows.len() >= most as usize && rows.last().is_some_and(|(_, moved)| *moved > since);
    let recent = rows.into_iter().filter(|(_, moved)| *moved > since);
    Ok((!is_cut).then(|| recent.map(|(user, _)| UserId(user)).collect()))
}

/// Takes from what is available of several SKUs, in SKU order, where there is as much. The others are left as they were,
/// and the count of rows tells.
pub fn hold_all(script: &mut Script, lines: &[Line]) {
    let quantities = |sql: &mut Sql<'_>| {
        sql.sql("CASE sku_id");
        for line in lines {
            sql.sql(" WHEN ").int(line.sku_id.0).sql(" THEN ").int(line.quantity);
        }
        sql.sql(" END");
    };
    script.statement(|sql| {
        sql.sql("UPDATE stock SET available = available - ");
        quantities(sql);
        sql.sql(", held = held + ");
        quantities(sql);
        sql.sql(" WHERE sku_id IN ").list(lines, |sql, line| {
            sql.int(line.sku_id.0);
        });
        sql.sql(" AND available >= ");
        quantities(sql);
        sql.sql(" ORDER BY sku_id");
    });
}

/// I1: moves a line's quantity between the columns of its row where the one that it leaves has as much: a condition.
pub fn shift(script: &mut Script, line: Line, shift: Shift) -> Said {
    let Change { available, held, sold } = shift.of(line.quantity);
    let moved = [("available", available), ("held", held), ("sold", sold)];
    script.statement(|sql| {
        sql.sql("UPDATE stock SET ");
        for (place, (column, change)) in moved.into_iter().filter(|(_, change)| *change != 0).enumerate() {
            sql.sql(if place == 0 { "" } else { ", " }).sql(column).sql(" = ").sql(column);
            sql.sql(if change < 0 { " - " } else { " + " }).int(line.quantity);
        }
        sql.sql(" WHERE sku_id = ").int(line.sku_id.0);
        for (column, _) in moved.into_iter().filter(|(_, change)| *change < 0) {
            sql.sql(" AND ").sql(column).sql(" >= ").int(line.quantity);
        }
    });
    script.require_changed(1)
}

/// New stock of a SKU that has none recorded yet; false when it has.
pub async fn create(connection: &mut MySqlConnection, line: Line) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("INSERT IGNORE INTO stock (sku_id, total, available) VALUES (?, ?, ?)")
        .bind(line.sku_id.0)
        .bind(line.quantity)
        .bind(line.quantity)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The change of one row of `stock`, and why.
#[derive(Clone, Copy, Debug)]
pub struct Movement {
    pub line: Line,
    pub order: Option<RowId>,
    pub reason: &'static str,
    pub change: Change,
}

pub fn record(script: &mut Script, movements: &[Movement]) {
    let opening = "INSERT INTO stock_movements (sku_id, order_id, reason, available_change, held_change, sold_change) VALUES";
    script.insert(opening, movements, |row, movement| {
        row.int(movement.line.sku_id.0).sql(",");
        match movement.order {
            Some(order) => row.id(order),
            None => row.sql("NULL"),
        };
        row.sql(",").text(movement.reason).sql(",").int(movement.change.available);
        row.sql(",").int(movement.change.held).sql(",").int(movement.change.sold);
    });
}

/// Brings the seed's `products.stock` column to the sum over SKUs, without touching `updated_at`. A join would lock every row of
/// `stock` until its end; subqueries of an UPDATE of one table are plain reads.
pub async fn mirror_into_products(pool: &MySqlPool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE products p SET p.updated_at = p.updated_at, p.stock = (SELECT COALESCE(SUM(k.available), 0) \
         FROM product_skus s JOIN stock k ON k.sku_id = s.id WHERE s.product_id = p.id) \
         WHERE p.stock <> (SELECT SUM(k.available) FROM product_skus s JOIN stock k ON k.sku_id = s.id \
         WHERE s.product_id = p.id)",
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

pub async fn gate_epoch(pool: &MySqlPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT epoch FROM gate_epoch WHERE id = 1").fetch_one(pool).await
}

pub async fn raise_gate_epoch(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE gate_epoch SET epoch = epoch + 1 WHERE id = 1").execute(pool).await?;
    Ok(())
}
