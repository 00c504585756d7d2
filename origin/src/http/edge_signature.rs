//! Only an edge that holds a key is answered, and only as much as the limits allow. The signature covers all that a
//! handler relies on; its time must be near ours and its nonce new. Nonces are kept in Redis, for all replicas. This
//! process remembers them as well: while Redis is away it refuses what it has seen, and what it can no longer say of
//! whether it has.

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

use super::nonces::Nonces;
use crate::app::App;
use crate::clock::Clock;
use crate::error::ApiError;
use crate::limits::model::Asked;
use crate::limits::{Admission, Limits, Nonce};

/// Nonces that a process remembers: of half a minute with 8000 requests a second, in 5 MB at most.
const NONCES: usize = 262_144;

/// The user that the edge saw in the token, if any. The handler's own check of the token must agree.
#[derive(Clone, Debug)]
pub struct EdgeSubject(pub Option<String>);

/// Checks signatures and remembers nonces.
#[derive(Debug)]
pub struct EdgeGuard {
    keys: Vec<EdgeKey>,
    max_skew_seconds: u64,
    nonces: Mutex<Nonces>,
}

impl EdgeGuard {
    /// `keys` may be several, for rotation. `now` is in seconds since 1970.
    pub fn new(keys: Vec<EdgeKey>, max_skew_seconds: u64, now: u64) -> EdgeGuard {
        EdgeGuard { keys, max_skew_seconds, nonces: Mutex::new(Nonces::new(NONCES, now)) }
    }

    /// Lets a request in that an edge signed just now and for the first time, if the limits allow.
    async fn admit(
        &self,
        signed: &Signed<'_>,
        kid: &str,
        signature: &str,
        limits: &Limits,
        clock: &dyn Clock,
    ) -> Result<(), ApiError> {
        let refused = || ApiError::from(Problem::EdgeSignatureRequired);
        let now = clock.unix_seconds();
        let second = self.signed_at(signed, kid, signature, now).ok_or_else(refused)?;
        if !self.remember(kid, signed.nonce, second, now) {
            return Err(refused());
        }
        let asked = Asked {
            method: signed.method,
            path: signed.path_and_query.split('?').next().unwrap_or_default(),
            subject: signed.subject,
            client_ip: signed.client_ip,
        };
        // A request passes for max_skew to either side of its time; a second more for rounding.
        let lifetime = 2 * self.max_skew_seconds + 1;
        let nonce = Nonce { name: format!("{kid}:{}", signed.nonce), second, lifetime };
        let (admission, redis_answered) = limits.admit(nonce, asked.buckets(), clock.unix_micros()).await;
        match admission {
            Admission::Replayed => Err(refused()),
            _ if !redis_answered && !self.knows_all_of(second) => Err(refused()),
            Admission::Limited(wait) => Err(ApiError::limited(wait)),
            Admission::Passed => Ok(()),
        }
    }

    /// When this was signed, if an edge signed it and its time is near ours.
    fn signed_at(&self, signed: &Signed<'_>, kid: &str, signature: &str, now: u64) -> Option<u64> {
        let second = signed.timestamp.parse::<u64>().ok()?;
        let nonce_fits = (16..=64).contains(&signed.nonce.len())
            && signed.nonce.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_good = nonce_fits
            && second.abs_diff(now) <= self.max_skew_seconds
            && self.keys.iter().any(|key| key.kid == kid && signed.verify(&key.secret, signature));
        is_good.then_some(second)
    }

    fn remember(&self, kid: &str, nonce: &str, second: u64, now: u64) -> bool {
        let oldest = now.saturating_sub(self.max_skew_seconds);
        self.lock().take(kid, nonce, second, oldest)
    }

    fn knows_all_of(&self, second: u64) -> bool {
        self.lock().knows_all_of(second)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
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
    app.edge.admit(&signed, header(HEADER_KID), header(HEADER_SIG), &app.limits, &*app.clock).await?;
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
