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

/// The shopper whose token came with the request: signed by us, not expired, not ended by a logout, the account
/// active, and the same user that the edge saw.
#[derive(Clone, Copy, Debug)]
pub struct CurrentUser(pub UserId);

impl FromRequestParts<Arc<App>> for CurrentUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Problem::Unauthenticated)?;
        let user = users::service::authenticate(app, token).await?;
        match parts.extensions.get::<EdgeSubject>() {
            Some(EdgeSubject(Some(subject))) if *subject != user.to_string() => {
                Err(Problem::Unauthenticated.into())
            }
            _ => Ok(CurrentUser(user)),
        }
    }
}
