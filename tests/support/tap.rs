//! A tap on the line to the origin: passes requests on, remembers each as it came, and can break the line. It stands
//! between the real edge and the origin, or, signing in the edge's place, between wechat-sim and the origin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use farmgate_shared::edge_auth::EdgeKey;
use tokio::sync::watch;

use crate::broken::dropped_connection;
use crate::caller::{Call, Caller, http_client};

/// How the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Up,
    /// Connections close without a reply.
    Down,
    /// Everything is answered with this status and a page that is not the shop's.
    Failing(u16),
    /// Requests wait until the line is something else.
    Held,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// A header as text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The tap. Dropping it leaves the line open until the test's runtime ends.
#[derive(Clone, Debug)]
pub struct Tap {
    url: String,
    line: Arc<watch::Sender<Line>>,
    shared: Arc<Inside>,
}

#[derive(Debug)]
struct Inside {
    http: reqwest::Client,
    target: Mutex<Option<Caller>>,
    seen: Mutex<Vec<Seen>>,
    /// Headers that are added to every reply on its way back.
    adornment: Mutex<Vec<(&'static str, &'static str)>>,
    /// Names of headers that replies lose on the way back.
    hidden: Mutex<Vec<&'static str>>,
    line: watch::Receiver<Line>,
}

impl Tap {
    /// A tap that leads nowhere yet.
    pub async fn open() -> Tap {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let line = watch::Sender::new(Line::Up);
        let shared = Arc::new(Inside {
            http: http_client(),
            target: Mutex::default(),
            seen: Mutex::default(),
            adornment: Mutex::default(),
            hidden: Mutex::default(),
            line: line.subscribe(),
        });
        let router = Router::new().fallback(pass).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Tap { url, line: Arc::new(line), shared }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on requests go to `origin`, as they are.
    pub fn lead_to(&self, origin: &str) {
        *locked(&self.shared.target) = Some(Caller::phone(origin));
    }

    /// From now on requests go to `origin`, signed as the edge signs.
    pub fn lead_to_signed(&self, origin: &str, key: EdgeKey) {
        *locked(&self.shared.target) = Some(Caller::edge(origin, key));
    }

    /// From now on replies carry these headers as well, as if the origin had sent them.
    pub fn adorn(&self, headers: &[(&'static str, &'static str)]) {
        *locked(&self.shared.adornment) = headers.to_vec();
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// From now on replies come back without this header.
    pub fn hide(&self, header: &'static str) {
        locked(&self.shared.hidden).push(header);
    }

    /// The requests so far whose path starts with `prefix`, oldest first.
    pub fn seen(&self, prefix: &str) -> Vec<Seen> {
        locked(&self.shared.seen).iter().filter(|seen| seen.path.starts_with(prefix)).cloned().collect()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        locked(&self.shared.seen).clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass(State(tap): State<Arc<Inside>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return dropped_connection() };
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    locked(&tap.seen).push(Seen {
        method: parts.method.to_string(),
        path: path.clone(),
        headers: parts.headers.clone(),
        body: body.clone(),
    });
    let mut line = tap.line.clone();
    let now = match line.wait_for(|line| *line != Line::Held).await {
        Ok(now) => *now,
        Err(_) => Line::Down,
    };
    match now {
        Line::Up => {}
        Line::Down | Line::Held => return dropped_connection(),
        Line::Failing(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            return (status, [("content-type", "text/html")], "<h1>a gateway's own page</h1>")
                .into_response();
        }
    }
    let target = locked(&tap.target).clone();
    let Some(target) = target else { return dropped_connection() };
    let mut call = Call::new(parts.method, &path);
    call.body = body.into();
    for (name, value) in &parts.headers {
        let hop_by_hop =
            ["host", "connection", "content-length", "transfer-encoding"].contains(&name.as_str());
        if let (false, Ok(value)) = (hop_by_hop, value.to_str()) {
            call = call.header(name.as_str(), value);
        }
    }
    let Ok(reply) = target.with_client(&tap.http).try_send(call).await else { return dropped_connection() };
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let hidden = locked(&tap.hidden).clone();
    for (name, value) in &reply.headers {
        let is_of_the_hop = ["connection", "content-length", "transfer-encoding"].contains(&name.as_str());
        if !is_of_the_hop && !hidden.contains(&name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    for (name, value) in locked(&tap.adornment).iter() {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}
