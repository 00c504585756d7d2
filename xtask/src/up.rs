//! `cargo xtask up`: the whole shop, until somebody stops it or one of its parts dies.

use crate::cache::remove_dir;
use crate::context::Context;
use crate::edge_host::EdgeHost;
use crate::endpoints::Endpoints;
use crate::fleet::Fleet;
use crate::identity::Identity;
use crate::provision::{self, mysql, redis};
use crate::run_file::{RunFile, take_lock};
use crate::stack::{self, Programs};
use crate::{edge_build, net, process};
use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// From nothing, on a slow machine and network, with room to spare.
const START_LIMIT: Duration = Duration::from_secs(90 * 60);
const STOP_LIMIT: Duration = Duration::from_secs(120);
const EDGE_CHECK_EVERY: Duration = Duration::from_secs(2);
const EDGE_SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Drop the data first
    #[arg(long)]
    fresh: bool,
    /// Leave the shop running in the background; `cargo xtask down` stops it
    #[arg(long)]
    detach: bool,
    /// What the edge runs on
    #[arg(long, value_enum, default_value_t = EdgeHost::Wrangler)]
    edge: EdgeHost,
    /// The background half of --detach
    #[arg(long, hide = true)]
    supervise: bool,
}

pub fn run(args: &UpArgs) -> Result<ExitCode> {
    if args.supervise {
        // A session of its own: closing the terminal does not end the shop.
        nix::unistd::setsid()?;
    }
    let context = Context::open()?;
    if args.fresh && (mysql::given_url().is_some() || redis::given_url().is_some()) {
        bail!(
            "--fresh drops only data of xtask's own servers: unset FARMGATE_MYSQL_URL and FARMGATE_REDIS_URL, or empty those servers yourself"
        );
    }
    if args.detach && !args.supervise {
        return detach(&context, args);
    }
    match Fleet::claim(&context)? {
        Some(fleet) => supervise(&context, args, fleet),
        None => already_running(&context, args),
    }
}

fn supervise(context: &Context, args: &UpArgs, mut fleet: Fleet) -> Result<ExitCode> {
    let started = Instant::now();
    if args.fresh {
        for folder in ["mysql", "redis", "wrangler"] {
            remove_dir(&context.state.join(folder))?;
        }
        context.progress.say("the data was dropped");
    }
    let parts = provision::all(context, || Programs::build(context))?;
    edge_build::build(context, &parts.edge)?;
    let programs = Programs::locate(context)?;
    let endpoints = stack::start(context, &mut fleet, &parts, &programs, args.edge)?;
    let took = crate::progress::seconds(started.elapsed());
    let how = if args.supervise { "stop it with: cargo xtask down" } else { "stop it with Ctrl-C" };
    context.progress.say(format!("\nThe shop is up ({took}).\n{}\n{how}", endpoints.describe()));

    let edge = net::authority(endpoints.edge.as_deref().unwrap_or_default(), 80)?;
    let mut heard = Instant::now();
    let mut asked = heard;
    while !context.stop.requested() {
        fleet.check()?;
        // wrangler outlives the runtime that it started, and would then serve nothing.
        if asked.elapsed() > EDGE_CHECK_EVERY {
            asked = Instant::now();
            if net::accepts(&edge) {
                heard = asked;
            } else if heard.elapsed() > EDGE_SILENCE {
                bail!("the edge takes no connections any more\n{}", process::tail(&context.log("edge")?));
            }
        }
        context.stop.pause(TICK);
    }
    let step = context.progress.step("stopping");
    let stopped = fleet.stop_all();
    step.done(stopped.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Somebody else runs it, or is about to.
fn already_running(context: &Context, args: &UpArgs) -> Result<ExitCode> {
    if args.fresh {
        bail!("the shop is running: `cargo xtask down` first, --fresh drops its data");
    }
    let step = context.progress.step("another cargo xtask up");
    let settled = context.stop.wait_until(START_LIMIT, || {
        let ready = RunFile::read(&context.state).is_some_and(|run| run.ready);
        let gone = !ready && take_lock(&context.state)?.is_some();
        Ok(ready || gone)
    })?;
    let endpoints = Endpoints::read(&context.state);
    match (settled, endpoints) {
        (true, Some(endpoints)) => {
            step.done("");
            context.progress.say(format!("The shop is already running.\n{}", endpoints.describe()));
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("another cargo xtask up was starting the shop and did not succeed"),
    }
}

/// Starts the supervisor in the background and shows what it says until it is ready or has failed.
fn detach(context: &Context, args: &UpArgs) -> Result<ExitCode> {
    match take_lock(&context.state)? {
        None => return already_running(context, args),
        Some(lock) => drop(lock),
    }
    let log = context.log("up")?;
    let out = File::create(&log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["up", "--supervise", "--edge", args.edge.name()]);
    if args.fresh {
        command.arg("--fresh");
    }
    command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id())?;
    let identity = Identity::of(pid);
    let mut shown = File::open(&log)?;
    let end = Instant::now() + START_LIMIT;
    loop {
        let status = child.try_wait()?;
        let ready = RunFile::read(&context.state).is_some_and(|run| run.ready && run.supervisor.pid == pid);
        show_rest(&mut shown)?;
        if let Some(status) = status {
            show_rest(&mut shown)?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if ready {
            // The addresses are printed just after the shop says that it is ready.
            context
                .stop
                .wait_until(Duration::from_secs(2), || Ok(process::tail(&log).contains("xtask down")))?;
            show_rest(&mut shown)?;
            return Ok(ExitCode::SUCCESS);
        }
        if context.stop.requested() || Instant::now() >= end {
            stop_supervisor(&mut child, identity.as_ref());
            show_rest(&mut shown)?;
            context.stop.check()?;
            bail!("the shop was not up within {} minutes", START_LIMIT.as_secs() / 60);
        }
        context.stop.pause(TICK);
    }
}

fn stop_supervisor(child: &mut std::process::Child, identity: Option<&Identity>) {
    if let Some(identity) = identity {
        identity.signal(Signal::SIGTERM);
    }
    let end = Instant::now() + STOP_LIMIT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        std::thread::sleep(TICK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn show_rest(log: &mut File) -> Result<()> {
    let mut text = Vec::new();
    log.read_to_end(&mut text)?;
    // A closed pipe is no reason to leave the supervisor unwatched.
    let _ = std::io::stdout().write_all(&text);
    Ok(())
}

/// The address of a running shop, for commands that need one.
pub fn running(state: &Path) -> Option<Endpoints> {
    let is_running = take_lock(state).is_ok_and(|lock| lock.is_none());
    Endpoints::read(state).filter(|_| is_running)
}
