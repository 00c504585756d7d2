//! What turns the edge into Wasm: the compiler's target, wasm-bindgen in exactly the version that
//! Cargo.lock has, and wasm-pack. Both tools are built from source into the cache, once a version.

use crate::context::Context;
use crate::process::{self, first_line};
use crate::progress::Step;
use anyhow::{Context as _, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TARGET: &str = "wasm32-unknown-unknown";
const WASM_PACK: &str = "0.15.1";
const TARGET_LIMIT: Duration = Duration::from_secs(10 * 60);
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Not optimised: both tools are then built in a third of the time (two minutes instead of five on
/// two cores), and wasm-bindgen takes 0.9 s for the edge instead of 0.4 s.
const QUICK_BUILD: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
];

#[derive(Debug)]
pub struct WasmTools {
    /// Folders for the front of PATH.
    pub folders: Vec<PathBuf>,
    /// Changes when any version does.
    pub versions: String,
}

pub fn provide(context: &Context) -> Result<WasmTools> {
    target(context)?;
    let bindgen = locked_version(&std::fs::read_to_string(context.root.join("Cargo.lock"))?, "wasm-bindgen")
        .ok_or_else(|| anyhow!("Cargo.lock holds no wasm-bindgen"))?;
    // Its default features are for running tests in browsers elsewhere.
    let cli = ["--no-default-features", "--bin", "wasm-bindgen"];
    let folders = vec![
        tool(context, "wasm-bindgen", "wasm-bindgen-cli", &bindgen, &cli)?,
        tool(context, "wasm-pack", "wasm-pack", WASM_PACK, &[])?,
    ];
    let mut rustc = Command::new("rustc");
    rustc.arg("--version");
    let rustc = first_line(rustc).ok_or_else(|| anyhow!("rustc does not run"))?;
    Ok(WasmTools { folders, versions: format!("{rustc}, wasm-bindgen {bindgen}, wasm-pack {WASM_PACK}") })
}

fn target(context: &Context) -> Result<()> {
    if has_target() {
        return Ok(());
    }
    let step = context.progress.step(format!("the {TARGET} target"));
    let advice = format!(
        "the compiler has no {TARGET} target: run `rustup target add {TARGET}`, or install a Rust toolchain that has it"
    );
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]);
    process::run(command, &context.cache.log("rustup")?, &step, &context.stop, TARGET_LIMIT)
        .with_context(|| advice.clone())?;
    if !has_target() {
        bail!("{advice}");
    }
    step.done("added by rustup");
    Ok(())
}

fn has_target() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let has_core = |folder: String| {
        let entries = std::fs::read_dir(folder).ok()?;
        let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        names.find(|name| name.to_string_lossy().starts_with("libcore-"))
    };
    first_line(rustc).and_then(has_core).is_some()
}

/// The folder that holds a tool of exactly this version.
fn tool(context: &Context, program: &str, package: &str, version: &str, flags: &[&str]) -> Result<PathBuf> {
    let entry = format!("tools/{package}-{version}");
    if let Some(folder) = context.cache.find(&entry) {
        return Ok(folder.join("bin"));
    }
    for path in super::on_machine(&[program]) {
        let mut command = Command::new(&path);
        command.arg("--version");
        let line = first_line(command).unwrap_or_default();
        if let (Some(folder), true) = (path.parent(), line.split_whitespace().nth(1) == Some(version)) {
            return Ok(folder.to_owned());
        }
    }
    let step = context.progress.step(format!("{program} {version}, built once for this machine"));
    let folder = context.cache.ensure(&entry, &step, &context.stop, |folder| {
        let log = context.cache.log(package)?;
        let install = |locked: bool| install(context, &step, &log, package, version, flags, folder, locked);
        // The versions that a tool was locked to can be gone from a registry; then newer ones do.
        match install(true) {
            Err(_) if !context.stop.requested() && no_such_version(&log) => install(false),
            result => result,
        }
    })?;
    step.done("");
    Ok(folder.join("bin"))
}

#[expect(clippy::too_many_arguments, reason = "one call site, and each is a plain value")]
fn install(
    context: &Context,
    step: &Step,
    log: &Path,
    package: &str,
    version: &str,
    flags: &[&str],
    folder: &Path,
    locked: bool,
) -> Result<()> {
    let target = folder.join("target");
    let mut command = Command::new("cargo");
    // Outside the checkout, whose cargo configuration is not meant for other packages.
    command.current_dir(folder);
    command.args(["install", "--no-track", "--version", version]).args(flags);
    if locked {
        command.arg("--locked");
    }
    command.arg("--root").arg(folder).arg(package);
    command.env("CARGO_TARGET_DIR", &target).envs(QUICK_BUILD);
    process::run(command, log, step, &context.stop, BUILD_LIMIT)?;
    crate::cache::remove_dir(&target)
}

fn no_such_version(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains("failed to select a version"))
}

/// The version of a package in a Cargo.lock.
pub fn locked_version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let after = lock.lines().skip_while(|line| *line != name).nth(1)?;
    Some(after.strip_prefix("version = \"")?.strip_suffix('"')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn the_locked_version_is_that_of_the_very_package() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen").as_deref(), Some("0.2.130"));
        assert_eq!(locked_version(lock, "bindgen"), None);
    }
}
