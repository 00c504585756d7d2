//! Use cases of shoppers.

use farmgate_shared::api::users::{LoggedIn, Login, UserInfo};
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;

use super::store::{self, UserRow};
use crate::app::App;
use crate::db::Db;
use crate::db::lookup::Lookup;
use crate::error::ApiError;
use crate::limits::Admission;
use crate::limits::model::{Bucket, Class, Who};

/// What decides whether an account's tokens hold.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    is_active: bool,
    token_version: u32,
}

/// Reads accounts' standings, those of many requests at once.
pub type Standings = Lookup<UserId, Standing>;

/// How standings are read.
pub fn standings(db: &Db) -> Standings {
    Lookup::new("standings", db, |connection, users| {
        Box::pin(async move {
            let rows = store::standings(connection, users).await?;
            let standing = |(id, status, token_version): (i64, i8, u32)| {
                (UserId(id), Standing { is_active: status == store::ACTIVE, token_version })
            };
            Ok(rows.into_iter().map(standing).collect())
        })
    })
}

/// Longest nickname and avatar address that the table takes, in characters.
const MAX_NICKNAME_CHARS: usize = 100;
const MAX_AVATAR_CHARS: usize = 500;

/// Exchanges a WeChat code for a session; the first login makes the account.
///
/// # Errors
/// A code that WeChat refuses, too many logins of one account, a disabled account, or WeChat or MySQL being away.
pub async fn login(app: &App, body: Login) -> Result<LoggedIn, ApiError> {
    let identity = app.wechat_login.code_to_session(body.code.trim()).await?;
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

/// The shopper's own record.
///
/// # Errors
/// When MySQL is away.
pub async fn user_info(app: &App, user: UserId) -> Result<UserInfo, ApiError> {
    let row = store::find(app.db.pool(), user).await?.ok_or(Problem::Unauthenticated)?;
    Ok(to_info(row))
}

/// The openid under which WeChat knows this shopper, for paying.
///
/// # Errors
/// When MySQL is away.
pub async fn openid(app: &App, user: UserId) -> Result<String, ApiError> {
    let row = store::find(app.db.pool(), user).await?.ok_or(Problem::Unauthenticated)?;
    Ok(row.openid)
}

fn to_info(row: UserRow) -> UserInfo {
    UserInfo {
        id: UserId(row.id),
        nickname: row.nickname.unwrap_or_default(),
        avatar: row.avatar.unwrap_or_default(),
        points: row.points,
        level: row.level,
    }
}

/// What a shopper says of themselves at login. Nothing rests on it, so what is misshapen is passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub nickname: Option<String>,
    pub avatar: Option<String>,
}

impl Profile {
    fn read(user_info: Option<&serde_json::Value>) -> Profile {
        let text = |names: [&str; 2], most: usize| {
            let value = names.iter().find_map(|name| user_info?.get(name)?.as_str())?.trim();
            let fits =
                !value.is_empty() && value.chars().count() <= most && !value.chars().any(char::is_control);
            fits.then(|| value.to_owned())
        };
        Profile {
            nickname: text(["nickName", "nickname"], MAX_NICKNAME_CHARS),
            avatar: text(["avatarUrl", "avatar"], MAX_AVATAR_CHARS)
                .filter(|url| url.starts_with("https://") || url.starts_with("http://")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_taken_where_it_makes_sense() {
        let info = json!({"nickName": " 小王 ", "avatarUrl": "https://example.com/a.png"});
        let profile = Profile::read(Some(&info));
        assert_eq!(profile.nickname.as_deref(), Some("小王"));
        assert_eq!(profile.avatar.as_deref(), Some("https://example.com/a.png"));
        for odd in
            [json!("用户信息"), json!(null), json!([1]), json!({"nickname": "", "avatar": "javascript:1"})]
        {
            assert_eq!(Profile::read(Some(&odd)), Profile::default(), "{odd}");
        }
    }
}
