//! Who a process is. A pid alone may belong to a stranger by now; a pid together with the moment
//! the process started and the machine's boot cannot. Nothing is ever signalled by pid alone.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Opaque: compared, never computed with.
    started: String,
}

impl Identity {
    /// None when there is no such process (a zombie counts as gone).
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_of(pid)? })
    }

    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// To this process alone; does nothing if it is gone or the pid is a stranger's.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// To this process and all of its group, which it leads.
    pub fn signal_group(&self, signal: Signal) {
        if self.is_alive() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }
}

fn start_of(pid: i32) -> Option<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some(format!("{}/{}", boot.trim(), start_in_stat(&stat)?))
        }
        // Systems without /proc: to the second, which is as good as `ps` knows.
        Err(_) => {
            let pid = pid.to_string();
            let ps = Command::new("ps").args(["-o", "lstart=", "-p", &pid]).stdin(Stdio::null()).output();
            let started = String::from_utf8(ps.ok()?.stdout).ok()?.trim().to_owned();
            (!started.is_empty()).then_some(started)
        }
    }
}

/// Field 22 of /proc/pid/stat. The command name before it is in parentheses and may hold spaces
/// and parentheses itself, so counting starts after the last one.
fn start_in_stat(stat: &str) -> Option<&str> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)
}

/// Processes that carry `NAME=value` in their environment, which children inherit: what is left of
/// a group whose leader died. Ours alone, as others' environments cannot be read.
pub fn carrying(name: &str, value: &str) -> Vec<Identity> {
    let wanted = format!("{name}={value}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes())
    };
    pids.filter(carries).filter_map(Identity::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(start_in_stat(stat), Some("4242"));
        assert_eq!(start_in_stat(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn a_reused_pid_is_a_stranger() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        let stale = Identity { started: "some other time".to_owned(), ..me };
        assert!(!stale.is_alive());
        // Would end this test run if the check were missing.
        stale.signal(Signal::SIGKILL);
        stale.signal_group(Signal::SIGKILL);
    }

    #[test]
    fn children_are_found_by_the_mark_they_inherit() {
        let mark = format!("test-{}", std::process::id());
        // The kernel shows an environment a little after a program has started: one that speaks has
        // its own by then.
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line"]).env("FARMGATE_TEST_MARK", &mark);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let found = carrying("FARMGATE_TEST_MARK", &mark);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(!found[0].is_alive());
    }
}
