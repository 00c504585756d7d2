//! How the simulator misbehaves when told to. `POST /sim/faults` adds what its body lists, `GET` shows what is in force,
//! `DELETE` ends all of it. The body, every part optional:
//!
//! ```json
//! {
//!   "notify": [{"fault": "wrong_amount", "times": 1}],
//!   "api":    [{"fault": "status", "status": 500, "code": "SYSTEM_ERROR", "path": "/v3/pay/", "times": 2}],
//!   "bill":   [{"fault": "dropped_line", "number": "…", "times": 1}],
//!   "login":  [{"errcode": -1, "times": 1}],
//!   "refund": [{"fault": "refused", "status": 403, "code": "NOT_ENOUGH", "times": 2}],
//!   "retry_scale": 0.01,
//!   "refund_gap_seconds": 0.5
//! }
//! ```
//!
//! Without `times` a fault stays until it is deleted. A notification fault counts once for each attempt to deliver,
//! retries included, but `silent` and `reordered`, which count once for each notification. `retry_scale` stretches the
//! real schedule of retries (15 s, 15 s, 30 s, 3 min, …), and `refund_gap_seconds` stands for the minute between two refunds
//! of one order. A refund fault counts once for each new refund.

use serde::{Deserialize, Serialize};

use crate::bills::BillFault;

/// What is wrong with notifications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum NotifyFault {
    /// Sent this much later.
    Late {
        ms: u64,
    },
    /// Sent twice at the same moment.
    Doubled,
    /// Kept back until a later payment's notification was delivered.
    Reordered,
    /// Signed with a key that is not WeChat's.
    ForgedSignature,
    /// Signed rightly, ten minutes ago.
    StaleTimestamp,
    /// Says another sum than was asked for.
    WrongAmount,
    /// Says US dollars.
    WrongCurrency,
    WrongMchid,
    WrongAppid,
    /// Says that somebody else paid.
    WrongPayer,
    /// Names an order that the shop never made.
    UnknownOrder,
    /// Never sent; the shop must ask.
    Silent,
    /// A probe of whether the shop checks signatures at all.
    Signtest,
}

/// What is wrong with calls to WeChat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum ApiFault {
    /// Refused with this status and code, unsigned, as an overloaded gateway does. Nothing is done.
    Status { status: u16, code: String },
    /// Refused with this status and code, signed, as the service itself does. Nothing is done.
    Refuse { status: u16, code: String },
    /// Refused with status 200 and this `errcode`, as the mini-program's server API does. Nothing is done.
    Errcode { errcode: i64 },
    /// Answered this much later.
    Slow { ms: u64 },
    /// Neither done nor answered until the faults end (`holding.rs`).
    Hold,
    /// The connection closes and nothing is done.
    Drop,
    /// All is done as asked, and the connection closes instead of the reply.
    LostReply,
    /// The reply is signed with a key that is not WeChat's.
    ForgedSignature,
}

/// A login that fails with this `errcode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoginFault {
    pub errcode: i64,
}

/// What becomes of a new refund, or of the request for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum RefundFault {
    /// Refused, signed, and nothing is done.
    Refused { status: u16, code: RefundCode },
    /// Under way until it is decided by `/sim/refund`.
    Hold,
    /// The shopper's account cannot take it.
    Abnormal,
    /// Ended without paying.
    Closed,
}

/// The codes that a refund is refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefundCode {
    NotEnough,
    /// The other spelling that occurs.
    #[serde(rename = "NOTENOUGH")]
    NotEnoughUnspaced,
    UserAccountAbnormal,
    FrequencyLimited,
    SystemError,
    ParamError,
    InvalidRequest,
    NoAuth,
}

impl RefundCode {
    pub fn name(self) -> &'static str {
        match self {
            RefundCode::NotEnough => "NOT_ENOUGH",
            RefundCode::NotEnoughUnspaced => "NOTENOUGH",
            RefundCode::UserAccountAbnormal => "USER_ACCOUNT_ABNORMAL",
            RefundCode::FrequencyLimited => "FREQUENCY_LIMITED",
            RefundCode::SystemError => "SYSTEM_ERROR",
            RefundCode::ParamError => "PARAM_ERROR",
            RefundCode::InvalidRequest => "INVALID_REQUEST",
            RefundCode::NoAuth => "NO_AUTH",
        }
    }
}

/// A fault and how often it still happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed<F> {
    #[serde(flatten)]
    pub fault: F,
    /// Absent: until deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl<F: Clone> Timed<F> {
    /// The fault, if it still happens; one time fewer from now on.
    fn take(&mut self) -> Option<F> {
        match &mut self.times {
            None => Some(self.fault.clone()),
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(self.fault.clone())
            }
        }
    }
}

/// A fault of calls whose path starts so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfPath {
    #[serde(flatten)]
    pub fault: ApiFault,
    #[serde(default = "any_payment_call")]
    pub path: String,
}

fn any_payment_call() -> String {
    "/v3/".to_owned()
}

/// All faults in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    pub notify: Vec<Timed<NotifyFault>>,
    pub api: Vec<Timed<OfPath>>,
    pub login: Vec<Timed<LoginFault>>,
    pub refund: Vec<Timed<RefundFault>>,
    pub bill: Vec<Timed<BillFault>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_gap_seconds: Option<f64>,
}

impl Faults {
    /// Adds the faults of `more` to those in force.
    pub fn add(&mut self, more: Faults) {
        self.notify.extend(more.notify);
        self.api.extend(more.api);
        self.login.extend(more.login);
        self.refund.extend(more.refund);
        self.refund_gap_seconds = more.refund_gap_seconds.or(self.refund_gap_seconds);
        self.bill.extend(more.bill);
        self.retry_scale = more.retry_scale.or(self.retry_scale);
    }

    /// What is wrong with one attempt to deliver a notification, `first` or a retry.
    pub fn take_notify(&mut self, first: bool) -> Vec<NotifyFault> {
        let once_a_notice =
            |fault: &NotifyFault| matches!(fault, NotifyFault::Silent | NotifyFault::Reordered);
        self.notify
            .iter_mut()
            .filter(|timed| first || !once_a_notice(&timed.fault))
            .filter_map(Timed::take)
            .collect()
    }

    /// What is wrong with one call to `path`.
    pub fn take_api(&mut self, path: &str) -> Vec<ApiFault> {
        let matching = self.api.iter_mut().filter(|timed| path.starts_with(&timed.fault.path));
        matching.filter_map(|timed| timed.take().map(|of_path| of_path.fault)).collect()
    }

    /// What becomes of the next refund.
    pub fn take_refund(&mut self) -> Option<RefundFault> {
        self.refund.iter_mut().find_map(Timed::take)
    }

    /// What is wrong with the next bill.
    pub fn take_bill(&mut self) -> Vec<BillFault> {
        self.bill.iter_mut().filter_map(Timed::take).collect()
    }

    /// How the next login fails.
    pub fn take_login(&mut self) -> Option<LoginFault> {
        self.login.iter_mut().find_map(Timed::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: serde_json::Value) -> Faults {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_counted_fault_ends_and_an_uncounted_one_stays() {
        let mut faults = faults(serde_json::json!({
            "notify": [{"fault": "wrong_amount", "times": 1}, {"fault": "late", "ms": 5}, {"fault": "silent"}],
            "retry_scale": 0.5,
        }));
        assert_eq!(faults.take_notify(true).len(), 3);
        assert_eq!(faults.take_notify(true), [NotifyFault::Late { ms: 5 }, NotifyFault::Silent]);
        assert_eq!(faults.take_notify(false), [NotifyFault::Late { ms: 5 }], "a retry is past being silent");
    }

    #[test]
    fn an_api_fault_keeps_to_its_path() {
        let mut faults = faults(serde_json::json!({
            "api": [{"fault": "status", "status": 429, "code": "FREQUENCY_LIMITED", "path": "/v3/pay/transactions/jsapi"},
                    {"fault": "drop", "times": 1}],
        }));
        assert_eq!(faults.take_api("/sns/jscode2session"), []);
        assert_eq!(faults.take_api("/v3/pay/transactions/id/1"), [ApiFault::Drop]);
        assert!(matches!(
            &faults.take_api("/v3/pay/transactions/jsapi")[..],
            [ApiFault::Status { status: 429, .. }]
        ));
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        for json in [
            serde_json::json!({"notify": [{"fault": "wrong_sum"}]}),
            serde_json::json!({"notifications": []}),
            serde_json::json!({"api": [{"fault": "slow"}]}),
            serde_json::json!({"refund": [{"fault": "refused", "status": 403, "code": "NO_MONEY"}]}),
        ] {
            assert!(serde_json::from_value::<Faults>(json.clone()).is_err(), "{json}");
        }
    }
}
