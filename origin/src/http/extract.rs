//! Extractors: what reaches a handler has been parsed and is in range; what has not is a 400 that names the field.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, RawQuery, Request};
use farmgate_shared::ids::{AddressId, CouponIssueId, OrderId, ProductId};
use farmgate_shared::problem::{FieldProblem, Problem};
use garde::Validate;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A JSON body that satisfies its own rules.
#[derive(Debug)]
pub struct ValidJson<T>(pub T);

impl<T, S> FromRequest<S> for ValidJson<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(Problem::UnsupportedMediaType.into());
        }
        let body = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| ApiError::caused(Problem::InvalidParameter, error))?;
        let value: T = parse(&body)?;
        value.validate().map_err(|report| {
            let problem = |(path, error): &(garde::Path, garde::Error)| {
                FieldProblem::new(path.to_string(), error.message().to_string())
            };
            ApiError::fields(report.iter().map(problem).collect())
        })?;
        Ok(ValidJson(value))
    }
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Syntax is `invalid_json`; a value of the wrong type or range names its field.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            ApiError::fields(vec![field_problem(&field, &error.to_string())])
        } else {
            ApiError::caused(Problem::InvalidJson, error)
        }
    })?;
    json.end().map_err(|error| ApiError::caused(Problem::InvalidJson, error))?;
    Ok(value)
}

/// serde's English, put so that a shopper's support can read it; our own messages are Chinese already. `path` is where
/// serde stopped: `.` for the body itself, and the object around a field that is missing.
fn field_problem(path: &str, message: &str) -> FieldProblem {
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some(missing) = message.strip_prefix("missing field ") {
        let missing = missing.trim_matches('`');
        let field = if path == "." { missing.to_owned() } else { format!("{path}.{missing}") };
        return FieldProblem::new(field, "缺少该字段");
    }
    let field = if path == "." { "body" } else { path };
    if message.starts_with("invalid type") || message.starts_with("invalid value") {
        return FieldProblem::new(field, format!("类型或取值不对（{message}）"));
    }
    FieldProblem::new(field, message)
}

/// An id that stands in a path.
pub trait Named: std::str::FromStr + Send {
    /// What is said of an id that names nothing.
    const UNKNOWN: Problem;
}

impl Named for ProductId {
    const UNKNOWN: Problem = Problem::ProductNotFound;
}

impl Named for AddressId {
    const UNKNOWN: Problem = Problem::AddressNotFound;
}

impl Named for CouponIssueId {
    const UNKNOWN: Problem = Problem::CouponNotFound;
}

impl Named for OrderId {
    const UNKNOWN: Problem = Problem::OrderNotFound;
}

/// An id in the path. What is no id names nothing, so `GET /api/products/abc` is a 404 and not a 400.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<T, S> FromRequestParts<S> for PathId<T>
where
    T: Named,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text =
            Path::<String>::from_request_parts(parts, state).await.map_err(|rejection| match rejection {
                PathRejection::FailedToDeserializePathParams(failed)
                    if !matches!(failed.kind(), ErrorKind::WrongNumberOfParameters { .. }) =>
                {
                    ApiError::from(T::UNKNOWN)
                }
                other => ApiError::caused(Problem::Internal, other),
            })?;
        text.parse().map(PathId).map_err(|_| T::UNKNOWN.into())
    }
}

/// The query string without `?`, for the parsers of [`farmgate_shared::api`].
#[derive(Debug)]
pub struct QueryText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for QueryText {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let RawQuery(query) = RawQuery::from_request_parts(parts, state).await?;
        Ok(QueryText(query.unwrap_or_default()))
    }
}

/// The `Idempotency-Key` header, where the client sent one: 1 to 64 of `[A-Za-z0-9_-]`.
#[derive(Debug)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(IdempotencyKey(None)) };
        let fits = |key: &&str| {
            (1..=64).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        match value.to_str().ok().filter(fits) {
            Some(key) => Ok(IdempotencyKey(Some(key.to_owned()))),
            None => Err(ApiError::fields(vec![FieldProblem::new(
                "Idempotency-Key",
                "须为 1 到 64 个字母、数字、下划线或连字符",
            )])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_named_by_its_path() {
        assert_eq!(field_problem(".", "missing field `code` at line 1 column 2").field, "code");
        assert_eq!(field_problem("items[0]", "missing field `sku_id`").field, "items[0].sku_id");
        assert_eq!(field_problem(".", "invalid type: sequence, expected struct").field, "body");
        assert_eq!(field_problem("quantity", "须为 1 到 999 的整数").message, "须为 1 到 999 的整数");
    }
}
