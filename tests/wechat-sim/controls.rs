//! The simulator's own controls, under `/sim/`; the real service has none of them. Promises tests and the demo JSON in,
//! JSON out, and 4xx `{"error": …}` for what cannot be done.
//!
//! | control | what it does |
//! |---|---|
//! | `GET /sim/healthz` | `{"status":"ok"}` |
//! | `POST /sim/pay` `{"out_trade_no", "request_payment"?}` | pays as that shopper would and replies when the shop has answered the notification: `{out_trade_no, transaction_id, notify_status, notify_body}`. With `request_payment` (the parameters of `wx.requestPayment`) these are checked as WeChat's app checks them; with `"late": true` the money was on its way when the order was closed |
//! | `POST /sim/notify` `{"out_trade_no", "faults"?: [{"fault": …}]}` | sends one more notification now, with exactly these faults, and replies with the shop's answer |
//! | `POST /sim/refund`, `POST /sim/refund-notify` | see `refunds.rs` |
//! | `POST /sim/bills/backdate` `{"out_trade_no" or "out_refund_no", "success_time"}` | the payment or refund was made then: so it stands in that day's bill |
//! | `GET, POST, DELETE /sim/faults` | see `faults.rs` |
//! | `GET /sim/held` | see `holding.rs` |
//! | `GET /sim/shipments?out_trade_no=` | see `shipping.rs` |
//! | `POST /sim/templates`, `POST /sim/subscriptions`, `GET /sim/messages` | see `messages.rs` |
//! | `POST /sim/access-token` `{"life": seconds}`, `{"left": seconds}` or `{"replaced": true}` | see `token.rs` |
//! | `GET /sim/log?path=/v3/…`, `DELETE /sim/log` | the calls received, oldest first, and an end to them |

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::faults::{Faults, NotifyFault};
use crate::keys::Keys;
use crate::notify::{Answer, Notice};
use crate::reply::json_reply;
use crate::state::{Order, Shared, now};
use crate::token::TokenControl;

/// A control that cannot be carried out.
#[derive(Debug)]
pub struct Refused(StatusCode, String);

impl Refused {
    pub fn new(status: StatusCode, why: String) -> Refused {
        Refused(status, why)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        json_reply(self.0, &json!({"error": self.1}))
    }
}

pub type Reply = Result<Response, Refused>;

pub fn done(body: &Value) -> Reply {
    Ok(json_reply(StatusCode::OK, body))
}

pub fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))
}

fn unknown(out_trade_no: &str) -> Refused {
    Refused(StatusCode::NOT_FOUND, format!("no prepay for {out_trade_no}"))
}

pub async fn healthz() -> Reply {
    done(&json!({"status": "ok"}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayControl {
    out_trade_no: String,
    request_payment: Option<RequestPayment>,
    #[serde(default)]
    late: bool,
}

/// The parameters of `wx.requestPayment`, as the mini-program got them from the shop.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestPayment {
    time_stamp: String,
    nonce_str: String,
    package: String,
    sign_type: String,
    pay_sign: String,
}

impl RequestPayment {
    /// What WeChat's app checks before it shows the payment sheet.
    fn check(&self, keys: &Keys, order: &Order) -> Result<(), String> {
        if self.package != format!("prepay_id={}", order.prepay_id) {
            return Err("package names another prepay_id".into());
        }
        if self.sign_type != "RSA" {
            return Err("signType must be RSA".into());
        }
        let is_seconds =
            self.time_stamp.len() == 10 && self.time_stamp.bytes().all(|byte| byte.is_ascii_digit());
        if !is_seconds {
            return Err("timeStamp must be seconds since 1970".into());
        }
        if self.nonce_str.is_empty() || self.nonce_str.len() > 32 {
            return Err("nonceStr must have 1 to 32 characters".into());
        }
        let RequestPayment { time_stamp, nonce_str, package, .. } = self;
        let message = format!("{}\n{time_stamp}\n{nonce_str}\n{package}\n", keys.merchant.appid);
        if keys.merchant_signed(message.as_bytes(), &self.pay_sign) {
            Ok(())
        } else {
            Err("paySign does not verify".into())
        }
    }
}

pub async fn pay(State(sim): State<Shared>, body: Bytes) -> Reply {
    let asked: PayControl = read(&body)?;
    let (notice, transaction_id) = {
        let mut books = sim.books();
        let order = books.orders.get_mut(&asked.out_trade_no).ok_or_else(|| unknown(&asked.out_trade_no))?;
        if let Some(parameters) = &asked.request_payment {
            parameters.check(&sim.keys, order).map_err(|why| Refused(StatusCode::BAD_REQUEST, why))?;
        }
        let paid = if asked.late { order.pay_late(now()) } else { order.pay(now()) };
        paid.map_err(|why| Refused(StatusCode::CONFLICT, why.to_owned()))?;
        (Notice::of(&sim.keys, order), order.payment.as_ref().map(|paid| paid.transaction_id.clone()))
    };
    // The payment stands whatever becomes of this call, so the delivery is nobody's to cancel.
    let answer = match tokio::spawn(notice.deliver(sim.clone())).await {
        Ok(answer) => answer,
        Err(error) => Answer { notify_error: Some(error.to_string()), ..Answer::default() },
    };
    reported(&asked.out_trade_no, transaction_id, &answer)
}

fn reported(out_trade_no: &str, transaction_id: Option<String>, answer: &Answer) -> Reply {
    let mut body = json!(answer);
    body["out_trade_no"] = json!(out_trade_no);
    body["transaction_id"] = json!(transaction_id);
    done(&body)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyControl {
    out_trade_no: String,
    #[serde(default)]
    faults: Vec<NotifyFault>,
}

pub async fn notify(State(sim): State<Shared>, body: Bytes) -> Reply {
    let asked: NotifyControl = read(&body)?;
    let (notice, transaction_id) = {
        let books = sim.books();
        let order = books.orders.get(&asked.out_trade_no).ok_or_else(|| unknown(&asked.out_trade_no))?;
        (Notice::of(&sim.keys, order), order.payment.as_ref().map(|paid| paid.transaction_id.clone()))
    };
    let answer = notice.once(&sim, &asked.faults).await;
    reported(&asked.out_trade_no, transaction_id, &answer)
}

pub async fn show_faults(State(sim): State<Shared>) -> Reply {
    done(&json!(sim.books().faults))
}

pub async fn add_faults(State(sim): State<Shared>, body: Bytes) -> Reply {
    let more: Faults = read(&body)?;
    let mut books = sim.books();
    books.faults.add(more);
    done(&json!(books.faults))
}

pub async fn clear_faults(State(sim): State<Shared>) -> Reply {
    let mut books = sim.books();
    books.faults = Faults::default();
    books.holding.release();
    done(&json!(books.faults))
}

pub async fn change_access_token(State(sim): State<Shared>, body: Bytes) -> Reply {
    let control: TokenControl = read(&body)?;
    let mut books = sim.books();
    if books.tokens.control(&control, now()) {
        done(&json!({"issued": books.tokens.issued()}))
    } else {
        Err(Refused(StatusCode::CONFLICT, "no access token was given out yet".to_owned()))
    }
}

pub async fn show_log(State(sim): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Reply {
    let prefix = query.get("path").map_or("", String::as_str);
    done(&json!(sim.books().log.starting_with(prefix)))
}

pub async fn clear_log(State(sim): State<Shared>) -> Reply {
    sim.books().log.clear();
    done(&json!([]))
}
