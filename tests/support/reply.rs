//! A reply, and the assertions that hold for every reply of the shop: the shape of success, and the shape of failure
//! with its slug.

use farmgate_shared::problem::Problem;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The request line, for messages.
    pub asked: String,
}

impl Reply {
    /// Reads a whole HTTP/1.1 reply whose body is not chunked.
    pub(crate) fn parse(asked: &str, bytes: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{asked}: no reply but {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            headers.append(name, value.trim().parse().expect("a header's value"));
        }
        Reply {
            status: status.unwrap_or_else(|| panic!("{asked}: no status in {head:?}")),
            headers,
            body: body.as_bytes().to_vec(),
            asked: asked.to_owned(),
        }
    }

    /// A header as text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, which must be JSON and say so.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(
            self.header("content-type").starts_with("application/json"),
            "{}: {} {:?} is no JSON: {}",
            self.asked,
            self.status,
            self.header("content-type"),
            self.text()
        );
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error} in {}", self.asked, self.text()))
    }

    /// The `data` of a success: HTTP 200, `code` 200, a message, and nothing else.
    #[track_caller]
    pub fn data(&self) -> Value {
        let mut body = self.json();
        assert_eq!(self.status, 200, "{}: {body}", self.asked);
        assert_eq!(body["code"], 200, "{}: {body}", self.asked);
        assert!(body["message"].is_string(), "{}: no message in {body}", self.asked);
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["code", "data", "message"], "{}", self.asked);
        body["data"].take()
    }

    /// That it failed with this problem, in the form that every failure has. Returns the body.
    #[track_caller]
    pub fn fails_with(&self, problem: Problem) -> Value {
        let body = self.json();
        assert_eq!(
            (self.status, body["error"].as_str()),
            (problem.status(), Some(problem.slug())),
            "{}: {body}",
            self.asked
        );
        assert_eq!(body["code"], problem.status(), "{}: {body}", self.asked);
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.chars().any(|c| c > '\u{3000}'), "{}: no Chinese message in {body}", self.asked);
        let request_id = body["request_id"].as_str().unwrap_or_default();
        assert!(!request_id.is_empty(), "{}: no request id in {body}", self.asked);
        assert_eq!(
            self.header("x-request-id"),
            request_id,
            "{}: header and body name different requests",
            self.asked
        );
        assert!(
            !self.header("cache-control").contains("public"),
            "{}: a failure must not be cached",
            self.asked
        );
        let known = ["code", "message", "error", "request_id", "details"];
        for key in body.as_object().unwrap().keys() {
            assert!(known.contains(&key.as_str()), "{}: {key} in {body}", self.asked);
        }
        body
    }

    /// That it was one request too many; the seconds after which to come again.
    #[track_caller]
    pub fn is_limited(&self) -> u64 {
        self.fails_with(Problem::RateLimited);
        let seconds = self.header("retry-after").parse().unwrap_or(0);
        assert!(seconds >= 1, "{}: Retry-After {:?}", self.asked, self.header("retry-after"));
        seconds
    }

    /// That it was refused because of exactly these fields.
    #[track_caller]
    pub fn refuses_fields(&self, fields: &[&str]) {
        let body = self.fails_with(Problem::InvalidParameter);
        let details = body["details"].as_array().cloned().unwrap_or_default();
        let named: Vec<&str> = details.iter().filter_map(|detail| detail["field"].as_str()).collect();
        assert_eq!(named, fields, "{}: {body}", self.asked);
        for detail in &details {
            assert!(!detail["message"].as_str().unwrap_or_default().is_empty(), "{}: {body}", self.asked);
        }
    }
}
