//! How a test decides a refund, or has the shop told of one once more.

use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::{Status, decide, unknown};
use crate::controls::{Reply, done, read};
use crate::faults::NotifyFault;
use crate::notify::Answer;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundControl {
    out_refund_no: String,
    status: Status,
}

/// POST /sim/refund
pub async fn decide_refund(State(sim): State<Shared>, body: Bytes) -> Reply {
    let asked: RefundControl = read(&body)?;
    let answer = match decide(&sim, &asked.out_refund_no, asked.status)? {
        Some(notice) => notice.deliver(sim.clone()).await,
        None => Answer::default(),
    };
    done(&json!(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundNotifyControl {
    out_refund_no: String,
    /// The refund's own where it is absent.
    status: Option<Status>,
    #[serde(default)]
    faults: Vec<NotifyFault>,
}

/// POST /sim/refund-notify
pub async fn notify_refund(State(sim): State<Shared>, body: Bytes) -> Reply {
    let asked: RefundNotifyControl = read(&body)?;
    let notice = {
        let books = sim.books();
        let refund = books.refunds.get(&asked.out_refund_no).ok_or_else(|| unknown(&asked.out_refund_no))?;
        refund.notice(&sim.keys.merchant, asked.status.unwrap_or(refund.status))
    };
    let answer = match notice {
        Some(notice) => notice.once(&sim, &asked.faults).await,
        None => Answer::default(),
    };
    done(&json!(answer))
}
