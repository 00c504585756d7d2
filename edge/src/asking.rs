//! Asking the origin about the catalogue, as nobody: the reply is given to everybody. Promises that what is kept is the
//! same for everybody and no failure, and that a page whose version is still the shop's is not fetched again for its
//! stock.

use std::rc::Rc;

use farmgate_shared::api::Reply;
use farmgate_shared::api::catalog::{HEADER_CATALOG_VERSION, SkuStock};
use farmgate_shared::edge_auth::Signed;
use worker::console_error;
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen::JsValue;

use crate::Edge;
use crate::catalog::{Answered, Overlay, Page, Read};
use crate::host::{body_of, is_json, now_ms, random_hex, reason};
use crate::kept::Kept;
use crate::origin::{self, Question};
use crate::second::ToStore;

/// What the origin said to a catalogue read.
pub enum Answer {
    Page(Rc<Page<Kept>>),
    /// A refusal that is for this request alone.
    Other(web_sys::Response),
}

/// The origin could not be reached, was too slow, or failed. Already logged and remembered.
pub struct OriginFailed;

/// One read and who it is asked for.
struct Asking<'a> {
    edge: &'a Edge,
    read: &'a Read,
    key: String,
    patience: u64,
    request_id: &'a str,
    client_ip: &'a str,
}

/// Asks the origin for a page, or only for its stock, and keeps what it says; and what is to be laid into the second
/// cache when there is time.
pub async fn ask(
    edge: &Edge,
    read: &Read,
    patience: u64,
    request_id: &str,
    client_ip: &str,
) -> (Result<Answer, OriginFailed>, Option<ToStore>) {
    let asking = Asking { edge, read, key: read.path_and_query(), patience, request_id, client_ip };
    match asking.answer().await {
        Ok((answer, to_store)) => (Ok(answer), to_store),
        Err(error) => {
            console_error!("GET {}: {} ({request_id})", asking.key, reason(&error));
            edge.catalog.borrow_mut().failed(&asking.key, now_ms());
            (Err(OriginFailed), None)
        }
    }
}

impl Asking<'_> {
    async fn answer(&self) -> Result<(Answer, Option<ToStore>), JsValue> {
        if let Some(page) = self.recall().await {
            return Ok((Answer::Page(page), None));
        }
        if let Some(page) = self.restock().await? {
            return Ok((Answer::Page(page), None));
        }
        self.whole().await
    }

    /// Where memory has nothing, takes the page from the second cache, if the shop's version is known; it is then as
    /// old as that knowledge. The stock on it is not believed: such a page is only kept, so that its stock alone need be
    /// asked for. Returns one that has none.
    async fn recall(&self) -> Option<Rc<Page<Kept>>> {
        let (version, asked) = {
            let catalog = self.edge.catalog.borrow();
            if catalog.place(&self.key).is_some() {
                return None;
            }
            catalog.current_version(now_ms())?
        };
        let found = self.edge.second.find(self.read, version).await?;
        let has_no_stock = *self.read == Read::Categories;
        if !has_no_stock && found.overlay.is_none() {
            return None;
        }
        let page = Rc::clone(&found.page);
        // Stock as old as it is: no read is given it before it was asked for.
        let asked = if has_no_stock { asked } else { found.asked };
        self.edge.catalog.borrow_mut().put(self.read, Answered { asked, ..found }, now_ms());
        has_no_stock.then_some(page)
    }

    /// Asks for the stock on the kept page alone. `None` when the page must be fetched as a whole.
    async fn restock(&self) -> Result<Option<Rc<Page<Kept>>>, JsValue> {
        let Some((version, question)) = self.edge.catalog.borrow_mut().stock_question(&self.key) else {
            return Ok(None);
        };
        let asked = now_ms();
        let reply = self.get(&Read::Stock(question).path_and_query(), asked).await?;
        if reply.status() >= 500 || matches!(reply.status(), 403 | 429) {
            return Err(format!("status {} to its stock", reply.status()).into());
        }
        if reply.status() != 200 || version_of(&reply) != Some(version) {
            // Its body is not read: the page that is asked for next has the stock on it.
            return Ok(None);
        }
        let bytes = body_of(&reply).await?.to_vec();
        let Reply::<Vec<SkuStock>> { data, .. } =
            serde_json::from_slice(&bytes).map_err(|error| format!("its stock: {error}"))?;
        let mut catalog = self.edge.catalog.borrow_mut();
        Ok(catalog.restock(&self.key, version, &data, (asked, now_ms()), Kept::copy))
    }

    /// Asks for the page.
    async fn whole(&self) -> Result<(Answer, Option<ToStore>), JsValue> {
        let asked = now_ms();
        let reply = self.get(&self.key, asked).await?;
        let version = version_of(&reply);
        let (page, overlay) = match reply.status() {
            200 if is_for_everybody(&reply.headers()) => found(self.read, version, body_of(&reply).await?),
            404 => {
                let body = body_of(&reply).await?.to_vec();
                (Page::missing(&body).ok_or("a 404 that is not the origin's own")?, None)
            }
            status @ (403 | 429 | 500..) => return Err(format!("status {status}").into()),
            _ => {
                self.edge.catalog.borrow_mut().leave(&self.key);
                return Ok((Answer::Other(reply), None));
            }
        };
        let page = Rc::new(page);
        let to_store = match (&*page, version) {
            (Page::Found { body, .. }, Some(version)) if self.read.is_versioned() => {
                Some(ToStore { key: self.key.clone(), version, asked, bytes: body.bytes().clone() })
            }
            _ => None,
        };
        let answered = Answered { page: Rc::clone(&page), overlay, version, asked };
        self.edge.catalog.borrow_mut().keep(self.read, answered, now_ms());
        Ok((Answer::Page(page), to_store))
    }

    /// One question to the origin.
    async fn get(&self, path_and_query: &str, asked: u64) -> Result<web_sys::Response, JsValue> {
        let settings = &self.edge.settings;
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        headers.extend(origin::signed_headers(
            &settings.edge_key,
            &Signed {
                method: "GET",
                path_and_query,
                timestamp: &(asked / 1000).to_string(),
                nonce: &random_hex::<16>()?,
                body: b"",
                subject: "",
                client_ip: self.client_ip,
                request_id: self.request_id,
            },
        ));
        let url = format!("{}{path_and_query}", settings.origin_url);
        let patience = u32::try_from(self.patience).unwrap_or(u32::MAX);
        let timeout_ms = patience.min(settings.timeout_ms);
        Question { url, method: "GET", headers, body: None, timeout_ms }.ask().await
    }
}

/// A 200 as it is kept.
pub fn found(read: &Read, version: Option<i64>, body: Uint8Array) -> (Page<Kept>, Option<Overlay>) {
    let bytes = body.to_vec();
    let page = Page::found(Kept::new(body), &bytes);
    (page, version.and_then(|version| Overlay::find(read, version, bytes)))
}

/// The version of the catalogue that the reply was made from.
fn version_of(reply: &web_sys::Response) -> Option<i64> {
    reply.headers().get(HEADER_CATALOG_VERSION).ok().flatten()?.parse().ok()
}

/// Whether a reply may be kept. The origin says so by not forbidding it.
fn is_for_everybody(headers: &web_sys::Headers) -> bool {
    let control = headers.get("cache-control").ok().flatten().unwrap_or_default();
    let is_private = control.contains("private") || control.contains("no-store");
    is_json(headers) && !is_private && !headers.has("set-cookie").unwrap_or(true)
}
