//! `code2Session`: a code of `wx.login` for the shopper's openid. The session key that comes with it is not kept.

use farmgate_shared::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{http_client, without_values};
use crate::config::WechatConfig;
use crate::error::{A_MINUTE_US, ApiError};

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
            LoginError::HighRisk => Problem::WechatHighRisk,
            LoginError::TooOften => return ApiError::limited(A_MINUTE_US).because(error),
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
            serde_json::from_slice(&body).map_err(|error| LoginError::Unavailable(without_values(&error)))?;
        read(answer)
    }
}

/// The codes are those of WeChat's documentation of `code2Session`, and of its server API in general.
fn read(answer: Answer) -> Result<Identity, LoginError> {
    match (answer.errcode, answer.openid) {
        (0, Some(openid)) if !openid.is_empty() && openid.is_ascii() => {
            Ok(Identity { openid, unionid: answer.unionid })
        }
        (0, _) => Err(LoginError::Unavailable("an answer without an openid".to_owned())),
        // Wrong or too old, used, missing.
        (code @ (40029 | 40163 | 41008), _) => Err(LoginError::CodeRefused(code, answer.errmsg)),
        (40226, _) => Err(LoginError::HighRisk),
        (45011, _) => Err(LoginError::TooOften),
        // The appid, the secret (wrong, missing, frozen), the account's rights, our address.
        (code @ (40002 | 40013 | 40125 | 40164 | 40243 | 41002 | 41004 | 48001 | 50002 | 50007), _) => {
            Err(LoginError::Misconfigured(code, answer.errmsg))
        }
        // Busy (-1), over its daily quota (45009), or a code that nobody has heard of.
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
    fn each_error_code_has_its_problem() {
        for (errcode, problem) in [
            (-1, Problem::WechatUnavailable),
            (40002, Problem::Internal),
            (40013, Problem::Internal),
            (40029, Problem::WechatCodeInvalid),
            (40125, Problem::Internal),
            (40163, Problem::WechatCodeInvalid),
            (40164, Problem::Internal),
            (40226, Problem::WechatHighRisk),
            (40243, Problem::Internal),
            (41002, Problem::Internal),
            (41004, Problem::Internal),
            (41008, Problem::WechatCodeInvalid),
            (45009, Problem::WechatUnavailable),
            (45011, Problem::RateLimited),
            (48001, Problem::Internal),
            (99999, Problem::WechatUnavailable),
        ] {
            let refused = answer(&format!(r#"{{"errcode":{errcode},"errmsg":"why"}}"#)).unwrap_err();
            let told = refused.to_string();
            assert!(told.contains(&errcode.to_string()), "the log names the code: {told}");
            assert_eq!(ApiError::from(refused).problem, problem, "{errcode}");
        }
    }

    #[test]
    fn an_identity_has_an_openid() {
        let identity = answer(r#"{"openid":"o1","session_key":"s","unionid":"u1"}"#).unwrap();
        assert_eq!(identity, Identity { openid: "o1".into(), unionid: Some("u1".into()) });
        assert!(answer(r#"{"errcode":0,"openid":"o1"}"#).is_ok());
        for odd in ["{}", r#"{"openid":""}"#, r#"{"openid":"张三"}"#] {
            assert!(matches!(answer(odd), Err(LoginError::Unavailable(_))), "{odd}");
        }
    }
}
