//! What the shop may tell a shopper in WeChat.

use serde::{Deserialize, Serialize};

/// Data of `GET /api/messages/templates`: the ids that the mini-program hands to `wx.requestSubscribeMessage` when an order
/// is paid for. One that is `null` is not in use: the shop would send nothing, so nobody should be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageTemplates {
    /// "The order is paid."
    pub paid: Option<String>,
    /// "The order is on its way."
    pub shipped: Option<String>,
    /// "The money went back."
    pub refunded: Option<String>,
}
