//! Notifications of WeChat Pay v3: what a body that WeChat signed says. Whoever calls checks the signature first
//! ([`super::platform::PlatformKeys::verify`]), over the raw bytes; nothing is parsed before that.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::pay::Transaction;

/// Opens what WeChat sealed with the merchant's API v3 key.
pub struct NotifyOpener {
    key: LessSafeKey,
}

/// Shows nothing.
impl fmt::Debug for NotifyOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotifyOpener")
    }
}

/// Why a notification that WeChat signed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error("the notification has another form")]
    Malformed(#[source] serde_json::Error),
    #[error("the algorithm {0} is not AEAD_AES_256_GCM")]
    Algorithm(String),
    #[error("the sealed part does not open with the API v3 key")]
    Sealed,
}

/// What stands on the outside of a notification. Empty where it is missing.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Label {
    /// WeChat's own, the same over all attempts to deliver it.
    pub id: String,
    pub event_type: String,
}

#[derive(Deserialize)]
struct Envelope {
    event_type: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    algorithm: String,
    ciphertext: String,
    #[serde(default)]
    associated_data: Option<String>,
    nonce: String,
}

/// What a notification says.
#[derive(Debug)]
pub enum Notification {
    /// An order was paid.
    Paid(Transaction),
    /// WeChat decided a refund.
    Refund(RefundNotice),
    /// Something that this shop does not act on; taken, so that WeChat stops sending it.
    Other(String),
}

/// What became of a refund: of `REFUND.SUCCESS`, `REFUND.ABNORMAL` and `REFUND.CLOSED`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefundNotice {
    pub mchid: String,
    pub out_trade_no: String,
    pub transaction_id: String,
    pub out_refund_no: String,
    /// WeChat's own number.
    pub refund_id: String,
    pub refund_status: RefundStatus,
    /// RFC 3339; only where the money went back.
    pub success_time: Option<String>,
    pub amount: RefundAmount,
}

/// Fen, before WeChat's own coupons; what the payer saw of them may be less and is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RefundAmount {
    /// Of the order.
    pub total: i64,
    /// Of this refund.
    pub refund: i64,
}

/// How a refund stands at WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RefundStatus {
    /// The money went back.
    Success,
    /// It will not go back: WeChat ended the refund.
    Closed,
    Processing,
    /// It could not be handed to the payer, whose card or account is gone: a person decides in the merchant console.
    Abnormal,
    #[serde(other)]
    Unknown,
}

impl NotifyOpener {
    /// # Errors
    /// When the key has not 32 bytes.
    pub fn new(api_v3_key: &str) -> anyhow::Result<NotifyOpener> {
        let key = UnboundKey::new(&AES_256_GCM, api_v3_key.as_bytes())
            .map_err(|_| anyhow::anyhow!("pay.api_v3_key must have 32 bytes"))?;
        Ok(NotifyOpener { key: LessSafeKey::new(key) })
    }

    /// What stands on the outside of a body, as far as it can be read.
    pub fn label(body: &[u8]) -> Label {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Opens the body of a notification whose signature was checked.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn open(&self, body: &[u8]) -> Result<Notification, NotifyError> {
        let envelope: Envelope = serde_json::from_slice(body).map_err(NotifyError::Malformed)?;
        match envelope.event_type.as_str() {
            "TRANSACTION.SUCCESS" => self.content(envelope.resource).map(Notification::Paid),
            "REFUND.SUCCESS" | "REFUND.ABNORMAL" | "REFUND.CLOSED" => {
                self.content(envelope.resource).map(Notification::Refund)
            }
            _ => Ok(Notification::Other(envelope.event_type)),
        }
    }

    fn content<T: DeserializeOwned>(&self, resource: Resource) -> Result<T, NotifyError> {
        serde_json::from_slice(&self.unseal(resource)?).map_err(NotifyError::Malformed)
    }

    fn unseal(&self, resource: Resource) -> Result<Vec<u8>, NotifyError> {
        if resource.algorithm != "AEAD_AES_256_GCM" {
            return Err(NotifyError::Algorithm(resource.algorithm));
        }
        let nonce =
            Nonce::try_assume_unique_for_key(resource.nonce.as_bytes()).map_err(|_| NotifyError::Sealed)?;
        let mut text = BASE64.decode(&resource.ciphertext).map_err(|_| NotifyError::Sealed)?;
        let length = self
            .key
            .open_in_place(
                nonce,
                Aad::from(resource.associated_data.unwrap_or_default().as_bytes()),
                &mut text,
            )
            .map_err(|_| NotifyError::Sealed)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "abcdefghijklmnopqrstuvwxyzABCDEF";

    fn opener() -> NotifyOpener {
        NotifyOpener::new(KEY).unwrap()
    }

    /// A notification as WeChat builds it, without its signature.
    fn envelope(event_type: &str, associated_data: Option<&str>, content: &str) -> serde_json::Value {
        let nonce = b"123456789012";
        let mut text = content.as_bytes().to_vec();
        let aad = Aad::from(associated_data.unwrap_or_default().as_bytes());
        opener().key.seal_in_place_append_tag(Nonce::assume_unique_for_key(*nonce), aad, &mut text).unwrap();
        serde_json::json!({
            "id": "EV-2018022511223320873", "create_time": "2018-06-08T10:34:56+08:00", "event_type": event_type,
            "resource_type": "encrypt-resource", "summary": "退款成功",
            "resource": {"algorithm": "AEAD_AES_256_GCM", "ciphertext": BASE64.encode(text), "original_type": "refund",
                         "associated_data": associated_data, "nonce": "123456789012"},
        })
    }

    fn open(envelope: &serde_json::Value) -> Result<Notification, NotifyError> {
        opener().open(envelope.to_string().as_bytes())
    }

    const REFUND: &str = r#"{"mchid":"1900000100","transaction_id":"1008450740201411110005820873",
        "out_trade_no":"20150806125346","refund_id":"50200207182018070300011301001","out_refund_no":"7752501201407033233368018",
        "refund_status":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00","user_received_account":"招商银行信用卡0403",
        "amount":{"total":999,"refund":990,"payer_total":998,"payer_refund":989}}"#;

    #[test]
    fn a_refund_is_read_with_and_without_associated_data() {
        for associated_data in [Some("refund"), Some(""), None] {
            let Ok(Notification::Refund(notice)) = open(&envelope("REFUND.SUCCESS", associated_data, REFUND))
            else {
                panic!("{associated_data:?}")
            };
            assert_eq!((notice.refund_status, notice.amount.refund), (RefundStatus::Success, 990));
            assert_eq!(notice.out_refund_no, "7752501201407033233368018");
        }
        let closed = REFUND
            .replace("\"SUCCESS\"", "\"CLOSED\"")
            .replace("\"success_time\":\"2018-06-08T10:34:56+08:00\",", "");
        let Ok(Notification::Refund(notice)) = open(&envelope("REFUND.CLOSED", Some("refund"), &closed))
        else {
            panic!("a closed refund has no success_time")
        };
        assert_eq!((notice.refund_status, notice.success_time), (RefundStatus::Closed, None));
    }

    #[test]
    fn what_nobody_acts_on_is_not_opened() {
        let mut other = envelope("COUPON.USE", Some("coupon"), "{}");
        other["resource"]["ciphertext"] = "AAAA".into();
        assert!(matches!(open(&other), Ok(Notification::Other(kind)) if kind == "COUPON.USE"));
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let good = envelope("REFUND.SUCCESS", Some("refund"), REFUND);
        for (field, value) in
            [("associated_data", "transaction"), ("nonce", "123456789013"), ("ciphertext", "AAAA")]
        {
            let mut bad = good.clone();
            bad["resource"][field] = value.into();
            assert!(matches!(open(&bad), Err(NotifyError::Sealed)), "{field}");
        }
        for (field, value) in [("nonce", "1"), ("ciphertext", "no base64"), ("ciphertext", "")] {
            let mut bad = good.clone();
            bad["resource"][field] = value.into();
            assert!(matches!(open(&bad), Err(NotifyError::Sealed)), "{field}");
        }
        let mut weak = good.clone();
        weak["resource"]["algorithm"] = "AES".into();
        assert!(matches!(open(&weak), Err(NotifyError::Algorithm(_))));
        for content in ["", "{}", "[]", "{\"mchid\":1}"] {
            let bad = envelope("REFUND.SUCCESS", None, content);
            assert!(matches!(open(&bad), Err(NotifyError::Malformed(_))), "{content}");
        }
    }

    #[test]
    fn the_outside_is_read_as_far_as_it_goes() {
        let label = NotifyOpener::label(envelope("REFUND.SUCCESS", None, "{}").to_string().as_bytes());
        assert_eq!(
            (label.id.as_str(), label.event_type.as_str()),
            ("EV-2018022511223320873", "REFUND.SUCCESS")
        );
        for body in [&b""[..], b"[]", b"{\"id\":1}", b"\xff", b"null"] {
            assert_eq!(NotifyOpener::label(body), Label::default(), "{body:?}");
            assert!(matches!(opener().open(body), Err(NotifyError::Malformed(_))), "{body:?}");
        }
    }
}
