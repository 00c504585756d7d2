//! The user's cache: what takes long to fetch or build is made once a machine, not once a clone.
//! An entry is built aside and renamed into place, so one that exists is whole; a file lock an
//! entry keeps two commands from making the same thing at the same time.

use crate::progress::Step;
use crate::stop::Stop;
use anyhow::{Context as _, Result, anyhow, bail};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

/// Longer than the slowest entry takes on a slow machine.
const LOCK_LIMIT: Duration = Duration::from_secs(45 * 60);

impl Cache {
    pub fn open() -> Result<Self> {
        let given = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = given("FARMGATE_CACHE")
            .or_else(|| given("XDG_CACHE_HOME").map(|p| p.join("farmgate")))
            .or_else(|| given("HOME").map(|p| p.join(".cache/farmgate")))
            .ok_or_else(|| anyhow!("no place for the cache: set FARMGATE_CACHE to a folder"))?;
        let root = std::path::absolute(root)?;
        std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Self { root })
    }

    /// The entry's folder, if it was made before.
    pub fn find(&self, entry: &str) -> Option<PathBuf> {
        let path = self.root.join(entry);
        path.is_dir().then_some(path)
    }

    /// The entry's folder, made by `build` if it is not there. `build` gets a folder to fill.
    pub fn ensure(
        &self,
        entry: &str,
        step: &Step,
        stop: &Stop,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.find(entry) {
            return Ok(path);
        }
        let _lock = self.lock(entry, step, stop)?;
        if let Some(path) = self.find(entry) {
            return Ok(path);
        }
        let aside = self.root.join("partial").join(flat(entry));
        remove_dir(&aside)?;
        std::fs::create_dir_all(&aside)?;
        if let Err(error) = build(&aside) {
            remove_dir(&aside)?;
            return Err(error);
        }
        let path = self.root.join(entry);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::rename(&aside, &path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    pub fn lock(&self, entry: &str, step: &Step, stop: &Stop) -> Result<File> {
        let folder = self.root.join("locks");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(flat(entry));
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let locked = stop.wait_until(LOCK_LIMIT, || match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => {
                step.detail("waiting for another cargo xtask that makes the same");
                Ok(false)
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
        if !locked {
            bail!("another cargo xtask still holds {} after 45 minutes", path.display());
        }
        Ok(file)
    }

    pub fn log(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join("logs");
        std::fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("{}.log", flat(name))))
    }
}

fn flat(entry: &str) -> String {
    entry.replace('/', "_")
}

/// Removes a folder that may not exist.
pub fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a folder of plain files and folders.
pub fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
