//! Refunds: asking for one, asking about one, and what becomes of it. Promises the shop the rules that the real service
//! documents — a number stands for one request, all parts together never exceed what was paid, at most fifty of them, a
//! minute apart, within a year of the payment — and a notification, sealed and signed, once a refund is decided.
//!
//! A refund is paid back a moment after it was asked for, unless `faults.rs` was told otherwise. Two controls:
//!
//! | control | what it does |
//! |---|---|
//! | `POST /sim/refund` `{"out_refund_no", "status": "SUCCESS"\|"ABNORMAL"\|"CLOSED"}` | decides a refund that is under way or abnormal, and replies with the shop's answer to the notification |
//! | `POST /sim/refund-notify` `{"out_refund_no", "status"?, "faults"?: [{"fault": …}]}` | sends one more notification now, of this state, with exactly these faults, and replies with the shop's answer |

mod controls;
#[cfg(test)]
mod fixture;
mod refund;
mod wish;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

pub use self::controls::{decide_refund, notify_refund};
use self::refund::against_the_rules;
pub use self::refund::{Refund, Refunds, Status};
use self::wish::{Wish, is_refund_no};
use crate::controls::Refused;
use crate::faults::RefundFault;
use crate::notify::{Notice, pause};
use crate::pay::json_body;
use crate::reply::{PayError, json_reply};
use crate::state::{Books, Shared, TradeState, now};

/// Seconds between two refunds of one order.
const GAP_SECONDS: f64 = 60.0;
/// How long a refund is under way.
const DECIDED_AFTER: Duration = Duration::from_millis(30);

fn not_found(message: &str) -> PayError {
    PayError::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_EXISTS", message)
}

/// POST /v3/refund/domestic/refunds
pub async fn refund(State(sim): State<Shared>, body: Bytes) -> Result<Response, PayError> {
    let request = json_body(&body)?;
    let wish = Wish::parse(&request)?;
    let number = wish.out_refund_no.clone();
    let (shown, fault) = {
        let mut guard = sim.books();
        let Books { refunds, orders, faults, .. } = &mut *guard;
        let order = orders.values_mut().find(|order| wish.is_for(order));
        let order = order.ok_or_else(|| not_found("订单不存在"))?;
        if let Some(known) = refunds.get(&number) {
            if known.request != request {
                return Err(against_the_rules("退款单号已存在，请求参数与原请求不一致"));
            }
            return Ok(json_reply(StatusCode::OK, &known.show()));
        }
        let fault = faults.take_refund();
        if let Some(RefundFault::Refused { status, code }) = &fault {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
            return Err(PayError::new(status, code.name(), "退款请求失败"));
        }
        let gap_ms = 1000.0 * faults.refund_gap_seconds.unwrap_or(GAP_SECONDS).clamp(0.0, 3600.0);
        #[allow(clippy::cast_possible_truncation, reason = "at most an hour of milliseconds")]
        let times = (now_ms(), gap_ms as i128);
        let made = Refund::make(refunds, order, (wish, request), times)?;
        order.state = TradeState::Refund;
        let shown = made.show();
        refunds.insert(number.clone(), made);
        (shown, fault)
    };
    let decision = match fault {
        Some(RefundFault::Hold) => None,
        Some(RefundFault::Abnormal) => Some(Status::Abnormal),
        Some(RefundFault::Closed) => Some(Status::Closed),
        Some(RefundFault::Refused { .. }) | None => Some(Status::Success),
    };
    if let Some(status) = decision {
        tokio::spawn(decide_later(sim, number, status));
    }
    Ok(json_reply(StatusCode::OK, &shown))
}

fn now_ms() -> i128 {
    time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000
}

async fn decide_later(sim: Shared, number: String, status: Status) {
    pause(DECIDED_AFTER).await;
    // A control may have been quicker; then it has told the shop.
    let decided = decide(&sim, &number, status);
    if let Ok(Some(notice)) = decided {
        notice.deliver(sim).await;
    }
}

/// Decides a refund; the notification to send.
fn decide(sim: &Shared, number: &str, status: Status) -> Result<Option<Notice>, Refused> {
    let mut books = sim.books();
    let refund = books.refunds.get_mut(number).ok_or_else(|| unknown(number))?;
    refund.decide(status, now()).map_err(|why| Refused::new(StatusCode::CONFLICT, why))?;
    Ok(refund.notice(&sim.keys.merchant, status))
}

fn unknown(number: &str) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("no refund {number}"))
}

/// GET /v3/refund/domestic/refunds/{out_refund_no}
pub async fn query(
    State(sim): State<Shared>,
    Path(out_refund_no): Path<String>,
) -> Result<Response, PayError> {
    if !is_refund_no(&out_refund_no) {
        return Err(PayError::param("商户退款单号out_refund_no格式错误"));
    }
    let books = sim.books();
    let refund = books.refunds.get(&out_refund_no).ok_or_else(|| not_found("退款单不存在"))?;
    Ok(json_reply(StatusCode::OK, &refund.show()))
}
