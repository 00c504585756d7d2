//! What `cargo xtask bench` runs between starting the servers and stopping them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use farmgate_bench::edge::{self, EdgePlan};
use farmgate_bench::peer::{self, Server};
use farmgate_bench::plan::Plan;
use farmgate_bench::{catalog, commit, order, search, shop, storm, stub};
use serde::Serialize;

#[derive(Debug, Parser)]
#[command(about = "Measures orders and reads; started by `cargo xtask bench`")]
struct Cli {
    /// Where everything answers, and which process is which
    #[arg(long, global = true, default_value = "plan.json")]
    plan: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fills the schemas, before any server but MySQL and Redis is started
    Prepare,
    /// The same for `catalog`
    PrepareCatalog,
    /// The same for `search`
    PrepareSearch,
    /// Becomes a peer of the plan, `seed` or `repaired`; `NODE_PATH` is where its packages are
    Peer {
        mode: String,
        /// Its `server.js`
        #[arg(long)]
        server: PathBuf,
    },
    /// Serves a stub of the origin to the edges that are measured
    Stub {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Writes down what an edge answers, for the constant workers
    EdgeCapture {
        #[arg(long)]
        edge: SocketAddr,
        #[arg(long)]
        out: PathBuf,
    },
    /// Measures the edge beside workers in JavaScript
    Edge {
        #[command(flatten)]
        options: edge::Options,
        /// Where the JSON goes
        #[arg(long)]
        json: PathBuf,
    },
    /// Measures reads of the catalogue at the origin beside a constant and the seed's design
    Catalog {
        #[command(flatten)]
        options: catalog::Options,
        /// Where the JSON goes
        #[arg(long)]
        json: PathBuf,
    },
    /// Measures searches in a million names beside `LIKE`
    Search {
        #[command(flatten)]
        options: search::Options,
        /// Where the JSON goes
        #[arg(long)]
        json: PathBuf,
    },
    /// Measures the origin beside its peers; fails when somebody but the seed oversold, or a book is wrong
    Order {
        #[command(flatten)]
        options: order::Options,
        /// Where the JSON goes
        #[arg(long)]
        json: PathBuf,
    },
    /// 256 connections for a minute on a stock of 1,000; fails when not exactly that much is sold
    Storm {
        #[command(flatten)]
        options: storm::Options,
        /// Where the JSON goes
        #[arg(long)]
        json: PathBuf,
    },
}

// One thread: the load generator shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let plan = || Plan::read(&cli.plan);
    match cli.command {
        Command::Prepare => {
            prepare(&plan()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::PrepareCatalog => {
            catalog::prepare(&plan()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::PrepareSearch => {
            search::prepare(&plan()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Peer { mode, server } => match Server::of(&plan()?, &mode)?.become_it(&server)? {},
        Command::Stub { listen } => {
            stub::serve(listen).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::EdgeCapture { edge, out } => {
            edge::capture(edge, &out).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Edge { options, json } => {
            let report = edge::run(&EdgePlan::read(&cli.plan)?, &options).await?;
            keep(&json, &report)?;
            println!("{}", report.text());
            Ok(ExitCode::SUCCESS)
        }
        Command::Catalog { options, json } => {
            let report = catalog::run(&plan()?, &options).await?;
            keep(&json, &report)?;
            println!("{}", report.text());
            Ok(ExitCode::SUCCESS)
        }
        Command::Search { options, json } => {
            let report = search::run(&plan()?, options).await?;
            keep(&json, &report)?;
            println!("{}", report.text());
            Ok(ExitCode::SUCCESS)
        }
        Command::Order { options, json } => {
            let report = order::run(&plan()?, &options).await?;
            keep(&json, &report)?;
            println!("{}", report.text());
            Ok(code(&report.broken))
        }
        Command::Storm { options, json } => {
            let report = storm::run(&plan()?, options).await?;
            keep(&json, &report)?;
            println!("{}", report.text());
            Ok(code(&report.broken))
        }
    }
}

async fn prepare(plan: &Plan) -> Result<()> {
    shop::make(plan, &plan.origin.database).await.context("the origin's schema")?;
    shop::sell_out(&plan.database_url(&plan.origin.database)).await.context("selling a SKU out")?;
    for (mode, peer) in &plan.peers {
        peer::prepare(
            &plan.mysql_url,
            &plan.redis_url,
            &peer.database,
            &peer.prefix,
            &shop::users(),
            &shop::stocked(),
        )
        .await
        .with_context(|| format!("filling the schema of the peer {mode}"))?;
    }
    if !plan.peers.is_empty() {
        shop::make(plan, order::BARE_DATABASE).await.context("the bare loop's schema")?;
        commit::prepare(&plan.mysql_url, order::COMMIT_DATABASE).await?;
    }
    Ok(())
}

fn code(broken: &[String]) -> ExitCode {
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn keep(path: &Path, report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
