//! The shopper's telephone number. Promises that the number itself stands sealed and only its masked form is shown, and
//! that it can be looked up by who knows it. Several accounts may have the same one: nobody logs in by it, so a second
//! takes nothing from the first, while refusing it would shut out families who share a phone and whoever is given a
//! number that was another's before.

use farmgate_shared::api::users::UserRecord;
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use sqlx::MySqlPool;

use super::{profile, store};
use crate::app::App;
use crate::config::Switch;
use crate::db::index::BlindIndex;
use crate::db::reseal::{self, Resealed, SealedRow};
use crate::db::seal::{Place, Seal, SealError};
use crate::error::{A_MINUTE_US, ApiError};
use crate::wechat::mini::{MiniError, Retry};
use crate::wechat::phone::PhoneNumber;

/// Why a number was not bound.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    #[error("the setting wechat.phone is off")]
    Off,
    #[error(transparent)]
    Wechat(#[from] MiniError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<PhoneError> for ApiError {
    fn from(error: PhoneError) -> ApiError {
        match error {
            PhoneError::Off => Problem::PhoneBindingOff.into(),
            PhoneError::Wechat(error) => of_wechat(error),
            PhoneError::Seal(error) => ApiError::caused(Problem::Internal, error),
            PhoneError::Database(error) => error.into(),
        }
    }
}

fn of_wechat(error: MiniError) -> ApiError {
    let problem = match (error.errcode(), error.retry()) {
        (Some(40029 | 40163 | 41008), _) => Problem::PhoneCodeInvalid,
        (Some(45011), _) => return ApiError::limited(A_MINUTE_US).because(error),
        // What the shop is not allowed, or asks wrongly.
        (_, Retry::Never) => Problem::Internal,
        _ => Problem::WechatUnavailable,
    };
    ApiError::caused(problem, error)
}

/// Binds the number that WeChat gives for `code`; a number that was bound before is replaced.
///
/// # Errors
/// [`PhoneError`].
pub async fn bind(app: &App, user: UserId, code: &str) -> Result<(), PhoneError> {
    if app.config.wechat.phone == Switch::Off {
        return Err(PhoneError::Off);
    }
    let number = app.mini.phone_number(code.trim()).await?;
    let row = user.to_string();
    let sealed = app.seal.seal(place(&row), &number.international())?;
    let index = index_of(&app.index, &number);
    store::set_phone(app.db.pool(), user, &number.masked(), sealed.as_bytes(), &index).await?;
    Ok(())
}

/// The same, and the record as it is then.
///
/// # Errors
/// [`bind`]'s, or MySQL being away.
pub async fn bind_and_show(app: &App, user: UserId, code: &str) -> Result<UserRecord, ApiError> {
    bind(app, user, code).await?;
    profile::record(app, user).await
}

/// By what a number is found.
pub fn index_of(index: &BlindIndex, number: &PhoneNumber) -> Vec<u8> {
    index.of("users.phone", &number.international())
}

/// Opens a sealed number.
///
/// # Errors
/// When it was sealed for another row, or with a key that is not configured.
pub fn open(seal: &Seal, user: UserId, sealed: &[u8]) -> Result<String, SealError> {
    let sealed = std::str::from_utf8(sealed).map_err(|_| SealError::Malformed)?;
    seal.open(place(&user.to_string()), sealed)
}

/// Seals the numbers anew that another key than the first has sealed.
///
/// # Errors
/// When MySQL is away; what was done until then stays.
pub async fn reseal(pool: &MySqlPool, seal: &Seal) -> Result<Resealed, sqlx::Error> {
    let rows = async |after, most| store::sealed_phones(pool, after, most).await;
    let replace = async |old: &SealedRow, renewed: &str| store::reseal_phone(pool, old, renewed).await;
    reseal::run(seal, (TABLE, COLUMN), rows, replace).await
}

const TABLE: &str = "users";
const COLUMN: &str = "phone";

fn place(row: &str) -> Place<'_> {
    Place { table: TABLE, row, column: COLUMN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wechat_says_becomes_what_the_shopper_can_do() {
        let refused = |errcode| MiniError::Refused { errcode, errmsg: String::new() };
        for (error, problem) in [
            (refused(40029), Problem::PhoneCodeInvalid),
            (refused(40163), Problem::PhoneCodeInvalid),
            (refused(45011), Problem::RateLimited),
            (refused(45009), Problem::WechatUnavailable),
            (refused(-1), Problem::WechatUnavailable),
            (refused(40001), Problem::WechatUnavailable),
            (refused(48001), Problem::Internal),
            (MiniError::Status(502), Problem::WechatUnavailable),
            (MiniError::Unreachable(String::new()), Problem::WechatUnavailable),
            (MiniError::Malformed(String::new()), Problem::WechatUnavailable),
            (MiniError::NoToken(Box::new(refused(40125))), Problem::WechatUnavailable),
        ] {
            let said = error.to_string();
            let shown = of_wechat(error);
            assert_eq!(shown.problem, problem, "{said}");
            assert_eq!(shown.cause.unwrap().to_string(), said, "the log is told why");
        }
    }
}
