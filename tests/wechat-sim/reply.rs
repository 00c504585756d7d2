//! What Pay v3 answers: errors as `{"code","message","detail"?}` with their HTTP status, and the signature over every
//! reply. Promises the shop that all replies to a merchant it could identify are signed, the 204 with its empty body
//! and the errors too; a request whose own signature failed gets an unsigned one, for nobody is known to have asked.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::keys::{Keys, random_nonce, random_text};

/// A failed Pay v3 call.
#[derive(Clone, Debug, PartialEq)]
pub struct PayError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// Where in the request the fault lies.
    pub detail: Option<Value>,
}

impl PayError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> PayError {
        PayError { status, code, message: message.into(), detail: None }
    }

    pub fn param(message: impl Into<String>) -> PayError {
        PayError::new(StatusCode::BAD_REQUEST, "PARAM_ERROR", message)
    }

    /// A field of the body that breaks its rule; `field` is a JSON pointer.
    pub fn field(field: &str, value: &Value, issue: &str) -> PayError {
        let detail = json!({"location": "body", "field": field, "value": value, "issue": issue});
        PayError {
            detail: Some(detail),
            ..PayError::param(format!("输入源“/body{field}”映射到字段时校验失败：{issue}"))
        }
    }

    pub fn sign(message: &str) -> PayError {
        PayError::new(StatusCode::UNAUTHORIZED, "SIGN_ERROR", message)
    }

    /// Whether the reply carries WeChat's signature.
    pub fn is_signed(&self) -> bool {
        self.code != "SIGN_ERROR"
    }
}

impl IntoResponse for PayError {
    fn into_response(self) -> Response {
        let mut body = json!({"code": self.code, "message": self.message});
        if let (Some(detail), Some(map)) = (self.detail, body.as_object_mut()) {
            map.insert("detail".into(), detail);
        }
        json_reply(self.status, &body)
    }
}

/// A JSON reply, unsigned.
pub fn json_reply(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, headers, body.to_string()).into_response()
}

/// On a reply that the real service does not sign: a file.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned;

/// Which key signs a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    Platform,
    /// A key that the shop does not know, under WeChat's serial.
    Stranger,
}

/// The headers that sign `body`: over `timestamp\nnonce\nbody\n`.
pub fn signature_headers(
    keys: &Keys,
    signer: Signer,
    timestamp: i64,
    body: &[u8],
) -> [(&'static str, String); 4] {
    let nonce = random_nonce();
    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    let signature = match signer {
        Signer::Platform => keys.platform_sign(&message),
        Signer::Stranger => keys.forge(&message),
    };
    [
        ("wechatpay-timestamp", timestamp.to_string()),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", signature),
        ("wechatpay-serial", keys.merchant.public_key_id.clone()),
    ]
}

/// Puts the signature on a finished reply.
pub async fn signed(keys: &Keys, signer: Signer, timestamp: i64, reply: Response) -> Response {
    let (mut parts, body) = reply.into_parts();
    // Replies are built in this process, a few hundred bytes each; reading one back cannot fail.
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let headers = signature_headers(keys, signer, timestamp, &body);
    let request_id = ("request-id", format!("08{}", random_text(b"0123456789ABCDEF", 22)));
    for (name, value) in headers.into_iter().chain([request_id]) {
        if let Ok(value) = HeaderValue::try_from(value) {
            parts.headers.insert(name, value);
        }
    }
    Response::from_parts(parts, Body::from(body))
}
