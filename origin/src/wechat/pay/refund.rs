//! Refunds: asking for one, and asking about one. Promises that what is sent is the request that was given, to the byte, for
//! WeChat knows a refund by its number and refuses a second request under it that differs.

use farmgate_shared::money::Fen;
use http::Method;
use serde::{Deserialize, Serialize};

use super::{PayClient, PayError, parse};
use crate::wechat::notify::{RefundAmount, RefundStatus};

/// What one refund asks for.
#[derive(Clone, Copy, Debug)]
pub struct RefundAsked<'a> {
    /// WeChat's own number of the payment.
    pub transaction_id: &'a str,
    pub out_refund_no: &'a str,
    /// At most 80 bytes; the shopper reads it.
    pub reason: &'a str,
    pub notify_url: &'a str,
    pub refund: Fen,
    /// What was paid.
    pub total: Fen,
}

#[derive(Serialize)]
struct RefundBody<'a> {
    transaction_id: &'a str,
    out_refund_no: &'a str,
    reason: &'a str,
    notify_url: &'a str,
    amount: AskedAmount,
}

#[derive(Serialize)]
struct AskedAmount {
    /// Fen.
    refund: i64,
    /// Fen.
    total: i64,
    currency: &'static str,
}

impl RefundAsked<'_> {
    /// The body to be stored, and then sent as it was stored.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which has no case.
    pub fn to_request(self) -> serde_json::Result<String> {
        serde_json::to_string(&RefundBody {
            transaction_id: self.transaction_id,
            out_refund_no: self.out_refund_no,
            reason: self.reason,
            notify_url: self.notify_url,
            amount: AskedAmount { refund: self.refund.0, total: self.total.0, currency: "CNY" },
        })
    }
}

/// A refund as WeChat's replies show it.
#[derive(Clone, Debug, Deserialize)]
pub struct RefundShown {
    pub refund_id: String,
    pub out_refund_no: String,
    pub transaction_id: String,
    pub status: RefundStatus,
    /// RFC 3339; absent until it is paid back.
    pub success_time: Option<String>,
    pub amount: RefundAmount,
}

impl PayClient {
    /// Sends a stored refund request. WeChat answers a repetition with the refund as it stands.
    ///
    /// # Errors
    /// [`PayError`]; [`super::Refusal::NotEnough`] while the merchant's balance is too low, which the same request outlasts,
    /// and [`super::Refusal::UserAccountAbnormal`] where only a person can go on.
    pub async fn refund(&self, request: &str, now: u64) -> Result<RefundShown, PayError> {
        let path = "/v3/refund/domestic/refunds";
        parse(&self.call(Method::POST, path, request, now).await?)
    }

    /// What WeChat knows of a refund.
    ///
    /// # Errors
    /// [`PayError`]; [`super::Refusal::ResourceUnknown`] when it never heard of the number.
    pub async fn query_refund(&self, out_refund_no: &str, now: u64) -> Result<RefundShown, PayError> {
        let path = format!("/v3/refund/domestic/refunds/{out_refund_no}");
        parse(&self.call(Method::GET, &path, "", now).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_documents_ask_for() {
        let asked = RefundAsked {
            transaction_id: "4200000001",
            out_refund_no: "2023120100000012345678-late",
            reason: "订单已取消",
            notify_url: "https://shop.example/api/payments/wechat/refund-notify",
            refund: Fen(100),
            total: Fen(3960),
        };
        assert_eq!(
            asked.to_request().unwrap(),
            "{\"transaction_id\":\"4200000001\",\"out_refund_no\":\"2023120100000012345678-late\",\
             \"reason\":\"订单已取消\",\"notify_url\":\"https://shop.example/api/payments/wechat/refund-notify\",\
             \"amount\":{\"refund\":100,\"total\":3960,\"currency\":\"CNY\"}}"
        );
    }

    #[test]
    fn a_refund_on_its_way_can_be_read() {
        let json = r#"{"refund_id":"5030","out_refund_no":"1-late","transaction_id":"42","out_trade_no":"1",
            "channel":"ORIGINAL","create_time":"2023-12-01T08:00:00+08:00","status":"PROCESSING",
            "amount":{"total":100,"refund":100,"payer_total":100,"payer_refund":100,"currency":"CNY"}}"#;
        let shown: RefundShown = parse(json.as_bytes()).unwrap();
        assert_eq!((shown.status, shown.success_time), (RefundStatus::Processing, None));
        let odd: RefundStatus = serde_json::from_str("\"NEW\"").unwrap();
        assert_eq!(odd, RefundStatus::Unknown);
        assert!(parse::<RefundShown>(b"{}").is_err());
    }
}
