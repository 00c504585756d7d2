//! SQL of `users`.

use farmgate_shared::ids::UserId;
use sqlx::{FromRow, MySqlPool, QueryBuilder};
use time::{Date, OffsetDateTime};

use super::profile::{Edit, Profile};
use crate::db::push_list;
use crate::db::reseal::SealedRow;
use crate::db::script::{Said, Script};

/// `users.status` of an account that may log in.
pub const ACTIVE: i8 = 1;

#[derive(Debug, FromRow)]
pub struct UserRow {
    pub id: i64,
    pub openid: String,
    pub nickname: Option<String>,
    pub avatar: Option<String>,
    pub points: i32,
    pub level: i8,
    pub status: i8,
    pub token_version: u32,
    pub gender: Option<i8>,
    pub birthday: Option<Date>,
    /// Masked.
    pub phone: Option<String>,
    pub phone_sealed: Option<Vec<u8>>,
    pub created_at: OffsetDateTime,
}

impl UserRow {
    pub fn is_active(&self) -> bool {
        self.status == ACTIVE
    }
}

/// Makes the account at the first login; later ones fill in what was empty and never overwrite what the shopper chose.
pub async fn upsert(
    pool: &MySqlPool,
    openid: &str,
    unionid: Option<&str>,
    profile: &Profile,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users (openid, unionid, nickname, avatar) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE unionid = COALESCE(unionid, VALUES(unionid)), \
         nickname = COALESCE(nickname, VALUES(nickname)), avatar = COALESCE(avatar, VALUES(avatar))",
    )
    .bind(openid)
    .bind(unionid)
    .bind(&profile.nickname)
    .bind(&profile.avatar)
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn find_by_openid(pool: &MySqlPool, openid: &str) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, openid, nickname, avatar, points, level, status, token_version, gender, birthday, phone, \
         phone_sealed, created_at FROM users WHERE openid = ?",
    )
    .bind(openid)
    .fetch_optional(pool)
    .await
}

pub async fn find(pool: &MySqlPool, user: UserId) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, openid, nickname, avatar, points, level, status, token_version, gender, birthday, phone, \
         phone_sealed, created_at FROM users WHERE id = ?",
    )
    .bind(user.0)
    .fetch_optional(pool)
    .await
}

/// Id, status and token version of some users.
pub fn standings(script: &mut Script, users: &[UserId]) -> Said {
    script.statement(|sql| {
        sql.sql("SELECT id, status, token_version FROM users WHERE id IN ").list(users, |sql, user| {
            sql.int(user.0);
        });
    })
}

/// Id, nickname and avatar of some users.
pub async fn faces(
    pool: &MySqlPool,
    users: impl IntoIterator<Item = UserId>,
) -> Result<Vec<(i64, Option<String>, Option<String>)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT id, nickname, avatar FROM users WHERE id IN ");
    push_list(&mut query, users.into_iter().map(|user| user.0));
    query.build_query_as().fetch_all(pool).await
}

/// The accounts that have this number.
pub async fn find_by_phone(pool: &MySqlPool, index: &[u8]) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, openid, nickname, avatar, points, level, status, token_version, gender, birthday, phone, \
         phone_sealed, created_at FROM users WHERE phone_index = ? ORDER BY id",
    )
    .bind(index)
    .fetch_all(pool)
    .await
}

/// Writes the fields that the edit names, and leaves the others as they are at that moment.
pub async fn edit(pool: &MySqlPool, user: UserId, edit: &Edit) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE users SET nickname = IF(?, ?, nickname), avatar = IF(?, ?, avatar), gender = IF(?, ?, gender), \
         birthday = IF(?, ?, birthday) WHERE id = ?",
    )
    .bind(edit.nickname.is_some())
    .bind(&edit.nickname)
    .bind(edit.avatar.is_some())
    .bind(&edit.avatar)
    .bind(edit.gender.is_some())
    .bind(edit.gender)
    .bind(edit.birthday.is_some())
    .bind(edit.birthday.flatten())
    .bind(user.0)
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn set_phone(
    pool: &MySqlPool,
    user: UserId,
    masked: &str,
    sealed: &[u8],
    index: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE users SET phone = ?, phone_sealed = ?, phone_index = ? WHERE id = ?")
        .bind(masked)
        .bind(sealed)
        .bind(index)
        .bind(user.0)
        .execute(pool)
        .await?;
    Ok(())
}

/// Sealed numbers of accounts with a higher id, by their ids.
pub async fn sealed_phones(pool: &MySqlPool, after: i64, most: u32) -> Result<Vec<SealedRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, CAST(id AS CHAR) AS name, CAST(phone_sealed AS CHAR) AS sealed FROM users \
         WHERE id > ? AND phone_sealed IS NOT NULL ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Writes the same number sealed anew; false when another one was bound meanwhile.
pub async fn reseal_phone(pool: &MySqlPool, old: &SealedRow, renewed: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE users SET phone_sealed = ? WHERE id = ? AND phone_sealed = ?")
        .bind(renewed.as_bytes())
        .bind(old.id)
        .bind(old.sealed.as_bytes())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the sessions of this token version, if it is still the account's.
pub async fn end_sessions(pool: &MySqlPool, user: UserId, token_version: u32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE users SET token_version = token_version + 1 WHERE id = ? AND token_version = ?")
        .bind(user.0)
        .bind(token_version)
        .execute(pool)
        .await?;
    Ok(())
}

/// Whether the account was active until now.
pub async fn disable(pool: &MySqlPool, user: UserId) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE users SET status = 0, token_version = token_version + 1 WHERE id = ? AND status = 1",
    )
    .bind(user.0)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the account was disabled until now.
pub async fn enable(pool: &MySqlPool, user: UserId) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE users SET status = 1 WHERE id = ? AND status = 0")
        .bind(user.0)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
