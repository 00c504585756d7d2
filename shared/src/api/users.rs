//! Login and the shopper's own record.

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use super::text;
use crate::ids::UserId;

/// Body of `POST /api/user/login`.
#[derive(Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Login {
    /// What `wx.login` gave: works once, for five minutes.
    #[garde(custom(text(1, 128)))]
    pub code: String,
    /// Nickname and avatar as the shopper chose them. WeChat no longer hands them out at login, so it is optional;
    /// anything but an object with text in `nickName`/`nickname` and `avatarUrl`/`avatar` is passed over.
    #[serde(default, rename = "userInfo")]
    #[garde(skip)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub user_info: Option<serde_json::Value>,
}

/// Data of the reply to a login.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoggedIn {
    /// The JWT, for `Authorization: Bearer …`.
    pub token: String,
    #[serde(rename = "userInfo")]
    pub user_info: UserInfo,
}

/// The shopper as the mini-program shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserInfo {
    pub id: UserId,
    /// Empty until the shopper chooses one.
    pub nickname: String,
    /// Address of a picture; empty until the shopper chooses one.
    pub avatar: String,
    pub points: i32,
    /// From 1.
    pub level: i8,
}

/// The shopper's own record: what the mini-program shows, and what only they see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserRecord {
    #[serde(flatten)]
    pub info: UserInfo,
    /// Masked, as in `138****0000`; empty until one is bound.
    pub phone: String,
    /// 0 not said, 1 male, 2 female.
    pub gender: i8,
    /// `YYYY-MM-DD`; null when not said.
    pub birthday: Option<String>,
}

/// What an edit does to a field: an absent one stays, `null` or an empty text clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<'de> Deserialize<'de> for Change<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<String>::deserialize(deserializer)?;
        Ok(match value.as_deref().map(str::trim) {
            None | Some("") => Change::Clear,
            Some(text) => Change::Set(text.to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for Change<i8> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<i8>::deserialize(deserializer)?.map_or(Change::Clear, Change::Set))
    }
}

/// Most characters of a nickname, and of an avatar's address.
pub const MAX_NICKNAME_CHARS: usize = 100;
pub const MAX_AVATAR_CHARS: usize = 500;

/// Body of `PUT /api/user/info`. A field that is absent stays; `null` or `""` clears it.
#[derive(Clone, Debug, Default, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserEdit {
    /// At most 100 characters.
    #[serde(default)]
    #[garde(custom(a_nickname))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub nickname: Change<String>,
    /// Address of a picture: https, or one of the shop's own; at most 500 characters.
    #[serde(default)]
    #[garde(custom(an_avatar))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub avatar: Change<String>,
    /// 0 not said, 1 male, 2 female.
    #[serde(default)]
    #[garde(custom(a_gender))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i8>))]
    pub gender: Change<i8>,
    /// `YYYY-MM-DD`, from 1900 and not in the future.
    #[serde(default)]
    #[garde(custom(a_birthday))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub birthday: Change<String>,
}

/// Body of `POST /api/user/phone`.
#[derive(Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PhoneCode {
    /// What the button `open-type="getPhoneNumber"` gave: works once, for five minutes.
    #[garde(custom(text(1, 128)))]
    pub code: String,
}

/// Whether a text would break a line, or show others than it says: control characters, and those that turn the
/// direction of what follows.
#[must_use]
pub fn has_hidden_characters(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
}

fn line(value: &Change<String>, most: usize) -> garde::Result {
    match value {
        Change::Set(text) if text.chars().count() > most => {
            Err(garde::Error::new(format!("最多 {most} 个字")))
        }
        Change::Set(text) if has_hidden_characters(text) => Err(garde::Error::new("含有不可用的字符")),
        _ => Ok(()),
    }
}

fn a_nickname(value: &Change<String>, (): &()) -> garde::Result {
    line(value, MAX_NICKNAME_CHARS)
}

fn an_avatar(value: &Change<String>, (): &()) -> garde::Result {
    line(value, MAX_AVATAR_CHARS)
}

fn a_gender(value: &Change<i8>, (): &()) -> garde::Result {
    match value {
        Change::Set(0..=2) | Change::Keep | Change::Clear => Ok(()),
        Change::Set(_) => Err(garde::Error::new("须为 0（未知）、1（男）或 2（女）")),
    }
}

fn a_birthday(value: &Change<String>, (): &()) -> garde::Result {
    match value {
        Change::Set(text) if !is_date(text) => {
            Err(garde::Error::new("须为 1900 年以后的日期，如 1990-05-01"))
        }
        _ => Ok(()),
    }
}

/// `YYYY-MM-DD`, a day that there was or will be, from 1900 on.
fn is_date(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| -> Option<u16> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let hyphens = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let (Some(year), Some(month), Some(day), true) = (number(0..4), number(5..7), number(8..10), hyphens)
    else {
        return false;
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    year >= 1900 && (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(json: &str) -> UserEdit {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_absent_field_stays_and_an_empty_one_is_cleared() {
        let edit = edit(r#"{"nickname":" 小王 ","avatar":"","gender":null}"#);
        assert_eq!(edit.nickname, Change::Set("小王".to_owned()));
        assert_eq!((edit.avatar, edit.gender, edit.birthday), (Change::Clear, Change::Clear, Change::Keep));
        assert!(serde_json::from_str::<UserEdit>(r#"{"gender":"1"}"#).is_err());
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = UserEdit {
            nickname: Change::Set("小\n王".to_owned()),
            avatar: Change::Set("x".repeat(501)),
            gender: Change::Set(3),
            birthday: Change::Set("1990-02-30".to_owned()),
        };
        let report = bad.validate().unwrap_err();
        let fields: Vec<String> = report.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(fields, ["avatar", "birthday", "gender", "nickname"]);
        assert!(edit("{}").validate().is_ok());
        let family = edit(r#"{"nickname":"👨‍👩‍👧 一家"}"#);
        assert!(family.validate().is_ok(), "joined emoji are one picture");
        assert!(edit("{\"nickname\":\"a\u{202e}b\"}").validate().is_err());
    }

    #[test]
    fn a_date_is_a_day_that_there_is() {
        for good in ["1900-01-01", "2000-02-29", "2024-02-29", "1990-12-31"] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "",
            "1990-5-1",
            "1990/05/01",
            "1990-13-01",
            "1990-00-10",
            "1990-01-00",
            "1899-12-31",
            "1900-02-29",
            "2023-02-29",
            "199a-01-01",
            "+990-01-01",
            "1990-01-01T",
            "一990-01-0",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }
}
