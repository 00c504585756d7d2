//! Every route of the origin, and the layers around them, outermost last.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Object, Ref, Type};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::http::{edge_signature, replies};
use crate::{
    addresses, catalog, coupons, messages, notifications, orders, payments, pictures, reviews, shipments,
    users,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Farmgate", description = "The shop behind a WeChat mini-program that sells farm produce. \
        Shoppers reach these paths through the edge; see docs/API.md for the conventions."),
    modifiers(&TokenScheme)
)]
struct Api;

struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        openapi.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(users::router())
        .merge(catalog::router())
        .merge(addresses::router())
        .merge(coupons::router())
        .merge(orders::router())
        .merge(payments::router())
        .merge(notifications::router())
        .merge(shipments::router())
        .merge(messages::router())
        .merge(reviews::router())
}

/// The OpenAPI document of the routes below. The limits stand before all of them, so they are added here once.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut openapi = api().split_for_parts().1;
    for (path, item) in &mut openapi.paths.paths {
        if path.starts_with("/api/payments/wechat/") {
            continue; // WeChat has no limit
        }
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("429".to_owned(), too_many_requests().into());
        }
    }
    openapi
}

fn too_many_requests() -> Response {
    let seconds = Object::with_type(Type::Integer);
    let retry_after = HeaderBuilder::new()
        .schema(Some(seconds))
        .description(Some("seconds after which to come again"))
        .build();
    ResponseBuilder::new()
        .description("rate_limited")
        .header("Retry-After", retry_after)
        .content("application/json", Content::new(Some(Ref::from_schema_name("ProblemBody"))))
        .build()
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let timeout = app.config.http.request_timeout();
    let (api, _) = api().split_for_parts();
    api.route("/static/demo/{file}", get(pictures::get_demo_picture))
        // Around unknown paths too: a stranger does not even learn which paths exist.
        .layer(axum::middleware::from_fn_with_state(app.clone(), edge_signature::require))
        .route("/healthz", get(|| async { Json("ok") }))
        .route("/readyz", get(ready))
        .with_state(app)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, timeout))
        .layer(CatchPanicLayer::custom(replies::panicked))
        .layer(axum::middleware::from_fn(replies::finish))
}

/// Whether requests can be served: MySQL answers and the catalogue is loaded. Not yet is no failure worth a line in the
/// log, so this is no [`crate::error::ApiError`].
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<&'static str>) {
    let loaded = app.catalog.snapshot().version > 0;
    if loaded && sqlx::Executor::execute(app.db.pool(), "DO 1").await.is_ok() {
        (StatusCode::OK, Json("ready"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json("not ready"))
    }
}
