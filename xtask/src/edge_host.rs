//! What the edge runs on in the developer's shop: `wrangler dev`, Cloudflare's own stand-in for Cloudflare, or the bare
//! workerd that a self-hosted shop runs, with the very configuration of `deploy/edge`. Both serve the same worker.

use crate::context::Context;
use crate::provision::npm::NpmTools;
use crate::stack::read_env;
use anyhow::Result;
use clap::ValueEnum;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The configuration of a self-hosted edge, below the checkout.
pub const CONFIGURATION: &str = "deploy/edge/edge.capnp";

/// What an isolate counts by where its host has no limiters. Cloudflare has, so wrangler.toml does without.
pub const LOCAL_LIMITS: [&str; 3] = ["LOCAL_LIMIT_ADDRESS", "LOCAL_LIMIT_USER", "LOCAL_LIMIT_LOGIN"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EdgeHost {
    /// `wrangler dev`, as on Cloudflare
    Wrangler,
    /// workerd alone, as a shop hosts it by itself
    Workerd,
}

impl EdgeHost {
    /// As it is written after `--edge`.
    pub fn name(self) -> &'static str {
        match self {
            EdgeHost::Wrangler => "wrangler",
            EdgeHost::Workerd => "workerd",
        }
    }
}

/// Where one edge listens, whom it asks, and the folder with its keys.
#[derive(Debug)]
pub struct Place<'a> {
    pub origin: &'a str,
    pub secrets: &'a Path,
    pub port: u16,
    /// Of wrangler's debugger.
    pub inspector: u16,
}

/// The command that serves the built worker in the foreground.
pub fn command(context: &Context, npm: &NpmTools, host: EdgeHost, place: &Place<'_>) -> Result<Command> {
    match host {
        EdgeHost::Wrangler => wrangler(context, npm, place),
        EdgeHost::Workerd => workerd(context, &npm.workerd()?, place),
    }
}

fn bindings(place: &Place<'_>) -> Result<Vec<(String, String)>> {
    let mut bindings = vec![("ORIGIN_URL".to_owned(), place.origin.to_owned())];
    bindings.extend(read_env(&place.secrets.join("edge.env"))?);
    Ok(bindings)
}

fn wrangler(context: &Context, npm: &NpmTools, place: &Place<'_>) -> Result<Command> {
    // One file for all bindings, so that none shows in the list of processes.
    let lines: String = bindings(place)?.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let file = place.secrets.join("edge.dev.env");
    std::fs::write(&file, lines)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;

    let home = wrangler_home(context)?;
    let mut command = wrangler_command(context, npm, &home);
    command.arg("dev").arg("--config").arg(context.root.join("wrangler.toml"));
    command.args(["--local", "--ip", "127.0.0.1", "--port", &place.port.to_string()]);
    command.args(["--inspector-ip", "127.0.0.1", "--inspector-port", &place.inspector.to_string()]);
    command.arg("--persist-to").arg(home.join("state"));
    command.arg("--env-file").arg(&file).arg("--show-interactive-dev-session=false");
    Ok(command)
}

fn wrangler_home(context: &Context) -> Result<PathBuf> {
    let home = context.state.join("wrangler");
    std::fs::create_dir_all(&home)?;
    Ok(home)
}

/// wrangler without its questions, statistics and colours. Whoever calls it names the configuration in full: it would
/// else prefer a parent folder's.
fn wrangler_command(context: &Context, npm: &NpmTools, home: &Path) -> Command {
    let mut command = context.command(npm.bin.join("wrangler"));
    command.env("WRANGLER_SEND_METRICS", "false").env("CLOUDFLARE_CF_FETCH_ENABLED", "false");
    // wrangler.toml has it call `cargo xtask edge-build`.
    Context::pass_settings(&mut command);
    command.env("XDG_CONFIG_HOME", home).env("CI", "true").env("NO_COLOR", "1");
    command
}

/// `wrangler deploy` of one environment up to the moment before it would send anything; the bundle is in `out`.
pub fn rehearse_deploy(context: &Context, npm: &NpmTools, environment: &str, out: &Path) -> Result<Command> {
    let mut command = wrangler_command(context, npm, &wrangler_home(context)?);
    command.arg("deploy").arg("--config").arg(context.root.join("wrangler.toml"));
    command.args(["--env", environment, "--dry-run", "--outdir"]).arg(out);
    Ok(command)
}

/// The environment holds all that it needs, as in production.
fn workerd(context: &Context, program: &Path, place: &Place<'_>) -> Result<Command> {
    let mut command = context.command(program);
    command.arg("serve").arg(CONFIGURATION);
    command.arg(format!("--socket-addr=http=127.0.0.1:{}", place.port));
    for name in variables(&std::fs::read_to_string(context.root.join(CONFIGURATION))?) {
        command.env_remove(name);
    }
    command.envs(bindings(place)?);
    Ok(command)
}

/// The names that the configuration takes from the environment.
fn variables(configuration: &str) -> Vec<String> {
    let named = |line: &str| {
        let after = line.split_once("fromEnvironment = \"")?.1;
        Some(after.split_once('"')?.0.to_owned())
    };
    configuration.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::{LOCAL_LIMITS, variables};
    use std::collections::BTreeSet;

    const CAPNP: &str = include_str!("../../deploy/edge/edge.capnp");
    const WRANGLER: &str = include_str!("../../wrangler.toml");
    const SECRETS: [&str; 2] = ["EDGE_KEY", "JWT_JWKS"];

    /// The `NAME = …` lines of one table of wrangler.toml.
    fn vars(table: &str) -> BTreeSet<String> {
        let after = WRANGLER.split_once(&format!("\n[{table}]\n")).map(|(_, after)| after);
        let after = after.unwrap_or_else(|| panic!("wrangler.toml has no [{table}]"));
        let lines = after.lines().take_while(|line| !line.starts_with('['));
        lines
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
            .collect()
    }

    #[test]
    fn both_hosts_give_the_edge_the_same_settings() {
        let mut expected: BTreeSet<String> = vars("vars");
        assert!(expected.contains("ORIGIN_URL"));
        for environment in ["dev", "staging", "production"] {
            assert_eq!(vars(&format!("env.{environment}.vars")), expected, "{environment}");
        }
        expected.extend(SECRETS.into_iter().chain(LOCAL_LIMITS).map(str::to_owned));
        assert_eq!(variables(CAPNP).into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn each_environment_has_limiters_of_its_own() {
        let mut namespaces = BTreeSet::new();
        for environment in ["dev", "staging", "production"] {
            let heading = format!("[[env.{environment}.ratelimits]]\n");
            let tables: Vec<&str> = WRANGLER.split(heading.as_str()).skip(1).collect();
            let value = |table: &&str, name: &str| {
                let line = table.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.split('"').nth(1)).map(str::to_owned).unwrap()
            };
            let names: Vec<String> = tables.iter().map(|table| value(table, "name = ")).collect();
            assert_eq!(names, ["LIMIT_ADDRESS", "LIMIT_USER", "LIMIT_LOGIN"], "{environment}");
            namespaces.extend(tables.iter().map(|table| value(table, "namespace_id = ")));
        }
        assert_eq!(namespaces.len(), 9);
    }

    #[test]
    fn both_hosts_run_the_worker_by_the_rules_of_the_same_day() {
        let date = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name));
            line.and_then(|line| line.split('"').nth(1)).map(str::to_owned)
        };
        let wrangler = date(WRANGLER, "compatibility_date");
        assert!(wrangler.is_some());
        assert_eq!(date(CAPNP, "compatibilityDate"), wrangler);
    }

    #[test]
    fn a_deploy_without_an_environment_cannot_replace_production() {
        let names: Vec<&str> = WRANGLER.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
        let production = WRANGLER.split_once("[env.production]\nname = ").unwrap().1.lines().next().unwrap();
        assert_eq!(names.iter().filter(|name| **name == production).count(), 1, "{names:?}");
    }
}
