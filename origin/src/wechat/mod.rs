//! WeChat's servers: login, and Pay v3. Every address, key and serial is a setting, so any server that speaks the
//! protocol can stand at the other end.

pub mod client;
pub mod login;
pub mod notify;
pub mod sign;

use std::time::Duration;

use anyhow::Context;

/// One HTTP client for one of WeChat's hosts.
///
/// # Errors
/// When TLS cannot be set up.
fn http_client(timeout_ms: u64) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(Duration::from_millis(timeout_ms))
        .user_agent(concat!("farmgate/", env!("CARGO_PKG_VERSION")))
        // WeChat never redirects; following one would carry credentials to a stranger.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("preparing the HTTP client")
}
