//! What `POST /api/orders/{id}/pay` hands the phone.

use serde::{Deserialize, Serialize};

/// The parameters of `wx.requestPayment`, as it takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PaymentParams {
    /// Seconds since 1970, in decimal.
    pub time_stamp: String,
    pub nonce_str: String,
    /// `prepay_id=…`
    pub package: String,
    /// Always `RSA`.
    pub sign_type: String,
    pub pay_sign: String,
}
