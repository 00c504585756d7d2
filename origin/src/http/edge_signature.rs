//! Only an edge that holds a key is answered. The signature covers all that a handler relies on; its time must be
//! near ours and its nonce new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farmgate_shared::MAX_BODY_BYTES;
use farmgate_shared::edge_auth::{
    EdgeKey, HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_REQUEST_ID, HEADER_SIG, HEADER_SUBJECT,
    HEADER_TS, Signed,
};
use farmgate_shared::problem::Problem;
use http::HeaderMap;

use crate::app::App;
use crate::error::ApiError;
use crate::redis::Redis;

/// The user that the edge saw in the token, if any. The handler's own check of the token must agree.
#[derive(Clone, Debug)]
pub struct EdgeSubject(pub Option<String>);

/// Checks signatures and remembers nonces.
#[derive(Debug)]
pub struct EdgeGuard {
    keys: Vec<EdgeKey>,
    max_skew_seconds: u64,
    redis: Redis,
    /// Nonces taken while Redis was away, with the second in which each may be forgotten.
    seen_locally: Mutex<HashMap<String, u64>>,
}

impl EdgeGuard {
    /// `keys` may be several, for rotation.
    pub fn new(keys: Vec<EdgeKey>, max_skew_seconds: u64, redis: Redis) -> EdgeGuard {
        EdgeGuard { keys, max_skew_seconds, redis, seen_locally: Mutex::default() }
    }

    /// Whether an edge signed this just now and for the first time. `now` is in seconds since 1970.
    async fn accepts(&self, signed: &Signed<'_>, kid: &str, signature: &str, now: u64) -> bool {
        let Ok(timestamp) = signed.timestamp.parse::<u64>() else { return false };
        let nonce_fits = (16..=64).contains(&signed.nonce.len())
            && signed.nonce.bytes().all(|b| b.is_ascii_alphanumeric());
        nonce_fits
            && timestamp.abs_diff(now) <= self.max_skew_seconds
            && self.keys.iter().any(|key| key.kid == kid && signed.verify(&key.secret, signature))
            && self.first_use(kid, signed.nonce, now).await
    }

    async fn first_use(&self, kid: &str, nonce: &str, now: u64) -> bool {
        // A request passes for max_skew to either side of its time; a second more for rounding.
        let lifetime = 2 * self.max_skew_seconds + 1;
        let key = self.redis.key(&format!("edge-nonce:{kid}:{nonce}"));
        let set: redis::RedisResult<Option<String>> = redis::cmd("SET")
            .arg(&key)
            .arg(1)
            .arg("NX")
            .arg("EX")
            .arg(lifetime)
            .query_async(&mut self.redis.connection())
            .await;
        match set {
            Ok(answer) => answer.is_some(),
            Err(error) => {
                // Stricter than nothing: this process alone remembers, and a replay to another replica could pass
                // for the minute that Redis is away. Writes are still idempotent.
                tracing::debug!(%error, "Redis is away, remembering the nonce locally");
                let mut seen = self.seen_locally.lock().unwrap_or_else(PoisonError::into_inner);
                seen.retain(|_, forget_at| *forget_at > now);
                seen.insert(key, now + lifetime).is_none()
            }
        }
    }
}

/// The layer. Buffers the body, since the signature covers it.
pub async fn require(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn check(app: &App, request: Request) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed = Signed {
        method: parts.method.as_str(),
        path_and_query: parts.uri.path_and_query().map_or("/", |whole| whole.as_str()),
        timestamp: header(HEADER_TS),
        nonce: header(HEADER_NONCE),
        body: &body,
        subject: header(HEADER_SUBJECT),
        client_ip: header(HEADER_CLIENT_IP),
        request_id: header(HEADER_REQUEST_ID),
    };
    let now = app.clock.unix_seconds();
    if !app.edge.accepts(&signed, header(HEADER_KID), header(HEADER_SIG), now).await {
        return Err(Problem::EdgeSignatureRequired.into());
    }
    let subject = (!signed.subject.is_empty()).then(|| signed.subject.to_owned());
    parts.extensions.insert(EdgeSubject(subject));
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// The whole body, or 413 as soon as it is known to be too large.
async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced =
        headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(Problem::PayloadTooLarge.into());
    }
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        if too_large {
            Problem::PayloadTooLarge.into()
        } else {
            ApiError::caused(Problem::InvalidParameter, error)
        }
    })
}
