//! Use cases of shoppers.

use std::collections::HashMap;

use farmgate_shared::api::users::{LoggedIn, Login, UserInfo};
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use sqlx::MySqlPool;

use super::phone;
use super::profile::Profile;
use super::store;
pub use super::store::UserRow;
use crate::app::App;
use crate::db::index::BlindIndex;
use crate::db::lookup::{Lookup, Reader};
use crate::error::ApiError;
use crate::limits::Admission;
use crate::limits::model::{Bucket, Class, Who};
use crate::wechat::phone::PhoneNumber;

/// What decides whether an account's tokens hold.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    is_active: bool,
    token_version: u32,
}

/// Reads accounts' standings, those of many requests at once.
pub type Standings = Lookup<UserId, Standing>;

/// How standings are read.
pub fn standings(reader: &Reader) -> Standings {
    let standing = |(id, status, token_version): (i64, i8, u32)| {
        (UserId(id), Standing { is_active: status == store::ACTIVE, token_version })
    };
    Lookup::new(reader, store::standings, move |ran, said| {
        Ok(ran.read(said)?.into_iter().map(standing).collect())
    })
}

/// Exchanges a WeChat code for a session; the first login makes the account.
///
/// # Errors
/// A code that WeChat refuses, too many logins of one account, a disabled account, or WeChat or MySQL being away.
pub async fn login(app: &App, body: Login) -> Result<LoggedIn, ApiError> {
    let identity = app.mini.code_to_session(body.code.trim()).await?;
    // The address was counted at the door; whose login it is was not known there.
    let bucket = Bucket { class: Class::Logins, who: Who::account(&identity.openid) };
    if let Admission::Limited(wait) = app.limits.count(bucket, app.clock.unix_micros()).await {
        return Err(ApiError::limited(wait));
    }
    let profile = Profile::read(body.user_info.as_ref());
    let pool = app.db.pool();
    store::upsert(pool, &identity.openid, identity.unionid.as_deref(), &profile).await?;
    let user = store::find_by_openid(pool, &identity.openid).await?.ok_or_else(|| {
        ApiError::caused(Problem::Internal, anyhow::anyhow!("a user vanished during login"))
    })?;
    if !user.is_active() {
        return Err(Problem::AccountDisabled.into());
    }
    let token = app
        .sessions
        .issue(UserId(user.id), user.token_version, app.clock.unix_seconds())
        .map_err(|error| ApiError::caused(Problem::Internal, error))?;
    Ok(LoggedIn { token, user_info: to_info(user) })
}

/// What a good token says, before anybody asked whether the session still holds.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub user: UserId,
    token_version: u32,
}

/// Reads a token.
///
/// # Errors
/// [`Problem::Unauthenticated`] or [`Problem::TokenExpired`].
pub fn read_token(app: &App, token: &str) -> Result<Claim, ApiError> {
    let (user, token_version) = app.sessions.check(token, app.clock.unix_seconds())?;
    Ok(Claim { user, token_version })
}

/// Makes sure that a token's session still holds; says whose it is.
///
/// # Errors
/// [`Problem::Unauthenticated`] after a logout, [`Problem::AccountDisabled`], or MySQL being away.
pub async fn confirm(app: &App, claim: Claim) -> Result<UserId, ApiError> {
    let standing = app.reads.standings.get(claim.user).await?.ok_or(Problem::Unauthenticated)?;
    if !standing.is_active {
        return Err(Problem::AccountDisabled.into());
    }
    if standing.token_version != claim.token_version {
        return Err(Problem::Unauthenticated.into());
    }
    Ok(claim.user)
}

/// Ends all sessions of the shopper whose token this is, that one among them. A token that is over already ends nothing:
/// a second click does no harm to whoever has logged in again meanwhile.
///
/// # Errors
/// When MySQL is away.
pub async fn log_out(app: &App, claim: Claim) -> Result<(), ApiError> {
    store::end_sessions(app.db.pool(), claim.user, claim.token_version).await?;
    Ok(())
}

/// Shuts an account out: its sessions end, and it cannot log in. False when it was shut out already.
///
/// # Errors
/// When MySQL is away.
pub async fn ban(pool: &MySqlPool, user: UserId) -> Result<bool, sqlx::Error> {
    let changed = store::disable(pool, user).await?;
    if changed {
        tracing::info!(user = user.0, "account banned");
    }
    Ok(changed)
}

/// Lets an account in again. It must log in anew: sessions from before the ban stay ended. False when it was not shut out.
///
/// # Errors
/// When MySQL is away.
pub async fn unban(pool: &MySqlPool, user: UserId) -> Result<bool, sqlx::Error> {
    let changed = store::enable(pool, user).await?;
    if changed {
        tracing::info!(user = user.0, "account unbanned");
    }
    Ok(changed)
}

/// The account of an id or an openid, which begins with a letter: for the shop itself.
///
/// # Errors
/// When MySQL is away.
pub async fn find(pool: &MySqlPool, user: &str) -> Result<Option<UserRow>, sqlx::Error> {
    match user.parse() {
        Ok(id) => store::find(pool, UserId(id)).await,
        Err(_) => store::find_by_openid(pool, user).await,
    }
}

/// The accounts that have this number: for the shop itself.
///
/// # Errors
/// When MySQL is away.
pub async fn find_by_phone(
    pool: &MySqlPool,
    index: &BlindIndex,
    number: &PhoneNumber,
) -> Result<Vec<UserRow>, sqlx::Error> {
    store::find_by_phone(pool, &phone::index_of(index, number)).await
}

/// What others may see of a shopper.
#[derive(Debug)]
pub struct Face {
    /// Empty until the shopper chooses one.
    pub nickname: String,
    pub avatar: String,
}

/// The faces of some shoppers, by their ids.
///
/// # Errors
/// When MySQL is away.
pub async fn faces(pool: &MySqlPool, users: Vec<UserId>) -> Result<HashMap<i64, Face>, sqlx::Error> {
    if users.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store::faces(pool, users).await?;
    let face = |(id, nickname, avatar): (i64, Option<String>, Option<String>)| {
        (id, Face { nickname: nickname.unwrap_or_default(), avatar: avatar.unwrap_or_default() })
    };
    Ok(rows.into_iter().map(face).collect())
}

/// The openid under which WeChat knows this shopper, for paying.
///
/// # Errors
/// When MySQL is away.
pub async fn openid(app: &App, user: UserId) -> Result<String, ApiError> {
    let row = store::find(app.db.pool(), user).await?.ok_or(Problem::Unauthenticated)?;
    Ok(row.openid)
}

pub(super) fn to_info(row: UserRow) -> UserInfo {
    UserInfo {
        id: UserId(row.id),
        nickname: row.nickname.unwrap_or_default(),
        avatar: row.avatar.unwrap_or_default(),
        points: row.points,
        level: row.level,
    }
}
