//! A Redis for the shop, found in the same order as MySQL.

use super::debian::{self, Suite};
use super::{docker, on_machine, texts};
use crate::context::Context;
use crate::net;
use crate::process::{Process, first_line};
use crate::progress::Step;
use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DOCKER_IMAGE: &str = "redis:7";
const START_LIMIT: Duration = Duration::from_secs(60);
const DOCKER_LIMIT: Duration = Duration::from_secs(10 * 60);
const GRACE: Duration = Duration::from_secs(10);
/// The origin's scripts need what Redis has since 6.2.
const OLDEST: [u32; 2] = [6, 2];

#[derive(Debug)]
pub enum RedisServer {
    Given(String),
    /// What stands before the server's arguments.
    Local(Vec<OsString>),
    Docker,
}

pub fn provide(context: &Context) -> Result<RedisServer> {
    let step = context.progress.step("Redis");
    if let Some(url) = given_url() {
        net::authority(&url, 6379).context("FARMGATE_REDIS_URL")?;
        step.done("the server of FARMGATE_REDIS_URL");
        return Ok(RedisServer::Given(url));
    }
    let mut tried = Vec::new();
    if let Some((launcher, found)) = find_local(context, &step, &mut tried) {
        step.done(found);
        return Ok(RedisServer::Local(launcher));
    }
    context.stop.check()?;
    match docker::answers(context, &step) {
        Ok(()) => {
            step.done(format!("Docker, image {DOCKER_IMAGE}"));
            return Ok(RedisServer::Docker);
        }
        Err(error) => tried.push(format!("{error:#}")),
    }
    let log = context.log("redis-search")?;
    std::fs::write(&log, tried.join("\n\n"))?;
    bail!(
        "no Redis: install Redis 6.2 or later, or start Docker, or set FARMGATE_REDIS_URL (what was tried: {})",
        log.display()
    )
}

/// What to launch a server of this machine with, and where it was found; what did not work is added to `tried`.
fn find_local(context: &Context, step: &Step, tried: &mut Vec<String>) -> Option<(Vec<OsString>, String)> {
    for path in on_machine(&["redis-server", "valkey-server"]) {
        let launcher = vec![path.clone().into_os_string()];
        match version(&launcher) {
            Ok(version) => return Some((launcher, format!("{version} from {}", path.display()))),
            Err(error) => tried.push(format!("{}: {error:#}", path.display())),
        }
    }
    let packaged = debian::provide(context, step, Suite::Own, "redis-server")
        .and_then(|unpacked| unpacked.launcher("redis-server"))
        .and_then(|launcher| Ok((version(&launcher)?, launcher)));
    match packaged {
        Ok((version, launcher)) => Some((launcher, format!("{version} from packages in the cache"))),
        Err(error) => {
            tried.push(format!("redis-server: {error:#}"));
            None
        }
    }
}

/// A server that tests may kill, beside one that is not ours to kill.
pub fn provide_local(context: &Context) -> Result<Vec<OsString>> {
    let step = context.progress.step("Redis for the crash tests");
    match find_local(context, &step, &mut Vec::new()) {
        Some((launcher, found)) => {
            step.done(found);
            Ok(launcher)
        }
        None => bail!("install Redis 6.2 or later on this machine"),
    }
}

/// How to start a server of one's own: `words`, and then its folder and port.
#[derive(Debug, Serialize)]
pub struct Recipe {
    words: Vec<String>,
}

impl Recipe {
    pub fn of(launcher: &[OsString]) -> Result<Self> {
        Ok(Self { words: texts(launcher)? })
    }
}

pub fn given_url() -> Option<String> {
    std::env::var("FARMGATE_REDIS_URL").ok().filter(|url| !url.is_empty())
}

/// `Redis server v=7.0.15 sha=…`
fn version(launcher: &[OsString]) -> Result<String> {
    let mut command = launch(launcher)?;
    command.arg("--version");
    let line = first_line(command).ok_or_else(|| anyhow!("it does not run"))?;
    parse_version(&line)
}

fn parse_version(line: &str) -> Result<String> {
    let number = line.split_whitespace().find_map(|word| word.strip_prefix("v="));
    let number = number.ok_or_else(|| anyhow!("not understood: {line}"))?;
    let parts: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    if parts < OLDEST.to_vec() {
        bail!("Redis {number} is too old");
    }
    Ok(format!("redis-{number}"))
}

fn launch(launcher: &[OsString]) -> Result<Command> {
    let (program, arguments) = launcher.split_first().ok_or_else(|| anyhow!("nothing to run"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

impl RedisServer {
    /// A server with its data in `folder`, kept over restarts if `keep`; no process if it is not ours.
    pub fn start(
        &self,
        context: &Context,
        folder: &Path,
        port: u16,
        mark: &str,
        keep: bool,
    ) -> Result<Option<Process>> {
        let log = context.log("redis")?;
        let append = if keep { "yes" } else { "no" };
        let command = match self {
            Self::Given(_) => return Ok(None),
            Self::Local(launcher) => {
                std::fs::create_dir_all(folder)?;
                let mut command = launch(launcher)?;
                command.current_dir(folder);
                command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
                command.args(["--dir", "."]);
                command.args(["--appendonly", append, "--save", ""]);
                command
            }
            Self::Docker => {
                let data = folder.join("docker");
                std::fs::create_dir_all(&data)?;
                let mut command = docker::run_command(&data, "/data", port, 6379);
                command.args([DOCKER_IMAGE, "redis-server", "--appendonly", append, "--save", ""]);
                command
            }
        };
        Process::serve(command, "redis", &log, mark, GRACE).map(Some)
    }

    pub fn wait_ready(&self, context: &Context, process: Option<&mut Process>, port: u16) -> Result<()> {
        match (self, process) {
            (Self::Given(url), _) => net::redis_answers(&net::authority(url, 6379)?)
                .context("the server of FARMGATE_REDIS_URL does not answer: start it or unset the variable"),
            (_, Some(process)) => {
                let limit = if matches!(self, Self::Docker) { DOCKER_LIMIT } else { START_LIMIT };
                let host = format!("127.0.0.1:{port}");
                process.wait_ready(&context.stop, limit, || net::redis_answers(&host))
            }
            (_, None) => Ok(()),
        }
    }

    pub fn url(&self, port: u16) -> String {
        match self {
            Self::Given(url) => url.clone(),
            _ => format!("redis://127.0.0.1:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn redis_versions_are_read() {
        let line = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=x";
        assert_eq!(parse_version(line).unwrap(), "redis-7.0.15");
        assert!(parse_version("Redis server v=5.0.7 sha=0").is_err());
        assert!(parse_version("usage").is_err());
    }
}
