//! The mini-program's login, `GET /sns/jscode2session`. Promises the shop one openid for one shopper: a code
//! `as:<name>:<anything>` is the shopper `<name>` each time, any other code is a new shopper, and every code works once.
//! A code that ends in `@<seconds since 1970>` was made then, and is too old after five minutes.
//! As at the real service the status is 200 whatever happens, and the JSON is labelled `text/plain`.

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore as _;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::keys::{Merchant, random_text};
use crate::state::{Logins, Shared, named_shopper, now, openid};

/// Longest code that is looked at; the real ones have 32 characters.
const MAX_CODE: usize = 128;

/// Seconds for which a code is good.
const CODE_LIFE: i64 = 300;

/// Whether the code says of itself that it is too old.
pub fn is_stale(code: &str, now: i64) -> bool {
    birth(code).is_some_and(|(_, born_at)| now - born_at >= CODE_LIFE)
}

/// The code without the moment at which it was made.
pub fn without_birth(code: &str) -> &str {
    birth(code).map_or(code, |(rest, _)| rest)
}

fn birth(code: &str) -> Option<(&str, i64)> {
    let (rest, born_at) = code.rsplit_once('@')?;
    Some((rest, born_at.parse().ok()?))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoginQuery {
    appid: String,
    secret: String,
    js_code: String,
    grant_type: String,
}

pub async fn login(State(sim): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query: LoginQuery = serde_urlencoded::from_str(&query.unwrap_or_default()).unwrap_or_default();
    let mut books = sim.books();
    let body = match books.faults.take_login() {
        Some(fault) => failure(fault.errcode),
        None => match shopper_of(&sim.keys.merchant, &mut books.logins, &query, now()) {
            Ok(openid) => json!({"session_key": session_key(), "openid": openid}),
            Err(errcode) => failure(errcode),
        },
    };
    ([(header::CONTENT_TYPE, "text/plain")], body.to_string()).into_response()
}

/// Whose code it is, or the `errcode`.
fn shopper_of(merchant: &Merchant, logins: &mut Logins, query: &LoginQuery, now: i64) -> Result<String, i64> {
    match query {
        LoginQuery { appid, .. } if appid.is_empty() => return Err(41002),
        LoginQuery { appid, .. } if *appid != merchant.appid => return Err(40013),
        LoginQuery { secret, .. } if secret.is_empty() => return Err(41004),
        LoginQuery { secret, .. } if *secret != merchant.secret => return Err(40125),
        LoginQuery { grant_type, .. } if grant_type != "authorization_code" => return Err(40002),
        LoginQuery { js_code, .. } if js_code.is_empty() => return Err(41008),
        LoginQuery { js_code, .. } if js_code.len() > MAX_CODE => return Err(40029),
        LoginQuery { js_code, .. } if is_stale(js_code, now) => return Err(40029),
        _ => {}
    }
    if !logins.used_codes.use_code(&query.js_code) {
        return Err(40163);
    }
    let mut parts = query.js_code.splitn(3, ':');
    let shopper = match (parts.next(), parts.next(), parts.next()) {
        (Some("as"), Some(name), Some(_)) if !name.is_empty() => named_shopper(name),
        // A malformed `as:` is a slip of whoever wrote the test, not a new shopper.
        (Some("as"), _, _) => return Err(40029),
        _ => {
            let mut fresh = [0; 12];
            OsRng.fill_bytes(&mut fresh);
            fresh
        }
    };
    let openid = openid(merchant, &shopper);
    if logins.within_quota(&openid, now) { Ok(openid) } else { Err(45011) }
}

fn session_key() -> String {
    let mut key = [0; 16];
    OsRng.fill_bytes(&mut key);
    STANDARD.encode(key)
}

fn failure(errcode: i64) -> Value {
    let text = match errcode {
        -1 => "system error",
        40002 => "invalid grant_type",
        40013 => "invalid appid",
        40029 => "invalid code",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40226 => "code blocked",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        45011 => "api minute-quota reach limit",
        _ => "error",
    };
    let trace = random_text(b"0123456789abcdef", 24);
    json!({"errcode": errcode, "errmsg": format!("{text}, rid: {}-{}-{}", &trace[..8], &trace[8..16], &trace[16..])})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;

    fn query(code: &str) -> LoginQuery {
        let merchant = fixture::keys().merchant;
        LoginQuery {
            appid: merchant.appid,
            secret: merchant.secret,
            js_code: code.into(),
            grant_type: "authorization_code".into(),
        }
    }

    #[test]
    fn a_code_works_once_and_a_name_is_always_the_same_shopper() {
        let (merchant, mut logins) = (fixture::keys().merchant, Logins::default());
        let mut login = |code: &str| shopper_of(&merchant, &mut logins, &query(code), 0);
        let first = login("as:小王:1").unwrap();
        assert_eq!(login("as:小王:1"), Err(40163));
        assert_eq!(login("as:小王:2"), Ok(first.clone()));
        let stranger = login("071abc").unwrap();
        assert_ne!(stranger, first);
        assert_ne!(login("071abd").unwrap(), stranger);
        assert_eq!(login("as:"), Err(40029));
        assert_eq!(login(&"x".repeat(200)), Err(40029));
    }

    #[test]
    fn a_code_lives_for_five_minutes() {
        let (merchant, mut logins) = (fixture::keys().merchant, Logins::default());
        let mut login = |code: &str, now| shopper_of(&merchant, &mut logins, &query(code), now);
        assert!(login("as:小王:1@1000", 1299).is_ok());
        assert_eq!(login("as:小王:2@1000", 1300), Err(40029));
    }

    #[test]
    fn every_parameter_is_checked_before_the_code_is_spent() {
        let (merchant, mut logins) = (fixture::keys().merchant, Logins::default());
        let cases: [(LoginQuery, i64); 7] = [
            (LoginQuery { appid: String::new(), ..query("c") }, 41002),
            (LoginQuery { appid: "wx1".into(), ..query("c") }, 40013),
            (LoginQuery { secret: String::new(), ..query("c") }, 41004),
            (LoginQuery { secret: "s".into(), ..query("c") }, 40125),
            (LoginQuery { grant_type: String::new(), ..query("c") }, 40002),
            (LoginQuery { grant_type: "client_credential".into(), ..query("c") }, 40002),
            (query(""), 41008),
        ];
        for (wrong, errcode) in cases {
            assert_eq!(shopper_of(&merchant, &mut logins, &wrong, 0), Err(errcode));
        }
        assert!(shopper_of(&merchant, &mut logins, &query("c"), 0).is_ok());
    }
}
