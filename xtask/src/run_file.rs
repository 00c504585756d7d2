//! Who runs a shop: `run.lock` is held by its supervisor as long as it lives, and `run.json` names
//! the supervisor and its children, so that what a killed supervisor left can be found and ended
//! without ever touching a stranger's process.

use crate::identity::{Identity, carrying};
use crate::process::MARK;
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    /// The value of `XTASK_RUN` in every child's environment.
    pub mark: String,
    pub supervisor: Identity,
    pub ready: bool,
    /// In the order in which they were started.
    pub children: Vec<ChildEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChildEntry {
    pub name: String,
    pub identity: Identity,
}

const NAME: &str = "run.json";
const LOCK: &str = "run.lock";
/// MySQL may take this long to write its pages back.
const ORPHAN_GRACE: Duration = Duration::from_secs(20);

impl RunFile {
    pub fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state.join(NAME)).ok()?).ok()
    }

    pub fn write(&self, state: &Path) -> Result<()> {
        write_whole(&state.join(NAME), &serde_json::to_vec_pretty(self)?)
    }

    pub fn remove(state: &Path) {
        remove_file(&state.join(NAME));
    }

    /// Ends what a dead supervisor left behind; the names of what was still there.
    pub fn end_orphans(&self) -> Vec<String> {
        let alive: Vec<&ChildEntry> = self.children.iter().filter(|c| c.identity.is_alive()).collect();
        for child in alive.iter().rev() {
            child.identity.signal_group(Signal::SIGTERM);
        }
        let end = Instant::now() + ORPHAN_GRACE;
        while alive.iter().any(|c| c.identity.is_alive()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        for child in &alive {
            child.identity.signal_group(Signal::SIGKILL);
        }
        for rest in carrying(MARK, &self.mark) {
            rest.signal(Signal::SIGKILL);
        }
        alive.iter().map(|c| c.name.clone()).collect()
    }
}

/// The right to run the shop of a state folder; None while somebody else has it.
pub fn take_lock(state: &Path) -> Result<Option<File>> {
    std::fs::create_dir_all(state).with_context(|| format!("cannot create {}", state.display()))?;
    let path = state.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Removes a file that may not exist.
pub fn remove_file(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Readers see the old content or the new, never a half.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    std::fs::write(&aside, content).with_context(|| format!("cannot write {}", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn me() -> Identity {
        Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn orphans_of_a_killed_supervisor_are_ended() {
        let mark = format!("orphan-{}", std::process::id());
        let mut child = Command::new("sleep").arg("60").env(MARK, &mark).process_group(0).spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let children = vec![ChildEntry { name: "redis".to_owned(), identity }];
        let run = RunFile { mark, supervisor: me(), ready: true, children };
        assert_eq!(run.end_orphans(), ["redis"]);
        assert!(!child.wait().unwrap().success());
        assert!(run.end_orphans().is_empty());
    }

    #[test]
    fn the_lock_has_one_holder() {
        let state = std::env::temp_dir().join(format!("farmgate-xtask-lock-{}", std::process::id()));
        let held = take_lock(&state).unwrap();
        assert!(held.is_some());
        assert!(take_lock(&state).unwrap().is_none());
        drop(held);
        // A process that another test is just starting may hold it an instant longer.
        let begun = std::time::Instant::now();
        while take_lock(&state).unwrap().is_none() {
            assert!(begun.elapsed().as_secs() < 60, "nobody gives it back");
            std::thread::yield_now();
        }
        std::fs::remove_dir_all(&state).unwrap();
    }
}
