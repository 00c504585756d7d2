//! The mini-program's server API, login among it: what the shop asks of WeChat under its own name. Promises its callers that the access
//! token is their last worry (it is added, and renewed once when WeChat no longer takes it), that a call ends within the
//! setting `wechat.timeout_ms`, that a failure says whether trying again can help, and that neither token nor secret
//! reaches a log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::RequestBuilder;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access_token::{AccessToken, AccessTokens};
use super::{http_client, without_values};
use crate::clock::Clock;
use crate::config::WechatConfig;
use crate::db::seal::Seal;
use crate::outbox::model::CallFailure;
use crate::redis::Redis;

/// Why a call brought nothing. Nothing of it is secret: it holds no URL, and WeChat's texts name no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MiniError {
    /// WeChat's own refusal; its codes are in its documentation of each call.
    #[error("WeChat refused: {errcode} {errmsg}")]
    Refused { errcode: i64, errmsg: String },
    #[error("WeChat answered with status {0}")]
    Status(u16),
    /// Nobody knows whether WeChat did what it was asked for.
    #[error("WeChat could not be reached: {0}")]
    Unreachable(String),
    #[error("WeChat's answer has another form: {0}")]
    Malformed(String),
    #[error("the call cannot be written: {0}")]
    Unwritable(String),
    /// The call was not made.
    #[error("no access token: {0}")]
    NoToken(Box<MiniError>),
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not until somebody changes what is asked or what WeChat allows.
    Never,
    /// As any passing fault.
    Soon,
    /// Not before this time is over.
    After(Duration),
}

/// Time after which a quota of calls a minute begins anew.
const MINUTE: Duration = Duration::from_secs(60);
/// The quota of a day begins anew at midnight in China; asking each hour is cheap.
const HOUR: Duration = Duration::from_secs(3600);

impl MiniError {
    /// WeChat's code, where it refused the call itself.
    pub fn errcode(&self) -> Option<i64> {
        match self {
            MiniError::Refused { errcode, .. } => Some(*errcode),
            _ => None,
        }
    }

    /// Whether trying again can help. A caller who knows better about a code of its own call asks [`Self::errcode`] first.
    pub fn retry(&self) -> Retry {
        match self {
            MiniError::Refused { errcode, .. } => retry_of(*errcode),
            MiniError::Status(429) => Retry::After(MINUTE),
            MiniError::Status(500..) | MiniError::Unreachable(_) | MiniError::Malformed(_) => Retry::Soon,
            MiniError::Status(_) | MiniError::Unwritable(_) => Retry::Never,
            // The call itself is sound, and what keeps the token away (the wrong secret, an address that is not on
            // WeChat's list) will be mended by somebody.
            MiniError::NoToken(cause) => match cause.retry() {
                Retry::Never => Retry::After(MINUTE),
                other => other,
            },
        }
    }

    fn unreachable(error: reqwest::Error) -> MiniError {
        // The URL holds the token, or the secret.
        MiniError::Unreachable(format!("{:#}", anyhow::Error::new(error.without_url())))
    }
}

/// What a call that failed is to the event that it was made for; a consumer looks first at the codes that mean something of its
/// own.
impl From<MiniError> for CallFailure {
    fn from(error: MiniError) -> CallFailure {
        let reason = error.to_string();
        match error.retry() {
            Retry::Never => CallFailure::Permanent(reason),
            Retry::Soon => CallFailure::away(reason),
            Retry::After(wait) => CallFailure::Away { reason, wait },
        }
    }
}

fn retry_of(errcode: i64) -> Retry {
    match errcode {
        // Busy; or a token that WeChat did not take, twice: another one may be there by then.
        -1 | 40001 | 40014 | 42001 => Retry::Soon,
        45011 => Retry::After(MINUTE),
        45009 => Retry::After(HOUR),
        _ => Retry::Never,
    }
}

/// WeChat does not take the token: it is over, was replaced, or never was one.
fn is_of_the_token(error: &MiniError) -> bool {
    matches!(error.errcode(), Some(40001 | 40014 | 42001))
}

/// The mini-program at WeChat.
#[derive(Debug)]
pub struct MiniProgram {
    pub(super) line: Line,
    pub(super) appid: String,
    pub(super) secret: SecretString,
    tokens: AccessTokens,
}

impl MiniProgram {
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        config: &WechatConfig,
        redis: &Redis,
        seal: &Seal,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<MiniProgram> {
        let line = Line::new(config)?;
        let tokens = AccessTokens::new(config, line.clone(), redis.clone(), seal.clone(), clock.clone());
        Ok(MiniProgram { line, appid: config.appid.clone(), secret: config.secret.clone(), tokens })
    }

    /// Asks `path` (with no query) with a JSON body. Sent once, or a second time when WeChat did not take the access
    /// token and so did nothing.
    ///
    /// # Errors
    /// [`MiniError`]; of [`MiniError::Unreachable`] nobody knows whether it was done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, MiniError> {
        let body = serde_json::to_vec(body).map_err(|error| MiniError::Unwritable(error.to_string()))?;
        let no_token = |error| MiniError::NoToken(Box::new(error));
        let token = self.tokens.get().await.map_err(no_token)?;
        match self.line.ask(path, Some(&token), body.clone()).await {
            Err(refusal) if is_of_the_token(&refusal) => {
                let renewed = self.tokens.replace(&token).await.map_err(no_token)?;
                if renewed.is_the_same_to_wechat(&token) {
                    return Err(refusal);
                }
                self.line.ask(path, Some(&renewed), body).await
            }
            answer => answer,
        }
    }
}

/// The way to WeChat's server, without a token of its own.
#[derive(Clone)]
pub(super) struct Line {
    http: reqwest::Client,
    base_url: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.base_url)
    }
}

impl Line {
    fn new(config: &WechatConfig) -> anyhow::Result<Line> {
        let base_url = config.base_url.trim_end_matches('/').to_owned();
        Ok(Line { http: http_client(config.timeout_ms)?, base_url })
    }

    /// One POST and what came of it.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&AccessToken>,
        body: Vec<u8>,
    ) -> Result<T, MiniError> {
        let query = match token {
            Some(token) => format!("?{}", token.as_query()?),
            None => String::new(),
        };
        let request = self.http.post(format!("{}{path}{query}", self.base_url));
        self.answer(request.header(CONTENT_TYPE, "application/json").body(body)).await
    }

    /// One GET and what came of it.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, MiniError> {
        let query = serde_urlencoded::to_string(query);
        let query = query.map_err(|error| MiniError::Unwritable(error.to_string()))?;
        self.answer(self.http.get(format!("{}{path}?{query}", self.base_url))).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, MiniError> {
        let response = request.send().await.map_err(MiniError::unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(MiniError::unreachable)?;
        if !status.is_success() {
            return Err(MiniError::Status(status.as_u16()));
        }
        read(&answer)
    }
}

/// WeChat answers 200 whatever happened; errcode tells. Most answers to a call that succeeded have none.
#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

/// Longest text of WeChat's that is kept, in characters.
const MOST_OF_A_TEXT: usize = 200;

/// The type is text/plain at the real service's login, so an answer is parsed whatever it is called.
pub(super) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, MiniError> {
    let malformed = |error: serde_json::Error| MiniError::Malformed(without_values(&error));
    let Outcome { errcode, errmsg } = serde_json::from_slice(answer).map_err(malformed)?;
    if errcode != 0 {
        return Err(MiniError::Refused { errcode, errmsg: errmsg.chars().take(MOST_OF_A_TEXT).collect() });
    }
    serde_json::from_slice(answer).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Found {
        a: i32,
    }

    #[test]
    fn an_answer_is_what_its_errcode_says() {
        let answer = |json: &str| read::<Found>(json.as_bytes());
        assert_eq!(answer(r#"{"a":1}"#), Ok(Found { a: 1 }));
        assert_eq!(answer(r#"{"errcode":0,"errmsg":"ok","a":1}"#), Ok(Found { a: 1 }));
        let refused = MiniError::Refused { errcode: 43101, errmsg: "user refuse".into() };
        assert_eq!(answer(r#"{"errcode":43101,"errmsg":"user refuse","a":1}"#), Err(refused));
        for odd in ["", "<html>", "[]", r#"{"errcode":"x"}"#, r#"{"errcode":0}"#] {
            assert!(matches!(answer(odd), Err(MiniError::Malformed(_))), "{odd}");
        }
    }

    #[test]
    fn a_malformed_answer_is_told_without_its_values() {
        let error = read::<Found>(br#"{"a":"13800001234"}"#).unwrap_err();
        assert!(error.to_string().contains("line 1") && !error.to_string().contains("1380"), "{error}");
    }

    #[test]
    fn each_failure_says_whether_trying_again_can_help() {
        let refused = |errcode| MiniError::Refused { errcode, errmsg: String::new() };
        for (error, retry) in [
            (refused(-1), Retry::Soon),
            (refused(40001), Retry::Soon),
            (refused(42001), Retry::Soon),
            (refused(45009), Retry::After(HOUR)),
            (refused(45011), Retry::After(MINUTE)),
            (refused(40029), Retry::Never),
            (refused(40037), Retry::Never),
            (refused(43101), Retry::Never),
            (refused(47003), Retry::Never),
            (refused(48001), Retry::Never),
            (refused(61010), Retry::Never),
            (MiniError::Status(502), Retry::Soon),
            (MiniError::Status(429), Retry::After(MINUTE)),
            (MiniError::Status(404), Retry::Never),
            (MiniError::Unreachable(String::new()), Retry::Soon),
            (MiniError::Malformed(String::new()), Retry::Soon),
            (MiniError::Unwritable(String::new()), Retry::Never),
            (MiniError::NoToken(Box::new(refused(40125))), Retry::After(MINUTE)),
            (MiniError::NoToken(Box::new(refused(45009))), Retry::After(HOUR)),
            (MiniError::NoToken(Box::new(MiniError::Status(502))), Retry::Soon),
        ] {
            assert_eq!(error.retry(), retry, "{error}");
        }
        assert_eq!(MiniError::NoToken(Box::new(refused(40125))).errcode(), None, "the call was not refused");
    }
}
