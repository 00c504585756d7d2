//! WeChat's servers: login, the mini-program's server API, and Pay v3. Every address, key and serial is a setting, so any server that speaks the
//! protocol can stand at the other end.

mod access_token;
#[cfg(test)]
mod hostile;
pub mod login;
pub mod mini;
pub mod notify;
pub mod pay;
pub mod phone;
pub mod platform;
mod public_key;
pub mod sign;
pub mod skew;
pub mod text_check;

use std::time::Duration;

use anyhow::Context;

/// One HTTP client for one of WeChat's hosts.
///
/// # Errors
/// When TLS cannot be set up.
fn http_client(timeout_ms: u64) -> anyhow::Result<reqwest::Client> {
    http_builder(Duration::from_millis(timeout_ms)).build().context("preparing the HTTP client")
}

fn http_builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .user_agent(concat!("farmgate/", env!("CARGO_PKG_VERSION")))
        // WeChat never redirects; following one would carry credentials to a stranger.
        .redirect(reqwest::redirect::Policy::none())
}

/// What is wrong with an answer's form. The error's own text quotes the value that it did not expect, which may be a
/// shopper's number.
fn without_values(error: &serde_json::Error) -> String {
    format!("{:?} at line {}, column {}", error.classify(), error.line(), error.column())
}
