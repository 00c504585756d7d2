//! The outermost layer: every reply names its request, every failure has the body of DESIGN 4, and every failure that
//! is ours is logged here and nowhere else.

use std::any::Any;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farmgate_shared::edge_auth::HEADER_REQUEST_ID;
use farmgate_shared::problem::Problem;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::Instrument;

use crate::error::ApiError;

static REQUEST_ID: HeaderName = HeaderName::from_static(HEADER_REQUEST_ID);

/// Gives the request an id, runs it with the id in every line that it logs, and finishes the reply.
pub async fn finish(request: Request, next: Next) -> Response {
    // The edge's id is covered by its signature, and a forged one is refused before anything is done under it.
    let id: String = match request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok()) {
        Some(id) if fits(id) => id.to_owned(),
        _ => fresh_id(),
    };
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());

    let span = tracing::info_span!("request", request_id = id);
    let mut response = next.run(request).instrument(span).await;

    if let Some(error) = failure_of(&response) {
        log_failure(&error, &id, method.as_str(), route.as_deref().unwrap_or(&path));
        let headers = response.headers().clone();
        response = problem_response(&error, &id);
        // Allow, Retry-After and the like survive; what described the old body does not.
        for (name, value) in &headers {
            if name != CONTENT_TYPE && name != http::header::CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

/// The error behind a reply: the handler's own, or the one that a bare status from a layer or from axum stands for.
fn failure_of(response: &Response) -> Option<ApiError> {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return Some(error.clone());
    }
    let already_ours = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if already_ours || !(response.status().is_client_error() || response.status().is_server_error()) {
        return None;
    }
    let problem = match response.status() {
        StatusCode::NOT_FOUND => Problem::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Problem::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Problem::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::UnsupportedMediaType,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            Problem::Unavailable
        }
        status if status.is_client_error() => Problem::InvalidParameter,
        _ => Problem::Internal,
    };
    Some(problem.into())
}

fn problem_response(error: &ApiError, id: &str) -> Response {
    let status = StatusCode::from_u16(error.problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(error.problem.body(id, error.details.clone()))).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn log_failure(error: &ApiError, id: &str, method: &str, route: &str) {
    let slug = error.problem.slug();
    let cause = error.cause.as_ref().map(|cause| format!("{cause:#}")).unwrap_or_default();
    if error.problem.status() >= 500 {
        tracing::error!(request_id = id, method, route, slug, cause, "request failed");
    } else {
        tracing::debug!(request_id = id, method, route, slug, cause, "request refused");
    }
}

/// A handler panicked: the shopper gets a 500 in our form, the log gets the message.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::caused(Problem::Internal, anyhow::anyhow!("panic: {message}")).into_response()
}

fn fits(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn fresh_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness an id of zeros still lets the request be served; nothing rests on its secrecy.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::warn!("the system gave no randomness for a request id");
    }
    farmgate_shared::edge_auth::hex(&bytes)
}
