//! SQL of `idempotency_keys`.

use farmgate_shared::ids::UserId;
use sqlx::{FromRow, MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::ReplyWithId;
use crate::db::script::{Said, Script};
use crate::db::sql::Sql;

/// A row and its key.
#[derive(Debug, FromRow)]
pub struct FoundKey {
    pub user_id: i64,
    pub idempotency_key: String,
    #[sqlx(flatten)]
    pub row: KeyRow,
}

#[derive(Clone, Debug, FromRow)]
pub struct KeyRow {
    pub body_hash: Vec<u8>,
    pub reply: Option<String>,
    /// Microseconds since the row was written, by MySQL's clock.
    pub age_us: i64,
}

/// That, in SQL.
macro_rules! age_us {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(3)) AS age_us"
    };
}

/// The rows of some keys, each with its user and key. Spelt with OR, which MariaDB too answers from the primary key.
pub fn find_all(script: &mut Script, keys: &[(UserId, String)]) -> Said {
    script.statement(|sql| {
        sql.sql(concat!(
            "SELECT user_id, idempotency_key, body_hash, reply, ",
            age_us!(),
            " FROM idempotency_keys WHERE FALSE"
        ));
        for (user, key) in keys {
            sql.sql(" OR (user_id = ").int(user.0).sql(" AND idempotency_key = ").text(key).sql(")");
        }
    })
}

/// Takes a key for this transaction: its row is made where there is none, and is this transaction's alone either way. A plain
/// INSERT would share the row of an earlier one with all who wait for it, and they would kill each other for more.
pub async fn take(
    connection: &mut MySqlConnection,
    user: UserId,
    key: &str,
    body_hash: &[u8],
) -> Result<KeyRow, sqlx::Error> {
    sqlx::query(
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, created_at) \
         VALUES (?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE user_id = user_id",
    )
    .bind(user.0)
    .bind(key)
    .bind(body_hash)
    .execute(&mut *connection)
    .await?;
    sqlx::query_as(concat!(
        "SELECT body_hash, reply, ",
        age_us!(),
        " FROM idempotency_keys WHERE user_id = ? AND idempotency_key = ?"
    ))
    .bind(user.0)
    .bind(key)
    .fetch_one(connection)
    .await
}

/// A key whose write is done.
#[derive(Debug)]
pub struct NewKey<'a> {
    pub user: UserId,
    pub key: &'a str,
    pub body_hash: &'a [u8],
    pub reply: &'a ReplyWithId,
}

pub fn insert_all<'a>(script: &mut Script, keys: impl IntoIterator<Item = NewKey<'a>>) {
    let opening =
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, reply, created_at) VALUES";
    script.insert(opening, keys, |row, key| {
        row.int(key.user.0).sql(",").text(key.key).sql(",").bytes(key.body_hash);
        row.sql(",");
        reply_with_id(row, key.reply);
        row.sql(",UTC_TIMESTAMP(3)");
    });
}

pub fn set_reply_with_id(script: &mut Script, user: UserId, key: &str, reply: &ReplyWithId) {
    script.statement(|sql| {
        sql.sql("UPDATE idempotency_keys SET reply = ");
        reply_with_id(sql, reply);
        sql.sql(" WHERE user_id = ").int(user.0).sql(" AND idempotency_key = ").text(key);
    });
}

fn reply_with_id(sql: &mut Sql<'_>, reply: &ReplyWithId) {
    let ReplyWithId { before, id, after } = reply;
    sql.sql("CONCAT(").text(before).sql(",").id(*id).sql(",").text(after).sql(")");
}

pub async fn renew(connection: &mut MySqlConnection, user: UserId, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE idempotency_keys SET created_at = UTC_TIMESTAMP(3), reply = NULL \
         WHERE user_id = ? AND idempotency_key = ?",
    )
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
