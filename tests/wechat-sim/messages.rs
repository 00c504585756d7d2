//! Subscribe messages, `POST /cgi-bin/message/subscribe/send`. Promises the shop the real rules: a template that the shop has,
//! exactly its fields, each within the limits of its type, a shopper of this mini-program, and one message for each time
//! that the shopper agreed. Which templates there are and who agreed is said under `/sim/`.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::Merchant;
use crate::reply::json_reply;
use crate::state::{Shared, is_issued, named_shopper, openid};
use crate::token::{answered, check, refused};

const BAD_OPENID: i64 = 40_003;
const BAD_TEMPLATE: i64 = 40_037;
const BAD_PAGE: i64 = 41_030;
const NOT_SUBSCRIBED: i64 = 43_101;
const BAD_DATA: i64 = 47_003;

/// Templates, consents and what was sent.
#[derive(Debug, Default)]
pub struct Messages {
    /// The names of each template's fields.
    templates: HashMap<String, Vec<String>>,
    /// How many messages a shopper still takes, by openid and template.
    consents: HashMap<(String, String), u32>,
    sent: Vec<Sent>,
}

/// A message that reached its shopper.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    touser: String,
    template_id: String,
    page: String,
    data: Value,
}

#[derive(Deserialize)]
struct Call {
    touser: String,
    template_id: String,
    #[serde(default)]
    page: String,
    #[serde(default = "formal")]
    miniprogram_state: String,
    #[serde(default = "chinese")]
    lang: String,
    #[serde(default)]
    data: Value,
}

fn formal() -> String {
    "formal".to_owned()
}

fn chinese() -> String {
    "zh_CN".to_owned()
}

impl Messages {
    fn take(&mut self, call: Call, merchant: &Merchant) -> Result<(), i64> {
        if !is_issued(merchant, &call.touser) {
            return Err(BAD_OPENID);
        }
        let fields = self.templates.get(&call.template_id).ok_or(BAD_TEMPLATE)?;
        if call.page.starts_with('/') || call.page.len() > 1024 {
            return Err(BAD_PAGE);
        }
        if !["developer", "trial", "formal"].contains(&call.miniprogram_state.as_str())
            || !["zh_CN", "en_US", "zh_HK", "zh_TW"].contains(&call.lang.as_str())
        {
            return Err(BAD_DATA);
        }
        let data = call.data.as_object().ok_or(BAD_DATA)?;
        if data.len() != fields.len() {
            return Err(BAD_DATA);
        }
        for field in fields {
            let value = data.get(field).and_then(|field| field.get("value")).and_then(Value::as_str);
            if !value.is_some_and(|value| fits(field, value)) {
                return Err(BAD_DATA);
            }
        }
        let consent = self.consents.get_mut(&(call.touser.clone(), call.template_id.clone()));
        let left = consent.filter(|left| **left > 0).ok_or(NOT_SUBSCRIBED)?;
        *left -= 1;
        let Call { touser, template_id, page, data, .. } = call;
        self.sent.push(Sent { touser, template_id, page, data });
        Ok(())
    }
}

/// Whether a value keeps to the limits of its field's type, which its name begins with.
fn fits(field: &str, value: &str) -> bool {
    let length = value.chars().count();
    let is_chinese = |character: char| ('\u{4e00}'..='\u{9fff}').contains(&character);
    if value.trim().is_empty() || value.chars().any(char::is_control) {
        return false;
    }
    match field.trim_end_matches(|character: char| character.is_ascii_digit()) {
        "thing" => length <= 20,
        "character_string" => length <= 32 && value.bytes().all(|byte| byte.is_ascii_graphic()),
        "number" => length <= 32 && is_decimal(value),
        "amount" => is_amount(value),
        "phrase" => length <= 5 && value.chars().all(is_chinese),
        "time" => match value.split_once(' ') {
            Some((day, time)) => is_day(day) && is_time(time),
            None => is_time(value) || is_day(value),
        },
        "date" => match value.split_once(' ') {
            Some((day, time)) => is_day(day) && is_time(time),
            None => is_day(value),
        },
        _ => false,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_decimal(text: &str) -> bool {
    match text.split_once('.') {
        Some((whole, part)) => is_digits(whole) && is_digits(part),
        None => is_digits(text),
    }
}

/// One sign of a currency, ten digits at most, 元 at the end: the sign and the end may be missing.
fn is_amount(text: &str) -> bool {
    let number = text.strip_prefix(['¥', '￥', '$', '€', '£']).unwrap_or(text);
    let number = number.strip_suffix('元').unwrap_or(number);
    is_decimal(number) && number.bytes().filter(u8::is_ascii_digit).count() <= 10
}

fn is_day(text: &str) -> bool {
    let parts = |text: &str| -> Option<(u16, u8, u8)> {
        let (year, rest) = text.split_once('年')?;
        let (month, rest) = rest.split_once('月')?;
        let day = rest.strip_suffix('日')?;
        Some((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
    };
    parts(text).is_some_and(|(year, month, day)| {
        year >= 1900 && (1..=12).contains(&month) && (1..=31).contains(&day)
    })
}

fn is_time(text: &str) -> bool {
    text.split_once(':').is_some_and(|(hour, minute)| {
        is_digits(hour)
            && is_digits(minute)
            && minute.len() == 2
            && hour.parse::<u8>().is_ok_and(|hour| hour < 24)
            && minute.parse::<u8>().is_ok_and(|minute| minute < 60)
    })
}

pub async fn send(State(sim): State<Shared>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let mut books = sim.books();
    if let Err(errcode) = check(&books.tokens, query.as_deref()) {
        return refused(errcode);
    }
    let Ok(call) = serde_json::from_slice::<Call>(&body) else { return refused(47001) };
    match books.messages.take(call, &sim.keys.merchant) {
        Ok(()) => answered(&json!({"errcode": 0, "errmsg": "ok"})),
        Err(errcode) => answered(&json!({"errcode": errcode, "errmsg": text_of(errcode)})),
    }
}

fn text_of(errcode: i64) -> &'static str {
    match errcode {
        BAD_OPENID => "invalid openid",
        BAD_TEMPLATE => "invalid template_id",
        BAD_PAGE => "invalid page",
        NOT_SUBSCRIBED => "user refuse to accept the msg",
        _ => "argument invalid! data is empty, too long or of another type",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateControl {
    template_id: String,
    fields: Vec<String>,
}

/// `POST /sim/templates` `{"template_id", "fields": ["thing1", …]}`: the shop has this template from now on.
pub async fn add_template(State(sim): State<Shared>, body: Bytes) -> Response {
    match serde_json::from_slice::<TemplateControl>(&body) {
        Ok(control) => {
            sim.books().messages.templates.insert(control.template_id, control.fields);
            json_reply(StatusCode::OK, &json!({}))
        }
        Err(error) => json_reply(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentControl {
    /// The name of an `as:` login.
    shopper: String,
    template_id: String,
    /// How many messages the shopper takes; 0 refuses.
    accepts: u32,
}

/// `POST /sim/subscriptions` `{"shopper", "template_id", "accepts"}`.
pub async fn set_consent(State(sim): State<Shared>, body: Bytes) -> Response {
    match serde_json::from_slice::<ConsentControl>(&body) {
        Ok(control) => {
            let openid = openid(&sim.keys.merchant, &named_shopper(&control.shopper));
            sim.books().messages.consents.insert((openid, control.template_id), control.accepts);
            json_reply(StatusCode::OK, &json!({}))
        }
        Err(error) => json_reply(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
    }
}

/// `GET /sim/messages`: those that reached their shopper, the oldest first.
pub async fn show_sent(State(sim): State<Shared>) -> Response {
    json_reply(StatusCode::OK, &json!(sim.books().messages.sent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;

    fn call(merchant: &Merchant, data: Value) -> Call {
        Call {
            touser: openid(merchant, &named_shopper("小王")),
            template_id: "T1".into(),
            page: "pages/order/detail?id=1".into(),
            miniprogram_state: formal(),
            lang: chinese(),
            data,
        }
    }

    fn messages(merchant: &Merchant, accepts: u32) -> Messages {
        Messages {
            templates: HashMap::from([("T1".to_owned(), vec!["thing1".to_owned()])]),
            consents: HashMap::from([((openid(merchant, &named_shopper("小王")), "T1".to_owned()), accepts)]),
            sent: Vec::new(),
        }
    }

    #[test]
    fn one_consent_is_one_message() {
        let merchant = fixture::keys().merchant;
        let mut messages = messages(&merchant, 1);
        let good = || call(&merchant, json!({"thing1": {"value": "红富士苹果"}}));
        assert_eq!(messages.take(good(), &merchant), Ok(()));
        assert_eq!(messages.take(good(), &merchant), Err(NOT_SUBSCRIBED));
        assert_eq!(messages.sent.len(), 1);
    }

    #[test]
    fn a_wrong_message_spends_no_consent() {
        let merchant = fixture::keys().merchant;
        let mut messages = messages(&merchant, 1);
        let data = || json!({"thing1": {"value": "红富士苹果"}});
        let wrong = [
            (Call { touser: "o123".into(), ..call(&merchant, data()) }, BAD_OPENID),
            (Call { template_id: "T2".into(), ..call(&merchant, data()) }, BAD_TEMPLATE),
            (Call { page: "/pages/a".into(), ..call(&merchant, data()) }, BAD_PAGE),
            (Call { lang: "zh".into(), ..call(&merchant, data()) }, BAD_DATA),
            (call(&merchant, json!({})), BAD_DATA),
            (call(&merchant, json!({"thing2": {"value": "x"}})), BAD_DATA),
            (call(&merchant, json!({"thing1": "x"})), BAD_DATA),
            (call(&merchant, json!({"thing1": {"value": ""}})), BAD_DATA),
            (call(&merchant, json!({"thing1": {"value": "x"}, "thing2": {"value": "x"}})), BAD_DATA),
        ];
        for (call, errcode) in wrong {
            assert_eq!(messages.take(call, &merchant), Err(errcode));
        }
        assert_eq!(messages.take(call(&merchant, data()), &merchant), Ok(()));
    }

    #[test]
    fn each_type_has_its_limits() {
        for (field, good) in [
            ("thing1", "果".repeat(20).as_str()),
            ("character_string2", "2026112200000012345678"),
            ("amount3", "¥99999999.05"),
            ("amount3", "15.8元"),
            ("time4", "2026年11月22日 08:05"),
            ("time4", "08:05"),
            ("date5", "2026年11月22日"),
            ("phrase6", "已发货"),
            ("number7", "3"),
        ] {
            assert!(fits(field, good), "{field} {good}");
        }
        for (field, bad) in [
            ("thing1", "果".repeat(21).as_str()),
            ("thing1", " "),
            ("character_string2", "单号1"),
            ("character_string2", "1".repeat(33).as_str()),
            ("amount3", "¥12345678901"),
            ("amount3", "十五元"),
            ("time4", "2026-11-22 08:05"),
            ("time4", "25:00"),
            ("date5", "2026年13月22日"),
            ("phrase6", "已经发货了啊"),
            ("phrase6", "ok"),
            ("number7", "三"),
            ("name8", "张三"),
        ] {
            assert!(!fits(field, bad), "{field} {bad}");
        }
    }
}
