//! A reply as the edge keeps it, without anything of the request it was made for, and its strong validator.

use farmgate_shared::edge_auth::hex;
use farmgate_shared::problem::ProblemBody;
use sha2::{Digest, Sha256};

/// A reply as it is kept; `B` is the body in whatever form the host sends best. Neither holds a request's id.
#[derive(Debug)]
pub enum Page<B> {
    Found { body: B, length: usize, etag: String },
    Missing(ProblemBody),
}

impl<B> Page<B> {
    /// A 200 with this body.
    pub fn found(body: B, bytes: &[u8]) -> Page<B> {
        Page::Found { body, length: bytes.len(), etag: etag(bytes) }
    }

    /// A 404 with this body, or `None` when the body is not in the form that every failure has.
    #[must_use]
    pub fn missing(bytes: &[u8]) -> Option<Page<B>> {
        let mut body: ProblemBody = serde_json::from_slice(bytes).ok()?;
        body.request_id.clear();
        Some(Page::Missing(body))
    }

    /// Bytes of its body.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Page::Found { length, .. } => *length,
            Page::Missing(body) => body.message.len() + body.error.len(),
        }
    }
}

/// A strong validator: equal bytes have equal ones, whichever isolate made them.
fn etag(bytes: &[u8]) -> String {
    let mut tag = hex(&Sha256::digest(bytes));
    tag.truncate(32);
    format!("\"{tag}\"")
}

/// Whether `If-None-Match` names `etag`, so that the client's copy is good (RFC 9110, 13.1.2: weak comparison).
#[must_use]
pub fn names_etag(if_none_match: &str, etag: &str) -> bool {
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use farmgate_shared::problem::Problem;

    use super::*;

    #[test]
    fn an_etag_is_the_bytes_alone() {
        let Page::Found { etag: one, .. } = Page::found((), b"one") else { panic!() };
        assert_eq!(one, etag(b"one"));
        assert_ne!(one, etag(b"two"));
        assert!(one.len() == 34 && one.starts_with('"') && one.ends_with('"'));
        for named in [one.clone(), format!("W/{one}"), format!("\"a\", {one}"), "*".into()] {
            assert!(names_etag(&named, &one), "{named}");
        }
        for other in ["", "\"\"", one.trim_matches('"'), "\"a\",\"b\""] {
            assert!(!names_etag(other, &one), "{other}");
        }
    }

    #[test]
    fn a_missing_page_forgets_the_request_it_was_missing_for() {
        let reply = serde_json::to_vec(&Problem::ProductNotFound.body("r1", vec![])).unwrap();
        let missing = Page::<()>::missing(&reply).unwrap();
        assert!(matches!(&missing, Page::Missing(body) if body.request_id.is_empty()));
        assert!(Page::<()>::missing(b"<html>404</html>").is_none());
    }
}
