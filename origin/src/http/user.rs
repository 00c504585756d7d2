//! Who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::edge_signature::EdgeSubject;
use crate::app::App;
use crate::error::ApiError;
use crate::users;
use crate::users::service::Claim;

/// The shopper whose token came with the request: signed by us, not expired, not ended by a logout, the account
/// active, and the same user that the edge saw.
#[derive(Clone, Copy, Debug)]
pub struct CurrentUser(pub UserId);

impl FromRequestParts<Arc<App>> for CurrentUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let TokenHolder(claim) = TokenHolder::from_request_parts(parts, app).await?;
        users::service::confirm(app, claim).await.map(CurrentUser)
    }
}

/// The same before anybody asked whether the account is active and the token not ended by a logout: for a use case that
/// asks so beside its other reads.
#[derive(Clone, Copy, Debug)]
pub struct TokenHolder(pub Claim);

impl FromRequestParts<Arc<App>> for TokenHolder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Problem::Unauthenticated)?;
        let claim = users::service::read_token(app, token)?;
        match parts.extensions.get::<EdgeSubject>() {
            Some(EdgeSubject(Some(subject))) if *subject != claim.user.to_string() => {
                Err(Problem::Unauthenticated.into())
            }
            _ => Ok(TokenHolder(claim)),
        }
    }
}
