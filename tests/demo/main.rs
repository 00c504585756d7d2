//! `cargo xtask demo`: a shopper's whole way through a running shop, step by step, each with the values that came.
//! Promises that what it prints was checked: the first thing that is not as it should be ends it with a non-zero exit
//! and says what was expected and what came. It may be run as often as one likes.

mod shop;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

/// Walks a shopper's whole way through a running shop.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The file in which `cargo xtask up` says where everything is
    #[arg(long, default_value = ".dev/endpoints.json")]
    endpoints: PathBuf,
    /// What stands in front of the shop's keys in Redis
    #[arg(long, default_value = "farmgate")]
    redis_prefix: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n  wrong: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shop = shop::Shop::connect(&arguments.endpoints, &arguments.redis_prefix)
            .await
            .with_context(|| "the shop cannot be reached: is `cargo xtask up` running?")?;
        walk::walk(&shop).await
    })
}
