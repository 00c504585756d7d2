//! How a failure becomes a reply. A domain's error turns into an [`ApiError`]; the outermost layer
//! ([`crate::http::replies`]) writes its body with the request's id and logs it, once.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use farmgate_shared::limits::retry_after_seconds;
use farmgate_shared::problem::{FieldProblem, Problem};
use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::db::lookup::LookupError;

/// After this WeChat's quotas of a minute begin anew, in microseconds, as [`ApiError::limited`] takes it.
pub const A_MINUTE_US: u64 = 60_000_000;

/// A failed request: what the client is told, and what the log is told besides.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub problem: Problem,
    pub details: Vec<FieldProblem>,
    /// For the log only; never sent.
    pub cause: Option<Arc<anyhow::Error>>,
    /// Seconds after which the client may try again, where that is known.
    retry_after: Option<u64>,
}

impl ApiError {
    /// A problem with its field-by-field details.
    pub fn fields(details: Vec<FieldProblem>) -> ApiError {
        ApiError { details, ..Problem::InvalidParameter.into() }
    }

    /// Too many requests; one may come again after `wait_us` microseconds.
    pub fn limited(wait_us: u64) -> ApiError {
        ApiError { retry_after: Some(retry_after_seconds(wait_us)), ..Problem::RateLimited.into() }
    }

    /// More is being done than there is room for; one may come again in a second.
    pub fn crowded() -> ApiError {
        ApiError { retry_after: Some(1), ..Problem::Unavailable.into() }
    }

    /// The same with what led to it, for the log.
    #[must_use]
    pub fn because(self, cause: impl Into<anyhow::Error>) -> ApiError {
        ApiError { cause: Some(Arc::new(cause.into())), ..self }
    }

    /// A problem with what led to it, for the log.
    pub fn caused(problem: Problem, cause: impl Into<anyhow::Error>) -> ApiError {
        ApiError { cause: Some(Arc::new(cause.into())), ..problem.into() }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        ApiError { problem, details: Vec::new(), cause: None, retry_after: None }
    }
}

/// The database's errors: what will pass by itself is a 503, the rest is our fault.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> ApiError {
        ApiError::caused(problem_of(&error), error)
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> ApiError {
        ApiError::caused(problem_of(&error), error)
    }
}

fn problem_of(error: &sqlx::Error) -> Problem {
    let passing = crate::db::is_away(error) || crate::db::is_contention(error);
    if passing { Problem::Unavailable } else { Problem::Internal }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler returns.
pub type ApiResult<T> = Result<axum::Json<farmgate_shared::api::Reply<T>>, ApiError>;

/// What a success says when there is nothing to add.
pub const SUCCESS: &str = "成功";

/// A successful reply with the standard message.
pub fn ok<T>(data: T) -> ApiResult<T> {
    ok_with(SUCCESS, data)
}

/// A successful reply with a message of its own.
pub fn ok_with<T>(message: &str, data: T) -> ApiResult<T> {
    Ok(axum::Json(farmgate_shared::api::Reply::new(message, data)))
}
