//! SQL of `reviews`.

use farmgate_shared::api::Paging;
use farmgate_shared::ids::{OrderId, ProductId, UserId};
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::model::Status;

#[derive(Clone, Debug, FromRow)]
pub struct ReviewRow {
    pub id: i64,
    pub order_id: i64,
    pub sku_id: i64,
    pub product_id: i64,
    pub user_id: i64,
    pub specifications: String,
    pub rating: u8,
    pub content: String,
    pub images: Json<Vec<String>>,
    pub is_anonymous: bool,
    pub status: u8,
    pub created_at: OffsetDateTime,
}

macro_rules! columns {
    () => {
        "r.id, r.order_id, r.sku_id, r.product_id, r.user_id, r.specifications, \
         CAST(r.rating AS UNSIGNED) AS rating, r.content, r.images, r.is_anonymous, \
         CAST(r.status AS UNSIGNED) AS status, r.created_at"
    };
}

/// Its `id` is made here; a line that has a review already is a duplicate key.
pub async fn insert(connection: &mut MySqlConnection, review: &ReviewRow) -> Result<i64, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO reviews (order_id, sku_id, product_id, user_id, specifications, rating, content, images, \
         is_anonymous, status, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(review.order_id)
    .bind(review.sku_id)
    .bind(review.product_id)
    .bind(review.user_id)
    .bind(&review.specifications)
    .bind(review.rating)
    .bind(&review.content)
    .bind(&review.images)
    .bind(review.is_anonymous)
    .bind(review.status)
    .bind(review.created_at)
    .execute(connection)
    .await?;
    i64::try_from(done.last_insert_id()).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The shopper's reviews of an order.
pub async fn of_order(pool: &MySqlPool, user: UserId, order: OrderId) -> Result<Vec<ReviewRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM reviews r WHERE r.order_id = ? AND r.user_id = ? ORDER BY r.id"
    ))
    .bind(order.0)
    .bind(user.0)
    .fetch_all(pool)
    .await
}

/// The reviews of an order that wait for WeChat's opinion.
pub async fn in_check(pool: &MySqlPool, order: OrderId) -> Result<Vec<ReviewRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM reviews r WHERE r.order_id = ? AND r.status = 0 ORDER BY r.id"
    ))
    .bind(order.0)
    .fetch_all(pool)
    .await
}

pub async fn count_shown(pool: &MySqlPool, product: ProductId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COUNT(*) FROM reviews WHERE product_id = ? AND status = 1")
        .bind(product.0)
        .fetch_one(pool)
        .await
}

/// The newest first. The page is found in the index alone, and only its rows are read.
pub async fn list_shown(
    pool: &MySqlPool,
    product: ProductId,
    paging: Paging,
) -> Result<Vec<ReviewRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT id FROM reviews WHERE product_id = ? AND status = 1 ORDER BY id DESC LIMIT ? OFFSET ?) page \
         JOIN reviews r ON r.id = page.id ORDER BY r.id DESC"
    ))
    .bind(product.0)
    .bind(paging.size)
    .bind(paging.offset())
    .fetch_all(pool)
    .await
}

/// The oldest first, as they are to be decided.
pub async fn list_by_status(
    pool: &MySqlPool,
    status: Status,
    most: u32,
) -> Result<Vec<ReviewRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", columns!(), " FROM reviews r WHERE r.status = ? ORDER BY r.id LIMIT ?"))
        .bind(status.number())
        .bind(most)
        .fetch_all(pool)
        .await
}

pub async fn find(pool: &MySqlPool, id: i64) -> Result<Option<ReviewRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", columns!(), " FROM reviews r WHERE r.id = ?"))
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// WeChat's opinion, where no person was faster.
pub async fn settle(pool: &MySqlPool, id: i64, status: Status) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reviews SET status = ? WHERE id = ? AND status = 0")
        .bind(status.number())
        .bind(id)
        .execute(pool)
        .await?;
    Ok(())
}

/// A person's word; whether there is such a review.
pub async fn decide(pool: &MySqlPool, id: i64, status: Status) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE reviews SET status = ? WHERE id = ?")
        .bind(status.number())
        .bind(id)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
