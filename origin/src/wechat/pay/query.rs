//! What WeChat knows of an order, by the shop's number or by WeChat's.

use http::Method;

use super::{PayClient, PayError, Transaction, parse};

impl PayClient {
    /// What WeChat knows of an order.
    ///
    /// # Errors
    /// [`PayError`]; [`super::Refusal::OrderUnknown`] when no prepay ever arrived.
    pub async fn query(&self, out_trade_no: &str, now: u64) -> Result<Transaction, PayError> {
        self.ask(&format!("/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={}", self.mchid), now).await
    }

    /// What WeChat knows of a payment by its own number.
    ///
    /// # Errors
    /// [`PayError`]; [`super::Refusal::OrderUnknown`] when there is no such payment of this merchant.
    pub async fn query_by_transaction(
        &self,
        transaction_id: &str,
        now: u64,
    ) -> Result<Transaction, PayError> {
        self.ask(&format!("/v3/pay/transactions/id/{transaction_id}?mchid={}", self.mchid), now).await
    }

    async fn ask(&self, path: &str, now: u64) -> Result<Transaction, PayError> {
        parse(&self.call(Method::GET, path, "", now).await?)
    }
}
