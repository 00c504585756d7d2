//! The demo shop's pictures, compiled in. A real shop keeps its pictures in object storage.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use farmgate_shared::problem::Problem;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use rust_embed::RustEmbed;

use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "demo/pictures"]
#[include = "*.webp"]
pub struct Pictures;

/// `GET /static/demo/{file}`. A picture never changes under its name.
pub async fn get_demo_picture(Path(file): Path<String>) -> Result<Response, ApiError> {
    let picture = Pictures::get(&file).ok_or(Problem::NotFound)?;
    let headers = [(CONTENT_TYPE, "image/webp"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, picture.data).into_response())
}
