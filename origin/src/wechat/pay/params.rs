//! What the phone needs to pay.

use farmgate_shared::api::payments::PaymentParams;

use super::PayClient;
use crate::wechat::sign::{SignError, lines};

impl PayClient {
    /// The parameters with which the phone opens WeChat's payment sheet.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn payment_params(&self, prepay_id: &str, now: u64) -> Result<PaymentParams, SignError> {
        let time_stamp = now.to_string();
        let nonce_str = self.merchant.nonce()?;
        let package = format!("prepay_id={prepay_id}");
        let pay_sign = self.merchant.sign(&lines(&[&self.appid, &time_stamp, &nonce_str, &package]))?;
        Ok(PaymentParams { time_stamp, nonce_str, package, sign_type: "RSA".to_owned(), pay_sign })
    }
}
