//! The way to the origin. What is passed on is listed, everything else stays here; what is passed on is signed, so
//! that the origin can tell it from what anybody else sends. Nothing is ever sent twice: a write whose answer was lost
//! may have happened.

use std::net::IpAddr;

use farmgate_shared::edge_auth::{
    EdgeKey, HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_PREFIX, HEADER_REQUEST_ID, HEADER_SIG,
    HEADER_SUBJECT, HEADER_TS, Signed,
};
use web_sys::{AbortSignal, Request, RequestInit, RequestRedirect, Response, WorkerGlobalScope};
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{self, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

use crate::router::Forward;

/// Whether a client's header is passed on. `name` is in lower case, as hosts give it.
#[must_use]
pub fn passes_on(name: &str, forward: Forward) -> bool {
    let always = matches!(name, "accept" | "content-type" | "user-agent");
    always
        || match forward {
            Forward::Public => false,
            Forward::Member => matches!(name, "authorization" | "idempotency-key"),
            Forward::Static => matches!(name, "if-none-match" | "if-modified-since" | "range"),
            Forward::Callback => name.starts_with("wechatpay-"),
        }
}

/// Whether a header of the origin's reply is passed back. What describes the connection or the encoding is the
/// host's to write anew; the request's id and what a browser may do are ours.
#[must_use]
pub fn passes_back(name: &str) -> bool {
    let is_of_the_connection = matches!(
        name,
        "connection"
            | "content-encoding"
            | "content-length"
            | "keep-alive"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    );
    let is_ours =
        matches!(name, HEADER_REQUEST_ID | "server" | "set-cookie" | "vary" | "x-content-type-options")
            || name.starts_with(HEADER_PREFIX)
            || name.starts_with("access-control-");
    !is_of_the_connection && !is_ours
}

/// The client's address from the host's header, in one spelling; empty when it is absent or no address.
#[must_use]
pub fn client_ip(header: Option<&str>) -> String {
    header.and_then(|text| text.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_string()).unwrap_or_default()
}

/// The headers that tell the origin who sends this. Empty ones are left out.
#[must_use]
pub fn signature(key: &EdgeKey, signed: &Signed<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (HEADER_KID, key.kid.clone()),
        (HEADER_TS, signed.timestamp.to_owned()),
        (HEADER_NONCE, signed.nonce.to_owned()),
        (HEADER_SIG, signed.sign(&key.secret)),
        (HEADER_REQUEST_ID, signed.request_id.to_owned()),
    ];
    for (name, value) in [(HEADER_SUBJECT, signed.subject), (HEADER_CLIENT_IP, signed.client_ip)] {
        if !value.is_empty() {
            headers.push((name, value.to_owned()));
        }
    }
    headers
}

/// One request to the origin.
#[derive(Debug)]
pub struct Question<'a> {
    pub url: String,
    pub method: &'a str,
    pub headers: Vec<(String, String)>,
    /// `None` for methods that have no body.
    pub body: Option<&'a [u8]>,
    pub timeout_ms: u32,
}

impl Question<'_> {
    /// Sends it, once.
    ///
    /// # Errors
    /// The host's error when the origin could not be reached or did not answer in time.
    pub async fn ask(self) -> Result<Response, JsValue> {
        let init = RequestInit::new();
        init.set_method(self.method);
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(&AbortSignal::timeout_with_u32(self.timeout_ms)));
        let headers = js_sys::Object::new();
        for (name, value) in &self.headers {
            js_sys::Reflect::set(&headers, &name.into(), &value.into())?;
        }
        init.set_headers(&headers);
        if let Some(body) = self.body {
            init.set_body_opt_u8_array(Some(&Uint8Array::from(body)));
        }
        let request = Request::new_with_str_and_init(&self.url, &init)?;
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        JsFuture::from(scope.fetch_with_request(&request)).await?.dyn_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARDS: [Forward; 4] = [Forward::Public, Forward::Static, Forward::Callback, Forward::Member];

    #[test]
    fn what_a_client_could_forge_never_passes() {
        for forward in FORWARDS {
            for name in [
                HEADER_KID,
                HEADER_SIG,
                HEADER_SUBJECT,
                HEADER_CLIENT_IP,
                HEADER_REQUEST_ID,
                "x-edge-anything",
                "x-forwarded-for",
                "x-real-ip",
                "forwarded",
                "cf-connecting-ip",
                "cookie",
                "host",
                "connection",
                "transfer-encoding",
                "content-length",
                "accept-encoding",
            ] {
                assert!(!passes_on(name, forward), "{name} {forward:?}");
            }
        }
    }

    #[test]
    fn each_kind_of_request_has_its_own_headers() {
        let passing = |name: &str| -> Vec<Forward> {
            FORWARDS.into_iter().filter(|forward| passes_on(name, *forward)).collect()
        };
        assert_eq!(passing("content-type"), FORWARDS);
        assert_eq!(passing("authorization"), [Forward::Member]);
        assert_eq!(passing("idempotency-key"), [Forward::Member]);
        assert_eq!(passing("if-none-match"), [Forward::Static]);
        assert_eq!(passing("wechatpay-signature"), [Forward::Callback]);
        assert_eq!(passing("wechatpay-signature-type"), [Forward::Callback]);
    }

    #[test]
    fn a_reply_says_nothing_about_the_connection_behind_the_edge() {
        for name in [
            "transfer-encoding",
            "content-length",
            "server",
            "set-cookie",
            "x-request-id",
            "x-edge-kid",
            "vary",
        ] {
            assert!(!passes_back(name), "{name}");
        }
        for name in
            ["content-type", "cache-control", "retry-after", "allow", "etag", "last-modified", "location"]
        {
            assert!(passes_back(name), "{name}");
        }
    }

    #[test]
    fn the_origin_can_check_what_is_signed() {
        let key = EdgeKey { kid: "k1".into(), secret: vec![7; 32] };
        let signed = Signed {
            method: "POST",
            path_and_query: "/api/orders",
            timestamp: "1700000000",
            nonce: "0123456789abcdef0123456789abcdef",
            body: b"{}",
            subject: "7",
            client_ip: "",
            request_id: "r1234567",
        };
        let headers = signature(&key, &signed);
        let header =
            |name: &str| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value);
        assert!(signed.verify(&key.secret, header(HEADER_SIG).unwrap()));
        assert_eq!((header(HEADER_KID), header(HEADER_SUBJECT)), (Some("k1"), Some("7")));
        assert_eq!(header(HEADER_CLIENT_IP), None);
        assert!(
            headers.iter().all(|(name, _)| *name == HEADER_REQUEST_ID || name.starts_with(HEADER_PREFIX))
        );
    }

    #[test]
    fn an_address_is_an_address_or_nothing() {
        assert_eq!(client_ip(Some("203.0.113.9")), "203.0.113.9");
        assert_eq!(client_ip(Some(" 2001:DB8::1 ")), "2001:db8::1");
        for header in
            [None, Some(""), Some("203.0.113.9, 10.0.0.1"), Some("unknown"), Some("1\nx-edge-kid: 2")]
        {
            assert_eq!(client_ip(header), "");
        }
    }
}
