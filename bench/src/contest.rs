//! One slice of the run: one contestant, one kind of load, a few seconds. What it used is what all processes used between
//! the moment before its first request and the moment after its last answer, while nobody else is asked anything
//! or does anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::batch::Sku;
use crate::procs::{Processes, Usage, cpu_between};
use crate::stats::{milliseconds, percentile};
use crate::target::{Goods, Target};
use crate::{bare, commit, fsyncs, load, stats};

/// Who is asked for what.
#[derive(Debug, Clone)]
pub struct Contest {
    /// `<load> <contestant>`, as it stands in the report.
    pub name: &'static str,
    /// The processes that it is about, beside [`SHARED`]; all others stand still meanwhile.
    pub runs: &'static [&'static str],
    pub work: Work,
}

/// What every contestant needs.
const SHARED: [&str; 3] = ["bench", "mysql", "redis"];

/// What a slice does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Orders that are expected to succeed.
    Orders { target: Arc<Target>, goods: Goods, connections: usize },
    /// Orders that are expected to be refused as sold out.
    Refusals { target: Arc<Target>, goods: Goods, connections: usize },
    /// The bare loop of SQL in this database.
    Bare { url: String, sku: Sku, connections: u32 },
    /// The latency of a commit in this database.
    Commit { url: String },
}

/// What one slice showed. Per order means: per order made, or per refusal where refusals are what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Slice {
    pub per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// By process, microseconds an order.
    pub cpu_us: BTreeMap<String, f64>,
    pub fsyncs: Option<f64>,
    /// Of what was counted.
    pub counted: u64,
    pub busy: u64,
    /// Replies that no correct server gives, by what was said; answers of another kind than asked for are among them.
    pub failed: BTreeMap<String, u64>,
    /// Resident at the end, by process, in MiB.
    pub rss_mib: BTreeMap<String, f64>,
}

/// The outcome of the work alone.
#[derive(Debug, Default)]
struct Done {
    counted: u64,
    in_time: u64,
    latencies_us: Vec<u32>,
    busy: u64,
    failed: BTreeMap<String, u64>,
}

impl Contest {
    /// Whether it is one thing after the other, over one connection.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        matches!(self.work, Work::Orders { connections: 1, .. } | Work::Commit { .. })
    }

    /// Runs one slice.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn slice(&self, time: Duration, mysql_url: &str, processes: &Processes) -> Result<Slice> {
        let held = processes.hold_all_but(&[&SHARED, self.runs].concat())?;
        let syncs_before = fsyncs::read(mysql_url).await?;
        let before = processes.read()?;
        let done = self.work.run(time).await?;
        let after = processes.read()?;
        let syncs = fsyncs::read(mysql_url).await?.since(syncs_before);
        drop(held);
        Ok(slice_of(done, time, &before, &after, syncs))
    }
}

fn slice_of(
    done: Done,
    time: Duration,
    before: &BTreeMap<String, Usage>,
    after: &BTreeMap<String, Usage>,
    syncs: i64,
) -> Slice {
    let per_order = |whole: f64| (done.counted > 0).then(|| whole / done.counted as f64);
    let cpu = cpu_between(before, after).into_iter();
    Slice {
        per_second: done.in_time as f64 / time.as_secs_f64(),
        p50_ms: percentile(&done.latencies_us, 50).map(milliseconds),
        p99_ms: percentile(&done.latencies_us, 99).map(milliseconds),
        cpu_us: cpu.filter_map(|(name, seconds)| Some((name, per_order(seconds * 1e6)?))).collect(),
        fsyncs: per_order(syncs as f64),
        counted: done.counted,
        busy: done.busy,
        failed: done.failed,
        rss_mib: after.iter().map(|(name, usage)| (name.clone(), usage.rss_mib)).collect(),
    }
}

impl Work {
    async fn run(&self, time: Duration) -> Result<Done> {
        Ok(match self {
            Work::Orders { target, goods, connections } => {
                let mut tally = run_load(target, goods, *connections, time).await?;
                if tally.out_of_stock > 0 {
                    tally.failed.insert("409 out_of_stock".to_owned(), tally.out_of_stock);
                }
                Done {
                    counted: tally.accepted,
                    in_time: tally.accepted_in_time,
                    latencies_us: tally.accepted_us,
                    busy: tally.busy,
                    failed: tally.failed,
                }
            }
            Work::Refusals { target, goods, connections } => {
                let mut tally = run_load(target, goods, *connections, time).await?;
                if tally.accepted > 0 {
                    tally.failed.insert("200 for what is sold out".to_owned(), tally.accepted);
                }
                Done {
                    counted: tally.out_of_stock,
                    in_time: tally.out_of_stock_in_time,
                    latencies_us: tally.out_of_stock_us,
                    busy: tally.busy,
                    failed: tally.failed,
                }
            }
            Work::Bare { url, sku, connections } => {
                let written = bare::run(url, *sku, *connections, time).await?;
                Done {
                    counted: written.orders,
                    in_time: written.orders_in_time,
                    latencies_us: written.batch_us,
                    ..Done::default()
                }
            }
            Work::Commit { url } => {
                let took = commit::measure(url, time).await?;
                let counted = u64::try_from(took.len())?;
                Done { counted, in_time: counted, latencies_us: took, ..Done::default() }
            }
        })
    }
}

async fn run_load(
    target: &Arc<Target>,
    goods: &Goods,
    connections: usize,
    time: Duration,
) -> Result<load::Tally> {
    load::Load { target: target.clone(), goods: goods.clone(), connections, time }.run().await
}

/// Every contestant's slice in turn, round after round, each round beginning with another one. Progress goes to stderr.
///
/// # Errors
/// The first slice that failed, with its contestant's name.
pub async fn in_turns<C>(
    contests: &[C],
    rounds: usize,
    name: impl Fn(&C) -> &str,
    slice: impl AsyncFn(&C) -> Result<Slice>,
) -> Result<BTreeMap<String, Vec<Slice>>> {
    let mut slices: BTreeMap<String, Vec<Slice>> = BTreeMap::new();
    for round in 0..rounds {
        let mut turns: Vec<&C> = contests.iter().collect();
        turns.rotate_left(round % contests.len().max(1));
        for contest in turns {
            let name = name(contest);
            let slice = slice(contest).await.with_context(|| name.to_owned())?;
            eprintln!(
                "round {}: {name:<20} {:>9.1}/s  p50 {:>8.3} ms  p99 {:>8.3} ms{}",
                round + 1,
                slice.per_second,
                slice.p50_ms.unwrap_or(f64::NAN),
                slice.p99_ms.unwrap_or(f64::NAN),
                if slice.failed.is_empty() { String::new() } else { format!("  {:?}", slice.failed) },
            );
            slices.entry(name.to_owned()).or_default().push(slice);
        }
    }
    Ok(slices)
}

/// All slices of one contest as one: the median of each number, the sum of what was counted.
#[must_use]
pub fn medians(slices: &[Slice]) -> Slice {
    let middle = |read: &dyn Fn(&Slice) -> Option<f64>| {
        stats::median(&slices.iter().filter_map(read).collect::<Vec<f64>>())
    };
    let by_process = |read: &dyn Fn(&Slice) -> &BTreeMap<String, f64>| {
        let names = slices.iter().flat_map(|slice| read(slice).keys().cloned());
        let names: std::collections::BTreeSet<String> = names.collect();
        let median_of = |name: &String| middle(&|slice| read(slice).get(name).copied());
        names.into_iter().filter_map(|name| median_of(&name).map(|median| (name, median))).collect()
    };
    let mut failed = BTreeMap::new();
    for (said, times) in slices.iter().flat_map(|slice| &slice.failed) {
        *failed.entry(said.clone()).or_default() += times;
    }
    Slice {
        per_second: middle(&|slice| Some(slice.per_second)).unwrap_or(0.0),
        p50_ms: middle(&|slice| slice.p50_ms),
        p99_ms: middle(&|slice| slice.p99_ms),
        cpu_us: by_process(&|slice| &slice.cpu_us),
        fsyncs: middle(&|slice| slice.fsyncs),
        counted: slices.iter().map(|slice| slice.counted).sum(),
        busy: slices.iter().map(|slice| slice.busy).sum(),
        failed,
        rss_mib: by_process(&|slice| &slice.rss_mib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_seconds: f64) -> BTreeMap<String, Usage> {
        BTreeMap::from([("mysql".to_owned(), Usage { cpu_seconds, ..Usage::default() })])
    }

    fn done(counted: u64) -> Done {
        Done { counted, in_time: counted, latencies_us: vec![1000, 2000, 9000], ..Done::default() }
    }

    #[test]
    fn what_was_used_is_shared_out_among_the_orders() {
        let slice = slice_of(done(1000), Duration::from_secs(2), &usage(1.0), &usage(1.5), 500);
        assert_eq!((slice.per_second, slice.fsyncs), (500.0, Some(0.5)));
        assert_eq!((slice.p50_ms, slice.p99_ms), (Some(2.0), Some(9.0)));
        assert!((slice.cpu_us["mysql"] - 500.0).abs() < 1e-6);
    }

    #[test]
    fn a_slice_without_orders_has_no_cost_an_order() {
        let slice = slice_of(Done::default(), Duration::from_secs(2), &usage(1.0), &usage(1.5), 500);
        assert!(slice.cpu_us.is_empty() && slice.fsyncs.is_none() && slice.p99_ms.is_none());
    }

    #[test]
    fn the_median_of_slices_is_taken_number_by_number() {
        let slices = [(100, 1.1), (300, 1.3), (200, 1.2)].map(|(counted, end)| {
            slice_of(done(counted), Duration::from_secs(1), &usage(1.0), &usage(end), 10)
        });
        let whole = medians(&slices);
        assert_eq!((whole.per_second, whole.counted), (200.0, 600));
        assert!((whole.cpu_us["mysql"] - 1000.0).abs() < 1e-6, "{whole:?}");
        assert_eq!(medians(&[]).counted, 0);
    }
}
