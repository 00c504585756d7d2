//! The result of a run of reads: the JSON that is kept and the tables that are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::contest::{Slice, medians};
use crate::procs::Usage;
use crate::ratios::{Contests, Ratio};
use crate::report::{number, ratio_rows, table};

/// All that a run showed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How the run was made, by name.
    pub setup: BTreeMap<&'static str, String>,
    /// The median of the rounds, by contest.
    pub contests: Contests,
    pub rounds: BTreeMap<String, Vec<Slice>>,
    /// By process, at the end of the run.
    pub memory: BTreeMap<String, Usage>,
    pub ratios: Vec<Ratio>,
}

impl Report {
    #[must_use]
    pub fn new(
        setup: BTreeMap<&'static str, String>,
        rounds: BTreeMap<String, Vec<Slice>>,
        memory: BTreeMap<String, Usage>,
        ratios: impl Fn(&Contests) -> Vec<Ratio>,
    ) -> Report {
        let contests: Contests =
            rounds.iter().map(|(name, slices)| (name.clone(), medians(slices))).collect();
        Report { setup, ratios: ratios(&contests), contests, rounds, memory }
    }

    /// What is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in &self.setup {
            text.push_str(&format!("{name}: {value}\n"));
        }
        for rows in [self.speed_rows(), self.memory_rows(), ratio_rows(&self.ratios)] {
            text.push('\n');
            text.push_str(&table(&rows));
        }
        text
    }

    fn speed_rows(&self) -> Vec<Vec<String>> {
        let processes: BTreeSet<&String> =
            self.contests.values().flat_map(|slice| slice.cpu_us.keys()).collect();
        let mut head: Vec<String> =
            ["µs of CPU a request →", "per s", "p50 ms", "p99 ms", "failed"].map(str::to_owned).into();
        head.extend(processes.iter().map(|name| (*name).clone()));
        let mut rows = vec![head];
        for (name, slice) in &self.contests {
            let mut row = vec![
                name.clone(),
                format!("{:.0}", slice.per_second),
                number(slice.p50_ms, 3),
                number(slice.p99_ms, 3),
                slice.failed.values().sum::<u64>().to_string(),
            ];
            row.extend(processes.iter().map(|process| number(slice.cpu_us.get(*process).copied(), 1)));
            rows.push(row);
        }
        rows
    }

    fn memory_rows(&self) -> Vec<Vec<String>> {
        memory_rows(&self.memory)
    }
}

/// A process a line.
#[must_use]
pub fn memory_rows(memory: &BTreeMap<String, Usage>) -> Vec<Vec<String>> {
    let mut rows = vec![["memory", "now MiB", "peak MiB"].map(str::to_owned).to_vec()];
    for (name, usage) in memory {
        rows.push(vec![name.clone(), format!("{:.1}", usage.rss_mib), format!("{:.1}", usage.peak_mib)]);
    }
    rows
}

/// Of one process in one contest, microseconds a request.
#[must_use]
pub fn cpu(contests: &Contests, contest: &str, process: &str) -> Option<f64> {
    contests.get(contest)?.cpu_us.get(process).copied().filter(|us| *us > 0.0)
}

/// One speed against another; `None` when one was not measured or did nothing.
#[must_use]
pub fn faster(contests: &Contests, one: &str, other: &str) -> Option<f64> {
    let speed = |name: &str| contests.get(name).map(|slice| slice.per_second).filter(|speed| *speed > 0.0);
    Some(speed(one)? / speed(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_nothing_is_compared_with_nobody() {
        let slice = |per_second, us| Slice {
            per_second,
            cpu_us: BTreeMap::from([("p".to_owned(), us)]),
            ..Slice::default()
        };
        let contests = Contests::from([
            ("a".to_owned(), slice(200.0, 5.0)),
            ("b".to_owned(), slice(100.0, 0.0)),
            ("c".to_owned(), slice(0.0, 1.0)),
        ]);
        assert_eq!(faster(&contests, "a", "b"), Some(2.0));
        assert_eq!(faster(&contests, "a", "c"), None);
        assert_eq!(cpu(&contests, "a", "p"), Some(5.0));
        assert_eq!((cpu(&contests, "b", "p"), cpu(&contests, "a", "q")), (None, None));
    }
}
