//! Closing an order at WeChat.

use http::Method;

use super::{PayClient, PayError, Refusal};

impl PayClient {
    /// Closes an order at WeChat, so that it can no longer be paid. May be repeated.
    ///
    /// # Errors
    /// [`PayError`]; [`Refusal::OrderPaid`] when it was paid meanwhile.
    pub async fn close(&self, out_trade_no: &str, now: u64) -> Result<(), PayError> {
        let path = format!("/v3/pay/transactions/out-trade-no/{out_trade_no}/close");
        let body = serde_json::json!({ "mchid": self.mchid }).to_string();
        match self.call(Method::POST, &path, &body, now).await {
            Ok(_) => Ok(()),
            // Closed is what was wanted, and an order that WeChat never saw cannot be paid either.
            Err(PayError::Refused {
                code: Refusal::OrderClosed | Refusal::OrderUnknown | Refusal::ResourceUnknown,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
