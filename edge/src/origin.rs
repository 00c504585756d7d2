//! The way to the origin. What is passed on is listed in [`crate::forwarding`]; what is passed on is signed, so
//! that the origin can tell it from what anybody else sends. Nothing is ever sent twice: a write whose answer was lost
//! may have happened.

use std::net::IpAddr;

use farmgate_shared::edge_auth::{
    EdgeKey, HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_REQUEST_ID, HEADER_SIG, HEADER_SUBJECT,
    HEADER_TS, Signed,
};
use web_sys::{AbortSignal, RequestInit, RequestRedirect, Response, WorkerGlobalScope};
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{self, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

pub use crate::forwarding::{passes_back, passes_on};

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

/// The same as [`signature`], for a [`Question`].
pub fn signed_headers(key: &EdgeKey, signed: &Signed<'_>) -> impl Iterator<Item = (String, String)> {
    signature(key, signed).into_iter().map(|(name, value)| (name.to_owned(), value))
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
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        JsFuture::from(scope.fetch_with_str_and_init(&self.url, &init)).await?.dyn_into()
    }
}

#[cfg(test)]
mod tests {
    use farmgate_shared::edge_auth::HEADER_PREFIX;

    use super::*;

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
