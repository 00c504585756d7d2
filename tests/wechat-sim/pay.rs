//! Pay v3 for mini-programs: prepay, query and close, with every limit that the real service documents. Promises the
//! shop that what passes here has the types, lengths and relations that WeChat asks for, and that an order is paid at
//! most once and never after it was closed.

use std::collections::HashMap;
use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::offset;

use crate::keys::{Merchant, random_text};
use crate::reply::{PayError, json_reply};
use crate::state::{Order, Payment, Shared, TradeState, beijing_time, is_issued, now};

/// Seconds that a prepay can be paid with.
const PREPAY_SECONDS: i64 = 2 * 60 * 60;

/// What a shop asked to be paid, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepay {
    pub out_trade_no: String,
    pub notify_url: String,
    /// Fen.
    pub total: i64,
    pub openid: String,
    pub attach: Option<String>,
    /// Seconds since 1970; the last moment to pay.
    pub time_expire: Option<i64>,
}

/// Reads fields of a request body and says which one breaks its rule. A null counts as absent, as the real service says.
pub struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    fn get(&self, pointer: &str) -> Option<&'a Value> {
        self.0.pointer(pointer).filter(|value| !value.is_null())
    }

    /// A text of `length` bytes. The documents count characters; a shop that keeps to bytes is right either way, and
    /// this is what the older interface counted.
    pub fn optional_text(
        &self,
        pointer: &str,
        length: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<&'a str>, PayError> {
        match self.get(pointer) {
            None => Ok(None),
            Some(Value::String(text)) if length.contains(&text.len()) => Ok(Some(text)),
            Some(value @ Value::String(_)) => Err(PayError::field(pointer, value, "字符串长度不符合要求")),
            Some(value) => Err(PayError::field(pointer, value, "应为字符串")),
        }
    }

    pub fn text(&self, pointer: &str, length: std::ops::RangeInclusive<usize>) -> Result<&'a str, PayError> {
        self.optional_text(pointer, length)?
            .ok_or_else(|| PayError::field(pointer, &Value::Null, "必填字段缺失"))
    }

    /// A whole number of fen, at least one.
    pub fn fen(&self, pointer: &str) -> Result<i64, PayError> {
        match self.get(pointer).map(Value::as_i64) {
            Some(Some(fen)) if fen >= 1 => Ok(fen),
            Some(Some(_)) => self.refuse(pointer, "应大于等于1"),
            Some(None) => self.refuse(pointer, "应为整数，单位为分"),
            None => self.refuse(pointer, "必填字段缺失"),
        }
    }

    pub fn refuse<T>(&self, pointer: &str, issue: &str) -> Result<T, PayError> {
        Err(PayError::field(pointer, self.get(pointer).unwrap_or(&Value::Null), issue))
    }
}

impl Prepay {
    /// Checks a prepay's body. `now` is in seconds since 1970.
    pub fn parse(body: &Value, merchant: &Merchant, now: i64) -> Result<Prepay, PayError> {
        let fields = Fields(body);
        let appid = fields.text("/appid", 1..=32)?;
        let mchid = fields.text("/mchid", 1..=32)?;
        if mchid != merchant.mchid {
            return Err(PayError::new(StatusCode::BAD_REQUEST, "MCH_NOT_EXISTS", "商户号不存在"));
        }
        if appid != merchant.appid {
            return Err(PayError::new(
                StatusCode::BAD_REQUEST,
                "APPID_MCHID_NOT_MATCH",
                "appid和mch_id不匹配",
            ));
        }
        fields.text("/description", 1..=127)?;
        let out_trade_no = fields.text("/out_trade_no", 6..=32)?;
        if !is_trade_no(out_trade_no) {
            return fields.refuse("/out_trade_no", "只能是数字、大小写字母_-|*");
        }
        let notify_url = fields.text("/notify_url", 1..=255)?;
        if let Err(issue) = check_notify_url(notify_url) {
            return fields.refuse("/notify_url", issue);
        }
        let attach = fields.optional_text("/attach", 1..=128)?;
        fields.optional_text("/goods_tag", 1..=32)?;
        let time_expire = match fields.optional_text("/time_expire", 1..=64)? {
            None => None,
            Some(text) => match OffsetDateTime::parse(text, &Rfc3339) {
                Ok(moment) if moment.offset() != offset!(+8) => {
                    return fields.refuse("/time_expire", "应为北京时间，+08:00");
                }
                Ok(moment) if moment.unix_timestamp() <= now => {
                    return fields.refuse("/time_expire", "time_expire时间过短，刷新重新下单");
                }
                Ok(moment) => Some(moment.unix_timestamp()),
                Err(_) => return fields.refuse("/time_expire", "应为RFC 3339格式的时间"),
            },
        };
        let total = fields.fen("/amount/total")?;
        if fields.optional_text("/amount/currency", 1..=16)?.is_some_and(|currency| currency != "CNY") {
            return fields.refuse("/amount/currency", "境内商户号仅支持人民币CNY");
        }
        let openid = fields.text("/payer/openid", 1..=128)?;
        if !is_issued(merchant, openid) {
            return Err(PayError {
                message: "无效的openid".into(),
                ..PayError::field("/payer/openid", &json!(openid), "无效的openid")
            });
        }
        if fields.get("/scene_info").is_some() {
            fields.text("/scene_info/payer_client_ip", 1..=45)?;
        }
        Ok(Prepay {
            out_trade_no: out_trade_no.to_owned(),
            notify_url: notify_url.to_owned(),
            total,
            openid: openid.to_owned(),
            attach: attach.map(str::to_owned),
            time_expire,
        })
    }
}

fn is_trade_no(text: &str) -> bool {
    (6..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-|*".contains(&byte))
}

/// HTTPS and no query. Plain HTTP is let through for a loopback host alone: a developer's machine has no certificate
/// that WeChat would accept, and nobody else can listen in there.
pub fn check_notify_url(text: &str) -> Result<(), &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "不是有效的URL")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("通知地址不能携带参数");
    }
    let host = url.host_str().unwrap_or_default();
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        _ => Err("通知地址必须是https"),
    }
}

/// The body as JSON. Pay v3 takes only characters of one to three bytes.
pub fn json_body(body: &Bytes) -> Result<Value, PayError> {
    let text = std::str::from_utf8(body).map_err(|_| PayError::param("请求体不是UTF-8编码"))?;
    if text.chars().any(|character| u32::from(character) > 0xFFFF) {
        return Err(PayError::param("请求中含有不支持的字符"));
    }
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(PayError::param("无法将JSON输入源“/body”映射到目标字段中，请检查JSON格式")),
    }
}

/// POST /v3/pay/transactions/jsapi
pub async fn prepay(State(sim): State<Shared>, body: Bytes) -> Result<Response, PayError> {
    let now = now();
    let request = json_body(&body)?;
    let prepay = Prepay::parse(&request, &sim.keys.merchant, now)?;
    // A second one is compared to the byte, which is stricter than parameter by parameter.
    let request = Value::String(String::from_utf8_lossy(&body).into_owned());
    let mut books = sim.books();
    let prepay_id =
        format!("wx{}{}", digits_of(&beijing_time(now), 14), random_text(b"0123456789abcdef", 20));
    if let Some(order) = books.orders.get_mut(&prepay.out_trade_no) {
        return match order.state {
            TradeState::Success | TradeState::Refund => {
                Err(PayError::new(StatusCode::BAD_REQUEST, "ORDERPAID", "该订单已支付"))
            }
            TradeState::Closed => Err(PayError::new(StatusCode::BAD_REQUEST, "ORDER_CLOSED", "该订单已关闭")),
            TradeState::NotPay if order.request != request => {
                Err(PayError::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "201 商户订单号重复"))
            }
            TradeState::NotPay => {
                if order.is_prepay_over(now) {
                    order.prepay_id = prepay_id;
                    order.opened_at = now;
                }
                Ok(prepaid(&order.prepay_id))
            }
        };
    }
    let reply = prepaid(&prepay_id);
    let order =
        Order { request, prepay_id, opened_at: now, state: TradeState::NotPay, payment: None, prepay };
    books.orders.insert(order.prepay.out_trade_no.clone(), order);
    Ok(reply)
}

fn prepaid(prepay_id: &str) -> Response {
    json_reply(StatusCode::OK, &json!({"prepay_id": prepay_id}))
}

/// The first `length` digits of a text.
fn digits_of(text: &str, length: usize) -> String {
    text.chars().filter(char::is_ascii_digit).take(length).collect()
}

fn not_found() -> PayError {
    PayError::new(StatusCode::NOT_FOUND, "ORDER_NOT_EXIST", "订单不存在")
}

/// The query must name our merchant.
fn check_mchid(merchant: &Merchant, query: Option<String>) -> Result<(), PayError> {
    let query: HashMap<String, String> =
        serde_urlencoded::from_str(&query.unwrap_or_default()).unwrap_or_default();
    match query.get("mchid") {
        None => Err(PayError::param("缺少查询参数mchid")),
        Some(mchid) if *mchid != merchant.mchid => {
            Err(PayError::new(StatusCode::FORBIDDEN, "NO_AUTH", "商户无权查询该订单"))
        }
        Some(_) => Ok(()),
    }
}

/// GET /v3/pay/transactions/out-trade-no/{no}?mchid=
pub async fn query_by_number(
    State(sim): State<Shared>,
    Path(out_trade_no): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, PayError> {
    check_mchid(&sim.keys.merchant, query)?;
    if !is_trade_no(&out_trade_no) {
        return Err(PayError::param("商户订单号out_trade_no格式错误"));
    }
    let books = sim.books();
    let order = books.orders.get(&out_trade_no).ok_or_else(not_found)?;
    Ok(json_reply(StatusCode::OK, &transaction(&sim.keys.merchant, order)))
}

/// GET /v3/pay/transactions/id/{transaction_id}?mchid=
pub async fn query_by_transaction(
    State(sim): State<Shared>,
    Path(transaction_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, PayError> {
    check_mchid(&sim.keys.merchant, query)?;
    let books = sim.books();
    let paid_by =
        |order: &&Order| order.payment.as_ref().is_some_and(|paid| paid.transaction_id == transaction_id);
    let order = books.orders.values().find(paid_by).ok_or_else(not_found)?;
    Ok(json_reply(StatusCode::OK, &transaction(&sim.keys.merchant, order)))
}

/// POST /v3/pay/transactions/out-trade-no/{no}/close
pub async fn close(
    State(sim): State<Shared>,
    Path(out_trade_no): Path<String>,
    body: Bytes,
) -> Result<Response, PayError> {
    let request = json_body(&body)?;
    if Fields(&request).text("/mchid", 1..=32)? != sim.keys.merchant.mchid {
        return Err(PayError::new(StatusCode::BAD_REQUEST, "MCH_NOT_EXISTS", "商户号不存在"));
    }
    let mut books = sim.books();
    let order = books.orders.get_mut(&out_trade_no).ok_or_else(not_found)?;
    if matches!(order.state, TradeState::Success | TradeState::Refund) {
        return Err(PayError::new(StatusCode::BAD_REQUEST, "ORDERPAID", "该订单已支付"));
    }
    order.state = TradeState::Closed;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A transaction as queries and notifications show it.
pub fn transaction(merchant: &Merchant, order: &Order) -> Value {
    let prepay = &order.prepay;
    let mut shown = json!({
        "appid": merchant.appid,
        "mchid": merchant.mchid,
        "out_trade_no": prepay.out_trade_no,
        "trade_state": order.state.name(),
        "trade_state_desc": order.state.description(),
        "promotion_detail": [],
        "amount": {"total": prepay.total, "payer_currency": "CNY"},
    });
    if let Some(payment) = &order.payment {
        shown["trade_type"] = json!("JSAPI");
        shown["transaction_id"] = json!(payment.transaction_id);
        shown["bank_type"] = json!(payment.bank_type);
        shown["success_time"] = json!(payment.success_time);
        shown["payer"] = json!({"openid": prepay.openid});
        shown["attach"] = json!(prepay.attach.as_deref().unwrap_or(""));
        shown["amount"] = json!({"total": prepay.total, "payer_total": prepay.total, "currency": "CNY", "payer_currency": "CNY"});
    }
    shown
}

/// A new payment's numbers.
pub fn new_payment(now: i64) -> Payment {
    let success_time = beijing_time(now);
    let day = digits_of(&success_time, 8);
    Payment {
        transaction_id: format!(
            "4200{}{day}{}",
            random_text(b"0123456789", 6),
            random_text(b"0123456789", 10)
        ),
        success_time,
        bank_type: "OTHERS",
    }
}

impl Order {
    /// Whether its prepay_id is no longer good; the same prepay then brings another one.
    fn is_prepay_over(&self, now: i64) -> bool {
        now > self.opened_at + PREPAY_SECONDS
    }

    /// The shopper pays.
    ///
    /// # Errors
    /// Why it cannot be paid: it was paid or closed, or its prepay or the shop's own deadline has passed.
    pub fn pay(&mut self, now: i64) -> Result<(), &'static str> {
        match self.state {
            TradeState::Success | TradeState::Refund => return Err("the order is already paid"),
            TradeState::Closed => return Err("the order is closed"),
            TradeState::NotPay => {}
        }
        if self.prepay.time_expire.is_some_and(|last| now > last) {
            return Err("time_expire has passed");
        }
        if self.is_prepay_over(now) {
            return Err("the prepay_id is older than two hours");
        }
        self.state = TradeState::Success;
        self.payment = Some(new_payment(now));
        Ok(())
    }

    /// Money that was on its way when the order was closed or its time ended: WeChat takes it all the same.
    ///
    /// # Errors
    /// When it was paid before.
    pub fn pay_late(&mut self, now: i64) -> Result<(), &'static str> {
        if self.payment.is_some() {
            return Err("the order is already paid");
        }
        self.state = TradeState::Success;
        self.payment = Some(new_payment(now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;
    use crate::state::{named_shopper, openid};

    const NOW: i64 = 1_700_000_000; // 2023-11-15T06:13:20+08:00

    fn body(merchant: &Merchant) -> Value {
        json!({
            "appid": merchant.appid, "mchid": merchant.mchid, "description": "笑姐家农产品",
            "out_trade_no": "2023111500000000000001", "notify_url": "https://shop.example/api/payments/wechat/notify",
            "time_expire": "2023-11-15T06:43:20+08:00", "attach": "a", "amount": {"total": 3160, "currency": "CNY"},
            "payer": {"openid": openid(merchant, &named_shopper("w"))},
        })
    }

    /// The outcome after `pointer` was set to `value`; a null stands for leaving it out.
    fn outcome(pointer: &str, value: Value) -> Result<Prepay, &'static str> {
        let merchant = fixture::keys().merchant;
        let mut body = body(&merchant);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        Prepay::parse(&body, &merchant, NOW).map_err(|error| error.code)
    }

    #[test]
    fn a_right_prepay_passes() {
        let prepay = outcome("/goods_tag", Value::Null).unwrap();
        assert_eq!((prepay.total, prepay.time_expire), (3160, Some(NOW + 1800)));
        for optional in ["/time_expire", "/attach", "/amount/currency"] {
            assert!(outcome(optional, Value::Null).is_ok(), "without {optional}");
        }
    }

    #[test]
    fn each_limit_is_kept() {
        for (pointer, longest) in [("/description", 127), ("/attach", 128)] {
            assert!(outcome(pointer, json!("x".repeat(longest))).is_ok());
            assert_eq!(outcome(pointer, json!("x".repeat(longest + 1))), Err("PARAM_ERROR"), "{pointer}");
        }
        assert_eq!(outcome("/description", json!("农".repeat(43))), Err("PARAM_ERROR"), "129 bytes");
        assert!(outcome("/out_trade_no", json!("aZ0_-|*")).is_ok());
        for number in ["12345", &"1".repeat(33), "12345 6", "农产品订单号", "123456/1"] {
            assert_eq!(outcome("/out_trade_no", json!(number)), Err("PARAM_ERROR"), "{number}");
        }
        for total in [json!(0), json!(-1), json!(1.5), json!(31.0), json!("3160"), Value::Null] {
            assert_eq!(outcome("/amount/total", total.clone()), Err("PARAM_ERROR"), "{total}");
        }
        for moment in ["2023-11-15T06:13:20+08:00", "2023-11-15T08:00:00Z", "2023-11-16 08:00:00", "soon"] {
            assert_eq!(outcome("/time_expire", json!(moment)), Err("PARAM_ERROR"), "{moment}");
        }
        for missing in ["/description", "/out_trade_no", "/notify_url", "/payer/openid", "/appid", "/mchid"] {
            assert_eq!(outcome(missing, Value::Null), Err("PARAM_ERROR"), "without {missing}");
        }
        assert_eq!(outcome("/amount/currency", json!("USD")), Err("PARAM_ERROR"));
        assert_eq!(outcome("/appid", json!("wx1")), Err("APPID_MCHID_NOT_MATCH"));
        assert_eq!(outcome("/mchid", json!("1")), Err("MCH_NOT_EXISTS"));
        assert_eq!(outcome("/payer/openid", json!("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o")), Err("PARAM_ERROR"));
    }

    #[test]
    fn a_notification_goes_to_https_or_to_this_machine() {
        for good in
            ["https://shop.example/n", "http://127.0.0.1:8787/n", "http://localhost/n", "http://[::1]:1/n"]
        {
            assert_eq!(check_notify_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://shop.example/n",
            "https://shop.example/n?a=1",
            "http://127.0.0.1/n?",
            "/n",
            "ftp://127.0.0.1/",
        ] {
            assert!(check_notify_url(bad).is_err(), "{bad}");
        }
        let long = format!("https://shop.example/{}", "n".repeat(255));
        assert_eq!(outcome("/notify_url", json!(long)), Err("PARAM_ERROR"));
    }

    #[test]
    fn only_three_byte_characters_pass() {
        assert!(json_body(&Bytes::from("{\"description\":\"苹果\"}")).is_ok());
        for bad in [&b"{\"description\":\"\xf0\x9f\x8d\x8e\"}"[..], b"[]", b"{", b"", b"\xff"] {
            assert_eq!(json_body(&Bytes::from_static(bad)).unwrap_err().code, "PARAM_ERROR");
        }
    }

    #[test]
    fn an_order_is_paid_once_in_time_and_never_when_closed() {
        let prepay = outcome("/goods_tag", Value::Null).unwrap();
        let open = Order {
            prepay,
            request: Value::Null,
            prepay_id: "p".into(),
            opened_at: NOW,
            state: TradeState::NotPay,
            payment: None,
        };
        let mut order = open.clone();
        assert_eq!(order.pay(NOW + 1800), Ok(()));
        assert!(order.pay(NOW + 1800).is_err());
        assert_eq!(order.payment.unwrap().transaction_id.len(), 28);
        assert!(open.clone().pay(NOW + 1801).is_err(), "the shop's own deadline");
        let mut patient = open.clone();
        patient.prepay.time_expire = None;
        assert!(
            patient.is_prepay_over(NOW + PREPAY_SECONDS + 1) && !patient.is_prepay_over(NOW + PREPAY_SECONDS)
        );
        assert!(patient.clone().pay(NOW + PREPAY_SECONDS + 1).is_err());
        assert!(patient.pay(NOW + PREPAY_SECONDS).is_ok());
        assert!(Order { state: TradeState::Closed, ..open }.pay(NOW).is_err());
    }
}
