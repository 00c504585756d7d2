//! The access token, `POST /cgi-bin/stable_token`, and what every call of the server API answers that comes without a
//! good one. Promises the shop the real rules: the same token for all who ask until its last five minutes, in which a
//! new one is given while the old one stays good; forced refreshes are rationed and end the token before.

use std::collections::{HashSet, VecDeque};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::keys::{Merchant, random_text};
use crate::state::{Shared, now};

/// Seconds that a token lives.
const LIFE: i64 = 7200;
/// Seconds before its end from which on the next one is given.
const CHANGE_OVER: i64 = 300;
/// Forced refreshes a day, and seconds between two.
const FORCED_A_DAY: usize = 20;
const BETWEEN_FORCED: i64 = 30;
/// The real ones have up to 512 characters.
const LENGTH: usize = 136;

#[derive(Clone, Debug)]
struct Token {
    text: String,
    /// Seconds since 1970.
    expires_at: i64,
}

/// The tokens given out.
#[derive(Debug, Default)]
pub struct Tokens {
    current: Option<Token>,
    /// Stays good to its own end after a change-over.
    previous: Option<Token>,
    issued: HashSet<String>,
    forced: VecDeque<i64>,
    /// Seconds that a new token lives, where it is not the usual time.
    life: Option<i64>,
}

impl Tokens {
    /// A token and its seconds to live, or the `errcode`.
    fn give(&mut self, force: bool, now: i64) -> Result<(String, i64), i64> {
        if force {
            while self.forced.front().is_some_and(|at| now - at >= 86_400) {
                self.forced.pop_front();
            }
            if self.forced.back().is_some_and(|at| now - at < BETWEEN_FORCED) {
                return Err(45011);
            }
            if self.forced.len() >= FORCED_A_DAY {
                return Err(45009);
            }
            self.forced.push_back(now);
            self.replace(now);
        } else if self.current.as_ref().is_none_or(|token| token.expires_at - now <= CHANGE_OVER) {
            let old = self.current.take();
            self.replace(now);
            self.previous = old;
        }
        let token = self.current.as_ref().ok_or(-1)?;
        Ok((token.text.clone(), token.expires_at - now))
    }

    /// A new token; no other is good from now on.
    fn replace(&mut self, now: i64) {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let text = format!("99_{}", random_text(alphabet, LENGTH - 3));
        self.issued.insert(text.clone());
        self.current = Some(Token { text, expires_at: now + self.life.unwrap_or(LIFE) });
        self.previous = None;
    }

    /// Whether a call may be made with this token; otherwise the `errcode`.
    fn check(&self, text: &str, now: i64) -> Result<(), i64> {
        if text.is_empty() {
            return Err(41001);
        }
        if text.len() != LENGTH {
            return Err(40014);
        }
        let known = [&self.current, &self.previous].into_iter().flatten().find(|token| token.text == text);
        match known {
            Some(token) if token.expires_at > now => Ok(()),
            Some(_) => Err(42001),
            None => Err(40001),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StableTokenCall {
    grant_type: String,
    appid: String,
    secret: String,
    force_refresh: bool,
}

impl StableTokenCall {
    fn check(&self, merchant: &Merchant) -> Result<(), i64> {
        match self {
            StableTokenCall { grant_type, .. } if grant_type != "client_credential" => Err(40002),
            StableTokenCall { appid, .. } if appid.is_empty() => Err(41002),
            StableTokenCall { appid, .. } if *appid != merchant.appid => Err(40013),
            StableTokenCall { secret, .. } if secret.is_empty() => Err(41004),
            StableTokenCall { secret, .. } if *secret != merchant.secret => Err(40125),
            _ => Ok(()),
        }
    }
}

pub async fn stable_token(State(sim): State<Shared>, body: Bytes) -> Response {
    let Ok(call) = serde_json::from_slice::<StableTokenCall>(&body) else { return refused(47001) };
    if let Err(errcode) = call.check(&sim.keys.merchant) {
        return refused(errcode);
    }
    match sim.books().tokens.give(call.force_refresh, now()) {
        Ok((text, left)) => answered(&json!({"access_token": text, "expires_in": left})),
        Err(errcode) => refused(errcode),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenQuery {
    access_token: String,
}

/// Stands before every call of the server API: the refusal, unless `query` brings a good token.
pub fn check(tokens: &Tokens, query: Option<&str>) -> Result<(), i64> {
    let query: TokenQuery = serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default();
    tokens.check(&query.access_token, now())
}

/// An answer of the server API.
pub fn answered(body: &Value) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json; encoding=utf-8")], body.to_string())
        .into_response()
}

/// A refusal of the server API: status 200, as at the real service.
pub fn refused(errcode: i64) -> Response {
    let text = match errcode {
        -1 => "system error",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40125 => "invalid appsecret",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        42001 => "access_token expired",
        43002 => "require POST method",
        44004 => "empty content",
        45002 => "content size out of limit",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        48001 => "api unauthorized",
        61010 => "code is expired",
        _ => "error",
    };
    let trace = random_text(b"0123456789abcdef", 24);
    let rid = format!("{}-{}-{}", &trace[..8], &trace[8..16], &trace[16..]);
    answered(&json!({"errcode": errcode, "errmsg": format!("{text} rid: {rid}")}))
}

/// What `POST /sim/access-token` does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenControl {
    /// Tokens given out from now on live for so many seconds.
    Life(i64),
    /// The token in use lives for so many more seconds; 0 ends it now.
    Left(i64),
    /// Whether somebody else forced a new one: then the one in use is no longer good.
    Replaced(bool),
}

impl Tokens {
    /// Whether there was a token to do it to.
    pub fn control(&mut self, control: &TokenControl, now: i64) -> bool {
        match (control, &mut self.current) {
            (TokenControl::Life(seconds), _) => self.life = Some(*seconds),
            (_, None) => return false,
            (TokenControl::Left(seconds), Some(token)) => token.expires_at = now + seconds,
            (TokenControl::Replaced(true), Some(_)) => self.replace(now),
            (TokenControl::Replaced(false), Some(_)) => {}
        }
        true
    }

    /// How many tokens there have been.
    pub fn issued(&self) -> usize {
        self.issued.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_same_token_until_its_last_minutes() {
        let mut tokens = Tokens::default();
        let (first, left) = tokens.give(false, 0).unwrap();
        assert_eq!(left, LIFE);
        assert_eq!(tokens.give(false, 6899).unwrap(), (first.clone(), 301));
        let (second, left) = tokens.give(false, 6900).unwrap();
        assert_ne!(second, first);
        assert_eq!(left, LIFE);
        assert_eq!(tokens.check(&first, 7199), Ok(()), "the old one is good to its end");
        assert_eq!(tokens.check(&first, 7200), Err(42001));
        assert_eq!(tokens.check(&second, 7200), Ok(()));
    }

    #[test]
    fn a_forced_refresh_ends_the_one_before_and_is_rationed() {
        let mut tokens = Tokens::default();
        let (first, _) = tokens.give(false, 0).unwrap();
        let (second, _) = tokens.give(true, 0).unwrap();
        assert_eq!(tokens.check(&first, 1), Err(40001));
        assert_eq!(tokens.check(&second, 1), Ok(()));
        assert_eq!(tokens.give(true, 29), Err(45011));
        let days = (1..20).filter(|nth| tokens.give(true, nth * 30).is_ok()).count();
        assert_eq!(days, 19);
        assert_eq!(tokens.give(true, 1000), Err(45009));
        assert!(tokens.give(true, 86_400).is_ok());
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        let mut tokens = Tokens::default();
        let (first, _) = tokens.give(false, 0).unwrap();
        assert_eq!(tokens.check("", 0), Err(41001));
        assert_eq!(tokens.check("x", 0), Err(40014));
        assert_eq!(tokens.check(&first.replace("99_", "98_"), 0), Err(40001));
        assert!(tokens.control(&TokenControl::Left(0), 10));
        assert_eq!(tokens.check(&first, 10), Err(42001));
        tokens.give(false, 10).unwrap();
        assert_eq!(tokens.check(&first, 10), Err(42001));
        assert_eq!(tokens.issued(), 2);
    }
}
