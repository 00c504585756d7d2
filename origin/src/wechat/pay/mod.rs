//! The merchant at WeChat Pay v3. Promises its callers that every request is signed, that no reply is believed which WeChat
//! did not sign, that a call is repeated only where WeChat allows it, and that all of it ends within a set time. One file a
//! kind of call; each is an `impl PayClient` on [`PayClient::call`].

pub mod bill;
mod call;
mod close;
mod error;
mod hosts;
mod params;
mod prepay;
mod query;
pub mod refund;
mod transaction;

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use self::error::{Advice, PayError, Refusal};
use self::hosts::Hosts;
pub use self::prepay::PrepayAsked;
pub use self::transaction::{TradeState, Transaction};
use super::platform::PlatformKeys;
use super::sign::MerchantKey;
use crate::config::PayConfig;

/// The merchant at WeChat Pay.
pub struct PayClient {
    http: reqwest::Client,
    hosts: Hosts,
    /// One attempt may take this long.
    timeout: Duration,
    /// A call may take this long, its repetitions included.
    patience: Duration,
    appid: String,
    mchid: String,
    notify_url: String,
    description: String,
    merchant: MerchantKey,
    platform: PlatformKeys,
}

/// Shows no secret.
impl fmt::Debug for PayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayClient({} at {:?})", self.mchid, self.hosts)
    }
}

impl PayClient {
    /// # Errors
    /// When a key cannot be loaded.
    pub fn new(config: &PayConfig, appid: &str, description: &str) -> anyhow::Result<PayClient> {
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(PayClient {
            http: super::http_builder(timeout)
                .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
                .build()?,
            hosts: Hosts::new(&config.base_url, &config.backup_base_url),
            timeout,
            patience: Duration::from_millis(config.call_within_ms),
            appid: appid.to_owned(),
            mchid: config.mchid.clone(),
            notify_url: config.notify_url.clone(),
            description: description.to_owned(),
            merchant: MerchantKey::load(
                &config.mchid,
                &config.merchant_serial,
                &config.merchant_private_key_file,
            )?,
            platform: PlatformKeys::load(&config.platform_keys)?,
        })
    }

    pub fn appid(&self) -> &str {
        &self.appid
    }

    pub fn mchid(&self) -> &str {
        &self.mchid
    }

    pub fn platform(&self) -> &PlatformKeys {
        &self.platform
    }
}

/// What a reply says.
pub(in crate::wechat) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, PayError> {
    serde_json::from_slice(body).map_err(PayError::Malformed)
}
