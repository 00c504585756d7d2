//! Every setting, read once. `config.default.toml` is compiled in and is the reference; a file and the environment
//! come over it. What is read here is checked here: a process that starts has all that it needs.

mod checks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use farmgate_shared::edge_auth::EdgeKey;
use farmgate_shared::limits::Rate;
use farmgate_shared::money::Fen;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::limits::model::{Bucket, Class, Who};
use crate::outbox::model::Retries;

const DEFAULTS: &str = include_str!("../config.default.toml");

/// All settings; the sections and keys are those of `config.default.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub environment: Environment,
    pub clock: ClockConfig,
    pub runtime: RuntimeConfig,
    pub http: HttpConfig,
    pub mysql: MysqlConfig,
    pub redis: RedisConfig,
    pub jwt: JwtConfig,
    pub edge: EdgeConfig,
    pub limits: LimitsConfig,
    pub crypto: CryptoConfig,
    pub wechat: WechatConfig,
    pub pay: PayConfig,
    pub bills: BillsConfig,
    pub orders: OrdersConfig,
    pub shipping: ShippingConfig,
    pub messages: MessagesConfig,
    pub freight: FreightConfig,
    pub catalog: CatalogConfig,
    pub worker: WorkerConfig,
    pub outbox: OutboxConfig,
    pub refunds: RefundsConfig,
    pub metrics: MetricsConfig,
    pub log: LogConfig,
}

/// Where this process runs. Anything but development refuses weak secrets and plain HTTP towards WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Development,
    Staging,
    Production,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockConfig {
    offset_seconds: i64,
}

impl ClockConfig {
    /// What is added to the machine's time.
    pub fn offset(&self) -> time::Duration {
        time::Duration::seconds(self.offset_seconds)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    threads: usize,
}

impl RuntimeConfig {
    /// Threads that serve requests, at least one.
    pub fn threads(&self) -> usize {
        let half_of_the_cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let threads = if self.threads == 0 { half_of_the_cores() } else { self.threads };
        threads.max(1)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    pub public_url: String,
    request_timeout_ms: u64,
    double_tap_seconds: u32,
}

impl HttpConfig {
    /// Time after which a request is answered with a 503.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Two equal requests without a key, closer than this, are one.
    pub fn double_tap(&self) -> time::Duration {
        time::Duration::seconds(self.double_tap_seconds.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MysqlConfig {
    pub url: SecretString,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
    pub away_after_ms: u64,
    pub answer_timeout_ms: u64,
    pub lock_wait_seconds: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    pub url: SecretString,
    pub prefix: String,
    pub response_timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    pub private_key_file: PathBuf,
    pub kid: String,
    pub public_keys_file: PathBuf,
    pub ttl_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    pub keys: SecretString,
    pub max_skew_seconds: u64,
}

impl EdgeConfig {
    /// The keys that an edge may sign with.
    ///
    /// # Errors
    /// When none is given or one is malformed or short.
    pub fn keys(&self) -> anyhow::Result<Vec<EdgeKey>> {
        EdgeKey::parse_list(self.keys.expose_secret()).context("edge.keys")
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    own_share_percent: u32,
    address_reads: Rate,
    address_writes: Rate,
    address_orders: Rate,
    address_logins: Rate,
    user_reads: Rate,
    user_writes: Rate,
    user_orders: Rate,
    user_logins: Rate,
}

impl LimitsConfig {
    fn whole(&self, bucket: Bucket) -> Rate {
        let is_address = matches!(bucket.who, Who::Network(_) | Who::Unknown);
        match (is_address, bucket.class) {
            (true, Class::Reads) => self.address_reads,
            (true, Class::Writes) => self.address_writes,
            (true, Class::Orders) => self.address_orders,
            (true, Class::Logins) => self.address_logins,
            (false, Class::Reads) => self.user_reads,
            (false, Class::Writes) => self.user_writes,
            (false, Class::Orders) => self.user_orders,
            (false, Class::Logins) => self.user_logins,
        }
    }

    /// What a process lets pass by its own count.
    pub fn share(&self, bucket: Bucket) -> Rate {
        self.whole(bucket).split(self.own_share_percent).0
    }

    /// What all processes together let pass beyond their shares.
    pub fn rest(&self, bucket: Bucket) -> Rate {
        self.whole(bucket).split(self.own_share_percent).1
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CryptoConfig {
    pub data_keys: SecretString,
    pub index_key: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatConfig {
    pub appid: String,
    pub secret: SecretString,
    pub base_url: String,
    pub timeout_ms: u64,
    pub phone: Switch,
}

/// Whether something that costs money is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayConfig {
    pub mchid: String,
    pub merchant_serial: String,
    pub merchant_private_key_file: PathBuf,
    pub api_v3_key: SecretString,
    pub platform_keys: String,
    pub base_url: String,
    /// Empty for none.
    pub backup_base_url: String,
    pub notify_url: String,
    pub connect_timeout_ms: u64,
    pub refund_notify_url: String,
    pub timeout_ms: u64,
    pub call_within_ms: u64,
    notification_within_ms: u32,
    ask_after_seconds: u32,
}

impl PayConfig {
    /// How long keeping a notification and acting on it may take together.
    pub fn notification_within(&self) -> Duration {
        Duration::from_millis(self.notification_within_ms.into())
    }

    /// After this long without a word, WeChat is asked whether a prepared payment was made.
    pub fn ask_after(&self) -> Duration {
        Duration::from_secs(self.ask_after_seconds.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillsConfig {
    /// Days whose bills the worker fetches by itself, yesterday included; 0 for none.
    pub look_back_days: u32,
    retry_seconds: u32,
}

impl BillsConfig {
    /// After a day that could not be reconciled.
    pub fn retry(&self) -> Duration {
        Duration::from_secs(self.retry_seconds.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersConfig {
    pub pay_window_seconds: u32,
    pub complete_after_seconds: u32,
    pub description: String,
    pub most_at_once: usize,
    pub most_without_gate: usize,
    pub twin_within_ms: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippingConfig {
    /// Whether WeChat is told of shipments.
    pub upload: bool,
    unknown_retry_ms: u32,
}

impl ShippingConfig {
    /// Time after which a payment that WeChat's shipping service does not know yet is asked for again.
    pub fn unknown_retry(&self) -> Duration {
        Duration::from_millis(self.unknown_retry_ms.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessagesConfig {
    pub page: String,
    pub state: String,
    pub paid_template: String,
    pub paid_fields: String,
    pub shipped_template: String,
    pub shipped_fields: String,
    pub refunded_template: String,
    pub refunded_fields: String,
}

impl MessagesConfig {
    /// Whether any message is sent.
    pub fn is_on(&self) -> bool {
        [&self.paid_template, &self.shipped_template, &self.refunded_template]
            .iter()
            .any(|id| !id.trim().is_empty())
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreightConfig {
    flat_fen: i64,
    free_from_fen: i64,
}

impl FreightConfig {
    /// What delivering one order costs.
    pub fn flat(self) -> Fen {
        Fen(self.flat_fen)
    }

    /// The goods' sum from which delivery is free.
    pub fn free_from(self) -> Fen {
        Fen(self.free_from_fen)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    refresh_ms: u64,
    stock_refresh_ms: u64,
    /// SKUs whose stock each look reads beside those that changed.
    pub stock_sweep: u32,
}

impl CatalogConfig {
    pub fn refresh(&self) -> Duration {
        Duration::from_millis(self.refresh_ms)
    }

    pub fn stock_refresh(&self) -> Duration {
        Duration::from_millis(self.stock_refresh_ms)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    interval_ms: u64,
}

impl WorkerConfig {
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxConfig {
    poll_ms: u64,
    attempts: u32,
    first_retry_ms: u32,
    longest_retry_ms: u32,
    resend_after_ms: u32,
    calls: usize,
    call_lease_ms: u32,
    away_retry_ms: u32,
}

impl OutboxConfig {
    /// Between two looks for new events.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub fn retries(&self) -> Retries {
        Retries {
            attempts: self.attempts,
            first: Duration::from_millis(self.first_retry_ms.into()),
            longest: Duration::from_millis(self.longest_retry_ms.into()),
        }
    }

    /// How long an event that was sent may take before it counts as lost.
    pub fn resend_after(&self) -> Duration {
        Duration::from_millis(self.resend_after_ms.into())
    }

    /// Calls of one consumer under way at a time, at least one.
    pub fn calls(&self) -> usize {
        self.calls.max(1)
    }

    /// How long a worker has a delivery that it calls for to itself; the call may take half of it.
    pub fn call_lease(&self) -> Duration {
        Duration::from_millis(self.call_lease_ms.into())
    }

    /// Between two calls for an event while the other side is away.
    pub fn away_retry(&self) -> Duration {
        Duration::from_millis(self.away_retry_ms.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundsConfig {
    spacing_ms: u32,
    first_retry_ms: u32,
    longest_retry_ms: u32,
    lease_ms: u32,
}

impl RefundsConfig {
    /// Between two refunds of one order.
    pub fn spacing(&self) -> Duration {
        Duration::from_millis(self.spacing_ms.into())
    }

    /// The wait after the first attempt that decided nothing; it doubles with each one.
    pub fn first_retry(&self) -> Duration {
        Duration::from_millis(self.first_retry_ms.into())
    }

    pub fn longest_retry(&self) -> Duration {
        Duration::from_millis(self.longest_retry_ms.into())
    }

    /// How long a refund is the worker's that took it.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    listen: String,
}

impl MetricsConfig {
    /// `None` for no metrics.
    ///
    /// # Errors
    /// When it is no address.
    pub fn listen(&self) -> anyhow::Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        self.listen.parse().map(Some).context("the setting metrics.listen is no address and port")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads the defaults, then `file`, then the environment.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown or a value has the wrong type.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            ensure!(file.is_file(), "the configuration file {} does not exist", file.display());
            figment = figment.merge(Toml::file(file));
        }
        with_variables(figment, std::env::vars()).extract().context("reading the settings")
    }
}

/// Lays the variables `FARMGATE_<SECTION>__<KEY>` (and `FARMGATE_ENVIRONMENT`) over `figment`. A setting that is text
/// stays text to the letter: a merchant number or a key made of digits must not turn into a number on the way.
fn with_variables(figment: Figment, variables: impl Iterator<Item = (String, String)>) -> Figment {
    let mut merged = figment.clone();
    for (name, value) in variables {
        let Some(name) = name.strip_prefix("FARMGATE_") else { continue };
        if name != "ENVIRONMENT" && !name.contains("__") {
            continue; // a variable of the tools around us, such as the cache folder
        }
        let path = name.to_lowercase().replace("__", ".");
        // Every setting that is not text is a whole number; what is none is refused by the setting's own type.
        let is_text = !figment.find_value(&path).is_ok_and(|default| matches!(default, Value::Num(..)));
        let value = match value.parse::<i64>() {
            Ok(number) if !is_text => Value::from(number),
            _ => Value::from(value),
        };
        merged = merged.merge(Serialized::global(&path, value));
    }
    merged
}

/// The environment variable of a setting.
fn variable(name: &str) -> String {
    format!("FARMGATE_{}", name.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_name_every_setting_and_no_secret() {
        let config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        assert_eq!(config.environment, Environment::Development);
        assert!(config.edge.keys.expose_secret().is_empty());
        let error = config.check_for_serving().unwrap_err().to_string();
        assert!(error.contains("mysql.url") && error.contains("FARMGATE_MYSQL__URL"), "{error}");
    }

    #[test]
    fn text_from_the_environment_stays_text() {
        let variables = [
            ("FARMGATE_PAY__MCHID", "0123456789"),
            ("FARMGATE_PAY__API_V3_KEY", "12345678901234567890123456789012"),
            ("FARMGATE_MYSQL__MAX_CONNECTIONS", "7"),
            ("FARMGATE_ENVIRONMENT", "production"),
            ("FARMGATE_CACHE", "/somewhere"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config: Config =
            with_variables(Figment::from(Toml::string(DEFAULTS)), variables.into_iter()).extract().unwrap();
        assert_eq!(config.pay.mchid, "0123456789");
        assert_eq!(config.pay.api_v3_key.expose_secret(), "12345678901234567890123456789012");
        assert_eq!(config.mysql.max_connections, 7);
        assert_eq!(config.environment, Environment::Production);
        let misspelt = [("FARMGATE_PAY__MCHIDD".to_owned(), "1".to_owned())];
        let misspelt = with_variables(Figment::from(Toml::string(DEFAULTS)), misspelt.into_iter());
        assert!(misspelt.extract::<Config>().unwrap_err().to_string().contains("mchidd"));
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let misspelt = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string("[http]\nlisten_on = \"x\""));
        assert!(misspelt.extract::<Config>().is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        let set =
            Figment::from(Toml::string(DEFAULTS)).merge(Toml::string("[wechat]\nsecret = \"hush-hush\""));
        let config: Config = set.extract().unwrap();
        assert!(!format!("{config:?}").contains("hush-hush"));
    }
}
