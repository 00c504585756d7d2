//! The result of a run: the JSON that is kept and the tables that are read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::audit::Ledger;
use crate::contest::Slice;
use crate::procs::Usage;
use crate::ratios::{Contests, Ratio, Sense};
use crate::reconcile::Reconciled;
use crate::verdict;

/// All that a run showed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub setup: Setup,
    /// The median of the rounds, by contest.
    pub contests: Contests,
    /// Each round as it was, by contest.
    pub rounds: BTreeMap<String, Vec<Slice>>,
    pub oversold: Vec<Oversold>,
    pub reconcile: Reconciled,
    /// What did not hold, a line each; empty when all did.
    pub broken: Vec<String>,
    /// By process, at the end of the run.
    pub memory: BTreeMap<String, Usage>,
    pub ratios: Vec<Ratio>,
}

/// How the run was made.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    pub seconds: u64,
    pub rounds: usize,
    pub connections: usize,
    pub bare_connections: u32,
    pub mysql_connections: u32,
    pub peer_processes: u32,
    pub mysql_version: String,
    pub sync_binlog: String,
    pub flush_log_at_trx_commit: String,
    pub cpus: usize,
}

/// Units sold and never there, of one contestant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Oversold {
    pub contestant: Ledger,
    /// Trials of the oversell test, and in how many of them too much was sold.
    pub trials: usize,
    pub trials_oversold: usize,
    pub units_in_trials: i64,
    /// Over all SKUs of the whole run, the trials included.
    pub units_in_all: i64,
    /// Units of the trials that nobody got.
    pub units_left: i64,
    /// Replies of the trials that said 503 busy, and those that no correct server gives, by what was said.
    pub busy: u64,
    pub failed: BTreeMap<String, u64>,
}

/// Left-aligned first column, right-aligned others, as wide as their widest cell.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ =
                if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// With so many digits; a dash for what was not measured.
#[must_use]
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

impl Report {
    /// What is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let setup = &self.setup;
        let mut text = format!(
            "\n{} rounds of {} s, {} connections, {} MySQL connections ({} of the bare loop), {} processes a peer; {} CPUs\n\
             MySQL {}, sync_binlog={}, innodb_flush_log_at_trx_commit={}\n\n",
            setup.rounds,
            setup.seconds,
            setup.connections,
            setup.mysql_connections,
            setup.bare_connections,
            setup.peer_processes,
            setup.cpus,
            setup.mysql_version,
            setup.sync_binlog,
            setup.flush_log_at_trx_commit,
        );
        text.push_str(&table(&self.speed_rows()));
        text.push('\n');
        text.push_str(&table(&self.memory_rows()));
        text.push('\n');
        text.push_str(&table(&self.oversold_rows()));
        let reconciled = if self.reconcile.is_clean { "clean" } else { "BROKEN" };
        text.push_str(&format!("\nfarmgate-origin reconcile: {reconciled}\n\n"));
        text.push_str(&table(&ratio_rows(&self.ratios)));
        text.push('\n');
        text.push_str(&verdict::text(&self.broken));
        text
    }

    fn speed_rows(&self) -> Vec<Vec<String>> {
        let processes: std::collections::BTreeSet<&String> =
            self.contests.values().flat_map(|slice| slice.cpu_us.keys()).collect();
        let mut head: Vec<String> =
            ["µs of CPU an order →", "per s", "p50 ms", "p99 ms", "fsyncs", "busy", "failed"]
                .map(str::to_owned)
                .into();
        head.extend(processes.iter().map(|name| (*name).clone()));
        let mut rows = vec![head];
        for (name, slice) in &self.contests {
            let mut row = vec![
                name.clone(),
                format!("{:.1}", slice.per_second),
                number(slice.p50_ms, 2),
                number(slice.p99_ms, 2),
                number(slice.fsyncs, 3),
                slice.busy.to_string(),
                slice.failed.values().sum::<u64>().to_string(),
            ];
            row.extend(processes.iter().map(|process| number(slice.cpu_us.get(*process).copied(), 0)));
            rows.push(row);
        }
        rows
    }

    fn memory_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["memory", "now MiB", "peak MiB"].map(str::to_owned).to_vec()];
        for (name, usage) in &self.memory {
            rows.push(vec![name.clone(), format!("{:.1}", usage.rss_mib), format!("{:.1}", usage.peak_mib)]);
        }
        rows
    }

    fn oversold_rows(&self) -> Vec<Vec<String>> {
        let head =
            ["oversold", "trials", "with oversell", "units", "units in the whole run", "left", "failed"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for line in &self.oversold {
            rows.push(vec![
                line.contestant.name().to_owned(),
                line.trials.to_string(),
                line.trials_oversold.to_string(),
                line.units_in_trials.to_string(),
                line.units_in_all.to_string(),
                line.units_left.to_string(),
                line.failed.values().sum::<u64>().to_string(),
            ]);
        }
        rows
    }
}

/// A ratio a line, with its goal and whether it is met.
#[must_use]
pub fn ratio_rows(ratios: &[Ratio]) -> Vec<Vec<String>> {
    let mut rows = vec![["ratio", "value", "goal", ""].map(str::to_owned).to_vec()];
    for ratio in ratios {
        let sign = if ratio.sense == Sense::AtLeast { "≥" } else { "≤" };
        let met = match ratio.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None if ratio.goal.is_some() => "not measured",
            None => "",
        };
        rows.push(vec![
            ratio.what.to_owned(),
            number(ratio.value, 3),
            ratio.goal.map_or_else(|| "-".to_owned(), |goal| format!("{sign} {goal}")),
            met.to_owned(),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ab", "1", "x"], ["µ", "100", "yy"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "ab    1   x\nµ   100  yy\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_never_a_zero() {
        assert_eq!(number(None, 2), "-");
        assert_eq!(number(Some(1.005), 1), "1.0");
    }

    #[test]
    fn a_missed_goal_is_called_missed() {
        let ratio = Ratio { what: "x", value: Some(1.0), sense: Sense::AtLeast, goal: Some(2.0) };
        let report = Report {
            setup: Setup {
                seconds: 1,
                rounds: 1,
                connections: 1,
                bare_connections: 1,
                mysql_connections: 1,
                peer_processes: 1,
                mysql_version: "9".to_owned(),
                sync_binlog: "1".to_owned(),
                flush_log_at_trx_commit: "1".to_owned(),
                cpus: 2,
            },
            contests: Contests::from([("hot origin".to_owned(), Slice::default())]),
            rounds: BTreeMap::new(),
            oversold: Vec::new(),
            reconcile: Reconciled { is_clean: false, report: "I1 BROKEN\n".to_owned() },
            broken: vec!["the audit is not clean".to_owned()],
            memory: BTreeMap::new(),
            ratios: vec![ratio],
        };
        let text = report.text();
        assert!(text.contains("≥ 2  missed"), "{text}");
        assert!(text.contains("reconcile: BROKEN\n"), "{text}");
        assert!(text.ends_with("\nBROKEN: the audit is not clean\n"), "{text}");
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"goal\":2.0") && json.contains("\"broken\":[\"the audit"), "{json}");
    }
}
