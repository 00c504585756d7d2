//! Asking the host's own limiters, which count for all isolates of a place. One that is not there, fails or answers
//! something else is no reason to stop, nor to let everything through: the isolate's own count decides.

use std::cell::{Cell, RefCell};

use worker::js_sys::futures::JsFuture;
use worker::js_sys::{Function, Object, Promise, Reflect};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::{Env, console_error, console_warn};

use super::{Count, Kind, Local, Rates};

/// How long a client waits whom the host refused; hosts count over at least this long and do not say more.
const HOST_WAIT_US: u64 = 10_000_000;

/// All limiters of an isolate.
#[derive(Debug)]
pub struct Limits {
    address: Option<JsValue>,
    user: Option<JsValue>,
    login: Option<JsValue>,
    local: RefCell<Local>,
    has_warned: Cell<bool>,
}

impl Limits {
    /// The host's limiters are the bindings `LIMIT_ADDRESS`, `LIMIT_USER` and `LIMIT_LOGIN`.
    #[must_use]
    pub fn new(env: &Env, rates: Rates) -> Limits {
        let binding = |name: &str| Reflect::get(env, &name.into()).ok().filter(JsValue::is_object);
        Limits {
            address: binding("LIMIT_ADDRESS"),
            user: binding("LIMIT_USER"),
            login: binding("LIMIT_LOGIN"),
            local: RefCell::new(Local::new(rates)),
            has_warned: Cell::new(false),
        }
    }

    /// Counts a request from an address, or of a shopper. `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// In how many microseconds it may come again.
    pub async fn count(&self, count: Option<Count>, now: u64) -> Result<(), u64> {
        let Some(count) = count else {
            if !self.has_warned.replace(true) {
                console_warn!(
                    "the host tells no client's address (CLIENT_IP_HEADER): no limit by address holds"
                );
            }
            return Ok(());
        };
        let binding = match count.kind {
            Kind::Address => &self.address,
            Kind::User => &self.user,
            Kind::Login => &self.login,
        };
        if let Some(binding) = binding {
            match ask(binding, count).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(HOST_WAIT_US),
                Err(error) => console_error!("the host's limiter failed, counting here: {error:?}"),
            }
        }
        self.local.borrow_mut().take(count, now)
    }
}

/// Whether the host lets this request through.
async fn ask(binding: &JsValue, count: Count) -> Result<bool, JsValue> {
    let limit: Function = Reflect::get(binding, &"limit".into())?.dyn_into()?;
    let options = Object::new();
    Reflect::set(&options, &"key".into(), &count.to_string().into())?;
    let promise: Promise = limit.call1(binding, &options)?.dyn_into()?;
    let outcome = JsFuture::from(promise).await?;
    Reflect::get(&outcome, &"success".into())?.as_bool().ok_or_else(|| "no `success` in its answer".into())
}
