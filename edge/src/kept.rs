//! A page's body in the host's memory and the reply that most requests for it get; and the way from a URL as it comes
//! to its page. Both exist because what costs on a hit is not the finding but what crosses the border between the host
//! and Wasm: here no text does.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use farmgate_shared::edge_auth::HEADER_REQUEST_ID;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{Headers, Response, ResponseInit};
use worker::js_sys::{JsString, Number, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

use crate::cache::Place;
use crate::catalog::Page;
use crate::host::header_object;
use crate::reply::{Asker, Source};

/// Most URLs that are remembered, and the longest of them in UTF-16 units: at most 2 MB.
const URLS: u32 = 2048;
const LONGEST_URL: u32 = 512;

#[wasm_bindgen]
extern "C" {
    /// The host's `Map`, from URLs to whole numbers.
    #[wasm_bindgen(js_name = Map)]
    #[derive(Debug)]
    type Numbers;
    #[wasm_bindgen(constructor, js_class = "Map")]
    fn new() -> Numbers;
    #[wasm_bindgen(method)]
    fn get(this: &Numbers, url: &JsString) -> Option<u32>;
    #[wasm_bindgen(method)]
    fn set(this: &Numbers, url: &JsString, number: u32);
    #[wasm_bindgen(method)]
    fn clear(this: &Numbers);

    /// The host's `Headers`, whose `set` of `web_sys` takes Rust's text.
    #[wasm_bindgen(extends = Headers, js_name = Headers)]
    #[derive(Clone, Debug)]
    type OurHeaders;
    #[wasm_bindgen(method, js_class = "Headers", js_name = set)]
    fn put(this: &OurHeaders, name: &JsString, value: &JsString);
}

/// A page's body.
#[derive(Clone, Debug)]
pub struct Kept {
    bytes: Uint8Array,
    usual: Rc<OnceCell<(OurHeaders, ResponseInit)>>,
}

impl Kept {
    #[must_use]
    pub fn new(bytes: Uint8Array) -> Kept {
        Kept { bytes, usual: Rc::default() }
    }

    /// The same bytes, copied to the host.
    #[must_use]
    pub fn copy(bytes: &[u8]) -> Kept {
        Kept::new(Uint8Array::from(bytes))
    }

    #[must_use]
    pub fn bytes(&self) -> &Uint8Array {
        &self.bytes
    }

    /// The reply to a plain hit. Its headers are made once, as the host's own object, and only the request's id is
    /// written anew.
    ///
    /// # Errors
    /// The host's own.
    pub fn usual(&self, ids: &Ids, page: &Page<Kept>) -> Result<Response, JsValue> {
        if self.usual.get().is_none() {
            let asker = Asker { request_id: "", is_head: false, browser: None };
            let reply = asker.page(page, Source::Memory, None);
            let object = header_object(&reply.headers)?;
            let headers = Headers::new_with_record_from_str_to_str(object.unchecked_ref())?;
            let init = ResponseInit::new();
            init.set_status(reply.status);
            init.set_headers(&headers);
            self.usual.get_or_init(|| (headers.unchecked_into(), init));
        }
        let (headers, init) = self.usual.get().ok_or("a cell that was just filled")?;
        headers.put(&ids.header, &ids.next_text());
        Response::new_with_opt_js_u8_array_and_init(Some(&self.bytes), init)
    }
}

/// The ids of one isolate's requests: a random text and a count.
#[derive(Debug)]
pub struct Ids {
    prefix: JsString,
    count: Cell<u32>,
    /// The header's name, in the host's memory.
    header: JsString,
}

impl Ids {
    #[must_use]
    pub fn new(prefix: &str) -> Ids {
        Ids { prefix: prefix.into(), count: Cell::new(0), header: HEADER_REQUEST_ID.into() }
    }

    /// An id that no other request has.
    #[must_use]
    pub fn next(&self) -> String {
        self.next_text().into()
    }

    fn next_text(&self) -> JsString {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        // Counted from there, so that all ids of an isolate are of one length.
        let count = f64::from(count) + f64::from(0x1000_0000);
        let digits = Number::from(count).to_string_with_radix(16).unwrap_or_default();
        self.prefix.concat(&digits)
    }
}

/// Pages by the URLs that were asked for, as the host spells them.
#[derive(Debug)]
pub struct Urls {
    numbers: Numbers,
    places: RefCell<Vec<Place>>,
}

impl Default for Urls {
    fn default() -> Self {
        Urls { numbers: Numbers::new(), places: RefCell::default() }
    }
}

impl Urls {
    /// The place that was remembered for this URL.
    #[must_use]
    pub fn place(&self, url: &JsString) -> Option<Place> {
        let number = usize::try_from(self.numbers.get(url)?).ok()?;
        self.places.borrow().get(number).copied()
    }

    /// Remembers that this URL means the page at `place`. When there are too many, all are forgotten: each is found
    /// again by its next request.
    pub fn remember(&self, url: &JsString, place: Place) {
        if url.length() > LONGEST_URL {
            return;
        }
        let mut places = self.places.borrow_mut();
        let number = match self.numbers.get(url) {
            Some(number) => number,
            None => {
                let next = u32::try_from(places.len()).unwrap_or(URLS);
                if next >= URLS {
                    self.numbers.clear();
                    places.clear();
                    0
                } else {
                    next
                }
            }
        };
        match usize::try_from(number).ok().and_then(|at| places.get_mut(at)) {
            Some(known) => *known = place,
            None => {
                places.push(place);
                self.numbers.set(url, number);
            }
        }
    }
}
