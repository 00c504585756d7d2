//! Everything the simulator remembers, in memory: who logged in, which orders were opened, paid or closed, which nonces
//! were used, which calls came. A new process starts empty, but for openids, which prove themselves and therefore
//! outlive it: a shop's users stay known. Locks are held for moments and never across an await.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::offset;

use crate::auth::MAX_SKEW_SECONDS;
use crate::bills::Files;
use crate::faults::Faults;
use crate::holding::Holding;
use crate::keys::{Keys, Merchant};
use crate::messages::Messages;
use crate::notify::Notice;
use crate::pay::Prepay;
use crate::phone::Phones;
use crate::refunds::Refunds;
use crate::shipping::Shipments;
use crate::token::Tokens;

/// The whole simulator, shared by all handlers.
pub type Shared = Arc<Sim>;

#[derive(Debug)]
pub struct Sim {
    pub keys: Keys,
    /// Calls the shop's notification address.
    pub http: reqwest::Client,
    /// How long the shop may take to answer a notification.
    pub answer_within: Duration,
    books: Mutex<Books>,
}

/// What changes while the simulator runs.
#[derive(Debug, Default)]
pub struct Books {
    /// By `out_trade_no`.
    pub orders: HashMap<String, Order>,
    pub refunds: Refunds,
    pub nonces: Nonces,
    pub logins: Logins,
    pub tokens: Tokens,
    pub shipments: Shipments,
    pub messages: Messages,
    pub phones: Phones,
    pub faults: Faults,
    pub holding: Holding,
    pub bills: Files,
    pub log: Log,
    /// Notifications kept back until a later one was delivered.
    pub held: Vec<Notice>,
}

impl Sim {
    pub fn new(keys: Keys, http: reqwest::Client, answer_within: Duration) -> Shared {
        Arc::new(Sim { keys, http, answer_within, books: Mutex::default() })
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        // A handler that panicked half-way cannot leave the books worse than a lost reply would.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prepay and what became of it.
#[derive(Clone, Debug)]
pub struct Order {
    pub prepay: Prepay,
    /// The prepay's body as it came, to the byte: a second one must equal it.
    pub request: Value,
    pub prepay_id: String,
    /// Seconds since 1970.
    pub opened_at: i64,
    pub state: TradeState,
    pub payment: Option<Payment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeState {
    NotPay,
    Success,
    Closed,
    /// Paid, and some or all of it refunded.
    Refund,
}

impl TradeState {
    pub fn name(self) -> &'static str {
        match self {
            TradeState::NotPay => "NOTPAY",
            TradeState::Success => "SUCCESS",
            TradeState::Closed => "CLOSED",
            TradeState::Refund => "REFUND",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            TradeState::NotPay => "订单未支付",
            TradeState::Success => "支付成功",
            TradeState::Closed => "订单已关闭",
            TradeState::Refund => "转入退款",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Payment {
    /// 28 digits.
    pub transaction_id: String,
    /// RFC 3339, +08:00.
    pub success_time: String,
    pub bank_type: &'static str,
}

/// The nonces that signed requests spent, for as long as their timestamps could pass.
#[derive(Debug, Default)]
pub struct Nonces {
    spent: HashSet<String>,
    by_age: VecDeque<(i64, String)>,
}

impl Nonces {
    /// Whether the nonce is new; it is not from now on.
    pub fn spend(&mut self, nonce: &str, now: i64) -> bool {
        while self.by_age.front().is_some_and(|(spent_at, _)| now - spent_at > 2 * MAX_SKEW_SECONDS) {
            if let Some((_, old)) = self.by_age.pop_front() {
                self.spent.remove(&old);
            }
        }
        let new = self.spent.insert(nonce.to_owned());
        if new {
            self.by_age.push_back((now, nonce.to_owned()));
        }
        new
    }
}

/// Codes that work once.
#[derive(Debug, Default)]
pub struct UsedCodes(HashSet<String>);

impl UsedCodes {
    /// Whether the code is new; it is not from now on.
    pub fn use_code(&mut self, code: &str) -> bool {
        self.0.insert(code.to_owned())
    }
}

/// Codes that were used, and when each shopper logged in of late.
#[derive(Debug, Default)]
pub struct Logins {
    pub used_codes: UsedCodes,
    recent: HashMap<String, VecDeque<i64>>,
    last_seen: HashMap<String, i64>,
}

/// WeChat's limit of logins a minute and shopper.
const LOGINS_A_MINUTE: usize = 100;

impl Logins {
    /// Whether the shopper may log in once more in this minute; counts it if so.
    pub fn within_quota(&mut self, openid: &str, now: i64) -> bool {
        let recent = self.recent.entry(openid.to_owned()).or_default();
        while recent.front().is_some_and(|at| now - at >= 60) {
            recent.pop_front();
        }
        if recent.len() >= LOGINS_A_MINUTE {
            return false;
        }
        recent.push_back(now);
        self.last_seen.insert(openid.to_owned(), now);
        true
    }

    /// When the shopper logged in last.
    pub fn last_seen(&self, openid: &str) -> Option<i64> {
        self.last_seen.get(openid).copied()
    }
}

/// The calls that came, oldest first; only the newest are kept.
#[derive(Debug, Default)]
pub struct Log {
    calls: VecDeque<Call>,
}

/// One call received from the shop.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// RFC 3339, +08:00.
    pub at: String,
    pub method: String,
    /// With its query.
    pub path: String,
    /// JSON where it was JSON, text otherwise, null when there was none.
    pub body: Value,
    /// What was answered; null when the connection was dropped.
    pub status: Option<u16>,
    pub took_ms: u64,
}

const LOG_LENGTH: usize = 10_000;

impl Log {
    pub fn push(&mut self, call: Call) {
        if self.calls.len() == LOG_LENGTH {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// The calls whose path starts with `prefix`.
    pub fn starting_with(&self, prefix: &str) -> Vec<Call> {
        self.calls.iter().filter(|call| call.path.starts_with(prefix)).cloned().collect()
    }

    pub fn clear(&mut self) {
        self.calls.clear();
    }
}

/// A shopper's openid at one mini-program: `o` and 27 characters. Its last 8 bytes prove that this appid's login issued
/// it, so that nothing needs to be remembered.
pub fn openid(merchant: &Merchant, shopper: &[u8; 12]) -> String {
    let mut bytes = shopper.to_vec();
    bytes.extend_from_slice(&proof(merchant, shopper));
    format!("o{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether the login of this appid issued the openid.
pub fn is_issued(merchant: &Merchant, candidate: &str) -> bool {
    let decoded = candidate.strip_prefix('o').and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let shopper = decoded.as_deref().and_then(|bytes| bytes.first_chunk::<12>());
    shopper.is_some_and(|shopper| openid(merchant, shopper) == candidate)
}

fn proof(merchant: &Merchant, shopper: &[u8; 12]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(merchant.secret.as_bytes());
    hash.update(merchant.appid.as_bytes());
    hash.update(shopper);
    let mut proof = [0; 8];
    proof.copy_from_slice(&hash.finalize()[..8]);
    proof
}

/// The shopper of this name, the same in every process.
pub fn named_shopper(name: &str) -> [u8; 12] {
    let mut id = [0; 12];
    id.copy_from_slice(&Sha256::digest(format!("shopper:{name}"))[..12]);
    id
}

/// Seconds since 1970.
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// The moment as WeChat writes it: RFC 3339 in Beijing's time, whole seconds.
pub fn beijing_time(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|moment| moment.to_offset(offset!(+8)).format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fixture;

    #[test]
    fn an_openid_is_stable_and_belongs_to_its_appid() {
        let merchant = fixture::keys().merchant;
        let first = openid(&merchant, &named_shopper("小王"));
        assert_eq!(first, openid(&merchant, &named_shopper("小王")));
        assert_ne!(first, openid(&merchant, &named_shopper("小李")));
        assert_eq!(first.len(), 28);
        assert!(is_issued(&merchant, &first));
        let other = Merchant { appid: "wxffffffffffffffff".into(), ..merchant.clone() };
        assert!(!is_issued(&other, &first), "another mini-program's openid");
        for made_up in ["", "o", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", &first[1..]] {
            assert!(!is_issued(&merchant, made_up), "{made_up}");
        }
    }

    #[test]
    fn a_nonce_is_spent_for_as_long_as_its_time_is_good() {
        let mut nonces = Nonces::default();
        assert!(nonces.spend("a", 0));
        assert!(!nonces.spend("a", 2 * MAX_SKEW_SECONDS));
        assert!(nonces.spend("a", 2 * MAX_SKEW_SECONDS + 1));
    }

    #[test]
    fn a_shopper_logs_in_a_hundred_times_a_minute() {
        let mut logins = Logins::default();
        assert!((0..100).all(|_| logins.within_quota("o1", 1000)));
        assert!(!logins.within_quota("o1", 1059));
        assert!(logins.within_quota("o2", 1059));
        assert!(logins.within_quota("o1", 1060));
    }

    #[test]
    fn times_are_beijings() {
        assert_eq!(beijing_time(1_700_000_000), "2023-11-15T06:13:20+08:00");
    }
}
