//! `cargo xtask down`: stops the running shop through its supervisor, or ends what a killed
//! supervisor left. Returns when all of it is gone.

use crate::context::Context;
use crate::endpoints::Endpoints;
use crate::run_file::{RunFile, take_lock};
use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longer than all grace periods of a shop together.
const LIMIT: Duration = Duration::from_secs(150);
const KILLED_LIMIT: Duration = Duration::from_secs(10);

pub fn run(context: &Context) -> Result<ExitCode> {
    let step = context.progress.step("down");
    let stopped = stop_shop(&context.state)?;
    if stopped.is_empty() {
        step.done("nothing is running");
    } else {
        step.done(format!("stopped {}", stopped.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of what was stopped. Does not listen to Ctrl-C: it is how others clean up.
pub fn stop_shop(state: &Path) -> Result<Vec<String>> {
    if let Some(_lock) = take_lock(state)? {
        return Ok(end_left_over(state));
    }
    let Some(run) = RunFile::read(state) else {
        bail!("something holds {} but does not say what", state.join("run.lock").display());
    };
    let names: Vec<String> = run.children.iter().rev().map(|child| child.name.clone()).collect();
    run.supervisor.signal(Signal::SIGTERM);
    if wait_for_lock(state, LIMIT)? {
        return Ok(if names.is_empty() { vec!["cargo xtask up".to_owned()] } else { names });
    }
    run.supervisor.signal(Signal::SIGKILL);
    if !wait_for_lock(state, KILLED_LIMIT)? {
        bail!("the supervisor (pid {}) does not end", run.supervisor.pid);
    }
    end_left_over(state);
    Ok(names)
}

fn wait_for_lock(state: &Path, limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if take_lock(state)?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_left_over(state: &Path) -> Vec<String> {
    let ended = RunFile::read(state).map(|run| run.end_orphans()).unwrap_or_default();
    Endpoints::remove(state);
    RunFile::remove(state);
    ended
}
