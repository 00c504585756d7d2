//! One who calls the shop over HTTP: as the edge, signing each request for the origin, or as a phone, signing nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farmgate_shared::edge_auth::{
    EdgeKey, HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_REQUEST_ID, HEADER_SIG, HEADER_SUBJECT,
    HEADER_TS, Signed,
};
use reqwest::Method;
use serde_json::Value;

use crate::reply::Reply;

/// Where the calls of a test seem to come from (a documentation address).
const CLIENT_IP: &str = "203.0.113.7";

/// Calls one base URL.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    base: String,
    /// Signs as this edge.
    edge: Option<EdgeKey>,
    token: Option<String>,
    /// What the edge saw in the token.
    subject: String,
    /// Where the edge saw the request come from.
    client_ip: String,
}

/// One request, before it is sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Seconds added to the edge's clock.
    pub skew: i64,
    /// The nonce to sign with, instead of a fresh one, and the second, instead of that in which it is sent.
    pub nonce: Option<String>,
    pub signed_at: Option<i64>,
}

impl Call {
    pub fn new(method: Method, path: &str) -> Call {
        Call {
            method,
            path: path.to_owned(),
            headers: vec![],
            body: vec![],
            skew: 0,
            nonce: None,
            signed_at: None,
        }
    }

    pub fn get(path: &str) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn post(path: &str, body: &Value) -> Call {
        Call::new(Method::POST, path).json(body)
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Call {
        self.raw("application/json", body.to_string())
    }

    /// The body as JSON, `null` when it is none.
    pub fn json_body(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A body that need not be JSON, whatever it calls itself.
    #[must_use]
    pub fn raw(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a nonce and a second of its own, whenever it is sent: twice is a replay.
    #[must_use]
    pub fn stamped(self) -> Call {
        Call { nonce: Some(unique("nonce")), signed_at: Some(unix_now()), ..self }
    }

    #[must_use]
    pub fn idempotent(self, key: &str) -> Call {
        self.header("idempotency-key", key)
    }
}

impl Caller {
    /// A phone: signs nothing.
    pub fn phone(base: &str) -> Caller {
        Caller {
            http: http_client(),
            base: base.to_owned(),
            edge: None,
            token: None,
            subject: String::new(),
            client_ip: CLIENT_IP.to_owned(),
        }
    }

    /// The edge: signs each request with its key.
    pub fn edge(base: &str, key: EdgeKey) -> Caller {
        Caller { edge: Some(key), ..Caller::phone(base) }
    }

    /// The same, with this token and no subject.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Caller {
        Caller { token: Some(token.to_owned()), subject: String::new(), ..self.clone() }
    }

    /// The same, with this subject claimed by the edge.
    #[must_use]
    pub fn with_subject(&self, subject: &str) -> Caller {
        Caller { subject: subject.to_owned(), ..self.clone() }
    }

    /// The same, from this address by the edge's word.
    #[must_use]
    pub fn with_client_ip(&self, client_ip: &str) -> Caller {
        Caller { client_ip: client_ip.to_owned(), ..self.clone() }
    }

    /// The same, signing with another key.
    #[must_use]
    pub fn with_edge_key(&self, key: EdgeKey) -> Caller {
        Caller { edge: Some(key), ..self.clone() }
    }

    /// The same, signing nothing.
    #[must_use]
    pub fn unsigned(&self) -> Caller {
        Caller { edge: None, ..self.clone() }
    }

    /// The same, over these connections.
    #[must_use]
    pub(crate) fn with_client(&self, http: &reqwest::Client) -> Caller {
        Caller { http: http.clone(), ..self.clone() }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Call::get(path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::post(path, body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::new(Method::PUT, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Call::new(Method::DELETE, path)).await
    }

    /// A call with all that this caller adds to it, to be sent by one who adds nothing: signed, and not yet sent.
    pub fn sign(&self, call: &Call) -> Call {
        let mut signed = call.clone();
        if let Some(key) = &self.edge {
            for (name, value) in self.edge_headers(key, call) {
                signed = signed.header(name, &value);
            }
        }
        signed
    }

    /// Sends and reads the whole reply; fails the test when none comes.
    pub async fn send(&self, call: Call) -> Reply {
        let asked = format!("{} {}", call.method, call.path);
        self.try_send(call).await.unwrap_or_else(|error| panic!("{asked}: {error:?}"))
    }

    /// Sends and reads the whole reply.
    pub async fn try_send(&self, call: Call) -> reqwest::Result<Reply> {
        let asked = format!("{} {}", call.method, call.path);
        let mut request = self.http.request(call.method.clone(), format!("{}{}", self.base, call.path));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &self.edge {
            for (name, value) in self.edge_headers(key, &call) {
                request = request.header(name, value);
            }
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let reply = request.body(call.body).send().await?;
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        Ok(Reply { status, headers, body: reply.bytes().await?.to_vec(), asked })
    }

    /// Says that a body of `length` bytes will follow, sends none of it, and reads the reply that came all the same.
    pub async fn announce(&self, method: &str, path: &str, length: usize) -> Reply {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let host = self.base.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(host).await.expect("somebody listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a head can be sent");
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: no reply before the body was sent"))
            .expect("the reply can be read");
        Reply::parse(&format!("{method} {path}"), &answer)
    }

    /// What the edge adds to a request. A test may overrule any of it by a header of its own in the call.
    fn edge_headers(&self, key: &EdgeKey, call: &Call) -> Vec<(&'static str, String)> {
        let request_id = unique("request");
        let nonce = call.nonce.clone().unwrap_or_else(|| unique("nonce"));
        let timestamp = (call.signed_at.unwrap_or_else(unix_now) + call.skew).to_string();
        let signature = Signed {
            method: call.method.as_str(),
            path_and_query: &call.path,
            timestamp: &timestamp,
            nonce: &nonce,
            body: &call.body,
            subject: &self.subject,
            client_ip: &self.client_ip,
            request_id: &request_id,
        }
        .sign(&key.secret);
        let mut headers = vec![
            (HEADER_KID, key.kid.clone()),
            (HEADER_TS, timestamp),
            (HEADER_NONCE, nonce),
            (HEADER_SIG, signature),
            (HEADER_REQUEST_ID, request_id),
        ];
        for (name, value) in [(HEADER_SUBJECT, &self.subject), (HEADER_CLIENT_IP, &self.client_ip)] {
            if !value.is_empty() {
                headers.push((name, value.clone()));
            }
        }
        headers
    }
}

/// A client for plain HTTP on this machine.
pub fn http_client() -> reqwest::Client {
    // The client wants a TLS provider even for plain HTTP; a second installation is refused and means nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a plain HTTP client has nothing to fail on")
}

/// Letters and digits that no other call of any test in any process yields.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}{:x}x{nanoseconds:x}x{count:x}", std::process::id())
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}
