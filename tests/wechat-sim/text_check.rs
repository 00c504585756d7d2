//! The text check, `POST /wxa/msg_sec_check` (version 2). Promises the shop an opinion that its words decide: `违规` is risky,
//! `可疑` is for a person to look at, `忙碌` finds WeChat busy, all else passes; and the real service's refusals, among them that a shopper who did
//! not log in for two hours is judged no longer.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::keys::random_text;
use crate::state::{Shared, is_issued, now};
use crate::token::{answered, check, refused};

/// Seconds after a login in which a shopper's texts are judged.
const PRESENCE: i64 = 7200;
const MOST_CHARS: usize = 2500;

#[derive(Default, Deserialize)]
#[serde(default)]
struct TextCheck {
    version: i64,
    openid: String,
    scene: i64,
    content: String,
}

impl TextCheck {
    fn errcode(&self) -> Option<i64> {
        match self {
            TextCheck { version, .. } if *version != 2 => Some(47001),
            TextCheck { scene, .. } if !(1..=4).contains(scene) => Some(47001),
            TextCheck { content, .. } if content.is_empty() => Some(44004),
            TextCheck { content, .. } if content.chars().count() > MOST_CHARS => Some(45002),
            TextCheck { content, .. } if content.contains("忙碌") => Some(-1),
            _ => None,
        }
    }

    fn opinion(&self) -> (&'static str, i64) {
        if self.content.contains("违规") {
            ("risky", 20001)
        } else if self.content.contains("可疑") {
            ("review", 21000)
        } else {
            ("pass", 100)
        }
    }
}

pub async fn msg_sec_check(State(sim): State<Shared>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let books = sim.books();
    if let Err(errcode) = check(&books.tokens, query.as_deref()) {
        return refused(errcode);
    }
    let Ok(call) = serde_json::from_slice::<TextCheck>(&body) else { return refused(47001) };
    if let Some(errcode) = call.errcode() {
        return refused(errcode);
    }
    if !is_issued(&sim.keys.merchant, &call.openid) {
        return refused(40003);
    }
    if books.logins.last_seen(&call.openid).is_none_or(|at| now() - at > PRESENCE) {
        return refused(61010);
    }
    let (suggest, label) = call.opinion();
    answered(&json!({
        "errcode": 0, "errmsg": "ok", "result": {"suggest": suggest, "label": label},
        "detail": [{"strategy": "content_model", "errcode": 0, "suggest": suggest, "label": label, "prob": 90}],
        "trace_id": random_text(b"0123456789abcdef", 32),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_out_of_form_is_refused_and_words_decide_the_rest() {
        let call =
            |content: &str| TextCheck { version: 2, openid: "o".into(), scene: 2, content: content.into() };
        assert_eq!(call("好吃").errcode(), None);
        assert_eq!(TextCheck { version: 1, ..call("好吃") }.errcode(), Some(47001));
        assert_eq!(TextCheck { scene: 5, ..call("好吃") }.errcode(), Some(47001));
        assert_eq!(call("").errcode(), Some(44004));
        assert_eq!(call(&"字".repeat(2501)).errcode(), Some(45002));
        assert_eq!(call(&"字".repeat(2500)).errcode(), None);
        let suggest = |content: &str| call(content).opinion().0;
        assert_eq!((suggest("好吃"), suggest("可疑"), suggest("违规可疑")), ("pass", "review", "risky"));
    }
}
