//! Child processes: tools that run to their end, and servers that run beside us. Each gets its own
//! process group, so that Ctrl-C reaches only xtask, which then stops them in order; and its own log
//! file, whose tail is shown when it dies. A server that is dropped is stopped.

use crate::identity::Identity;
use crate::progress::Step;
use crate::stop::Stop;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Marks every server of one run, and what they start, in their environment.
pub const MARK: &str = "XTASK_RUN";

const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;
const TOOL_GRACE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(50);

/// Runs a tool to its end with its output in `log`, which is begun anew.
pub fn run(command: Command, log: &Path, step: &Step, stop: &Stop, limit: Duration) -> Result<()> {
    run_with_input(command, Stdio::null(), log, step, stop, limit)
}

pub fn run_with_input(
    mut command: Command,
    input: Stdio,
    log: &Path,
    step: &Step,
    stop: &Stop,
    limit: Duration,
) -> Result<()> {
    stop.check()?;
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(input).stderr(out.try_clone()?).stdout(out);
    let name = name_of(&command);
    let mut process = Process::spawn(command, &name, log, TOOL_GRACE)?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = process.exited()? {
            if status.success() {
                return Ok(());
            }
            bail!("{name} failed ({status})\n{}", tail(log));
        }
        stop.check()?;
        if Instant::now() >= end {
            bail!("{name} did not end within {} minutes\n{}", limit.as_secs() / 60, tail(log));
        }
        if let Some(line) = tail_of(log, 1).first() {
            step.detail(line);
        }
        stop.pause(TICK);
    }
}

/// Runs a tool whose output is for the user's eyes: straight to our own stdout and stderr.
pub fn run_visibly(mut command: Command, stop: &Stop, limit: Duration) -> Result<ExitStatus> {
    stop.check()?;
    command.stdin(Stdio::null());
    let name = name_of(&command);
    let mut process = Process::spawn(command, &name, Path::new(""), TOOL_GRACE)?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = process.exited()? {
            return Ok(status);
        }
        stop.check()?;
        if Instant::now() >= end {
            bail!("{name} did not end within {} minutes", limit.as_secs() / 60);
        }
        stop.pause(TICK);
    }
}

/// The first line that a tool prints, if it can be run at all.
pub fn first_line(mut command: Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A child with its own process group.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    pub log: PathBuf,
    child: Child,
    group: Pid,
    identity: Option<Identity>,
    /// How long it may take to stop when asked, before its group is killed.
    grace: Duration,
    reaped: Option<ExitStatus>,
}

impl Process {
    /// A server: its output is appended to `log`, which is begun anew.
    pub fn serve(mut command: Command, name: &str, log: &Path, mark: &str, grace: Duration) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out).env(MARK, mark);
        Self::spawn(command, name, log, grace)
    }

    fn spawn(mut command: Command, name: &str, log: &Path, grace: Duration) -> Result<Self> {
        command.process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let pid = i32::try_from(child.id())?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            group: Pid::from_raw(pid),
            identity: Identity::of(pid),
            grace,
            reaped: None,
        })
    }

    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Its status once it has ended. What it left of its group is killed then: the ended leader is
    /// looked at without being reaped first, so that nobody else can have its group's number.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.reaped.is_none() && self.has_ended()? {
            let _ = killpg(self.group, Signal::SIGKILL);
            self.reaped = Some(self.child.wait()?);
        }
        Ok(self.reaped)
    }

    fn has_ended(&self) -> Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::Pid(self.group), flags)? != WaitStatus::StillAlive)
    }

    /// An error with the tail of its log if it is no longer there.
    pub fn check(&mut self) -> Result<()> {
        match self.exited()? {
            Some(status) => bail!("{} died ({status})\n{}", self.name, tail(&self.log)),
            None => Ok(()),
        }
    }

    /// Waits until `ready` holds. Fails at once if the process dies or a stop is asked for.
    pub fn wait_ready(
        &mut self,
        stop: &Stop,
        limit: Duration,
        mut ready: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut last = None;
        let is_ready = stop.wait_until(limit, || {
            self.check()?;
            last = ready().err();
            Ok(last.is_none())
        })?;
        if is_ready {
            return Ok(());
        }
        let why = last.map(|e| format!(" ({e:#})")).unwrap_or_default();
        bail!("{} is not ready after {} s{why}\n{}", self.name, limit.as_secs(), tail(&self.log))
    }

    /// SIGTERM, a bounded wait, then SIGKILL to what is left of its group. A second Ctrl-C ends the wait.
    pub fn stop(&mut self, stop: &Stop) {
        let end = Instant::now() + self.grace;
        if self.reaped.is_none() {
            let _ = killpg(self.group, Signal::SIGTERM);
        }
        loop {
            match self.exited() {
                Ok(None) if Instant::now() < end && !stop.impatient() => std::thread::sleep(TICK),
                Ok(None) => break,
                _ => return,
            }
        }
        self.kill();
    }

    fn kill(&mut self) {
        if self.reaped.is_none() {
            let _ = killpg(self.group, Signal::SIGKILL);
            self.reaped = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    if let Some(first) = command.get_args().next().filter(|a| a.len() < 20) {
        name = format!("{name} {}", first.to_string_lossy());
    }
    name
}

/// The last lines of a log, and where the rest is.
pub fn tail(log: &Path) -> String {
    let lines = tail_of(log, TAIL_LINES);
    if lines.is_empty() {
        return format!("  (it wrote nothing to {})", log.display());
    }
    let body: String = lines.iter().map(|line| format!("  | {line}\n")).collect();
    format!("{body}  whole log: {}", log.display())
}

fn tail_of(log: &Path, count: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| printable(line)).collect()
}

/// Colours and carriage returns of a log have no place in a message.
fn printable(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out_of_a_log_line() {
        assert_eq!(printable("\u{1b}[1;31merror\u{1b}[0m: x\r"), "error: x");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let log = std::env::temp_dir().join(format!("farmgate-xtask-tail-{}", std::process::id()));
        let text: String = (0..3000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, text).unwrap();
        let lines = tail_of(&log, 2);
        std::fs::remove_file(&log).unwrap();
        assert_eq!(lines, ["line 2998", "line 2999"]);
        assert!(tail_of(&log, 2).is_empty());
    }

    #[test]
    fn a_dead_server_is_reported_with_its_log() {
        let log = std::env::temp_dir().join(format!("farmgate-xtask-dead-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such table >&2; exit 3"]);
        let mut process = Process::serve(command, "origin", &log, "test", TOOL_GRACE).unwrap();
        let error = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
        };
        std::fs::remove_file(&log).unwrap();
        assert!(error.starts_with("origin died (exit status: 3)\n  | no such table\n"), "{error}");
    }

    #[test]
    fn a_server_that_ignores_sigterm_is_killed_with_its_group() {
        let log = std::env::temp_dir().join(format!("farmgate-xtask-deaf-{}", std::process::id()));
        let mark = format!("deaf-{}", std::process::id());
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 60 & echo up; while :; do sleep 60; done"]);
        let mut process = Process::serve(command, "deaf", &log, &mark, Duration::from_millis(100)).unwrap();
        while tail_of(&log, 1).is_empty() {
            std::thread::yield_now();
        }
        process.stop(&Stop::listen().unwrap());
        std::fs::remove_file(&log).unwrap();
        let gone = || crate::identity::carrying(MARK, &mark).is_empty();
        assert!((0..200).any(|_| gone() || {
            std::thread::sleep(TICK);
            false
        }));
    }
}
