//! SQL of `idempotency_keys`.

use farmgate_shared::ids::UserId;
use sqlx::{FromRow, MySqlConnection, MySqlPool};
use time::OffsetDateTime;

#[derive(Debug, FromRow)]
pub struct KeyRow {
    pub body_hash: Vec<u8>,
    pub reply: Option<String>,
    pub created_at: OffsetDateTime,
}

pub async fn find(pool: &MySqlPool, user: UserId, key: &str) -> Result<Option<KeyRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT body_hash, reply, created_at FROM idempotency_keys WHERE user_id = ? AND idempotency_key = ?",
    )
    .bind(user.0)
    .bind(key)
    .fetch_optional(pool)
    .await
}

pub async fn lock(connection: &mut MySqlConnection, user: UserId, key: &str) -> Result<KeyRow, sqlx::Error> {
    sqlx::query_as(
        "SELECT body_hash, reply, created_at FROM idempotency_keys \
         WHERE user_id = ? AND idempotency_key = ? FOR UPDATE",
    )
    .bind(user.0)
    .bind(key)
    .fetch_one(connection)
    .await
}

pub async fn insert(
    connection: &mut MySqlConnection,
    user: UserId,
    key: &str,
    body_hash: &[u8],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, created_at) VALUES (?, ?, ?, ?)",
    )
    .bind(user.0)
    .bind(key)
    .bind(body_hash)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn renew(
    connection: &mut MySqlConnection,
    user: UserId,
    key: &str,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE idempotency_keys SET created_at = ?, reply = NULL WHERE user_id = ? AND idempotency_key = ?",
    )
    .bind(now)
    .bind(user.0)
    .bind(key)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn set_reply(
    connection: &mut MySqlConnection,
    user: UserId,
    key: &str,
    reply: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE idempotency_keys SET reply = ? WHERE user_id = ? AND idempotency_key = ?")
        .bind(reply)
        .bind(user.0)
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn delete_older(pool: &MySqlPool, than: OffsetDateTime, most: u32) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM idempotency_keys WHERE created_at < ? ORDER BY created_at LIMIT ?")
        .bind(than)
        .bind(most)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
