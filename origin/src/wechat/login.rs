//! `code2Session`: a code of `wx.login` for the shopper's openid. The session key that comes with it is not kept.

use farmgate_shared::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::http_client;
use crate::config::WechatConfig;
use crate::error::ApiError;

/// The mini-program's server API.
#[derive(Debug)]
pub struct WechatLogin {
    http: reqwest::Client,
    base_url: String,
    appid: String,
    secret: SecretString,
}

/// Who a code belonged to.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub openid: String,
    pub unionid: Option<String>,
}

/// Why WeChat gave no identity.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("WeChat refused the code: {0} {1}")]
    CodeRefused(i64, String),
    #[error("WeChat holds the user for high-risk (40226)")]
    HighRisk,
    #[error("this user logs in too often (45011)")]
    TooOften,
    #[error("WeChat is busy or answered out of form: {0}")]
    Unavailable(String),
    #[error("WeChat could not be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("WeChat refuses the shop's own appid or secret: {0} {1}")]
    Misconfigured(i64, String),
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> ApiError {
        let problem = match error {
            LoginError::CodeRefused(..) => Problem::WechatCodeInvalid,
            LoginError::HighRisk => Problem::AccountDisabled,
            LoginError::TooOften => Problem::RateLimited,
            LoginError::Unavailable(_) | LoginError::Unreachable(_) => Problem::WechatUnavailable,
            LoginError::Misconfigured(..) => Problem::Internal,
        };
        ApiError::caused(problem, error)
    }
}

/// WeChat answers 200 whatever happened; errcode tells.
#[derive(Debug, Deserialize)]
struct Answer {
    openid: Option<String>,
    unionid: Option<String>,
    #[serde(default)]
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

impl WechatLogin {
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(config: &WechatConfig) -> anyhow::Result<WechatLogin> {
        Ok(WechatLogin {
            http: http_client(config.timeout_ms)?,
            base_url: config.base_url.trim_end_matches('/').to_owned(),
            appid: config.appid.clone(),
            secret: config.secret.clone(),
        })
    }

    /// Exchanges a code, which works once and for five minutes.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn code_to_session(&self, code: &str) -> Result<Identity, LoginError> {
        let query = [
            ("appid", self.appid.as_str()),
            ("secret", self.secret.expose_secret()),
            ("js_code", code),
            ("grant_type", "authorization_code"),
        ];
        let query = serde_urlencoded::to_string(query).map_err(|e| LoginError::Unavailable(e.to_string()))?;
        // The URL holds the secret: it must not reach a log through reqwest's errors.
        let unreachable = |error: reqwest::Error| LoginError::Unreachable(error.without_url());
        let url = format!("{}/sns/jscode2session?{query}", self.base_url);
        let response = self.http.get(url).send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(LoginError::Unavailable(format!("status {status}")));
        }
        // The type is text/plain at the real service, so the body is parsed whatever it is called.
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| LoginError::Unavailable(error.to_string()))?;
        read(answer)
    }
}

/// The codes are those of WeChat's documentation of `code2Session`.
fn read(answer: Answer) -> Result<Identity, LoginError> {
    match (answer.errcode, answer.openid) {
        (0, Some(openid)) if !openid.is_empty() && openid.is_ascii() => {
            Ok(Identity { openid, unionid: answer.unionid })
        }
        (0, _) => Err(LoginError::Unavailable("an answer without an openid".to_owned())),
        (code @ (40029 | 40163 | 41008), _) => Err(LoginError::CodeRefused(code, answer.errmsg)),
        (40226, _) => Err(LoginError::HighRisk),
        (45011, _) => Err(LoginError::TooOften),
        (code @ (40013 | 40125 | 41002 | 41004), _) => Err(LoginError::Misconfigured(code, answer.errmsg)),
        (code, _) => Err(LoginError::Unavailable(format!("{code} {}", answer.errmsg))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Result<Identity, LoginError> {
        read(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn each_error_code_means_something() {
        let identity = answer(r#"{"openid":"o1","session_key":"s","unionid":"u1"}"#).unwrap();
        assert_eq!(identity, Identity { openid: "o1".into(), unionid: Some("u1".into()) });
        assert!(matches!(
            answer(r#"{"errcode":40029,"errmsg":"bad"}"#),
            Err(LoginError::CodeRefused(40029, _))
        ));
        assert!(matches!(answer(r#"{"errcode":40163}"#), Err(LoginError::CodeRefused(40163, _))));
        assert!(matches!(answer(r#"{"errcode":40226}"#), Err(LoginError::HighRisk)));
        assert!(matches!(answer(r#"{"errcode":45011}"#), Err(LoginError::TooOften)));
        assert!(matches!(answer(r#"{"errcode":-1}"#), Err(LoginError::Unavailable(_))));
        assert!(matches!(answer(r#"{"errcode":40125}"#), Err(LoginError::Misconfigured(..))));
        assert!(matches!(answer("{}"), Err(LoginError::Unavailable(_))));
        assert!(matches!(answer(r#"{"openid":""}"#), Err(LoginError::Unavailable(_))));
    }
}
