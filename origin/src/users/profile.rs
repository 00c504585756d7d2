//! What shoppers say of themselves, at login and later. At login nothing rests on it and what is misshapen is passed over;
//! an edit is refused with the fields that are wrong.

use std::sync::Arc;

use farmgate_shared::api::users::{
    Change, MAX_AVATAR_CHARS, MAX_NICKNAME_CHARS, UserEdit, UserRecord, has_hidden_characters,
};
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::{FieldProblem, Problem};
use reqwest::Url;
use time::Date;
use time::macros::format_description;

use super::store::{self, UserRow};
use crate::app::App;
use crate::clock::SHANGHAI;
use crate::error::ApiError;
use crate::pictures;

/// What came with a login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub nickname: Option<String>,
    pub avatar: Option<String>,
}

impl Profile {
    pub fn read(user_info: Option<&serde_json::Value>) -> Profile {
        let text = |names: [&str; 2], most: usize| {
            let value = names.iter().find_map(|name| user_info?.get(name)?.as_str())?.trim();
            let fits = !value.is_empty() && value.chars().count() <= most && !has_hidden_characters(value);
            fits.then(|| value.to_owned())
        };
        Profile {
            nickname: text(["nickName", "nickname"], MAX_NICKNAME_CHARS),
            // `chooseAvatar` gives the path of a file on the phone, which is an address too, but only there.
            avatar: text(["avatarUrl", "avatar"], MAX_AVATAR_CHARS).filter(|url| is_https(url)),
        }
    }
}

/// An edit as it is written: `None` stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Empty when cleared, which a later login respects: only a nickname that never was is filled in there.
    pub nickname: Option<String>,
    pub avatar: Option<String>,
    pub gender: Option<i8>,
    pub birthday: Option<Option<Date>>,
}

impl Edit {
    /// `own` is in front of the addresses of the shop's own pictures; `today` is the day in Shanghai.
    fn read(edit: UserEdit, own: &str, today: Date) -> Result<Edit, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        if let Change::Set(url) = &edit.avatar
            && !(is_https(url) || pictures::is_own(own, url))
        {
            problems.push(FieldProblem::new("avatar", "须为 https 图片地址"));
        }
        let birthday = match edit.birthday {
            Change::Keep => None,
            Change::Clear => Some(None),
            Change::Set(text) => match Date::parse(&text, format_description!("[year]-[month]-[day]")) {
                Ok(date) if date <= today => Some(Some(date)),
                _ => {
                    problems.push(FieldProblem::new("birthday", "不能晚于今天"));
                    None
                }
            },
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Edit {
            nickname: written(edit.nickname, String::new()),
            avatar: written(edit.avatar, String::new()),
            gender: written(edit.gender, 0),
            birthday,
        })
    }
}

fn written<T>(change: Change<T>, cleared: T) -> Option<T> {
    match change {
        Change::Keep => None,
        Change::Clear => Some(cleared),
        Change::Set(value) => Some(value),
    }
}

/// Whether this is the whole address of something on the web, and of nobody's account there.
fn is_https(url: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
    !url.contains(odd)
        && Url::parse(url)
            .is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some() && url.username().is_empty())
}

/// The shopper's own record.
///
/// # Errors
/// When MySQL is away.
pub async fn record(app: &App, user: UserId) -> Result<UserRecord, ApiError> {
    let row = store::find(app.db.pool(), user).await?.ok_or(Problem::Unauthenticated)?;
    Ok(to_record(row))
}

/// Changes what the shopper says of themselves; of two edits at once each field has one of the two values.
///
/// # Errors
/// A field that is wrong, or MySQL being away.
pub async fn edit(app: &Arc<App>, user: UserId, edit: UserEdit) -> Result<UserRecord, ApiError> {
    let today = app.clock.now().to_offset(SHANGHAI).date();
    let edit = Edit::read(edit, &app.config.http.public_url, today).map_err(ApiError::fields)?;
    store::edit(app.db.pool(), user, &edit).await?;
    record(app, user).await
}

fn to_record(row: UserRow) -> UserRecord {
    UserRecord {
        phone: row.phone.clone().unwrap_or_default(),
        gender: row.gender.unwrap_or_default(),
        birthday: row.birthday.map(|date| date.to_string()),
        info: super::service::to_info(row),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::date;

    use super::*;

    #[test]
    fn a_profile_is_taken_where_it_makes_sense() {
        let info = json!({"nickName": " 小王 ", "avatarUrl": "https://example.com/a.png"});
        let profile = Profile::read(Some(&info));
        assert_eq!(profile.nickname.as_deref(), Some("小王"));
        assert_eq!(profile.avatar.as_deref(), Some("https://example.com/a.png"));
        for odd in [
            json!("用户信息"),
            json!(null),
            json!([1]),
            json!({"nickname": "", "avatar": "javascript:1"}),
            json!({"nickname": "a\u{202e}b", "avatar": "http://tmp/wx123.jpeg"}),
        ] {
            assert_eq!(Profile::read(Some(&odd)), Profile::default(), "{odd}");
        }
    }

    #[test]
    fn an_edit_says_what_changes() {
        let read = |json: serde_json::Value| {
            let edit = serde_json::from_value(json).unwrap();
            Edit::read(edit, "http://127.0.0.1:8787", date!(2026 - 01 - 31))
                .map_err(|problems| problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>())
        };
        assert_eq!(read(json!({})), Ok(Edit::default()));
        let cleared = read(json!({"nickname": "", "avatar": null, "gender": null, "birthday": ""}));
        let expected = Edit {
            nickname: Some(String::new()),
            avatar: Some(String::new()),
            gender: Some(0),
            birthday: Some(None),
        };
        assert_eq!(cleared, Ok(expected));
        let born = read(json!({"birthday": "2026-01-31"})).unwrap();
        assert_eq!(born.birthday, Some(Some(date!(2026 - 01 - 31))));
        assert_eq!(read(json!({"birthday": "2026-02-01"})), Err(vec!["birthday".to_owned()]));
        for good in ["https://example.com/a.png?x=1", "http://127.0.0.1:8787/static/a.webp"] {
            assert_eq!(read(json!({"avatar": good})).unwrap().avatar.as_deref(), Some(good));
        }
        for bad in [
            "http://example.com/a.png",
            "http://127.0.0.1:8787.evil.example/a",
            "javascript:alert(1)",
            "//a/b",
            "https://",
            "https://user@example.com/a",
            "https://example.com/a\"onload=",
            "data:image/png;base64,AA",
        ] {
            assert_eq!(read(json!({"avatar": bad})), Err(vec!["avatar".to_owned()]), "{bad}");
        }
    }
}
