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

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::controls::{Refused, Reply, done, read};
use crate::faults::{NotifyFault, RefundFault};
use crate::keys::{Merchant, random_text};
use crate::notify::{Answer, Notice, pause};
use crate::pay::{Fields, check_notify_url, json_body};
use crate::reply::{PayError, json_reply};
use crate::state::{Books, Order, Shared, TradeState, beijing_time, now};

/// Refunds that one order may have.
const MOST_PARTS: usize = 50;
/// Seconds between two of them.
const GAP_SECONDS: f64 = 60.0;
/// How long after its payment an order can be refunded.
const YEAR_SECONDS: i128 = 365 * 24 * 3600;
/// How long a refund is under way.
const DECIDED_AFTER: Duration = Duration::from_millis(30);

/// What a shop asked to have refunded, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    transaction_id: Option<String>,
    out_trade_no: Option<String>,
    out_refund_no: String,
    notify_url: Option<String>,
    /// Fen.
    refund: i64,
    /// Fen.
    total: i64,
}

/// A refund, and what became of it.
#[derive(Clone, Debug)]
pub struct Refund {
    wish: Wish,
    /// The body as it came: a second one must equal it.
    request: Value,
    refund_id: String,
    transaction_id: String,
    out_trade_no: String,
    /// Milliseconds since 1970.
    made_at_ms: i128,
    create_time: String,
    status: Status,
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
    fn name(self) -> &'static str {
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

impl Wish {
    /// Checks the body of a refund.
    fn parse(body: &Value) -> Result<Wish, PayError> {
        let fields = Fields(body);
        let transaction_id = fields.optional_text("/transaction_id", 1..=32)?;
        let out_trade_no = fields.optional_text("/out_trade_no", 6..=32)?;
        if transaction_id.is_none() && out_trade_no.is_none() {
            return fields.refuse("/transaction_id", "transaction_id和out_trade_no不能同时为空");
        }
        let out_refund_no = fields.text("/out_refund_no", 1..=64)?;
        if !is_refund_no(out_refund_no) {
            return fields.refuse("/out_refund_no", "只能是数字、大小写字母_-|*@");
        }
        fields.optional_text("/reason", 1..=80)?;
        let notify_url = fields.optional_text("/notify_url", 8..=256)?;
        if let Some(Err(issue)) = notify_url.map(check_notify_url) {
            return fields.refuse("/notify_url", issue);
        }
        if fields.text("/amount/currency", 1..=16)? != "CNY" {
            return fields.refuse("/amount/currency", "只支持人民币CNY");
        }
        Ok(Wish {
            transaction_id: transaction_id.map(str::to_owned),
            out_trade_no: out_trade_no.map(str::to_owned),
            out_refund_no: out_refund_no.to_owned(),
            notify_url: notify_url.map(str::to_owned),
            refund: fields.fen("/amount/refund")?,
            total: fields.fen("/amount/total")?,
        })
    }

    fn is_for(&self, order: &Order) -> bool {
        let paid = order.payment.as_ref().map(|paid| &paid.transaction_id);
        self.transaction_id.as_ref().is_none_or(|id| Some(id) == paid)
            && self.out_trade_no.as_ref().is_none_or(|number| *number == order.prepay.out_trade_no)
    }
}

fn is_refund_no(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-|*@".contains(&byte))
}

fn against_the_rules(message: &str) -> PayError {
    PayError::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
}

fn not_found(message: &str) -> PayError {
    PayError::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_EXISTS", message)
}

impl Refund {
    /// A new refund, if the rules allow it. `gap_ms` is the time between two of one order.
    fn make(
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
    fn decide(&mut self, status: Status, now: i64) -> Result<(), String> {
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
    fn show(&self) -> Value {
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
    fn notice(&self, merchant: &Merchant, status: Status) -> Option<Notice> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundControl {
    out_refund_no: String,
    status: Status,
}

pub async fn control(State(sim): State<Shared>, body: Bytes) -> Reply {
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

pub async fn control_notify(State(sim): State<Shared>, body: Bytes) -> Reply {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pay::Prepay;
    use crate::state::Payment;

    const MINUTE: i128 = 60_000;

    fn order(total: i64) -> Order {
        let prepay = Prepay {
            out_trade_no: "2023111500000000000001".into(),
            notify_url: "http://127.0.0.1:1/".into(),
            total,
            openid: "o1".into(),
            attach: None,
            time_expire: None,
        };
        let payment = Payment {
            transaction_id: "4200".into(),
            success_time: "2023-11-15T06:13:20+08:00".into(),
            bank_type: "OTHERS",
        };
        Order {
            prepay,
            request: Value::Null,
            prepay_id: "p".into(),
            opened_at: 0,
            state: TradeState::Success,
            payment: Some(payment),
        }
    }

    fn body() -> Value {
        json!({
            "transaction_id": "4200", "out_refund_no": "2023111500000000000001-late", "reason": "订单已取消",
            "notify_url": "https://shop.example/api/payments/wechat/refund-notify",
            "amount": {"refund": 100, "total": 3160, "currency": "CNY"},
        })
    }

    fn outcome(pointer: &str, value: Value) -> Result<Wish, &'static str> {
        let mut body = body();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        Wish::parse(&body).map_err(|error| error.code)
    }

    /// Asks for so much under a number, at a moment; keeps it where it was made.
    fn ask(refunds: &mut Refunds, number: &str, fen: i64, at: i128) -> Result<(), &'static str> {
        let wish = Wish { out_refund_no: number.into(), refund: fen, ..Wish::parse(&body()).unwrap() };
        let made = Refund::make(refunds, &order(3160), (wish, body()), (at, MINUTE));
        made.map(|made| drop(refunds.insert(number.to_owned(), made))).map_err(|error| error.code)
    }

    #[test]
    fn each_limit_of_a_request_is_kept() {
        assert!(outcome("/reason", Value::Null).is_ok());
        assert!(outcome("/notify_url", Value::Null).is_ok());
        assert!(outcome("/out_refund_no", json!("aZ0_-|*@")).is_ok());
        for number in [json!(""), json!("1".repeat(65)), json!("1 2"), json!("退"), Value::Null] {
            assert_eq!(outcome("/out_refund_no", number.clone()), Err("PARAM_ERROR"), "{number}");
        }
        assert!(outcome("/reason", json!("农".repeat(26))).is_ok());
        assert_eq!(outcome("/reason", json!("农".repeat(27))), Err("PARAM_ERROR"));
        assert_eq!(outcome("/transaction_id", Value::Null), Err("PARAM_ERROR"), "which payment?");
        for url in ["http://shop.example/n", "https://shop.example/n?a=1"] {
            assert_eq!(outcome("/notify_url", json!(url)), Err("PARAM_ERROR"), "{url}");
        }
        for field in ["/amount/refund", "/amount/total"] {
            for fen in [json!(0), json!(-1), json!(1.5), json!("100"), Value::Null] {
                assert_eq!(outcome(field, fen.clone()), Err("PARAM_ERROR"), "{field} {fen}");
            }
        }
        for currency in [json!("USD"), Value::Null] {
            assert_eq!(outcome("/amount/currency", currency), Err("PARAM_ERROR"));
        }
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
        assert!(Wish::parse(&body()).unwrap().is_for(&order(3160)));
        assert!(!outcome("/transaction_id", json!("4201")).unwrap().is_for(&order(3160)));
        assert!(!outcome("/out_trade_no", json!("2023111500000000000002")).unwrap().is_for(&order(3160)));
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
