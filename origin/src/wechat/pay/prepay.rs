//! Prepay: WeChat learns of an order that is to be paid in the mini-program.

use farmgate_shared::money::Fen;
use http::Method;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{PayClient, PayError, parse};
use crate::clock::shanghai_rfc3339;

/// The body of a prepay. Kept as it was sent: WeChat refuses a second one for the same number that differs.
#[derive(Debug, Serialize)]
struct Prepay<'a> {
    appid: &'a str,
    mchid: &'a str,
    description: &'a str,
    out_trade_no: &'a str,
    time_expire: String,
    notify_url: &'a str,
    amount: PrepayAmount,
    payer: Payer<'a>,
}

#[derive(Debug, Serialize)]
struct PrepayAmount {
    /// Fen.
    total: i64,
    currency: &'static str,
}

#[derive(Debug, Serialize)]
struct Payer<'a> {
    openid: &'a str,
}

/// What of a stored prepay request the shop reads again: who is to pay, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepayAsked {
    pub openid: String,
    pub last_moment: OffsetDateTime,
}

impl PrepayAsked {
    /// # Errors
    /// When it is not a request that [`PayClient::prepay_request`] wrote.
    pub fn read(request: &str) -> serde_json::Result<PrepayAsked> {
        let Stored { time_expire, payer } = serde_json::from_str(request)?;
        Ok(PrepayAsked { openid: payer.openid, last_moment: time_expire })
    }
}

#[derive(Deserialize)]
struct Stored {
    #[serde(with = "time::serde::rfc3339")]
    time_expire: OffsetDateTime,
    payer: StoredPayer,
}

#[derive(Deserialize)]
struct StoredPayer {
    openid: String,
}

#[derive(Deserialize)]
struct Prepaid {
    prepay_id: String,
}

impl PayClient {
    /// The body of the prepay for an order, to be stored before it is sent.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which has no case.
    pub fn prepay_request(
        &self,
        out_trade_no: &str,
        total: Fen,
        openid: &str,
        deadline: OffsetDateTime,
    ) -> Result<String, PayError> {
        let request = Prepay {
            appid: &self.appid,
            mchid: &self.mchid,
            description: &self.description,
            out_trade_no,
            time_expire: shanghai_rfc3339(deadline),
            notify_url: &self.notify_url,
            amount: PrepayAmount { total: total.0, currency: "CNY" },
            payer: Payer { openid },
        };
        serde_json::to_string(&request).map_err(PayError::Malformed)
    }

    /// Sends a stored prepay request; replies with the `prepay_id`, which is good for two hours. The same bytes may be sent
    /// any number of times.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn prepay(&self, request: &str, now: u64) -> Result<String, PayError> {
        let path = "/v3/pay/transactions/jsapi";
        let body = self.call(Method::POST, path, request, now).await?;
        Ok(parse::<Prepaid>(&body)?.prepay_id)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_stored_request_says_who_is_to_pay_and_until_when() {
        let request = r#"{"appid":"wx1","time_expire":"2026-11-23T16:30:00+08:00","payer":{"openid":"o1"}}"#;
        let asked = PrepayAsked::read(request).unwrap();
        let last_moment = datetime!(2026-11-23 08:30:00 UTC);
        assert_eq!(asked, PrepayAsked { openid: "o1".into(), last_moment });
        for request in ["", "{}", r#"{"payer":{"openid":"o1"},"time_expire":"soon"}"#] {
            assert!(PrepayAsked::read(request).is_err(), "{request}");
        }
    }
}
