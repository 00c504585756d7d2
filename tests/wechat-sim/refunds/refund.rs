//! A refund and what may become of it: the rules that the real service documents for making one and for its end, and how
//! replies, notifications and the daily bill show it.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::wish::Wish;
use crate::keys::{Merchant, random_text};
use crate::notify::Notice;
use crate::reply::PayError;
use crate::state::{Order, TradeState, beijing_time, now};

/// Refunds that one order may have.
const MOST_PARTS: usize = 50;
/// How long after its payment an order can be refunded.
const YEAR_SECONDS: i128 = 365 * 24 * 3600;
/// A refund, and what became of it.
#[derive(Clone, Debug)]
pub struct Refund {
    wish: Wish,
    /// The body as it came: a second one must equal it.
    pub request: Value,
    refund_id: String,
    transaction_id: String,
    out_trade_no: String,
    /// Milliseconds since 1970.
    made_at_ms: i128,
    create_time: String,
    pub status: Status,
    success_time: Option<String>,
}

/// What the daily bill says of a refund.
#[derive(Debug)]
pub struct InBill<'a> {
    /// RFC 3339.
    pub at: &'a str,
    pub refund_id: &'a str,
    pub out_refund_no: &'a str,
    pub out_trade_no: &'a str,
    pub fen: i64,
    pub state: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Processing,
    Success,
    Abnormal,
    Closed,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Processing => "PROCESSING",
            Status::Success => "SUCCESS",
            Status::Abnormal => "ABNORMAL",
            Status::Closed => "CLOSED",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Status::Processing => "退款处理中",
            Status::Success => "退款成功",
            Status::Abnormal => "退款异常",
            Status::Closed => "退款关闭",
        }
    }
}

/// All refunds, by `out_refund_no`.
pub type Refunds = HashMap<String, Refund>;

/// Refused for good: the same request never passes.
pub fn against_the_rules(message: &str) -> PayError {
    PayError::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
}

impl Refund {
    /// A new refund, if the rules allow it. `gap_ms` is the time between two of one order.
    pub fn make(
        refunds: &Refunds,
        order: &Order,
        (wish, request): (Wish, Value),
        (now_ms, gap_ms): (i128, i128),
    ) -> Result<Refund, PayError> {
        let paid = match (&order.payment, order.state) {
            (Some(paid), TradeState::Success | TradeState::Refund) => paid,
            _ => return Err(against_the_rules("订单未支付，不能退款")),
        };
        if wish.total != order.prepay.total {
            return Err(against_the_rules("订单金额与原订单不一致"));
        }
        let paid_at = OffsetDateTime::parse(&paid.success_time, &Rfc3339).map(OffsetDateTime::unix_timestamp);
        if paid_at.is_ok_and(|paid_at| now_ms / 1000 > i128::from(paid_at) + YEAR_SECONDS) {
            return Err(against_the_rules("订单已经超过可退款的最大期限"));
        }
        let out_trade_no = &order.prepay.out_trade_no;
        let earlier: Vec<&Refund> =
            refunds.values().filter(|refund| refund.out_trade_no == *out_trade_no).collect();
        if earlier.len() >= MOST_PARTS {
            return Err(against_the_rules("部分退款次数超过50次"));
        }
        let live = earlier.iter().filter(|refund| refund.status != Status::Closed);
        let promised: i64 = live.map(|refund| refund.wish.refund).sum();
        if wish.refund > order.prepay.total - promised {
            return Err(against_the_rules("申请退款金额大于订单可退金额"));
        }
        if earlier.iter().any(|refund| now_ms - refund.made_at_ms < gap_ms) {
            return Err(against_the_rules("同一笔订单的退款间隔不得少于1分钟"));
        }
        let create_time = beijing_time(i64::try_from(now_ms / 1000).unwrap_or_default());
        let day: String = create_time.chars().filter(char::is_ascii_digit).take(8).collect();
        Ok(Refund {
            refund_id: format!(
                "5030{}{day}{}",
                random_text(b"0123456789", 6),
                random_text(b"0123456789", 11)
            ),
            transaction_id: paid.transaction_id.clone(),
            out_trade_no: out_trade_no.clone(),
            made_at_ms: now_ms,
            create_time,
            status: Status::Processing,
            success_time: None,
            wish,
            request,
        })
    }

    /// WeChat decides: once, but for an abnormal one, which its merchant ends.
    pub fn decide(&mut self, status: Status, now: i64) -> Result<(), String> {
        let may = match self.status {
            Status::Processing => status != Status::Processing,
            Status::Abnormal => matches!(status, Status::Success | Status::Closed),
            Status::Success | Status::Closed => false,
        };
        if !may {
            return Err(format!("a refund that is {} cannot become {}", self.status.name(), status.name()));
        }
        self.status = status;
        self.success_time = (status == Status::Success).then(|| beijing_time(now));
        Ok(())
    }

    /// As replies show it.
    pub fn show(&self) -> Value {
        let Wish { out_refund_no, refund, total, .. } = &self.wish;
        let mut shown = json!({
            "refund_id": self.refund_id,
            "out_refund_no": out_refund_no,
            "transaction_id": self.transaction_id,
            "out_trade_no": self.out_trade_no,
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": self.create_time,
            "status": self.status.name(),
            "funds_account": "AVAILABLE",
            "amount": {
                "total": total, "refund": refund, "payer_total": total, "payer_refund": refund,
                "settlement_total": total, "settlement_refund": refund, "discount_refund": 0, "currency": "CNY",
            },
            "promotion_detail": [],
        });
        if let Some(success_time) = &self.success_time {
            shown["success_time"] = json!(success_time);
        }
        shown
    }

    /// As the daily bill has it.
    pub fn in_bill(&self) -> InBill<'_> {
        InBill {
            at: self.success_time.as_ref().unwrap_or(&self.create_time),
            refund_id: &self.refund_id,
            out_refund_no: &self.wish.out_refund_no,
            out_trade_no: &self.out_trade_no,
            fen: self.wish.refund,
            state: match self.status {
                Status::Processing => "PROCESSING",
                Status::Success => "SUCCESS",
                Status::Abnormal => "CHANGE",
                Status::Closed => "REFUNDCLOSE",
            },
        }
    }

    /// It was asked for and, where it was, paid back then.
    pub fn backdate(&mut self, moment: String) {
        self.success_time = self.success_time.take().map(|_| moment.clone());
        self.create_time = moment;
    }

    /// That it is decided, and how; `None` where the shop named no address.
    pub fn notice(&self, merchant: &Merchant, status: Status) -> Option<Notice> {
        let Wish { out_refund_no, refund, total, notify_url, .. } = &self.wish;
        let mut content = json!({
            "mchid": merchant.mchid,
            "out_trade_no": self.out_trade_no,
            "transaction_id": self.transaction_id,
            "out_refund_no": out_refund_no,
            "refund_id": self.refund_id,
            "refund_status": status.name(),
            "user_received_account": "支付用户零钱",
            "amount": {"total": total, "refund": refund, "payer_total": total, "payer_refund": refund},
        });
        if status == Status::Success {
            content["success_time"] = json!(self.success_time.clone().unwrap_or_else(|| beijing_time(now())));
        }
        Some(Notice::of_refund(notify_url.as_deref()?, status.name(), status.summary(), content))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{body, order};
    use super::*;

    const MINUTE: i128 = 60_000;

    /// Asks for so much under a number, at a moment; keeps it where it was made.
    fn ask(refunds: &mut Refunds, number: &str, fen: i64, at: i128) -> Result<(), &'static str> {
        let wish = Wish { out_refund_no: number.into(), refund: fen, ..Wish::parse(&body()).unwrap() };
        let made = Refund::make(refunds, &order(3160), (wish, body()), (at, MINUTE));
        made.map(|made| drop(refunds.insert(number.to_owned(), made))).map_err(|error| error.code)
    }

    #[test]
    fn parts_never_exceed_what_was_paid_and_a_closed_one_gives_its_share_back() {
        let mut refunds = Refunds::new();
        assert_eq!(ask(&mut refunds, "a", 3000, 0), Ok(()));
        assert_eq!(ask(&mut refunds, "b", 161, MINUTE), Err("INVALID_REQUEST"));
        assert_eq!(ask(&mut refunds, "b", 160, MINUTE), Ok(()));
        assert_eq!(ask(&mut refunds, "c", 1, 2 * MINUTE), Err("INVALID_REQUEST"));
        refunds.get_mut("a").unwrap().decide(Status::Closed, 0).unwrap();
        assert_eq!(ask(&mut refunds, "c", 3000, 2 * MINUTE), Ok(()));
    }

    #[test]
    fn parts_are_a_minute_apart_and_fifty_at_most() {
        let mut refunds = Refunds::new();
        assert_eq!(ask(&mut refunds, "0", 1, 0), Ok(()));
        assert_eq!(ask(&mut refunds, "1", 1, MINUTE - 1), Err("INVALID_REQUEST"));
        for part in 1..50 {
            assert_eq!(ask(&mut refunds, &part.to_string(), 1, i128::from(part) * MINUTE), Ok(()), "{part}");
        }
        assert_eq!(ask(&mut refunds, "50", 1, 50 * MINUTE), Err("INVALID_REQUEST"));
    }

    #[test]
    fn a_refund_comes_within_a_year_of_the_payment() {
        let paid = 1_700_000_000_000 - 1; // a millisecond before 2023-11-15T06:13:20+08:00
        let year = YEAR_SECONDS * 1000;
        assert_eq!(ask(&mut Refunds::new(), "a", 1, paid + year), Ok(()));
        assert_eq!(ask(&mut Refunds::new(), "a", 1, paid + year + 1001), Err("INVALID_REQUEST"));
    }

    #[test]
    fn only_what_was_paid_is_refunded_and_the_total_must_be_its() {
        let refunds = Refunds::new();
        let wish = || (Wish::parse(&body()).unwrap(), body());
        let unpaid = Order { state: TradeState::NotPay, payment: None, ..order(3160) };
        assert_eq!(Refund::make(&refunds, &unpaid, wish(), (0, MINUTE)).unwrap_err().code, "INVALID_REQUEST");
        let dearer = order(3161);
        assert_eq!(Refund::make(&refunds, &dearer, wish(), (0, MINUTE)).unwrap_err().code, "INVALID_REQUEST");
    }

    #[test]
    fn a_decision_is_final_but_for_an_abnormal_refund() {
        let mut refunds = Refunds::new();
        ask(&mut refunds, "a", 100, 0).unwrap();
        let refund = refunds.get_mut("a").unwrap();
        assert!(refund.decide(Status::Processing, 0).is_err());
        refund.decide(Status::Abnormal, 0).unwrap();
        assert!(refund.decide(Status::Abnormal, 0).is_err());
        refund.decide(Status::Success, 1_700_000_000).unwrap();
        assert_eq!(refund.show()["success_time"], "2023-11-15T06:13:20+08:00");
        assert!(refund.decide(Status::Closed, 0).is_err());
        assert_eq!(refund.show()["refund_id"].as_str().unwrap().len(), 29);
    }
}
