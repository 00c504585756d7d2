//! A rehearsal of `wrangler deploy` for each environment: wrangler reads the configuration, bundles the worker and says
//! what it would send. Sends nothing and needs no account and no network.

use crate::cache::remove_dir;
use crate::context::Context;
use crate::edge_host;
use crate::process;
use crate::provision::npm::NpmTools;
use anyhow::{Result, bail};
use std::time::Duration;

const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "production"];
const LIMIT: Duration = Duration::from_secs(120);
/// wrangler's words for what is not as it should be, though it goes on.
const COMPLAINT: &str = "WARNING";

pub fn rehearse(context: &Context, npm: &NpmTools) -> Result<()> {
    for environment in ENVIRONMENTS {
        let step = context.progress.step(format!("wrangler deploy --dry-run --env {environment}"));
        let out = context.state.join("wrangler-out").join(environment);
        remove_dir(&out)?;
        let log = context.log(&format!("deploy-{environment}"))?;
        let command = edge_host::rehearse_deploy(context, npm, environment, &out)?;
        process::run(command, &log, &step, &context.stop, LIMIT)?;
        let said = std::fs::read_to_string(&log)?;
        if said.contains(COMPLAINT) {
            bail!("wrangler complains about the environment {environment}:\n{said}");
        }
        if !out.join("worker.js").is_file() {
            bail!("wrangler made no bundle for the environment {environment}:\n{said}");
        }
        let size = said.lines().find_map(|line| line.strip_prefix("Total Upload: ")).unwrap_or_default();
        step.done(size);
    }
    Ok(())
}
