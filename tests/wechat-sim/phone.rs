//! The shopper's phone number, `POST /wxa/business/getuserphonenumber`. Promises the shop that a code `phone:<number>:<anything>`
//! is this mainland number and `phone:+<country>-<number>:<anything>` one from elsewhere, that every code works once, and
//! that the country's code comes as text and as a number in turn, as both occur at the real service.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::login::{is_stale, without_birth};
use crate::state::{Shared, UsedCodes, now};
use crate::token::{answered, check, refused};

/// What was asked so far.
#[derive(Debug, Default)]
pub struct Phones {
    used_codes: UsedCodes,
    answered: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PhoneCall {
    code: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Number {
    country: u32,
    pure: String,
}

impl Number {
    fn of_code(code: &str) -> Option<Number> {
        let mut parts = code.splitn(3, ':');
        let (Some("phone"), Some(number), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let (country, pure) = match number.strip_prefix('+') {
            Some(foreign) => foreign.split_once('-')?,
            None => ("86", number),
        };
        let is_number = (5..=15).contains(&pure.len()) && pure.bytes().all(|byte| byte.is_ascii_digit());
        Some(Number { country: country.parse().ok()?, pure: pure.to_owned() }).filter(|_| is_number)
    }

    /// With the country's code where it is another than China's.
    fn whole(&self) -> String {
        if self.country == 86 { self.pure.clone() } else { format!("+{}{}", self.country, self.pure) }
    }
}

impl Phones {
    fn number(&mut self, code: &str, now: i64) -> Result<Number, i64> {
        let number = Number::of_code(without_birth(code)).filter(|_| !is_stale(code, now)).ok_or(40029)?;
        if self.used_codes.use_code(code) { Ok(number) } else { Err(40029) }
    }
}

pub async fn get_user_phone_number(
    State(sim): State<Shared>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let mut books = sim.books();
    if let Err(errcode) = check(&books.tokens, query.as_deref()) {
        return refused(errcode);
    }
    let Ok(call) = serde_json::from_slice::<PhoneCall>(&body) else { return refused(47001) };
    let number = match books.phones.number(&call.code, now()) {
        Ok(number) => number,
        Err(errcode) => return refused(errcode),
    };
    books.phones.answered += 1;
    let country = if books.phones.answered % 2 == 0 {
        json!(number.country)
    } else {
        json!(number.country.to_string())
    };
    answered(&json!({"errcode": 0, "errmsg": "ok", "phone_info": {
        "phoneNumber": number.whole(), "purePhoneNumber": number.pure, "countryCode": country,
        "watermark": {"timestamp": now(), "appid": sim.keys.merchant.appid},
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_number_once() {
        let mut phones = Phones::default();
        let home = phones.number("phone:13800000000:1", 0).unwrap();
        assert_eq!(home, Number { country: 86, pure: "13800000000".into() });
        assert_eq!(home.whole(), "13800000000");
        assert_eq!(phones.number("phone:13800000000:1", 0), Err(40029));
        assert_eq!(phones.number("phone:13800000000:2", 0), Ok(home));
        assert_eq!(phones.number("phone:+852-61234567:1", 0).unwrap().whole(), "+85261234567");
        for odd in ["", "phone:", "phone:1380000000a:1", "phone:13800000000", "as:小王:1"] {
            assert_eq!(phones.number(odd, 0), Err(40029), "{odd}");
        }
        assert_eq!(phones.number("phone:13800000000:3@100", 400), Err(40029), "five minutes old");
    }
}
