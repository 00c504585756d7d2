//! Calls to WeChat Pay v3. Every request is signed, every reply's signature is checked before its body is believed.

use std::fmt;

use farmgate_shared::money::Fen;
use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::http_client;
use super::sign::{MerchantKey, PlatformKeys, SignError, VerifyError, lines};
use crate::clock::shanghai_rfc3339;
use crate::config::PayConfig;
use farmgate_shared::api::payments::PaymentParams;

/// The merchant at WeChat Pay.
pub struct PayClient {
    http: reqwest::Client,
    base_url: String,
    appid: String,
    mchid: String,
    notify_url: String,
    description: String,
    merchant: MerchantKey,
    platform: PlatformKeys,
}

/// Shows no secret.
impl fmt::Debug for PayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayClient({} at {})", self.mchid, self.base_url)
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    #[error("WeChat Pay could not be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("WeChat Pay refused: {status} {code}: {message}")]
    Refused { status: u16, code: Refusal, message: String },
    #[error("WeChat Pay's reply is not believed")]
    Unverified(#[from] VerifyError),
    #[error("WeChat Pay's reply has another form")]
    Malformed(#[source] serde_json::Error),
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// WeChat's error codes, as far as anything is done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    OrderPaid,
    OrderClosed,
    OrderUnknown,
    /// A passing fault of WeChat's: the same call may be made again.
    Passing(String),
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OrderPaid => f.write_str("ORDERPAID"),
            Refusal::OrderClosed => f.write_str("ORDER_CLOSED"),
            Refusal::OrderUnknown => f.write_str("ORDER_NOT_EXIST"),
            Refusal::Passing(code) | Refusal::Other(code) => f.write_str(code),
        }
    }
}

impl Refusal {
    /// Both spellings of a code occur.
    fn read(status: u16, code: String) -> Refusal {
        match code.replace('_', "").as_str() {
            "ORDERPAID" => Refusal::OrderPaid,
            "ORDERCLOSED" => Refusal::OrderClosed,
            "ORDERNOTEXIST" | "RESOURCENOTEXISTS" => Refusal::OrderUnknown,
            "SYSTEMERROR" | "FREQUENCYLIMITED" | "BANKERROR" => Refusal::Passing(code),
            _ if status >= 500 => Refusal::Passing(code),
            _ => Refusal::Other(code),
        }
    }
}

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

#[derive(Deserialize)]
struct Prepaid {
    prepay_id: String,
}

#[derive(Deserialize)]
struct RefusalBody {
    code: String,
    #[serde(default)]
    message: String,
}

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

impl PayClient {
    /// # Errors
    /// When a key cannot be loaded.
    pub fn new(config: &PayConfig, appid: &str, description: &str) -> anyhow::Result<PayClient> {
        Ok(PayClient {
            http: http_client(config.timeout_ms)?,
            base_url: config.base_url.trim_end_matches('/').to_owned(),
            appid: appid.to_owned(),
            mchid: config.mchid.clone(),
            notify_url: config.notify_url.clone(),
            description: description.to_owned(),
            merchant: MerchantKey::load(
                &config.mchid,
                &config.merchant_serial,
                &config.merchant_private_key_file,
            )?,
            platform: PlatformKeys::load(&config.platform_keys)?,
        })
    }

    pub fn appid(&self) -> &str {
        &self.appid
    }

    pub fn mchid(&self) -> &str {
        &self.mchid
    }

    pub fn platform(&self) -> &PlatformKeys {
        &self.platform
    }

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

    /// Sends a stored prepay request; replies with the `prepay_id`, which is good for two hours.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn prepay(&self, request: &str, now: u64) -> Result<String, PayError> {
        let body = self.call(Method::POST, "/v3/pay/transactions/jsapi", request, now).await?;
        Ok(parse::<Prepaid>(&body)?.prepay_id)
    }

    /// What WeChat knows of an order.
    ///
    /// # Errors
    /// [`PayError`]; [`Refusal::OrderUnknown`] when no prepay ever arrived.
    pub async fn query(&self, out_trade_no: &str, now: u64) -> Result<Transaction, PayError> {
        let path = format!("/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={}", self.mchid);
        parse(&self.call(Method::GET, &path, "", now).await?)
    }

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
            Err(PayError::Refused { code: Refusal::OrderClosed | Refusal::OrderUnknown, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

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

    async fn call(&self, method: Method, path: &str, body: &str, now: u64) -> Result<Vec<u8>, PayError> {
        let authorization = self.merchant.authorization(method.as_str(), path, body, now)?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base_url))
            .header("accept", "application/json")
            .header("authorization", authorization)
            .header("wechatpay-serial", self.platform.preferred());
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.map_err(PayError::Unreachable)?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(PayError::Unreachable)?.to_vec();
        if status.is_success() {
            self.platform.verify(&headers, &body, now)?;
            return Ok(body);
        }
        // Failures may come unsigned from a gateway in front; nothing but "it failed" is concluded from one that is
        // not verified.
        let believed = self.platform.verify(&headers, &body, now).is_ok();
        let told = serde_json::from_slice::<RefusalBody>(&body).ok();
        let (code, message) = told.map_or_else(Default::default, |told| (told.code, told.message));
        let code = match Refusal::read(status.as_u16(), code) {
            Refusal::OrderPaid | Refusal::OrderClosed | Refusal::OrderUnknown if !believed => {
                Refusal::Other("an unsigned refusal".to_owned())
            }
            code => code,
        };
        Err(PayError::Refused { status: status.as_u16(), code, message })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, PayError> {
    serde_json::from_slice(body).map_err(PayError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_code_are_known() {
        for code in ["ORDERPAID", "ORDER_PAID"] {
            assert_eq!(Refusal::read(400, code.into()), Refusal::OrderPaid);
        }
        assert_eq!(Refusal::read(400, "ORDER_CLOSED".into()), Refusal::OrderClosed);
        assert_eq!(Refusal::read(404, "ORDER_NOT_EXIST".into()), Refusal::OrderUnknown);
        assert!(matches!(Refusal::read(500, "SYSTEM_ERROR".into()), Refusal::Passing(_)));
        assert!(matches!(Refusal::read(502, String::new()), Refusal::Passing(_)));
        assert!(matches!(Refusal::read(429, "FREQUENCY_LIMITED".into()), Refusal::Passing(_)));
        assert!(matches!(Refusal::read(400, "PARAM_ERROR".into()), Refusal::Other(_)));
    }

    #[test]
    fn an_unpaid_transaction_can_be_read() {
        let json = r#"{"mchid":"1","out_trade_no":"20231201","trade_state":"NOTPAY","trade_state_desc":"未支付",
                       "amount":{"total":1,"currency":"CNY"}}"#;
        let transaction: Transaction = serde_json::from_str(json).unwrap();
        assert_eq!(transaction.trade_state, TradeState::NotPay);
        let odd: Transaction =
            serde_json::from_str(r#"{"mchid":"1","out_trade_no":"2","trade_state":"NEW"}"#).unwrap();
        assert_eq!(odd.trade_state, TradeState::Unknown);
    }
}
