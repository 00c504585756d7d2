//! `/api/messages/templates`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use farmgate_shared::api::Reply;
use farmgate_shared::api::messages::MessageTemplates;
use http::HeaderName;
use http::header::CACHE_CONTROL;

use crate::app::App;
use crate::error::SUCCESS;

/// How long anybody may keep the templates: they change with the shop's settings.
const TEMPLATES_LIFE: &str = "public, max-age=300";

/// The templates that the mini-program asks its shoppers to agree to, before it pays.
#[utoipa::path(get, path = "/api/messages/templates", tag = "message", responses(
    (status = 200, body = Reply<MessageTemplates>, headers(("Cache-Control" = String, description = "public, five minutes"))),
))]
pub async fn get_templates(
    State(app): State<Arc<App>>,
) -> ([(HeaderName, &'static str); 1], Json<Reply<MessageTemplates>>) {
    ([(CACHE_CONTROL, TEMPLATES_LIFE)], Json(Reply::new(SUCCESS, app.messages.shown())))
}
