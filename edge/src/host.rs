//! What the host gives and takes: its clock, its randomness, its variables, headers and responses. Everything here is
//! translation; nothing decides.

use farmgate_shared::edge_auth::hex;
use worker::Env;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{self, Object, Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

use crate::kept::Kept;
use crate::reply::{Body, Header, Reply};

/// Milliseconds since 1970 by the host's clock.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number far below 2^53")]
pub fn now_ms() -> u64 {
    let now = js_sys::Date::now() as u64;
    #[cfg(feature = "provoke")]
    let now = now + crate::provoke::clock_is_ahead_by();
    now
}

/// So many random bytes in hexadecimal.
///
/// # Errors
/// Where the host gives no randomness: outside a request.
pub fn random_hex<const BYTES: usize>() -> Result<String, String> {
    let mut bytes = [0; BYTES];
    getrandom_02::getrandom(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(hex(&bytes))
}

/// A variable of the host: text, or an object (a table in wrangler.toml), which is read as its JSON.
pub fn variable(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &name.into()).ok()?;
    if value.is_object() { js_sys::JSON::stringify(&value).ok()?.as_string() } else { value.as_string() }
}

/// A URL as `fetch` spells it. Hosts hand over what the client sent: `/static/../api`, or a bare `'` in the query.
pub fn normalised(url: String) -> String {
    web_sys::Url::new(&url).map_or(url, |parsed| parsed.href())
}

/// What a host's error says, on one line.
pub fn reason(error: &JsValue) -> String {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}

/// Headers as an object.
///
/// # Errors
/// The host's own.
pub fn header_object(headers: &[Header]) -> Result<Object, JsValue> {
    let object = Object::new();
    for (name, value) in headers {
        Reflect::set(&object, &(*name).into(), &(**value).into())?;
    }
    Ok(object)
}

/// The headers that pass, with their values. Hosts give names in lower case.
pub fn passed_headers(headers: &web_sys::Headers, passes: impl Fn(&str) -> bool) -> Vec<(String, String)> {
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

/// Whether these are the headers of a JSON body.
pub fn is_json(headers: &web_sys::Headers) -> bool {
    headers.get("content-type").ok().flatten().is_some_and(|kind| kind.starts_with("application/json"))
}

/// The whole body of a response.
///
/// # Errors
/// The host's own, when the body ends before its time.
pub async fn body_of(reply: &web_sys::Response) -> Result<Uint8Array, JsValue> {
    Ok(Uint8Array::new(&JsFuture::from(reply.array_buffer()?).await?))
}

/// A reply as the host's own object.
///
/// # Errors
/// The host's own.
pub fn response(reply: Reply<Kept>) -> Result<web_sys::Response, JsValue> {
    let init = web_sys::ResponseInit::new();
    init.set_status(reply.status);
    init.set_headers(header_object(&reply.headers)?.as_ref());
    match reply.body {
        Body::Empty => web_sys::Response::new_with_opt_str_and_init(None, &init),
        Body::Text(text) => web_sys::Response::new_with_opt_str_and_init(Some(&text), &init),
        Body::Kept(kept) => web_sys::Response::new_with_opt_js_u8_array_and_init(Some(kept.bytes()), &init),
    }
}
