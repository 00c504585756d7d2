//! What the edge answers: bodies, headers and nothing else, as plain values, so that a test can look at them. Every
//! reply names its request; what is private or failed is never stored by anyone; what is public may be kept by the
//! client and asked about again.

use std::borrow::Cow;

use farmgate_shared::edge_auth::HEADER_REQUEST_ID;
use farmgate_shared::limits::retry_after_seconds;
use farmgate_shared::problem::{FieldProblem, Problem};

use crate::catalog::{Page, names_etag};

/// Whether a catalogue reply came from memory: `hit`, `miss` or `stale`.
pub const HEADER_CACHE: &str = "x-edge-cache";
/// Seconds after which a client should try again what the origin could not answer.
const RETRY_AFTER: &str = "2";
const JSON: &str = "application/json";
const NO_STORE: &str = "no-store";
/// The client may keep a copy and must ask whether it is still good: lives are the edge's to decide.
const REVALIDATE: &str = "public, max-age=0, must-revalidate";

/// A header's name and value.
pub type Header = (&'static str, Cow<'static, str>);

/// A body.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<B> {
    Empty,
    Text(String),
    /// As the catalogue keeps it.
    Kept(B),
}

/// A reply.
#[derive(Debug)]
pub struct Reply<B> {
    pub status: u16,
    pub headers: Vec<Header>,
    pub body: Body<B>,
}

/// What of a request shapes every reply to it.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub request_id: &'a str,
    /// `HEAD`: the same reply without its body.
    pub is_head: bool,
    /// The `Origin` header when it is one that may read our replies in a browser.
    pub browser: Option<&'a str>,
}

/// Where a catalogue reply came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Memory,
    Origin,
    /// Memory, because the origin fails; how old it is in milliseconds.
    Stale(u64),
}

impl Asker<'_> {
    /// The headers that every reply carries.
    #[must_use]
    pub fn headers(self) -> Vec<Header> {
        let mut headers: Vec<Header> = vec![
            (HEADER_REQUEST_ID, self.request_id.to_owned().into()),
            ("x-content-type-options", "nosniff".into()),
        ];
        if let Some(origin) = self.browser {
            headers.push(("access-control-allow-origin", origin.to_owned().into()));
            headers.push((
                "access-control-expose-headers",
                "x-request-id, x-edge-cache, retry-after, etag".into(),
            ));
            headers.push(("vary", "origin".into()));
        }
        headers
    }

    fn reply<B>(self, status: u16, more: impl IntoIterator<Item = Header>, body: Body<B>) -> Reply<B> {
        let mut headers = self.headers();
        headers.extend(more);
        Reply { status, headers, body: if self.is_head { Body::Empty } else { body } }
    }

    /// A failure, as every failure looks.
    #[must_use]
    pub fn problem<B>(self, problem: Problem, details: Vec<FieldProblem>) -> Reply<B> {
        let body = json(&problem.body(self.request_id, details));
        let mut reply = self.reply(
            problem.status(),
            [("content-type", JSON.into()), ("cache-control", NO_STORE.into())],
            body,
        );
        if problem.status() == 503 {
            reply.headers.push(("retry-after", RETRY_AFTER.into()));
        }
        reply
    }

    /// 429 with the time after which to come again, given in microseconds.
    #[must_use]
    pub fn limited<B>(self, wait_us: u64) -> Reply<B> {
        let mut reply = self.problem(Problem::RateLimited, vec![]);
        reply.headers.push(("retry-after", retry_after_seconds(wait_us).to_string().into()));
        reply
    }

    /// 405 with the methods that there are.
    #[must_use]
    pub fn method_not_allowed<B>(self, methods: &'static str) -> Reply<B> {
        let mut reply = self.problem(Problem::MethodNotAllowed, vec![]);
        reply.headers.push(("allow", methods.into()));
        reply
    }

    /// The answer to `OPTIONS`, and with it to a browser's question before a request of another site.
    #[must_use]
    pub fn options<B>(self, methods: &'static str) -> Reply<B> {
        let mut reply = self.reply(204, [("allow", methods.into())], Body::Empty);
        if self.browser.is_some() {
            reply.headers.extend([
                ("access-control-allow-methods", methods.into()),
                ("access-control-allow-headers", "authorization, content-type, idempotency-key".into()),
                ("access-control-max-age", "600".into()),
            ]);
        }
        reply
    }

    /// The answer to `/healthz`: the edge runs, and is configured.
    #[must_use]
    pub fn healthy<B>(self) -> Reply<B> {
        let body =
            serde_json::json!({"code": 200, "message": "ok", "data": {"edge": env!("CARGO_PKG_VERSION")}});
        self.reply(200, [("content-type", JSON.into()), ("cache-control", NO_STORE.into())], json(&body))
    }

    /// A page of the catalogue, or word that the client's copy is still good.
    #[must_use]
    pub fn page<B: Clone>(self, page: &Page<B>, source: Source, if_none_match: Option<&str>) -> Reply<B> {
        let mut reply = match page {
            Page::Found { body, length, etag } => {
                let validators = [("etag", etag.clone().into()), ("cache-control", REVALIDATE.into())];
                if if_none_match.is_some_and(|tags| names_etag(tags, etag)) {
                    self.reply(304, validators, Body::Empty)
                } else {
                    let mut reply = self.reply(200, validators, Body::Kept(body.clone()));
                    reply.headers.push(("content-type", JSON.into()));
                    if self.is_head {
                        reply.headers.push(("content-length", length.to_string().into()));
                    }
                    reply
                }
            }
            Page::Missing(body) => {
                let body = json(&farmgate_shared::problem::ProblemBody {
                    request_id: self.request_id.to_owned(),
                    ..body.clone()
                });
                self.reply(404, [("content-type", JSON.into()), ("cache-control", NO_STORE.into())], body)
            }
        };
        match source {
            Source::Memory => reply.headers.push((HEADER_CACHE, "hit".into())),
            Source::Origin => reply.headers.push((HEADER_CACHE, "miss".into())),
            Source::Stale(age) => reply.headers.extend([
                (HEADER_CACHE, "stale".into()),
                ("age", (age / 1000).to_string().into()),
                ("warning", "110 - \"Response is Stale\"".into()),
            ]),
        }
        reply
    }
}

fn json<B>(value: &impl serde::Serialize) -> Body<B> {
    // Plain structs of strings and numbers have no failing case.
    Body::Text(serde_json::to_string(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Asker<'static> = Asker { request_id: "r1", is_head: false, browser: None };

    fn header<'a, B>(reply: &'a Reply<B>, name: &str) -> Option<&'a str> {
        let mut named = reply.headers.iter().filter(|(header, _)| *header == name);
        let value = named.next().map(|(_, value)| &**value);
        assert!(named.next().is_none(), "{name} twice");
        value
    }

    fn value(reply: &Reply<()>) -> serde_json::Value {
        match &reply.body {
            Body::Text(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_reply_names_its_request_and_forbids_sniffing() {
        let page: Page<&str> = Page::found("{}", b"{}");
        let replies = [
            ASKER.problem(Problem::NotFound, vec![]),
            ASKER.method_not_allowed("GET"),
            ASKER.options("GET"),
            ASKER.healthy(),
            ASKER.page(&page, Source::Memory, None),
            ASKER.page(&page, Source::Memory, Some("*")),
        ];
        for reply in replies {
            assert_eq!(header(&reply, "x-request-id"), Some("r1"));
            assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
            assert_eq!(header(&reply, "access-control-allow-origin"), None);
        }
    }

    #[test]
    fn a_failure_has_the_wire_shape_and_is_stored_by_nobody() {
        let details = vec![FieldProblem::new("page", "须为整数")];
        let reply: Reply<()> = ASKER.problem(Problem::InvalidParameter, details);
        assert_eq!((reply.status, header(&reply, "cache-control")), (400, Some("no-store")));
        let body = value(&reply);
        assert_eq!((&body["code"], &body["error"]), (&400.into(), &"invalid_parameter".into()));
        assert_eq!((&body["request_id"], &body["details"][0]["field"]), (&"r1".into(), &"page".into()));
        assert_eq!(header(&reply, "retry-after"), None);
        assert_eq!(header(&ASKER.problem::<()>(Problem::Unavailable, vec![]), "retry-after"), Some("2"));
        assert_eq!(header(&ASKER.method_not_allowed::<()>("GET, HEAD"), "allow"), Some("GET, HEAD"));
    }

    #[test]
    fn who_asked_too_much_is_told_when_to_come_again_and_a_browser_may_read_it() {
        let asker = Asker { browser: Some("http://127.0.0.1:5173"), ..ASKER };
        let reply: Reply<()> = asker.limited(2_100_000);
        assert_eq!((reply.status, header(&reply, "retry-after")), (429, Some("3")));
        assert_eq!(value(&reply)["error"], "rate_limited");
        assert_eq!(header(&reply, "access-control-allow-origin"), asker.browser);
        assert!(header(&reply, "access-control-expose-headers").unwrap().contains("retry-after"));
    }

    #[test]
    fn a_page_says_where_it_came_from() {
        let page: Page<&str> = Page::found("{}", b"{}");
        let reply = ASKER.page(&page, Source::Memory, None);
        assert_eq!((reply.status, &reply.body), (200, &Body::Kept("{}")));
        assert_eq!((header(&reply, HEADER_CACHE), header(&reply, "warning")), (Some("hit"), None));
        assert_eq!(header(&reply, "cache-control"), Some(REVALIDATE));
        assert_eq!(header(&ASKER.page(&page, Source::Origin, None), HEADER_CACHE), Some("miss"));
        let stale = ASKER.page(&page, Source::Stale(3_600_500), None);
        assert_eq!((header(&stale, HEADER_CACHE), header(&stale, "age")), (Some("stale"), Some("3600")));
        assert!(header(&stale, "warning").unwrap().starts_with("110 "));
    }

    #[test]
    fn a_client_with_the_same_page_gets_no_body() {
        let page: Page<&str> = Page::found("{}", b"{}");
        let first = ASKER.page(&page, Source::Origin, None);
        let etag = header(&first, "etag").unwrap();
        let again = ASKER.page(&page, Source::Memory, Some(etag));
        assert_eq!((again.status, &again.body, header(&again, "etag")), (304, &Body::Empty, Some(etag)));
        assert_eq!(ASKER.page(&page, Source::Memory, Some("\"other\"")).status, 200);
    }

    #[test]
    fn head_has_the_headers_without_the_body() {
        let asker = Asker { is_head: true, ..ASKER };
        let page: Page<&str> = Page::found("{}", b"{}");
        let reply = asker.page(&page, Source::Memory, None);
        assert_eq!(
            (reply.status, &reply.body, header(&reply, "content-length")),
            (200, &Body::Empty, Some("2"))
        );
        assert_eq!(asker.problem::<()>(Problem::NotFound, vec![]).body, Body::Empty);
    }

    #[test]
    fn a_missing_page_names_the_request_that_missed_it() {
        let kept = serde_json::to_vec(&Problem::ProductNotFound.body("earlier", vec![])).unwrap();
        let reply = ASKER.page(&Page::<()>::missing(&kept).unwrap(), Source::Memory, Some("*"));
        assert_eq!((reply.status, header(&reply, "cache-control")), (404, Some("no-store")));
        assert_eq!(value(&reply)["request_id"], "r1");
        assert_eq!(value(&reply)["error"], "product_not_found");
    }

    #[test]
    fn only_a_listed_site_may_read_replies_in_a_browser() {
        let asker = Asker { browser: Some("http://127.0.0.1:5173"), ..ASKER };
        let reply: Reply<()> = asker.options("GET, POST");
        assert_eq!((reply.status, header(&reply, "allow")), (204, Some("GET, POST")));
        assert_eq!(header(&reply, "access-control-allow-origin"), Some("http://127.0.0.1:5173"));
        assert_eq!(header(&reply, "access-control-allow-methods"), Some("GET, POST"));
        assert_eq!(header(&reply, "vary"), Some("origin"));
        assert_eq!(header(&ASKER.options::<()>("GET"), "access-control-allow-methods"), None);
    }
}
