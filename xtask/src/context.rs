//! What every command needs: where the checkout, the user's cache and the state folder are, how to
//! say progress, and whether somebody asked to stop.

use crate::cache::Cache;
use crate::progress::Progress;
use crate::stop::Stop;
use anyhow::{Context as _, Result, anyhow, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Context {
    /// The checkout's top folder.
    pub root: PathBuf,
    /// The state of one shop: data, keys, logs, `endpoints.json`, `run.json`.
    pub state: PathBuf,
    pub cache: Cache,
    pub progress: Progress,
    pub stop: Stop,
}

impl Context {
    pub fn open() -> Result<Self> {
        let root = checkout()?;
        let state = match std::env::var_os("FARMGATE_STATE").filter(|v| !v.is_empty()) {
            Some(path) => std::path::absolute(path)?,
            None => root.join(".dev"),
        };
        Ok(Self { cache: Cache::open()?, progress: Progress::new(), stop: Stop::listen()?, root, state })
    }

    /// The file that gets the output of one process or step; its folder is made.
    pub fn log(&self, name: &str) -> Result<PathBuf> {
        let folder = self.state.join("logs");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder.join(format!("{name}.log")))
    }

    /// A command that starts in the checkout, without what `cargo run` put into our environment and
    /// without the settings that are xtask's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_ours) {
                command.env_remove(name);
            }
        }
        command
    }

    /// For a child that runs cargo xtask in its turn: our own settings after all.
    pub fn pass_settings(command: &mut Command) {
        for name in SETTINGS {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }

    /// Where cargo puts what it builds, whatever the user's configuration says.
    pub fn target_dir(&self) -> Result<PathBuf> {
        let mut command = self.command("cargo");
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let output = command.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let path = metadata["target_directory"].as_str();
        Ok(PathBuf::from(path.ok_or_else(|| anyhow!("cargo metadata named no target directory"))?))
    }
}

const SETTINGS: [&str; 4] = ["FARMGATE_CACHE", "FARMGATE_STATE", "FARMGATE_MYSQL_URL", "FARMGATE_REDIS_URL"];

/// Variables that must not reach children: cargo's description of this package, and settings that
/// share the origin's `FARMGATE_` prefix but are meant for xtask.
fn is_ours(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || matches!(
            name,
            "CARGO" | "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH" | "CARGO_BIN_NAME" | "CARGO_CRATE_NAME"
        )
        || SETTINGS.contains(&name)
}

fn checkout() -> Result<PathBuf> {
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_dir()?,
    };
    let is_checkout = |path: &&Path| path.join("Cargo.lock").is_file() && path.join("xtask/npm").is_dir();
    match start.ancestors().find(is_checkout) {
        Some(path) => Ok(path.to_owned()),
        None => bail!("{} is not inside a checkout of Farmgate", start.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn children_do_not_see_xtasks_own_settings() {
        assert!(is_ours("FARMGATE_MYSQL_URL"));
        assert!(is_ours("CARGO_PKG_NAME"));
    }

    #[test]
    fn children_do_see_the_origins_settings_and_cargos() {
        for name in ["FARMGATE_MYSQL__URL", "CARGO_HOME", "CARGO_TARGET_DIR", "PATH"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
