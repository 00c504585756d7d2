//! One call to WeChat Pay: signed, sent, repeated where that is allowed, and its reply verified.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};

use super::PayClient;
use super::error::{PayError, Refusal, RefusalBody};
use super::hosts::Host;
use crate::wechat::skew::ClockSkew;

/// A request as it is sent; only its signature differs from attempt to attempt.
#[derive(Debug)]
struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: &'a str,
}

/// Attempts of one call.
const MOST_ATTEMPTS: u32 = 3;
/// The pause before the second attempt; three times as long before the third.
const PAUSE: Duration = Duration::from_millis(100);
/// The same after WeChat asked for fewer calls.
const BACK_OFF: Duration = Duration::from_millis(500);

/// What an error lets the next attempt be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nobody answered, or something in front of WeChat did: the other host may be asked. What became of it is unknown.
    Elsewhere,
    /// WeChat had a fault of its own and asks for the same again.
    Again,
    /// WeChat asks for fewer calls.
    Fewer,
    /// WeChat decided, or repeating cannot help.
    Nothing,
}

impl Next {
    fn after(error: &PayError) -> Next {
        match error {
            PayError::Unreachable(_) | PayError::Refused { code: Refusal::Gateway, .. } => Next::Elsewhere,
            PayError::Refused { code: Refusal::SystemError | Refusal::BankError, .. } => Next::Again,
            PayError::Refused { code: Refusal::FrequencyLimited, .. } => Next::Fewer,
            _ => Next::Nothing,
        }
    }

    fn pause(self, attempt: u32) -> Duration {
        let first = if self == Next::Fewer { BACK_OFF } else { PAUSE };
        first * 3_u32.saturating_pow(attempt.saturating_sub(1))
    }
}

impl PayClient {
    /// Makes a call of which twice is as good as once: a query, a close, a prepay or a refund with the same number and the
    /// same bytes. It is repeated, at the other host too, where nobody answered or WeChat asks for the same again; what is not
    /// such a call must not come through here. `path` is the path and query as they are signed, `body` is empty for none,
    /// `now` is in seconds since 1970. The body of a reply that WeChat signed comes back.
    ///
    /// # Errors
    /// [`PayError`], of the last attempt.
    pub(in crate::wechat) async fn call(
        &self,
        method: Method,
        path: &str,
        body: &str,
        now: u64,
    ) -> Result<Vec<u8>, PayError> {
        let ask = Ask { method, path, body };
        let begun = Instant::now();
        let give_up = begun + self.patience;
        let mut attempt = 1;
        loop {
            let host = self.hosts.choose(Instant::now());
            let within = self.timeout.min(give_up.saturating_duration_since(Instant::now()));
            let error = match self.attempt(host, &ask, now + begun.elapsed().as_secs(), within).await {
                Ok(reply) => {
                    self.hosts.answered(host);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let next = Next::after(&error);
            let is_other_host = if next == Next::Elsewhere {
                self.hosts.failed(host, Instant::now())
            } else {
                self.hosts.answered(host);
                false
            };
            let pause = if is_other_host { Duration::ZERO } else { next.pause(attempt) };
            let is_time_left = Instant::now() + pause < give_up;
            if attempt == MOST_ATTEMPTS || !is_time_left || next == Next::Nothing {
                return Err(error);
            }
            tracing::debug!(path = ask.path, attempt, %error, "WeChat Pay is asked again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        host: Host,
        ask: &Ask<'_>,
        now: u64,
        within: Duration,
    ) -> Result<Vec<u8>, PayError> {
        let authorization = self.merchant.authorization(ask.method.as_str(), ask.path, ask.body, now)?;
        let mut request = self
            .http
            .request(ask.method.clone(), format!("{}{}", self.hosts.base_url(host), ask.path))
            .timeout(within)
            .header("accept", "application/json")
            .header("authorization", authorization)
            .header("wechatpay-serial", self.platform.preferred());
        if !ask.body.is_empty() {
            request = request.header("content-type", "application/json").body(ask.body.to_owned());
        }
        let response = request.send().await.map_err(PayError::Unreachable)?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(PayError::Unreachable)?.to_vec();
        if status.is_success() {
            self.platform.verify(&headers, &body, now)?;
            return Ok(body);
        }
        Err(self.refusal(status.as_u16(), &headers, &body, now))
    }

    /// What a reply that is no success says. Failures may come unsigned, from a gateway in front or because WeChat does not
    /// know who asked.
    fn refusal(&self, status: u16, headers: &HeaderMap, body: &[u8], now: u64) -> PayError {
        let verified = self.platform.verify(headers, body, now);
        let told: RefusalBody = serde_json::from_slice(body).unwrap_or_default();
        let code = Refusal::read(status, &told.code, verified.is_ok());
        if code == Refusal::SignError
            && let Some(skew) = ClockSkew::from_date(headers, now).filter(|skew| skew.is_too_far())
        {
            return PayError::ClockOff(skew);
        }
        PayError::Refused { status, code, message: told.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::platform::VerifyError;

    fn refused(status: u16, code: &str) -> PayError {
        PayError::Refused { status, code: Refusal::read(status, code, true), message: String::new() }
    }

    #[test]
    fn only_what_wechat_lets_be_repeated_is() {
        for (error, next) in [
            (refused(500, "SYSTEM_ERROR"), Next::Again),
            (refused(500, "BANK_ERROR"), Next::Again),
            (refused(502, ""), Next::Elsewhere),
            (refused(429, "FREQUENCY_LIMITED"), Next::Fewer),
            (refused(400, "PARAM_ERROR"), Next::Nothing),
            (refused(400, "INVALID_REQUEST"), Next::Nothing),
            (refused(401, "SIGN_ERROR"), Next::Nothing),
            (refused(403, "OUT_TRADE_NO_USED"), Next::Nothing),
            (refused(400, "ORDER_PAID"), Next::Nothing),
            (refused(403, "NOT_ENOUGH"), Next::Nothing),
            (PayError::ClockOff(ClockSkew::Behind(600)), Next::Nothing),
            (PayError::Unverified(VerifyError::Forged), Next::Nothing),
        ] {
            assert_eq!(Next::after(&error), next, "{error}");
        }
    }

    #[test]
    fn pauses_grow_and_are_longer_where_wechat_asks_for_fewer_calls() {
        assert!(Next::Again.pause(2) > Next::Again.pause(1));
        assert!(Next::Fewer.pause(1) > Next::Again.pause(2));
    }
}
