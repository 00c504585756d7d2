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

/// Whether an address is of one of the shop's own pictures, behind `public_url`, and can stand in a page as it is.
pub fn is_own(public_url: &str, address: &str) -> bool {
    let odd =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
    address.strip_prefix(public_url).is_some_and(|path| path.starts_with('/') && !path.contains(odd))
}

/// `GET /static/demo/{file}`. A picture never changes under its name.
pub async fn get_demo_picture(Path(file): Path<String>) -> Result<Response, ApiError> {
    let picture = Pictures::get(&file).ok_or(Problem::NotFound)?;
    let headers = [(CONTENT_TYPE, "image/webp"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, picture.data).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shops_own_pictures_are_behind_its_own_address() {
        let shop = "https://shop.example";
        assert!(is_own(shop, "https://shop.example/uploads/1.webp"));
        for other in [
            "https://shop.example",
            "https://shop.example.evil.example/1.webp",
            "https://elsewhere.example/1.webp",
            "https://shop.example/1.webp\" onerror=\"x",
            "https://shop.example/<b>",
            "https://shop.example/1 2",
            "",
        ] {
            assert!(!is_own(shop, other), "{other}");
        }
    }
}
