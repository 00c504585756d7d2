//! Reading what a client sends. Promises that no body over the limit is ever held in memory, and that a client whose
//! request is refused gets to read why: many write their whole body first, and take a connection that is closed
//! meanwhile for a broken one.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use farmgate_shared::MAX_BODY_BYTES;
use farmgate_shared::problem::Problem;
use web_sys::{ReadableStreamDefaultReader, Request};
use worker::Delay;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};

/// Most of a refused body that is read all the same.
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
/// How long its next piece is waited for: a client that only announced a body may be waiting for the answer itself.
const DRAIN_PATIENCE: Duration = Duration::from_millis(250);

/// A request's whole body.
///
/// # Errors
/// [`Problem::PayloadTooLarge`], by the announced length or by the bytes that came.
pub async fn whole(request: &Request) -> Result<Vec<u8>, Problem> {
    let announced = request.headers().get("content-length").ok().flatten().and_then(|text| text.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(Problem::PayloadTooLarge);
    }
    read(request, Some(MAX_BODY_BYTES)).await
}

/// Reads and forgets a body that nobody wanted.
pub async fn drain(request: &Request) {
    if !request.body_used() {
        drop(read(request, None).await);
    }
}

/// Reads a body and returns it, unless it is unwanted or over the limit; then reads on and forgets.
async fn read(request: &Request, most: Option<usize>) -> Result<Vec<u8>, Problem> {
    let Some(stream) = request.body() else { return Ok(Vec::new()) };
    let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let (mut body, mut length) = (Vec::new(), 0);
    let is_wanted = |length: usize| most.is_some_and(|most| length <= most);
    loop {
        let chunk = if is_wanted(length) { next(&reader).await } else { next_soon(&reader).await };
        // It fails when the client has gone away, so nobody reads this answer.
        let Some(chunk) = chunk.map_err(|_| Problem::InvalidParameter)? else { break };
        length += chunk.length() as usize;
        if is_wanted(length) {
            body.extend(chunk.to_vec());
        } else if length > DRAIN_BYTES {
            break;
        }
    }
    if is_wanted(length) { Ok(body) } else { Err(Problem::PayloadTooLarge) }
}

/// The next piece of a body, or `None` when there is no more.
async fn next(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, JsValue> {
    piece(&JsFuture::from(reader.read()).await?)
}

/// The same, or `None` when it does not come soon.
async fn next_soon(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, JsValue> {
    let mut read = JsFuture::from(reader.read());
    let mut late = pin!(Delay::from(DRAIN_PATIENCE));
    let first = poll_fn(|cx| match Pin::new(&mut read).poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    });
    if let Some(result) = first.await {
        return piece(&result?);
    }
    // Ends the read that is under way: the host would call back into a future that is gone.
    JsFuture::from(reader.cancel()).await?;
    read.await?;
    Ok(None)
}

fn piece(result: &JsValue) -> Result<Option<Uint8Array>, JsValue> {
    if Reflect::get(result, &"done".into())?.is_truthy() {
        return Ok(None);
    }
    Ok(Some(Reflect::get(result, &"value".into())?.dyn_into()?))
}
