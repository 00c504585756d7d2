//! The second cache: the Cache API, where the host has one. It is shared by the isolates of one place and outlives them,
//! so that a new isolate need not fetch a page that its neighbour has, and has something to show when the origin is
//! away. Entries are named by the catalogue's version, so none is ever wrong in what the version covers; the stock in
//! them is as old as they are, and is shown only when there is nobody to ask. A host without it (bare `workerd`) costs
//! one refused call a minute.

use std::cell::Cell;
use std::rc::Rc;

use web_sys::{Cache, Response, ResponseInit};
use worker::console_log;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{self, Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

use crate::asking::found;
use crate::catalog::{Answered, Read};
use crate::host::{body_of, header_object, now_ms, reason};
use crate::kept::Kept;

/// After a refused call the second cache is left alone for so long, in milliseconds.
const LEFT_ALONE: u64 = 60_000;
/// As long as a page may be shown while the origin is away.
const CACHE_CONTROL: &str = "public, max-age=86400";
/// When the page was asked for, milliseconds since 1970.
const HEADER_ASKED: &str = "x-edge-asked";

/// A page for the second cache.
#[derive(Debug)]
pub struct ToStore {
    pub key: String,
    pub version: i64,
    pub asked: u64,
    pub bytes: Uint8Array,
}

/// The second cache of one edge.
#[derive(Debug)]
pub struct Second {
    /// In front of every name. The origin's own address, because a cache may refuse names that are no addresses, and
    /// because what two shops keep must not meet.
    base: String,
    left_alone_until: Cell<u64>,
    /// The version that was last written down as the shop's.
    noted: Cell<Option<i64>>,
}

impl Second {
    #[must_use]
    pub fn new(origin_url: &str) -> Second {
        Second {
            base: format!("{origin_url}/.edge-cache"),
            left_alone_until: Cell::new(0),
            noted: Cell::new(None),
        }
    }

    fn page_name(&self, version: i64, key: &str) -> String {
        format!("{}/v{version}{key}", self.base)
    }

    fn version_name(&self) -> String {
        format!("{}/version", self.base)
    }

    /// The page of this version, with the stock of when it was asked for.
    pub async fn find(&self, read: &Read, version: i64) -> Option<Answered<Kept>> {
        if !read.is_versioned() {
            return None;
        }
        let reply = self.get(&self.page_name(version, &read.path_and_query())).await?;
        let asked = reply.headers().get(HEADER_ASKED).ok().flatten()?.parse().ok()?;
        let (page, overlay) = found(read, Some(version), body_of(&reply).await.ok()?);
        Some(Answered { page: Rc::new(page), overlay, version: Some(version), asked })
    }

    /// The page of the last version that any isolate here has seen.
    pub async fn last(&self, read: &Read, now: u64) -> Option<Answered<Kept>> {
        if !read.is_versioned() {
            return None;
        }
        let noted = self.get(&self.version_name()).await?;
        let text = String::from_utf8(body_of(&noted).await.ok()?.to_vec()).ok()?;
        self.find(read, text.parse().ok()?).await.filter(|found| found.asked <= now)
    }

    /// Lays a page in, and notes its version as the shop's.
    pub async fn store(&self, page: ToStore) {
        let name = self.page_name(page.version, &page.key);
        if self.put(&name, &page.bytes, page.asked).await && self.noted.get() != Some(page.version) {
            let text = Uint8Array::from(page.version.to_string().as_bytes());
            if self.put(&self.version_name(), &text, page.asked).await {
                self.noted.set(Some(page.version));
            }
        }
    }

    async fn get(&self, name: &str) -> Option<Response> {
        let found = self.call(|cache| cache.match_with_str(name)).await?;
        found.dyn_into().ok()
    }

    async fn put(&self, name: &str, bytes: &Uint8Array, asked: u64) -> bool {
        let headers = [
            ("content-type", "application/json".into()),
            ("cache-control", CACHE_CONTROL.into()),
            (HEADER_ASKED, asked.to_string().into()),
        ];
        let entry = || {
            let init = ResponseInit::new();
            init.set_headers(header_object(&headers)?.as_ref());
            Response::new_with_opt_js_u8_array_and_init(Some(bytes), &init)
        };
        let Ok(entry) = entry() else { return false };
        self.call(|cache| cache.put_with_str(name, &entry)).await.is_some()
    }

    /// One call of the Cache API; `None` when there is none or it refuses.
    async fn call(&self, call: impl FnOnce(&Cache) -> js_sys::Promise) -> Option<JsValue> {
        if now_ms() < self.left_alone_until.get() {
            return None;
        }
        let result = match default_cache() {
            Ok(cache) => JsFuture::from(call(&cache)).await,
            Err(error) => Err(error),
        };
        result
            .inspect_err(|error| {
                console_log!("no second cache for a minute: {}", reason(error));
                self.left_alone_until.set(now_ms() + LEFT_ALONE);
            })
            .ok()
    }
}

/// `caches.default`, which `web_sys` does not know.
fn default_cache() -> Result<Cache, JsValue> {
    let caches = Reflect::get(&js_sys::global(), &"caches".into())?;
    let cache = Reflect::get(&caches, &"default".into())?;
    if cache.is_object() { Ok(cache.unchecked_into()) } else { Err("the host has none".into()) }
}
