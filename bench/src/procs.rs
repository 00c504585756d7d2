//! What the operating system has charged to processes: processor time and memory, from `/proc`. A contestant is a whole
//! tree of processes, since a cluster of Node processes is one server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Reads the trees of named processes.
#[derive(Debug, Clone)]
pub struct Processes {
    roots: BTreeMap<String, u32>,
    ticks_per_second: f64,
}

/// Of one tree at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// User and system time since the processes started, ended children that were waited for included.
    pub cpu_seconds: f64,
    /// Resident now.
    pub rss_mib: f64,
    /// The most that each process ever had resident, summed.
    pub peak_mib: f64,
}

/// One line of `/proc/<pid>/stat`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Processes {
    /// The roots by name, by the ids that their parent knows.
    ///
    /// # Errors
    /// When the system does not say how long a tick is.
    pub fn new(roots: BTreeMap<String, u32>) -> Result<Processes> {
        let output = Command::new("getconf").arg("CLK_TCK").output().context("cannot run getconf")?;
        let ticks: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().context("getconf CLK_TCK")?;
        Ok(Processes { roots, ticks_per_second: f64::from(ticks) })
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.roots.keys().map(String::as_str)
    }

    /// All trees now.
    ///
    /// # Errors
    /// When one of the roots has ended: then nothing more can be measured.
    pub fn read(&self) -> Result<BTreeMap<String, Usage>> {
        let stats = all_stats(Path::new("/proc"))?;
        let mut all = BTreeMap::new();
        for (name, root) in &self.roots {
            let members = tree(*root, &stats);
            if members.is_empty() {
                bail!("{name} (pid {root}) has ended");
            }
            let mut usage = Usage::default();
            for (pid, stat) in members {
                usage.cpu_seconds += stat.ticks as f64 / self.ticks_per_second;
                // A child may end while we look; its time then shows in its parent's next reading.
                if let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
                    usage.rss_mib += field_kib(&status, "VmRSS").unwrap_or(0.0) / 1024.0;
                    usage.peak_mib += field_kib(&status, "VmHWM").unwrap_or(0.0) / 1024.0;
                }
            }
            all.insert(name.clone(), usage);
        }
        Ok(all)
    }
}

impl Processes {
    /// Stops the trees of all but the named ones where they are, until what is returned is dropped: one that has just been
    /// under load clears its memory up for seconds, on the processor of whoever is measured next.
    ///
    /// # Errors
    /// When `kill` cannot be run or a process has ended.
    pub fn hold_all_but(&self, running: &[&str]) -> Result<Held> {
        let stats = all_stats(Path::new("/proc"))?;
        let others = self.roots.iter().filter(|(name, _)| !running.contains(&name.as_str()));
        let pids = others.flat_map(|(_, root)| tree(*root, &stats)).map(|(pid, _)| pid.to_string()).collect();
        // Before the signal, so that those which it reached go on if it did not reach all.
        let held = Held { pids };
        held.signal("-STOP")?;
        Ok(held)
    }
}

/// Processes that stand still.
#[derive(Debug)]
pub struct Held {
    pids: Vec<String>,
}

impl Held {
    fn signal(&self, signal: &str) -> Result<()> {
        if self.pids.is_empty() {
            return Ok(());
        }
        let status = Command::new("kill").arg(signal).args(&self.pids).status().context("cannot run kill")?;
        if !status.success() {
            bail!("kill {signal} {}: {status}", self.pids.join(" "));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.signal("-CONT") {
            eprintln!("some processes still stand still: {error:#}");
        }
    }
}

/// The processor time that each tree used between two readings, in seconds.
#[must_use]
pub fn cpu_between(
    before: &BTreeMap<String, Usage>,
    after: &BTreeMap<String, Usage>,
) -> BTreeMap<String, f64> {
    let used = |name: &String, usage: &Usage| {
        usage.cpu_seconds - before.get(name).map_or(0.0, |earlier| earlier.cpu_seconds)
    };
    after.iter().map(|(name, usage)| (name.clone(), used(name, usage).max(0.0))).collect()
}

fn all_stats(proc: &Path) -> Result<BTreeMap<u32, Stat>> {
    let entries = std::fs::read_dir(proc).context("this system has no /proc: the benchmark needs Linux")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let stat = |pid: u32| {
        let line = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
        Some((pid, parse_stat(&line)?))
    };
    Ok(pids.filter_map(stat).collect())
}

/// The root and all of its descendants.
fn tree(root: u32, stats: &BTreeMap<u32, Stat>) -> Vec<(u32, Stat)> {
    let mut members: Vec<(u32, Stat)> = stats.get(&root).map(|stat| (root, *stat)).into_iter().collect();
    let mut next = 0;
    while let Some((parent, _)) = members.get(next).copied() {
        members
            .extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, stat)| (*pid, *stat)));
        next += 1;
    }
    members
}

/// The command name stands in parentheses and may hold spaces and parentheses itself: fields are counted after the last.
fn parse_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    // proc(5) counts from 1 and the two fields before are cut off: 4 is ppid, 14 to 17 are utime, stime, cutime, cstime.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
    Some(Stat { parent: u32::try_from(number(4)?).ok()?, ticks })
}

/// A line such as `VmHWM:     12345 kB` of `/proc/<pid>/status`.
fn field_kib(status: &str, name: &str) -> Option<f64> {
    let line =
        status.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_gives_parent_and_all_four_times() {
        let line = "77 (no) de (x) S 5 77 77 0 -1 4194560 1 0 0 0 100 20 3 4 20 0 11 0 4242 1 1";
        assert_eq!(parse_stat(line), Some(Stat { parent: 5, ticks: 127 }));
        assert_eq!(parse_stat("77 (node) S 5"), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn memory_is_read_by_its_whole_name() {
        let status = "Name:\tnode\nVmHWMx:\t 1 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(field_kib(status, "VmHWM"), Some(2048.0));
        assert_eq!(field_kib(status, "VmSwap"), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let stat = |parent| Stat { parent, ticks: 1 };
        let stats =
            BTreeMap::from([(1, stat(0)), (10, stat(1)), (11, stat(10)), (12, stat(11)), (20, stat(1))]);
        let pids: Vec<u32> = tree(10, &stats).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [10, 11, 12]);
        assert!(tree(99, &stats).is_empty());
    }

    #[test]
    fn work_shows_in_the_reading() {
        let me = Processes::new(BTreeMap::from([("me".to_owned(), std::process::id())])).unwrap();
        let before = me.read().unwrap();
        let mut sum = 0_u64;
        let used = loop {
            sum = (0..1_000_000_u64).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
            let used = cpu_between(&before, &me.read().unwrap());
            if used["me"] > 0.0 {
                break used["me"];
            }
        };
        assert!(used < 60.0, "{used} {sum}");
        assert!(before["me"].rss_mib > 0.0 && before["me"].peak_mib > 0.0);
    }

    #[test]
    fn what_is_held_stands_still_until_it_is_let_go() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let processes =
            BTreeMap::from([("idle".to_owned(), child.id()), ("me".to_owned(), std::process::id())]);
        let processes = Processes::new(processes).unwrap();
        let state = || {
            let line = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            line.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        let becomes = |stopped: bool| while (state() == 'T') != stopped {};
        let held = processes.hold_all_but(&["me"]).unwrap();
        becomes(true);
        drop(held);
        becomes(false);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_ended_process_is_an_error_and_not_a_zero() {
        let mut child = Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        let error = Processes::new(BTreeMap::from([("origin".to_owned(), id)])).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("origin"), "{error}");
    }
}
