//! The origin's own audit, `farmgate-origin reconcile`, asked after a run.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::plan::Origin;

/// The sweeper mends the gate within seconds of the last order; past this it does not.
const WITHIN: Duration = Duration::from_secs(30);

/// What the audit said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    pub is_clean: bool,
    pub report: String,
}

/// Asks until the books are clean, or the sweeper has had its time.
///
/// # Errors
/// When the program cannot be run.
pub async fn run(origin: &Origin) -> Result<Reconciled> {
    let end = Instant::now() + WITHIN;
    loop {
        let mut command = Command::new(&origin.program);
        let output = command.arg("reconcile").envs(&origin.settings).output();
        let output = output.with_context(|| format!("cannot run {}", origin.program.display()))?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_clean = output.status.success();
        if is_clean || Instant::now() >= end {
            return Ok(Reconciled { is_clean, report });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
