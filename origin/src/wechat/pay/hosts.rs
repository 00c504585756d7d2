//! WeChat Pay's two hosts. Promises a call that a host which failed a moment ago is not tried first, so that one which is dead
//! costs a time-out now and then and not each time.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a failure the first host is left alone this long; then one call tries it.
const REST: Duration = Duration::from_secs(30);

/// Which host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    First,
    Backup,
}

/// The first host, the backup if there is one, and what is remembered of them.
pub(super) struct Hosts {
    first: String,
    backup: Option<String>,
    /// Until then the backup is asked.
    first_rests_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.first, self.backup.as_deref().unwrap_or("no backup"))
    }
}

impl Hosts {
    /// An empty `backup` is none.
    pub(super) fn new(first: &str, backup: &str) -> Hosts {
        let base = |url: &str| url.trim_end_matches('/').to_owned();
        Hosts {
            first: base(first),
            backup: (!backup.is_empty()).then(|| base(backup)),
            first_rests_until: Mutex::default(),
        }
    }

    pub(super) fn base_url(&self, host: Host) -> &str {
        match (host, &self.backup) {
            (Host::Backup, Some(backup)) => backup,
            _ => &self.first,
        }
    }

    /// Whom to ask at `now`.
    pub(super) fn choose(&self, now: Instant) -> Host {
        if self.backup.is_none() {
            return Host::First;
        }
        let mut rests_until = self.memory();
        match *rests_until {
            None => Host::First,
            Some(until) if now < until => Host::Backup,
            Some(_) => {
                // This call finds out; the others stay with the backup meanwhile.
                *rests_until = Some(now + REST);
                Host::First
            }
        }
    }

    /// The host could not be reached, or something in front of it answered in its place. Whether there is another to ask.
    pub(super) fn failed(&self, host: Host, now: Instant) -> bool {
        if self.backup.is_none() {
            return false;
        }
        let mut rests_until = self.memory();
        match host {
            Host::First => {
                if rests_until.is_none() {
                    tracing::warn!(host = self.first, "WeChat Pay's first host fails, the backup is asked");
                }
                *rests_until = Some(now + REST);
            }
            Host::Backup => *rests_until = None,
        }
        true
    }

    /// The host answered.
    pub(super) fn answered(&self, host: Host) {
        if host == Host::First && self.backup.is_some() && self.memory().take().is_some() {
            tracing::info!(host = self.first, "WeChat Pay's first host answers again");
        }
    }

    fn memory(&self) -> MutexGuard<'_, Option<Instant>> {
        self.first_rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_host_that_failed_rests_and_is_then_tried_by_one_call() {
        let hosts = Hosts::new("https://first/", "https://backup/");
        let now = Instant::now();
        assert_eq!(hosts.choose(now), Host::First);
        assert!(hosts.failed(Host::First, now));
        for seconds in [0, 1, 29] {
            assert_eq!(hosts.choose(now + Duration::from_secs(seconds)), Host::Backup);
        }
        let later = now + REST;
        assert_eq!(hosts.choose(later), Host::First, "one finds out");
        assert_eq!(hosts.choose(later), Host::Backup, "the others do not wait for it");
        hosts.answered(Host::First);
        assert_eq!(hosts.choose(later), Host::First);
        assert_eq!(
            (hosts.base_url(Host::First), hosts.base_url(Host::Backup)),
            ("https://first", "https://backup")
        );
    }

    #[test]
    fn where_both_fail_they_take_turns() {
        let hosts = Hosts::new("a", "b");
        let now = Instant::now();
        hosts.failed(Host::First, now);
        hosts.answered(Host::Backup);
        assert_eq!(hosts.choose(now), Host::Backup, "the backup's answer says nothing of the first");
        hosts.failed(Host::Backup, now);
        assert_eq!(hosts.choose(now), Host::First);
    }

    #[test]
    fn without_a_backup_there_is_nothing_to_remember() {
        let hosts = Hosts::new("a", "");
        let now = Instant::now();
        assert!(!hosts.failed(Host::First, now));
        assert_eq!(hosts.choose(now), Host::First);
        assert_eq!(hosts.base_url(Host::Backup), "a");
    }
}
