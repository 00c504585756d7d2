//! A child process of a test: its output goes to files, it is killed when the test ends, and the tail of what it said
//! is shown when the test failed. One that panicked fails a test that would have passed.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::until::{LONG, eventually};

const SIGKILL: i32 = 9;

/// Lines of a log that are shown.
const TAIL: usize = 60;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in `folder`. Nothing of this process's environment is handed on but `PATH`
    /// and `HOME`, so that a setting of the developer's own cannot leak into a test.
    pub fn start(name: &str, command: &mut Command, folder: &Path, settings: &[(String, String)]) -> Process {
        let out = folder.join(format!("{name}.out"));
        let err = folder.join(format!("{name}.err"));
        let open = |path: &Path| File::options().append(true).create(true).open(path).unwrap();
        clean_environment(command, settings);
        let child = command
            .stdin(Stdio::null())
            .stdout(open(&out))
            .stderr(open(&err))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Process { name: name.to_owned(), child, out, err }
    }

    /// The first thing that `read` finds in what the program printed.
    pub async fn printed<T>(&mut self, what: &str, read: impl Fn(&str) -> Option<T>) -> T {
        eventually(LONG, what, async || {
            let found = fs::read_to_string(&self.out).ok().and_then(|text| read(&text));
            if found.is_none() {
                self.assert_running();
            }
            found
        })
        .await
    }

    /// The address in its line `listening on …`, as a URL.
    pub async fn listening(&mut self) -> String {
        let address = |text: &str| {
            let (line, _) = text.split_once('\n')?;
            Some(format!("http://{}", line.strip_prefix("listening on ")?))
        };
        let what = format!("{} prints `listening on …`", self.name);
        self.printed(&what, address).await
    }

    fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} ended at once with {status}", self.name);
        }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        // Both fail only when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for an end by SIGKILL that it did to itself at a named point.
    pub async fn died_at(&mut self, point: &str) {
        let what = format!("{} dies at {point}", self.name);
        let status = eventually(LONG, &what, async || self.child.try_wait().ok().flatten()).await;
        assert_eq!(status.signal(), Some(SIGKILL), "{what}: {status}");
    }

    /// All that it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Sends SIGTERM, as an orderly stop does, and waits for the end.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        self.tell_to_stop();
        self.ended().await
    }

    /// Sends SIGTERM.
    pub fn tell_to_stop(&mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("`kill` is there");
        assert!(sent.success(), "{} had already ended", self.name);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(LONG, &what, async || self.child.try_wait().ok().flatten()).await
    }

    /// Waits until it has logged this so many times, or more often.
    pub async fn logs(&mut self, what: &str, times: usize) {
        let waited_for = format!("{} logs {what:?} {times} times", self.name);
        eventually(LONG, &waited_for, async || (self.log().matches(what).count() >= times).then_some(()))
            .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for (stream, path) in [("stdout", &self.out), ("stderr", &self.err)] {
                let text = fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(TAIL)..];
                eprintln!("--- {} {stream}, last {} lines\n{}", self.name, tail.len(), tail.join("\n"));
            }
        } else {
            let log = self.log();
            let panic = log.lines().find(|line| line.contains("panicked at"));
            assert!(panic.is_none(), "{} panicked: {}", self.name, panic.unwrap_or_default());
        }
    }
}

/// Runs a program to its end and fails the test when it fails.
pub async fn run(name: &str, command: &mut Command, settings: &[(String, String)]) -> String {
    let (is_success, said) = try_run(command, settings).await;
    assert!(is_success, "{name} failed:\n{said}");
    said
}

/// Runs a program to its end: whether it succeeded, and what it printed, its complaints last.
pub async fn try_run(command: &mut Command, settings: &[(String, String)]) -> (bool, String) {
    clean_environment(command, settings);
    let output = tokio::process::Command::from(std::mem::replace(command, Command::new("true")))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

fn clean_environment(command: &mut Command, settings: &[(String, String)]) {
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(settings.iter().map(|(name, value)| (name, value)));
}
