//! The edge's Wasm, built by wasm-pack into `edge/build`. Nothing is built when no input changed,
//! so that `wrangler`, which calls this before it bundles, starts at once.

use crate::context::Context;
use crate::edge_bundle;
use crate::process;
use crate::progress::Step;
use crate::provision::{self, EdgeTools, npm::short_hash};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Cloudflare's free plan takes 3 MB; a cold start feels every one of them.
const MOST_BYTES: usize = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(30 * 60);
const WASM: &str = "farmgate_edge_bg.wasm";
const STAMP: &str = ".inputs";

#[derive(Debug, Args)]
pub struct EdgeBuildArgs {
    /// Also put all that a self-hosted edge needs, workerd included, into this folder
    #[arg(long)]
    bundle: Option<PathBuf>,
}

/// `cargo xtask edge-build`.
pub fn run(context: &Context, args: &EdgeBuildArgs) -> Result<ExitCode> {
    let tools = provision::edge_tools(context)?;
    build(context, &tools)?;
    if let Some(folder) = &args.bundle {
        let step = context.progress.step("bundle");
        edge_bundle::copy(&context.root, &tools.npm.workerd()?, folder)?;
        step.done(folder.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// How large the built Wasm file is.
#[derive(Debug, Clone, Copy)]
pub struct WasmSize {
    pub bytes: usize,
    /// By gzip, as Cloudflare counts.
    pub compressed: usize,
}

impl WasmSize {
    pub fn read(root: &Path) -> Result<Self> {
        let wasm = std::fs::read(root.join("edge/build").join(WASM)).context("the edge is not built")?;
        Ok(Self { bytes: wasm.len(), compressed: compressed_size(&wasm)? })
    }
}

/// The worker as it is deployed, and the list of its modules for a workerd of one's own.
pub fn build(context: &Context, tools: &EdgeTools) -> Result<()> {
    build_into(context, tools, "build", &[])?;
    edge_bundle::write_modules(&context.root)
}

/// The same with traps and a clock that can be moved, for the tests alone.
pub fn build_to_provoke(context: &Context, tools: &EdgeTools) -> Result<()> {
    build_into(context, tools, "build-provoke", &["--", "--features", "provoke"])
}

fn build_into(context: &Context, tools: &EdgeTools, folder: &str, flags: &[&str]) -> Result<()> {
    let step = context.progress.step(format!("edge/{folder}"));
    let out = context.root.join("edge").join(folder);
    // Two clones share the cache but not the output: the lock is this checkout's own.
    let place = short_hash(&[context.root.as_os_str().as_encoded_bytes()]);
    let _lock = context.cache.lock(&format!("edge-build-{place}"), &step, &context.stop)?;
    let inputs = inputs_hash(&context.root, tools)?;
    let same = std::fs::read_to_string(out.join(STAMP)).is_ok_and(|stamp| stamp == inputs);
    if !same || !out.join(WASM).is_file() {
        wasm_pack(context, tools, &step, folder, flags)?;
    }
    let wasm = std::fs::read(out.join(WASM)).with_context(|| format!("wasm-pack made no {WASM}"))?;
    let size = compressed_size(&wasm)?;
    let shown = format!("{} KiB of Wasm, {} KiB compressed", wasm.len() / 1024, size / 1024);
    if size > MOST_BYTES {
        bail!("the edge is too large: {shown}; the limit is {} KiB compressed", MOST_BYTES / 1024);
    }
    if same {
        step.done(format!("unchanged, {shown}"));
    } else {
        std::fs::write(out.join(STAMP), inputs)?;
        step.done(shown);
    }
    Ok(())
}

fn wasm_pack(context: &Context, tools: &EdgeTools, step: &Step, folder: &str, flags: &[&str]) -> Result<()> {
    crate::cache::remove_dir(&context.root.join("edge").join(folder))?;
    let mut command = context.command("wasm-pack");
    command.args(["build", "edge", "--target", "web", "--release", "--mode", "no-install"]);
    command.args(["--out-dir", folder, "--no-typescript"]).args(flags);
    command.env("PATH", path_with(tools)?).env("WASM_BINDGEN_USE_JS_SYS", "1");
    process::run(command, &context.log("edge-build")?, step, &context.stop, LIMIT)
}

/// PATH with the tools of exactly our versions in front.
pub fn path_with(tools: &EdgeTools) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = tools.wasm.folders.iter().chain([&tools.npm.bin]).cloned();
    Ok(std::env::join_paths(ours.chain(std::env::split_paths(&path)))?)
}

fn compressed_size(bytes: &[u8]) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

/// Of everything that the result depends on: sources, versions of dependencies, versions of tools.
fn inputs_hash(root: &Path, tools: &EdgeTools) -> Result<String> {
    let mut files = vec![root.join("Cargo.lock"), root.join("Cargo.toml")];
    for folder in ["edge", "shared"] {
        source_files(&root.join(folder), &mut files)?;
    }
    hash_of(root, &files, &format!("{} {}", tools.wasm.versions, tools.npm.hash))
}

fn hash_of(root: &Path, files: &[PathBuf], versions: &str) -> Result<String> {
    let mut parts = vec![versions.as_bytes().to_vec()];
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(path);
        parts.push(name.as_os_str().as_encoded_bytes().to_vec());
        parts.push(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(short_hash(&parts))
}

/// Every file below a folder in a fixed order, without what builds leave there.
fn source_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let is_output = ["build", "build-provoke", "target", "node_modules"].iter().any(|n| name == *n);
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        } else if !is_output && !name.to_string_lossy().starts_with('.') {
            source_files(&entry.path(), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("farmgate-xtask-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("edge/src")).unwrap();
        std::fs::create_dir_all(root.join("edge/build")).unwrap();
        std::fs::write(root.join("edge/src/lib.rs"), "a").unwrap();
        root
    }

    fn hash(root: &Path, versions: &str) -> String {
        let mut files = Vec::new();
        source_files(&root.join("edge"), &mut files).unwrap();
        hash_of(root, &files, versions).unwrap()
    }

    #[test]
    fn the_hash_changes_with_a_source_its_name_and_the_tools_alone() {
        let root = tree("inputs");
        let first = hash(&root, "1");
        std::fs::write(root.join("edge/build/out.wasm"), "output").unwrap();
        assert_eq!(hash(&root, "1"), first);
        assert_ne!(hash(&root, "2"), first);
        std::fs::rename(root.join("edge/src/lib.rs"), root.join("edge/src/b.rs")).unwrap();
        let renamed = hash(&root, "1");
        assert_ne!(renamed, first);
        std::fs::write(root.join("edge/src/b.rs"), "b").unwrap();
        assert_ne!(hash(&root, "1"), renamed);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn moving_the_checkout_changes_nothing() {
        let (one, two) = (tree("one"), tree("two"));
        assert_eq!(hash(&one, "1"), hash(&two, "1"));
        std::fs::remove_dir_all(&one).unwrap();
        std::fs::remove_dir_all(&two).unwrap();
    }
}
