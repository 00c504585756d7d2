//! One request on its way through: which part answers it, and what each answer must carry. A catalogue read is
//! answered from memory where possible, and never waits for another request's question to the origin.

use std::rc::Rc;
use std::time::Duration;

use farmgate_shared::problem::Problem;
use worker::wasm_bindgen::JsValue;
use worker::{Context, Delay};

use crate::Edge;
use crate::asking::{Answer, OriginFailed, ask};
use crate::catalog::{Look, PATIENCE, Page, Read, SLOW, Turn};
use crate::host::{normalised, now_ms, response};
use crate::kept::Kept;
use crate::limit::Kind;
use crate::origin;
use crate::reply::{Asker, HEADER_CACHE, Source};
use crate::router::{Refusal, Route, route, split_url};

/// How long a read that found nothing waits before it looks into the memory again, at first; then twice as long.
const LOOK_AGAIN_MS: u64 = 4;
const LOOK_AGAIN_MOST_MS: u64 = 64;

/// One request.
pub struct Visit {
    pub(crate) edge: Rc<Edge>,
    pub(crate) request: web_sys::Request,
    pub(crate) method: String,
    /// In the spelling that the host's `fetch` sends: what is routed, what is signed and what is sent must be one.
    pub(crate) url: String,
    origin: Option<String>,
    pub(crate) request_id: String,
    pub(crate) client_ip: String,
}

impl Visit {
    pub(crate) fn new(edge: Rc<Edge>, request: web_sys::Request) -> Visit {
        let header = |name: &str| request.headers().get(name).ok().flatten();
        Visit {
            method: request.method(),
            url: normalised(request.url()),
            origin: header("origin"),
            request_id: edge.ids.next(),
            client_ip: origin::client_ip(header(&edge.settings.client_ip_header).as_deref()),
            request,
            edge,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker {
            request_id: &self.request_id,
            is_head: self.method == "HEAD",
            browser: self.edge.settings.browser(self.origin.as_deref()),
        }
    }

    /// Answers the request.
    ///
    /// # Errors
    /// The host's own, where it refuses a response or a question.
    pub(crate) async fn answer(&self, ctx: &Context) -> Result<web_sys::Response, JsValue> {
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

    pub(crate) fn problem(&self, problem: Problem) -> Result<web_sys::Response, JsValue> {
        response(self.asker().problem(problem, vec![]))
    }

    fn page(&self, page: &Page<Kept>, source: Source) -> Result<web_sys::Response, JsValue> {
        response(self.asker().page(page, source, self.header("if-none-match").as_deref()))
    }

    /// What is left when the origin has not answered.
    fn fallback(&self, old: Option<(Rc<Page<Kept>>, u64)>) -> Result<web_sys::Response, JsValue> {
        match old {
            Some((page, age)) => self.page(&page, Source::Stale(age)),
            None => self.problem(Problem::Unavailable),
        }
    }

    /// A catalogue read that memory alone could not answer, or whose page is due for a refresh.
    async fn catalogue(&self, read: Read, ctx: &Context) -> Result<web_sys::Response, JsValue> {
        let key = read.path_and_query();
        let came = now_ms();
        let mut pause = LOOK_AGAIN_MS;
        loop {
            let now = now_ms();
            let found = self.edge.catalog.borrow_mut().look(&key, now);
            if found.refresh_due {
                self.edge.catalog.borrow_mut().refreshing(&key, now);
                self.refresh(read.clone(), ctx);
            }
            let old = match found.look {
                Look::Hit(page) => return self.page(&page, Source::Memory),
                Look::Stale(page, age) => return self.page(&page, Source::Stale(age)),
                Look::Ask(old) => old,
            };
            let patience = if old.is_some() { SLOW } else { PATIENCE };
            let turn = self.edge.catalog.borrow_mut().enter(&key, came, now);
            match turn {
                Turn::Mine => {
                    // What memory cannot answer costs the origin something.
                    if let Err(refused) = self.count(Kind::Address, None).await {
                        self.edge.catalog.borrow_mut().leave(&key);
                        return match old {
                            Some((page, age)) => self.page(&page, Source::Stale(age)),
                            None => response(refused),
                        };
                    }
                    return self.fetch_page(&read, old, patience, ctx).await;
                }
                Turn::Failed => return self.fallback(old),
                Turn::Another if now.saturating_sub(came) >= patience => return self.fallback(old),
                Turn::Another => {
                    Delay::from(Duration::from_millis(pause)).await;
                    pause = (pause * 2).min(LOOK_AGAIN_MOST_MS);
                }
            }
        }
    }

    /// Asks the origin for the page, and waits.
    async fn fetch_page(
        &self,
        read: &Read,
        old: Option<(Rc<Page<Kept>>, u64)>,
        patience: u64,
        ctx: &Context,
    ) -> Result<web_sys::Response, JsValue> {
        let (answer, to_store) = ask(&self.edge, read, patience, &self.request_id, &self.client_ip).await;
        if let Some(to_store) = to_store {
            let edge = Rc::clone(&self.edge);
            ctx.wait_until(async move { edge.second.store(to_store).await });
        }
        match answer {
            Ok(Answer::Page(page)) => self.page(&page, Source::Origin),
            Ok(Answer::Other(reply)) => {
                self.pass_back(&reply, &[("cache-control", "no-store".into()), (HEADER_CACHE, "miss".into())])
            }
            Err(OriginFailed) if old.is_none() => {
                let old = self.edge.second.last(read, now_ms()).await.map(|answered| {
                    let left = (Rc::clone(&answered.page), now_ms().saturating_sub(answered.asked));
                    self.edge.catalog.borrow_mut().put(read, answered, now_ms());
                    left
                });
                self.fallback(old)
            }
            Err(OriginFailed) => self.fallback(old),
        }
    }

    /// Asks the origin for the page after this request has been answered.
    fn refresh(&self, read: Read, ctx: &Context) {
        let (edge, request_id, client_ip) =
            (Rc::clone(&self.edge), self.request_id.clone(), self.client_ip.clone());
        ctx.wait_until(async move {
            // A failure is logged and remembered where it happens, and an answer of the origin's that is no page has
            // nobody waiting for it.
            let (_, to_store) = ask(&edge, &read, PATIENCE, &request_id, &client_ip).await;
            if let Some(to_store) = to_store {
                edge.second.store(to_store).await;
            }
        });
    }
}
