//! Login and the shopper's own record.

use garde::Validate;
use serde::{Deserialize, Serialize};

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
