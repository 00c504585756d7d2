//! What comes from npm, in exactly the versions of a `package-lock.json`: the edge's tools (wrangler
//! with its workerd, and binaryen's wasm-opt), what the benchmark's peer on Express needs, and the
//! implementation of WeChat Pay that is not ours. It is installed into the user's cache; install scripts
//! are not run, none is needed.

use crate::context::Context;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub struct NpmTools {
    /// Holds `wrangler`, `workerd` and `wasm-opt`.
    pub bin: PathBuf,
    /// Changes when any version does.
    pub hash: String,
}

pub fn provide(context: &Context) -> Result<NpmTools> {
    let step = context.progress.step("wrangler and wasm-opt");
    let (modules, hash) = install(context, &step, "xtask/npm")?;
    let bin = modules.join(".bin");
    for tool in ["wrangler", "workerd", "wasm-opt"] {
        if !bin.join(tool).exists() {
            bail!("npm installed no {tool}: remove {} and try again", modules.display());
        }
    }
    step.done("");
    Ok(NpmTools { bin, hash })
}

/// A program that is not ours, ready to be started by `node`.
#[derive(Debug)]
pub struct Peer {
    pub server: PathBuf,
    /// For `NODE_PATH`: the checkout holds no packages.
    pub modules: PathBuf,
}

/// The benchmark's peer.
pub fn express(context: &Context) -> Result<Peer> {
    peer(context, "Express, the benchmark's peer", "bench/peers/express")
}

/// The WeChat Pay of the tests that is not ours.
pub fn wechatpay(context: &Context) -> Result<Peer> {
    peer(context, "wechatpay-axios-plugin", "tests/peers/wechatpay")
}

fn peer(context: &Context, name: &str, folder: &str) -> Result<Peer> {
    let step = context.progress.step(name);
    let (modules, _) = install(context, &step, folder)?;
    step.done("");
    Ok(Peer { server: context.root.join(folder).join("server.js"), modules })
}

/// Installs what the folder's lock file names; the folder of packages and the hash of its versions.
fn install(context: &Context, step: &Step, source: &str) -> Result<(PathBuf, String)> {
    let source = context.root.join(source);
    let read = |name: &str| {
        let path = source.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    let hash = short_hash(&[&package, &lock]);
    let folder = context.cache.ensure(&format!("npm/{hash}"), step, &context.stop, |folder| {
        std::fs::write(folder.join("package.json"), &package)?;
        std::fs::write(folder.join("package-lock.json"), &lock)?;
        let mut command = Command::new("npm");
        command.current_dir(folder);
        command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        let log = context.cache.log(&format!("npm-{hash}"))?;
        process::run(command, &log, step, &context.stop, LIMIT)
    })?;
    Ok((folder.join("node_modules"), hash))
}

impl NpmTools {
    /// The real program: `.bin/workerd` is a script that only starts it.
    pub fn workerd(&self) -> Result<PathBuf> {
        let modules = self.bin.parent().unwrap_or(&self.bin);
        let is_program = |path: &Path| path.ends_with("bin/workerd") && path.is_file();
        match super::find_below(&modules.join("@cloudflare"), 3, &is_program) {
            Some(path) => Ok(path),
            None => bail!("npm has no workerd for this machine"),
        }
    }
}

pub fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
