//! `cargo xtask bench`: builds the origin as it is shipped, starts it beside its peers on one durable
//! MySQL and one Redis, has the `bench` program put the load on them, and stops everything however
//! that ends. Its data are its own and are dropped before and after.

mod stand;

use crate::cache::{Cache, remove_dir};
use crate::context::Context;
use crate::fleet::Fleet;
use crate::process;
use crate::progress::Progress;
use crate::provision;
use crate::run_file;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use stand::Stand;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
const RUN_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Divisible by the usual number of the peers' processes, so that all have the same.
const MYSQL_CONNECTIONS: u32 = 18;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Orders a second, their cost and their latency: the origin, the seed's design, the same
    /// repaired, and the bare SQL, interleaved
    Order(OrderArgs),
    /// 256 connections for a minute on a stock of 1,000: exactly that much must be sold
    Storm(StormArgs),
}

#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Seconds of one contestant's turn in a round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the report shows the median
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Connections to each server
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Processes of each peer
    #[arg(long, default_value_t = 3)]
    processes: u32,
    /// Passed on to the bench program: --only <part of a contest's name>, --bare-connections <n>
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StormArgs {
    /// Seconds of load
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections
    #[arg(long, default_value_t = 256)]
    connections: u64,
}

pub fn run(context: &Context, command: &BenchCommand) -> Result<ExitCode> {
    // Apart from the developer's own shop, which may be running.
    let context = &Context {
        root: context.root.clone(),
        state: context.state.join("bench"),
        cache: Cache::open()?,
        progress: Progress::new(),
        stop: context.stop.clone(),
    };
    let Some(mut fleet) = Fleet::claim(context)? else {
        bail!("another cargo xtask bench is running in {}", context.state.display());
    };
    drop_data(context)?;
    let result = measure(context, &mut fleet, command);
    fleet.stop_all();
    drop_data(context)?;
    result
}

fn drop_data(context: &Context) -> Result<()> {
    ["mysql", "redis", "keys"].iter().try_for_each(|folder| remove_dir(&context.state.join(folder)))
}

fn measure(context: &Context, fleet: &mut Fleet, wanted: &BenchCommand) -> Result<ExitCode> {
    let (mysql, redis, peer) = provision::bench(context)?;
    let programs = build(context)?;
    let mut stand = Stand::start_servers(context, fleet, (mysql, redis), programs)?;
    let (name, options) = match wanted {
        BenchCommand::Order(args) => {
            stand.peers(args.processes)?;
            (
                "order",
                vec![("seconds", args.seconds), ("rounds", args.rounds), ("connections", args.connections)],
            )
        }
        BenchCommand::Storm(args) => {
            ("storm", vec![("seconds", args.seconds), ("connections", args.connections)])
        }
    };
    stand.start(fleet, &peer)?;
    let plan = stand.write_plan(fleet)?;
    let json = context.state.join(format!("{name}.json"));
    run_file::remove_file(&json);
    let mut command = context.command(&stand.bench);
    command.arg("--plan").arg(plan).arg(name).arg("--json").arg(&json);
    for (option, value) in options {
        command.arg(format!("--{option}")).arg(value.to_string());
    }
    if let BenchCommand::Order(args) = wanted {
        command.args(&args.rest);
    }
    let status = process::run_visibly(command, &context.stop, RUN_LIMIT)?;
    // A server that died is the better explanation of a run that failed.
    fleet.check()?;
    if json.exists() {
        context.progress.say(format!("all of it: {}", json.display()));
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is measured is what is shipped.
fn build(context: &Context) -> Result<PathBuf> {
    let step = context.progress.step("origin and bench, as released");
    let mut command = context.command("cargo");
    command.args(["build", "--locked", "--release"]);
    for (package, program) in [
        ("farmgate-origin", "farmgate-origin"),
        ("farmgate-bench", "bench"),
        ("farmgate-tests", "wechat-sim"),
    ] {
        command.args(["--package", package, "--bin", program]);
    }
    process::run(command, &context.log("build")?, &step, &context.stop, BUILD_LIMIT)?;
    step.done("");
    Ok(context.target_dir()?.join("release"))
}
