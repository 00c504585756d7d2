//! `code2Session`: a code of `wx.login` for the shopper's openid. The session key that comes with it is not kept.

use farmgate_shared::problem::Problem;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::mini::{MiniError, MiniProgram};
use crate::error::{A_MINUTE_US, ApiError};

/// Who a code belonged to.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub openid: String,
    pub unionid: Option<String>,
}

/// Why WeChat gave no identity.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("the code is not good: {0}")]
    CodeRefused(MiniError),
    #[error("WeChat holds the user for high-risk (40226)")]
    HighRisk,
    #[error("this user logs in too often (45011)")]
    TooOften,
    #[error("WeChat is away or busy: {0}")]
    Unavailable(MiniError),
    #[error("the shop's own appid or secret is not good: {0}")]
    Misconfigured(MiniError),
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> ApiError {
        let problem = match error {
            LoginError::CodeRefused(..) => Problem::WechatCodeInvalid,
            LoginError::HighRisk => Problem::WechatHighRisk,
            LoginError::TooOften => return ApiError::limited(A_MINUTE_US).because(error),
            LoginError::Unavailable(_) => Problem::WechatUnavailable,
            LoginError::Misconfigured(..) => Problem::Internal,
        };
        ApiError::caused(problem, error)
    }
}

/// The codes are those of WeChat's documentation of `code2Session`, and of its server API in general.
impl From<MiniError> for LoginError {
    fn from(error: MiniError) -> LoginError {
        match error.errcode() {
            // Wrong or too old, used, missing.
            Some(40029 | 40163 | 41008) => LoginError::CodeRefused(error),
            Some(40226) => LoginError::HighRisk,
            Some(45011) => LoginError::TooOften,
            // The appid, the secret (wrong, missing, frozen), the account's rights, our address.
            Some(40002 | 40013 | 40125 | 40164 | 40243 | 41002 | 41004 | 48001 | 50002 | 50007) => {
                LoginError::Misconfigured(error)
            }
            // Busy (-1), over its daily quota (45009), a code that nobody has heard of, or no answer.
            _ => LoginError::Unavailable(error),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    openid: String,
    unionid: Option<String>,
}

impl Answer {
    fn identity(self) -> Result<Identity, MiniError> {
        if self.openid.is_empty() || !self.openid.is_ascii() {
            return Err(MiniError::Malformed("no openid".to_owned()));
        }
        Ok(Identity { openid: self.openid, unionid: self.unionid })
    }
}

impl MiniProgram {
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
        let answer: Answer = self.line.get("/sns/jscode2session", &query).await?;
        Ok(answer.identity()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mini::read;
    use super::*;

    fn answer(json: &str) -> Result<Identity, LoginError> {
        Ok(read::<Answer>(json.as_bytes())?.identity()?)
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
        for odd in ["{}", "<html>", r#"{"openid":""}"#, r#"{"openid":"张三"}"#] {
            assert!(matches!(answer(odd), Err(LoginError::Unavailable(_))), "{odd}");
        }
    }
}
