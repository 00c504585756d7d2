//! A payment as WeChat tells of it. Apart from the calls that bring one: what a stranger may have written is read here, and
//! the fuzz targets build this file without the client.

use serde::Deserialize;

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
