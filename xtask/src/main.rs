//! `cargo xtask`: the developer's commands. Each does all of its own set-up, says every step as it
//! goes, and leaves nothing running or half-written when it fails or is interrupted.

mod bench;
mod cache;
mod context;
mod demo;
mod down;
mod edge_build;
mod edge_bundle;
mod edge_deploy;
mod edge_host;
mod endpoints;
mod fleet;
mod identity;
mod net;
mod ports;
mod process;
mod progress;
mod provision;
mod run_file;
mod stack;
mod stop;
mod test;
mod test_servers;
mod up;

use clap::{Parser, Subcommand};
use context::Context;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Run, test and build Farmgate", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole shop: MySQL, Redis, wechat-sim, origin, worker and edge
    Up(up::UpArgs),
    /// Stop the running shop
    Down,
    /// Run every check there is, with servers of its own
    Test(test::TestArgs),
    /// Run randomised crash trials of the origin, each with a seed that can be replayed
    Trials(test::TrialsArgs),
    /// Walk a shopper's whole way through the running shop
    Demo(demo::DemoArgs),
    /// Measure orders, reads and searches beside their peers, or storm one SKU
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Build the edge's Wasm into edge/build (quick when nothing changed)
    EdgeBuild(edge_build::EdgeBuildArgs),
    /// Fetch everything that `up` and `test` need, and start nothing
    Fetch,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(&args),
        Command::Down => down::run(&Context::open()?),
        Command::Test(args) => test::run(&Context::open()?, &args),
        Command::Trials(args) => test::run_trials(&Context::open()?, &args),
        Command::Demo(args) => demo::run(&Context::open()?, &args),
        Command::Bench(command) => bench::run(&Context::open()?, &command),
        Command::EdgeBuild(args) => edge_build::run(&Context::open()?, &args),
        Command::Fetch => provision::run(&Context::open()?),
    }
}
