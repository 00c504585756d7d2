//! `cargo xtask bench`: builds the origin as it is shipped, starts it beside its peers on one durable
//! MySQL and one Redis, has the `bench` program put the load on them, and stops everything however
//! that ends. Its data are its own and are dropped before and after.

mod edge;
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
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
const RUN_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Divisible by the usual number of the peers' processes, so that all have the same.
const MYSQL_CONNECTIONS: u32 = 18;

/// Of each peer, if nothing else is said.
const PEER_PROCESSES: u32 = 3;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Orders a second, their cost and their latency: the origin, the seed's design, the same
    /// repaired, and the bare SQL, interleaved
    Order(OrderArgs),
    /// The CPU of a request at the edge: our Wasm beside JavaScript that does the same, on bare workerd
    Edge(ReadArgs),
    /// Reads of the catalogue at the origin, beside a constant behind the same layers and the seed's design
    Catalog(ReadArgs),
    /// Chinese words in a million names, beside LIKE; deep pages; memory with 100,000 SKUs
    Search(SearchArgs),
    /// 256 connections for a minute on a stock of 1,000: exactly that much must be sold
    Storm(StormArgs),
}

#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Seconds of one contestant's turn in a round
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds; the report shows the median
    #[arg(long)]
    rounds: Option<u64>,
    /// Connections to each server
    #[arg(long)]
    connections: Option<u64>,
    /// Processes of each peer
    #[arg(long, default_value_t = PEER_PROCESSES)]
    processes: u32,
    /// Passed on to the bench program: --only <part of a contest's name>, --bare-connections <n>
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Seconds of one contestant's turn in a round
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds; the report shows the median
    #[arg(long)]
    rounds: Option<u64>,
    /// Passed on to the bench program: --connections <n>
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Words of each kind
    #[arg(long)]
    turns: Option<u64>,
}

#[derive(Debug, Args)]
pub struct StormArgs {
    /// Seconds of load
    #[arg(long)]
    seconds: Option<u64>,
    /// Connections
    #[arg(long)]
    connections: Option<u64>,
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
    ["mysql", "redis", "keys", "edge"].iter().try_for_each(|folder| remove_dir(&context.state.join(folder)))
}

fn measure(context: &Context, fleet: &mut Fleet, wanted: &BenchCommand) -> Result<ExitCode> {
    let run = match wanted {
        BenchCommand::Edge(args) => return edge::measure(context, fleet, args),
        BenchCommand::Order(args) => Run {
            name: "order",
            prepare: "prepare",
            peers: &["seed", "repaired"],
            processes: args.processes,
            other: None,
            options: vec![
                ("seconds", args.seconds),
                ("rounds", args.rounds),
                ("connections", args.connections),
            ],
            rest: &args.rest,
        },
        BenchCommand::Storm(args) => Run {
            name: "storm",
            prepare: "prepare",
            peers: &[],
            processes: 0,
            other: None,
            options: vec![("seconds", args.seconds), ("connections", args.connections)],
            rest: &[],
        },
        BenchCommand::Catalog(args) => Run {
            name: "catalog",
            prepare: "prepare-catalog",
            peers: &["seed"],
            processes: PEER_PROCESSES,
            other: None,
            options: vec![("seconds", args.seconds), ("rounds", args.rounds)],
            rest: &args.rest,
        },
        BenchCommand::Search(args) => Run {
            name: "search",
            prepare: "prepare-search",
            peers: &[],
            processes: 0,
            other: Some(("origin-100k", "farmgate_100k")),
            options: vec![("turns", args.turns)],
            rest: &[],
        },
    };
    let (mysql, redis, peer) = provision::bench(context)?;
    let programs = build(context)?;
    let mut stand = Stand::start_servers(context, fleet, (mysql, redis), programs)?;
    stand.peers(run.peers, run.processes)?;
    if let Some((name, database)) = run.other {
        stand.other(name, database)?;
    }
    stand.start(fleet, &peer, run.prepare)?;
    let plan = stand.write_plan(fleet)?;
    let mut command = bench_command(context, &stand.bench, &plan, run.name, &run.options);
    command.args(run.rest);
    finish(context, fleet, command, run.name)
}

/// One run on MySQL, Redis and the origin.
struct Run<'a> {
    /// The `bench` program's command, and the name of the JSON.
    name: &'static str,
    /// Its command that fills the schemas.
    prepare: &'static str,
    /// Modes of the peer on Express, and how many processes each has.
    peers: &'static [&'static str],
    processes: u32,
    /// A second origin and its database.
    other: Option<(&'static str, &'static str)>,
    options: Vec<(&'static str, Option<u64>)>,
    rest: &'a [String],
}

/// The `bench` program with its plan, its options and where its JSON goes. What is not given is as that program has it.
fn bench_command(
    context: &Context,
    program: &Path,
    plan: &Path,
    name: &str,
    options: &[(&str, Option<u64>)],
) -> Command {
    let mut command = context.command(program);
    command.arg("--plan").arg(plan).arg(name).arg("--json").arg(json_of(context, name));
    for (option, value) in options {
        if let Some(value) = value {
            command.arg(format!("--{option}")).arg(value.to_string());
        }
    }
    command
}

fn json_of(context: &Context, name: &str) -> PathBuf {
    context.state.join(format!("{name}.json"))
}

/// Runs it before the user's eyes and says where all of the result is.
fn finish(context: &Context, fleet: &mut Fleet, command: Command, name: &str) -> Result<ExitCode> {
    let json = json_of(context, name);
    run_file::remove_file(&json);
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
