//! Shipping management, `POST /wxa/sec/order/upload_shipping_info`. Promises the shop what the real service asks for: a payment
//! that it knows, uploaded for its payer, with the goods named, the company and number of a parcel, and a moment in
//! Beijing's time; and that a shipment can be changed once.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::{Query, RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::offset;

use crate::keys::Merchant;
use crate::reply::json_reply;
use crate::state::{Order, Shared, TradeState};
use crate::token::{answered, check, refused};

/// Parcels of one upload.
const PARCELS: RangeInclusive<usize> = 1..=15;
const ITEM_DESC_CHARS: usize = 120;
const CODE_CHARS: usize = 128;
/// How often a shipment may be uploaded: at first, and once more.
const ROUNDS: u32 = 2;

/// `errcode`s of the real service.
const UNKNOWN_PAYMENT: i64 = 10_060_001;
const CHANGE_IS_USED: i64 = 10_060_003;
const LOGISTICS_TYPE: i64 = 10_060_005;
const SPLIT_WITHOUT_EXPRESS: i64 = 10_060_006;
const SPLIT_WITHOUT_END: i64 = 10_060_007;
const NO_ITEM_DESC: i64 = 10_060_008;
const LONG_ITEM_DESC: i64 = 10_060_009;
const PARAMETER: i64 = 10_060_014;
const UNCHANGED: i64 = 10_060_023;
const TOO_MANY_PARCELS: i64 = 10_060_024;
const LONG_COMPANY: i64 = 10_060_025;
const LONG_NUMBER: i64 = 10_060_026;
const NOT_THE_PAYER: i64 = 10_060_031;
const UPLOAD_TIME: i64 = 268_485_216;
const DELIVERY_MODE: i64 = 268_485_224;
const ORDER_NUMBER_TYPE: i64 = 268_485_228;

/// What was uploaded, by `out_trade_no`.
#[derive(Debug, Default)]
pub struct Shipments(HashMap<String, Shipment>);

#[derive(Debug)]
struct Shipment {
    /// What was said, without the moment.
    said: Value,
    uploaded_for: OffsetDateTime,
    rounds: u32,
}

/// An upload that keeps to the rules.
#[derive(Debug)]
struct Upload {
    out_trade_no: String,
    said: Value,
    at: OffsetDateTime,
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl Upload {
    fn parse(body: &Value, merchant: &Merchant, orders: &HashMap<String, Order>) -> Result<Upload, i64> {
        let order = find(body.get("order_key").ok_or(PARAMETER)?, merchant, orders)?;
        let payer = body.get("payer").and_then(|payer| text(payer, "openid")).ok_or(PARAMETER)?;
        if payer != order.prepay.openid {
            return Err(NOT_THE_PAYER);
        }
        let logistics = body.get("logistics_type").and_then(Value::as_i64).unwrap_or(0);
        if !(1..=4).contains(&logistics) {
            return Err(LOGISTICS_TYPE);
        }
        let is_split = match body.get("delivery_mode").and_then(Value::as_i64) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(DELIVERY_MODE),
        };
        if is_split && logistics != 1 {
            return Err(SPLIT_WITHOUT_EXPRESS);
        }
        if is_split && body.get("is_all_delivered").and_then(Value::as_bool).is_none() {
            return Err(SPLIT_WITHOUT_END);
        }
        let parcels = body.get("shipping_list").and_then(Value::as_array).ok_or(PARAMETER)?;
        if parcels.len() > *PARCELS.end() {
            return Err(TOO_MANY_PARCELS);
        }
        if parcels.is_empty() || (!is_split && parcels.len() > 1) {
            return Err(PARAMETER);
        }
        for parcel in parcels {
            check_parcel(parcel, logistics == 1)?;
        }
        let at = text(body, "upload_time").and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let at = at.filter(|at| at.offset() == offset!(+8)).ok_or(UPLOAD_TIME)?;
        let said = json!([logistics, is_split, parcels]);
        Ok(Upload { out_trade_no: order.prepay.out_trade_no.clone(), said, at })
    }
}

/// The payment that is meant. One that nobody paid is not known here.
fn find<'a>(key: &Value, merchant: &Merchant, orders: &'a HashMap<String, Order>) -> Result<&'a Order, i64> {
    let found = match key.get("order_number_type").and_then(Value::as_i64) {
        Some(1) => {
            let (mchid, number) = (text(key, "mchid"), text(key, "out_trade_no"));
            let number = number.filter(|_| mchid == Some(&merchant.mchid)).ok_or(UNKNOWN_PAYMENT)?;
            orders.get(number)
        }
        Some(2) => {
            let id = text(key, "transaction_id").ok_or(PARAMETER)?;
            let is_it = |order: &&Order| order.payment.as_ref().is_some_and(|paid| paid.transaction_id == id);
            orders.values().find(is_it)
        }
        _ => return Err(ORDER_NUMBER_TYPE),
    };
    // What was refunded in part has money left, and goods to go out.
    let is_paid = |order: &&Order| matches!(order.state, TradeState::Success | TradeState::Refund);
    found.filter(is_paid).ok_or(UNKNOWN_PAYMENT)
}

fn check_parcel(parcel: &Value, is_express: bool) -> Result<(), i64> {
    let goods = text(parcel, "item_desc").ok_or(NO_ITEM_DESC)?;
    if goods.chars().count() > ITEM_DESC_CHARS {
        return Err(LONG_ITEM_DESC);
    }
    let (company, number) = (text(parcel, "express_company"), text(parcel, "tracking_no"));
    if company.is_some_and(|company| company.chars().count() > CODE_CHARS) {
        return Err(LONG_COMPANY);
    }
    if number.is_some_and(|number| number.chars().count() > CODE_CHARS) {
        return Err(LONG_NUMBER);
    }
    if is_express && (company.is_none() || number.is_none()) {
        return Err(PARAMETER);
    }
    // This company finds a parcel by the last digits of a phone alone.
    let contacts: Vec<&str> = ["consignor_contact", "receiver_contact"]
        .into_iter()
        .filter_map(|field| text(parcel.get("contact")?, field))
        .collect();
    if company == Some("SF") && contacts.is_empty() {
        return Err(PARAMETER);
    }
    if contacts.iter().any(|contact| !is_masked(contact)) {
        return Err(PARAMETER);
    }
    Ok(())
}

/// `138****1234`: not to be called, and its last four digits are there.
fn is_masked(contact: &str) -> bool {
    let tail: Vec<char> = contact.chars().rev().take(4).collect();
    contact.contains("****") && tail.len() == 4 && tail.iter().all(char::is_ascii_digit)
}

impl Shipments {
    fn take(&mut self, upload: Upload) -> Result<(), i64> {
        let Some(known) = self.0.get_mut(&upload.out_trade_no) else {
            let shipment = Shipment { said: upload.said, uploaded_for: upload.at, rounds: 1 };
            self.0.insert(upload.out_trade_no, shipment);
            return Ok(());
        };
        // The moment tells which of two uploads is the later one.
        if known.said == upload.said || upload.at <= known.uploaded_for {
            return Err(UNCHANGED);
        }
        if known.rounds >= ROUNDS {
            return Err(CHANGE_IS_USED);
        }
        *known = Shipment { said: upload.said, uploaded_for: upload.at, rounds: known.rounds + 1 };
        Ok(())
    }
}

pub async fn upload_shipping_info(
    State(sim): State<Shared>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let mut books = sim.books();
    if let Err(errcode) = check(&books.tokens, query.as_deref()) {
        return refused(errcode);
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return refused(47001) };
    let uploaded = Upload::parse(&body, &sim.keys.merchant, &books.orders);
    match uploaded.and_then(|upload| books.shipments.take(upload)) {
        Ok(()) => answered(&json!({"errcode": 0, "errmsg": "ok"})),
        Err(errcode) => answered(&json!({"errcode": errcode, "errmsg": text_of(errcode)})),
    }
}

fn text_of(errcode: i64) -> &'static str {
    match errcode {
        UNKNOWN_PAYMENT => "支付单不存在",
        CHANGE_IS_USED => "支付单已使用重新发货机会",
        LOGISTICS_TYPE => "物流类型有误",
        SPLIT_WITHOUT_EXPRESS => "非快递发货时不允许分拆发货",
        SPLIT_WITHOUT_END => "分拆发货模式下必须填写 is_all_delivered 字段",
        NO_ITEM_DESC => "商品描述 item_desc 字段不能为空",
        LONG_ITEM_DESC => "商品描述 item_desc 字段太长，请检查",
        UNCHANGED => "发货信息未更新",
        TOO_MANY_PARCELS => "物流信息列表太长",
        LONG_COMPANY => "物流公司编码太长",
        LONG_NUMBER => "物流单号太长",
        NOT_THE_PAYER => "该笔支付单不属于 openid 所指定的用户",
        UPLOAD_TIME => "上传时间非法，请使用 RFC 3339 格式",
        DELIVERY_MODE => "发货模式非法",
        ORDER_NUMBER_TYPE => "订单单号类型非法",
        _ => "参数错误",
    }
}

/// `GET /sim/shipments?out_trade_no=`: `{"rounds", "said"}`, rounds 0 where nothing was uploaded.
pub async fn show_shipment(
    State(sim): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let books = sim.books();
    let known = query.get("out_trade_no").and_then(|number| books.shipments.0.get(number));
    let shown = known
        .map_or(json!({"rounds": 0}), |shipment| json!({"rounds": shipment.rounds, "said": shipment.said}));
    json_reply(axum::http::StatusCode::OK, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;
    use crate::pay::{Prepay, new_payment};
    use crate::state::{named_shopper, openid};

    fn orders(merchant: &Merchant, state: TradeState) -> HashMap<String, Order> {
        let prepay = Prepay {
            out_trade_no: "123456".into(),
            notify_url: String::new(),
            total: 1,
            openid: openid(merchant, &named_shopper("小王")),
            attach: None,
            time_expire: None,
        };
        let order = Order {
            prepay,
            request: Value::Null,
            prepay_id: String::new(),
            opened_at: 0,
            state,
            payment: Some(new_payment(0)),
        };
        HashMap::from([("123456".to_owned(), order)])
    }

    fn good(merchant: &Merchant) -> Value {
        json!({
            "order_key": {"order_number_type": 1, "mchid": merchant.mchid, "out_trade_no": "123456"},
            "logistics_type": 1,
            "delivery_mode": 1,
            "shipping_list": [{
                "item_desc": "红富士苹果×2", "express_company": "SF", "tracking_no": "SF123456",
                "contact": {"receiver_contact": "138****5678"},
            }],
            "upload_time": "2026-11-22T08:00:00.12+08:00",
            "payer": {"openid": openid(merchant, &named_shopper("小王"))},
        })
    }

    #[test]
    fn a_good_upload_is_taken_once_and_changed_once() {
        let merchant = fixture::keys().merchant;
        let orders = orders(&merchant, TradeState::Success);
        let mut shipments = Shipments::default();
        let mut upload = |number: &str, second: u32| {
            let mut body = good(&merchant);
            body["shipping_list"][0]["tracking_no"] = json!(number);
            body["upload_time"] = json!(format!("2026-11-22T08:00:{second:02}+08:00"));
            shipments.take(Upload::parse(&body, &merchant, &orders).unwrap())
        };
        assert_eq!(upload("SF1", 1), Ok(()));
        assert_eq!(upload("SF1", 1), Err(UNCHANGED));
        assert_eq!(upload("SF0", 0), Err(UNCHANGED), "an older one comes too late");
        assert_eq!(upload("SF2", 2), Ok(()));
        assert_eq!(upload("SF2", 2), Err(UNCHANGED));
        assert_eq!(upload("SF3", 3), Err(CHANGE_IS_USED));
    }

    #[test]
    fn every_rule_has_its_errcode() {
        let merchant = fixture::keys().merchant;
        let orders = orders(&merchant, TradeState::Success);
        let cases: [(&str, Value, i64); 17] = [
            ("/order_key/order_number_type", json!(3), ORDER_NUMBER_TYPE),
            ("/order_key/mchid", json!("1900000000"), UNKNOWN_PAYMENT),
            ("/order_key/out_trade_no", json!("654321"), UNKNOWN_PAYMENT),
            ("/payer/openid", json!(""), PARAMETER),
            ("/payer/openid", json!(openid(&merchant, &named_shopper("小李"))), NOT_THE_PAYER),
            ("/logistics_type", json!(5), LOGISTICS_TYPE),
            ("/delivery_mode", json!(3), DELIVERY_MODE),
            ("/delivery_mode", json!(2), SPLIT_WITHOUT_END),
            ("/shipping_list", json!([]), PARAMETER),
            ("/shipping_list", json!(vec![json!({"item_desc": "x"}); 16]), TOO_MANY_PARCELS),
            ("/shipping_list/0/item_desc", json!(""), NO_ITEM_DESC),
            ("/shipping_list/0/item_desc", json!("果".repeat(121)), LONG_ITEM_DESC),
            ("/shipping_list/0/express_company", json!(""), PARAMETER),
            ("/shipping_list/0/tracking_no", json!("1".repeat(129)), LONG_NUMBER),
            ("/shipping_list/0/contact", json!({}), PARAMETER),
            ("/shipping_list/0/contact/receiver_contact", json!("13812345678"), PARAMETER),
            ("/upload_time", json!("2026-11-22T00:00:00Z"), UPLOAD_TIME),
        ];
        for (pointer, value, errcode) in cases {
            let mut body = good(&merchant);
            *body.pointer_mut(pointer).unwrap() = value.clone();
            let refusal = Upload::parse(&body, &merchant, &orders).unwrap_err();
            assert_eq!(refusal, errcode, "{pointer} {value}");
        }
    }

    #[test]
    fn an_unpaid_order_is_unknown_and_one_refunded_in_part_is_not() {
        let merchant = fixture::keys().merchant;
        let unpaid = orders(&merchant, TradeState::NotPay);
        assert_eq!(Upload::parse(&good(&merchant), &merchant, &unpaid).unwrap_err(), UNKNOWN_PAYMENT);
        let refunded = orders(&merchant, TradeState::Refund);
        assert!(Upload::parse(&good(&merchant), &merchant, &refunded).is_ok());
    }

    #[test]
    fn a_courier_and_a_pick_up_need_no_number() {
        let merchant = fixture::keys().merchant;
        let orders = orders(&merchant, TradeState::Success);
        for logistics in [2, 4] {
            let mut body = good(&merchant);
            body["logistics_type"] = json!(logistics);
            body["shipping_list"] = json!([{"item_desc": "土鸡蛋×1"}]);
            assert!(Upload::parse(&body, &merchant, &orders).is_ok());
            body["delivery_mode"] = json!(2);
            assert_eq!(Upload::parse(&body, &merchant, &orders).unwrap_err(), SPLIT_WITHOUT_EXPRESS);
        }
    }
}
