//! A stand-in for what is behind the host's Cache API on Cloudflare: workerd hands `match` and `put` on to it as `GET`
//! and `PUT`. It keeps what it was given and forgets nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

type Entries = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// The stand-in.
#[derive(Clone, Debug)]
pub struct CacheApi {
    address: String,
    entries: Entries,
}

impl CacheApi {
    pub async fn open() -> CacheApi {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let entries = Entries::default();
        let router = Router::new().fallback(serve).with_state(entries.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        CacheApi { address, entries }
    }

    /// For [`crate::EdgePlan::second_cache`].
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// The paths of all entries, and the whole reply that each holds.
    pub fn entries(&self) -> BTreeMap<String, String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        locked(&self.entries).iter().map(|(path, reply)| (path.clone(), text(reply))).collect()
    }
}

fn locked(entries: &Entries) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(entries): State<Entries>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    if parts.method == Method::PUT {
        let Ok(reply) = axum::body::to_bytes(body, usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        locked(&entries).insert(path, reply);
        return StatusCode::NO_CONTENT.into_response();
    }
    let kept = locked(&entries).get(&path).cloned();
    kept.and_then(|reply| replay(&reply)).unwrap_or_else(|| StatusCode::GATEWAY_TIMEOUT.into_response())
}

/// The reply that was put, as a hit.
fn replay(reply: &Bytes) -> Option<Response> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let mut builder = Response::builder().status(200).header("cf-cache-status", "HIT");
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        if !name.eq_ignore_ascii_case("content-length") {
            builder = builder.header(name, value.trim());
        }
    }
    builder.body(Body::from(reply.slice(end + 4..))).ok()
}
