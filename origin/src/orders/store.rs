//! SQL of `orders` and `order_items`.

use std::sync::Arc;

use farmgate_shared::api::orders::OrderQuery;
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use farmgate_shared::money::Fen;
use serde_json::json;
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection, MySqlPool, QueryBuilder};
use time::OffsetDateTime;

use super::draft::Draft;
use super::model::{Status, line_amount};
use crate::catalog::offers::Offer;
use crate::db::push_list;
use crate::db::reseal::SealedRow;
use crate::db::script::{RowId, Said, Script};

/// `delivery_address`: the JSON column holds a sealed value.
#[derive(Debug, serde::Deserialize)]
pub struct SealedAddress {
    pub sealed: String,
}

#[derive(Debug, FromRow)]
pub struct OrderRow {
    pub id: i64,
    pub user_id: i64,
    pub order_no: String,
    pub status: i8,
    pub total_fen: i64,
    pub discount_fen: i64,
    pub actual_fen: i64,
    pub delivery_fee_fen: i64,
    pub delivery_address: Json<SealedAddress>,
    pub remark: String,
    pub created_at: OffsetDateTime,
    pub pay_deadline: OffsetDateTime,
    pub payment_time: Option<OffsetDateTime>,
    pub shipped_at: Option<OffsetDateTime>,
    pub completed_at: Option<OffsetDateTime>,
}

#[derive(Debug, FromRow)]
pub struct ItemRow {
    pub order_id: i64,
    pub sku_id: i64,
    pub product_id: i64,
    pub name: String,
    pub image: String,
    pub specifications: String,
    pub price_fen: i64,
    pub quantity: i32,
    pub amount_fen: i64,
}

/// The columns of [`OrderRow`].
macro_rules! order_columns {
    () => {
        "id, user_id, order_no, status, CAST(total_amount * 100 AS SIGNED) AS total_fen, \
         CAST(discount_amount * 100 AS SIGNED) AS discount_fen, \
         CAST(actual_amount * 100 AS SIGNED) AS actual_fen, \
         CAST(delivery_fee * 100 AS SIGNED) AS delivery_fee_fen, delivery_address, \
         COALESCE(remark, '') AS remark, created_at, pay_deadline, payment_time, \
         shipped_at, completed_at"
    };
}

/// Makes the orders, awaiting payment; their ids, in their order.
pub fn insert(script: &mut Script, orders: &[Arc<Draft>]) -> Vec<RowId> {
    let opening = "INSERT INTO orders (order_no, user_id, total_amount, discount_amount, actual_amount, status, \
                   delivery_address, delivery_fee, remark, created_at, pay_deadline) VALUES";
    script.insert_new(opening, orders, |row, order| {
        row.text(order.order_no.as_str()).sql(",").int(order.keyed.user().0);
        for amount in [order.sums.total, order.sums.discount, order.sums.actual] {
            row.sql(",").yuan(amount);
        }
        row.sql(",")
            .int(Status::AwaitingPayment.number())
            .sql(",")
            .text(&json!({ "sealed": order.address_sealed }).to_string());
        row.sql(",").yuan(order.sums.delivery).sql(",").text(&order.remark);
        row.sql(",").moment(order.now).sql(",").moment(order.pay_deadline);
    })
}

/// None of some numbers is buried. Waits for a sweeper that is about to bury one.
pub fn require_unburied<'a>(script: &mut Script, numbers: impl Iterator<Item = &'a OrderNo>) -> Said {
    script.require(|sql| {
        sql.sql("(SELECT COUNT(*) FROM order_tombstones WHERE order_no IN ");
        sql.list(numbers, |sql, number| {
            sql.text(number.as_str());
        });
        sql.sql(" FOR UPDATE) = 0");
    })
}

/// The row of this number, the last of its INSERT, has this id. Ids of one INSERT rise from row to row in whole steps, so the
/// rows before it then have theirs by the rule too.
pub fn require_id(script: &mut Script, order_no: &OrderNo, id: RowId) -> Said {
    script.require(|sql| {
        sql.sql("(SELECT id FROM orders WHERE order_no = ").text(order_no.as_str()).sql(") = ").id(id);
    })
}

pub fn insert_items<'a>(script: &mut Script, items: impl IntoIterator<Item = (RowId, &'a Offer, Fen)>) {
    let opening = "INSERT INTO order_items (order_id, sku_id, product_id, name, image, specifications, price_fen, \
                   quantity, amount_fen, discount_fen) VALUES";
    script.insert(opening, items, |row, (order, offer, discount)| {
        row.id(order).sql(",").int(offer.sku_id.0).sql(",").int(offer.product_id.0);
        row.sql(",").text(&offer.name).sql(",").text(&offer.image).sql(",").text(&offer.specifications);
        row.sql(",").int(offer.price.0).sql(",").int(offer.quantity.get());
        // The sums were computed from the same lines, so this one fits.
        row.sql(",").int(line_amount(offer).map_or(0, |amount| amount.0)).sql(",").int(discount.0);
    });
}

pub async fn find(pool: &MySqlPool, user: UserId, id: OrderId) -> Result<Option<OrderRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", order_columns!(), " FROM orders WHERE id = ? AND user_id = ?"))
        .bind(id.0)
        .bind(user.0)
        .fetch_optional(pool)
        .await
}

pub async fn count(pool: &MySqlPool, user: UserId, status: Option<u8>) -> Result<i64, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM orders WHERE user_id = ");
    query.push_bind(user.0);
    if let Some(status) = status {
        query.push(" AND status = ").push_bind(status);
    }
    query.build_query_scalar().fetch_one(pool).await
}

/// One page, the newest first. The ids of the page are found in the index alone before any row is read.
pub async fn list(pool: &MySqlPool, user: UserId, wanted: OrderQuery) -> Result<Vec<OrderRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(concat!(
        "SELECT ",
        order_columns!(),
        " FROM orders JOIN (SELECT id AS page_id \
         FROM orders WHERE user_id = "
    ));
    query.push_bind(user.0);
    if let Some(status) = wanted.status {
        query.push(" AND status = ").push_bind(status);
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(wanted.paging.size);
    query.push(" OFFSET ").push_bind(wanted.paging.offset());
    query.push(") page ON page.page_id = orders.id ORDER BY orders.id DESC");
    query.build_query_as().fetch_all(pool).await
}

/// The lines of some orders, in SKU order.
pub async fn items(
    pool: &MySqlPool,
    orders: impl IntoIterator<Item = OrderId>,
) -> Result<Vec<ItemRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "SELECT order_id, sku_id, product_id, name, image, specifications, price_fen, quantity, amount_fen \
         FROM order_items WHERE order_id IN ",
    );
    push_list(&mut query, orders.into_iter().map(|order| order.0));
    query.push(" ORDER BY order_id, sku_id");
    query.build_query_as().fetch_all(pool).await
}

/// SKU and quantity of an order's lines, in SKU order, within a transaction.
pub async fn lines(connection: &mut MySqlConnection, order: OrderId) -> Result<Vec<(i64, u32)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT sku_id, CAST(quantity AS UNSIGNED) FROM order_items WHERE order_id = ? ORDER BY sku_id",
    )
    .bind(order.0)
    .fetch_all(connection)
    .await
}

/// I3: leaves `from` once. False when the order is not in that state.
pub async fn change_status(
    connection: &mut MySqlConnection,
    order: OrderId,
    from: Status,
    to: Status,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE orders SET status = ? WHERE id = ? AND status = ?")
        .bind(to.number())
        .bind(order.0)
        .bind(from.number())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The state of an order, locked for this transaction.
pub async fn lock_status(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<i8>, sqlx::Error> {
    sqlx::query_scalar("SELECT status FROM orders WHERE id = ? FOR UPDATE")
        .bind(order.0)
        .fetch_optional(connection)
        .await
}

/// `payment_method` 1 is WeChat Pay.
pub async fn set_payment(
    connection: &mut MySqlConnection,
    order: OrderId,
    paid_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE orders SET payment_method = 1, payment_time = ? WHERE id = ?")
        .bind(paid_at)
        .bind(order.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Orders that were shipped at or before a moment and are still on their way, the earliest first, locked for this
/// transaction; those that somebody else is changing are passed over.
pub async fn lock_shipped_until(
    connection: &mut MySqlConnection,
    moment: OffsetDateTime,
    most: u32,
) -> Result<Vec<OrderId>, sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM orders WHERE status = ? AND shipped_at <= ? ORDER BY shipped_at LIMIT ? \
         FOR UPDATE SKIP LOCKED",
    )
    .bind(Status::Shipped.number())
    .bind(moment)
    .bind(most)
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrderId).collect())
}

pub async fn set_shipped(
    connection: &mut MySqlConnection,
    order: OrderId,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE orders SET shipped_at = ? WHERE id = ?")
        .bind(at)
        .bind(order.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// The id of an order by its number, whoever's it is.
pub async fn id_of(pool: &MySqlPool, order_no: &OrderNo) -> Result<Option<OrderId>, sqlx::Error> {
    let id: Option<i64> = sqlx::query_scalar("SELECT id FROM orders WHERE order_no = ?")
        .bind(order_no.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(id.map(OrderId))
}

/// An order, whoever's it is.
pub async fn find_any(pool: &MySqlPool, id: OrderId) -> Result<Option<OrderRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", order_columns!(), " FROM orders WHERE id = ?"))
        .bind(id.0)
        .fetch_optional(pool)
        .await
}

/// Paid orders, the oldest first: by their deadline, which is in the order in which they were made and has an index.
pub async fn paid_first(pool: &MySqlPool, most: u32) -> Result<Vec<OrderRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        order_columns!(),
        " FROM orders WHERE status = ? ORDER BY pay_deadline, id LIMIT ?"
    ))
    .bind(Status::Paid.number())
    .bind(most)
    .fetch_all(pool)
    .await
}

pub async fn set_completed(
    connection: &mut MySqlConnection,
    order: OrderId,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE orders SET completed_at = ? WHERE id = ?")
        .bind(at)
        .bind(order.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Order, product and units of what some orders bought, within a transaction.
pub async fn bought(
    connection: &mut MySqlConnection,
    orders: &[OrderId],
) -> Result<Vec<(i64, i64, i64)>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "SELECT order_id, product_id, CAST(SUM(quantity) AS SIGNED) FROM order_items WHERE order_id IN ",
    );
    push_list(&mut query, orders.iter().map(|order| order.0));
    query.push(" GROUP BY order_id, product_id");
    query.build_query_as().fetch_all(connection).await
}

/// Makes sure that a number never becomes an order.
pub async fn bury(connection: &mut MySqlConnection, order_no: &OrderNo) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO order_tombstones (order_no) VALUES (?) ON DUPLICATE KEY UPDATE order_no = order_no",
    )
    .bind(order_no.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a tombstone back in the transaction that set it: the order had been made.
pub async fn unbury(connection: &mut MySqlConnection, order_no: &OrderNo) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM order_tombstones WHERE order_no = ?")
        .bind(order_no.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// The order with this number, and whose it is. Waits for one that is about to be made.
pub async fn lock_number(
    connection: &mut MySqlConnection,
    order_no: &OrderNo,
) -> Result<Option<(OrderId, UserId)>, sqlx::Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("SELECT id, user_id FROM orders WHERE order_no = ? FOR UPDATE")
            .bind(order_no.as_str())
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(id, user)| (OrderId(id), UserId(user))))
}

/// Orders that await payment past their deadline, the oldest first.
pub async fn overdue(
    pool: &MySqlPool,
    now: OffsetDateTime,
    most: u32,
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, order_no FROM orders WHERE status = 0 AND pay_deadline < ? ORDER BY pay_deadline LIMIT ?",
    )
    .bind(now)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Id, number and status of some orders.
pub async fn names(pool: &MySqlPool, orders: &[OrderId]) -> Result<Vec<(i64, String, i8)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT id, order_no, status FROM orders WHERE id IN ");
    push_list(&mut query, orders.iter().map(|order| order.0));
    query.build_query_as().fetch_all(pool).await
}

/// Sealed delivery addresses of orders with a higher id, by their ids.
pub async fn sealed_addresses(
    pool: &MySqlPool,
    after: i64,
    most: u32,
) -> Result<Vec<SealedRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, order_no AS name, JSON_UNQUOTE(JSON_EXTRACT(delivery_address, '$.sealed')) AS sealed FROM orders \
         WHERE id > ? ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Writes the same address sealed anew; false when another one stands there.
pub async fn reseal_address(pool: &MySqlPool, old: &SealedRow, renewed: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE orders SET delivery_address = JSON_SET(delivery_address, '$.sealed', ?) \
         WHERE id = ? AND JSON_UNQUOTE(JSON_EXTRACT(delivery_address, '$.sealed')) = ?",
    )
    .bind(renewed)
    .bind(old.id)
    .bind(&old.sealed)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}
