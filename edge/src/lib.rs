//! The edge: one Wasm worker in front of the shop. Promises shoppers a catalogue that answers at once and outlives the
//! origin, and the origin that what reaches it is signed, small enough and from a shopper whose token is good.
//!
//! The deciding is in modules that know no host and are tested as plain functions (`auth`, `cache`, `catalog`,
//! `forwarding`, `limit`, `origin`, `reply`, `router`, `settings`); the thin part that talks to a host is beside them
//! (`asking`, `body`, `door`, `forward`, `host`, `kept`, `second`, `visit`). `worker.mjs` asks [`hit`] first, which answers
//! from memory without a promise, and [`fetch`] for everything else.

mod asking;
pub mod auth;
pub mod body;
pub mod cache;
pub mod catalog;
mod door;
mod forward;
pub mod forwarding;
mod host;
mod kept;
pub mod limit;
pub mod origin;
#[cfg(feature = "provoke")]
mod provoke;
pub mod reply;
pub mod router;
mod second;
pub mod settings;
mod visit;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use farmgate_shared::problem::Problem;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::JsString;
use worker::wasm_bindgen::JsValue;
use worker::{Context, Env, console_error};

use crate::auth::Doorkeeper;
use crate::catalog::{Catalog, Found, Look, Page};
use crate::host::{now_ms, random_hex, reason, response, variable};
use crate::kept::{Ids, Kept, Urls};
use crate::limit::Limits;
use crate::reply::{Asker, Source};
use crate::router::{Route, route, split_url};
use crate::second::Second;
use crate::settings::Settings;
use crate::visit::Visit;

thread_local! {
    static EDGE: OnceCell<Rc<Edge>> = const { OnceCell::new() };
}

/// What one isolate knows. No borrow of it is ever held across an await.
#[derive(Debug)]
pub(crate) struct Edge {
    settings: Settings,
    limits: Limits,
    door: RefCell<Doorkeeper>,
    catalog: RefCell<Catalog<Kept>>,
    second: Second,
    urls: Urls,
    ids: Ids,
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
                second: Second::new(&settings.origin_url),
                settings,
                door: RefCell::new(Doorkeeper::new(keys)),
                catalog: RefCell::default(),
                urls: Urls::default(),
                ids: Ids::new(&random_hex::<6>()?),
            });
            Ok(Rc::clone(cell.get_or_init(|| edge)))
        })
    }

    /// The kept page that a URL means, if there is one.
    fn found(&self, url: &JsString) -> Option<Found<Kept>> {
        let now = now_ms();
        let mut catalog = self.catalog.borrow_mut();
        if let Some(found) = self.urls.place(url).and_then(|place| catalog.look_at(place, now)) {
            return Some(found);
        }
        let text = String::from(url);
        let (path, query) = split_url(&text);
        let Ok(Route::Catalogue(read)) = route("GET", path, query) else { return None };
        let place = catalog.place(&read.path_and_query())?;
        self.urls.remember(url, place);
        catalog.look_at(place, now)
    }
}

/// Answers a `GET` or `HEAD` from memory, or with nothing when more than memory is needed. Synchronous, because a
/// promise would cost more than everything else here.
#[wasm_bindgen]
#[must_use]
pub fn hit(
    is_head: bool,
    url: &JsString,
    if_none_match: Option<String>,
    origin: Option<String>,
) -> Option<web_sys::Response> {
    #[cfg(feature = "provoke")]
    provoke::trap_of_a_hit(url);
    EDGE.with(|cell| {
        let edge = cell.get()?;
        let found = edge.found(url)?;
        let (page, source) = match found.look {
            _ if found.refresh_due => return None,
            Look::Hit(page) => (page, Source::Memory),
            Look::Stale(page, age) => (page, Source::Stale(age)),
            Look::Ask(_) => return None,
        };
        let is_usual = source == Source::Memory && !is_head && if_none_match.is_none() && origin.is_none();
        match &*page {
            Page::Found { body, .. } if is_usual => body.usual(&edge.ids, &page).ok(),
            _ => {
                let browser = edge.settings.browser(origin.as_deref());
                let asker = Asker { request_id: &edge.ids.next(), is_head, browser };
                response(asker.page(&page, source, if_none_match.as_deref())).ok()
            }
        }
    })
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
    #[cfg(feature = "provoke")]
    if let Some(answer) = provoke::answer(&visit.url).await {
        return Ok(answer?);
    }
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
