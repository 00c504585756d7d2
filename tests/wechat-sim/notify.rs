//! Notifications of payments and refunds: built in the real service's form, sealed with AES-256-GCM, signed, posted to the
//! request's `notify_url`, and tried again on the real schedule until the shop answers 2xx. Promises whoever controls the
//! simulator to report what the shop answered. A process that ends takes its unfinished deliveries with it, as the real
//! service may also give up: a shop must be able to ask for itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::faults::NotifyFault;
use crate::keys::{Keys, random_nonce, random_text};
use crate::pay::{new_payment, transaction};
use crate::reply::{Signer, signature_headers};
use crate::state::{Order, Shared, Sim, TradeState, beijing_time, now};

/// Seconds between one attempt and the next.
const RETRY_SECONDS: [u32; 15] =
    [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];

/// One notification; its id and content stay the same over all attempts.
#[derive(Clone, Debug)]
pub struct Notice {
    id: String,
    create_time: String,
    notify_url: String,
    event_type: String,
    summary: &'static str,
    /// What the sealed part is, in WeChat's word.
    original_type: &'static str,
    content: Value,
}

/// What the shop answered to one attempt.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// Null when nothing was sent or nobody answered.
    pub notify_status: Option<u16>,
    /// JSON where it was JSON, text otherwise, null when it was empty.
    pub notify_body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify_error: Option<String>,
}

impl Answer {
    /// Whether the shop took the notification: the real service reads no other status as that.
    fn is_taken(&self) -> bool {
        matches!(self.notify_status, Some(200 | 204))
    }
}

impl Notice {
    /// That `order` was paid. For an order that was not, a payment is made up: no such notification can come from the
    /// real service, but a shop must not fall for one.
    pub fn of(keys: &Keys, order: &Order) -> Notice {
        let mut order = order.clone();
        // It says that the order was paid, whatever became of the money since.
        order.state = TradeState::Success;
        if order.payment.is_none() {
            order.payment = Some(new_payment(now()));
        }
        Notice {
            id: random_uuid(),
            create_time: beijing_time(now()),
            notify_url: order.prepay.notify_url.clone(),
            event_type: "TRANSACTION.SUCCESS".to_owned(),
            summary: "支付成功",
            original_type: "transaction",
            content: transaction(&keys.merchant, &order),
        }
    }

    /// That a refund is decided: `state` ends the event's type.
    pub fn of_refund(notify_url: &str, state: &str, summary: &'static str, content: Value) -> Notice {
        Notice {
            id: random_uuid(),
            create_time: beijing_time(now()),
            notify_url: notify_url.to_owned(),
            event_type: format!("REFUND.{state}"),
            summary,
            original_type: "refund",
            content,
        }
    }

    /// The body to post, with what `faults` falsify in it.
    fn body(&self, keys: &Keys, faults: &[NotifyFault]) -> Result<Vec<u8>> {
        let mut content = self.content.clone();
        let is_refund = self.original_type == "refund";
        for fault in faults {
            match fault {
                NotifyFault::WrongAmount if is_refund => {
                    let wrong = if content["amount"]["refund"] == json!(1) { 2 } else { 1 };
                    content["amount"]["refund"] = json!(wrong);
                    content["amount"]["payer_refund"] = json!(wrong);
                }
                NotifyFault::WrongAmount => {
                    let wrong = if content["amount"]["total"] == json!(1) { 2 } else { 1 };
                    content["amount"]["total"] = json!(wrong);
                    content["amount"]["payer_total"] = json!(wrong);
                }
                NotifyFault::WrongCurrency => {
                    content["amount"]["currency"] = json!("USD");
                    content["amount"]["payer_currency"] = json!("USD");
                }
                NotifyFault::WrongMchid => content["mchid"] = json!("1900000109"),
                NotifyFault::WrongAppid => content["appid"] = json!("wxd678efh567hg6787"),
                NotifyFault::WrongPayer => {
                    content["payer"] = json!({"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"})
                }
                NotifyFault::UnknownOrder if is_refund => {
                    content["out_refund_no"] = json!(random_text(b"123456789", 22));
                }
                NotifyFault::UnknownOrder => content["out_trade_no"] = json!(random_text(b"123456789", 22)),
                NotifyFault::Late { .. }
                | NotifyFault::Doubled
                | NotifyFault::Reordered
                | NotifyFault::ForgedSignature
                | NotifyFault::StaleTimestamp
                | NotifyFault::Silent
                | NotifyFault::Signtest => {}
            }
        }
        let nonce = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 12);
        let ciphertext = keys.seal(&nonce, self.original_type, content.to_string().as_bytes())?;
        let envelope = json!({
            "id": self.id,
            "create_time": self.create_time,
            "resource_type": "encrypt-resource",
            "event_type": self.event_type,
            "summary": self.summary,
            "resource": {
                "original_type": self.original_type,
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": ciphertext,
                "associated_data": self.original_type,
                "nonce": nonce,
            },
        });
        Ok(envelope.to_string().into_bytes())
    }

    /// Posts once and reports the answer. Delays and doubling happen here.
    async fn attempt(&self, sim: &Sim, faults: &[NotifyFault]) -> Answer {
        for fault in faults {
            if let NotifyFault::Late { ms } = fault {
                pause(Duration::from_millis(*ms)).await;
            }
        }
        let answer = if faults.contains(&NotifyFault::Doubled) {
            let (first, second) = tokio::join!(self.post(sim, faults), self.post(sim, faults));
            first.and_then(|first| second.map(|_| first))
        } else {
            self.post(sim, faults).await
        };
        answer
            .unwrap_or_else(|error| Answer { notify_error: Some(format!("{error:#}")), ..Answer::default() })
    }

    async fn post(&self, sim: &Sim, faults: &[NotifyFault]) -> Result<Answer> {
        let body = self.body(&sim.keys, faults)?;
        let signer =
            if faults.contains(&NotifyFault::ForgedSignature) { Signer::Stranger } else { Signer::Platform };
        let sent_at = if faults.contains(&NotifyFault::StaleTimestamp) { now() - 600 } else { now() };
        let mut request = sim.http.post(&self.notify_url).timeout(sim.answer_within);
        for (name, value) in signature_headers(&sim.keys, signer, sent_at, &body) {
            let probe = name == "wechatpay-signature" && faults.contains(&NotifyFault::Signtest);
            let value = if probe { format!("WECHATPAY/SIGNTEST/{}", random_nonce()) } else { value };
            request = request.header(name, value);
        }
        let reply = request
            .header("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048")
            .header("request-id", format!("08{}", random_text(b"0123456789ABCDEF", 22)))
            .header("content-type", "application/json")
            .header("accept", "*/*")
            .header("user-agent", "Mozilla/4.0")
            .body(body)
            .send()
            .await
            .with_context(|| format!("cannot reach {}", self.notify_url))?;
        let status = reply.status().as_u16();
        let text = reply.text().await.context("the answer broke off")?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        Ok(Answer { notify_status: Some(status), notify_body: body, notify_error: None })
    }

    /// Posts once, without retries, with exactly these faults.
    pub async fn once(&self, sim: &Sim, faults: &[NotifyFault]) -> Answer {
        self.attempt(sim, faults).await
    }

    /// Delivers, with the faults in force: reports the first attempt's answer and goes on in the background if the shop
    /// did not take it.
    pub async fn deliver(self, sim: Shared) -> Answer {
        let faults = sim.books().faults.take_notify(true);
        if faults.contains(&NotifyFault::Silent) {
            return Answer::default();
        }
        if faults.contains(&NotifyFault::Reordered) {
            sim.books().held.push(self);
            return Answer::default();
        }
        let answer = self.attempt(&sim, &faults).await;
        let held = std::mem::take(&mut sim.books().held);
        for earlier in held {
            tokio::spawn(earlier.deliver_late(sim.clone()));
        }
        if !answer.is_taken() {
            tokio::spawn(self.retry(sim));
        }
        answer
    }

    /// Delivers what was kept back.
    async fn deliver_late(self, sim: Shared) {
        if !self.attempt(&sim, &[]).await.is_taken() {
            self.retry(sim).await;
        }
    }

    async fn retry(self, sim: Shared) {
        for seconds in RETRY_SECONDS {
            let scale = sim.books().faults.retry_scale.unwrap_or(1.0).clamp(0.0, 1000.0);
            pause(Duration::from_secs(seconds.into()).mul_f64(scale)).await;
            let faults = sim.books().faults.take_notify(false);
            if self.attempt(&sim, &faults).await.is_taken() {
                return;
            }
        }
    }
}

/// Lets time pass. Being late is what this server is asked to do; nothing waits for a condition in this way.
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn random_uuid() -> String {
    let hex = random_text(b"0123456789abcdef", 32);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;
    use crate::pay::Prepay;

    fn notice(keys: &Keys, total: i64) -> Notice {
        let prepay = Prepay {
            out_trade_no: "2023111500000000000001".into(),
            notify_url: "http://127.0.0.1:1/".into(),
            total,
            openid: "o1".into(),
            attach: None,
            time_expire: None,
        };
        let order = Order {
            prepay,
            request: Value::Null,
            prepay_id: "p".into(),
            opened_at: 0,
            state: TradeState::NotPay,
            payment: None,
        };
        Notice::of(keys, &order)
    }

    #[test]
    fn only_200_and_204_say_that_it_was_taken() {
        let taken = |status| Answer { notify_status: status, ..Answer::default() }.is_taken();
        assert!(taken(Some(200)) && taken(Some(204)));
        for status in [None, Some(201), Some(202), Some(302), Some(401), Some(500)] {
            assert!(!taken(status), "{status:?}");
        }
    }

    #[test]
    fn the_envelope_has_the_real_form() {
        let keys = fixture::keys();
        let body: Value = serde_json::from_slice(&notice(&keys, 3160).body(&keys, &[]).unwrap()).unwrap();
        assert_eq!(body["event_type"], "TRANSACTION.SUCCESS");
        assert_eq!(body["resource_type"], "encrypt-resource");
        assert_eq!(body["resource"]["algorithm"], "AEAD_AES_256_GCM");
        assert_eq!(body["resource"]["nonce"].as_str().unwrap().len(), 12);
        assert_eq!(body["id"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn a_falsified_notice_differs_in_that_field_alone() {
        let keys = fixture::keys();
        let notice = notice(&keys, 3160);
        // The ciphertext of JSON is as long as the JSON itself, so a shorter sum shows in its length.
        let length = |faults: &[NotifyFault]| {
            let body: Value = serde_json::from_slice(&notice.body(&keys, faults).unwrap()).unwrap();
            body["resource"]["ciphertext"].as_str().unwrap().len()
        };
        assert!(length(&[NotifyFault::WrongAmount]) < length(&[]));
        assert_eq!(length(&[NotifyFault::WrongCurrency]), length(&[]));
    }

    #[tokio::test]
    async fn an_unreachable_shop_is_reported_and_not_taken() {
        let keys = fixture::keys();
        let notice = notice(&keys, 1);
        let answer =
            notice.once(&Sim::new(keys, crate::plain_http().unwrap(), Duration::from_secs(60)), &[]).await;
        assert!(!answer.is_taken());
        assert!(answer.notify_error.unwrap().contains("cannot reach"));
    }
}
