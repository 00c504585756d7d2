//! What WeChat knows of an order, by the shop's number or by WeChat's.

use http::Method;
use serde::Deserialize;

use super::{PayClient, PayError, parse};

/// A transaction as queries and notifications show it. What is absent while unpaid is optional.
#[derive(Clone, Debug, Deserialize)]
pub struct Transaction {
    pub appid: Option<String>,
    pub mchid: String,
    pub out_trade_no: String,
    pub transaction_id: Option<String>,
    pub trade_state: TradeState,
    pub success_time: Option<String>,
    pub payer: Option<TransactionPayer>,
    pub amount: Option<TransactionAmount>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TransactionPayer {
    pub openid: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TransactionAmount {
    /// Fen: what the order costs. What the payer pays may be less, by WeChat's own coupons.
    pub total: Option<i64>,
    pub currency: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TradeState {
    Success,
    Refund,
    NotPay,
    Closed,
    Revoked,
    UserPaying,
    PayError,
    #[serde(other)]
    Unknown,
}

impl TradeState {
    /// Whether the money was taken, also where some of it went back since.
    pub fn is_paid(self) -> bool {
        matches!(self, TradeState::Success | TradeState::Refund)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpaid_transaction_can_be_read() {
        let json = r#"{"mchid":"1","out_trade_no":"20231201","trade_state":"NOTPAY","trade_state_desc":"未支付",
                       "amount":{"total":1,"currency":"CNY"}}"#;
        let transaction: Transaction = serde_json::from_str(json).unwrap();
        assert_eq!(transaction.trade_state, TradeState::NotPay);
        let odd: Transaction =
            serde_json::from_str(r#"{"mchid":"1","out_trade_no":"2","trade_state":"NEW"}"#).unwrap();
        assert_eq!(odd.trade_state, TradeState::Unknown);
        assert!(!odd.trade_state.is_paid() && TradeState::Refund.is_paid());
    }
}
