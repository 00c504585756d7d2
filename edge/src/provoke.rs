//! Misfortune on demand, for the tests: a trap where a test wants one, and a clock that is ahead. Exists only in builds
//! with the feature `provoke`, which nothing that is deployed or served by `cargo xtask up` is built with; there the
//! same addresses lead nowhere.
//!
//! | address | what happens |
//! |---|---|
//! | `/provoke/trap/hit` | the instance traps in the synchronous part |
//! | `/provoke/trap/later` | it traps in a future, after a pause |
//! | `/provoke/clock/<ms>` | from now on the clock is so many milliseconds ahead |

use std::cell::Cell;
use std::time::Duration;

use worker::Delay;
use worker::js_sys::JsString;
use worker::wasm_bindgen::JsValue;

use crate::router::split_url;

thread_local! {
    static AHEAD_BY: Cell<u64> = const { Cell::new(0) };
}

/// Milliseconds.
pub fn clock_is_ahead_by() -> u64 {
    AHEAD_BY.get()
}

/// Traps if the URL asks for it.
pub fn trap_of_a_hit(url: &JsString) {
    let url = String::from(url);
    if split_url(&url).0 == "/provoke/trap/hit" {
        std::process::abort();
    }
}

/// The answer if the URL asks for anything else of this module.
pub async fn answer(url: &str) -> Option<Result<web_sys::Response, JsValue>> {
    let (path, _) = split_url(url);
    if path == "/provoke/trap/later" {
        Delay::from(Duration::from_millis(20)).await;
        std::process::abort();
    }
    AHEAD_BY.set(path.strip_prefix("/provoke/clock/")?.parse().ok()?);
    Some(web_sys::Response::new())
}
