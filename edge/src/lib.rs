//! The edge: one Wasm worker in front of the shop. Promises shoppers a catalogue that answers at once and outlives the
//! origin, and the origin that what reaches it is signed, small enough and from a shopper whose token is good.
//!
//! The deciding is in the modules, which know no host and are tested as plain functions; this file is the thin part
//! that talks to one. `worker.mjs` asks [`hit`] first, which answers from memory without a promise, and [`fetch`] for
//! everything else.

pub mod auth;
pub mod body;
pub mod cache;
pub mod catalog;
mod door;
pub mod forwarding;
pub mod limit;
pub mod origin;
pub mod reply;
pub mod router;
pub mod settings;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use farmgate_shared::edge_auth::{HEADER_REQUEST_ID, Signed, hex};
use farmgate_shared::problem::Problem;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{self, Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::{Context, Env, console_error};

use crate::auth::Doorkeeper;
use crate::catalog::{Catalog, Look, MAX_PAGE_BYTES, Page, Read};
use crate::limit::{Kind, Limits};
use crate::origin::Question;
use crate::reply::{Asker, Body, HEADER_CACHE, Header, Reply, Source};
use crate::router::{Forward, Refusal, Route, route, split_url};
use crate::settings::Settings;

/// How long a catalogue read waits for the origin when there is nothing else to show, in milliseconds.
const PATIENCE_MS: u32 = 5000;
/// The same when there is an old page to fall back on.
const PATIENCE_WITH_OLD_PAGE_MS: u32 = 1500;
thread_local! {
    static EDGE: OnceCell<Rc<Edge>> = const { OnceCell::new() };
}

/// What one isolate knows. No borrow of it is ever held across an await.
#[derive(Debug)]
struct Edge {
    settings: Settings,
    limits: Limits,
    door: RefCell<Doorkeeper>,
    catalog: RefCell<Catalog<Kept>>,
    /// Random for each isolate; with the count behind it, an id for each request.
    id_prefix: String,
    id_count: Cell<u32>,
}

impl Edge {
    /// The isolate's edge, made by its first request: hosts give no randomness before one.
    fn of(env: &Env) -> Result<Rc<Edge>, String> {
        EDGE.with(|cell| {
            if let Some(edge) = cell.get() {
                return Ok(Rc::clone(edge));
            }
            let (settings, keys) = Settings::read(|name| variable(env, name))?;
            let edge = Rc::new(Edge {
                limits: Limits::new(env, settings.rates),
                settings,
                door: RefCell::new(Doorkeeper::new(keys)),
                catalog: RefCell::default(),
                id_prefix: random_hex::<6>()?,
                id_count: Cell::new(0),
            });
            Ok(Rc::clone(cell.get_or_init(|| edge)))
        })
    }

    fn request_id(&self) -> String {
        let count = self.id_count.get().wrapping_add(1);
        self.id_count.set(count);
        format!("{}{count:08x}", self.id_prefix)
    }
}

/// A variable of the host: text, or an object (a table in wrangler.toml), which is read as its JSON.
fn variable(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &name.into()).ok()?;
    if value.is_object() { js_sys::JSON::stringify(&value).ok()?.as_string() } else { value.as_string() }
}

/// A URL as `fetch` spells it. Hosts hand over what the client sent: `/static/../api`, or a bare `'` in the query.
fn normalised(url: String) -> String {
    web_sys::Url::new(&url).map_or(url, |parsed| parsed.href())
}

fn random_hex<const BYTES: usize>() -> Result<String, String> {
    let mut bytes = [0; BYTES];
    getrandom_02::getrandom(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(hex(&bytes))
}

/// Milliseconds since 1970 by the host's clock.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number far below 2^53")]
fn now_ms() -> u64 {
    js_sys::Date::now() as u64
}

/// Answers from memory, or with nothing when more than memory is needed. Synchronous, because a promise would cost
/// more than everything else here.
#[wasm_bindgen]
#[must_use]
pub fn hit(
    method: &str,
    url: &str,
    if_none_match: Option<String>,
    origin: Option<String>,
) -> Option<web_sys::Response> {
    let edge = EDGE.with(|cell| cell.get().cloned())?;
    let (path, query) = split_url(url);
    let Ok(Route::Catalogue(read)) = route(method, path, query) else { return None };
    let found = edge.catalog.borrow_mut().look(&read.path_and_query(), now_ms());
    let (page, source) = match found.look {
        _ if found.refresh_due => return None,
        Look::Hit(page) => (page, Source::Memory),
        Look::Stale(page, age) => (page, Source::Stale(age)),
        Look::Ask(_) => return None,
    };
    let asker = Asker {
        request_id: &edge.request_id(),
        is_head: method == "HEAD",
        browser: edge.settings.browser(origin.as_deref()),
    };
    let is_usual = source == Source::Memory && method == "GET" && if_none_match.is_none() && origin.is_none();
    match &*page {
        Page::Found { body, .. } if is_usual => body.usual(asker, &page).ok(),
        _ => response(asker.page(&page, source, if_none_match.as_deref())).ok(),
    }
}

/// A page's body in the host's memory, and the reply that most requests for it get: a plain hit. Its headers are
/// made once and only the request's id written anew, since handing a header to the host costs more than finding it.
#[derive(Clone, Debug)]
struct Kept {
    bytes: Uint8Array,
    usual: Rc<OnceCell<(js_sys::Object, web_sys::ResponseInit)>>,
}

impl Kept {
    fn usual(&self, asker: Asker<'_>, page: &Page<Kept>) -> Result<web_sys::Response, JsValue> {
        if let Some((headers, init)) = self.usual.get() {
            Reflect::set(headers, &HEADER_REQUEST_ID.into(), &asker.request_id.into())?;
            return web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&self.bytes), init);
        }
        let reply = asker.page(page, Source::Memory, None);
        let headers = header_object(&reply.headers)?;
        let init = web_sys::ResponseInit::new();
        init.set_status(reply.status);
        init.set_headers(&headers);
        let (_, init) = self.usual.get_or_init(|| (headers, init));
        web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&self.bytes), init)
    }
}

fn header_object(headers: &[Header]) -> Result<js_sys::Object, JsValue> {
    let object = js_sys::Object::new();
    for (name, value) in headers {
        Reflect::set(&object, &(*name).into(), &(**value).into())?;
    }
    Ok(object)
}

/// Gives up this Wasm instance: the next call from the host finds a fresh one. For `worker.mjs`, after a trap.
#[wasm_bindgen]
pub fn renew() {
    wasm_bindgen::handler::schedule_reinit();
}

/// That next call. It takes nothing, because the glue still writes the arguments of the call that makes the new
/// instance into the old one.
#[wasm_bindgen]
pub fn ready() {}

/// The answer to a request that a trap has ended. Knows nothing but the method, since the instance is fresh.
#[wasm_bindgen]
pub fn trapped(method: &str) -> Result<web_sys::Response, JsValue> {
    apologise(method == "HEAD")
}

/// Everything that [`hit`] has no answer to.
#[worker::event(fetch)]
async fn fetch(request: web_sys::Request, env: Env, ctx: Context) -> worker::Result<web_sys::Response> {
    let edge = match Edge::of(&env) {
        Ok(edge) => edge,
        Err(reason) => {
            console_error!("the edge cannot serve: {reason}");
            return Ok(apologise(request.method() == "HEAD")?);
        }
    };
    let visit = Visit::new(edge, request);
    let answer = visit.answer(&ctx).await;
    body::drain(&visit.request).await;
    Ok(answer.or_else(|error| {
        console_error!("{} {}: {} ({})", visit.method, visit.url, reason(&error), visit.request_id);
        visit.problem(Problem::Internal)
    })?)
}

/// The answer when there is no [`Edge`] to answer.
fn apologise(is_head: bool) -> Result<web_sys::Response, JsValue> {
    let request_id = random_hex::<10>().unwrap_or_else(|_| "0".repeat(20));
    response(Asker { request_id: &request_id, is_head, browser: None }.problem(Problem::Internal, vec![]))
}

/// What a host's error says, on one line.
fn reason(error: &JsValue) -> String {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}

/// One request on its way through.
struct Visit {
    edge: Rc<Edge>,
    request: web_sys::Request,
    method: String,
    /// In the spelling that the host's `fetch` sends: what is routed, what is signed and what is sent must be one.
    url: String,
    origin: Option<String>,
    request_id: String,
    client_ip: String,
}

impl Visit {
    fn new(edge: Rc<Edge>, request: web_sys::Request) -> Visit {
        let header = |name: &str| request.headers().get(name).ok().flatten();
        Visit {
            method: request.method(),
            url: normalised(request.url()),
            origin: header("origin"),
            request_id: edge.request_id(),
            client_ip: origin::client_ip(header(&edge.settings.client_ip_header).as_deref()),
            request,
            edge,
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            request_id: &self.request_id,
            is_head: self.method == "HEAD",
            browser: self.edge.settings.browser(self.origin.as_deref()),
        }
    }

    async fn answer(&self, ctx: &Context) -> Result<web_sys::Response, JsValue> {
        let (path, query) = split_url(&self.url);
        match route(&self.method, path, query) {
            Ok(Route::Health) => response(self.asker().healthy()),
            Ok(Route::Options(methods)) => response(self.asker().options(methods)),
            Ok(Route::Catalogue(read)) => self.catalogue(read, ctx).await,
            Ok(Route::Forward(forward)) => self.forward(forward, path, query).await,
            Err(Refusal::Problem(problem)) => self.problem(problem),
            Err(Refusal::BadQuery(details)) => {
                response(self.asker().problem(Problem::InvalidParameter, details))
            }
            Err(Refusal::MethodNotAllowed(methods)) => response(self.asker().method_not_allowed(methods)),
        }
    }

    fn problem(&self, problem: Problem) -> Result<web_sys::Response, JsValue> {
        response(self.asker().problem(problem, vec![]))
    }

    fn page(&self, page: &Page<Kept>, source: Source) -> Result<web_sys::Response, JsValue> {
        response(self.asker().page(page, source, self.header("if-none-match").as_deref()))
    }

    /// A catalogue read that memory alone could not answer, or whose page is due for a refresh.
    async fn catalogue(&self, read: Read, ctx: &Context) -> Result<web_sys::Response, JsValue> {
        let key = read.path_and_query();
        let now = now_ms();
        let found = self.edge.catalog.borrow_mut().look(&key, now);
        if found.refresh_due {
            self.edge.catalog.borrow_mut().refreshing(&key, now);
            let (edge, request_id, client_ip) =
                (Rc::clone(&self.edge), self.request_id.clone(), self.client_ip.clone());
            ctx.wait_until(async move {
                // A failure is logged and remembered where it happens, and an answer of the origin's that is no
                // page has nobody waiting for it.
                drop(ask_catalogue(&edge, &read, PATIENCE_MS, &request_id, &client_ip).await);
            });
            return match found.look {
                Look::Hit(page) => self.page(&page, Source::Memory),
                Look::Stale(page, age) => self.page(&page, Source::Stale(age)),
                Look::Ask(_) => self.problem(Problem::Internal),
            };
        }
        let old = match found.look {
            Look::Hit(page) => return self.page(&page, Source::Memory),
            Look::Stale(page, age) => return self.page(&page, Source::Stale(age)),
            Look::Ask(old) => old,
        };
        // What memory cannot answer costs the origin something.
        if let Err(refused) = self.count(Kind::Address, None).await {
            return match old {
                Some((page, age)) => self.page(&page, Source::Stale(age)),
                None => response(refused),
            };
        }
        let patience = if old.is_some() { PATIENCE_WITH_OLD_PAGE_MS } else { PATIENCE_MS };
        match (ask_catalogue(&self.edge, &read, patience, &self.request_id, &self.client_ip).await, old) {
            (Ok(Answer::Page(page)), _) => self.page(&page, Source::Origin),
            (Ok(Answer::Other(reply)), _) => {
                self.pass_back(&reply, &[("cache-control", "no-store".into()), (HEADER_CACHE, "miss".into())])
            }
            (Err(OriginFailed), Some((page, age))) => self.page(&page, Source::Stale(age)),
            (Err(OriginFailed), None) => self.problem(Problem::Unavailable),
        }
    }

    /// To the origin and back.
    async fn forward(&self, forward: Forward, path: &str, query: &str) -> Result<web_sys::Response, JsValue> {
        let passage = forward.passage();
        let user = match self.admit(passage).await {
            Ok(user) => user,
            Err(refused) => return response(refused),
        };
        let subject = user.map(|user| user.to_string()).unwrap_or_default();
        let body = match self.method.as_str() {
            "POST" | "PUT" | "DELETE" => match body::whole(&self.request).await {
                Ok(body) => Some(body),
                Err(problem) => return self.problem(problem),
            },
            _ => None,
        };
        let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut headers = passed_headers(&self.request.headers(), |name| origin::passes_on(name, forward));
        let timestamp = now_ms() / 1000;
        headers.extend(sign(
            &self.edge,
            &Signed {
                method: &self.method,
                path_and_query: &path_and_query,
                timestamp: &timestamp.to_string(),
                nonce: &random_hex::<16>()?,
                body: body.as_deref().unwrap_or_default(),
                subject: &subject,
                client_ip: &self.client_ip,
                request_id: &self.request_id,
            },
        ));
        let question = Question {
            url: format!("{}{path_and_query}", self.edge.settings.origin_url),
            method: &self.method,
            headers,
            // `DELETE` without a body is the usual one, and some servers refuse an empty one.
            body: body.as_deref().filter(|body| !(body.is_empty() && self.method == "DELETE")),
            timeout_ms: self.edge.settings.timeout_ms,
        };
        let reply = match question.ask().await {
            Ok(reply) => reply,
            Err(error) => {
                console_error!("{} {path}: {} ({})", self.method, reason(&error), self.request_id);
                return self.problem(Problem::Unavailable);
            }
        };
        if reply.status() >= 500 && !is_json(&reply.headers()) {
            // Not the origin's words but those of something in front of it.
            console_error!("{} {path}: status {} ({})", self.method, reply.status(), self.request_id);
            return self.problem(Problem::Unavailable);
        }
        if passage.may_be_stored && reply.headers().has("cache-control")? {
            self.pass_back(&reply, &[])
        } else {
            self.pass_back(&reply, &[("cache-control", "no-store".into())])
        }
    }

    /// The origin's reply as the client gets it: `set` replaces or adds headers.
    fn pass_back(&self, reply: &web_sys::Response, set: &[Header]) -> Result<web_sys::Response, JsValue> {
        let is_set = |name: &str| set.iter().any(|(header, _)| *header == name);
        let passed = passed_headers(&reply.headers(), |name| origin::passes_back(name) && !is_set(name));
        let headers = js_sys::Object::new();
        for (name, value) in passed {
            Reflect::set(&headers, &name.into(), &value.into())?;
        }
        for (name, value) in self.asker().headers().iter().chain(set) {
            Reflect::set(&headers, &(*name).into(), &(**value).into())?;
        }
        let init = web_sys::ResponseInit::new();
        init.set_status(reply.status());
        init.set_headers(&headers);
        web_sys::Response::new_with_opt_readable_stream_and_init(reply.body().as_ref(), &init)
    }
}

/// What the origin said to a catalogue read.
enum Answer {
    Page(Rc<Page<Kept>>),
    /// A refusal that is for this request alone.
    Other(web_sys::Response),
}

/// The origin could not be reached, was too slow, or failed. Already logged and remembered.
struct OriginFailed;

/// Asks the origin for a page and keeps it. As nobody: the reply is given to everybody.
async fn ask_catalogue(
    edge: &Edge,
    read: &Read,
    patience_ms: u32,
    request_id: &str,
    client_ip: &str,
) -> Result<Answer, OriginFailed> {
    let asked = now_ms();
    let result = try_catalogue(edge, read, patience_ms, request_id, client_ip, asked).await;
    result.map_err(|error| {
        let key = read.path_and_query();
        console_error!("GET {key}: {} ({request_id})", reason(&error));
        edge.catalog.borrow_mut().failed(&key, now_ms());
        OriginFailed
    })
}

async fn try_catalogue(
    edge: &Edge,
    read: &Read,
    patience_ms: u32,
    request_id: &str,
    client_ip: &str,
    asked: u64,
) -> Result<Answer, JsValue> {
    let path_and_query = read.path_and_query();
    let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
    headers.extend(sign(
        edge,
        &Signed {
            method: "GET",
            path_and_query: &path_and_query,
            timestamp: &(asked / 1000).to_string(),
            nonce: &random_hex::<16>()?,
            body: b"",
            subject: "",
            client_ip,
            request_id,
        },
    ));
    let url = format!("{}{path_and_query}", edge.settings.origin_url);
    let timeout_ms = patience_ms.min(edge.settings.timeout_ms);
    let reply = Question { url, method: "GET", headers, body: None, timeout_ms }.ask().await?;
    let page = match reply.status() {
        200 if is_for_everybody(&reply.headers()) => {
            let body = body_of(&reply).await?;
            let bytes = body.to_vec();
            Page::found(Kept { bytes: body, usual: Rc::default() }, &bytes)
        }
        404 => Page::missing(&body_of(&reply).await?.to_vec()).ok_or("a 404 that is not the origin's own")?,
        status @ (403 | 429 | 500..) => return Err(format!("status {status}").into()),
        _ => return Ok(Answer::Other(reply)),
    };
    let page = Rc::new(page);
    let is_small = match &*page {
        Page::Found { length, .. } => *length <= MAX_PAGE_BYTES,
        Page::Missing(_) => true,
    };
    if is_small {
        edge.catalog.borrow_mut().keep(read, Rc::clone(&page), asked);
    }
    Ok(Answer::Page(page))
}

/// Whether a reply may be kept. The origin says so by not forbidding it.
fn is_for_everybody(headers: &web_sys::Headers) -> bool {
    let control = headers.get("cache-control").ok().flatten().unwrap_or_default();
    let is_private = control.contains("private") || control.contains("no-store");
    is_json(headers) && !is_private && !headers.has("set-cookie").unwrap_or(true)
}

fn is_json(headers: &web_sys::Headers) -> bool {
    headers.get("content-type").ok().flatten().is_some_and(|kind| kind.starts_with("application/json"))
}

fn sign(edge: &Edge, signed: &Signed<'_>) -> impl Iterator<Item = (String, String)> {
    origin::signature(&edge.settings.edge_key, signed)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
}

/// The headers that pass, with their values. Hosts give names in lower case.
fn passed_headers(headers: &web_sys::Headers, passes: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    headers
        .entries()
        .into_iter()
        .filter_map(|entry| {
            let pair: js_sys::Array = entry.ok()?.dyn_into().ok()?;
            Some((pair.get(0).as_string()?, pair.get(1).as_string()?))
        })
        .filter(|(name, _)| passes(name))
        .collect()
}

async fn body_of(reply: &web_sys::Response) -> Result<Uint8Array, JsValue> {
    Ok(Uint8Array::new(&JsFuture::from(reply.array_buffer()?).await?))
}

/// A reply as the host's own object.
fn response(reply: Reply<Kept>) -> Result<web_sys::Response, JsValue> {
    let init = web_sys::ResponseInit::new();
    init.set_status(reply.status);
    init.set_headers(header_object(&reply.headers)?.as_ref());
    match reply.body {
        Body::Empty => web_sys::Response::new_with_opt_str_and_init(None, &init),
        Body::Text(text) => web_sys::Response::new_with_opt_str_and_init(Some(&text), &init),
        Body::Kept(kept) => web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&kept.bytes), &init),
    }
}
