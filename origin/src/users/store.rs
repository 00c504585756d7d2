//! SQL of `users`.

use farmgate_shared::ids::UserId;
use sqlx::{FromRow, MySqlConnection, MySqlPool, QueryBuilder};

use super::service::Profile;
use crate::db::push_list;

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
        "SELECT id, openid, nickname, avatar, points, level, status, token_version FROM users WHERE openid = ?",
    )
    .bind(openid)
    .fetch_optional(pool)
    .await
}

pub async fn find(pool: &MySqlPool, user: UserId) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, openid, nickname, avatar, points, level, status, token_version FROM users WHERE id = ?",
    )
    .bind(user.0)
    .fetch_optional(pool)
    .await
}

/// Id, status and token version of some users.
pub async fn standings(
    connection: &mut MySqlConnection,
    users: impl IntoIterator<Item = UserId>,
) -> Result<Vec<(i64, i8, u32)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT id, status, token_version FROM users WHERE id IN ");
    push_list(&mut query, users.into_iter().map(|user| user.0));
    query.build_query_as().fetch_all(connection).await
}
