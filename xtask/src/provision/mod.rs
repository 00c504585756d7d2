//! Finds or fetches what the shop needs, each thing once a machine. What is missing and cannot be
//! fetched is said in one line that names what to install.

pub mod debian;
pub mod docker;
pub mod mysql;
pub mod npm;
pub mod redis;
pub mod wasm;

use crate::context::Context;
use crate::process::first_line;
use anyhow::{Result, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// All that has to be there before the shop can be built and started.
#[derive(Debug)]
pub struct Parts {
    pub mysql: mysql::MysqlServer,
    pub redis: redis::RedisServer,
    pub edge: EdgeTools,
    /// What the proof of the seed's oversell runs.
    pub peer: npm::Peer,
    /// WeChat Pay as somebody else wrote it, for the tests.
    pub wechatpay: npm::Peer,
}

#[derive(Debug)]
pub struct EdgeTools {
    pub wasm: wasm::WasmTools,
    pub npm: npm::NpmTools,
}

/// The servers and the npm tools are downloads, the Wasm tools are compiled: all of it at once, and
/// the compilers one after the other. `meanwhile` is more to compile, after the Wasm tools.
pub fn all(context: &Context, meanwhile: impl FnOnce() -> Result<()> + Send) -> Result<Parts> {
    prerequisites()?;
    std::thread::scope(|scope| {
        let mysql = scope.spawn(|| failing(context, || mysql::provide(context)));
        let redis = scope.spawn(|| failing(context, || redis::provide(context)));
        let npm = scope.spawn(|| {
            failing(context, || {
                Ok((npm::provide(context)?, npm::express(context)?, npm::wechatpay(context)?))
            })
        });
        let wasm = failing(context, || {
            let tools = wasm::provide(context)?;
            meanwhile()?;
            Ok(tools)
        });
        let join = || anyhow!("a provisioning thread panicked");
        let mysql = mysql.join().map_err(|_| join())?;
        let redis = redis.join().map_err(|_| join())?;
        let npm = npm.join().map_err(|_| join())?;
        first_cause([mysql.as_ref().err(), redis.as_ref().err(), npm.as_ref().err(), wasm.as_ref().err()])?;
        let (npm, peer, wechatpay) = npm?;
        Ok(Parts { mysql: mysql?, redis: redis?, edge: EdgeTools { wasm: wasm?, npm }, peer, wechatpay })
    })
}

/// What `bench` needs: servers of its own on this machine, whose accounts it can read.
pub fn bench(context: &Context) -> Result<(mysql::MysqlServer, redis::RedisServer, npm::Peer)> {
    prerequisites()?;
    let (mysql, redis) = (mysql::provide(context)?, redis::provide(context)?);
    if !matches!(mysql, mysql::MysqlServer::Local(_)) || !matches!(redis, redis::RedisServer::Local(_)) {
        bail!(
            "the benchmark reads what its servers use: unset FARMGATE_MYSQL_URL and FARMGATE_REDIS_URL, and install MySQL and Redis if they are missing"
        );
    }
    Ok((mysql, redis, npm::express(context)?))
}

/// What `edge-build` needs.
pub fn edge_tools(context: &Context) -> Result<EdgeTools> {
    prerequisites()?;
    Ok(EdgeTools { npm: npm::provide(context)?, wasm: wasm::provide(context)? })
}

/// `cargo xtask fetch`.
pub fn run(context: &Context) -> Result<ExitCode> {
    all(context, || Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// A cause that others gave up on, marked as such so that the first one is the one that is shown.
fn failing<T>(context: &Context, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let bystander = context.stop.requested();
    work().map_err(|error| {
        let bystander = bystander || context.stop.requested();
        context.stop.fail();
        if bystander { error.context(Bystander) } else { error }
    })
}

#[derive(Debug)]
struct Bystander;

impl std::fmt::Display for Bystander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("given up")
    }
}

fn first_cause<const N: usize>(errors: [Option<&anyhow::Error>; N]) -> Result<()> {
    let mut all: Vec<&anyhow::Error> = errors.into_iter().flatten().collect();
    all.sort_by_key(|error| error.is::<Bystander>());
    match all.first() {
        Some(error) if error.is::<Bystander>() => bail!("{}", error.root_cause()),
        Some(error) => bail!("{error:#}"),
        None => Ok(()),
    }
}

/// A C compiler is not asked for: without one, this program would not have been linked.
fn prerequisites() -> Result<()> {
    let mut node = Command::new("node");
    node.arg("--version");
    let missing = missing_of(first_line(node).as_deref(), !on_machine(&["npm"]).is_empty());
    if !missing.is_empty() {
        bail!("{}", missing.join("\nerror: "));
    }
    Ok(())
}

fn missing_of(node: Option<&str>, npm: bool) -> Vec<String> {
    let mut missing = Vec::new();
    match node.map(|v| (v, v.trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok()))) {
        None => missing.push("Node.js is missing: install Node 20 or later".to_owned()),
        Some((v, None | Some(..20))) => {
            missing.push(format!("Node {v} is too old: install Node 20 or later"))
        }
        Some(_) => {}
    }
    if !npm {
        missing.push(
            "npm is missing: install it (it comes with Node.js from nodejs.org; Debian: apt install npm)"
                .to_owned(),
        );
    }
    missing
}

/// A program on PATH, or where servers are put that an ordinary user's PATH leaves out.
fn on_machine(names: &[&str]) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/bin"];
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(extra.map(PathBuf::from)).collect();
    let candidates = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.filter(|path| path.is_file()).collect()
}

/// Words that can stand in JSON.
fn texts(words: &[OsString]) -> Result<Vec<String>> {
    let text =
        |word: &OsString| word.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{word:?} is no text"));
    words.iter().map(text).collect()
}

/// The first file below `folder` that `wanted` accepts, breadth first, a few levels deep.
fn find_below(folder: &Path, depth: usize, wanted: &impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    if let Some(found) = entries.iter().find(|path| wanted(path)) {
        return Some(found.clone());
    }
    let folders = entries.iter().filter(|path| depth > 0 && path.is_dir() && !path.is_symlink());
    folders.into_iter().find_map(|path| find_below(path, depth - 1, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_prerequisite_is_one_line_that_says_what_to_install() {
        assert!(missing_of(Some("v20.20.2"), true).is_empty());
        assert!(missing_of(Some("v24.0.0"), true).is_empty());
        assert_eq!(
            missing_of(Some("v18.19.0"), true),
            ["Node v18.19.0 is too old: install Node 20 or later"]
        );
        let all = missing_of(None, false);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|line| line.contains("install") && !line.contains('\n')));
    }

    #[test]
    fn the_error_shown_is_the_one_that_made_the_others_give_up() {
        let cause = anyhow!("no MySQL");
        let bystander = anyhow!("interrupted").context(Bystander);
        let shown = first_cause([Some(&bystander), None, Some(&cause)]).unwrap_err();
        assert_eq!(shown.to_string(), "no MySQL");
    }
}
