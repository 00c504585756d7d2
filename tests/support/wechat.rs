//! The controls of this test's wechat-sim (`tests/wechat-sim/controls.rs` documents them).

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::caller::{Call, Caller};
use crate::process::Process;
use crate::until::{LONG, eventually};

/// A running wechat-sim.
/// Clones are the same one; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Wechat {
    caller: Caller,
    _process: Arc<Process>,
}

impl Wechat {
    pub(crate) fn new(url: &str, process: Process) -> Wechat {
        Wechat { caller: Caller::phone(url), _process: Arc::new(process) }
    }

    pub fn url(&self) -> &str {
        self.caller.base()
    }

    /// The shopper pays; the shop's answer to the notification comes back.
    pub async fn pay(&self, out_trade_no: &str) -> Value {
        self.control("/sim/pay", json!({"out_trade_no": out_trade_no})).await
    }

    /// The shopper pays with the parameters that the shop handed the phone, checked as WeChat's app checks them.
    pub async fn pay_with(&self, out_trade_no: &str, parameters: &Value) -> Value {
        self.control("/sim/pay", json!({"out_trade_no": out_trade_no, "request_payment": parameters})).await
    }

    /// Whether WeChat takes the payment.
    pub async fn try_pay(&self, out_trade_no: &str) -> bool {
        self.caller.post("/sim/pay", &json!({"out_trade_no": out_trade_no})).await.status == 200
    }

    /// Whether WeChat takes the payment with the parameters that the shop handed the phone.
    pub async fn try_pay_with(&self, out_trade_no: &str, parameters: &Value) -> bool {
        let body = json!({"out_trade_no": out_trade_no, "request_payment": parameters});
        self.caller.post("/sim/pay", &body).await.status == 200
    }

    /// What paying is refused with, as (status, reason).
    pub async fn pay_refused(&self, out_trade_no: &str) -> (u16, String) {
        let reply = self.caller.post("/sim/pay", &json!({"out_trade_no": out_trade_no})).await;
        assert_ne!(reply.status, 200, "{out_trade_no} could be paid");
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    }

    /// One more notification, with these faults (`"wrong_amount"`, …).
    pub async fn notify(&self, out_trade_no: &str, faults: &[&str]) -> Value {
        let faults: Vec<Value> = faults.iter().map(|fault| json!({"fault": fault})).collect();
        self.control("/sim/notify", json!({"out_trade_no": out_trade_no, "faults": faults})).await
    }

    /// The access token in use lives for so many more seconds; how many there have been.
    pub async fn token_lives_for(&self, seconds: i64) -> u64 {
        self.control("/sim/access-token", json!({"left": seconds})).await["issued"].as_u64().unwrap_or(0)
    }

    /// Access tokens given out from now on live for so many seconds.
    pub async fn tokens_live_for(&self, seconds: i64) {
        self.control("/sim/access-token", json!({"life": seconds})).await;
    }

    /// The access token in use is no longer good, since somebody forced a new one.
    pub async fn replace_token(&self) {
        self.control("/sim/access-token", json!({"replaced": true})).await;
    }

    /// Adds faults.
    pub async fn misbehave(&self, faults: Value) {
        self.control("/sim/faults", faults).await;
    }

    /// That the shop takes the notification of a payment, `first` being its answer to the first attempt. On a busy machine it may
    /// answer that one with a 503, or later than WeChat waits; then another attempt does.
    pub async fn is_heard(&self, out_trade_no: &str, first: &Value) {
        let status = &first["notify_status"];
        if status == 200 {
            return;
        }
        assert!(status == 503 || status.is_null(), "{first}");
        let deadline = Instant::now() + LONG;
        while self.notify(out_trade_no, &[]).await["notify_status"] != 200 {
            assert!(Instant::now() < deadline, "not within {LONG:?}: the shop takes the notification");
        }
    }

    /// Ends all faults.
    pub async fn behave(&self) {
        let reply = self.caller.delete("/sim/faults").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// Holds calls of these paths, which are neither done nor answered until [`Wechat::behave`].
    pub async fn hold(&self, paths: &[&str]) {
        let faults: Vec<Value> = paths.iter().map(|path| json!({"fault": "hold", "path": path})).collect();
        self.misbehave(json!({"api": faults})).await;
    }

    /// Waits until so many calls are held.
    pub async fn holds(&self, calls: u64) {
        eventually(LONG, &format!("{calls} calls are under way"), async || {
            (self.look("/sim/held").await["held"] == calls).then_some(())
        })
        .await;
    }

    /// The calls that it received and answered, or dropped, oldest first, whose path starts with `prefix`.
    pub async fn calls(&self, prefix: &str) -> Vec<Value> {
        let reply = self.caller.send(Call::get(&format!("/sim/log?path={prefix}"))).await;
        reply.json().as_array().cloned().unwrap_or_default()
    }

    /// A payment was made at this moment (RFC 3339, +08:00), and stands in that day's bill.
    pub async fn backdate(&self, out_trade_no: &str, success_time: &str) {
        let body = json!({"out_trade_no": out_trade_no, "success_time": success_time});
        self.control("/sim/bills/backdate", body).await;
    }

    /// The same of a refund.
    pub async fn backdate_refund(&self, out_refund_no: &str, success_time: &str) {
        let body = json!({"out_refund_no": out_refund_no, "success_time": success_time});
        self.control("/sim/bills/backdate", body).await;
    }

    /// What a control shows.
    pub(crate) async fn look(&self, path: &str) -> Value {
        let reply = self.caller.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        let reply = self.caller.post(path, &body).await;
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        reply.json()
    }
}
