//! What is checked at the start. Promises an operator that a process which serves has settings that can work, and a shop
//! that outside development no secret is missing, short or known; each refusal names its setting.

use anyhow::{bail, ensure};
use secrecy::ExposeSecret;

use super::{Config, Environment, variable};

impl Config {
    /// Checks what serving needs and no type can say.
    ///
    /// # Errors
    /// One that names the first setting that is missing, weak or wrong.
    pub fn check_for_serving(&self) -> anyhow::Result<()> {
        let required = [
            ("mysql.url", self.mysql.url.expose_secret()),
            ("redis.url", self.redis.url.expose_secret()),
            ("redis.prefix", self.redis.prefix.as_str()),
            ("jwt.kid", self.jwt.kid.as_str()),
            ("edge.keys", self.edge.keys.expose_secret()),
            ("crypto.data_keys", self.crypto.data_keys.expose_secret()),
            ("wechat.appid", self.wechat.appid.as_str()),
            ("wechat.secret", self.wechat.secret.expose_secret()),
            ("pay.mchid", self.pay.mchid.as_str()),
            ("pay.merchant_serial", self.pay.merchant_serial.as_str()),
            ("pay.platform_keys", self.pay.platform_keys.as_str()),
            ("pay.notify_url", self.pay.notify_url.as_str()),
            ("pay.refund_notify_url", self.pay.refund_notify_url.as_str()),
        ];
        for (name, value) in required {
            ensure!(!value.trim().is_empty(), "the setting {name} is missing ({})", variable(name));
        }
        for (name, value) in [
            ("jwt.private_key_file", &self.jwt.private_key_file),
            ("pay.merchant_private_key_file", &self.pay.merchant_private_key_file),
        ] {
            ensure!(value.is_file(), "the setting {name} ({}) names no file", variable(name));
        }
        ensure!(
            self.pay.api_v3_key.expose_secret().len() == 32,
            "the setting pay.api_v3_key ({}) must have 32 bytes",
            variable("pay.api_v3_key")
        );
        self.check_wechats_limits()?;
        ensure!(self.pay.ask_after_seconds >= 1, "pay.ask_after_seconds must be at least 1");
        ensure!(
            (1..=self.pay.call_within_ms).contains(&self.pay.timeout_ms),
            "pay.timeout_ms must be from 1 to pay.call_within_ms"
        );
        ensure!(self.pay.notification_within_ms >= 100, "pay.notification_within_ms must be at least 100");
        ensure!(
            self.orders.twin_within_ms <= 30_000,
            "orders.twin_within_ms must be at most 30000: so long the gate knows of an equal request"
        );
        ensure!(self.orders.pay_window_seconds >= 60, "orders.pay_window_seconds must be at least 60");
        ensure!(
            (1..=99).contains(&self.limits.own_share_percent),
            "limits.own_share_percent must be from 1 to 99"
        );
        ensure!(
            self.bills.look_back_days <= 90 && self.bills.retry_seconds >= 1,
            "bills.look_back_days must be at most 90 and bills.retry_seconds at least 1"
        );
        self.metrics.listen()?;
        ensure!(self.outbox.attempts >= 1, "outbox.attempts must be at least 1");
        ensure!(
            self.outbox.poll_ms >= 10 && self.outbox.resend_after_ms >= 1000,
            "outbox.poll_ms must be at least 10 and outbox.resend_after_ms at least 1000"
        );
        ensure!(
            self.refunds.first_retry_ms >= 10 && self.refunds.longest_retry_ms >= self.refunds.first_retry_ms,
            "refunds.first_retry_ms must be at least 10, and refunds.longest_retry_ms no less"
        );
        ensure!(self.refunds.lease_ms >= 100, "refunds.lease_ms must be at least 100");
        ensure!(
            u64::from(self.outbox.call_lease_ms) >= 3 * self.wechat.timeout_ms,
            "outbox.call_lease_ms must be at least three times wechat.timeout_ms"
        );
        ensure!(self.outbox.away_retry_ms >= 10, "outbox.away_retry_ms must be at least 10");
        ensure!(self.freight.flat_fen >= 0 && self.freight.free_from_fen >= 0, "freight cannot be negative");
        if self.environment != Environment::Development {
            self.check_for_public_use()?;
        }
        Ok(())
    }

    /// What WeChat would refuse in every prepay, told at the start.
    fn check_wechats_limits(&self) -> anyhow::Result<()> {
        let description = &self.orders.description;
        ensure!(
            (1..=127).contains(&description.len()) && description.chars().all(|c| u32::from(c) <= 0xFFFF),
            "the setting orders.description must have 1 to 127 bytes and no emoji (WeChat's limit)"
        );
        for (name, id) in [("wechat.appid", &self.wechat.appid), ("pay.mchid", &self.pay.mchid)] {
            ensure!(id.len() <= 32, "the setting {name} must have at most 32 bytes (WeChat's limit)");
        }
        let urls = [
            ("pay.notify_url", &self.pay.notify_url),
            ("pay.refund_notify_url", &self.pay.refund_notify_url),
        ];
        for (name, url) in urls {
            ensure!(
                url.len() <= 255 && !url.contains(['?', '#']),
                "the setting {name} must have at most 255 bytes and no query (WeChat's limit)"
            );
        }
        Ok(())
    }

    fn check_for_public_use(&self) -> anyhow::Result<()> {
        ensure!(self.clock.offset_seconds == 0, "clock.offset_seconds is for development");
        for (name, url) in [
            ("wechat.base_url", &self.wechat.base_url),
            ("pay.base_url", &self.pay.base_url),
            ("pay.notify_url", &self.pay.notify_url),
            ("pay.refund_notify_url", &self.pay.refund_notify_url),
            ("http.public_url", &self.http.public_url),
        ] {
            ensure!(url.starts_with("https://"), "outside development {name} must be https");
        }
        let backup = &self.pay.backup_base_url;
        ensure!(
            backup.is_empty() || backup.starts_with("https://"),
            "outside development pay.backup_base_url must be https, or empty for none"
        );
        ensure!(
            !self.crypto.index_key.expose_secret().is_empty(),
            "outside development the setting crypto.index_key ({}) must be given",
            variable("crypto.index_key")
        );
        for (name, secret) in
            [("wechat.secret", &self.wechat.secret), ("pay.api_v3_key", &self.pay.api_v3_key)]
        {
            let secret = secret.expose_secret();
            let letters: std::collections::HashSet<char> = secret.chars().collect();
            if secret.len() < 16 || letters.len() < 8 {
                bail!("outside development the secret {name} must not be short or a placeholder");
            }
        }
        Ok(())
    }
}
