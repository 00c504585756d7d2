//! `cargo xtask demo`: a shopper's whole way through the running shop, step by step.

use crate::context::Context;
use crate::endpoints::Endpoints;
use crate::process;
use crate::stack::Programs;
use crate::up;
use anyhow::{Result, bail};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Passed on to the demo program
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(context: &Context, args: &DemoArgs) -> Result<ExitCode> {
    if up::running(&context.state).is_none() {
        bail!("no shop is running: start one with `cargo xtask up`");
    }
    let programs = Programs::locate(context)?;
    let mut command = context.command(&programs.demo);
    command.arg("--endpoints").arg(Endpoints::path(&context.state)).args(&args.rest);
    let status = process::run_visibly(command, &context.stop, LIMIT)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
