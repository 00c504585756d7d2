//! wechat-sim stands in for WeChat's servers: the mini-program's login and server API, and Pay v3, with the real service's checks,
//! signatures and errors. Promises a shop that what works here keeps to the documented protocol, and a test that it can
//! be told to misbehave (`faults.rs`, `controls.rs`). State is in memory and ends with the process; credentials are
//! files that `init` makes once.

mod auth;
mod bills;
mod controls;
mod faults;
mod holding;
mod keys;
mod login;
mod messages;
mod notify;
mod pay;
mod phone;
mod refunds;
mod reply;
mod server;
mod shipping;
mod state;
mod text_check;
mod token;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Stands in for WeChat's servers: login and Pay v3.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays the merchant console: makes the credentials and the shop's settings. Never overwrites.
    Init {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Serves; prints `listening on …` as its first line. Port 0 takes a free one.
    Serve {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// How long the answer to a notification is awaited, in milliseconds; WeChat awaits it for five seconds.
        #[arg(long, default_value_t = 5000)]
        answer_within_ms: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Init { dir } => {
            let made = keys::init(&dir)?;
            let word = if made { "made" } else { "kept" };
            println!("{word} the merchant's credentials in {}", dir.display());
            Ok(())
        }
        Command::Serve { dir, listen, answer_within_ms } => {
            let answer_within = Duration::from_millis(answer_within_ms);
            serve(state::Sim::new(keys::Keys::load(&dir)?, plain_http()?, answer_within), listen).await
        }
    }
}

async fn serve(sim: state::Shared, listen: SocketAddr) -> Result<()> {
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, server::router(sim)).with_graceful_shutdown(asked_to_stop()).await?;
    Ok(())
}

/// Ends on Ctrl-C or SIGTERM.
async fn asked_to_stop() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The client that delivers notifications. It follows no redirects, as the real service does not.
fn plain_http() -> Result<reqwest::Client> {
    // The client wants a TLS provider even for plain HTTP; a second installation is refused and means nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot make an HTTP client")
}
