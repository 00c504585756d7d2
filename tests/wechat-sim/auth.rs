//! Who calls Pay v3: the `Authorization: WECHATPAY2-SHA256-RSA2048 …` header and the other headers that the real
//! service insists on. Promises the payment endpoints that a request which gets past here was signed by the merchant,
//! within five minutes, and for the first time.

use std::collections::HashMap;

use axum::http::{HeaderMap, Method, Uri, header};

use crate::keys::Keys;
use crate::reply::PayError;
use crate::state::Nonces;

/// How far a request's timestamp may be from our clock, in seconds.
pub const MAX_SKEW_SECONDS: i64 = 300;
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// The five parts of the header, whatever their order was.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    mchid: &'a str,
    nonce_str: &'a str,
    signature: &'a str,
    timestamp: &'a str,
    serial_no: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads `SCHEME key="value",…`. `None` for another scheme, a missing or repeated key, or values without quotes.
    fn parse(text: &'a str) -> Option<Authorization<'a>> {
        let (scheme, parameters) = text.split_once(' ')?;
        if scheme != SCHEME {
            return None;
        }
        let mut values = HashMap::new();
        for pair in parameters.split(',') {
            let (key, value) = pair.trim().split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            if values.insert(key, value).is_some() {
                return None;
            }
        }
        Some(Authorization {
            mchid: values.get("mchid")?,
            nonce_str: values.get("nonce_str")?,
            signature: values.get("signature")?,
            timestamp: values.get("timestamp")?,
            serial_no: values.get("serial_no")?,
        })
    }
}

/// What is signed of a request: `METHOD\nPATH?QUERY\nTIMESTAMP\nNONCE\nBODY\n`.
fn signed_message(
    method: &Method,
    path_and_query: &str,
    timestamp: &str,
    nonce: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut message = format!("{method}\n{path_and_query}\n{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// Checks who sent a request and that it is fresh. `now` is in seconds since 1970.
pub fn check(
    keys: &Keys,
    nonces: &mut Nonces,
    now: i64,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    body: &[u8],
) -> Result<(), PayError> {
    let text =
        |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let accept = text(header::ACCEPT);
    if accept.is_empty() || text(header::USER_AGENT).is_empty() {
        return Err(PayError::param("Http头缺少Accept或User-Agent"));
    }
    if !accept
        .split(',')
        .any(|kind| kind.trim().starts_with("application/json") || kind.trim().starts_with("*/*"))
    {
        return Err(PayError::param("Http头Accept应包含application/json"));
    }
    let is_json =
        text(header::CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if !body.is_empty() && !is_json {
        return Err(PayError::param("Http头Content-Type应为application/json"));
    }

    let refused = |message: &str| Err(PayError::sign(message));
    let Some(authorization) = Authorization::parse(text(header::AUTHORIZATION)) else {
        return refused("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》");
    };
    if authorization.mchid != keys.merchant.mchid {
        return refused("商户号不存在或与签名不符");
    }
    if authorization.serial_no != keys.merchant.merchant_serial {
        return refused("商户证书序列号有误");
    }
    let fresh =
        authorization.timestamp.parse::<i64>().is_ok_and(|sent| (now - sent).abs() <= MAX_SKEW_SECONDS);
    if !fresh {
        return refused("Http头Authorization中的timestamp与发起请求的时间不得超过5分钟");
    }
    let nonce = authorization.nonce_str;
    if nonce.is_empty() || nonce.len() > 32 || !nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return refused("Http头Authorization中的nonce_str格式错误");
    }
    let path_and_query = uri.path_and_query().map_or("/", |both| both.as_str());
    let message = signed_message(method, path_and_query, authorization.timestamp, nonce, body);
    if !keys.merchant_signed(&message, authorization.signature) {
        return refused("签名错误，请检查后再试");
    }
    // Only a signature that verified may spend a nonce; otherwise a stranger could spend the merchant's.
    if !nonces.spend(nonce, now) {
        return refused("Http头Authorization中的nonce_str已被使用");
    }
    match headers.get("wechatpay-serial").and_then(|value| value.to_str().ok()) {
        None => Err(PayError::param("HTTP header缺少微信支付平台证书序列号(Wechatpay-Serial)")),
        Some(serial) if serial != keys.merchant.public_key_id => {
            Err(PayError::param("HTTP header中的微信支付平台证书序列号(Wechatpay-Serial)有误"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;

    const NOW: i64 = 1_700_000_000;
    const PATH: &str = "/v3/pay/transactions/out-trade-no/123456?mchid=1600000001";

    fn headers(keys: &Keys, nonce: &str, timestamp: i64, message_body: &[u8]) -> HeaderMap {
        let timestamp = timestamp.to_string();
        let message = signed_message(&Method::GET, PATH, &timestamp, nonce, message_body);
        let authorization = format!(
            "{SCHEME} serial_no=\"{}\", timestamp=\"{timestamp}\",signature=\"{}\",nonce_str=\"{nonce}\",mchid=\"{}\"",
            keys.merchant.merchant_serial,
            fixture::merchant_sign(&message),
            keys.merchant.mchid,
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/json"),
            ("user-agent", "farmgate"),
            ("authorization", &authorization),
            ("wechatpay-serial", &keys.merchant.public_key_id),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn outcome(
        keys: &Keys,
        nonces: &mut Nonces,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), &'static str> {
        check(keys, nonces, NOW, (&Method::GET, &PATH.parse().unwrap(), headers), body)
            .map_err(|error| error.code)
    }

    #[test]
    fn a_signed_request_passes_once() {
        let (keys, mut nonces) = (fixture::keys(), Nonces::default());
        let headers = headers(&keys, "n1", NOW - 299, b"");
        assert_eq!(outcome(&keys, &mut nonces, &headers, b""), Ok(()));
        assert_eq!(outcome(&keys, &mut nonces, &headers, b""), Err("SIGN_ERROR"), "a replay");
    }

    #[test]
    fn what_was_signed_differs_from_what_was_sent() {
        let (keys, mut nonces) = (fixture::keys(), Nonces::default());
        let mut headers = headers(&keys, "n1", NOW, b"{}");
        assert_eq!(outcome(&keys, &mut nonces, &headers, b""), Err("SIGN_ERROR"));
        headers.insert("content-type", "application/json; charset=utf-8".parse().unwrap());
        assert_eq!(outcome(&keys, &mut nonces, &headers, b"{}"), Ok(()), "a failed try spends no nonce");
    }

    #[test]
    fn an_old_or_early_timestamp_is_refused() {
        let (keys, mut nonces) = (fixture::keys(), Nonces::default());
        for sent in [NOW - 301, NOW + 301] {
            let headers = headers(&keys, "n1", sent, b"");
            assert_eq!(outcome(&keys, &mut nonces, &headers, b""), Err("SIGN_ERROR"), "{sent}");
        }
    }

    #[test]
    fn every_header_is_needed() {
        let keys = fixture::keys();
        for (name, code) in [
            ("accept", "PARAM_ERROR"),
            ("user-agent", "PARAM_ERROR"),
            ("authorization", "SIGN_ERROR"),
            ("wechatpay-serial", "PARAM_ERROR"),
        ] {
            let mut headers = headers(&keys, "n1", NOW, b"");
            headers.remove(name);
            assert_eq!(outcome(&keys, &mut Nonces::default(), &headers, b""), Err(code), "without {name}");
        }
        let mut headers = headers(&keys, "n1", NOW, b"{}");
        headers.insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(
            outcome(&keys, &mut Nonces::default(), &headers, b"{}"),
            Err("PARAM_ERROR"),
            "a body that is not JSON"
        );
    }

    #[test]
    fn the_header_is_read_by_key_and_strictly() {
        let good = "WECHATPAY2-SHA256-RSA2048 mchid=\"1\",nonce_str=\"n\",signature=\"a+/==\",timestamp=\"2\",serial_no=\"S\"";
        let parsed = Authorization::parse(good).unwrap();
        assert_eq!((parsed.mchid, parsed.signature, parsed.serial_no), ("1", "a+/==", "S"));
        for bad in [
            "",
            "Bearer x",
            &good.replace("2048", "4096"),
            &good.replace("\"1\"", "1"),
            &good.replace("mchid", "merchant"),
            &format!("{good},mchid=\"2\""),
        ] {
            assert_eq!(Authorization::parse(bad), None, "{bad}");
        }
    }
}
